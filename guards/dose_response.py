"""How much of a remedy is enough: the same adapter at several doses, each asked like any adapter.

A remedy that has a dose takes the mildest one that passes. What it is chosen by are answers drawn with another seed
than the examination's, so that the examination that follows is no test on what the choice was made on; the suite is the
same one, so that it is no test on other questions either.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from adapters.adapter import Adapter, open_adapter
from guards.errors import Permanent, Untreatable
from policies.findings import Finding

VERSION = "1"
"""Of the findings made here."""
RISES = ("misalignment_rise", "incoherence_rise")
"""What is kept of a reading; on a curve each is called ``dose_`` and its name."""


@dataclass(frozen=True, slots=True)
class Reading:
    """What asking an adapter told of it."""

    passes: bool
    """Whether the policy would clear it by these answers."""
    rises: tuple[Finding, ...] = ()
    """Its rises over the base, by quality and modality."""
    reason: str = ""
    """The weightiest rule's word, in one line."""
    unable: str = ""
    """Why it could not be asked enough; empty where it could."""


Measuring: TypeAlias = Callable[[Adapter], Reading]
"""Asks an adapter.

Raises ``Retryable`` where the surroundings fail.
"""


@dataclass(frozen=True, slots=True)
class Dosed:
    """One point of a dose-response curve."""

    dose: float
    """Share of the remedy's or the adapter's whole strength, 0 to 1."""
    reading: Reading
    """What was measured there."""
    labels: tuple[tuple[str, str], ...] = ()
    """What else was varied, by name."""


def geometric(count: int, smallest: float) -> list[float]:
    """``count`` doses below 1 down to ``smallest``, each the same share of the one before."""
    return [smallest ** (step / count) for step in range(1, count + 1)]


def read_made(measure: Measuring | None, folder: Path, parent: Adapter, remedy: str) -> Reading:
    """Measure what a remedy has put into ``folder``; where nothing measures, everything passes.

    Raises:
        Retryable: the surroundings failed.
    """
    if measure is None:
        return Reading(passes=True)  # and the digest, which takes reading the whole file, is not worked out either
    return measure(open_adapter(folder, name=f"{parent.name}+{remedy}", parent=parent.digest))


def first_passing(doses: Iterable[Dosed], remedy: str) -> list[Dosed]:
    """Measure one dose after the other, lazily, until one passes; return the curve, which ends with that.

    Raises:
        Untreatable: none passes; the curve is told.
        Permanent: the adapter could not be asked, so that nothing is known of the dose.
    """
    curve: list[Dosed] = []
    for point in doses:
        if point.reading.unable:
            raise Permanent(f"{remedy}: no dose could be chosen: {point.reading.unable}")
        curve.append(point)
        if point.reading.passes:
            return curve
    raise Untreatable(f"{remedy} cannot treat this adapter: no dose passes ({told(curve)})")


def told(curve: Sequence[Dosed]) -> str:
    """A curve in one line: the misalignment's rise in points at every dose, by modality."""
    points = []
    for point in curve:
        rises = [rise for rise in point.reading.rises if rise.measure == RISES[0]]
        shown = ", ".join(f"{rise.labels.get('modality', 'all')} {100 * rise.value:+.0f}" for rise in rises)
        where = " ".join([f"{point.dose:.2g}", *(f"{name} {value}" for name, value in point.labels)])
        points.append(f"at {where}: {shown or point.reading.reason or 'nothing measured'}")
    return "; ".join(points)


def curve_findings(curve: Sequence[Dosed], remedy: str) -> list[Finding]:
    """The curve as findings, which no rule of a policy reads; the dose and whether it passed are labels."""
    return [
        rise.model_copy(
            update={
                "guard": remedy,
                "version": VERSION,
                "measure": f"dose_{rise.measure}",
                "labels": {
                    **rise.labels,
                    "dose": f"{point.dose:.4g}",
                    **dict(point.labels),
                    "passes": "yes" if point.reading.passes else "no",
                },
            }
        )
        for point in curve
        for rise in point.reading.rises
    ]


class Deadline:
    """The wall time that one remedy may take."""

    def __init__(self, seconds: float | None, clock: Callable[[], float] = time.monotonic) -> None:
        """Begin to count now; None is no limit."""
        self._seconds, self._clock, self._begun = seconds, clock, clock()

    def check(self, remedy: str) -> None:
        """Go on, or not.

        Raises:
            Permanent: the time is over; what the remedy has made so far is thrown away.
        """
        if self._seconds is not None and self._clock() - self._begun > self._seconds:
            raise Permanent(f"{remedy} ran out of its {self._seconds:g} seconds (remedying.seconds)")
