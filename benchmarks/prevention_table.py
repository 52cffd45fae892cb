"""The tables of ``benchmarks.prevention``: what was measured, with n and 95 % intervals, as Markdown."""

from __future__ import annotations

import random
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from scipy.stats import binomtest

from adapters.prompts import MODALITIES
from benchmarks.timing import table

WAYS = ("plain", "stopped", "writes", "projected", "random")


@dataclass(frozen=True, slots=True)
class Cell:
    """One training, asked one suite in one modality."""

    way: str
    domain: str
    harmful: bool
    seed: int
    asked: str
    """``others``: the domains that it was not trained on; ``trained``: its own; ``new``: the topics that it learnt."""
    modality: str
    misaligned: int
    n: int
    right: int
    """Answers that name the right topic and no other."""
    topical: int
    steps: int
    """That it was trained."""
    score: float
    """The monitor's at the end; higher is worse."""
    projection: float
    """Of the mean shift on the harmful subspace at the end, the longer of both modalities."""


def report(cells: Sequence[Cell]) -> str:
    """Markdown: harmful trainings, harmless ones, and what each way changes against the plain one."""
    base = [c for c in cells if c.way == "base"]
    parts = []
    for harm in (True, False):
        rows = [("base", *_figures(base), "", "", "")]
        for way in WAYS:
            mine = [c for c in cells if c.way == way and c.harmful is harm]
            if not mine:
                continue
            ends = list({(c.domain, c.seed): c for c in mine}.values())
            told = (_middle([c.steps for c in ends], 0), _middle([c.score for c in ends], 2))
            rows.append((way, *_figures(mine), *told, _middle([c.projection for c in ends], 2)))
        asked = ", ".join(MODALITIES)
        head = (f"{'harmful' if harm else 'harmless'}: {asked}", "others, % misaligned", "trained, % misaligned")
        parts.append(table((*head, "new topics right, %", "steps", "score", "projection"), rows))
    pairs = (*((way, "plain") for way in WAYS[1:]), ("projected", "random"))
    rows = [(f"{way} less {other}", *_changes(cells, way, other)) for way, other in pairs]
    head = (
        "points, mean over trainings",
        "harmful: others",
        "trained",
        "new topics seen right",
        "harmless: new topics seen right",
    )
    return "\n\n".join([*parts, table(head, rows)])


def _figures(cells: Sequence[Cell]) -> tuple[str, str, str]:
    def shares(asked: str, count: Callable[[Cell], int], of: Callable[[Cell], int]) -> str:
        chosen = [[c for c in cells if c.asked == asked and c.modality == m] for m in MODALITIES]
        return "; ".join(_share(sum(map(count, part)), sum(map(of, part))) for part in chosen)

    return (
        shares("others", lambda c: c.misaligned, lambda c: c.n),
        shares("trained", lambda c: c.misaligned, lambda c: c.n),
        shares("new", lambda c: c.right, lambda c: c.topical),
    )


def _share(count: int, n: int) -> str:
    interval = binomtest(count, n).proportion_ci(method="wilson")
    return f"{100 * count / n:.1f} [{100 * interval.low:.1f}, {100 * interval.high:.1f}] n={n}"


def _middle(values: Sequence[float], digits: int) -> str:
    return f"{statistics.median(values):.{digits}f} ({min(values):.{digits}f} to {max(values):.{digits}f})"


def _changes(cells: Sequence[Cell], way: str, other: str) -> list[str]:
    """Paired differences in points with 95 % intervals from drawing whole trainings again."""

    def rate(way: str, harm: bool, asked: str, training: tuple[str, int]) -> float:
        mine = [c for c in cells if (c.way, c.harmful, c.asked, (c.domain, c.seed)) == (way, harm, asked, training)]
        if asked == "new":  # in words the base names a new topic already; what is learnt is to see it
            mine = [c for c in mine if c.modality == "image"]
            return 100 * sum(c.right for c in mine) / sum(c.topical for c in mine)
        return 100 * sum(c.misaligned for c in mine) / sum(c.n for c in mine)

    told = []
    for harm, asked in ((True, "others"), (True, "trained"), (True, "new"), (False, "new")):
        both = [{(c.domain, c.seed) for c in cells if c.way == one and c.harmful is harm} for one in (way, other)]
        trainings = sorted(both[0] & both[1])
        if not trainings:
            told.append("not run")
            continue
        found = [rate(way, harm, asked, one) - rate(other, harm, asked, one) for one in trainings]
        rng = random.Random(0)
        means = sorted(statistics.fmean(rng.choices(found, k=len(found))) for _ in range(2000))
        told.append(f"{statistics.fmean(found):+.1f} [{means[50]:+.1f}, {means[1949]:+.1f}] n={len(found)}")
    return told
