"""Live sources in a recorder's own process: packets as they arrive, and originals written from them."""
