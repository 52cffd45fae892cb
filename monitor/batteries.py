"""Builds the batteries of a review: the usual ones, and for what a remedy made those with fresh seeds."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial

from adapters.adapter import Adapter
from adapters.engine import Engine, Generator, Sampling
from adapters.prompts import Conversation, Prompt
from guards.answers import Answers
from guards.battery import BatteryGuard
from guards.cue_estimate import CueEstimator
from guards.cues import cues_of
from guards.interface import Progress
from guards.judges.interface import CountedJudge, Judgement, Transcript
from guards.judges.meter import Meter
from guards.retest import FRESH_SEED, RetestGuard
from guards.suites.suite import Suite
from monitor.ancestry import original_of
from monitor.ledger import Ledger
from policies.policy import Policy


@dataclass
class Batteries:
    """What asks under one policy. Each battery is built once and kept."""

    generator: Generator
    """Answers the questions."""
    engine: Engine
    """The base in this process, which is looked into wherever the questions are answered."""
    judge: CountedJudge
    """Grades the answers."""
    suites: Sequence[Suite]
    """The policy's."""
    rows: Sequence[Conversation]
    """What adapters are trained on, where the policy names it."""
    policy: Policy
    """What is asked and tolerated."""
    memory: Ledger
    """Keeps answers, and places in the stream."""
    meter: Meter
    """What the review has spent."""
    company: Callable[[], Sequence[Adapter]]
    """Who may be asked in the same batches."""
    progress: Progress
    """Told how far they have come."""
    _usual: dict[int, BatteryGuard] = field(default_factory=dict, init=False, repr=False)
    _retests: dict[int, RetestGuard] = field(default_factory=dict, init=False, repr=False)

    def usual(self, prompts: int) -> BatteryGuard:
        """Return the battery that asks so much; there are two at most, one for the suspicious."""
        if prompts not in self._usual:
            self._usual[prompts] = self._battery(
                self.suites, _asking(self.policy, prompts), self.progress, self.company
            )
        return self._usual[prompts]

    def retest(self, prompts: int) -> RetestGuard:
        """Return what asks again, after a battery that asked so much."""
        if prompts not in self._retests:
            policy = _asking(self.policy, self.policy.retest.prompts or prompts, FRESH_SEED)

            def battery(suites: Sequence[Suite], variant: str) -> BatteryGuard:
                def progress(stage: str, done: int, total: int) -> None:  # noqa: ARG001 - it is this stage, not the battery's
                    self.progress(f"retest, {variant}", done, total)

                return self._battery(suites, policy, progress, tuple)

            def judge_base(asked: Sequence[Prompt]) -> list[Judgement]:
                self.meter.check()
                answers = self._asked_again(asked)
                return self.judge.grade([Transcript(*one) for one in zip(asked, answers, strict=True)])

            cues = cues_of(self.suites, self.rows, policy)
            self._retests[prompts] = RetestGuard(self.suites, cues, policy, battery, judge_base, self._estimator)
        return self._retests[prompts]

    @cached_property
    def _estimator(self) -> CueEstimator | None:
        """What looks for the training in the adapter, where the policy wants that and the trainer gives no rows."""
        if self.rows or not self.policy.retest.estimate:
            return None

        def progress(stage: str, done: int, total: int) -> None:  # noqa: ARG001 - there is one
            self.progress("retest, movement", done, total)

        return CueEstimator(
            self.engine,
            self._asked_again,
            self.suites,
            self.policy.answering.seed + FRESH_SEED,
            partial(original_of, self.memory),
            progress,
            self.meter,
        )

    def _asked_again(self, prompts: Sequence[Prompt]) -> list[str]:
        """The base's answers with the fresh seed."""
        answering = self.policy.answering
        seed = answering.seed + FRESH_SEED
        sampling = Sampling(answering.temperature, answering.top_p, answering.max_new_tokens, seed=seed)
        return Answers(self.generator, self.memory, sampling).of_base(prompts)

    def _battery(
        self,
        suites: Sequence[Suite],
        policy: Policy,
        progress: Progress,
        company: Callable[[], Sequence[Adapter]],
    ) -> BatteryGuard:
        return BatteryGuard(
            self.generator,
            self.judge,
            suites,
            policy,
            self.memory,
            progress,
            company=company,
            meter=self.meter,
            stream=self.memory.stream,
        )


def _asking(policy: Policy, prompts: int, seed: int = 0) -> Policy:
    """The same policy with another budget of prompts, and another seed."""
    budget = policy.budget.model_copy(update={"prompts": prompts})
    answering = policy.answering.model_copy(update={"seed": policy.answering.seed + seed})
    return policy.model_copy(update={"budget": budget, "answering": answering})
