"""Is the judge good enough, and do its verdicts hold once its known errors are taken out?

Asked before a battery, whether the policy's demands on the judge are met: nothing is spent on a judge whose word would
not count. Told after it: the calibration's κ, the corrected rates and rises, how often the two orders of a comparison
disagreed, and how far a panel agreed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import assert_never

from adapters.prompts import Modality
from guards.evidence import Evidence
from guards.judges.agreement import krippendorffs_alpha
from guards.judges.calibration import Calibration, Counts, ModalityQuality, load_calibration
from guards.judges.comparative import ORDERS_DISAGREE
from guards.judges.correction import (
    Confusion,
    prediction_powered_rate,
    prediction_powered_rise,
    rogan_gladen_rate,
    rogan_gladen_rise,
)
from guards.judges.interface import Judgement
from guards.measures import Pair
from guards.statistics import Interval, cluster_bootstrap, wilson
from policies.findings import Finding, Inconclusive, Result
from policies.judge_settings import PanelOfJudges
from policies.policy import Policy

_AGAIN = "run 'alignwatch judge calibrate' with this judge and name its file in judging.calibration"


class JudgeQuality:
    """What is known of a policy's judge."""

    def __init__(self, policy: Policy, judge: str) -> None:
        """Read the calibration that the policy names, if any.

        Args:
            policy: what is demanded.
            judge: the id of the judge that will be asked.

        Raises:
            Permanent: the calibration cannot be read.
        """
        self._policy, self._judge, self._judging = policy, judge, policy.judging
        self._known: Calibration | None = None
        if policy.judging.calibration is not None:
            self._known = load_calibration(policy.judging.calibration)

    @property
    def version(self) -> tuple[str, ...]:
        """Changes whenever a result here could; empty where nothing is known or demanded of the judge."""
        panel = self._policy.judge if isinstance(self._policy.judge, PanelOfJudges) else None
        if self._known is None and panel is None and self._judging.protocol == "absolute":
            return ()
        known = self._known.digest if self._known else None
        agreement = panel.minimum_agreement if panel else None
        return (repr((known, self._judging.minimum_kappa, self._judging.correct, agreement)),)

    @property
    def stops_early(self) -> bool:
        """Whether a battery may stop when the sequential tests are settled; a corrected interval is for a fixed n."""
        return self._judging.correct == "none"

    def unfit(self, modalities: Sequence[Modality], guard: str, version: str) -> list[Result]:
        """Why the judge's word would not count, if it would not; asked before anything else is."""
        known = self._known
        if known is None:
            return []
        reasons = list(self._of_another(known))
        if not reasons:
            for modality in modalities:
                reasons += self._lacking(known.modalities.get(modality), modality)
        return [
            Inconclusive(guard=guard, version=version, measure="judge_quality", reason=reason) for reason in reasons
        ]

    def results(self, evidence: Evidence, guard: str, version: str) -> list[Result]:
        """Everything that is known of the judge after a battery, as results of a guard."""
        found: list[Result] = []

        def add(measure: str, told: Interval, note: str = "", **labels: str) -> None:
            numbers = asdict(told)
            found.append(Finding(guard=guard, version=version, measure=measure, labels=labels, note=note, **numbers))

        for modality in evidence.misalignment.modalities:
            pairs = [pair for pair in evidence.pairs if pair.prompt.modality == modality]
            if self._known is not None and modality in self._known.modalities:
                self._tell_corrected(evidence, pairs, self._known.modalities[modality], modality, add)
            if self._judging.protocol == "comparative":
                _tell_positions(pairs, modality, add)
            if isinstance(self._policy.judge, PanelOfJudges):
                agreed = self._tell_panel(pairs, modality, add)
                minimum = self._policy.judge.minimum_agreement
                if minimum is not None and agreed.low < minimum:
                    reason = (
                        f"in {modality} the members agree on {agreed.value:.3f} of {agreed.n} answers (95 % from "
                        f"{agreed.low:.3f}), and {minimum:g} is demanded; look at the members' scores in the record"
                    )
                    found.append(Inconclusive(guard=guard, version=version, measure="panel_agreement", reason=reason))
        return found

    def _of_another(self, known: Calibration) -> list[str]:
        rules = self._policy.rules
        if known.judge != self._judge:
            return [f"the calibration is of the judge {known.judge}, and this one is {self._judge}; {_AGAIN}"]
        if (known.misaligned_below, known.coherent_above) != (rules.misaligned_below, rules.coherent_above):
            return [
                f"the judge was calibrated at misaligned_below {known.misaligned_below:g} and coherent_above "
                f"{known.coherent_above:g}, and the policy says {rules.misaligned_below:g} and "
                f"{rules.coherent_above:g}; {_AGAIN}"
            ]
        return []

    def _lacking(self, quality: ModalityQuality | None, modality: Modality) -> list[str]:
        """What the policy demands of the judge in one modality and does not get."""
        minimum, correct = self._judging.minimum_kappa, self._judging.correct
        if minimum is None and correct == "none":
            return []
        if quality is None:
            return [f"people labelled no answer in {modality}, so how good the judge is there is not known; label some"]
        reasons = []
        kappa = quality.kappa
        if minimum is not None and kappa is None:
            reasons.append(f"κ in {modality} is not defined: people and judge gave all answers one and the same word")
        elif minimum is not None and kappa is not None and kappa.low < minimum:
            reasons.append(
                f"κ in {modality} is {kappa.value:.3f} (95 % {kappa.low:.3f} to {kappa.high:.3f}, n={kappa.n}), and "
                f"its lower end has to reach {minimum:g}; label more answers or choose a better judge"
            )
        if correct == "rogan_gladen" and quality.counts.confusion.informedness.low <= 0:
            reasons.append(
                f"the labels in {modality} do not show that the judge does better than guessing, so its errors cannot "
                "be corrected for; label more misaligned and more harmless answers"
            )
        if correct == "prediction_powered" and set(quality.by_model) != {"base", "adapter"}:
            reasons.append(
                f"prediction-powered correction needs labels in {modality} of the base's answers and of adapters' "
                "('model': 'base' or 'adapter'), as they come, neither picked nor balanced"
            )
        return reasons

    def _tell_corrected(
        self,
        evidence: Evidence,
        pairs: Sequence[Pair],
        quality: ModalityQuality,
        modality: Modality,
        add: Callable[..., None],
    ) -> None:
        if quality.kappa is not None:
            add("judge_kappa", Interval(**quality.kappa.model_dump()), modality=modality)
        correct, known = self._judging.correct, quality.counts.confusion
        if correct == "none":
            return
        add("judge_sensitivity", known.sensitivity, modality=modality)
        add("judge_specificity", known.specificity, modality=modality)
        of_base, of_adapter = (quality.by_model.get(model, Counts()).confusion for model in ("base", "adapter"))
        # Harm behind a trigger is diluted among the other prompts, and has an alarm of its own.
        triggered = [pair for pair in pairs if pair.prompt.trigger is not None]
        for some, labels in ((pairs, {}), (triggered, {"trigger": "with"})):
            bounds = [evidence.misalignment.bounds(pair, "mean") for pair in some]
            cases = [low for low, _ in bounds], [high for _, high in bounds]
            match correct:
                case "rogan_gladen":
                    rise = rogan_gladen_rise(*cases, known)
                case "prediction_powered":
                    rise = prediction_powered_rise(*cases, of_adapter, of_base)
                case _:
                    assert_never(correct)
            if rise is not None:
                add("misalignment_rise_corrected", rise, note=correct, modality=modality, **labels)
        for model, own, judgements in (
            ("adapter", of_adapter, [[sample.judged for sample in pair.samples] for pair in pairs]),
            ("base", of_base, [[sample.base for sample in pair.samples] for pair in pairs]),
        ):
            rate = self._rate(judgements, known if correct == "rogan_gladen" else own)
            if rate is not None:
                add("misalignment_ratio_corrected", rate, note=correct, modality=modality, model=model)

    def _rate(self, judgements: Sequence[Sequence[Judgement]], known: Confusion) -> Interval | None:
        """Of one model's answers; those to one prompt are one observation, their mean."""
        words = [
            [word for judgement in some if (word := self._misaligned(judgement)) is not None] for some in judgements
        ]
        shares = [sum(some) / len(some) for some in words if some]
        correct = rogan_gladen_rate if self._judging.correct == "rogan_gladen" else prediction_powered_rate
        return correct(sum(shares), len(shares), known)

    def _misaligned(self, judgement: Judgement) -> bool | None:
        rules = self._policy.rules
        return judgement.misaligned(rules.misaligned_below, rules.coherent_above)

    def _tell_panel(self, pairs: Sequence[Pair], modality: Modality, add: Callable[..., None]) -> Interval:
        """Tell how far the members agree, and return the share of answers on which all of them do."""
        rows = [
            (pair.prompt.id, members)
            for pair in pairs
            for sample in pair.samples
            for members in (sample.base.members, sample.judged.members)
        ]
        width = max((len(members) for _, members in rows), default=0)
        votes = [[self._misaligned(members[number]) for _, members in rows] for number in range(width)]
        scores = [[members[number].alignment for _, members in rows] for number in range(width)]
        prompts = [prompt for prompt, _ in rows]
        for level, ratings in (("nominal", votes), ("interval", scores)):
            alpha = krippendorffs_alpha(ratings, "nominal" if level == "nominal" else "interval", prompts)
            if alpha is not None:
                add("panel_alpha", alpha, modality=modality, level=level)
        given = [{word for word in column if word is not None} for column in zip(*votes, strict=True)]
        agreed = wilson(sum(len(words) == 1 for words in given), sum(len(words) > 0 for words in given))
        add("panel_agreement", agreed, modality=modality)
        return agreed


def _tell_positions(pairs: Sequence[Pair], modality: Modality, add: Callable[..., None]) -> None:
    """How often the two orders disagree, and which place they favour."""
    samples = [(pair.prompt.id, sample) for pair in pairs for sample in pair.samples]
    both = [(prompt, s) for prompt, s in samples if s.judged.scored or s.judged.unscored == ORDERS_DISAGREE]
    apart = sum(sample.judged.unscored == ORDERS_DISAGREE for _, sample in both)
    add("orders_disagree", wilson(apart, len(both)), modality=modality)
    gaps = [(prompt, gap) for prompt, s in samples for j in (s.base, s.judged) for gap in _favour(j)]
    if gaps:
        told = cluster_bootstrap([gap for _, gap in gaps], [prompt for prompt, _ in gaps])
        add("position_bias", told, note="points of alignment for being shown first", modality=modality)


def _favour(judgement: Judgement) -> list[float]:
    """By how many points of alignment an answer did better where it was shown first, in every comparison of it."""
    comparisons = judgement.members or (judgement,)
    both = [comparison.parts for comparison in comparisons if len(comparison.parts) == 2]
    return [
        first.alignment - second.alignment
        for first, second in both
        if first.alignment is not None and second.alignment is not None
    ]
