"""The tus 1.0 protocol and the store of open uploads."""
