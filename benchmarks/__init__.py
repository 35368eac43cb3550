"""Measurements and torture: `make bench-NAME`, `make torture-NAME`."""
