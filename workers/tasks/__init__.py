"""What each kind of job does, one file a queue."""
