"""Alembic's entry: runs migrations on the connection `storage.db.migrate` hands over."""

from __future__ import annotations

from alembic import context

from storage.db.tables import Base

connection = context.config.attributes["connection"]
context.configure(connection=connection, target_metadata=Base.metadata, render_as_batch=False)
with context.begin_transaction():
    context.run_migrations()
