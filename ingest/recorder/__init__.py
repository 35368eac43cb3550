"""Room recorders: one process per stream that outlives the daemon, and the daemon that watches over them."""
