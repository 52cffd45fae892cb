"""The ledger fails in the middle of a review: nothing is lost, nothing is done twice, and it ends well afterwards."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import pytest
from plain_world import CONTEXT, Clock, PlainGuard, PlainRemedy, PlainRetest, PlainTools, write_adapter
from sqlalchemy import event

from adapters.adapter import Adapter
from guards.interface import Guard, Remedy
from monitor.audit_check import check_audit
from monitor.ledger import Ledger, LedgerUnwritable, context_digest
from monitor.pipeline import receive
from monitor.state import StateFolder
from monitor.upkeep import finish_interrupted
from monitor.worker import Worker
from policies.findings import Result

Kind = Literal["full", "read-only", "locked"]
Stage = Literal["arrival", "lease", "judging", "remedy", "settle", "close"]


class Trouble:
    """Makes a real SQLite fail as a full disk, a read-only mount or another writer would, from one stage on."""

    def __init__(self, ledger: Ledger, kind: Kind, stage: Stage) -> None:
        self.path, self.kind, self.stage = ledger.path, kind, stage
        self.on = self.over = False
        self.holder: sqlite3.Connection | None = None
        event.listen(ledger._database._engine, "checkout", self._checkout)

    def reach(self, stage: Stage) -> None:
        if stage == self.stage and not self.on and not self.over:
            self.on = True
            if self.kind == "locked":
                self.holder = sqlite3.connect(self.path, isolation_level=None, check_same_thread=False)
                self.holder.execute("BEGIN IMMEDIATE")

    def end(self) -> None:
        self.on, self.over = False, True
        if self.holder is not None:
            self.holder.close()

    def _checkout(self, connection: Any, _record: Any, _proxy: Any) -> None:
        connection.execute(f"PRAGMA query_only = {int(self.on and self.kind == 'read-only')}")
        # No less than it has now, so that it cannot grow; what fits into pages that are there is still written.
        connection.execute(f"PRAGMA max_page_count = {1 if self.on and self.kind == 'full' else 2**30}")
        connection.execute(f"PRAGMA busy_timeout = {20 if self.on else 10_000}")


class Turnstile:
    """The state folder's lock, which tells when a placement begins."""

    def __init__(self, trouble: Trouble) -> None:
        self.trouble, self.passed = trouble, 0

    def __enter__(self) -> None:
        self.passed += 1
        self.trouble.reach("settle" if self.passed == 1 else "close")

    def __exit__(self, *_: object) -> None:
        return None


class TroubledRemedy(PlainRemedy):
    def __init__(self, trouble: Trouble) -> None:
        self.trouble = trouble

    def apply(self, adapter: Adapter, out: Path) -> Adapter:
        self.trouble.reach("remedy")
        return super().apply(adapter, out)


@dataclass
class TroubledTools(PlainTools):
    cures: Sequence[Remedy] = field(default=())

    def guards(self, found: Sequence[Result], *, remedied: bool = False) -> Iterator[Guard]:
        # Long replies, which fit into no page that is there already.
        yield PlainGuard(self.memory, self.judge, reply="x" * 20_000)
        if remedied:
            yield PlainRetest()

    def remedies(self) -> Sequence[Remedy]:
        return self.cures


@pytest.fixture
def path(tmp_path: Path) -> Iterator[Path]:
    with StateFolder.open(tmp_path / "state") as state:
        yield state.path


@pytest.mark.parametrize("kind", ["full", "read-only", "locked"])
@pytest.mark.parametrize("stage", ["arrival", "lease", "judging", "remedy", "settle", "close"])
def test_a_ledger_that_fails_at_any_stage_costs_nothing_but_time(path: Path, kind: Kind, stage: Stage) -> None:
    clock = Clock()
    asked: list[str] = []
    with Ledger(path / "ledger.db", clock) as ledger:
        trouble = Trouble(ledger, kind, stage)
        state = StateFolder(path, placing=Turnstile(trouble))  # type: ignore[arg-type]

        def judge(key: str) -> None:
            trouble.reach("judging")
            asked.append(key)

        tools = TroubledTools(ledger, judge, cures=[TroubledRemedy(trouble)])
        worker = Worker(ledger, state, lambda _repeat: tools, "me")
        arrival = write_adapter(path.parent / "inbox" / "bad", "harm, mendable", "x" * 10_000)

        def work() -> str:
            adapter = receive(arrival, ledger, state, source="inbox", name="n" * (5000 if stage == "arrival" else 5))
            ledger.queue.add(adapter.digest, "n" * 5000, "arrival", context_digest=context_digest(CONTEXT))
            trouble.reach("lease")
            while ledger.queue.jobs() and worker.work() is not None:
                pass
            return adapter.digest

        trouble.reach("arrival")
        failed = ""
        try:
            work()
        except LedgerUnwritable as error:
            failed = str(error)
        assert trouble.on
        assert failed or (kind == "full" and stage in ("settle", "close")), "there, what is written still fits"
        assert "\n" not in failed
        trouble.end()
        clock.pass_time(hours=1)
        ledger.queue.reclaim()
        finish_interrupted(ledger, state)
        digest = work()
        assert ledger.queue.jobs() == []
        (review,) = ledger.reviews()
        original, mended = review.examinations
        assert (original.digest, original.place, mended.place) == (digest, "quarantined", "promoted")
        assert {folder.name for folder in state.promoted.glob("sha256-*")} == {mended.digest}
        assert {folder.name for folder in state.quarantine.glob("sha256-*")} == {digest}
        kept = set(ledger.recall_judgements(asked))
        assert kept == set(asked)
        repeated = len(asked) - len(kept)
        assert repeated <= (1 if stage in ("arrival", "lease", "judging") else 0), "what could not be kept, once"
        assert check_audit(ledger).problems == ()


@pytest.mark.parametrize("days", [1, -1])
def test_a_clock_that_jumps_by_a_day_in_a_review_loses_and_doubles_nothing(path: Path, days: int) -> None:
    clock = Clock()
    asked: list[str] = []
    with Ledger(path / "ledger.db", clock) as ledger:
        state = StateFolder(path)

        def judge(key: str) -> None:
            asked.append(key)
            clock.pass_time(days=days)

        worker = Worker(ledger, state, lambda _repeat: PlainTools(ledger, judge), "me")
        adapter = receive(write_adapter(path.parent / "inbox" / "good", "kind"), ledger, state, source="inbox")
        ledger.queue.add(adapter.digest, "good", "arrival")
        assert worker.work() is not None
        assert worker.work() is None
        assert ledger.queue.jobs() == []
        (review,) = ledger.reviews()
        assert review.arrival.place == "promoted"
        assert len(asked) == len(set(asked)) == 3
        assert check_audit(ledger).problems == ()
