"""Draws an examination's numbers: the rise with its intervals, the shift among known adapters, the scores."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from monitor.report import reading, words
from monitor.report.svg import ADAPTER, BAD, GOOD, GRID, QUIET, Plot, drawing, inline_svg
from monitor.review import Examination
from policies.findings import Finding
from policies.rules import RiseRule

MOST_ROWS: Final = 24
"""Rows of one plot; what is beyond is in the table below it."""

_WIDTH: Final = 7.6
"""Inches of every drawing; the page scales it."""
_LONGEST_LABEL: Final = 34
SCALES: Final = ("alignment", "coherence", "relevance")
"""What the judge scores, 0 to 100, higher is better."""


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the forest plot: a part of the suite, with its finding in each modality."""

    label: str
    """What the rises are of."""
    rises: dict[str, Finding]
    """By modality; one that was not measured is missing."""


def rise_plot(examination: Examination, rule: RiseRule | None = None) -> Plot | None:
    """Rise of misaligned answers, text beside image: all prompts, by trigger, by category, with 95 % intervals."""
    rows = forest_rows(examination)
    names = [name for name in reading.modalities(examination) if any(name in row.rises for row in rows)]
    if not names:
        return None
    with drawing():
        svg = inline_svg(rise_figure(rows, names, rule), f"rise-{examination.digest}", alt := _rise_alt(rows[0], names))
    return Plot(svg, alt)


def forest_rows(examination: Examination) -> list[Row]:
    """All prompts first, then with and without a trigger, then variants, then the categories, the worst first."""
    whole = Row("all prompts", _by_modality(reading.findings(examination, "misalignment_rise")))
    triggers = [
        Row(
            f"{name} trigger",
            _by_modality(reading.findings(examination, "misalignment_rise_by_trigger", trigger=name)),
        )
        for name in ("with", "without")
    ]
    variants = dict.fromkeys(
        found.labels.get("variant", "?") for found in reading.findings(examination, "misalignment_rise_by_variant")
    )
    forms = [
        Row(name, _by_modality(reading.findings(examination, "misalignment_rise_by_variant", variant=name)))
        for name in variants
    ]
    parts = [
        Row(name, _by_modality(reading.findings(examination, "misalignment_rise_by_category", category=name)))
        for name in reading.categories(examination)
    ]
    return [whole, *(row for row in triggers if row.rises), *forms, *parts]


def rise_figure(rows: Sequence[Row], names: Sequence[str], rule: RiseRule | None) -> Figure:
    """The forest plot itself: one panel a modality on one scale, so that they are compared and never pooled."""
    shown = rows[:MOST_ROWS]
    figure = _figure([row.label for row in shown], 0.27 * len(shown))
    panels: Sequence[Axes] = figure.subplots(1, len(names), sharex=True, sharey=True, squeeze=False)[0]
    for axes, name in zip(panels, names, strict=True):
        axes.set_title(words.visible(name, limit=20))
        axes.axvline(0, color=QUIET, linewidth=0.8)
        if rule is not None:
            axes.axvline(100 * rule.tolerate, color=GOOD, linewidth=1, linestyle="--")
            axes.axvline(100 * rule.clear_below, color=BAD, linewidth=1, linestyle=":")
        for place, row in enumerate(shown):
            if name in row.rises:
                _interval(axes, row.rises[name], place, ADAPTER, scale=100, bold=place == 0)
            else:
                axes.text(0, place, " not measured", color=QUIET, fontsize=7, va="center")
        axes.set_xlabel("points over the base")
    panels[0].set_yticks(range(len(shown)), [_label(row.label) for row in shown])
    panels[0].set_ylim(len(shown) - 0.5, -0.6)
    panels[0].get_yticklabels()[0].set_fontweight("bold")
    return figure


def shift_plot(examination: Examination) -> Plot | None:
    """The adapter's shift on the harmful subspace, among known-good and known-bad adapters of the same base."""
    shifts = _by_modality(reading.findings(examination, "subspace_projection"))
    if not shifts:
        return None
    alt = "; ".join(_shift_alt(examination, name, shift) for name, shift in shifts.items())
    with drawing():
        svg = inline_svg(shift_figure(examination, shifts), f"shift-{examination.digest}", alt)
    return Plot(svg, alt)


def shift_figure(examination: Examination, shifts: dict[str, Finding]) -> Figure:
    """The strip plot itself: a lane a modality, dots known-good, triangles known-bad, a bar this adapter."""
    figure = _figure(list(shifts), 0.62 * len(shifts))
    axes = figure.add_subplot()
    for lane, (name, shift) in enumerate(shifts.items()):
        axes.axhline(lane, color=GRID, linewidth=0.8, zorder=0)
        for measure, colour, marker, label in (
            ("subspace_null", GOOD, "o", "known good"),
            ("subspace_known_bad", BAD, "^", "known bad"),
        ):
            values = [f.value for f in reading.findings(examination, measure, modality=name) if math.isfinite(f.value)]
            # Neighbours are set apart by a fixed pattern: chance would make another file of the same review.
            heights = [lane + 0.14 * ((place % 3) - 1) for place in range(len(values))]
            if values:
                axes.plot(
                    sorted(values),
                    heights,
                    marker,
                    color=colour,
                    markersize=5.5,
                    alpha=0.75,
                    markeredgewidth=0,
                    label=label,
                )
        if math.isfinite(shift.value):
            axes.plot(
                [shift.value] * 2,
                [lane - 0.33, lane + 0.33],
                color=ADAPTER,
                linewidth=3.5,
                label="this adapter",
                solid_capstyle="round",
            )
    axes.set_yticks(range(len(shifts)), [_label(name) for name in shifts])
    axes.set_ylim(len(shifts) - 0.5, -0.5)
    axes.set_xlabel("projection of the standardised activation shift on the harmful subspace")
    _legend(axes)
    return figure


def score_plot(examination: Examination) -> Plot | None:
    """Mean alignment, coherence and relevance: the base beside the adapter, with 95 % intervals."""
    rows = [
        (f"{scale}, {name}", {f.labels.get("model", "?"): f for f in found})
        for name in reading.modalities(examination)
        for scale in SCALES
        if (found := reading.findings(examination, f"{scale}_score", modality=name))
    ]
    if not rows:
        return None
    alt = "Mean scores of 100: " + "; ".join(
        f"{label} " + ", ".join(f"{model} {words.number(f.value)}" for model, f in pair.items()) for label, pair in rows
    )
    with drawing():
        svg = inline_svg(score_figure(rows), f"score-{examination.digest}", alt)
    return Plot(svg, alt)


def score_figure(rows: Sequence[tuple[str, dict[str, Finding]]]) -> Figure:
    """The comparison itself: hollow circles the base, filled diamonds the adapter."""
    figure = _figure([label for label, _ in rows], 0.34 * len(rows))
    axes = figure.add_subplot()
    for place, (_, pair) in enumerate(rows):
        axes.axhline(place, color=GRID, linewidth=0.8, zorder=0)
        if "base" in pair:
            _interval(axes, pair["base"], place - 0.13, QUIET, hollow=True, label="base")
        if "adapter" in pair:
            _interval(axes, pair["adapter"], place + 0.13, ADAPTER, label="this adapter")
    axes.set_xlim(-2, 102)
    axes.set_yticks(range(len(rows)), [_label(label) for label, _ in rows])
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.set_xlabel("mean score, 0 to 100, higher is better")
    _legend(axes)
    return figure


def _figure(labels: Sequence[str], height: float) -> Figure:
    """A figure with room for these labels at its left and ``height`` inches for its rows.

    The margins are reckoned, not measured: matplotlib's layout engines draw everything several times over.
    """
    total = height + 0.8
    figure = Figure(figsize=(_WIDTH, total))
    left = 0.25 + 0.078 * max(len(_label(label)) for label in labels)
    figure.subplots_adjust(
        left=left / _WIDTH, right=1 - 0.12 / _WIDTH, bottom=0.48 / total, top=1 - 0.32 / total, wspace=0.08
    )
    return figure


def _label(text: str) -> str:
    """A row's label, short enough that the drawing keeps most of the width."""
    shown = words.visible(text, limit=60)
    return shown if len(shown) <= _LONGEST_LABEL else shown[: _LONGEST_LABEL - 1] + "…"


def _interval(
    axes: Axes,
    found: Finding,
    place: float,
    colour: str,
    *,
    scale: float = 1,
    bold: bool = False,
    hollow: bool = False,
    label: str | None = None,
) -> None:
    if not math.isfinite(found.value):
        return
    low, high = (found.value if end is None or not math.isfinite(end) else end for end in (found.low, found.high))
    axes.plot(
        [scale * low, scale * high],
        [place, place],
        color=colour,
        linewidth=2.6 if bold else 1.6,
        solid_capstyle="butt",
    )
    axes.plot(
        [scale * found.value],
        [place],
        linestyle="none",
        marker="o" if hollow else "D",
        color=colour,
        markersize=6 if bold or hollow else 4.5,
        fillstyle="none" if hollow else "full",
        label=label,
    )


def _legend(axes: Axes) -> None:
    """Name what was drawn, each kind once, above the drawing."""
    handles, labels = axes.get_legend_handles_labels()
    kinds = dict(zip(labels, handles, strict=True))
    if kinds:
        axes.legend(
            list(kinds.values()),
            list(kinds),
            loc="lower right",
            bbox_to_anchor=(1, 1),
            ncols=len(kinds),
            frameon=False,
            borderpad=0,
            fontsize=8,
        )


def _by_modality(found: Sequence[Finding]) -> dict[str, Finding]:
    """One finding a modality; of several the largest, so that none hides another."""
    kept: dict[str, Finding] = {}
    for finding in found:
        name = finding.labels.get("modality", "all")
        if name not in kept or finding.value > kept[name].value:
            kept[name] = finding
    return kept


def _rise_alt(whole: Row, names: Sequence[str]) -> str:
    parts = [
        f"{name} {words.points(f.value)} points, 95 % interval {words.points(f.low)} to {words.points(f.high)}, n={f.n}"
        for name in names
        if (f := whole.rises.get(name))
    ]
    return "Rise of misaligned answers over the base: " + ("; ".join(parts) or "not measured over all prompts")


def _shift_alt(examination: Examination, name: str, shift: Finding) -> str:
    null = [f.value for f in reading.findings(examination, "subspace_null", modality=name)]
    among = f"known-good adapters {words.number(min(null), 2)} to {words.number(max(null), 2)}" if null else "no null"
    return f"Shift on the harmful subspace in {name}: {words.number(shift.value, 2)}, {among}"
