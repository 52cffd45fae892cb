"""One self-contained page per review: no script, no outside reference, readable with every style switched off."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Final
from urllib.parse import quote

from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from monitor.report import plots, reading, words
from monitor.report.files import write_atomically
from monitor.report.pictures import data_uri
from monitor.report.summary import SummaryEntry
from monitor.report.svg import Plot
from monitor.review import Examination, Review
from policies.findings import Exhibit, Finding
from policies.policy import Policy
from policies.rules import RiseRule

MOST_EXHIBITS: Final = 12
"""Exhibits shown of one examination; the rest stay in ``review.json`` and are counted."""
MOST_PICTURES: Final = 24
"""Pictures put into one page, so that it stays small enough to mail."""
_OUTCOMES: Final[tuple[reading.Outcome, ...]] = ("promoted", "quarantined", "held", "observed")


@dataclass(frozen=True, slots=True)
class Measured:
    """One modality's numbers, as the table shows them."""

    name: str
    """The modality."""
    rise: Finding | None
    """Rise of misaligned answers over the base."""
    incoherence: Finding | None
    """Rise of incoherent answers over the base."""
    base: Finding | None
    """Share of the base's answers that are misaligned."""
    adapter: Finding | None
    """Share of the adapter's answers that are misaligned."""
    incoherent_base: Finding | None
    """Share of the base's answers that are incoherent."""
    incoherent_adapter: Finding | None
    """Share of the adapter's answers that are incoherent."""
    shift: Finding | None
    """Projection on the harmful subspace."""
    p_value: Finding | None
    """Conformal p-value of that projection among the known-good adapters."""
    scores: dict[tuple[str, str], Finding]
    """Mean score by scale and model."""
    unscored: tuple[Finding, ...]
    """Answers the judge gave no score, by reason."""


@dataclass(frozen=True, slots=True)
class Shown:
    """One exhibit with its picture, if there is one to show."""

    exhibit: Exhibit
    """The question and both answers."""
    picture: Markup | None
    """A ``data:`` address."""
    missing: str | None
    """Why the picture is not shown; None where it is, or where there is none."""


@dataclass(frozen=True, slots=True)
class Section:
    """Everything the page says of one examination."""

    examination: Examination
    outcome: reading.Outcome
    verdict: str
    measured: tuple[Measured, ...]
    unmeasured: tuple[reading.Unmeasured, ...]
    rise: Plot | None
    rows: tuple[plots.Row, ...]
    shift: Plot | None
    scores: Plot | None
    exhibits: tuple[Shown, ...]
    exhibited: int
    """How many exhibits the examination has; the page shows the weightiest."""
    asked_again: tuple[reading.AskedAgain, ...]
    """The re-test of what a remedy made, by variant."""
    others: tuple[Finding, ...]
    """Findings that no table or plot of the page draws, such as those of the activity guard."""


def write_review_page(review: Review, out: Path, policy: Policy | None = None) -> Path:
    """Write the page of one review, all its examinations in order, to the file ``out``.

    With the ``policy`` that decided, the plots show what it tolerates.
    """
    rule = policy.rules.misalignment if policy is not None else None
    allowance = [MOST_PICTURES]
    sections = [_section(examination, review, rule, allowance) for examination in review.examinations]
    page = (
        environment()
        .get_template("review.html.j2")
        .render(
            review=review,
            sections=sections,
            headline=reading.headline(review),
            suites=reading.suites(review),
            rule=rule,
            most_rows=plots.MOST_ROWS,
            scales=plots.SCALES,
        )
    )
    return write_atomically(page, out)


def page_link(entry: SummaryEntry) -> str:
    """Where an index beside the pages finds an entry: ``<review id>.html``, at its digest."""
    return f"{quote(entry['review'], safe='')}.html#{quote(entry['digest'], safe='')}"


def write_index(entries: Sequence[SummaryEntry], out: Path, link: Callable[[SummaryEntry], str] = page_link) -> Path:
    """Write the list of examined digests to the file ``out``; ``link`` tells each one's page, relative to it."""
    counts = {name: sum(entry["outcome"] == name for entry in entries) for name in _OUTCOMES}
    names = list(
        dict.fromkeys([*reading.MODALITIES, *(name for entry in entries for name in entry["misalignment_rise"])])
    )
    page = (
        environment()
        .get_template("index.html.j2")
        .render(entries=[(entry, link(entry)) for entry in entries], counts=counts, modalities=names)
    )
    return write_atomically(page, out)


@cache
def environment(*packages: str) -> Environment:
    """Templates that escape everything and show what would hide: those of these packages first, then the report's."""
    environment = Environment(
        loader=ChoiceLoader([PackageLoader(package) for package in (*packages, "monitor.report")]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_finalize,
    )
    environment.filters.update(
        points=words.points,
        percent=words.percent,
        number=words.number,
        compact=words.compact,
        duration=words.duration,
        short=words.short_digest,
        name=lambda text: words.visible(text, limit=words.LONGEST_NAME),
    )
    return environment


def _finalize(value: object) -> object:
    """Every text that reaches a page has its invisible characters shown; none can be forgotten."""
    return words.visible(value, newlines=True) if isinstance(value, str) and not isinstance(value, Markup) else value


def _section(examination: Examination, review: Review, rule: RiseRule | None, allowance: list[int]) -> Section:
    rows = plots.forest_rows(examination)
    exhibits = reading.exhibits(examination)
    return Section(
        examination=examination,
        outcome=reading.outcome(examination, review),
        verdict=reading.verdict_words(examination, review),
        measured=tuple(measured_in(examination, name) for name in reading.modalities(examination)),
        unmeasured=tuple(reading.unmeasured(examination, review)),
        rise=plots.rise_plot(examination, rule),
        rows=tuple(row for row in rows if row.rises),
        shift=plots.shift_plot(examination),
        scores=plots.score_plot(examination),
        exhibits=tuple(_shown(exhibit, allowance) for exhibit in exhibits[:MOST_EXHIBITS]),
        exhibited=len(exhibits),
        asked_again=tuple(reading.asked_again(examination)),
        others=tuple(reading.other_findings(examination)),
    )


def measured_in(examination: Examination, name: str) -> Measured:
    """Pick one modality's numbers out of an examination."""

    def one(measure: str, **labels: str) -> Finding | None:
        return reading.finding(examination, measure, modality=name, **labels)

    return Measured(
        name=name,
        rise=one("misalignment_rise"),
        incoherence=one("incoherence_rise"),
        base=one("misalignment_ratio", model="base"),
        adapter=one("misalignment_ratio", model="adapter"),
        incoherent_base=one("incoherence_ratio", model="base"),
        incoherent_adapter=one("incoherence_ratio", model="adapter"),
        shift=one("subspace_projection"),
        p_value=one("subspace_p_value"),
        scores={
            (scale, model): found
            for scale in plots.SCALES
            for model in ("base", "adapter")
            if (found := one(f"{scale}_score", model=model))
        },
        unscored=tuple(reading.findings(examination, "unscored", modality=name)),
    )


def _shown(exhibit: Exhibit, allowance: list[int]) -> Shown:
    """Embed the exhibit's picture while the page's allowance lasts."""
    if exhibit.image is None:
        return Shown(exhibit, None, None)
    if allowance[0] <= 0:
        return Shown(exhibit, None, f"left out, the page holds {MOST_PICTURES} pictures already: {exhibit.image}")
    picture = data_uri(Path(exhibit.image))
    if picture is None:
        return Shown(exhibit, None, f"cannot be shown, the file is missing or no picture: {exhibit.image}")
    allowance[0] -= 1
    return Shown(exhibit, picture, None)
