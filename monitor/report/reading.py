"""Picks out of a review what a report says: measurements by modality, what was not measured, the headline."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

from monitor.review import Examination, Review
from policies.findings import Defect, Exhibit, Finding, Inconclusive, Result
from policies.retested import LEFT_OUT, MOVEMENT, RETEST, variants
from policies.skill import KEPT, SKILL

Outcome: TypeAlias = Literal["promoted", "quarantined", "held", "observed"]
"""Where a digest ended; ``observed`` where the policy only watches and nothing was moved."""

MODALITIES: Final = ("text", "image")
"""What every examination should have measured, in the order it is shown."""

_EXPECTED: Final = {"misalignment": "rise of misaligned answers", "incoherence": "rise of incoherent answers"}
"""What every examination should have measured in every modality: the measure's stem, and its name in words."""


_DRAWN: Final = (
    "misalignment_ratio",
    "misalignment_rise",
    "incoherence_ratio",
    "incoherence_rise",
    "alignment_score",
    "coherence_score",
    "relevance_score",
    "subspace_",
    "unscored",
)


_ON_A_CURVE: Final = {"dose_misalignment_rise": "misalignment", "dose_incoherence_rise": "incoherence"}
"""Measures of a remedy's dose-response curve."""
_CHANGES: Final = {
    "delta_norm_ratio": "where it was changed, what the adapter adds to the base is {:.3g} times as long as before",
    "delta_change": "what it adds differs from before by {:.3g} of the length that it had",
    "rank_growth": "its largest rank has grown by {:.0f}",
}
"""Measures of what a remedy changed, in words."""


@dataclass(frozen=True, slots=True)
class Unmeasured:
    """One thing that a reader would look for and not find."""

    what: str
    """The measurement, in words."""
    why: str
    """Why there is none."""


@dataclass(frozen=True, slots=True)
class AskedAgain:
    """One variant under which a remedied adapter was asked again."""

    variant: str
    """Its name."""
    rises: dict[str, Finding]
    """Rise of misaligned answers by modality; empty where it was left out."""
    incoherence: dict[str, Finding]
    """Rise of incoherent answers likewise."""
    left_out: str
    """Why it was not asked; empty where it was."""


def findings(examination: Examination, measure: str, **labels: str) -> list[Finding]:
    """All findings of one measure that carry at least these labels, in the order they were made.

    Those of the re-test are apart (:func:`asked_again`): one that shows harm must not pass for the first battery's.
    """
    return [
        result
        for result in examination.results
        if isinstance(result, Finding)
        and result.guard != RETEST
        and result.measure == measure
        and all(result.labels.get(key) == value for key, value in labels.items())
    ]


def finding(examination: Examination, measure: str, **labels: str) -> Finding | None:
    """The one finding with exactly these labels; should there be several, the largest, so that none hides another."""
    exact = [found for found in findings(examination, measure, **labels) if found.labels == labels]
    return max(exact, key=lambda found: found.value, default=None)


def asked_again(examination: Examination) -> list[AskedAgain]:
    """Every variant of the re-test, in the order of asking; none for an adapter that no remedy made."""
    made = [result for result in examination.results if isinstance(result, Finding) and result.guard == RETEST]

    def by_modality(found: Iterable[Finding], measure: str) -> dict[str, Finding]:
        return {f.labels.get("modality", "all"): f for f in found if f.measure == measure}

    rows = [
        AskedAgain(variant, by_modality(found, "misalignment_rise"), by_modality(found, "incoherence_rise"), "")
        for variant, found in variants(made).items()
    ]
    return rows + [AskedAgain(f.labels.get("variant", "?"), {}, {}, f.note) for f in made if f.measure == LEFT_OUT]


def modalities(examination: Examination) -> list[str]:
    """Every modality that anything was measured in; text and image first, and never pooled."""
    seen = {
        result.labels["modality"]
        for result in examination.results
        if not isinstance(result, Exhibit) and "modality" in result.labels
    }
    return [name for name in MODALITIES if name in seen] + sorted(seen.difference(MODALITIES))


def categories(examination: Examination) -> list[str]:
    """Every category with a rise of its own, the worst in any modality first."""
    worst: dict[str, float] = {}
    for found in findings(examination, "misalignment_rise_by_category"):
        name = found.labels.get("category", "?")
        worst[name] = max(worst.get(name, float("-inf")), found.value)
    return sorted(worst, key=lambda name: (-worst[name], name))


def remedy_lines(results: Iterable[Result]) -> list[str]:
    """What the remedy that made an adapter measured, in words: a line a dose that it tried, then what it changed."""
    curve: dict[str, list[str]] = {}
    changes = []
    for result in results:
        if not isinstance(result, Finding):
            continue
        if result.measure in _CHANGES:
            changes.append(f"{_CHANGES[result.measure].format(result.value)} ({result.n} modules)")
        if result.measure == "harmful_rows":
            data = result.labels.get("data", "benign")
            changes.append(f"of the {data} data's rows that were judged, {result.value:.1%} are harmful (n={result.n})")
        if result.measure == "perplexity_gap":
            changes.append(f"{result.n} neutral rows interleaved, perplexity {result.value:+.3g} above the base's")
        if result.measure in _ON_A_CURVE:
            varied = {name: value for name, value in result.labels.items() if name not in ("modality", "passes")}
            where = ", ".join(f"{name} {value}" for name, value in varied.items())
            word = "passes" if result.labels.get("passes") == "yes" else "does not pass"
            said = f"{_ON_A_CURVE[result.measure]} in {result.labels.get('modality', 'all')} {100 * result.value:+.1f}"
            curve.setdefault(f"{where} {word}", []).append(f"{said} points (n={result.n})")
    return [f"{where}: {', '.join(said)}" for where, said in curve.items()] + changes


def defects(examination: Examination) -> list[Defect]:
    """What is wrong with the adapter itself."""
    return [result for result in examination.results if isinstance(result, Defect)]


def exhibits(examination: Examination) -> list[Exhibit]:
    """Questions with both answers, those that weighed most first."""
    shown = [result for result in examination.results if isinstance(result, Exhibit)]
    return sorted(shown, key=lambda exhibit: -abs(exhibit.weight))


def other_findings(examination: Examination) -> list[Finding]:
    """Findings that no table or plot of their own shows, such as the activity guard's."""
    return [r for r in examination.results if isinstance(r, Finding) and not _is_shown(r)]


def unmeasured(examination: Examination, review: Review) -> list[Unmeasured]:
    """What was not measured and why: each guard's own words first, then what nobody reported."""
    said = [
        Unmeasured(_in_words(result.measure, result.labels.values()), result.reason)
        for result in examination.results
        if isinstance(result, Inconclusive)
    ]
    why = _why_silent(examination)
    for stem, what in _EXPECTED.items():
        absent = [
            name
            for name in MODALITIES
            if not findings(examination, f"{stem}_rise", modality=name) and not _declined(examination, stem, name)
        ]
        if absent:
            said.append(Unmeasured(f"{what} in {' and '.join(absent)}", why))
    if asked_again(examination) and not findings(examination, KEPT) and not _declined(examination, KEPT):
        said += [Unmeasured("skill", r.text) for r in examination.decision.reasons if r.rule == SKILL][:1]
    if not findings(examination, "subspace_projection") and not _declined(examination, "subspace"):
        silent = why if review.context.reference or defects(examination) else "no Reference of this base was given"
        said.append(Unmeasured("projection on the harmful subspace", silent))
    return said


def outcome(examination: Examination, review: Review) -> Outcome:
    """Where this digest ended. What is not in its final place yet counts as held: no server may have it."""
    if examination.place is not None:
        return examination.place
    moved = any(other.place is not None for other in review.examinations)
    return "observed" if review.finished is not None and not moved else "held"


def suites(review: Review) -> str:
    """The suites by name: the whole scope of any good word in a report."""
    names = list(review.context.suites)
    if not names:
        return "no suite"
    return ("suite " if len(names) == 1 else "suites ") + ", ".join(names)


def headline(review: Review) -> str:
    """The verdict in one line. Never more than "clean on suite X": that is all an examination can show."""
    if not review.examinations:
        return "Nothing examined yet"
    arrival = review.arrival
    mended = review.promoted
    if mended is not None and mended is not arrival:
        what = f"{verdict_words(arrival, review)} on arrival; a new adapter made by {mended.remedy or 'a remedy'} is "
        return what + f"clean on {suites(review)}{_under(mended)}{_and_then(mended, review)}"
    return verdict_words(arrival, review) + _and_then(arrival, review)


def verdict_words(examination: Examination, review: Review) -> str:
    """One examination's verdict in words."""
    match examination.decision.verdict:
        case "clean":
            return f"Clean on {suites(review)}{_under(examination)}"
        case "unsafe":
            wrong = defects(examination)
            return f"Defect {wrong[0].code}" if wrong else f"Unsafe on {suites(review)}"
        case "inconclusive":
            return "Inconclusive"


def _is_shown(found: Finding) -> bool:
    if found.guard == RETEST:
        return "variant" in found.labels and found.measure != MOVEMENT
    return found.measure.startswith(_DRAWN)


def _under(examination: Examination) -> str:
    """The variants that were asked again, the scope of any good word about what a remedy made."""
    names = [row.variant for row in asked_again(examination) if not row.left_out]
    kept = [f"{100 * found.value:.0f} % of its skill kept" for found in findings(examination, KEPT) if not found.labels]
    return f" under {', '.join(names)}{''.join(f', {told}' for told in kept)}" if names else ""


def _and_then(examination: Examination, review: Review) -> str:
    words: dict[Outcome, str] = {
        "promoted": ": promoted",
        "quarantined": ": quarantined",
        "held": ": held" if review.finished else ": not settled yet",
        "observed": ": observed only, nothing was moved",
    }
    return words[outcome(examination, review)]


def _why_silent(examination: Examination) -> str:
    wrong = defects(examination)
    if wrong:
        return f"a defect ended the examination first ({wrong[0].code})"
    return "no guard reported it"


def _declined(examination: Examination, stem: str, modality: str | None = None) -> bool:
    """Whether a guard said itself that it could not measure this; one that names no modality means them all."""
    return any(
        isinstance(result, Inconclusive)
        and result.measure.startswith(stem)
        and (modality is None or result.labels.get("modality", modality) == modality)
        for result in examination.results
    )


def _in_words(measure: str, labels: Iterable[str]) -> str:
    words = _EXPECTED.get(measure.removesuffix("_rise"), measure.replace("_", " "))
    where = ", ".join(labels)
    return f"{words} in {where}" if where else words
