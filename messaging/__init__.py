"""Putting work on the queue by name, and live events."""
