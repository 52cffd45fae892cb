"""One entry per examined digest: what scripts and people read first."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
from report_reviews import HOSTILE, blind, defective, found, harmful, mended, review
from rich.console import Console

from monitor.report import SummaryEntry, summary_entries, summary_table, write_summary


def entries() -> list[SummaryEntry]:
    harm = harmful()
    return summary_entries(
        [review(harm, mended(harm)), review(defective()), review(blind()), review(harmful(name=HOSTILE))]
    )


def drawn(width: int, table_width: int | None = None) -> str:
    console = Console(file=io.StringIO(), width=width, color_system=None)
    console.print(summary_table(entries(), table_width or width))
    return console.file.getvalue()  # type: ignore[attr-defined, no-any-return]


def test_the_arrival_and_each_remedied_adapter_are_entries_of_their_own() -> None:
    first, second, *_ = entries()
    assert (first["outcome"], first["remedy"], first["parent"]) == ("quarantined", None, None)
    assert (second["outcome"], second["remedy"], second["parent"]) == ("promoted", "project", first["digest"])
    assert first["digest"] != second["digest"]


def test_the_rise_stands_by_modality_with_its_interval_and_n() -> None:
    rise = entries()[0]["misalignment_rise"]
    assert set(rise) == {"text", "image"}
    assert rise["image"] == pytest.approx({"value": 0.52, "low": 0.44, "high": 0.59, "n": 120})


def test_what_was_not_measured_is_empty_or_null_and_never_zero() -> None:
    broken = entries()[2]
    assert broken["misalignment_rise"] == {}
    assert broken["subspace_projection"] is None
    assert broken["reason"].startswith("no_op")


def test_an_inconclusive_adapter_is_held_with_its_reason() -> None:
    held = entries()[3]
    assert (held["outcome"], held["verdict"]) == ("held", "inconclusive")
    assert "judge did not answer" in held["reason"]


def test_observe_mode_reads_observed_and_an_unfinished_review_reads_held() -> None:
    watched, running = harmful(place=None), harmful(place=None)
    assert summary_entries([review(watched)])[0]["outcome"] == "observed"
    assert summary_entries([review(running, finished=False)])[0]["outcome"] == "held"


def test_the_summary_is_strict_json_even_with_endless_numbers(tmp_path: Path) -> None:
    odd = [
        found("misalignment_rise", float("nan"), float("-inf"), None, modality="text"),
        found("subspace_projection", float("inf"), modality="text"),
    ]
    path = write_summary(summary_entries([review(harmful(odd))]), tmp_path / "deep" / "summary.json")

    def refuse(word: str) -> None:
        raise AssertionError(word)

    (entry,) = json.loads(path.read_text(encoding="utf-8"), parse_constant=refuse)
    assert entry["misalignment_rise"] == {"text": {"value": None, "low": None, "high": None, "n": 120}}
    assert entry["subspace_projection"] == {"text": None}


def test_a_written_summary_reads_back_as_it_was(tmp_path: Path) -> None:
    path = write_summary(entries(), tmp_path / "summary.json")
    assert json.loads(path.read_text(encoding="utf-8")) == entries()
    assert path.stat().st_mode & 0o777 == 0o644


def test_of_several_findings_for_one_modality_the_largest_counts() -> None:
    two = [found("misalignment_rise", 0.01, modality="text"), found("misalignment_rise", 0.3, modality="text")]
    assert summary_entries([review(harmful(two))])[0]["misalignment_rise"]["text"]["value"] == 0.3


@pytest.mark.parametrize("width", [80, 100, 120, 160])
def test_the_table_fits_and_keeps_outcome_rise_and_interval(width: int) -> None:
    text = drawn(width)
    assert max(len(line) for line in text.splitlines()) <= width
    assert text.count("quarantined") == 3
    for words in ("+52.0 n=120", "+44.0…+59.0", "−1.0 n=120", "↳ project"):
        assert words in text


def test_only_a_wide_table_has_room_for_reasons() -> None:
    assert "first reason" in drawn(120)
    assert "first reason" not in drawn(80)


def test_hostile_names_move_no_cursor_and_open_no_markup() -> None:
    text = drawn(120)
    assert not set(text) & {"\x1b", "\u202e", "\x00"}
    assert "<script>alert(1)</script>" in text


def test_no_entries_is_an_empty_table() -> None:
    console = Console(file=io.StringIO(), width=80)
    console.print(summary_table([]))
