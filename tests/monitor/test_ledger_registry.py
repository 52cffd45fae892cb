"""Properties of what is known of adapters: names, parents, families, places, and what names stand for."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
from ledger_world import ARRIVED, CONTEXT, MENDED, PROMOTE, QUARANTINE, Clock

from adapters.adapter import Adapter
from monitor.ledger import Ledger, LedgerConflict
from monitor.ledger.registry import Known
from monitor.ledger.service_tables import ParentSource

OTHER = Adapter(Path("/inbox/other"), "sha256-" + "d" * 64, "other")


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def ledger(tmp_path: Path, clock: Clock) -> Iterator[Ledger]:
    with Ledger(tmp_path / "ledger.db", clock) as opened:
        yield opened


def known(ledger: Ledger, adapter: Adapter) -> Known:
    found = ledger.registry.get(adapter.digest)
    assert found is not None
    return found


def mend(ledger: Ledger, arrival: Adapter, mended: Adapter, place: bool = True) -> None:
    """Review an arrival that is mended, and promote the mended one."""
    record = ledger.open_review(arrival, CONTEXT)
    record.record_decision(arrival.digest, QUARANTINE)
    record.begin_examination(mended, "project")
    record.record_decision(mended.digest, PROMOTE)
    for digest in (arrival.digest, mended.digest):
        record.begin_placement(digest)
        record.finish_placement(digest)
    record.close()


def test_the_same_bytes_under_the_same_name_are_recorded_once(ledger: Ledger) -> None:
    assert ledger.registry.arrived(ARRIVED, "inbox", None)
    assert not ledger.registry.arrived(ARRIVED, "inbox", None)
    assert len(ledger.registry.versions("fresh")) == 1
    assert [record.kind for record in ledger.audit_trail()] == ["arrived"]


def test_known_bytes_under_a_new_name_are_not_new_and_have_both_names(ledger: Ledger) -> None:
    ledger.registry.arrived(ARRIVED, "inbox", None)
    assert not ledger.registry.arrived(replace(ARRIVED, name="again"), "inbox", None)
    assert ledger.registry.names(ARRIVED.digest) == ["fresh", "again"]
    assert known(ledger, ARRIVED).name == "fresh"


def test_a_name_that_returns_to_earlier_bytes_tells_so(ledger: Ledger) -> None:
    for adapter in (ARRIVED, replace(OTHER, name="fresh"), ARRIVED):
        ledger.registry.arrived(adapter, "inbox", None)
    assert [digest for _, digest in ledger.registry.versions("fresh")] == [
        ARRIVED.digest,
        OTHER.digest,
        ARRIVED.digest,
    ]


@pytest.mark.parametrize(
    ("first", "then", "stands"),
    [
        (None, "guessed", "second"),
        (None, "declared", "second"),
        ("guessed", "declared", "second"),
        ("guessed", "guessed", "first"),
        ("declared", "guessed", "first"),
        ("declared", "declared", "first"),
    ],
)
def test_a_parent_that_is_known_on_better_grounds_stands(
    ledger: Ledger, first: ParentSource | None, then: ParentSource, stands: str
) -> None:
    ledger.registry.arrived(replace(ARRIVED, parent=first and "sha256-first"), "inbox", first)
    ledger.registry.arrived(replace(ARRIVED, parent="sha256-second"), "inbox", then)
    assert known(ledger, ARRIVED).parent == f"sha256-{stands}"
    assert known(ledger, ARRIVED).parent_source == (then if stands == "second" else first)


def test_an_arrival_without_a_parent_takes_none_away(ledger: Ledger) -> None:
    ledger.registry.arrived(replace(ARRIVED, parent=OTHER.digest), "inbox", "declared")
    ledger.registry.arrived(ARRIVED, "inbox", None)
    assert known(ledger, ARRIVED).parent == OTHER.digest


def test_nothing_is_its_own_parent(ledger: Ledger) -> None:
    ledger.registry.arrived(replace(ARRIVED, parent=ARRIVED.digest), "inbox", "declared")
    assert known(ledger, ARRIVED).parent is None
    assert known(ledger, ARRIVED).parent_source is None


def test_what_a_remedy_made_is_known_for_sure_even_where_it_arrived_first(ledger: Ledger) -> None:
    ledger.registry.arrived(replace(MENDED, parent=OTHER.digest), "inbox", "declared")
    mend(ledger, ARRIVED, MENDED)
    assert (known(ledger, MENDED).parent, known(ledger, MENDED).parent_source) == (ARRIVED.digest, "remedy")
    assert known(ledger, MENDED).arrival == MENDED.digest
    ledger.registry.arrived(replace(MENDED, parent=OTHER.digest), "inbox", "declared")
    assert known(ledger, MENDED).parent == ARRIVED.digest


def test_a_review_of_what_never_arrived_makes_no_mended_adapter_of_it(ledger: Ledger) -> None:
    ledger.open_review(replace(ARRIVED, parent=OTHER.digest), CONTEXT)
    assert known(ledger, ARRIVED).parent_source == "declared"


def test_parents_that_lie_in_a_circle_still_make_a_family(ledger: Ledger) -> None:
    ledger.registry.arrived(replace(ARRIVED, parent=OTHER.digest), "inbox", "declared")
    ledger.registry.arrived(replace(OTHER, parent=ARRIVED.digest), "inbox", "declared")
    assert {one.digest for one in ledger.registry.family(ARRIVED.digest)} == {ARRIVED.digest, OTHER.digest}


def test_a_name_stands_for_what_its_last_arrival_was_mended_to(ledger: Ledger) -> None:
    ledger.registry.arrived(ARRIVED, "inbox", None)
    mend(ledger, ARRIVED, MENDED)
    assert ledger.fleet.aliases() == {"fresh": [MENDED.digest]}


def test_a_mended_adapter_that_is_dropped_itself_stands_for_its_own_name_too(ledger: Ledger) -> None:
    ledger.registry.arrived(ARRIVED, "inbox", None)
    mend(ledger, ARRIVED, MENDED)
    ledger.registry.arrived(replace(MENDED, name="picked up"), "inbox", None)
    assert ledger.fleet.aliases() == {"fresh": [MENDED.digest], "picked up": [MENDED.digest]}


def test_two_arrivals_that_are_mended_to_the_same_bytes_both_stand_for_them(ledger: Ledger) -> None:
    for arrival in (ARRIVED, OTHER):
        ledger.registry.arrived(arrival, "inbox", None)
        mend(ledger, arrival, MENDED)
    assert ledger.fleet.aliases() == {"fresh": [MENDED.digest], "other": [MENDED.digest]}
    assert ledger.fleet.superseded() == []


def test_what_is_desired_is_what_stands_as_promoted(ledger: Ledger) -> None:
    ledger.registry.arrived(ARRIVED, "inbox", None)
    mend(ledger, ARRIVED, MENDED)
    (desired,) = ledger.fleet.desired()
    assert (desired.digest, desired.path.parts[-2:]) == (MENDED.digest, ("promoted", MENDED.digest))
    ledger.registry.begin_move(MENDED.digest, "retired")
    assert len(ledger.fleet.desired()) == 1
    ledger.registry.finish_move(MENDED.digest, "retired")
    assert ledger.fleet.desired() == []
    assert ledger.fleet.aliases() == {}


def test_what_was_never_seen_is_not_moved(ledger: Ledger) -> None:
    with pytest.raises(LedgerConflict, match="never seen"):
        ledger.registry.begin_move(ARRIVED.digest, "retired")
    with pytest.raises(LedgerConflict, match="never seen"):
        ledger.registry.finish_move(ARRIVED.digest, "retired")


def test_the_last_review_of_a_digest_is_found_whatever_it_examined_it_as(ledger: Ledger, clock: Clock) -> None:
    assert ledger.newest_review() is None
    mend(ledger, ARRIVED, MENDED)
    clock.pass_seconds(60)
    mend(ledger, ARRIVED, MENDED)
    newest = ledger.reviews()[0]
    assert ledger.last_review_of(MENDED.digest) == ledger.last_review_of(ARRIVED.digest) == newest
    assert ledger.newest_review() == newest
    assert ledger.last_review_of(OTHER.digest) is None
    assert ledger.times_reviewed(MENDED.digest) == 2


def test_counters_add_up_whoever_counts(ledger: Ledger, tmp_path: Path) -> None:
    with Ledger(tmp_path / "ledger.db") as other, ThreadPoolExecutor(4) as threads:
        for done in [
            threads.submit(one.values.count, "x_total", 2, a="b") for _ in range(25) for one in (ledger, other)
        ]:
            done.result()
    ledger.values.set("age", 3)
    ledger.values.set("age", 4)
    assert {(value.name, tuple(value.labels.items())): value.value for value in ledger.values.all()} == {
        ("x_total", (("a", "b"),)): 100,
        ("age", ()): 4,
    }
