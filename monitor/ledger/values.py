"""Counters and gauges that outlive the process: what the metrics show beside the records themselves."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass

from sqlalchemy import select
from sqlalchemy.dialects.sqlite import insert
from sqlalchemy.orm import Session

from monitor.ledger.database import Database
from monitor.ledger.service_tables import ValueRow

DURATION_BUCKETS = (0.1, 0.5, 1, 5, 15, 60, 300, 900, 3600)
"""Upper ends of the buckets of ``review_duration_seconds``, in seconds."""


@dataclass(frozen=True, slots=True)
class Value:
    """One number under one name and its labels."""

    name: str
    """Without the prefix, for instance ``judge_requests_total``."""
    labels: Mapping[str, str]
    """Sorted by key."""
    value: float
    """In the name's unit."""


class Values:
    """All counters and gauges of one ledger."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def count(self, name: str, amount: float = 1, **labels: str) -> None:
        """Add to a counter."""
        with self._database.writing() as session:
            count(session, name, amount, **labels)

    def set(self, name: str, value: float, **labels: str) -> None:
        """Set a gauge."""
        with self._database.writing() as session:
            put(session, name, value, **labels)

    def all(self) -> list[Value]:
        """Return every number, by name and labels."""
        with self._database.reading() as session:
            rows = session.scalars(select(ValueRow).order_by(ValueRow.name, ValueRow.labels))
            return [Value(row.name, json.loads(row.labels), row.value) for row in rows]


def count(session: Session, name: str, amount: float = 1, **labels: str) -> None:
    """Add to a counter within a transaction."""
    fresh = insert(ValueRow).values(name=name, labels=_key(labels), value=amount)
    session.execute(
        fresh.on_conflict_do_update(index_elements=["name", "labels"], set_={"value": ValueRow.value + amount})
    )


def put(session: Session, name: str, value: float, **labels: str) -> None:
    """Set a gauge within a transaction."""
    fresh = insert(ValueRow).values(name=name, labels=_key(labels), value=value)
    session.execute(fresh.on_conflict_do_update(index_elements=["name", "labels"], set_={"value": value}))


def observe(session: Session, name: str, seconds: float, **labels: str) -> None:
    """Add one duration to a histogram within a transaction, as ``_bucket``, ``_sum`` and ``_count``."""
    for end in (*DURATION_BUCKETS, float("inf")):
        count(
            session, f"{name}_bucket", float(seconds <= end), le="+Inf" if end == float("inf") else f"{end:g}", **labels
        )
    count(session, f"{name}_sum", seconds, **labels)
    count(session, f"{name}_count", 1, **labels)


def _key(labels: Mapping[str, str]) -> str:
    return json.dumps(dict(labels), sort_keys=True)
