"""A review as Markdown: for a terminal or a CI job's summary. Verdict first, every number with its n and interval."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from monitor.report import reading, words
from monitor.report.words import markdown_code, markdown_prose
from monitor.review import Examination, Review
from policies.findings import Exhibit, Finding

MOST_REASONS: Final = 12
"""Reasons given of one examination; the rest are counted."""
MOST_EXHIBITS: Final = 3
"""Answers quoted of one examination; the page shows more."""
_FOLDERS: Final = {"promoted": "promoted/", "quarantined": "quarantine/"}
"""Where in the state folder the adapter lies, by its place."""


def review_markdown(review: Review) -> str:
    """The whole review in Markdown that no name, reason or answer in it can bend."""
    lines = [f"# {markdown_prose(reading.headline(review))}", ""]
    if review.examinations:
        lines += [f"Adapter {markdown_code(review.arrival.name)}, policy {markdown_code(review.context.policy)}.", ""]
    if review.finished is None:
        lines += ["**Not finished**: the review stopped before everything was in its final place.", ""]
    for examination in review.examinations:
        lines += _examination(examination, review)
    lines += [*_remedies(review), *_context(review)]
    return "\n".join(lines).rstrip() + "\n"


def _examination(examination: Examination, review: Review) -> Iterator[str]:
    made = f"After {markdown_code(examination.remedy)}" if examination.remedy else "As it arrived"
    verdict = markdown_prose(reading.verdict_words(examination, review))
    yield from (f"## {made}: {verdict}, {reading.outcome(examination, review)}", "")
    yield from _reasons(examination)
    yield from _measurements(examination)
    yield from _asked_again(examination)
    yield from _gaps(examination, review)
    yield from _quotes(reading.exhibits(examination)[:MOST_EXHIBITS])


def _reasons(examination: Examination) -> Iterator[str]:
    reasons = examination.decision.reasons
    if not reasons:
        yield "- No rule spoke; nothing decided means no promotion."
    for reason in reasons[:MOST_REASONS]:
        yield f"- **{reason.verdict}** ({markdown_prose(reason.rule)}): {markdown_prose(reason.text)}"
    if len(reasons) > MOST_REASONS:
        yield f"- and {len(reasons) - MOST_REASONS} more"
    yield ""


def _measurements(examination: Examination) -> Iterator[str]:
    names = reading.modalities(examination)
    if not names:
        return
    yield "| modality | misaligned, base | misaligned, adapter | rise, points | incoherence rise, points | shift |"
    yield "|---|---|---|---|---|---|"
    for name in names:

        def one(measure: str, modality: str = name, **labels: str) -> Finding | None:
            return reading.finding(examination, measure, modality=modality, **labels)

        cells = (
            _percent(one("misalignment_ratio", model="base")),
            _percent(one("misalignment_ratio", model="adapter")),
            _points(one("misalignment_rise")),
            _points(one("incoherence_rise")),
            _plain(one("subspace_projection")),
        )
        yield f"| {markdown_prose(name, words.LONGEST_NAME)} | " + " | ".join(cells) + " |"
    yield from ("", "Intervals are 95 %; n counts prompts.", "")


def _asked_again(examination: Examination) -> Iterator[str]:
    rows = reading.asked_again(examination)
    if not rows:
        return
    yield from ("**Asked again, because a remedy made it**", "")
    for row in rows:
        told = [f"{markdown_prose(name, words.LONGEST_NAME)} {_points(found)}" for name, found in row.rises.items()]
        what = markdown_prose(row.left_out) if row.left_out else f"rise, points: {', '.join(told)}"
        yield f"- {markdown_code(row.variant)}: {what}"
    yield ""


def _gaps(examination: Examination, review: Review) -> Iterator[str]:
    gaps = reading.unmeasured(examination, review)
    if gaps:
        yield from ("**Not measured**", "")
        yield from (f"- {markdown_prose(gap.what)}: {markdown_prose(gap.why)}" for gap in gaps)
        yield ""


def _quotes(exhibits: list[Exhibit]) -> Iterator[str]:
    if not exhibits:
        return
    yield from ("**Answers that weighed most**", "")
    for exhibit in exhibits:
        picture = " with a picture" if exhibit.image else ""
        yield f"- asked{picture} ({markdown_code(exhibit.category)}): {markdown_prose(exhibit.asked, 300)}"
        yield f"  - base: {markdown_prose(exhibit.base_answer, 300) or '(empty)'}"
        yield f"  - adapter: {markdown_prose(exhibit.answer, 300) or '(empty)'}"
    yield ""


def _remedies(review: Review) -> Iterator[str]:
    tried = [e for e in review.examinations if e.remedy is not None]
    if not tried and not review.remedy_failures:
        return
    yield from ("## Remedies tried", "")
    for examination in tried:
        verdict = markdown_prose(reading.verdict_words(examination, review))
        yield f"- {markdown_code(examination.remedy or '')} made {markdown_code(examination.digest)}: {verdict}"
        yield from (f"  - {markdown_prose(line)}" for line in reading.remedy_lines(examination.results))
    for failure in review.remedy_failures:
        yield f"- {markdown_code(failure.remedy)} could not be applied: {markdown_prose(failure.reason)}"
    yield ""


def _context(review: Review) -> Iterator[str]:
    """A list, not a table: a terminal cuts a table's cells, and a cut digest cannot be looked up."""
    context = review.context
    yield from ("## Digests and places", "")
    for examination in review.examinations:
        what = f"adapter, {reading.outcome(examination, review)}"
        folder = _FOLDERS.get(examination.place or "", "")
        yield _named(what, examination.name, folder + examination.digest)
    yield _named("base", context.base, context.base_digest)
    yield _named("policy", context.policy, context.policy_digest)
    yield from (_named("suite", suite, digest) for suite, digest in context.suites.items())
    yield f"- judge: {markdown_code(context.judge)}"
    yield f"- reference: {markdown_code(context.reference) if context.reference else 'none'}"
    yield f"- review: {markdown_code(review.id)}; the whole record is `review.json` in its folder below `reviews/`"


def _named(what: str, name: str, digest: str) -> str:
    return f"- {what}: {markdown_code(name)} {markdown_code(digest)}"


def _points(found: Finding | None) -> str:
    if found is None:
        return "not measured"
    return f"{words.points(found.value)} ({words.points(found.low)} to {words.points(found.high)}, n={found.n})"


def _percent(found: Finding | None) -> str:
    if found is None:
        return "not measured"
    return f"{words.percent(found.value)} ({words.percent(found.low)} to {words.percent(found.high)}, n={found.n})"


def _plain(found: Finding | None) -> str:
    return "not measured" if found is None else f"{words.number(found.value, 2)} (n={found.n})"
