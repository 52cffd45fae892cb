"""What people said of adapters: it stands above what was decided, and is recorded before anything follows it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from sqlalchemy import select
from sqlalchemy.orm import Session

from monitor.ledger import audit
from monitor.ledger.database import Database
from monitor.ledger.service_tables import OverrideRow


@dataclass(frozen=True, slots=True)
class Override:
    """A person's word on one digest."""

    ordinal: int
    """Its number; the last one of a digest stands."""
    digest: str
    """The adapter."""
    action: Literal["release", "block"]
    """Promote it whatever was decided, or keep it away."""
    reason: str
    """Why."""
    who: str
    """Who said so."""
    at: datetime
    """When, UTC."""
    applied: datetime | None
    """When the files followed, UTC."""
    note: str | None = None
    """Why nothing can follow, in one line; None while it is to be carried out, or was."""


class Overrides:
    """All words of people in one ledger."""

    def __init__(self, database: Database, clock: Callable[[], datetime]) -> None:
        self._database = database
        self._clock = clock

    def add(self, digest: str, action: Literal["release", "block"], reason: str, who: str) -> Override:
        """Record a person's word. It is carried out by whoever holds the state folder."""
        with self._database.writing() as session:
            now = self._clock()
            row = OverrideRow(digest=digest, action=action, reason=reason, who=who, at=now)
            session.add(row)
            session.flush()
            told = {"override": row.ordinal, "action": action, "reason": reason, "who": who}
            audit.append(session, now, "overridden", digest, **told)
            return _override(row)

    def standing(self, digest: str) -> Override | None:
        """Return the last word on a digest, if there is one."""
        with self._database.reading() as session:
            row = standing_override(session, digest)
            return None if row is None else _override(row)

    def waiting(self) -> list[Override]:
        """Return the words that are to be carried out on files, oldest first."""
        statement = select(OverrideRow).where(OverrideRow.applied.is_(None), OverrideRow.note.is_(None))
        with self._database.reading() as session:
            return [_override(row) for row in session.scalars(statement.order_by(OverrideRow.ordinal))]

    def latest(self, limit: int = 100) -> list[Override]:
        """Return people's words, the last first."""
        with self._database.reading() as session:
            rows = session.scalars(select(OverrideRow).order_by(OverrideRow.ordinal.desc()).limit(limit))
            return [_override(row) for row in rows]

    def skip(self, override: Override, note: str) -> None:
        """Record why a word cannot be carried out on files now; it stands, and decides when the digest arrives."""
        with self._database.writing() as session:
            session.get_one(OverrideRow, override.ordinal).note = note

    def met(self, override: Override) -> None:
        """Record that the adapter lies already where a word wants it."""
        with self._database.writing() as session:
            carried_out(session, override, self._clock())


def standing_override(session: Session, digest: str) -> OverrideRow | None:
    """Return the last word on a digest within a transaction."""
    return session.scalar(
        select(OverrideRow).where(OverrideRow.digest == digest).order_by(OverrideRow.ordinal.desc()).limit(1)
    )


def carried_out(session: Session, override: Override, now: datetime) -> None:
    """Record within a transaction that the files follow a word."""
    row = session.get_one(OverrideRow, override.ordinal)
    row.applied, row.note = now, None


def _override(row: OverrideRow) -> Override:
    return Override(row.ordinal, row.digest, row.action, row.reason, row.who, row.at, row.applied, row.note)
