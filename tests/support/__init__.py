"""Footage, servers and clocks for the tests."""
