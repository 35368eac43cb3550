"""The HTTP API and the media listener."""
