"""The object store: write-once bytes under a digest."""
