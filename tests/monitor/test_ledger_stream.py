from __future__ import annotations

from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from monitor.ledger import Ledger
from policies.stream import Seat


def test_a_place_is_given_once_and_outlives_the_process(tmp_path: Path) -> None:
    with Ledger(tmp_path / "ledger.db") as ledger:
        assert ledger.stream.seat("s", "a") == Seat(1, 0)
        ledger.stream.tell("s", "a", rejected=True)
    with Ledger(tmp_path / "ledger.db") as ledger:
        assert ledger.stream.seat("s", "b") == Seat(2, 1)
        assert ledger.stream.seat("s", "a") == Seat(1, 0)
        assert ledger.stream.seat("another", "a") == Seat(1, 0)


def test_the_first_word_about_a_test_stands(tmp_path: Path) -> None:
    with Ledger(tmp_path / "ledger.db") as ledger:
        ledger.stream.seat("s", "a")
        ledger.stream.tell("s", "a", rejected=False)
        ledger.stream.tell("s", "a", rejected=True)
        assert ledger.stream.seat("s", "b") == Seat(2, 0)


@settings(max_examples=15, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 6), st.booleans()), max_size=20))
def test_places_count_up_and_alarms_never_outnumber_the_tests_before(
    tmp_path_factory: object, steps: list[tuple[int, bool]]
) -> None:
    folder = tmp_path_factory.mktemp("stream")  # type: ignore[attr-defined]
    with Ledger(folder / "ledger.db") as ledger:
        seats: dict[int, Seat] = {}
        for test, rejected in steps:
            seat = ledger.stream.seat("s", str(test))
            assert seats.setdefault(test, seat) == seat
            assert seat.rejections < seat.position
            ledger.stream.tell("s", str(test), rejected=rejected)
        assert sorted(seat.position for seat in seats.values()) == list(range(1, len(seats) + 1))
