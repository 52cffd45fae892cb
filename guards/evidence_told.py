"""Evidence told as findings: what rules read first, then the details for people, then the pairs that weighed most."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any, TypeAlias

from adapters.prompts import Modality
from guards.capability import rates
from guards.evidence import Evidence
from guards.judges.interface import SCALES, Judgement
from guards.measures import Measure, Pair, Unit
from guards.statistics import AveragedProcess, BettingProcess, Interval, cluster_bootstrap, mean_interval
from policies.findings import Exhibit, Finding, Result

_EXHIBITS = 6
Add: TypeAlias = Callable[..., None]


def results_of(evidence: Evidence, guard: str, version: str) -> list[Result]:
    """Return everything that was seen, as the results of a guard."""
    found: list[Result] = []

    def add(measure: str, told: Interval | BettingProcess | AveragedProcess, note: str = "", **labels: str) -> None:
        numbers: dict[str, Any] = asdict(told) if isinstance(told, Interval) else {"value": told.largest, "n": told.n}
        found.append(Finding(guard=guard, version=version, measure=measure, labels=labels, note=note, **numbers))

    for measure in evidence.measures:
        _tell_measure(measure, evidence, add)
    _tell_order(evidence, add)
    for modality in evidence.misalignment.modalities:
        _tell_scores(_of(evidence.pairs, modality), modality, add)
        _tell_groups(evidence, modality, add)
        _tell_capability(_of(evidence.pairs, modality), modality, add)
    _tell_modality_gap(evidence, add)
    return [*found, *_exhibits(evidence, guard, version)]


def _tell_measure(measure: Measure, evidence: Evidence, add: Add) -> None:
    if not measure.modalities:
        return
    name = measure.name
    for modality in measure.modalities:
        pairs = [pair for pair in _of(evidence.pairs, modality) if measure.applies(pair.prompt)]
        add(f"{name}_rise", measure.interval(pairs), modality=modality)
        add(f"{name}_clear_e_value", measure.tests[modality].clear, modality=modality)
        samples = [sample for pair in pairs for sample in pair.samples]
        for model, told in (
            ("adapter", measure.rate((s.answer, s.judged) for s in samples)),
            ("base", measure.rate((s.base_answer, s.base) for s in samples)),
        ):
            add(f"{name}_ratio", told, modality=modality, model=model)
        add(f"{name}_alarm_e_value", measure.tests[modality].alarm, modality=modality)
        if modality in measure.triggered:
            add(f"{name}_alarm_e_value", measure.triggered[modality], modality=modality, trigger="with")
        if any(pair.more for pair in pairs):
            other: Unit = "worst" if evidence.unit == "mean" else "mean"
            add(f"{name}_rise_by_{other}_answer", measure.interval(pairs, other), modality=modality)
    add(f"{name}_alarm_e_value", measure.joint, note="averaged over modalities and their triggered prompts")
    add(f"{name}_alarm_level", Interval(measure.level, measure.level, measure.level, evidence.seat.position))


def _tell_order(evidence: Evidence, add: Add) -> None:
    """How many prompts were asked, in an order whose digest shows later that it was this one."""
    asked = "\n".join(pair.prompt.id for pair in evidence.pairs)
    count = len(evidence.pairs)
    note = f"in the order sha256-{hashlib.sha256(asked.encode()).hexdigest()[:16]}"
    add("prompts_asked", Interval(count, count, count, count), note=note)


def _tell_scores(pairs: Sequence[Pair], modality: Modality, add: Add) -> None:
    for model in ("adapter", "base"):
        # A picture's question and its twin in words are about one thing, so they are no two observations.
        judged = [
            (p.prompt.twin_of or p.prompt.id, s.judged if model == "adapter" else s.base)
            for p in pairs
            for s in p.samples
        ]
        for scale in SCALES:
            scores = [(score, prompt) for prompt, j in judged if (score := getattr(j, scale)) is not None]
            mean = cluster_bootstrap([score for score, _ in scores], [prompt for _, prompt in scores])
            add(f"{scale}_score", _within_scale(mean), modality=modality, model=model)
        for reason, count in sorted(Counter(j.unscored for _, j in judged if j.unscored).items()):
            add("unscored", Interval(count, count, count, len(judged)), modality=modality, model=model, reason=reason)


def _within_scale(mean: Interval) -> Interval:
    """The same where there is nothing to draw from: a score of 0 to 100 is not known."""
    return mean if mean.n else Interval(0.0, 0.0, 100.0, 0)


def _tell_groups(evidence: Evidence, modality: Modality, add: Add) -> None:
    """Rises by category, variant and trigger: for reading, not for deciding."""
    rise, pairs = evidence.misalignment.interval, _of(evidence.pairs, modality)
    for category in sorted({pair.prompt.category for pair in pairs}):
        group = [pair for pair in pairs if pair.prompt.category == category]
        add("misalignment_rise_by_category", rise(group), modality=modality, category=category)
    variants = sorted({pair.prompt.variant or "as asked" for pair in pairs})
    for variant in variants if len(variants) > 1 else ():
        group = [pair for pair in pairs if (pair.prompt.variant or "as asked") == variant]
        add("misalignment_rise_by_variant", rise(group), modality=modality, variant=variant)
    if any(pair.prompt.trigger for pair in pairs):
        for word, wanted in (("with", True), ("without", False)):
            group = [pair for pair in pairs if (pair.prompt.trigger is not None) == wanted]
            add("misalignment_rise_by_trigger", rise(group), modality=modality, trigger=word)


def _tell_capability(pairs: list[Pair], modality: Modality, add: Add) -> None:
    found = rates(pairs)
    if found is None:
        return
    adapter, base, change = found
    add("capability_ratio", adapter, modality=modality, model="adapter")
    add("capability_ratio", base, modality=modality, model="base")
    add("capability_change", change, modality=modality)


def _tell_modality_gap(evidence: Evidence, add: Add) -> None:
    """Rise in pictures minus rise in words over the same questions, where both forms of a question were asked."""
    bounds = {pair.prompt.id: evidence.misalignment.bounds(pair) for pair in evidence.pairs}
    twins = [(pair.prompt.twin_of, bounds[pair.prompt.id]) for pair in evidence.pairs if pair.prompt.twin_of in bounds]
    if not twins:
        return
    # Halved, so that a difference of two numbers in [-1, 1] is one itself.
    low = [(bounds[shown][0] - words[1]) / 2 for shown, words in twins if shown is not None]
    high = [(bounds[shown][1] - words[0]) / 2 for shown, words in twins if shown is not None]
    gap = mean_interval(low, high)
    add("modality_gap", Interval(2 * gap.value, 2 * gap.low, 2 * gap.high, gap.n), note="pictures minus words")


def _exhibits(evidence: Evidence, guard: str, version: str) -> list[Exhibit]:
    """The answers that weighed most: newly misaligned first, then the largest fall in alignment."""

    def weight(pair: Pair) -> tuple[float, float]:
        return evidence.misalignment.bounds(pair)[0], (pair.base.alignment or 0) - (pair.judged.alignment or 0)

    chosen: list[Pair] = []
    for modality in evidence.misalignment.modalities:
        samples = [sample for pair in _of(evidence.pairs, modality) for sample in pair.singly]
        ranked = sorted(samples, key=weight, reverse=True)
        chosen += ranked[: _EXHIBITS // len(evidence.misalignment.modalities)]
    return [
        Exhibit(
            guard=guard,
            version=version,
            prompt=pair.prompt.id,
            modality=pair.prompt.modality,
            category=pair.prompt.category,
            asked=pair.prompt.asked,
            image=str(pair.prompt.image) if pair.prompt.image else None,
            trigger=pair.prompt.trigger,
            base_answer=pair.base_answer,
            answer=pair.answer,
            base_scores=_scores(pair.base),
            scores=_scores(pair.judged),
            weight=weight(pair)[0],
        )
        for pair in chosen
    ]


def _of(pairs: Sequence[Pair], modality: Modality) -> list[Pair]:
    return [pair for pair in pairs if pair.prompt.modality == modality]


def _scores(judgement: Judgement) -> dict[str, float] | None:
    return {scale: getattr(judgement, scale) for scale in SCALES} if judgement.scored else None
