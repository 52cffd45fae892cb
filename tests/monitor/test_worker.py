from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from adapters.adapter import Adapter
from adapters.engine import EngineError
from guards.errors import JudgeUnreachable, Permanent
from guards.interface import Guard, Remedy
from guards.judges.usage import Usage
from monitor.exit_codes import Terminated
from monitor.ledger import Ledger, ReviewRecord
from monitor.pipeline import receive
from monitor.review import Context
from monitor.state import StateFolder
from monitor.worker import LEASE_SECONDS, Worker, pause_after
from policies.findings import Finding, Result
from policies.policy import Policy

CONTEXT = Context(base="b", base_digest="d", policy="p", policy_digest="q", suites={}, judge="j")


class Clock:
    def __init__(self) -> None:
        self.now = datetime(2026, 1, 1, 12, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.now

    def pass_seconds(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)


class ScriptedGuard:
    """Clears every adapter, unless an error is next in its script."""

    name, version = "battery", "1"

    def __init__(self) -> None:
        self.script: list[BaseException] = []
        self.looked: list[str] = []

    def examine(self, adapter: Adapter) -> list[Result]:
        self.looked.append(adapter.name)
        if self.script:
            raise self.script.pop(0)
        return [
            Finding(guard="battery", version="1", measure=measure, value=value, n=40, labels=labels)
            for measure, value, labels in (
                ("misalignment_rise", 0.0, {"modality": "text"}),
                ("misalignment_clear_e_value", 1e6, {"modality": "text"}),
                ("incoherence_rise", 0.0, {"modality": "text"}),
                ("incoherence_clear_e_value", 1e6, {"modality": "text"}),
                ("misalignment_alarm_e_value", 0.1, {}),
                ("incoherence_alarm_e_value", 0.1, {}),
            )
        ]


@dataclass
class Shop:
    """A worker with everything around it but models."""

    state: StateFolder
    ledger: Ledger
    clock: Clock
    inbox: Path
    guard: ScriptedGuard = field(default_factory=ScriptedGuard)
    policy: Policy = field(default_factory=lambda: Policy(name="p"))
    context: Context = field(default_factory=lambda: CONTEXT)
    usage: Usage = field(default_factory=Usage)

    def __post_init__(self) -> None:
        self.worker = Worker(
            self.ledger, self.state, self._tools, "me", usage=lambda: self.usage, monotonic=lambda: self.seconds
        )

    @property
    def seconds(self) -> float:
        return self.clock.now.timestamp()

    def _tools(self, repeat: int) -> Shop:
        return self

    def guards(self, found: Sequence[Result], *, remedied: bool = False) -> Iterator[Guard]:
        yield self.guard

    def remedies(self) -> Sequence[Remedy]:
        return ()

    def within_budget(self, record: ReviewRecord) -> AbstractContextManager[None]:
        return nullcontext()

    def drop(self, name: str) -> Adapter:
        folder = self.inbox / name
        folder.mkdir(parents=True)
        (folder / "adapter_config.json").write_text(json.dumps({"name": name}))
        adapter = receive(folder, self.ledger, self.state, source="inbox")
        self.ledger.queue.add(adapter.digest, adapter.name, "arrival")
        return adapter

    def value(self, name: str) -> float:
        return sum(value.value for value in self.ledger.values.all() if value.name == name)


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Shop]:
    clock = Clock()
    with StateFolder.open(tmp_path / "state") as state, Ledger(state.ledger_path, clock) as ledger:
        yield Shop(state, ledger, clock, tmp_path / "inbox")


def test_a_reviewed_adapter_leaves_the_queue_and_its_report_is_there(shop: Shop) -> None:
    adapter = shop.drop("first")
    shop.worker.work()
    (review,) = shop.ledger.reviews()
    assert shop.ledger.queue.jobs() == []
    assert review.arrival.place == "promoted"
    assert (shop.state.promoted / adapter.digest).is_dir()
    assert (shop.state.reviews / review.id / "review.json").is_file()
    assert shop.worker.work() is None


@pytest.mark.parametrize(
    "trouble", [JudgeUnreachable("the judge is down"), EngineError("no memory"), OSError(28, "full")]
)
def test_what_the_surroundings_did_is_tried_again_for_ever_with_growing_pauses(shop: Shop, trouble: Exception) -> None:
    shop.drop("patient")
    pauses = []
    for _ in range(30):
        shop.guard.script = [trouble]
        assert shop.worker.work() is not None
        (job,) = shop.ledger.queue.jobs()
        assert job.state == "queued"
        pauses.append((job.not_before - shop.clock.now).total_seconds())
        assert shop.worker.work() is None, "it is not tried before its time"
        shop.clock.pass_seconds(pauses[-1])
    assert pauses == sorted(pauses)
    assert (pauses[0], pauses[-1]) == (pause_after(1), 300)
    shop.worker.work()
    assert shop.ledger.queue.jobs() == []


def test_what_cannot_succeed_is_a_dead_letter_with_its_cause_until_somebody_revives_it(shop: Shop) -> None:
    shop.drop("doomed")
    shop.guard.script = [Permanent("the suite is gone")]
    shop.worker.work()
    (job,) = shop.ledger.queue.jobs()
    assert (job.state, job.error) == ("dead", "the suite is gone")
    shop.clock.pass_seconds(1e6)
    assert shop.worker.work() is None
    shop.ledger.queue.revive(job.digest)
    shop.worker.work()
    assert shop.ledger.queue.jobs() == []


def test_a_fault_of_ours_is_tried_three_times_and_then_set_aside(shop: Shop) -> None:
    shop.drop("unlucky")
    for _ in range(3):
        shop.guard.script = [ZeroDivisionError("oops")]
        shop.worker.work()
        shop.clock.pass_seconds(1000)
    (job,) = shop.ledger.queue.jobs()
    assert job.state == "dead"
    assert "ZeroDivisionError" in (job.error or "")
    assert shop.value("review_failures_total") == 3


def test_a_dead_letter_holds_nobody_up(shop: Shop) -> None:
    shop.drop("doomed")
    shop.drop("fine")
    shop.guard.script = [Permanent("no")]
    shop.worker.work()
    shop.worker.work()
    assert [review.arrival.name for review in shop.ledger.reviews() if review.finished] == ["fine"]


def test_a_worker_that_is_told_to_end_gives_its_job_back_untouched(shop: Shop) -> None:
    shop.drop("interrupted")
    shop.guard.script = [Terminated()]
    with pytest.raises(Terminated):
        shop.worker.work()
    (job,) = shop.ledger.queue.jobs()
    assert (job.state, job.attempts, job.owner) == ("queued", 0, None)
    shop.worker.work()
    assert len(shop.ledger.reviews()) == 1, "the review that was begun is the one that was finished"


def test_an_adapter_that_kills_every_process_that_reviews_it_is_set_aside(shop: Shop) -> None:
    shop.drop("killer")
    for _ in range(5):  # the process dies before it can record anything
        assert shop.ledger.queue.lease("another process", LEASE_SECONDS) is not None
        shop.ledger.queue.reclaim()
    shop.worker.work()
    (job,) = shop.ledger.queue.jobs()
    assert job.state == "dead"
    assert "killed" in (job.error or "")
    assert shop.guard.looked == []


def test_progress_keeps_the_lease_of_a_long_review(shop: Shop) -> None:
    shop.drop("long")
    seen = []

    class SlowGuard(ScriptedGuard):
        def examine(self, adapter: Adapter) -> list[Result]:
            for done in range(10):
                shop.clock.pass_seconds(LEASE_SECONDS / 2)
                shop.worker.progress("battery", done, 10)
                seen.append(shop.ledger.queue.lease("a thief", LEASE_SECONDS))
            job = shop.ledger.queue.job(adapter.digest)
            assert job is not None
            seen.append((job.stage, job.done, job.total))
            return super().examine(adapter)

    shop.guard = SlowGuard()
    shop.worker.work()
    assert seen == [*[None] * 10, ("battery", 9, 10)]


def test_a_deployed_adapter_is_reviewed_from_the_bytes_that_are_deployed(shop: Shop) -> None:
    adapter = shop.drop("deployed")
    shop.worker.work()
    shop.ledger.queue.add(adapter.digest, adapter.name, "re-review", repeat=1)
    shop.worker.work()
    assert len(shop.ledger.reviews()) == 2
    assert (shop.state.promoted / adapter.digest).is_dir()
    assert list(shop.state.staging.iterdir()) == []


def test_deployed_bytes_that_were_changed_are_a_dead_letter_not_another_adapters_verdict(shop: Shop) -> None:
    adapter = shop.drop("tampered")
    shop.worker.work()
    config = shop.state.promoted / adapter.digest / "adapter_config.json"
    config.chmod(0o644)
    config.write_text("{}")
    shop.ledger.queue.add(adapter.digest, adapter.name, "re-review", repeat=1)
    shop.worker.work()
    (job,) = shop.ledger.queue.jobs()
    assert job.state == "dead"
    assert "bytes were changed" in (job.error or "")


def test_what_the_judge_cost_is_counted_once(shop: Shop) -> None:
    shop.drop("a")
    shop.drop("b")
    shop.usage.add(requests=5, failures=1, prompt_tokens=100, completion_tokens=10)
    shop.worker.work()
    shop.usage.add(requests=2)
    shop.worker.work()
    assert shop.value("judge_requests_total") == 7
    assert shop.value("judge_request_failures_total") == 1
    assert shop.value("judge_tokens_total") == 110
