"""The ingest daemon: HTTP, folder watching, sealing of finished uploads."""
