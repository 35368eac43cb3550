"""Alembic migrations of the tables in storage.db."""
