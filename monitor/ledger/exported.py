"""What one scrape of the metrics reads, each by one query whose cost does not grow with what is retired."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime
from typing import Literal
from urllib.parse import quote

from sqlalchemy import func, literal, select

from monitor.ledger.database import Database
from monitor.ledger.service_tables import AdapterRow, OverrideRow, ServingRow
from monitor.ledger.tables import ReviewRow

DEPTH = 16
"""Ancestors that a lineage is followed up; a declared parent may be a lie, even a circle."""

_RECENT = 100
"""Reviews among which the last finished one is looked for; few are ever unfinished at the same time."""

_PRESENT = ("loading", "proving", "serving", "failed", "withdrawing", "resident")
"""States of adapters on replicas, but for ``absent``: those only pile up."""


@dataclass(frozen=True, slots=True)
class Shown:
    """One adapter that has series of its own."""

    digest: str
    """``sha256-…``."""
    name: str
    """As it arrived; not unique."""
    parent: str | None
    """Digest of the adapter that it was trained or mended from."""
    place: Literal["promoted", "pending"]
    """In service, or not placed yet."""
    override: str
    """``release`` or ``block`` where a person's word stands, else empty."""


class Exported:
    """Read-only views of one ledger for the metrics, and the probe whether it can be written."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def adapters(self, limit: int) -> tuple[list[Shown], int]:
        """Return the adapters in service, the newest first, then the pending ones; and how many ``limit`` cut off."""
        promoted = AdapterRow.place == "promoted"
        pending = AdapterRow.place.is_(None)
        columns = (AdapterRow.digest, AdapterRow.name, AdapterRow.parent)
        with self._database.reading() as session:
            total = session.scalar(select(func.count()).where(promoted | pending).select_from(AdapterRow)) or 0
            live = select(*columns).where(promoted).order_by(AdapterRow.placed.desc(), AdapterRow.digest).limit(limit)
            found: list[tuple[str, str, str | None, Literal["promoted", "pending"]]] = []
            found += [(*row, "promoted") for row in session.execute(live)]
            new = select(*columns).where(pending).order_by(AdapterRow.seen.desc(), AdapterRow.digest)
            found += [(*row, "pending") for row in session.execute(new.limit(limit - len(found)))]
            said = (
                select(OverrideRow.digest, OverrideRow.action)
                .where(OverrideRow.digest.in_([digest for digest, *_ in found]))
                .order_by(OverrideRow.ordinal)
            )
            words: dict[str, str] = dict(iter(session.execute(said)))
        shown = [Shown(digest, name, parent, place, words.get(digest, "")) for digest, name, parent, place in found]
        return shown, total - len(shown)

    def ancestors(self, digests: Sequence[str], depth: int = DEPTH) -> dict[str, list[str]]:
        """Return each digest's ancestors, the parent first, at most ``depth`` of them."""
        line: dict[str, list[str]] = {digest: [] for digest in digests}
        with self._database.reading() as session:
            for start in range(0, len(digests), 500):
                some = digests[start : start + 500]
                up = (
                    select(AdapterRow.digest.label("leaf"), AdapterRow.parent.label("above"), literal(1).label("step"))
                    .where(AdapterRow.digest.in_(some), AdapterRow.parent.is_not(None))
                    .cte("up", recursive=True)
                )
                further = (
                    select(up.c.leaf, AdapterRow.parent, up.c.step + 1)
                    .join(AdapterRow, AdapterRow.digest == up.c.above)
                    .where(AdapterRow.parent.is_not(None), up.c.step < depth)
                )
                up = up.union_all(further)
                for leaf, above in session.execute(select(up.c.leaf, up.c.above).order_by(up.c.step)):
                    line[leaf].append(above)
        return {leaf: [above for above in dict.fromkeys(line[leaf]) if above != leaf] for leaf in digests}

    def servings(self) -> dict[tuple[str, str], int]:
        """Return how many adapters are in each (replica, state), but for what was proved absent."""
        counted = (
            select(ServingRow.replica, ServingRow.state, func.count())
            .where(ServingRow.state.in_(_PRESENT))
            .group_by(ServingRow.replica, ServingRow.state)
        )
        with self._database.reading() as session:
            return {(replica, state): number for replica, state, number in session.execute(counted)}

    def last_review(self) -> datetime | None:
        """Return when a review was last finished, UTC; None before the first."""
        recent = select(ReviewRow.finished).order_by(ReviewRow.ordinal.desc()).limit(_RECENT).subquery()
        with self._database.reading() as session:
            finished: datetime | None = session.scalar(select(func.max(recent.c.finished)))
            return finished

    def writable(self, patience: float = 1.0) -> bool:
        """Try a real, durable write of one row, waiting ``patience`` seconds for a lock at most."""
        address = f"file:{quote(str(self._database.path.absolute()))}?mode=rw"
        try:
            with closing(sqlite3.connect(address, uri=True, timeout=patience, isolation_level=None)) as connection:
                connection.execute("PRAGMA synchronous = FULL")
                connection.execute("BEGIN IMMEDIATE")
                connection.execute(
                    "INSERT INTO metric_values (name, labels, value) VALUES ('ledger_probe', '{}', 1) "
                    "ON CONFLICT DO UPDATE SET value = 1 - value"
                )
                connection.execute("COMMIT")
        except sqlite3.Error:
            return False
        return True
