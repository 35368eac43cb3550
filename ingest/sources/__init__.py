"""Where footage is fetched from: one module a kind of source."""
