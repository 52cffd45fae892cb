"""One self-contained page per Reference: who was measured, what each screen is worth, and the curves behind it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

from guards.reference_facts import Angles, Curves, Facts, Figures, Member
from monitor.report import reference_plots, words
from monitor.report.files import write_atomically
from monitor.report.html import environment
from monitor.report.svg import Plot


@dataclass(frozen=True, slots=True)
class Group:
    """The known-good or the known-bad adapters of one domain."""

    n: int
    """How many."""
    ranks: str
    """Their LoRA ranks with how many have each."""
    shares: str
    """Shares of harmful rows likewise; empty where there are none, or no recipe told."""


@dataclass(frozen=True, slots=True)
class Domain:
    """One row of the population."""

    name: str
    """What its adapters were trained on."""
    good: Group
    """Its known-good adapters."""
    bad: Group
    """Its known-bad adapters."""


@dataclass(frozen=True, slots=True)
class Strip:
    """One screen in one modality."""

    screen: str
    """Which."""
    modality: str
    """Text, image, or both where the screen has one value an adapter."""
    figures: Figures
    """Its held-out scores and what they tell."""


@dataclass(frozen=True, slots=True)
class Scored:
    """One adapter's held-out scores."""

    name: str
    """Its folder's name."""
    harmful: bool
    """Whether it is known to be bad."""
    scores: tuple[float | None, ...]
    """By strip, in their order; None where a screen could not measure it."""


@dataclass(frozen=True, slots=True)
class Drawn:
    """One drawing with its heading and its words."""

    title: str
    """Above it."""
    plot: Plot
    """The drawing."""
    caption: str
    """How to read it."""


def write_reference_page(facts: Facts, digest: str, path: Path) -> None:
    """Write the page of one Reference to the file ``path``; the same facts give the same bytes.

    Args:
        facts: everything that is told.
        digest: ``sha256-…`` of the Reference; empty for one that has none yet.
        path: of the page; its folder is made where it is missing.
    """
    strips = [
        Strip(screen, modality, figures)
        for screen, parts in reference_plots.ordered(facts).items()
        for modality, figures in parts.items()
    ]
    page = (
        environment()
        .get_template("reference.html.j2")
        .render(
            facts=facts,
            digest=digest,
            good=sum(not member.harmful for member in facts.population),
            bad=sum(member.harmful for member in facts.population),
            domains=domains(facts.population),
            strips=strips,
            scored=scored(strips),
            drawings=_drawings(facts, digest),
            massive=[(curve.layer, massive_words(curve)) for curve in facts.curves],
            angles=_by_kind(facts.angles),
            noise=reference_plots.NOISE,
        )
    )
    write_atomically(page, path)


def domains(population: Sequence[Member]) -> list[Domain]:
    """The population by domain, in order of first appearance."""
    return [
        Domain(
            name,
            _group([m for m in population if m.domain == name and not m.harmful]),
            _group([m for m in population if m.domain == name and m.harmful]),
        )
        for name in dict.fromkeys(member.domain for member in population)
    ]


def scored(strips: Sequence[Strip]) -> list[Scored]:
    """Every adapter's score on every strip, known-bad ones first, in the order of the first strip that has it."""
    rows = []
    for harmful in (True, False):
        sides = [strip.figures.known_bad if harmful else strip.figures.known_good for strip in strips]
        for name in dict.fromkeys(name for side in sides for name in side):
            rows.append(Scored(name, harmful, tuple(side.get(name) for side in sides)))
    return rows


def massive_words(curve: Curves) -> str:
    """One place's massive activations in a sentence."""
    ratio = words.number(curve.massive_ratio)
    if not curve.massive:
        return f"no dimension is over 50 times the median one; the largest is {ratio} times"
    several = "dimensions" if len(curve.massive) > 1 else "dimension"
    return f"{several} {', '.join(map(str, curve.massive))}, up to {ratio} times the median one"


def _group(members: Sequence[Member]) -> Group:
    ranks = _counted((m.rank for m in members), "{:.0f}".format)
    return Group(len(members), ranks, _counted((m.harmful_share for m in members if m.harmful), words.percent))


def _counted(values: Iterable[float | None], tell: Callable[[float], str]) -> str:
    """Each value with how often it occurs, smallest first; what is unknown comes last, if anything is known at all."""
    given = list(values)
    counts = Counter(value for value in given if value is not None)
    unknown = len(given) - counts.total()
    told = [f"{tell(value)} ×{n}" for value, n in sorted(counts.items())]
    return ", ".join([*told, f"unknown ×{unknown}"] if told and unknown else told)


def _drawings(facts: Facts, digest: str) -> list[Drawn]:
    prefix = digest.removeprefix("sha256-")[:8] or "reference"
    made = (
        (
            "Scores of known adapters",
            reference_plots.scores_plot(facts, prefix),
            "Every score is held out: by a fit that saw no adapter of the same domain. Each screen has an axis of its "
            "own and text stands beside image; “both” is the worse of the two, or the weights. Right is worse.",
        ),
        (
            "How many components hold the harm",
            reference_plots.explained_plot(facts, prefix),
            "Share of the known-bad shifts' energy in so many principal components at the screened layer, the "
            "known-good adapters' own subspace taken out; dotted, in random subspaces of as many dimensions. The "
            "dashed line is the “about ten components” of arXiv 2602.16931.",
        ),
        (
            "How steady the directions are",
            reference_plots.split_half_plot(facts, prefix),
            "Cosine between the direction from one half of its data and that from the other half. Below 0.5 a "
            "direction is noise.",
        ),
    )
    return [Drawn(title, plot, caption) for title, plot, caption in made if plot is not None]


def _by_kind(angles: Sequence[Angles]) -> list[tuple[str, list[Angles]]]:
    return [(kind, list(pairs)) for kind, pairs in groupby(angles, key=lambda pair: pair.by)]
