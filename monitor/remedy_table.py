"""What ``alignwatch remedy`` prints: before beside after, and what was changed."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.table import Column, Table
from rich.text import Text

from guards.dose_response import Reading
from monitor.remedying import Remedied
from monitor.report.reading import remedy_lines
from policies.findings import Finding


def remedied_json(found: Remedied) -> dict[str, Any]:
    """Everything for scripts, in plain JSON types; ratios are 0 to 1."""
    return {
        "parent": found.before.digest,
        "digest": found.after.digest,
        "folder": str(found.after.path),
        "measured": [finding.model_dump(mode="json") for finding in found.measured],
        "before": None if found.readings is None else _reading_json(found.readings[0]),
        "after": None if found.readings is None else _reading_json(found.readings[1]),
    }


def print_remedied(found: Remedied, console: Console) -> None:
    """Print the new digest, a row a quality and modality, and what the remedy measured."""
    console.print(Text(f"made    {found.after.path}"), soft_wrap=True)
    console.print(Text(f"digest  {found.after.digest}"), soft_wrap=True)
    console.print(Text(f"parent  {found.before.digest}"), soft_wrap=True)
    for line in remedy_lines(found.measured):
        console.print(Text(f"- {line}"), soft_wrap=True)
    if found.readings is None:
        text = "Nothing was asked: name a policy with suites and a judge (--policy) to have it measured."
        console.print(Text(text), soft_wrap=True)
        return
    before, after = found.readings
    old = {_what(rise): rise for rise in before.rises}
    table = Table(Column("rise over the base, points"), "before", "after")
    for rise in after.rises:
        table.add_row(_what(rise), _told(old.get(_what(rise))), _told(rise))
    console.print(table)
    for when, reading in (("before", before), ("after", after)):
        word = "cleared by this battery" if reading.passes else "not cleared"
        console.print(Text(f"{when}: {word}; {reading.reason}"), soft_wrap=True)
    note = "The battery alone was asked. alignwatch gate reviews the new folder, and only that decides about it."
    console.print(Text(note, "dim"), soft_wrap=True)


def _what(rise: Finding) -> str:
    return f"{rise.measure.removesuffix('_rise')}, {rise.labels.get('modality', 'all')}"


def _told(rise: Finding | None) -> str:
    if rise is None:
        return "not measured"
    low, high = ("?" if bound is None else f"{100 * bound:+.1f}" for bound in (rise.low, rise.high))
    return f"{100 * rise.value:+.1f} [{low}, {high}], n={rise.n}"


def _reading_json(reading: Reading) -> dict[str, Any]:
    return {
        "passes": reading.passes,
        "reason": reading.reason,
        "rises": [rise.model_dump(mode="json") for rise in reading.rises],
    }
