"""What one adapter's page and the comparison of two show of a review: numbers, intervals, answers side by side."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from monitor.ledger import Ledger
from monitor.report import reading
from monitor.report.html import MOST_EXHIBITS, Measured, measured_in
from monitor.report.plots import Row, forest_rows
from monitor.review import Examination, Review
from monitor.web import views
from monitor.web.charts import Bar, Scale, bar, rise_scale
from policies.findings import Exhibit, Finding

MISALIGNED_BELOW: Final = 50
"""An answer with less alignment than this, or without a score, is folded away until somebody opens it."""


@dataclass(frozen=True, slots=True)
class Shown:
    """One exhibit as it stands on the page."""

    exhibit: Exhibit
    """The question and both answers."""
    folded: bool
    """Whether its text is harmful enough to be shown only when asked for."""
    picture: str | None
    """Path of its picture."""


@dataclass(frozen=True, slots=True)
class Rise:
    """One row of the rises: all prompts, with or without a trigger, or a category."""

    label: str
    """What it is of."""
    found: dict[str, Finding]
    """By modality."""
    bars: dict[str, Bar | None]
    """Where they lie on the common scale."""


@dataclass(frozen=True, slots=True)
class Evidence:
    """One examination as its page shows it."""

    review: Review
    """The whole review."""
    examination: Examination
    """The part of it about this adapter."""
    headline: str
    """The verdict in words."""
    measured: tuple[Measured, ...]
    """The numbers by modality."""
    rises: tuple[Rise, ...]
    """Rises of misaligned answers, all prompts first."""
    scale: Scale
    """Of the rises."""
    unmeasured: tuple[reading.Unmeasured, ...]
    """What is missing, and why."""
    exhibits: tuple[Shown, ...]
    """What weighed most, bounded."""
    exhibited: int
    """How many there are."""
    asked_again: tuple[reading.AskedAgain, ...]
    """The re-test of what a remedy made, by variant."""
    others: tuple[Finding, ...]
    """Every other finding."""


@dataclass(frozen=True, slots=True)
class Side:
    """One of two adapters that are compared."""

    now: views.Standing
    """The adapter."""
    evidence: Evidence | None
    """Its last examination, if any."""

    def measured(self, modality: str) -> Measured | None:
        """Return its numbers in one modality."""
        of = () if self.evidence is None else self.evidence.measured
        return next((m for m in of if m.name == modality), None)


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two adapters side by side."""

    sides: tuple[Side, Side]
    """Both."""
    modalities: tuple[str, ...]
    """In which any of the two was measured."""
    differences: tuple[str, ...]
    """In what the two reviews differ, so that their numbers do not compare."""
    scale: Scale
    """Of the rises of both."""
    exhibits: tuple[tuple[Shown | None, Shown | None], ...]
    """Exhibits of the same prompt beside each other, bounded."""

    def bar(self, found: Finding | None) -> Bar | None:
        """Place a rise on the common scale."""
        return None if found is None else bar(found, self.scale)


def of_adapter(ledger: Ledger, now: views.Standing, review_id: str | None = None) -> Evidence | None:
    """Return the evidence of one review of an adapter, by default of the last finished one, else of the last begun."""
    wanted = review_id or (now.known.review if now.known else None) or (now.last.review if now.last else None)
    review = None if wanted is None else ledger.review(wanted)
    examination = _examination(review, now.digest)
    return None if review is None or examination is None else _evidence(review, examination)


def exhibit_at(ledger: Ledger, review_id: str, digest: str, number: int) -> Exhibit | None:
    """Return the exhibit that is the result with this number in an examination; None where there is none such."""
    examination = _examination(ledger.review(review_id), digest)
    if examination is None or not 0 <= number < len(examination.results):
        return None
    result = examination.results[number]
    return result if isinstance(result, Exhibit) else None


def resolve(ledger: Ledger, text: str) -> views.Standing | None:
    """Find the adapter that a person means: a digest, the beginning of one, or a name, of which the newest."""
    found = ledger.registry.find(text.strip(), limit=1) if text.strip() else []
    return views.standing(ledger, found[0].digest, decisions=1) if found else None


def comparison(ledger: Ledger, first: views.Standing, second: views.Standing) -> Comparison:
    """Put two adapters beside each other."""
    sides = (Side(first, of_adapter(ledger, first)), Side(second, of_adapter(ledger, second)))
    known = [side.evidence for side in sides if side.evidence is not None]
    names = dict.fromkeys(m.name for evidence in known for m in evidence.measured)
    rises = [m.rise for evidence in known for m in evidence.measured if m.rise is not None]
    differences: tuple[str, ...] = ()
    if len(known) == 2:
        mine, other = (evidence.review.context.model_dump() for evidence in known)
        differences = tuple(key.removesuffix("_digest") for key in mine if mine[key] != other[key])
    return Comparison(sides, tuple(names), tuple(dict.fromkeys(differences)), rise_scale(rises), _paired(sides))


def _paired(sides: tuple[Side, Side]) -> tuple[tuple[Shown | None, Shown | None], ...]:
    by_prompt = [
        {} if side.evidence is None else {(s.exhibit.prompt, s.exhibit.asked): s for s in side.evidence.exhibits}
        for side in sides
    ]
    keys = sorted(dict.fromkeys([*by_prompt[0], *by_prompt[1]]), key=lambda key: -sum(key in one for one in by_prompt))
    return tuple((by_prompt[0].get(key), by_prompt[1].get(key)) for key in keys[:MOST_EXHIBITS])


def _examination(review: Review | None, digest: str) -> Examination | None:
    return next((e for e in review.examinations if e.digest == digest), None) if review is not None else None


def _evidence(review: Review, examination: Examination) -> Evidence:
    rows = [row for row in forest_rows(examination) if row.rises]
    scale = rise_scale(found for row in rows for found in row.rises.values())
    numbers = {id(result): number for number, result in enumerate(examination.results)}
    exhibits = reading.exhibits(examination)
    return Evidence(
        review=review,
        examination=examination,
        headline=reading.verdict_words(examination, review),
        measured=tuple(measured_in(examination, name) for name in reading.modalities(examination)),
        rises=tuple(_rise(row, scale) for row in rows),
        scale=scale,
        unmeasured=tuple(reading.unmeasured(examination, review)),
        exhibits=tuple(
            _shown(exhibit, review.id, examination.digest, numbers[id(exhibit)]) for exhibit in exhibits[:MOST_EXHIBITS]
        ),
        exhibited=len(exhibits),
        asked_again=tuple(reading.asked_again(examination)),
        others=tuple(reading.other_findings(examination))[:200],
    )


def _rise(row: Row, scale: Scale) -> Rise:
    return Rise(row.label, row.rises, {name: bar(found, scale) for name, found in row.rises.items()})


def _shown(exhibit: Exhibit, review: str, digest: str, number: int) -> Shown:
    scored = exhibit.scores or {}
    folded = exhibit.weight > 0 or scored.get("alignment", 0.0) < MISALIGNED_BELOW
    picture = None if exhibit.image is None else f"/reviews/{review}/pictures/{digest}/{number}"
    return Shown(exhibit, folded, picture)
