"""Draws what a Reference states: how many components hold the harm, how steady its directions are, who scored what."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Final, Literal

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from adapters.engine import Layer
from guards.reference_facts import Curves, Facts, Figures
from monitor.report import words
from monitor.report.svg import ADAPTER, BAD, GOOD, GRID, INK, QUIET, Plot, drawing, inline_svg

PAPERS_COMPONENTS: Final = 10
"""Of arXiv 2602.16931: about so many components of the final token's activations hold most of the misalignment."""
NOISE: Final = 0.5
"""Split-half cosine below which a direction is noise."""
SCREENS: Final = ("combined", "contrast", "shift", "probe", "tail", "projection", "weights")
"""In the order of tables and drawings."""

_WIDTH: Final = 7.6
_CONTRAST: Final = "contrast"
_LINES: Final = ((ADAPTER, "o"), (BAD, "^"), (GOOD, "s"), (INK, "D"))


def explained_plot(facts: Facts, prefix: str) -> Plot | None:
    """Share of the known-bad shifts' energy in 1 to 20 components at the screened layer, beside random subspaces."""
    found = next((c for c in facts.curves if c.layer == str(Layer("decoder", facts.screen_layer))), None)
    told = {m: shares for m, shares in found.explained.items() if shares} if found else {}
    if found is None or not told:
        return None
    random = found.explained_random
    beside = f"; random subspaces of {len(random)} dimensions {words.percent(random[-1])}" if random else ""
    alt = f"Explained variance at {found.layer}: " + "; ".join(_explained_words(m, s) for m, s in told.items()) + beside
    with drawing():
        return Plot(inline_svg(explained_figure(told, random), f"{prefix}-explained", alt), alt)


def explained_figure(told: Mapping[str, Sequence[float]], random: Sequence[float]) -> Figure:
    """The curves themselves: a panel a modality on one scale, so that they are compared and never pooled."""
    figure = _figure(2.5, below=0.36)
    panels: Sequence[Axes] = figure.subplots(1, len(told), sharex=True, sharey=True, squeeze=False)[0]
    for axes, (name, shares) in zip(panels, told.items(), strict=True):
        axes.set_title(words.visible(name, limit=20))
        axes.axvline(PAPERS_COMPONENTS, color=GOOD, linewidth=1, linestyle="--", label="the paper's ten")
        axes.plot(
            range(1, len(shares) + 1),
            [100 * share for share in shares],
            color=ADAPTER,
            marker="o",
            markersize=3.5,
            label="known-bad shifts",
        )
        if random:
            counts = range(1, len(random) + 1)
            axes.plot(counts, [100 * share for share in random], color=QUIET, linestyle=":", label="random subspaces")
        axes.set_ylim(0, 104)
        axes.set_xlim(0.5, max(len(shares), len(random), PAPERS_COMPONENTS) + 0.5)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.set_xlabel("components")
    panels[0].set_ylabel("% of the shifts' energy")
    _legend(panels, panels[-1], "upper right", (1, -0.2), 3)
    return figure


def split_half_plot(facts: Facts, prefix: str) -> Plot | None:
    """Cosine between the halves of every direction's data, by layer, with the line below which it is noise."""
    panels = {title: curves for title, curves in _by_place(facts.curves).items() if any(c.split_half for c in curves)}
    if not panels:
        return None
    noisy = [f"{c.layer} {name}" for cs in panels.values() for c in cs for name, v in c.split_half.items() if v < NOISE]
    lowest = min(value for curves in panels.values() for c in curves for value in c.split_half.values())
    alt = f"Split-half cosine of every direction by layer, the lowest {words.number(lowest, 2)}; " + (
        f"{len(noisy)} below {NOISE}, such as {words.visible(noisy[0], limit=words.LONGEST_NAME)}"
        if noisy
        else f"none below {NOISE}"
    )
    with drawing():
        return Plot(inline_svg(split_half_figure(panels), f"{prefix}-split", alt), alt)


def split_half_figure(panels: Mapping[str, Sequence[Curves]]) -> Figure:
    """The lines themselves: a panel a kind of place, a line a direction; the contrast's categories alike in grey."""
    figure = _figure(2.3, below=0.36)
    drawn: Sequence[Axes] = figure.subplots(1, len(panels), sharey=True, squeeze=False)[0]
    everything = dict.fromkeys(name for curves in panels.values() for c in curves for name in c.split_half)
    known = [name for name in everything if not name.startswith(_CONTRAST)]
    for axes, (title, curves) in zip(drawn, panels.items(), strict=True):
        axes.set_title(title)
        axes.axhline(NOISE, color=BAD, linewidth=1, linestyle=":", label="below is noise")
        for name in dict.fromkeys(name for c in curves for name in c.split_half):
            points = [(Layer.named(c.layer).index, c.split_half[name]) for c in curves if name in c.split_half]
            # Categories may be many and have names of any length; the table below tells which is which.
            colour, marker = _LINES[known.index(name) % len(_LINES)] if name in known else (QUIET, ".")
            axes.plot(
                [x for x, _ in points],
                [y for _, y in points],
                color=colour,
                marker=marker,
                markersize=4,
                linewidth=1.4 if name in known else 0.8,
                label=words.visible(name, limit=40) if name in known else "contrast, each category",
            )
        axes.set_ylim(min(-0.04, *(v for c in curves for v in c.split_half.values())), 1.06)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.set_xlabel("block")
    drawn[0].set_ylabel("cosine")
    _legend(drawn, drawn[-1], "upper right", (1, -0.22), 4)
    return figure


def scores_plot(facts: Facts, prefix: str) -> Plot | None:
    """Held-out scores of the known-good and the known-bad adapters, every screen on an axis of its own."""
    told = {name: parts for name, parts in ordered(facts).items() if any(_finite(part) for part in parts.values())}
    if not told:
        return None
    alt = "Held-out scores: " + "; ".join(
        f"{name}, {modality}: {_span('known good', part.known_good)}, {_span('known bad', part.known_bad)}"
        for name, parts in told.items()
        for modality, part in parts.items()
    )
    with drawing():
        return Plot(inline_svg(scores_figure(told), f"{prefix}-scores", alt), alt)


def scores_figure(told: Mapping[str, Mapping[str, Figures]]) -> Figure:
    """The strips themselves: a lane a modality, dots known good, triangles known bad."""
    lanes = [len(parts) for parts in told.values()]
    height = 0.36 * sum(lanes) + 0.5 * len(told)
    figure = _figure(height, left=1.35)
    figure.subplots_adjust(hspace=1.5 * len(told) / sum(lanes))
    panels: Sequence[Axes] = list(figure.subplots(len(told), 1, squeeze=False, height_ratios=lanes)[:, 0])
    for axes, (name, parts) in zip(panels, told.items(), strict=True):
        for lane, part in enumerate(parts.values()):
            axes.axhline(lane, color=GRID, linewidth=0.8, zorder=0)
            for scores, colour, marker, label in (
                (part.known_good, GOOD, "o", "known good"),
                (part.known_bad, BAD, "^", "known bad"),
            ):
                values = sorted(value for value in scores.values() if math.isfinite(value))
                # Neighbours are set apart by a fixed pattern: chance would make another file of the same facts.
                heights = [lane + 0.16 * ((place % 3) - 1) for place in range(len(values))]
                if values:
                    axes.plot(
                        values, heights, marker, color=colour, markersize=4, alpha=0.7, markeredgewidth=0, label=label
                    )
        axes.set_title(name, fontsize=9)
        axes.set_yticks(range(len(parts)), [words.visible(modality, limit=20) for modality in parts])
        axes.set_ylim(len(parts) - 0.5, -0.5)
    _legend(panels, panels[0], "lower right", (1, 1), 2)
    return figure


def ordered(facts: Facts) -> dict[str, dict[str, Figures]]:
    """The screens that were measured, the combined one first."""
    return {name: dict(facts.screens[name]) for name in SCREENS if facts.screens.get(name)}


def _by_place(curves: Sequence[Curves]) -> dict[str, list[Curves]]:
    titles = {("decoder", "prompt"): "decoder, last prompt token", ("decoder", "answer"): "decoder, answer tokens"}
    panels: dict[str, list[Curves]] = {}
    for curve in curves:
        layer = Layer.named(curve.layer)
        panels.setdefault(titles.get((layer.tower, layer.position), "vision tower"), []).append(curve)
    return panels


def _finite(part: Figures) -> bool:
    return any(math.isfinite(value) for value in (*part.known_good.values(), *part.known_bad.values()))


def _explained_words(modality: str, shares: Sequence[float]) -> str:
    places = [place for place in (1, PAPERS_COMPONENTS, len(shares)) if place <= len(shares)]
    return f"{words.visible(modality, limit=20)} " + ", ".join(
        f"{place} {'component' if place == 1 else 'components'} {words.percent(shares[place - 1])}"
        for place in dict.fromkeys(places)
    )


def _span(label: str, scores: Mapping[str, float]) -> str:
    values = [value for value in scores.values() if math.isfinite(value)]
    if not values:
        return f"no {label} adapters"
    return f"{label} {words.number(min(values), 2)} to {words.number(max(values), 2)}, n={len(values)}"


def _figure(height: float, left: float = 0.6, below: float = 0.0) -> Figure:
    """A figure with ``height`` inches for its content; margins are reckoned, as layout engines draw several times."""
    total = height + 0.85 + below
    figure = Figure(figsize=(_WIDTH, total))
    figure.subplots_adjust(
        left=left / _WIDTH, right=1 - 0.12 / _WIDTH, bottom=(0.48 + below) / total, top=1 - 0.37 / total, wspace=0.08
    )
    return figure


def _legend(
    panels: Sequence[Axes],
    beside: Axes,
    corner: Literal["upper right", "lower right"],
    anchor: tuple[float, float],
    columns: int,
) -> None:
    """Name what any of the panels draws, each kind once, beside one of them."""
    kinds = {}
    for axes in panels:
        handles, labels = axes.get_legend_handles_labels()
        kinds.update({label: handle for label, handle in zip(labels, handles, strict=True) if label not in kinds})
    if kinds:
        beside.legend(
            list(kinds.values()),
            list(kinds),
            loc=corner,
            bbox_to_anchor=anchor,
            ncols=columns,
            frameon=False,
            borderpad=0,
            fontsize=8,
        )
