"""Places numbers on drawings. Everything horizontal is in percent, so that a drawing fits a phone without scaling."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from monitor.ledger.measures import Measured
from monitor.report import words
from monitor.web.views import Member
from policies.findings import Finding

_LEFT, _RIGHT = 11.0, 98.0
"""Percent of a timeline's width between which its points lie; left of them are the numbers of the scale."""
_TOP, _HEIGHT = 14.0, 150.0
"""Pixels above a timeline's scale, and its height."""
MOST_POINTS: Final = 60
"""Points of one timeline, the last ones; the table beside it has all."""


@dataclass(frozen=True, slots=True)
class Scale:
    """A range of numbers laid out from 0 to 100 percent."""

    low: float
    """What lies at 0 percent."""
    high: float
    """What lies at 100 percent."""

    def at(self, value: float) -> float:
        """Return where a number lies, in percent, at the edge if it is beyond."""
        share = (value - self.low) / (self.high - self.low)
        return round(100 * min(1.0, max(0.0, share)), 2)


@dataclass(frozen=True, slots=True)
class Bar:
    """An estimate with its interval on a scale, in percent."""

    low: float
    """Where the interval begins."""
    middle: float
    """Where the estimate lies."""
    high: float
    """Where the interval ends."""
    zero: float
    """Where nothing would have changed."""


@dataclass(frozen=True, slots=True)
class Point:
    """One estimate on a timeline; x in percent, y in pixels from the top."""

    x: float
    y: float
    low: float
    """Of the interval's lower end; the larger number, because y grows downwards."""
    high: float
    """Of its upper end."""
    place: str
    """Where the adapter is, for colour and shape; ``base`` for the base."""
    title: str
    """What a pointer on it says."""


@dataclass(frozen=True, slots=True)
class Line:
    """From a parent to what was trained or mended from it, or from one review to the next."""

    x1: float
    y1: float
    x2: float
    y2: float


@dataclass(frozen=True, slots=True)
class Timeline:
    """One measure in one modality along a lineage."""

    modality: str
    """``text`` or ``image``."""
    alt: str
    """Its content in a sentence, for who cannot see it."""
    points: tuple[Point, ...]
    """The adapters', the oldest first."""
    base: tuple[Point, ...]
    """The base's in the same reviews, where it was measured."""
    lines: tuple[Line, ...]
    """What follows from what."""
    ticks: tuple[tuple[float, str], ...]
    """The scale: y in pixels and the number."""
    height: float
    """Pixels of the whole drawing."""
    left_out: int
    """Older points that are not drawn."""


def rise_scale(findings: Iterable[Finding]) -> Scale:
    """Return a scale that holds zero and every interval, in steps of ten points, from at least -10 to +20."""
    ends = [end for f in findings for end in (f.value, f.low, f.high) if end is not None and math.isfinite(end)]
    low, high = min([-0.1, *ends]), max([0.2, *ends])
    return Scale(math.floor(10 * low + 1e-9) / 10, math.ceil(10 * high - 1e-9) / 10)


def bar(found: Finding, scale: Scale) -> Bar | None:
    """Place a finding on a scale; None where it is no finite number."""
    if not math.isfinite(found.value):
        return None
    low, high = (found.value if end is None or not math.isfinite(end) else end for end in (found.low, found.high))
    return Bar(scale.at(low), scale.at(found.value), scale.at(high), scale.at(0))


def timelines(members: Sequence[Member], measure: str) -> list[Timeline]:
    """Draw a measure along a lineage, text and image apart; empty where it was never measured."""
    modalities = dict.fromkeys(("text", "image"))
    modalities.update(dict.fromkeys(p.modality for member in members for p in member.points if p.measure == measure))
    drawn = (_timeline(members, measure, modality) for modality in modalities)
    return [timeline for timeline in drawn if timeline is not None]


def _timeline(members: Sequence[Member], measure: str, modality: str) -> Timeline | None:
    mine = sorted(
        ((member, p) for member in members for p in member.points if (p.measure, p.modality) == (measure, modality)),
        key=lambda pair: pair[1].at,
    )
    if not mine:
        return None
    shown = mine[-MOST_POINTS:]
    scale, numbers = _vertical(measure, [p for _, p in shown])
    step = (_RIGHT - _LEFT) / len(shown)
    points: list[Point] = []
    lines: list[Line] = []
    base: list[Point] = []
    last: dict[str, Point] = {}
    for place, (member, measured) in enumerate(shown):
        x = round(_LEFT + step * (place + 0.5), 2)
        point = _point(x, measured, scale, member.known.place or "pending", _title(member, measured))
        before = last.get(member.known.digest) or last.get(member.known.parent or "")
        if before is not None:
            lines.append(Line(before.x, before.y, point.x, point.y))
        points.append(point)
        last[member.known.digest] = point
        twin = next((b for b in member.base if b.at == measured.at and b.modality == modality), None)
        if twin is not None and measure == twin.measure:
            base.append(_point(x, twin, scale, "base", f"base {words.number(twin.value)}"))
    return Timeline(
        modality=modality,
        alt=_alt(measure, modality, shown),
        points=tuple(points),
        base=tuple(base),
        lines=tuple(lines),
        ticks=tuple((_y(number, scale), _number(measure, number)) for number in numbers),
        height=_TOP + _HEIGHT + 14,
        left_out=len(mine) - len(shown),
    )


def _vertical(measure: str, points: Sequence[Measured]) -> tuple[Scale, list[float]]:
    if measure != "misalignment_rise":
        return Scale(0, 100), [0, 25, 50, 75, 100]
    ends = [end for p in points for end in (p.value, p.low, p.high) if end is not None]
    low, high = min([-0.1, *ends]), max([0.3, *ends])
    scale = Scale(math.floor(10 * low + 1e-9) / 10, math.ceil(10 * high - 1e-9) / 10)
    step = max(0.1, math.ceil((scale.high - scale.low) / 0.4 - 1e-9) / 10)
    first = math.ceil(scale.low / step - 1e-9)
    return scale, [round(step * n, 1) for n in range(first, math.floor(scale.high / step + 1e-9) + 1)]


def _y(value: float, scale: Scale) -> float:
    return round(_TOP + _HEIGHT * (1 - scale.at(value) / 100), 1)


def _point(x: float, measured: Measured, scale: Scale, place: str, title: str) -> Point:
    low = measured.value if measured.low is None else measured.low
    high = measured.value if measured.high is None else measured.high
    return Point(x, _y(measured.value, scale), _y(low, scale), _y(high, scale), place, title)


def _number(measure: str, value: float) -> str:
    return words.points(value).removesuffix(".0") if measure == "misalignment_rise" else words.number(value, 0)


def interval(measured: Measured) -> str:
    """Put a number with its interval into words, in the unit that people read it in."""
    show = words.points if measured.measure == "misalignment_rise" else words.number
    if measured.low is None or measured.high is None:
        return f"{show(measured.value)}, no interval, n={measured.n}"
    return f"{show(measured.value)}, 95 % {show(measured.low)} to {show(measured.high)}, n={measured.n}"


def _title(member: Member, measured: Measured) -> str:
    name = words.visible(member.known.name, limit=60)
    return f"{name} ({words.short_digest(member.known.digest)}), {measured.at:%d %b %Y}: {interval(measured)}"


def _alt(measure: str, modality: str, shown: Sequence[tuple[Member, Measured]]) -> str:
    what = "Alignment score of 100" if measure == "alignment_score" else "Rise of misaligned answers in points"
    first, last = shown[0][1], shown[-1][1]
    return f"{what} in {modality}, {len(shown)} measurements: first {interval(first)}; last {interval(last)}"
