"""What an item, a case, a digest, a custody leaf are: plain Python without I/O."""
