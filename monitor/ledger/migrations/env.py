"""Run by Alembic: applies the migrations on the connection that :mod:`monitor.ledger.schema` hands over."""

from __future__ import annotations

from alembic import context

from monitor.ledger.tables import Row

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=Row.metadata,
    transactional_ddl=True,
    render_as_batch=True,
)
with context.begin_transaction():
    context.run_migrations()
