"""Properties of the upkeep: nothing in service is touched, nothing is lost, and every step may be repeated."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

import pytest
from plain_world import CONTEXT, Clock, PlainTools, Says, write_adapter
from sqlalchemy import text

from adapters.adapter import Adapter, digest_adapter
from monitor.audit_check import check_audit
from monitor.configuration import RetentionSettings
from monitor.ledger import Ledger, context_digest
from monitor.overrides import apply_overrides
from monitor.pipeline import receive, review_adapter
from monitor.review import Context, Review
from monitor.state import StateFolder
from monitor.upkeep import finish_interrupted, queue_stale, remove_expired, retire_superseded

RETENTION = RetentionSettings(quarantine_days=90, retired_days=30)
WEEK = timedelta(days=7)
UNDER = context_digest(CONTEXT)


@dataclass
class House:
    state: StateFolder
    ledger: Ledger
    clock: Clock
    inbox: Path
    context: Context = field(default_factory=lambda: CONTEXT)

    def receive(self, name: str, says: Says, version: object = 1) -> Adapter:
        return receive(write_adapter(self.inbox / name, says, version), self.ledger, self.state, source="inbox")

    def review(self, name: str, says: Says, version: object = 1) -> Review:
        self.clock.pass_time(seconds=1)
        return self.look_at(self.receive(name, says, version))

    def look_at(self, adapter: Adapter) -> Review:
        tools = PlainTools(self.ledger, context=self.context)
        return review_adapter(adapter, tools, self.ledger, self.state)

    def place(self, digest: str) -> str | None:
        known = self.ledger.registry.get(digest)
        assert known is not None
        return known.place

    def folders(self, digest: str) -> set[str]:
        names = ("staging", "promoted", "quarantine", "retired")
        return {name for name in names if (self.state.path / name / digest).is_dir()}

    def stale(self, context: Context = CONTEXT) -> dict[str, int]:
        """Queue what is stale, and return the repeat of each job in the queue."""
        queue_stale(self.ledger, context_digest(context), WEEK, self.clock())
        return {job.digest: job.repeat for job in self.ledger.queue.jobs()}

    def expire(self) -> list[str]:
        return remove_expired(self.ledger, self.state, RETENTION, self.clock())


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    clock = Clock()
    with StateFolder.open(tmp_path / "state") as state, Ledger(state.ledger_path, clock) as ledger:
        yield House(state, ledger, clock, tmp_path / "inbox")
        assert check_audit(ledger).problems == ()
        promoted = {known.digest for known in ledger.registry.newest(place="promoted")}
        assert {path.name for path in state.promoted.glob("sha256-*")} == promoted


class TestRetiring:
    def test_what_newer_versions_of_a_name_replaced_leaves_the_promoted_folder_whole(self, house: House) -> None:
        digests = [house.review("latest", "kind", version).arrival.digest for version in range(4)]
        assert sorted(retire_superseded(house.ledger, house.state)) == sorted(digests[:2])
        assert [house.folders(digest) for digest in digests] == [{"retired"}] * 2 + [{"promoted"}] * 2
        assert [house.place(digest) for digest in digests] == ["retired"] * 2 + ["promoted"] * 2
        assert digest_adapter(house.state.retired / digests[0]) == digests[0]
        assert retire_superseded(house.ledger, house.state) == []

    def test_what_another_name_still_stands_for_stays(self, house: House) -> None:
        first = house.review("latest", "kind", 0).arrival.digest
        house.review("stable", "kind", 0)
        for version in (1, 2, 3):
            house.review("latest", "kind", version)
        assert first not in retire_superseded(house.ledger, house.state)

    def test_a_mended_version_stands_for_the_one_that_arrived(self, house: House) -> None:
        mended = [house.review("latest", "harm, mendable", version).examinations[1].digest for version in range(3)]
        assert house.ledger.fleet.aliases() == {"latest": mended[::-1]}
        assert retire_superseded(house.ledger, house.state) == mended[:1]

    def test_a_newer_version_that_was_not_promoted_replaces_nothing(self, house: House) -> None:
        house.review("latest", "kind", 0)
        for version in range(1, 4):
            house.review("latest", "harm", version)
        assert retire_superseded(house.ledger, house.state) == []

    def test_an_old_version_that_a_person_released_stays_until_a_newer_one_is_promoted(self, house: House) -> None:
        digests = [house.review("latest", "kind", version).arrival.digest for version in range(4)]
        retire_superseded(house.ledger, house.state)
        house.ledger.overrides.add(digests[0], "release", "roll back", "ann")
        apply_overrides(house.ledger, house.state)
        assert house.folders(digests[0]) == {"promoted"}
        assert retire_superseded(house.ledger, house.state) == []
        house.review("latest", "kind", 4)
        assert digests[0] in retire_superseded(house.ledger, house.state)

    def test_what_a_review_is_about_to_place_again_waits_for_that(self, house: House) -> None:
        old = house.review("latest", "kind", 0).arrival.digest
        for version in (1, 2):
            house.review("latest", "kind", version)
        house.ledger.queue.add(old, "latest", "requested")
        assert retire_superseded(house.ledger, house.state) == []
        assert house.ledger.queue.lease("me", 60) is not None
        house.ledger.queue.bury(old, "me", "it cannot succeed")
        assert retire_superseded(house.ledger, house.state) == [old]

    def test_a_retired_version_that_arrives_again_is_the_newest(self, house: House) -> None:
        digests = [house.review("latest", "kind", version).arrival.digest for version in range(3)]
        assert retire_superseded(house.ledger, house.state) == digests[:1]
        house.review("latest", "kind", 0)
        assert house.ledger.fleet.aliases()["latest"] == [digests[0], digests[2], digests[1]]
        assert retire_superseded(house.ledger, house.state) == [digests[1]]
        assert house.folders(digests[0]) == {"promoted"}


class TestRemoving:
    def test_files_go_when_their_time_is_over_and_records_stay(self, house: House) -> None:
        bad, vague = house.review("bad", "harm"), house.review("vague", "vague")
        house.clock.pass_time(days=89)
        assert house.expire() == []
        house.clock.pass_time(days=2)
        assert sorted(house.expire()) == sorted([bad.arrival.digest, vague.arrival.digest])
        assert house.folders(bad.arrival.digest) == set()
        assert house.place(bad.arrival.digest) == "removed"
        assert house.ledger.review(bad.id) == bad
        assert house.expire() == []

    def test_what_is_promoted_is_never_removed(self, house: House) -> None:
        digest = house.review("good", "kind").arrival.digest
        house.clock.pass_time(days=10_000)
        assert house.expire() == []
        assert house.folders(digest) == {"promoted"}

    def test_retired_adapters_go_by_their_own_time(self, house: House) -> None:
        digests = [house.review("latest", "kind", version).arrival.digest for version in range(3)]
        house.clock.pass_time(days=100)
        retire_superseded(house.ledger, house.state)
        assert house.expire() == []
        house.clock.pass_time(days=31)
        assert house.expire() == digests[:1]

    def test_what_is_about_to_be_looked_at_stays(self, house: House) -> None:
        digest = house.review("bad", "harm").arrival.digest
        house.ledger.queue.add(digest, "bad", "requested")
        house.clock.pass_time(days=100)
        assert house.expire() == []
        assert house.folders(digest) == {"quarantine"}

    def test_a_clock_that_jumps_by_a_day_removes_nothing_and_back_again_neither(self, house: House) -> None:
        digest = house.review("bad", "harm").arrival.digest
        for days in (1, -2, 1):
            house.clock.pass_time(days=days)
            assert house.expire() == []
        assert house.folders(digest) == {"quarantine"}

    def test_removed_bytes_that_arrive_again_are_placed_again(self, house: House) -> None:
        digest = house.review("bad", "harm").arrival.digest
        house.clock.pass_time(days=91)
        house.expire()
        assert house.review("bad", "harm").arrival.place == "quarantined"
        assert house.folders(digest) == {"quarantine"}

    def test_what_killed_runs_left_goes_after_a_day_unless_a_review_needs_it(self, house: House) -> None:
        waiting, queued = house.receive("waiting", "kind", 2), house.receive("queued", "harm, mendable")
        house.ledger.queue.add(queued.digest, "queued", "arrival")
        record = house.ledger.open_review(queued, CONTEXT)
        record.begin_remedy("project", queued.digest)
        reviewed = house.review("good", "kind").arrival.digest
        left = write_adapter(house.state.staging / reviewed, "kind")
        needed = write_adapter(house.state.remedied / f"{queued.digest}+project", "kind")
        orphan = write_adapter(house.state.remedied / f"{reviewed}+project", "kind")
        house.expire()
        assert left.is_dir()
        assert orphan.is_dir()
        for folder in (waiting.path, queued.path, left, needed, orphan):
            os.utime(folder, (house.clock().timestamp(),) * 2)
        house.clock.pass_time(days=2)
        house.expire()
        assert not left.is_dir()
        assert not orphan.is_dir()
        assert waiting.path.is_dir()
        assert queued.path.is_dir()
        assert needed.is_dir()


class TestLookingAgain:
    def test_what_is_deployed_is_looked_at_again_after_its_time_with_another_seed_each_time(self, house: House) -> None:
        digest = house.review("good", "kind").arrival.digest
        house.review("bad", "harm")
        assert house.stale() == {}
        house.clock.pass_time(days=8)
        assert house.stale() == {digest: 1}
        assert house.stale() == {digest: 1}, "it is queued once"
        assert [job.reason for job in house.ledger.queue.jobs()] == ["re-review"]
        assert house.ledger.queue.lease("me", 60) is not None
        house.review("good", "kind")
        assert house.stale() == {}
        house.clock.pass_time(days=8)
        assert house.stale() == {digest: 2}

    def test_a_mended_adapter_was_looked_at_within_the_review_of_its_arrival(self, house: House) -> None:
        review = house.review("latest", "harm, mendable")
        mended = review.examinations[1].digest
        assert house.place(mended) == "promoted"
        assert house.stale() == {}
        house.clock.pass_time(days=8)
        assert house.stale() == {mended: 1}

    def test_another_context_is_a_reason_at_once_and_an_old_one_that_comes_back_too(self, house: House) -> None:
        digest = house.review("good", "kind").arrival.digest
        other = CONTEXT.model_copy(update={"judge": "moved"})
        assert house.stale(other) == {digest: 0}
        house.ledger.queue.lease("me", 60)
        house.context = other
        house.review("good", "kind")
        assert house.stale(other) == {}
        assert house.stale(CONTEXT) == {digest: 1}

    def test_what_was_released_before_it_was_ever_reviewed_is_looked_at(self, house: House) -> None:
        adapter = house.receive("good", "kind")
        house.ledger.overrides.add(adapter.digest, "release", "wanted", "ann")
        apply_overrides(house.ledger, house.state)
        assert house.stale() == {adapter.digest: 0}

    def test_what_was_retired_or_quarantined_is_left_alone(self, house: House) -> None:
        for version in range(3):
            house.review("latest", "kind", version)
        house.review("bad", "harm")
        retired = retire_superseded(house.ledger, house.state)
        house.clock.pass_time(days=8)
        assert len(house.stale()) == 2
        assert not set(retired) & set(house.stale())


class TestInterrupted:
    @pytest.mark.parametrize("says", ["kind", "harm", "vague"])
    @pytest.mark.parametrize("moved", [False, True])
    def test_a_placement_that_was_begun_is_ended_whatever_the_policy_is_now(
        self, house: House, says: Says, moved: bool
    ) -> None:
        adapter = house.receive("one", says)
        house.look_at(adapter)
        place, folders = house.place(adapter.digest), house.folders(adapter.digest)
        if not moved:
            house.receive("one", says)
        _unfinish(house, adapter.digest)
        assert finish_interrupted(house.ledger, house.state) == [adapter.digest]
        assert house.place(adapter.digest) == place
        assert house.folders(adapter.digest) - {"staging"} == folders
        assert finish_interrupted(house.ledger, house.state) == []

    @pytest.mark.parametrize(("says", "word"), [("kind", "block"), ("harm", "release")])
    def test_a_persons_word_since_decides_where_it_ends(self, house: House, says: Says, word: str) -> None:
        adapter = house.receive("one", says)
        house.look_at(adapter)
        _unfinish(house, adapter.digest)
        house.ledger.overrides.add(adapter.digest, word, "because", "ann")  # type: ignore[arg-type]
        finish_interrupted(house.ledger, house.state)
        assert house.folders(adapter.digest) - {"staging"} == {"quarantine" if word == "block" else "promoted"}

    def test_a_finished_review_gets_its_files(self, house: House) -> None:
        review = house.review("good", "kind")
        finish_interrupted(house.ledger, house.state)
        assert (house.state.reviews / review.id / "review.json").read_text().startswith("{")

    def test_an_arrival_that_was_recorded_and_not_queued_is_queued_whatever_its_source_holds_now(
        self, house: House
    ) -> None:
        lost = house.receive("latest", "kind", 1)
        house.receive("latest", "kind", 2)
        reviewed = house.review("other", "kind", 3).arrival.digest
        write_adapter(house.state.staging / reviewed, "kind", 3)
        finish_interrupted(house.ledger, house.state)
        jobs = {job.digest: job.reason for job in house.ledger.queue.jobs()}
        assert jobs[lost.digest] == "arrival"
        assert len(jobs) == 2, "what was reviewed is not"

    def test_in_an_empty_folder_there_is_nothing_to_do(self, house: House) -> None:
        assert finish_interrupted(house.ledger, house.state) == []


def _unfinish(house: House, digest: str) -> None:
    """Let a placement look as a kill between the move and its record leaves it, in a review that is not done."""
    with house.ledger._database.writing() as session:
        session.execute(text("UPDATE placements SET finished = NULL"))
        session.execute(text("UPDATE reviews SET finished = NULL"))
