"""Properties of the short looks: bounded, newest first, and never in a loop."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from adapters.adapter import Adapter
from monitor.ledger import Ledger
from monitor.review import Context
from policies.decide import Decision

CONTEXT = Context(base="b", base_digest="sha256-b", policy="p", policy_digest="sha256-p", suites={}, judge="j")


class Clock:
    def __init__(self) -> None:
        self.now = datetime(2026, 11, 21, 12, tzinfo=UTC)

    def __call__(self) -> datetime:
        self.now += timedelta(seconds=1)
        return self.now


def adapter(number: int, name: str = "nightly", parent: int | None = None) -> Adapter:
    return Adapter(Path("/x"), digest(number), name, None if parent is None else digest(parent))


def digest(number: int) -> str:
    return f"sha256-{number:064x}"


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    with Ledger(tmp_path / "ledger.db", Clock()) as opened:
        yield opened


def settle(ledger: Ledger, which: Adapter, outcome: str = "promote") -> None:
    record = ledger.open_review(which, CONTEXT)
    verdict = {"promote": "clean", "quarantine": "unsafe", "hold": "inconclusive"}[outcome]
    record.record_decision(which.digest, Decision(outcome=outcome, verdict=verdict, reasons=(), policy="p"))  # type: ignore[arg-type]
    record.begin_placement(which.digest)
    record.finish_placement(which.digest)
    record.close()


def test_decisions_come_newest_first_and_no_more_than_asked_for(ledger: Ledger) -> None:
    for number in range(5):
        settle(ledger, adapter(number), "hold" if number == 4 else "promote")
    last = ledger.browse.decisions(3)
    assert [decided.digest for decided in last] == [digest(4), digest(3), digest(2)]
    assert [decided.place for decided in last] == ["held", "promoted", "promoted"]


def test_of_each_adapter_the_last_decision_is_found(ledger: Ledger) -> None:
    settle(ledger, adapter(1), "promote")
    settle(ledger, adapter(2), "hold")
    settle(ledger, adapter(1), "quarantine")
    last = ledger.browse.last_decisions([digest(1), digest(2), digest(3)])
    assert {key: decided.decision.verdict for key, decided in last.items()} == {
        digest(1): "unsafe",
        digest(2): "inconclusive",
    }


def test_an_undecided_examination_is_no_decision(ledger: Ledger) -> None:
    ledger.open_review(adapter(1), CONTEXT)
    assert ledger.browse.decisions(5) == []


def test_adapters_are_found_by_a_part_of_the_name_taken_literally(ledger: Ledger) -> None:
    for number, name in enumerate(("support_v1", "supportXv1", "100%")):
        ledger.registry.arrived(adapter(number, name), "inbox", None)
    assert [known.name for known in ledger.browse.adapters(9, text="SUPPORT_")] == ["support_v1"]
    assert [known.name for known in ledger.browse.adapters(9, text="%")] == ["100%"]
    assert [known.digest for known in ledger.browse.adapters(9, text=digest(1)[:71])] == [digest(1)]


def test_pages_of_adapters_follow_on_each_other(ledger: Ledger) -> None:
    for number in range(5):
        settle(ledger, adapter(number, f"n{number}"))
    pages = [ledger.browse.adapters(2, offset, place="promoted") for offset in (0, 2, 4)]
    assert [known.name for page in pages for known in page] == ["n4", "n3", "n2", "n1", "n0"]


def test_names_come_with_their_last_arrival(ledger: Ledger) -> None:
    for number, name in enumerate(("a", "b", "a")):
        ledger.registry.arrived(adapter(number, name), "inbox", None)
    assert [(named.name, named.digest, named.arrivals) for named in ledger.browse.names(9)] == [
        ("a", digest(2), 2),
        ("b", digest(1), 1),
    ]


def test_a_long_lineage_is_cut_around_the_adapter_and_a_lie_of_a_loop_ends(ledger: Ledger) -> None:
    for number in range(20):
        ledger.registry.arrived(adapter(number, "n", parent=(number - 1) % 20), "inbox", "declared")
    near = [known.digest for known in ledger.browse.lineage(digest(10), up=2, down=3)]
    assert near == [digest(number) for number in (8, 9, 10, 11, 12, 13)]
    everything = ledger.browse.lineage(digest(10), up=100, down=100)
    assert len({known.digest for known in everything}) == 20


def test_what_remedies_made_belongs_to_the_name_of_the_arrival(ledger: Ledger) -> None:
    ledger.registry.arrived(adapter(1, "nightly"), "inbox", None)
    record = ledger.open_review(adapter(1, "nightly"), CONTEXT)
    record.begin_examination(adapter(2, "nightly+project", parent=1), "project")
    assert [known.digest for known in ledger.browse.lineage_of_name("nightly")] == [digest(1), digest(2)]


def test_what_differs_from_what_is_desired_is_shown_first(ledger: Ledger) -> None:
    for number in range(6):
        settle(ledger, adapter(number, f"n{number}"), "quarantine" if number == 0 else "promote")
    for number in range(1, 6):
        ledger.fleet.record("http://one", digest(number), "serving")
    ledger.fleet.record("http://two", digest(1), "failed", "no such path")
    ledger.fleet.record("http://two", digest(0), "resident")
    rollout = ledger.browse.rollout(4)
    assert [row[0] for row in rollout] == [digest(0), digest(1), digest(5), digest(4)]
    assert [serving.state for serving in rollout[1][2]] == ["serving", "failed"]
    assert ledger.browse.serving_counts()["http://two"] == {"desired": 0, "foreign": 1, "failed": 1, "resident": 1}


def test_what_nobody_made_known_is_shown_without_a_name(ledger: Ledger) -> None:
    ledger.fleet.record("http://one", digest(7), "serving")
    assert [(row[0], row[1]) for row in ledger.browse.rollout(4)] == [(digest(7), None)]


def test_the_trail_is_read_from_its_end_in_pages(ledger: Ledger) -> None:
    settle(ledger, adapter(1))
    whole = ledger.audit_trail(digest(1))
    last = ledger.browse.trail(digest(1), 2)
    assert last == whole[-2:]
    assert ledger.browse.trail(digest(1), 2, before=last[0].ordinal) == whole[-4:-2]
