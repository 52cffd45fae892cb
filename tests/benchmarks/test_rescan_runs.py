from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks import rescan
from benchmarks.timing import interleaved, ratios


def test_a_rescan_of_known_adapters_is_timed_beside_a_bare_walk(tmp_path: Path) -> None:
    folder = rescan.fill(tmp_path / "inbox", 20)
    assert rescan.bare_walk(folder) == 20 * 4
    assert len(rescan.known_signatures(folder)) == 20
    times = interleaved(rescan.ways(folder), repetitions=2, warm_up=0)
    assert all(min(ratios(spent, times[rescan.BARE])) > 0 for spent in times.values())
    assert all(name in rescan.report(times) for name in times)


def test_a_rescan_that_finds_something_new_is_not_what_is_timed(tmp_path: Path) -> None:
    folder = rescan.fill(tmp_path / "inbox", 3)
    work = rescan.ways(folder)
    rescan.write_one(folder / "new", 99)
    with pytest.raises(RuntimeError, match="not everything was known"):
        work[rescan.RESCAN]()


@pytest.mark.parametrize("events", [True, False])
def test_drops_are_noticed_after_they_settled(tmp_path: Path, events: bool) -> None:
    folder = rescan.fill(tmp_path / "inbox", 3)
    (late,) = rescan.noticed(folder, tmp_path / "aside", 1, renamed=True, events=events)
    assert late > 0
    assert "| x |" in rescan.report_noticed({"x": [late]})
