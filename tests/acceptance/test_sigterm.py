"""SIGTERM at every durable step of a review: the job is given back, and the next worker ends what was begun."""

from __future__ import annotations

import signal
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from plain_world import PlainTools, write_adapter
from sqlalchemy import Connection, Engine, event

from monitor.audit_check import check_audit
from monitor.exit_codes import Terminated, end_on_sigterm
from monitor.ledger import Ledger
from monitor.pipeline import receive
from monitor.state import StateFolder
from monitor.worker import Worker
from policies.policy import Policy

POLICY = Policy(name="plain")


@contextmanager
def terminated_at(step: int) -> Iterator[list[int]]:
    """A real SIGTERM when the ledger begins or commits its ``step``-th transaction; yields the steps that were made."""
    made: list[int] = []

    def count(_connection: Connection) -> None:
        made.append(len(made) + 1)
        if made[-1] == step:
            signal.raise_signal(signal.SIGTERM)

    before = signal.getsignal(signal.SIGTERM)
    end_on_sigterm()
    for moment in ("begin", "commit"):
        event.listen(Engine, moment, count)
    try:
        yield made
    finally:
        for moment in ("begin", "commit"):
            event.remove(Engine, moment, count)
        signal.signal(signal.SIGTERM, before)


class House:
    """One state folder with a mendable adapter in its queue."""

    def __init__(self, folder: Path, state: StateFolder, ledger: Ledger) -> None:
        self.state, self.ledger = state, ledger
        self.asked: Counter[str] = Counter()
        adapter = receive(write_adapter(folder / "agent", "harm, mendable"), ledger, state, source="test")
        ledger.queue.add(adapter.digest, adapter.name, "arrival")

    def work(self) -> None:
        tools = PlainTools(self.ledger, lambda key: self.asked.update([key]), POLICY)
        Worker(self.ledger, self.state, lambda _repeat: tools, "me").work()

    def end(self) -> dict[str, str | None]:
        return {known.name: known.place for known in self.ledger.registry.newest()}


@contextmanager
def opened(folder: Path) -> Iterator[House]:
    with StateFolder.open(folder / "state") as state, Ledger(state.ledger_path) as ledger:
        yield House(folder, state, ledger)


def test_sigterm_at_any_step_gives_the_job_back_and_the_next_worker_ends_the_review(tmp_path: Path) -> None:
    ends, interrupted = [], 0
    for step in range(1, 500):
        with opened(tmp_path / str(step)) as house:
            with terminated_at(step) as made:
                try:
                    house.work()
                except Terminated:
                    interrupted += 1
            jobs = house.ledger.queue.jobs()
            assert [job.state for job in jobs if job.owner is None] == ["queued"] * len(jobs), f"at step {step}"
            assert [job.attempts for job in jobs] == [0] * len(jobs), f"at step {step}"
            house.work()
            assert house.ledger.queue.jobs() == []
            assert max(house.asked.values()) == 1 or step_repeats(house), f"at step {step}"
            assert check_audit(house.ledger).problems == (), f"at step {step}"
            assert sum(review.finished is not None for review in house.ledger.reviews()) == 1
            ends.append(house.end())
        if len(made) < step:
            break
    assert interrupted > 40
    assert all(end == {"agent": "quarantined", "agent+project": "promoted"} for end in ends)


def step_repeats(house: House) -> bool:
    """Whether at most the one judgement under way was asked for again: it was made, and not kept yet."""
    return sum(count - 1 for count in house.asked.values()) == 1


@pytest.mark.parametrize("times", [1, 3])
def test_sigterm_again_and_again_ends_nothing_but_time(tmp_path: Path, times: int) -> None:
    with opened(tmp_path) as house:
        for step in range(5, 5 + 7 * times, 7):
            with terminated_at(step), pytest.raises(Terminated):
                house.work()
        house.work()
        assert house.end() == {"agent": "quarantined", "agent+project": "promoted"}
