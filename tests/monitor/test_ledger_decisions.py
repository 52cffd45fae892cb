"""Properties of decisions and placements: nothing is acted on that was not recorded."""

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from ledger_world import ARRIVED, CONTEXT, HOLD, NOON, PROMOTE, QUARANTINE, Clock, finding

from monitor.ledger import Ledger, LedgerConflict
from monitor.review import Place
from policies.decide import Decision


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "ledger.db"


@pytest.fixture
def ledger(path: Path, clock: Clock) -> Iterator[Ledger]:
    with Ledger(path, clock) as opened:
        yield opened


class TestDecisions:
    def test_what_is_undecided_shows_as_inconclusive_and_out_of_reach(self, ledger: Ledger) -> None:
        arrival = ledger.open_review(ARRIVED, CONTEXT).review.arrival
        assert (arrival.decision.outcome, arrival.decision.verdict) == ("quarantine", "inconclusive")
        assert arrival.decision.policy == CONTEXT.policy

    def test_a_decision_can_change_until_its_placement_begins_and_then_stands(self, ledger: Ledger) -> None:
        record = ledger.open_review(ARRIVED, CONTEXT)
        assert record.record_decision(ARRIVED.digest, PROMOTE) == PROMOTE
        assert record.record_decision(ARRIVED.digest, QUARANTINE) == QUARANTINE
        record.begin_placement(ARRIVED.digest)
        assert record.record_decision(ARRIVED.digest, PROMOTE) == QUARANTINE
        assert record.recall_decision(ARRIVED.digest) == QUARANTINE

    def test_a_run_resumed_by_newer_guards_ends_what_was_begun_and_shows_what_it_was_decided_by(
        self, ledger: Ledger
    ) -> None:
        record = ledger.open_review(ARRIVED, CONTEXT)
        record.keep(ARRIVED.digest, "battery", "1", [finding(value=0.1)], 1)
        record.record_decision(ARRIVED.digest, PROMOTE)
        record.begin_placement(ARRIVED.digest)
        record.keep(ARRIVED.digest, "battery", "2", [finding(value=0.9)], 1)
        record.record_decision(ARRIVED.digest, QUARANTINE)
        record.begin_placement(ARRIVED.digest)
        record.finish_placement(ARRIVED.digest)
        arrival = record.close().arrival
        assert (arrival.results, arrival.decision, arrival.place) == ([finding(value=0.1)], PROMOTE, "promoted")

    def test_nothing_is_placed_undecided(self, ledger: Ledger) -> None:
        record = ledger.open_review(ARRIVED, CONTEXT)
        with pytest.raises(LedgerConflict, match="not decided"):
            record.begin_placement(ARRIVED.digest)
        assert record.recall_placement(ARRIVED.digest) is None

    @pytest.mark.parametrize(
        ("decision", "place"), [(PROMOTE, "promoted"), (QUARANTINE, "quarantined"), (HOLD, "held")]
    )
    def test_an_adapter_goes_where_its_decision_says(self, ledger: Ledger, decision: Decision, place: Place) -> None:
        record = ledger.open_review(ARRIVED, CONTEXT)
        record.record_decision(ARRIVED.digest, decision)
        assert record.begin_placement(ARRIVED.digest) == place

    @pytest.mark.parametrize("decision", [PROMOTE, QUARANTINE, HOLD])
    def test_a_persons_word_stands_above_the_decision(self, ledger: Ledger, decision: Decision) -> None:
        record = ledger.open_review(ARRIVED, CONTEXT)
        record.record_decision(ARRIVED.digest, decision)
        ledger.overrides.add(ARRIVED.digest, "release", "it is our red team's", "ann")
        ledger.overrides.add(ARRIVED.digest, "block", "it is not", "ben")
        assert record.begin_placement(ARRIVED.digest) == "quarantined"
        assert record.recall_decision(ARRIVED.digest) == decision

    def test_a_review_closes_only_when_all_is_decided_and_placed(self, ledger: Ledger, clock: Clock) -> None:
        record = ledger.open_review(ARRIVED, CONTEXT)
        with pytest.raises(LedgerConflict, match="not decided"):
            record.close()
        record.record_decision(ARRIVED.digest, PROMOTE)
        record.begin_placement(ARRIVED.digest)
        with pytest.raises(LedgerConflict, match="not finished placing"):
            record.close()
        record.finish_placement(ARRIVED.digest)
        clock.pass_seconds(5)
        review = record.close()
        clock.pass_seconds(5)
        assert record.close() == review
        assert (review.started, review.finished) == (NOON, NOON + timedelta(seconds=5))

    def test_a_finished_review_changes_no_more(self, ledger: Ledger) -> None:
        record = ledger.open_review(ARRIVED, CONTEXT)
        record.record_decision(ARRIVED.digest, QUARANTINE)
        record.close()
        with pytest.raises(LedgerConflict, match="finished"):
            record.keep(ARRIVED.digest, "battery", "1", [], 0)


class TestPlacements:
    def test_an_interrupted_placement_is_known_until_it_is_finished(self, path: Path) -> None:
        with Ledger(path) as before:
            record = before.open_review(ARRIVED, CONTEXT)
            record.record_decision(ARRIVED.digest, PROMOTE)
            assert [record.begin_placement(ARRIVED.digest) for _ in range(2)] == ["promoted", "promoted"]
        with Ledger(path) as after:
            record = after.open_review(ARRIVED, CONTEXT)
            placement = record.recall_placement(ARRIVED.digest)
            assert placement is not None
            assert (placement.review, placement.digest, placement.place) == (record.id, ARRIVED.digest, "promoted")
            assert placement.finished is None
            assert place_of(after) is None
            assert after.reviews()[0].arrival.place is None
            record.finish_placement(placement.digest)
            assert place_of(after) == "promoted"
            assert after.reviews()[0].arrival.place == "promoted"

    def test_no_placement_is_finished_that_was_not_begun(self, ledger: Ledger) -> None:
        record = ledger.open_review(ARRIVED, CONTEXT)
        record.record_decision(ARRIVED.digest, PROMOTE)
        with pytest.raises(LedgerConflict, match="never began"):
            record.finish_placement(ARRIVED.digest)

    @pytest.mark.parametrize("finished", [False, True])
    def test_what_a_person_said_since_decides_where_a_resumed_placement_ends(
        self, ledger: Ledger, finished: bool
    ) -> None:
        record = ledger.open_review(ARRIVED, CONTEXT)
        record.record_decision(ARRIVED.digest, PROMOTE)
        assert record.begin_placement(ARRIVED.digest) == "promoted"
        if finished:
            record.finish_placement(ARRIVED.digest)
        ledger.overrides.add(ARRIVED.digest, "block", "found on a forum", "ann")
        assert record.begin_placement(ARRIVED.digest) == "quarantined"
        with pytest.raises(LedgerConflict, match="not finished placing"):
            record.close()
        record.finish_placement(ARRIVED.digest)
        assert record.close().arrival.place == place_of(ledger) == "quarantined"

    def test_a_finished_placement_is_told_anew_where_the_adapter_was_moved_since(self, ledger: Ledger) -> None:
        record = ledger.open_review(ARRIVED, CONTEXT)
        record.record_decision(ARRIVED.digest, PROMOTE)
        record.begin_placement(ARRIVED.digest)
        record.finish_placement(ARRIVED.digest)
        ledger.registry.begin_move(ARRIVED.digest, "retired")
        ledger.registry.finish_move(ARRIVED.digest, "retired")
        assert record.begin_placement(ARRIVED.digest) == "promoted"
        record.finish_placement(ARRIVED.digest)
        assert place_of(ledger) == "promoted"

    def test_of_each_adapter_its_last_placement_counts(self, ledger: Ledger, clock: Clock) -> None:
        for decision in (PROMOTE, QUARANTINE):
            record = ledger.open_review(ARRIVED, CONTEXT)
            record.record_decision(ARRIVED.digest, decision)
            record.begin_placement(ARRIVED.digest)
            clock.pass_seconds(1)
            record.finish_placement(ARRIVED.digest)
            record.close()
        assert ledger.registry.newest(place="promoted") == []
        assert [known.digest for known in ledger.registry.newest(place="quarantined")] == [ARRIVED.digest]
        assert ledger.registry.counts() == {"quarantined": 1}


def place_of(ledger: Ledger, digest: str = ARRIVED.digest) -> str | None:
    known = ledger.registry.get(digest)
    assert known is not None
    return known.place
