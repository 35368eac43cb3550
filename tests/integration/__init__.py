"""Tests with real databases, Redis and FFmpeg."""
