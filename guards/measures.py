"""What is weighed in a judged pair of answers: qualities whose rise over the base is tested, modality by modality."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Literal, TypeAlias

from adapters.prompts import MODALITIES, Modality, Prompt
from guards.judges.interface import Judgement
from guards.statistics import AveragedProcess, BettingProcess, Interval, RiseTest, mean_interval, wilson
from policies.rules import RiseRule

Unit: TypeAlias = Literal["mean", "worst"]
Quality: TypeAlias = Callable[[str, Judgement], bool | None]
"""Whether an answer, with its judgement, has the quality; None where that is not known."""


@dataclass(frozen=True, slots=True)
class Pair:
    """One prompt, both answers, both judgements."""

    prompt: Prompt
    """What both were asked."""
    base_answer: str
    """The base's answer."""
    answer: str
    """The adapter's answer."""
    base: Judgement
    """Of the base's answer."""
    judged: Judgement
    """Of the adapter's answer."""
    more: tuple[Pair, ...] = ()
    """Further answers to the same prompt, where several are drawn; they are one observation with this one."""

    @property
    def samples(self) -> tuple[Pair, ...]:
        """This pair and the further ones."""
        return (self, *self.more)

    @property
    def singly(self) -> tuple[Pair, ...]:
        """Every answer by itself."""
        return tuple(replace(pair, more=()) for pair in self.samples)


class Measure:
    """A yes-or-no quality of an answer, whose rise over the base is tested."""

    def __init__(
        self,
        name: str,
        rule: RiseRule,
        quality: Quality,
        order: Sequence[Prompt],
        *,
        share: float = 1.0,
        unit: Unit = "mean",
        applies: Callable[[Prompt], bool] = lambda _prompt: True,
        must_clear: bool = True,
    ) -> None:
        """Set up a test a modality, an alarm for its triggered prompts, and the average of all alarms.

        Args:
            name: what findings call it.
            rule: what is tolerated.
            quality: what is looked for.
            order: the prompts that may be asked.
            share: of the rule's alpha at which this adapter is tested (:func:`policies.stream.share_of_alpha`).
            unit: what several answers to one prompt count as.
            applies: to which prompts; others weigh nothing here.
            must_clear: whether an adapter has to be cleared in it.
        """
        self.name, self.rule, self.quality, self.unit, self.must_clear = name, rule, quality, unit, must_clear
        self.applies = applies
        self.level = rule.alpha * share
        """The alarm rings at an averaged e-value of 1/level."""
        weighed = [prompt for prompt in order if applies(prompt)]
        self.modalities: tuple[Modality, ...] = tuple(m for m in MODALITIES if any(p.modality == m for p in weighed))
        self.tests = {m: RiseTest(rule.tolerate, rule.clear_below, self.level, rule.beta) for m in self.modalities}
        triggered = {prompt.modality for prompt in weighed if prompt.trigger is not None}
        # Harm behind a trigger is diluted among the other prompts, so those are watched by themselves too.
        self.triggered = {m: BettingProcess(rule.tolerate, "at most") for m in self.modalities if m in triggered}
        self.joint = AveragedProcess([*(test.alarm for test in self.tests.values()), *self.triggered.values()])
        """The alarm of the whole adapter."""

    def add(self, pair: Pair) -> None:
        """Weigh one pair. An unscored answer is zero for alarming and the worst case for clearing."""
        if not self.applies(pair.prompt):
            return
        low, high = self.bounds(pair)
        self.tests[pair.prompt.modality].update(low, high)
        if pair.prompt.trigger is not None:
            self.triggered[pair.prompt.modality].update(low)
        self.joint.look()

    def bounds(self, pair: Pair, unit: Unit | None = None) -> tuple[float, float]:
        """The paired difference of a prompt, as (for alarming, for clearing); they differ where one is unscored."""
        known = [
            (self.quality(sample.base_answer, sample.base), self.quality(sample.answer, sample.judged))
            for sample in pair.samples
        ]
        if (unit or self.unit) == "worst":
            if any(base is None or adapter is None for base, adapter in known):
                return 0.0, 1.0
            worst = float(any(adapter for _, adapter in known)) - float(any(base for base, _ in known))
            return worst, worst
        cases = [
            (0.0, 1.0) if base is None or adapter is None else (float(adapter) - float(base),) * 2
            for base, adapter in known
        ]
        return sum(low for low, _ in cases) / len(cases), sum(high for _, high in cases) / len(cases)

    def interval(self, pairs: Sequence[Pair], unit: Unit | None = None) -> Interval:
        """Mean paired difference with its anytime-valid 95 % interval."""
        bounds = [self.bounds(pair, unit) for pair in pairs]
        return mean_interval([low for low, _ in bounds], [high for _, high in bounds])

    def rate(self, told: Iterable[tuple[str, Judgement]]) -> Interval:
        """Share of answers that have the quality, where that is known, with Wilson's interval."""
        known = [q for answer, judgement in told if (q := self.quality(answer, judgement)) is not None]
        return wilson(sum(known), len(known))

    @property
    def alarmed(self) -> bool:
        """Whether the alarm rang: the e-values of all modalities and of their triggered prompts, averaged."""
        return bool(self.tests) and self.joint.largest >= 1 / self.level

    def soonest(self, limit: int) -> int:
        """Further prompts of one modality, all without an event, after which every modality would be cleared."""
        return max((test.clear.soonest(1 / self.rule.beta, 0.0, limit) for test in self.tests.values()), default=0)

    @property
    def cleared(self) -> bool:
        """Whether every modality is cleared."""
        return all(test.clear.largest >= 1 / self.rule.beta for test in self.tests.values())
