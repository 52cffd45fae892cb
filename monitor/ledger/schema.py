"""The ledger's tables as Alembic migrations, from the first schema on."""

from __future__ import annotations

from pathlib import Path

from sqlalchemy import Connection, inspect, text

HEAD = "0005"
"""Revision that this Alignwatch works with: the newest file in ``migrations/versions``."""

_FIRST = "0001"
_MIGRATIONS = Path(__file__).parent / "migrations"


def revision(connection: Connection) -> str | None:
    """Return a ledger's revision; None for an empty file.

    Raises:
        ValueError: the file holds tables, but not a ledger's.
    """
    tables = set(inspect(connection).get_table_names())
    if not tables:
        return None
    if "alembic_version" in tables:
        found = connection.scalar(text("SELECT version_num FROM alembic_version"))
        return None if found is None else str(found)
    if connection.scalar(text("PRAGMA user_version")) == 1 and {"reviews", "judgements"} <= tables:
        return _FIRST  # as the first Alignwatch wrote it, which did not know Alembic
    raise ValueError("it holds other tables")


def is_older(found: str) -> bool:
    """Whether a revision is one that :func:`upgrade` can start from; revisions are numbered."""
    return found.isdigit() and int(found) < int(HEAD)


def upgrade(connection: Connection, found: str | None) -> None:
    """Bring a ledger from ``found`` to ``HEAD`` within the connection's transaction."""
    from alembic import command  # here, because it takes longer to load than an up-to-date ledger to open
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(_MIGRATIONS))
    config.set_main_option("path_separator", "os")
    config.attributes["connection"] = connection
    if found == _FIRST and "alembic_version" not in inspect(connection).get_table_names():
        command.stamp(config, _FIRST)
    command.upgrade(config, HEAD)
