"""Tests of the API's own rules."""
