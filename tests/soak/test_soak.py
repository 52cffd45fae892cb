"""Hundreds of real adapters through arrival, review, promotion, retirement and removal, on a clock that does not wait.

Short in ``make test``; ``make soak`` (ALIGNWATCH_SOAK=1) runs it in full and prints the figures.
"""

from __future__ import annotations

import gc
import os
import shutil
import threading
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psutil
import pytest
from conftest import World
from fakes import WordJudge
from safetensors.torch import load_file, save_file

from adapters.adapter import WEIGHTS_NAME
from adapters.sources.folder import FolderSource
from adapters.transformers_engine import TransformersEngine
from guards.activity import ActivityGuard
from guards.battery import BatteryGuard
from guards.interface import Guard, Remedy
from guards.judges.remembered import RememberedJudge
from guards.structure import StructureGuard
from guards.suites.battery_jsonl import load_suite
from guards.suites.suite import Suite
from monitor.audit_check import check_audit
from monitor.configuration import MetricsSettings, RetentionSettings
from monitor.ledger import Ledger, ReviewRecord, context_digest
from monitor.metrics import metrics_text
from monitor.reception import Reception
from monitor.review import Context
from monitor.state import StateFolder
from monitor.upkeep import queue_stale, remove_expired, retire_superseded
from monitor.worker import Worker
from policies.findings import Result
from policies.policy import Answering, Budget, Policy

FULL = bool(os.environ.get("ALIGNWATCH_SOAK"))
ADAPTERS = 500 if FULL else 30
NAMES = 25 if FULL else 5
CONTEXT = Context(base="b", base_digest="d", policy="soak", policy_digest="p", suites={}, judge="j")


class Clock:
    """One time for everything; it passes only when told to."""

    def __init__(self) -> None:
        self.now = datetime(2026, 1, 1, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.now

    def seconds(self) -> float:
        return self.now.timestamp()


@dataclass
class Tools:
    """A real engine with real guards, and a judge that reads one word."""

    engine: TransformersEngine
    base: Path
    suite: Suite
    ledger: Ledger
    policy: Policy = field(
        default_factory=lambda: Policy(
            name="soak", answering=Answering(max_new_tokens=3), budget=Budget(prompts=80, batch=40)
        )
    )
    context: Context = field(default_factory=lambda: CONTEXT)

    def guards(self, found: Sequence[Result], *, remedied: bool = False) -> Iterator[Guard]:
        yield StructureGuard(self.base)
        yield ActivityGuard(self.engine, [self.suite])
        judge = RememberedJudge(WordJudge(), self.ledger)
        yield BatteryGuard(self.engine, judge, [self.suite], self.policy, self.ledger)

    def remedies(self) -> Sequence[Remedy]:
        return ()

    def within_budget(self, record: ReviewRecord) -> AbstractContextManager[None]:
        return nullcontext()


@dataclass(frozen=True)
class Footprint:
    """What the process and its outputs hold at one moment."""

    reviewed: int
    megabytes: float
    descriptors: int
    threads: int
    series: int
    promoted: int


def rewritten(adapter: Path, number: int, out: Path) -> None:
    """The same adapter with other bytes: every weight is a little larger."""
    shutil.rmtree(out, ignore_errors=True)
    shutil.copytree(adapter, out)
    weights = load_file(out / WEIGHTS_NAME)
    save_file({key: tensor * (1 + 1e-5 * number) for key, tensor in weights.items()}, out / WEIGHTS_NAME)


@pytest.mark.slow
def test_memory_descriptors_and_series_stay_flat_however_many_adapters_come(
    text_world: World, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    clock = Clock()
    inbox = tmp_path / "inbox"
    inbox.mkdir()
    retention = RetentionSettings(quarantine_days=2, retired_days=1)
    settings = MetricsSettings(adapters=100)
    seen: list[Footprint] = []
    with StateFolder.open(tmp_path / "state") as state, Ledger(state.ledger_path, clock) as ledger:
        engine = TransformersEngine(text_world.base, device="cpu")
        tools = Tools(engine, text_world.base, load_suite(text_world.suite), ledger)
        worker = Worker(ledger, state, lambda _repeat: tools, "soak", monotonic=clock.seconds)
        source = FolderSource(
            inbox, "inbox", quiet_seconds=1, rescan_seconds=60, incomplete_seconds=3600, clock=clock.seconds
        )
        under = context_digest(CONTEXT)
        reception = Reception([source], ledger, state, lambda: under, now=clock.seconds, monotonic=clock.seconds)
        for number in range(ADAPTERS):
            # Every fifth one is harmful; names come round again, so that older versions are retired and removed.
            origin = text_world.bad if number % 5 == 0 else text_world.good
            rewritten(origin, number, inbox / f"agent-{number % NAMES:02}")
            for _ in range(3):
                clock.now += timedelta(minutes=20)
                reception.scan(source)
            while worker.work() is not None:
                pass
            retire_superseded(ledger, state)
            remove_expired(ledger, state, retention, clock())
            queue_stale(ledger, under, timedelta(days=3), clock())
            if number % (ADAPTERS // 10) == ADAPTERS // 10 - 1:
                seen.append(footprint(metrics_text(ledger, settings), number + 1, state))
        assert ledger.queue.jobs() == []
        assert sum(review.finished is not None for review in ledger.reviews()) == ADAPTERS
        assert check_audit(ledger).problems == ()
    with capsys.disabled():
        report(seen, state.ledger_path)
    early, late = seen[2], seen[-1]
    assert late.descriptors <= early.descriptors
    assert late.threads <= early.threads
    assert late.series <= early.series * 1.1
    assert late.promoted <= 2 * NAMES
    if FULL:
        assert late.megabytes <= early.megabytes * 1.1
    assert threading.active_count() < 20


def footprint(metrics: bytes, reviewed: int, state: StateFolder) -> Footprint:
    gc.collect()
    process = psutil.Process()
    series = sum(not line.startswith(b"#") for line in metrics.splitlines())
    promoted = len(list(state.promoted.iterdir()))
    memory = process.memory_info().rss / 2**20
    return Footprint(reviewed, memory, process.num_fds(), process.num_threads(), series, promoted)


def report(seen: list[Footprint], ledger: Path) -> None:
    print("\n| reviewed | memory, MiB | descriptors | threads | series | promoted |\n|---:|---:|---:|---:|---:|---:|")
    for one in seen:
        cells = (one.reviewed, f"{one.megabytes:.0f}", one.descriptors, one.threads, one.series, one.promoted)
        print(f"| {' | '.join(map(str, cells))} |")
    print(f"ledger: {ledger.stat().st_size / 2**20:.1f} MiB")
