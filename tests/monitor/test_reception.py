"""Properties of the reception: what settles is queued once, whatever happens meanwhile, and nothing is silent."""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from dropped import CONFIG, WEIGHTS, drop, weights

from adapters import intake
from adapters.adapter import Adapter, digest_adapter
from adapters.sources.folder import FolderSource
from monitor import pipeline
from monitor.ledger import Ledger, context_digest
from monitor.ledger.queue import Queue
from monitor.ledger.registry import Registry
from monitor.reception import Reception
from monitor.review import Context
from monitor.state import StateFolder
from policies.decide import Decision

CONTEXT = Context(base="b", base_digest="sha256-b", policy="p", policy_digest="sha256-p", suites={}, judge="j")
OTHER = CONTEXT.model_copy(update={"policy_digest": "sha256-q"})
QUARANTINE = Decision(outcome="quarantine", verdict="unsafe", reasons=(), policy="p")
QUIET = 5.0


class Killed(BaseException):
    """Stands for the end of the process, which no code survives."""


class House:
    """A state folder, its ledger and sources, on a clock of their own."""

    def __init__(self, root: Path, state: StateFolder, ledger: Ledger) -> None:
        self.root, self.state, self.ledger = root, state, ledger
        self.now = 1000.0
        self.context = CONTEXT
        self.labels = ["inbox"]
        self.suspicions: dict[str, float | None] = {}
        self.suspect: Callable[[Adapter], float | None] = lambda adapter: self.suspicions.get(adapter.name)
        (root / "inbox").mkdir()
        self.start()

    @property
    def inbox(self) -> Path:
        return self.root / "inbox"

    def start(self) -> None:
        """Begin anew, as after a restart: only the ledger remembers."""
        self.sources = [
            FolderSource(self.root / label, label, quiet_seconds=QUIET, clock=lambda: self.now) for label in self.labels
        ]
        self.reception = Reception(
            self.sources,
            self.ledger,
            self.state,
            lambda: context_digest(self.context),
            suspicion=lambda adapter: self.suspect(adapter),
            now=lambda: 1_790_000_000 + self.now,
            monotonic=lambda: self.now,
        )

    def scan(self, seconds: float = 0) -> int:
        self.now += seconds
        return sum(self.reception.scan(source) for source in self.sources)

    def settle(self) -> int:
        """Scan, let everything settle, and scan again."""
        return self.scan() + self.scan(QUIET)

    def queued(self) -> list[str]:
        return sorted(job.name for job in self.ledger.queue.jobs())

    def staged(self) -> list[str]:
        return sorted(path.name for path in self.state.staging.iterdir())

    def review(self, context: Context | None = None) -> None:
        """Finish whatever waits: unsafe, quarantined."""
        while job := self.ledger.queue.lease("me", 60):
            adapter = intake.stage(intake.home_of(job.digest, self.state.staging), self.state.staging, job.name)
            record = self.ledger.open_review(adapter, context or self.context)
            record.record_decision(adapter.digest, QUARANTINE)
            pipeline.settle([adapter], record, self.state)
            record.close()
            intake.withdraw(adapter.digest, self.state.staging)
            self.ledger.queue.finish(job.digest, "me")

    def value(self, name: str, source: str = "inbox") -> float | None:
        found = {one.labels["source"]: one.value for one in self.ledger.values.all() if one.name == name}
        return found.get(source)


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    with StateFolder.open(tmp_path / "state") as state, Ledger(state.ledger_path) as ledger:
        yield House(tmp_path, state, ledger)


def test_what_has_settled_is_staged_known_queued_and_sighted(house: House) -> None:
    digest = digest_adapter(drop(house.inbox / "run" / "mine"))
    assert house.scan() == 0
    assert house.queued() == []
    assert house.scan(QUIET) == 1
    (job,) = house.ledger.queue.jobs()
    assert (job.digest, job.name, job.reason) == (digest, "run/mine", "arrival")
    assert house.staged() == [digest]
    assert house.ledger.registry.names(digest) == ["run/mine"]
    sighting = house.ledger.registry.sightings("inbox")["run/mine"]
    assert (sighting.digest, sighting.reason) == (digest, None)
    assert house.settle() == 0


def test_a_second_arrival_of_the_same_bytes_is_recognised_and_not_reviewed_again(house: House) -> None:
    digest = digest_adapter(drop(house.inbox / "mine"))
    house.settle()
    house.review()
    drop(house.inbox / "yours")
    assert house.settle() == 0
    assert house.queued() == []
    assert house.staged() == [], "its copy was not needed"
    assert house.ledger.registry.names(digest) == ["mine", "yours"]
    assert house.ledger.registry.sightings("inbox")["yours"].digest == digest


def test_the_same_bytes_wait_once_and_keep_their_copy_while_their_review_is_open(house: House) -> None:
    drop(house.inbox / "mine")
    drop(house.inbox / "yours")
    assert house.settle() == 1
    assert len(house.queued()) == 1
    assert len(house.staged()) == 1


def test_known_bytes_are_reviewed_again_under_another_context(house: House) -> None:
    drop(house.inbox / "mine")
    house.settle()
    house.review()
    house.context = OTHER
    drop(house.inbox / "yours")
    assert house.settle() == 1
    assert house.queued() == ["yours"]


@pytest.mark.parametrize("place", ["retired", "removed"])
def test_bytes_that_come_back_after_they_were_put_away_are_placed_anew(house: House, place: Any) -> None:
    digest = digest_adapter(drop(house.inbox / "latest"))
    house.settle()
    house.review()
    house.ledger.registry.begin_move(digest, place)
    house.ledger.registry.finish_move(digest, place)
    drop(house.inbox / "latest", 1)
    house.settle()
    house.review()
    drop(house.inbox / "latest")
    assert house.settle() == 1
    assert [job.digest for job in house.ledger.queue.jobs()] == [digest]


def test_what_a_person_blocked_is_received_like_any_other(house: House) -> None:
    digest = digest_adapter(drop(house.inbox / "mine"))
    house.ledger.overrides.add(digest, "block", "no", "me")
    assert house.settle() == 1


def test_the_more_suspicious_of_several_arrivals_is_reviewed_first(house: House) -> None:
    house.suspicions = {"fine": 0.1, "odd": 0.95, "unreadable": None}
    for number, name in enumerate(house.suspicions):
        drop(house.inbox / name, number)
    assert house.settle() == 3
    assert [(job.name, job.suspicion) for job in house.ledger.queue.jobs()] == [
        ("unreadable", None),
        ("odd", 0.95),
        ("fine", 0.1),
    ]


def test_an_arrival_whose_suspicion_cannot_be_told_is_queued_all_the_same(
    house: House, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(_adapter: Adapter) -> float:
        raise RuntimeError("svd did not converge \ud800")

    house.suspect = fail
    drop(house.inbox / "mine")
    assert house.settle() == 1
    (job,) = house.ledger.queue.jobs()
    assert job.suspicion is None
    assert "svd did not converge" in capsys.readouterr().out


STEPS = {
    "before it was staged": (intake, "_copy_in"),
    "before it was known": (Registry, "arrived"),
    "before it was queued": (Queue, "add"),
    "before it was sighted": (Registry, "sighted"),
}


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("step", STEPS)
def test_a_kill_at_any_step_loses_nothing_and_queues_nothing_twice(
    house: House, monkeypatch: pytest.MonkeyPatch, step: str, after: bool
) -> None:
    digest = digest_adapter(drop(house.inbox / "mine"))
    holder, name = STEPS[step]
    real = getattr(holder, name)

    def die(*arguments: Any, **named: Any) -> None:
        if after:
            real(*arguments, **named)
        raise Killed

    house.scan()
    with monkeypatch.context() as patched:
        patched.setattr(holder, name, die)
        with pytest.raises(Killed):
            house.scan(QUIET)
    house.start()
    house.settle()
    assert [job.digest for job in house.ledger.queue.jobs()] == [digest]
    assert house.staged() == [digest]
    arrivals = [record for record in house.ledger.audit_trail() if record.kind == "arrived"]
    assert len(arrivals) == 1
    assert set(house.ledger.registry.sightings("inbox")) == {"mine"}
    house.review()
    house.start()
    assert house.settle() == 0
    assert house.ledger.broken_link() is None


def test_copies_that_a_kill_left_without_a_job_are_swept_at_the_start(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    drop(house.inbox / "gone")
    drop(house.inbox / "waiting", 1)
    house.scan()

    def die(*_: Any, **__: Any) -> None:
        raise Killed

    with monkeypatch.context() as patched:
        patched.setattr(Queue, "add", die)
        with pytest.raises(Killed):
            house.scan(QUIET)
    shutil.rmtree(house.inbox / "gone")
    house.start()
    house.settle()
    assert len(house.staged()) == 2
    assert house.reception.tidy() == 1
    assert house.staged() == [job.digest for job in house.ledger.queue.jobs()]


def test_after_a_restart_nothing_that_is_known_is_read(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(10):
        drop(house.inbox / f"adapter-{number}", number)
    assert house.settle() == 10
    house.start()
    monkeypatch.setattr("monitor.reception.receive", lambda *_, **__: pytest.fail("taken in again"))
    monkeypatch.setattr("adapters.sources.folder.missing_from", lambda *_: pytest.fail("read again"))
    assert house.settle() == 0


def test_what_cannot_be_staged_is_recorded_told_once_and_tried_again_when_it_changes(
    house: House, caplog: pytest.LogCaptureFixture
) -> None:
    mine = drop(house.inbox / "mine")
    os.mkfifo(mine / "pipe")
    for _ in range(3):
        assert house.settle() == 0
    sighting = house.ledger.registry.sightings("inbox")["mine"]
    assert sighting.digest is None
    assert "named pipe" in (sighting.reason or "")
    assert house.value("source_refused_total") == 1
    house.start()
    house.settle()
    assert house.value("source_refused_total") == 1
    (mine / "pipe").unlink()
    assert house.settle() == 1
    assert house.ledger.registry.sightings("inbox")["mine"].reason is None


def test_a_name_that_is_not_utf8_is_refused_inside_and_shown_escaped_outside(house: House) -> None:
    inside = drop(house.inbox / "inside")
    Path(os.fsdecode(os.fsencode(inside) + b"/\xff.json")).touch()
    drop(Path(os.fsdecode(os.fsencode(house.inbox) + b"/outside\xff")), 1)
    both = drop(Path(os.fsdecode(os.fsencode(house.inbox) + b"/both\xff")), 2)
    Path(os.fsdecode(os.fsencode(both) + b"/\xff.json")).touch()
    assert house.settle() == 1
    assert house.queued() == ["outside\\xff"]
    assert house.value("source_refused_total") == 2


def test_an_incomplete_adapter_is_taken_in_in_the_end_or_refused_with_the_reason(house: House) -> None:
    cut = drop(house.inbox / "cut")
    (cut / WEIGHTS).write_bytes(weights()[:-1])
    bare = drop(house.inbox / "bare", 1)
    (bare / CONFIG).unlink()
    assert house.settle() == 0
    assert house.value("source_waiting") == 2
    assert house.scan(3600) == 1
    sightings = house.ledger.registry.sightings("inbox")
    assert sightings["cut"].digest is not None
    assert sightings["cut"].reason == "adapter_model.safetensors is cut off"
    assert sightings["bare"].digest is None
    assert "adapter_config.json" in (sightings["bare"].reason or "")
    assert house.value("source_waiting") == 0


def interfering(monkeypatch: pytest.MonkeyPatch, change: Any) -> None:
    real = intake._copy_file

    def copy(source: Path, target: Path, size: int) -> tuple[int, str]:
        copied = real(source, target, size)
        change(source)
        return copied

    monkeypatch.setattr(intake, "_copy_file", copy)


@pytest.mark.parametrize("change", ["rewritten", "removed", "renamed"])
def test_what_changes_while_it_is_copied_is_tried_again_later_and_never_queued_torn(
    house: House, monkeypatch: pytest.MonkeyPatch, change: str
) -> None:
    mine = drop(house.inbox / "mine")
    house.scan()

    def meanwhile(source: Path) -> None:
        if source.name != WEIGHTS or not mine.exists():
            return
        match change:
            case "rewritten":
                before = source.stat()
                source.write_bytes(weights(7))
                os.utime(source, ns=(before.st_atime_ns, before.st_mtime_ns))
            case "removed":
                shutil.rmtree(mine)
            case "renamed":
                mine.rename(house.inbox / "renamed")

    with monkeypatch.context() as patched:
        interfering(patched, meanwhile)
        assert house.scan(QUIET) == 0
    assert house.staged() == []
    assert house.ledger.registry.sightings("inbox") == {}
    house.settle()
    house.settle()
    expected = {"rewritten": ["mine"], "removed": [], "renamed": ["renamed"]}[change]
    assert house.queued() == expected
    for job in house.ledger.queue.jobs():
        assert job.digest == digest_adapter(house.inbox / job.name)


def test_a_full_disk_loses_nothing_is_told_once_and_ends_when_there_is_space(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(3):
        drop(house.inbox / f"adapter-{number}", number)
    house.scan()
    tried = []

    def full(*_: Any) -> None:
        tried.append(1)
        raise OSError(errno.ENOSPC, "No space left on device", "staging")

    with monkeypatch.context() as patched:
        patched.setattr(intake, "_copy_file", full)
        assert house.scan(QUIET) == 0
        assert len(tried) == 1, "the others would fare alike"
        assert house.scan(0.25) == 0
    assert house.staged() == []
    assert house.ledger.registry.sightings("inbox") == {}
    assert house.value("source_waiting") == 3
    house.settle()
    assert house.queued() == ["adapter-0", "adapter-1", "adapter-2"]


def test_a_source_that_is_away_is_no_success_and_forgets_nothing(house: House) -> None:
    drop(house.inbox / "mine")
    house.settle()
    succeeded = house.value("source_last_success_timestamp_seconds")
    house.inbox.rename(house.root / "away")
    house.scan(100)
    assert house.value("source_last_success_timestamp_seconds") == succeeded
    assert set(house.ledger.registry.sightings("inbox")) == {"mine"}
    (house.root / "away").rename(house.inbox)
    house.scan(100)
    assert house.value("source_last_success_timestamp_seconds") == 1_790_000_000 + house.now


def test_what_a_source_holds_no_more_is_forgotten_but_stays_known(house: House) -> None:
    digest = digest_adapter(drop(house.inbox / "mine"))
    drop(house.inbox / "other", 1)
    house.settle()
    shutil.rmtree(house.inbox / "mine")
    house.scan()
    assert set(house.ledger.registry.sightings("inbox")) == {"other"}
    assert house.ledger.registry.get(digest) is not None


def test_idle_scans_write_nothing_for_five_seconds(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    house.scan()
    first = house.value("source_last_success_timestamp_seconds")
    for _ in range(19):
        house.scan(0.25)
    assert house.value("source_last_success_timestamp_seconds") == first
    house.scan(0.25)
    assert house.value("source_last_success_timestamp_seconds") == (first or 0) + 5


def test_of_two_sources_names_never_collide(house: House) -> None:
    house.labels = ["inbox", "second"]
    house.start()
    drop(house.inbox / "latest")
    drop(house.root / "second" / "latest", 1)
    drop(house.root / "second", 2)
    house.settle()
    assert house.queued() == ["inbox/latest", "second/latest", "second/second"]
    for job in house.ledger.queue.jobs():
        known = house.ledger.registry.get(job.digest)
        assert known is not None
        assert known.parent is None, "what only shares a name in another source is no parent"


def test_every_version_of_latest_is_an_arrival_whose_parent_is_guessed_from_the_one_before(house: House) -> None:
    digests = []
    for number in range(3):
        digests.append(digest_adapter(drop(house.inbox / "latest", number)))
        house.settle()
    found = [house.ledger.registry.get(digest) for digest in digests]
    assert [(one.parent, one.parent_source) for one in found if one] == [
        (None, None),
        (digests[0], "guessed"),
        (digests[1], "guessed"),
    ]


@pytest.mark.slow
def test_a_thousand_adapters_at_once_are_all_queued_and_a_later_one_too() -> None:
    memory = Path("/dev/shm")  # what is asked here is not how fast a disk keeps seven thousand small steps
    with (
        tempfile.TemporaryDirectory(dir=memory if os.access(memory, os.W_OK) else None) as folder,
        StateFolder.open(Path(folder) / "state") as state,
        Ledger(state.ledger_path) as ledger,
    ):
        house = House(Path(folder), state, ledger)
        for number in range(1000):
            drop(house.inbox / f"adapter-{number}", number)
        assert house.settle() == 1000
        drop(house.inbox / "late", 5000)
        assert house.settle() == 1
        assert house.ledger.queue.depths()["queued"] == 1001
        assert len(house.staged()) == 1001
