"""Live sources in the recorder's own process: packets with their arrival, and originals written as they come."""
