"""From the dock to the redacted clip."""
