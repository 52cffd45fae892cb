"""Properties of the queue: no job is lost, none is done twice, the most urgent and longest waiting is next."""

from __future__ import annotations

import math
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from ledger_world import ARRIVED, CONTEXT, NOON, QUARANTINE, Clock

from adapters.adapter import Adapter
from monitor.ledger import Ledger, context_digest
from monitor.ledger.queue import LONGEST_PAUSE, OVERTAKEN_FOR

ONE, TWO, THREE = (f"sha256-{digit * 64}" for digit in "123")
UNDER = context_digest(CONTEXT)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def ledger(tmp_path: Path, clock: Clock) -> Iterator[Ledger]:
    with Ledger(tmp_path / "ledger.db", clock) as opened:
        yield opened


def leased(ledger: Ledger, owner: str = "me") -> str | None:
    job = ledger.queue.lease(owner, 60)
    return None if job is None else job.digest


def reviewed(ledger: Ledger, digest: str) -> None:
    record = ledger.open_review(Adapter(Path("/x"), digest, "x"), CONTEXT)
    record.record_decision(digest, QUARANTINE)
    record.close()


def test_the_most_urgent_goes_first_and_among_equals_the_one_that_waits_longest(ledger: Ledger) -> None:
    for digest, reason in ((ONE, "re-review"), (TWO, "arrival"), (THREE, "requested"), (ARRIVED.digest, "arrival")):
        assert ledger.queue.add(digest, "x", reason)  # type: ignore[arg-type]
    assert [job.digest for job in ledger.queue.jobs()] == [THREE, TWO, ARRIVED.digest, ONE]
    assert [leased(ledger) for _ in range(5)] == [THREE, TWO, ARRIVED.digest, ONE, None]


def test_within_a_class_the_more_suspicious_goes_first_the_unknown_before_it_and_among_equals_the_older(
    ledger: Ledger,
) -> None:
    suspicions = (0.2, 0.9, None, 0.9, math.nan, 0.0)
    digests = [f"sha256-{number:064x}" for number in range(len(suspicions))]
    for digest, suspicion in zip(digests, suspicions, strict=True):
        ledger.queue.add(digest, "x", "arrival", suspicion=suspicion)
    ledger.queue.add(ONE, "x", "re-review", suspicion=1.0)
    ledger.queue.add(TWO, "x", "requested", suspicion=0.0)
    expected = [TWO, *(digests[place] for place in (2, 4, 1, 3, 0, 5)), ONE]
    assert [job.digest for job in ledger.queue.jobs()] == expected
    assert [job.digest for job in ledger.browse.jobs("queued", 10)] == expected
    assert ledger.queue.jobs()[2].suspicion is None, "what is no number is unknown"
    assert [leased(ledger) for _ in expected] == expected


def test_nobody_waits_for_ever_behind_a_stream_of_the_suspicious(ledger: Ledger, clock: Clock) -> None:
    ledger.queue.add(ONE, "x", "arrival", suspicion=0.1)
    ledger.queue.add(TWO, "x", "arrival", suspicion=0.2)
    clock.pass_seconds(OVERTAKEN_FOR.total_seconds() - 1)
    ledger.queue.add(THREE, "x", "arrival", suspicion=0.9)
    assert [job.digest for job in ledger.queue.jobs()] == [THREE, TWO, ONE]
    clock.pass_seconds(1)
    assert [job.digest for job in ledger.queue.jobs()] == [ONE, TWO, THREE]
    ledger.queue.add(ARRIVED.digest, "x", "requested")
    assert [leased(ledger) for _ in range(4)] == [ARRIVED.digest, ONE, TWO, THREE], "a higher class is not waited out"


def test_a_digest_has_one_open_job_which_takes_over_the_higher_priority(ledger: Ledger) -> None:
    assert ledger.queue.add(ONE, "x", "re-review")
    assert not ledger.queue.add(ONE, "y", "re-review")
    ledger.queue.add(TWO, "x", "arrival")
    assert not ledger.queue.add(ONE, "y", "requested")
    assert not ledger.queue.add(ONE, "y", "arrival")
    assert [(job.digest, job.reason) for job in ledger.queue.jobs()] == [(ONE, "requested"), (TWO, "arrival")]


def test_who_asks_for_a_failed_job_does_not_wait_for_its_pause(ledger: Ledger) -> None:
    ledger.queue.add(ONE, "x", "arrival")
    leased(ledger)
    ledger.queue.retry(ONE, "me", "judge down", 300)
    assert leased(ledger) is None
    ledger.queue.add(ONE, "x", "requested")
    assert leased(ledger) == ONE


def test_what_was_reviewed_under_this_very_context_is_not_queued_again_unless_asked_for(ledger: Ledger) -> None:
    reviewed(ledger, ONE)
    assert not ledger.queue.add(ONE, "x", "arrival", context_digest=UNDER)
    assert ledger.queue.add(ONE, "x", "arrival", context_digest="another")
    ledger.queue.lease("me", 60)
    ledger.queue.finish(ONE, "me")
    assert ledger.queue.add(ONE, "x", "requested", repeat=ledger.times_reviewed(ONE))
    assert ledger.queue.jobs()[0].repeat == 1


def test_an_unfinished_review_does_not_count_as_reviewed(ledger: Ledger) -> None:
    ledger.open_review(ARRIVED, CONTEXT)
    assert ledger.queue.add(ARRIVED.digest, "x", "arrival", context_digest=UNDER)


def test_the_job_ends_in_the_same_transaction_as_its_review(ledger: Ledger) -> None:
    ledger.queue.add(ONE, "x", "arrival")
    ledger.queue.add(TWO, "x", "arrival")
    assert leased(ledger) == ONE
    reviewed(ledger, ONE)
    assert [job.digest for job in ledger.queue.jobs()] == [TWO]


def test_a_job_that_merely_waits_is_not_ended_by_a_review_of_others(ledger: Ledger) -> None:
    ledger.queue.add(ONE, "x", "arrival")
    reviewed(ledger, ONE)
    assert [job.digest for job in ledger.queue.jobs()] == [ONE]


def test_a_lease_is_kept_by_heartbeats_and_lost_without(ledger: Ledger, clock: Clock) -> None:
    ledger.queue.add(ONE, "x", "arrival")
    assert leased(ledger, "first") == ONE
    clock.pass_seconds(50)
    assert ledger.queue.heartbeat(ONE, "first", 60, "battery", 3, 10)
    clock.pass_seconds(50)
    assert leased(ledger, "second") is None
    job = ledger.queue.job(ONE)
    assert job is not None
    assert (job.stage, job.done, job.total) == ("battery", 3, 10)
    clock.pass_seconds(20)
    assert leased(ledger, "second") == ONE
    assert not ledger.queue.heartbeat(ONE, "first", 60, "battery", 4, 10)
    ledger.queue.finish(ONE, "first")
    ledger.queue.bury(ONE, "first", "no")
    ledger.queue.retry(ONE, "first", "no", 1)
    job = ledger.queue.job(ONE)
    assert job is not None
    assert (job.owner, job.state, job.attempts, job.stage, job.error) == ("second", "running", 2, None, None)


def test_what_is_given_back_untouched_is_due_at_once_and_not_counted(ledger: Ledger) -> None:
    ledger.queue.add(ONE, "x", "arrival")
    leased(ledger)
    ledger.queue.give_back(ONE, "me")
    ledger.queue.give_back(ONE, "me")
    job = ledger.queue.lease("me", 60)
    assert job is not None
    assert job.attempts == 1


def test_what_a_killed_process_left_running_is_queued_again_and_counted(ledger: Ledger) -> None:
    ledger.queue.add(ONE, "x", "arrival")
    leased(ledger)
    assert ledger.queue.reclaim() == 1
    job = ledger.queue.lease("me", 60)
    assert job is not None
    assert job.attempts == 2


def test_a_failed_job_waits_its_pause(ledger: Ledger, clock: Clock) -> None:
    ledger.queue.add(ONE, "x", "arrival")
    leased(ledger)
    ledger.queue.retry(ONE, "me", "judge down", 60)
    clock.pass_seconds(59)
    assert leased(ledger) is None
    clock.pass_seconds(1)
    assert leased(ledger) == ONE
    assert ledger.queue.jobs()[0].error == "judge down"


@pytest.mark.parametrize("hours", [-24, 24])
def test_a_clock_that_jumps_by_a_day_holds_no_job_back(ledger: Ledger, clock: Clock, hours: float) -> None:
    ledger.queue.add(ONE, "x", "arrival")
    leased(ledger)
    ledger.queue.retry(ONE, "me", "judge down", 60)
    ledger.queue.add(TWO, "x", "arrival")
    clock.pass_seconds(hours * 3600)
    assert {leased(ledger), leased(ledger)} == {ONE, TWO}


def test_no_pause_is_longer_than_an_hour(ledger: Ledger, clock: Clock) -> None:
    ledger.queue.add(ONE, "x", "arrival")
    leased(ledger)
    ledger.queue.retry(ONE, "me", "judge down", 10**9)
    clock.pass_seconds(LONGEST_PAUSE.total_seconds())
    assert leased(ledger) == ONE


def test_a_dead_job_waits_for_a_person_and_no_second_arrival_revives_it(ledger: Ledger) -> None:
    ledger.queue.add(ONE, "x", "arrival")
    leased(ledger)
    ledger.queue.bury(ONE, "me", "no suite")
    assert ledger.queue.depths() == {"queued": 0, "running": 0, "dead": 1}
    assert not ledger.queue.add(ONE, "x", "arrival")
    assert leased(ledger) is None
    assert ledger.queue.oldest() is None
    assert ledger.queue.revive() == 1
    job = ledger.queue.lease("me", 60)
    assert job is not None
    assert (job.attempts, job.error) == (1, None)


def test_a_request_revives_a_dead_job(ledger: Ledger) -> None:
    ledger.queue.add(ONE, "x", "arrival")
    leased(ledger)
    ledger.queue.bury(ONE, "me", "no suite")
    assert ledger.queue.add(ONE, "x", "requested")
    assert leased(ledger) == ONE


def test_many_workers_at_once_never_get_the_same_job(tmp_path: Path, ledger: Ledger) -> None:
    digests = [f"sha256-{number:064x}" for number in range(40)]
    for digest in digests:
        ledger.queue.add(digest, "x", "arrival")
    with Ledger(tmp_path / "ledger.db", Clock()) as other, ThreadPoolExecutor(8) as threads:
        got = [threads.submit(leased, one, f"{n}") for n in range(20) for one in (ledger, other)]
        assert sorted(str(done.result()) for done in got) == digests


def test_it_tells_how_many_wait_and_since_when(ledger: Ledger, clock: Clock) -> None:
    assert ledger.queue.oldest() is None
    ledger.queue.add(ONE, "x", "arrival")
    clock.pass_seconds(5)
    ledger.queue.add(TWO, "x", "arrival")
    leased(ledger)
    assert ledger.queue.depths() == {"queued": 1, "running": 1, "dead": 0}
    assert ledger.queue.oldest() == NOON
