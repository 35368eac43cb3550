"""Finding, following and masking what must not be shown."""
