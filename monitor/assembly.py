"""Builds what a review works with: engine, judge, suites, guards and remedies, from a policy and a base."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import cached_property
from pathlib import Path
from typing import Literal

from adapters.adapter import Adapter
from adapters.engine import Generator
from guards.dose_response import Measuring
from guards.errors import Permanent
from guards.interface import Guard, Progress, Remedy
from guards.judge_stability import JudgeStability, JudgeStabilityGuard, has_moved
from guards.judges.interface import CountedJudge
from guards.judges.transcripts import Unjudged, draw_transcripts
from guards.relearning import RelearningGuard
from guards.skill import SkillGuard
from guards.structure import StructureGuard
from guards.suites.suite import digest_prompts
from guards.weights import WeightsGuard
from monitor.batteries import Batteries
from monitor.dosing import SEED_APART, battery_alone, measuring
from monitor.generation import build_generator, read_key
from monitor.guard_assembly import build_relearning, build_screens, build_skill, build_weights
from monitor.ledger import ReviewRecord
from monitor.materials import Materials
from monitor.models import Models
from monitor.remedy_assembly import build_remedy
from monitor.review import Context
from monitor.waiting import Sound
from policies.budget import prompts_for, suspicion_of
from policies.decide import decide
from policies.findings import Result
from policies.generation import WHERE
from policies.policy import Policy, RemedyName
from policies.relearning import RELEARNING
from policies.skill import SKILL


@dataclass
class Assembly:
    """Everything for reviewing adapters of one base under one policy."""

    models: Models
    """The base and its judges, shared by the assemblies of several policies."""
    policy: Policy
    """The policy, its paths absolute."""
    progress: Progress = lambda *_: None
    """Told how far long work has come."""
    first: Assembly | None = None
    """What this repeats with another seed; None for a first look."""
    company: Callable[[], list[Adapter]] = list
    """Who is reviewed next and may be asked in the same batches."""

    def again(self, repeat: int) -> Assembly:
        """Return the same for a later look at an adapter: another seed draws other answers in another order."""
        if repeat == 0:
            return self
        answering = self.policy.answering
        reseeded = answering.model_copy(update={"seed": answering.seed + repeat})
        first = self.first or self
        return replace(self, policy=self.policy.model_copy(update={"answering": reseeded}), first=first)

    def check(self) -> None:
        """Read everything that a user may have got wrong, before any work is begun.

        Raises:
            Permanent: a suite, the Reference, the benign or the training data or the judge's calibration cannot be
                used, or no judge or suite is named.
        """
        if not self.policy.suites:
            raise Permanent("the policy names no suite, so there is nothing to ask; add a folder under 'suites:'")
        if self.policy.judge is None:
            raise Permanent("the policy names no judge; add 'judge: {kind: openai, base_url: …, model: …}'")
        read_key(self.policy.generation)
        self.materials.check()

    @cached_property
    def materials(self) -> Materials:
        """What the policy names, read once; a later look differs by its seed, and reads none of it again."""
        return self.first.materials if self.first else Materials(self.policy, self.models)

    @cached_property
    def judge(self) -> CountedJudge:
        """The policy's judge."""
        if self.policy.judge is None:
            raise Permanent("the policy names no judge")
        return self.models.judge(self.policy.judge, self.policy.judging)

    def take_the_judge_anew(self) -> None:
        """Go on with the judge under the id that acceptances give it now; where it cannot be had, all stays as it is.

        Raises:
            Permanent: it cannot be built any more.
        """
        if self.policy.judge is None:
            raise Permanent("the policy names no judge")
        judge = self.models.judge(self.policy.judge, self.policy.judging)
        for made_with_it in ("context", "judge_stability", "_batteries", "_relearning"):
            self.__dict__.pop(made_with_it, None)
        self.__dict__["judge"] = judge

    @cached_property
    def generator(self) -> Generator:
        """What answers the battery's questions."""
        return build_generator(self.policy.generation, self.models.engine, self.materials.suites)

    @cached_property
    def context(self) -> Context:
        """What adapters are examined against. A repeat's is the first look's: the seed makes no other policy of it."""
        if self.first is not None:
            return self.first.context
        apart = dict.fromkeys(("suites", "judge", "reference"), True)
        policy = self.policy.model_dump_json(exclude={**apart, "generation": set(WHERE)})
        # Another calibration under the same name is another demand.
        policy += self.materials.calibration.digest if self.materials.calibration else ""
        policy += digest_prompts(self.materials.skill_questions) if self.materials.skill_questions else ""
        return Context(
            base=str(self.models.base),
            base_digest=self.models.base_digest,
            policy=self.policy.name,
            policy_digest="sha256-" + hashlib.sha256(policy.encode()).hexdigest(),
            suites=self.materials.suite_digests,
            judge=self.judge.id,
            reference=self.materials.reference.digest if self.materials.reference else None,
        )

    def guards(self, found: Sequence[Result], *, remedied: bool = False) -> Iterator[Guard]:
        """Every guard, the cheapest first: files, then some forward passes, then many answers.

        How many answers, the screens' results in ``found`` say by the time that the battery is reached. What a remedy
        made is asked again, unless something speaks against it already, so that nothing could change.
        """
        yield self._structure
        if self._weights is not None:
            yield self._weights
        yield from self._screens
        prompts = prompts_for(found, self.policy)
        battery = self._batteries.usual(prompts)
        if battery.unfit:
            yield battery  # which says why the judge's word would not count, so that nothing is asked of it here either
            return
        yield from self._look_at_the_judge("before")
        if has_moved(found):
            return  # what it says now and what it said before are two rulers, and a battery would be spent for nothing
        yield battery
        if remedied and decide(found, self.policy).promotes:
            yield self._batteries.retest(prompts)
            for guard, unlooked in ((self._skill, {SKILL, RELEARNING}), (self._relearning, {RELEARNING})):
                told = decide(found, self.policy, remedied=True).reasons
                if guard and all(reason.verdict == "clean" or reason.rule in unlooked for reason in told):
                    yield guard
        # A battery of hours may outlast the look at the judge that it relied on.
        yield from self._look_at_the_judge("after")

    def suspicion(self, adapter: Adapter) -> float | None:
        """Return how suspicious an adapter's files alone make it, 0 to 1; None where nothing tells."""
        return None if self._weights is None else suspicion_of(self._weights.examine(adapter))

    def remedies(self) -> Iterator[Remedy]:
        """The policy's remedies, in its order, each built when it is reached; none in observe mode.

        None either once the review's budget is spent: what it makes could not be examined any more.
        """
        for name in self.policy.remedies if self.policy.mode == "enforce" else ():
            if self.models.meter.is_spent:
                return
            yield self.remedy(name)

    @contextmanager
    def within_budget(self, record: ReviewRecord) -> Iterator[None]:
        """Hold one review to the policy's budget, what its earlier runs spent included."""
        self.models.meter.begin(self.policy.budget, record.spending.recall(), record.spending.keep)
        try:
            yield
        finally:
            self.models.meter.end()

    @cached_property
    def judge_stability(self) -> JudgeStability | None:
        """Holds the judge to its canaries; None where the policy keeps none."""
        settings = self.policy.judging.canaries
        if not settings.kept:
            return None

        def draw(count: int) -> list[Unjudged]:
            return draw_transcripts(self.generator, self.materials.suites, count)

        return JudgeStability(self.judge, self.models.memory.judge_canaries, draw, settings, self.policy.rules)

    @property
    def judge_counts(self) -> bool:
        """Whether the judge is as good as the policy demands, as far as that can be told before it is asked."""
        return not self._batteries.usual(prompts_for((), self.policy)).unfit

    def _look_at_the_judge(self, when: Literal["before", "after"]) -> Iterator[Guard]:
        """The guard before the battery; after it only where the look before has grown too old meanwhile."""
        after, stability = timedelta(minutes=self.policy.judging.canaries.minutes), self.judge_stability
        if stability is not None and (when == "before" or stability.is_due(after)):
            yield JudgeStabilityGuard(stability, after, when)

    @cached_property
    def _batteries(self) -> Batteries:
        return Batteries(
            self.generator,
            self.models.engine,
            self.judge,
            self.materials.suites,
            self.materials.training_data,
            self.policy,
            self.models.memory,
            self.models.meter,
            self._sound_company,
            self.progress,
        )

    @cached_property
    def _structure(self) -> StructureGuard:
        return StructureGuard(Path(self.models.base), self.policy.base_names)

    @cached_property
    def _sound_company(self) -> Sound:
        # Where a review's seconds are counted, none of them may go to others.
        return Sound(list if self.policy.budget.seconds is not None else self.company, self._structure)

    @cached_property
    def _skill(self) -> SkillGuard | None:
        questions = self.materials.skill_questions
        return build_skill(questions, self.policy, self.models, self.generator, self.progress) if questions else None

    @cached_property
    def _relearning(self) -> RelearningGuard | None:
        if not self.policy.retest.relearning.files:
            return None
        return build_relearning(self.materials.suites, self.policy, self.models, self.judge, self.progress)

    @cached_property
    def _weights(self) -> WeightsGuard | None:
        return build_weights(self.materials.reference) if self.materials.reference else None

    @cached_property
    def _screens(self) -> tuple[Guard, ...]:
        return build_screens(self.materials, self.policy, self.models)

    def measuring(self, seed_apart: int = SEED_APART) -> Measuring | None:
        """What asks an adapter beside the examinations; None where the policy names no suite or no judge.

        By default it draws answers that no examination draws, so that what is chosen by them can be examined.
        """
        if not self.policy.suites or self.policy.judge is None:
            return None
        policy = battery_alone(self.policy, seed_apart)
        apart = replace(self, policy=policy, first=self.first or self, company=list)
        return measuring(apart._batteries.usual(policy.budget.prompts), policy)

    def remedy(self, name: RemedyName) -> Remedy:
        """Build one remedy with the policy's settings.

        Raises:
            Permanent: it lacks something that it needs.
        """
        return build_remedy(
            name,
            self.policy,
            self.models,
            self.materials.reference,
            (lambda: self.judge) if self.policy.judge else None,
            self.measuring,
            self.progress,
        )
