"""Bytes (objects) and rows (db), and how tables change (migrations)."""
