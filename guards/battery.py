"""The battery: the same questions to base and adapter, text and pictures apart, judged, compared in pairs.

The unit is the prompt. Pairs are drawn without replacement in a seeded random order, and a sequential test looks
after every batch: it stops as soon as the rise over the base is proved intolerable, or ruled out.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import cached_property

from adapters.adapter import Adapter
from adapters.engine import AdapterUnloadable, EngineError, EngineUnavailable, Generator, Sampling
from adapters.prompts import Prompt
from guards.answers import Answers
from guards.errors import Permanent
from guards.evidence import Evidence
from guards.evidence_told import results_of
from guards.interface import Memory, Progress, Stream
from guards.judge_quality import JudgeQuality
from guards.judges.interface import Judge, Judgement, Transcript
from guards.judges.meter import BudgetSpent, Meter
from guards.measures import Pair
from guards.schedule import schedule
from guards.suites.suite import Suite
from policies.findings import Defect, Inconclusive, Result
from policies.policy import Policy
from policies.stream import ALONE, Seat

_NEXT_SAMPLE = 1_000_003
"""Between the seeds of two answers to one prompt; the seeds of later reviews follow one another closely."""


class BatteryGuard:
    """Asks, has judged, and compares with the base."""

    name = "battery"

    def __init__(
        self,
        engine: Generator,
        judge: Judge,
        suites: Sequence[Suite],
        policy: Policy,
        memory: Memory,
        progress: Progress = lambda *_: None,
        stream: Stream | None = None,
        meter: Meter | None = None,
        company: Callable[[], Sequence[Adapter]] = tuple,
    ) -> None:
        """Prepare the questions: a random sample of the suites, as large as the budget allows.

        Args:
            engine: asks base and adapters.
            judge: grades the answers.
            suites: what is asked.
            policy: how much, and what is tolerated.
            memory: where answers are kept.
            progress: told how far it has come.
            stream: where the places of all tested adapters are kept; needed where the policy controls the stream.
            meter: what the review has spent, and may; no limit when not given.
            company: sound adapters whose turn comes next; they are asked in the same batches where that is exact.

        Raises:
            Permanent: no suite is named, the base takes no pictures and a suite shows some, or the judge's calibration
                cannot be read.
        """
        prompts = [prompt for suite in suites for prompt in suite.prompts]
        if not prompts:
            raise Permanent("the policy names no suite, so there is nothing to ask; add one under 'suites:'")
        if not engine.sees_pictures and any(prompt.image for prompt in prompts):
            raise Permanent("the base takes no pictures, but the suite shows some; name a text-only suite")
        self._judge, self._progress, self._policy, self._stream = judge, progress, policy, stream
        self._company = company
        self._meter = meter or Meter()
        self._quality = JudgeQuality(policy, judge.id)
        answering = policy.answering
        sampling = [
            Sampling(
                answering.temperature,
                answering.top_p,
                answering.max_new_tokens,
                seed=answering.seed + number * _NEXT_SAMPLE,
            )
            for number in range(answering.samples)
        ]
        self._answers = [Answers(engine, memory, each) for each in sampling]
        self._schedule = schedule(prompts, policy.budget.prompts, answering.seed)
        asked = [suite.digest for suite in suites]
        asked += [judge.id, repr(sampling), answering.unit, repr(policy.rules), repr(policy.budget)]
        asked += self._quality.version
        self.version = "2-" + hashlib.sha256("\0".join(asked).encode()).hexdigest()[:12]
        rules = hashlib.sha256(repr(policy.rules).encode()).hexdigest()[:12]
        self._stream_name = f"{policy.rules.stream.control} {rules} {engine.base_digest}"

    @cached_property
    def unfit(self) -> list[Result]:
        """Why the judge's word would not count by the policy, if it would not; then nothing is asked of it."""
        asked_in = tuple(dict.fromkeys(prompt.modality for prompt in self._schedule))
        return self._quality.unfit(asked_in, self.name, self.version)

    def examine(self, adapter: Adapter) -> list[Result]:
        """Ask until the answer is known or the budget is spent; see the module.

        Where the whole review's budget is spent, what was judged until then is told, and that it was not enough.

        Raises:
            EngineUnavailable: nobody could be asked.
        """
        if self.unfit:
            return self.unfit
        test = f"{adapter.digest} {self.version}"
        rules, unit = self._policy.rules, self._policy.answering.unit
        evidence = Evidence(self._schedule, rules, unit, self._seat(test))
        unable: list[Result] = []
        try:
            for prompts in looks(evidence, self._schedule, self._policy.budget.batch, self._quality.stops_early):
                self._meter.check()
                for pair in self._judged(adapter, prompts):
                    evidence.add(pair)
                self._progress(self.name, len(evidence.pairs), len(self._schedule))
        except AdapterUnloadable as error:
            return [Defect(guard=self.name, version=self.version, code="unloadable", reason=str(error))]
        except EngineUnavailable:
            raise  # as for a judge that cannot be reached: a later try goes on from here
        except EngineError as error:
            return [self._inconclusive("misalignment_rise", error)]
        except BudgetSpent as limit:
            unable = [self._inconclusive("budget", limit)]
        if self._controlled is not None and not unable:  # a test that was cut short has not ended
            self._controlled.tell(self._stream_name, test, rejected=evidence.alarmed)
        if not evidence.pairs:
            return unable
        found = results_of(evidence, self.name, self.version)
        return [*found, *self._quality.results(evidence, self.name, self.version), *unable]

    def _inconclusive(self, measure: str, cause: Exception) -> Inconclusive:
        return Inconclusive(guard=self.name, version=self.version, measure=measure, reason=str(cause))

    @property
    def _controlled(self) -> Stream | None:
        """The stream, where the policy controls it."""
        if self._policy.rules.stream.control == "fixed":
            return None
        if self._stream is None:
            raise Permanent("rules.stream controls the error over all adapters, and no ledger keeps their places here")
        return self._stream

    def _seat(self, test: str) -> Seat:
        return ALONE if self._controlled is None else self._controlled.seat(self._stream_name, test)

    def _judged(self, adapter: Adapter, prompts: Sequence[Prompt]) -> list[Pair]:
        """Every prompt with all its answers, judged in one go."""
        rows: list[tuple[Prompt, str, str]] = []
        company = self._company()
        for answers in self._answers:
            answers.ahead((adapter, *company), prompts)
            rows += zip(prompts, answers.of_base(prompts), answers.of(adapter, prompts), strict=True)
        pairs = [Pair(*row, *judged) for row, judged in zip(rows, self._judge_pairs(rows), strict=True)]
        return [_joined(pairs[number :: len(prompts)]) for number in range(len(prompts))]

    def _judge_pairs(self, rows: Sequence[tuple[Prompt, str, str]]) -> list[tuple[Judgement, Judgement]]:
        """Judge (prompt, base's answer, adapter's answer), side by side where the judge's protocol is that."""
        if hasattr(self._judge, "compare"):
            compared: list[tuple[Judgement, Judgement]] = self._judge.compare(rows)
            return compared
        base = [Transcript(prompt, answer) for prompt, answer, _ in rows]
        judged = self._judge.grade([*base, *(Transcript(prompt, answer) for prompt, _, answer in rows)])
        return list(zip(judged[: len(rows)], judged[len(rows) :], strict=True))


def looks(
    evidence: Evidence, order: Sequence[Prompt], batch: int, stops_early: bool = True
) -> Iterator[Sequence[Prompt]]:
    """Return what is asked between two looks at ``evidence``, until it is settled or nothing is left to ask.

    First a third of a batch, then half as much again up to one: strong evidence takes a handful of prompts, so that
    the first looks are worth their smaller, slower batches. Never more than would clear a clean adapter. Where it may
    not stop early, all of ``order`` is asked whatever the evidence.
    """
    start, size = 0, max(1, -(-batch // 3))
    modalities = len({prompt.modality for prompt in order})
    while start < len(order) and not (stops_early and evidence.settled):
        # The order alternates between modalities, so a modality gets its share of what is asked.
        step = min(size, max(1, modalities * evidence.soonest(batch))) if stops_early else size
        yield order[start : start + step]
        start, size = start + step, min(batch, -(-3 * size // 2))


def _joined(samples: Sequence[Pair]) -> Pair:
    first, *more = samples
    return replace(first, more=tuple(more)) if more else first
