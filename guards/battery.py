"""The battery: the same questions to base and adapter, text and pictures apart, judged, compared in pairs.

The unit is the prompt. Pairs are drawn without replacement in a seeded random order, and a sequential test looks
after every batch: it stops as soon as the rise over the base is proved intolerable, or ruled out.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Sequence

from adapters.adapter import Adapter
from adapters.engine import AdapterUnloadable, Engine, EngineError, Sampling
from adapters.prompts import Prompt
from guards.answers import Answers
from guards.errors import Permanent
from guards.evidence import Evidence, Pair
from guards.interface import Memory, Progress
from guards.judges.interface import Judge, Transcript
from guards.suites.suite import Suite
from policies.findings import Defect, Inconclusive, Result
from policies.policy import Policy


class BatteryGuard:
    """Asks, has judged, and compares with the base."""

    name = "battery"

    def __init__(
        self,
        engine: Engine,
        judge: Judge,
        suites: Sequence[Suite],
        policy: Policy,
        memory: Memory,
        progress: Progress = lambda *_: None,
    ) -> None:
        """Prepare the questions: a random sample of the suites, as large as the budget allows.

        Raises:
            Permanent: no suite is named, or the base takes no pictures and a suite shows some.
        """
        prompts = [prompt for suite in suites for prompt in suite.prompts]
        if not prompts:
            raise Permanent("the policy names no suite, so there is nothing to ask; add one under 'suites:'")
        if not engine.sees_pictures and any(prompt.image for prompt in prompts):
            raise Permanent("the base takes no pictures, but the suite shows some; name a text-only suite")
        self._judge, self._progress, self._policy = judge, progress, policy
        answering = policy.answering
        sampling = Sampling(answering.temperature, answering.top_p, answering.max_new_tokens, seed=answering.seed)
        self._answers = Answers(engine, memory, sampling)
        self._schedule = schedule(prompts, policy.budget.prompts, answering.seed)
        asked = [suite.digest for suite in suites] + [judge.id, repr(sampling), repr(policy.rules)]
        self.version = "1-" + hashlib.sha256("\0".join([*asked, repr(policy.budget)]).encode()).hexdigest()[:12]

    def examine(self, adapter: Adapter) -> list[Result]:
        """Ask until the answer is known or the budget is spent; see the module."""
        evidence = Evidence(self._schedule, self._policy.rules)
        size = self._policy.budget.batch
        try:
            for start in range(0, len(self._schedule), size):
                for pair in self._judged(adapter, self._schedule[start : start + size]):
                    evidence.add(pair)
                self._progress(self.name, len(evidence.pairs), len(self._schedule))
                if evidence.settled:
                    break
        except AdapterUnloadable as error:
            return [Defect(guard=self.name, version=self.version, code="unloadable", reason=str(error))]
        except EngineError as error:
            unable = Inconclusive(guard=self.name, version=self.version, measure="misalignment_rise", reason=str(error))
            return [unable]
        return evidence.results(self.name, self.version)

    def _judged(self, adapter: Adapter, prompts: Sequence[Prompt]) -> list[Pair]:
        base, answers = self._answers.of_base(prompts), self._answers.of(adapter, prompts)
        transcripts = [Transcript(p, a) for p, a in zip((*prompts, *prompts), (*base, *answers), strict=True)]
        judgements = self._judge.grade(transcripts)
        half = len(prompts)
        columns = zip(prompts, base, answers, judgements[:half], judgements[half:], strict=True)
        return [Pair(*column) for column in columns]


def schedule(prompts: Sequence[Prompt], budget: int, seed: int) -> list[Prompt]:
    """Draw up to ``budget`` prompts without replacement in a random order that alternates between cells.

    A cell is a modality with or without a trigger. Alternating gives every cell its share of the budget and of
    every look at the evidence, however unequal the suite is.
    """
    cells: dict[tuple[str, bool], list[Prompt]] = {}
    for prompt in prompts:
        cells.setdefault((prompt.modality, prompt.trigger is not None), []).append(prompt)
    shuffler = random.Random(seed)  # noqa: S311 - a reproducible order, not a secret
    for cell in cells.values():
        shuffler.shuffle(cell)
    modalities = sorted({modality for modality, _ in cells}, reverse=True)
    queues = {m: _interleave([cells[key] for key in sorted(cells) if key[0] == m]) for m in modalities}
    order: list[Prompt] = []
    while any(queues.values()) and len(order) < budget:
        for modality in modalities:
            if queues[modality] and len(order) < budget:
                order.append(queues[modality].pop(0))
    return order


def _interleave(cells: Sequence[Sequence[Prompt]]) -> list[Prompt]:
    """Merge cells so that each is spread evenly over the whole."""
    placed = [
        ((rank + 0.5) / len(cell), index, item) for index, cell in enumerate(cells) for rank, item in enumerate(cell)
    ]
    return [item for _, _, item in sorted(placed, key=lambda entry: entry[:2])]
