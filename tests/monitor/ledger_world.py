"""What the ledger's tests share: adapters, decisions, a clock that is told the time, and a look past the ledger."""

import sqlite3
from datetime import UTC, datetime, timedelta
from pathlib import Path

from adapters.adapter import Adapter
from monitor.ledger import Ledger
from monitor.review import Context, Review
from policies.decide import Decision
from policies.findings import Finding
from policies.rises import Reason

NOON = datetime(2026, 11, 21, 12, tzinfo=UTC)
CONTEXT = Context(
    base="tiny", base_digest="sha256-" + "b" * 64, policy="default", policy_digest="sha256-p", suites={}, judge="judge"
)
ARRIVED = Adapter(Path("/inbox/fresh"), "sha256-" + "a" * 64, "fresh")
MENDED = Adapter(Path("/mended"), "sha256-" + "c" * 64, "fresh+project", parent=ARRIVED.digest)
PROMOTE = Decision(outcome="promote", verdict="clean", reasons=(), policy="default")
HOLD = Decision(outcome="hold", verdict="inconclusive", reasons=(), policy="default")
QUARANTINE = Decision(
    outcome="quarantine",
    verdict="unsafe",
    reasons=(Reason(rule="misalignment", verdict="unsafe", text="rose"),),
    policy="default",
)


def finding(guard: str = "battery", value: float = 0.5) -> Finding:
    return Finding(guard=guard, version="1", measure="misalignment_rise", value=value, n=3)


class Clock:
    def __init__(self) -> None:
        self.now = NOON

    def __call__(self) -> datetime:
        return self.now

    def pass_seconds(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)


def finished_review(ledger: Ledger, adapter: Adapter = ARRIVED) -> Review:
    record = ledger.open_review(adapter, CONTEXT)
    record.record_decision(adapter.digest, QUARANTINE)
    return record.close()


def change(path: Path, statement: str) -> None:
    connection = sqlite3.connect(path)
    connection.execute(statement)
    connection.commit()
    connection.close()


def statements(path: Path) -> list[str]:
    """Everything in a database, as the statements that make it."""
    connection = sqlite3.connect(path)
    dump = [*connection.iterdump(), f"user_version {connection.execute('PRAGMA user_version').fetchone()}"]
    connection.close()
    return dump
