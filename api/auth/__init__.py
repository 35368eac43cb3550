"""Sessions, and who is asking."""
