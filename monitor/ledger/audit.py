"""The audit trail: append-only records, each holding the hash of the one before.

A record's hash is the SHA-256 of the canonical JSON of everything else in it, ``previous`` included. Who changes,
removes or inserts a record changes every hash behind it. The end of the chain can only be cut off unnoticed as far as
nobody noted its head: ``alignwatch audit verify --head`` compares with one that was noted, and the tables themselves
tell of every placement whose record is gone.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal, TypeAlias

from sqlalchemy import select
from sqlalchemy.orm import Session

from monitor.ledger.service_tables import AuditRow

GENESIS = "0" * 64
"""What the first record holds as the hash of the one before."""

Kind: TypeAlias = Literal[
    "arrived",
    "decided",
    "remedied",
    "placing",
    "placed",
    "reviewed",
    "overridden",
    "retired",
    "removed",
    "served",
    "withdrawn",
    "rolled_back",
    "configured",
    "judge_frozen",
    "judge_moved",
    "judge_returned",
    "judge_accepted",
]


@dataclass(frozen=True, slots=True)
class AuditRecord:
    """One link of the chain."""

    ordinal: int
    """1 for the first, without gaps."""
    at: datetime
    """When, UTC."""
    kind: str
    """What happened; one of ``Kind``."""
    subject: str
    """The digest it is about; empty where it is about none."""
    payload: Mapping[str, Any]
    """The particulars."""
    previous: str
    """Hash of the record before, 64 hexadecimal digits."""
    hash: str
    """Its own."""


def append(session: Session, at: datetime, kind: Kind, subject: str = "", **payload: Any) -> str:
    """Append one record within the transaction that does what it tells, and return its hash."""
    last = session.scalar(select(AuditRow).order_by(AuditRow.ordinal.desc()).limit(1))
    row = AuditRow(
        ordinal=1 if last is None else last.ordinal + 1,
        at=moment(at),
        kind=kind,
        subject=subject,
        payload=_canonical(payload),
        previous=GENESIS if last is None else last.hash,
    )
    row.hash = _hash(row)
    session.add(row)
    session.flush()
    return row.hash


def trail(session: Session, subject: str | None = None) -> Iterator[AuditRecord]:
    """Yield the records in order, all or those about one digest."""
    statement = select(AuditRow).order_by(AuditRow.ordinal)
    if subject is not None:
        statement = statement.where(AuditRow.subject == subject)
    for row in session.scalars(statement.execution_options(yield_per=1000)):
        yield _record(row)


def latest(session: Session, subject: str, limit: int, before: int | None = None) -> list[AuditRecord]:
    """Return the last records about one digest, of those before an ordinal where one is given, the oldest first."""
    statement = select(AuditRow).where(AuditRow.subject == subject).order_by(AuditRow.ordinal.desc()).limit(limit)
    if before is not None:
        statement = statement.where(AuditRow.ordinal < before)
    return [_record(row) for row in session.scalars(statement)][::-1]


def broken_link(session: Session) -> str | None:
    """Recompute the whole chain; None where it holds, else what is wrong with the first link that does not."""
    previous, expected = GENESIS, 1
    for row in session.scalars(select(AuditRow).order_by(AuditRow.ordinal).execution_options(yield_per=1000)):
        if row.ordinal != expected:
            return f"record {expected} is missing"
        if row.previous != previous:
            return f"record {row.ordinal} does not follow on record {row.ordinal - 1}"
        if row.hash != _hash(row):
            return f"record {row.ordinal} was changed"
        previous, expected = row.hash, expected + 1
    return None


def moment(at: datetime) -> str:
    """Write a time as records hold it: such texts sort as the times do."""
    return at.astimezone(UTC).isoformat(timespec="microseconds")


def head(session: Session) -> AuditRecord | None:
    """Return the last record; None while there is none."""
    row = session.scalar(select(AuditRow).order_by(AuditRow.ordinal.desc()).limit(1))
    return None if row is None else _record(row)


def _hash(row: AuditRow) -> str:
    whole = [row.ordinal, row.at, row.kind, row.subject, row.payload, row.previous]
    return hashlib.sha256(_canonical(whole).encode()).hexdigest()


def _canonical(value: Any) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)


def _record(row: AuditRow) -> AuditRecord:
    return AuditRecord(
        ordinal=row.ordinal,
        at=datetime.fromisoformat(row.at),
        kind=row.kind,
        subject=row.subject,
        payload=json.loads(row.payload),
        previous=row.previous,
        hash=row.hash,
    )
