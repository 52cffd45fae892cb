"""One line per examined digest: for scripts as JSON, for people as a table in the terminal."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Final, TypedDict

from rich import box, get_console
from rich.table import Table
from rich.text import Text

from monitor.report import reading, words
from monitor.report.files import write_atomically
from monitor.review import Examination, Review
from policies.findings import Finding

_COLOURS: Final = {"promoted": "green", "quarantined": "red", "held": "yellow", "observed": "cyan"}
_ROOMY: Final = 110
"""Columns from which the table has room for the reason and the subspace shift."""


class Rise(TypedDict):
    """A paired rise over the base, as ratios from -1 to 1."""

    value: float | None
    """The point estimate; None where it is not a finite number."""
    low: float | None
    """Lower end of the 95 % interval."""
    high: float | None
    """Upper end of the 95 % interval."""
    n: int
    """Prompts behind it."""


class SummaryEntry(TypedDict):
    """One examined digest: an adapter that arrived, or one that a remedy made."""

    name: str
    """What people call it; untrusted text."""
    digest: str
    """``sha256-…`` of the examined bytes."""
    outcome: reading.Outcome
    """Where it ended."""
    verdict: str
    """``clean``, ``unsafe`` or ``inconclusive``."""
    misalignment_rise: dict[str, Rise]
    """By modality; empty when not measured."""
    subspace_projection: dict[str, float | None] | None
    """By modality; None when not measured."""
    remedy: str | None
    """The remedy that made this digest; None for an adapter that arrived."""
    parent: str | None
    """Digest of the adapter that the remedy started from."""
    reason: str
    """The first reason of the decision, in one line."""
    seconds: float
    """Wall time of the examination."""
    review: str
    """Id of the review that it is part of."""


def summary_entries(reviews: Iterable[Review]) -> list[SummaryEntry]:
    """One entry per examined digest, in the order of arrival; a remedied adapter follows the one it was made from."""
    return [_entry(examination, review) for review in reviews for examination in review.examinations]


def write_summary(entries: Sequence[SummaryEntry], path: Path) -> Path:
    """Write the entries as a JSON list; a reader sees the old file or the new one, never half of either."""
    text = json.dumps(entries, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    return write_atomically(text, path)


def summary_table(entries: Sequence[SummaryEntry], width: int | None = None) -> Table:
    """The entries as one table for a terminal ``width`` columns wide, by default the one we run in.

    A narrow table loses the reasons and the subspace shift, never a rise, its interval or its n.
    """
    roomy = (get_console().width if width is None else width) >= _ROOMY
    names = _modalities(entries)
    table = Table(box=box.SIMPLE_HEAD, title="misalignment rise over the base, in points", title_style="dim")
    table.add_column("adapter", overflow="fold", min_width=14, ratio=2 if roomy else None)
    table.add_column("outcome", no_wrap=True)
    for name in names:
        table.add_column(Text(words.visible(name, limit=12)), no_wrap=True, justify="right")
    if roomy:
        table.add_column("shift", no_wrap=True, justify="right")
        table.add_column("first reason", overflow="fold", ratio=3)
    table.add_column("s", no_wrap=True, justify="right")
    for entry in entries:
        rises = [_rise_cell(entry["misalignment_rise"].get(name)) for name in names]
        wide = [_shift_cell(entry), Text(words.visible(entry["reason"], limit=90))] if roomy else []
        outcome = Text(entry["outcome"], style=_COLOURS[entry["outcome"]])
        table.add_row(_name_cell(entry), outcome, *rises, *wide, Text(f"{entry['seconds']:.1f}"))
    return table


def _entry(examination: Examination, review: Review) -> SummaryEntry:
    reasons = examination.decision.reasons
    projections = {
        found.labels.get("modality", "all"): _finite(found.value)
        for found in reading.findings(examination, "subspace_projection")
    }
    return SummaryEntry(
        name=examination.name,
        digest=examination.digest,
        outcome=reading.outcome(examination, review),
        verdict=examination.decision.verdict,
        misalignment_rise=_rises(examination),
        subspace_projection=projections or None,
        remedy=examination.remedy,
        parent=examination.parent,
        reason=" ".join(reasons[0].text.split()) if reasons else "nothing was decided",
        seconds=round(examination.seconds, 3),
        review=review.id,
    )


def _rises(examination: Examination) -> dict[str, Rise]:
    """The rise of misaligned answers by modality; empty when none was measured."""
    measured = (
        (name, reading.finding(examination, "misalignment_rise", modality=name))
        for name in reading.modalities(examination)
    )
    return {name: _rise(found) for name, found in measured if found is not None}


def _rise(found: Finding) -> Rise:
    return Rise(value=_finite(found.value), low=_finite(found.low), high=_finite(found.high), n=found.n)


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None


def _modalities(entries: Iterable[Mapping[str, object] | SummaryEntry]) -> list[str]:
    seen: dict[str, None] = dict.fromkeys(reading.MODALITIES)
    for entry in entries:
        rise = entry["misalignment_rise"]
        if isinstance(rise, dict):
            seen.update(dict.fromkeys(rise))
    return list(seen)


def _name_cell(entry: SummaryEntry) -> Text:
    cell = Text()
    if entry["remedy"] is not None:
        cell.append(f"↳ {words.visible(entry['remedy'], limit=24)} ", style="bold")
    cell.append(words.visible(entry["name"], limit=48))
    cell.append(f"\n{words.short_digest(entry['digest'])}", style="dim")
    return cell


def _rise_cell(rise: Rise | None) -> Text:
    if rise is None:
        return Text("–", style="dim")
    cell = Text(f"{words.points(rise['value'])}")
    cell.append(f" n={rise['n']}\n{words.points(rise['low'])}…{words.points(rise['high'])}", style="dim")
    return cell


def _shift_cell(entry: SummaryEntry) -> Text:
    shift = entry["subspace_projection"]
    if not shift:
        return Text("–", style="dim")
    return Text(
        "\n".join(f"{words.visible(name, limit=5)[:5]} {words.number(value, 2)}" for name, value in shift.items())
    )
