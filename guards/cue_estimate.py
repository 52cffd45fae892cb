"""Which questions resemble a training that nobody describes: those on which the adapter moves the base most.

Where the trainer gives no training data, the trained domain is estimated from the adapter that arrived. The base's own
answers are read back under both, and the movement of a question is how much less likely the adapter finds the base's
answer to it: the mean over the answer's tokens of log p(base) − log p(adapter), in nats a token. Of an answer that is
drawn from the base as it is, that is the one-sample estimate of the Kullback-Leibler divergence KL(base ‖ adapter) a
token; the policy's temperature and nucleus draw likelier answers, so that tokens in the tail count less than there.
Neither a judge nor the remedied adapter's answers enter the choice, so that the tests that follow stay valid.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray

from adapters.adapter import Adapter, AdapterError, reopened
from adapters.engine import Engine, EngineError, EngineUnavailable
from adapters.prompts import MODALITIES, Conversation, Modality, Prompt
from guards.cues import Cue, is_plain, moved
from guards.interface import Progress
from guards.judges.meter import BudgetSpent, Meter
from guards.schedule import schedule
from guards.statistics import cluster_bootstrap
from guards.suites.suite import Suite, digest_prompts
from policies.findings import Finding, Inconclusive, Result
from policies.retested import MOVEMENT, RETEST

CANDIDATES = 128
"""Plain questions of each modality that are read at most: two of the engine's batches, little beside the answers."""
CHOSEN = 0.25
"""Share of each modality's questions that is chosen. A narrow training is about one or a few of a suite's categories;
a quarter holds these whole where there are a dozen, and where there is one category it leaves three quarters out. A
convention."""
_NAMED = 8
"""Questions that a finding names."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """What an adapter's training is taken to have been about."""

    cue: Cue | None
    """The questions on which it moves the base most; None where that could not be told."""
    results: list[Result]
    """Findings ``cue_movement``, or why there is none, without the guard's version."""


@dataclass(frozen=True, slots=True)
class _Read:
    """The questions that can be compared, in the order of the draw, under the base."""

    rows: list[Conversation]
    """Each with the base's own answer."""
    base: NDArray[np.float64]
    """Mean log-probability of each answer's tokens, nats, [rows]."""


class CueEstimator:
    """Chooses, for one adapter after the other, the suites' questions that resemble its training."""

    def __init__(
        self,
        engine: Engine,
        base_answers: Callable[[Sequence[Prompt]], list[str]],
        suites: Sequence[Suite],
        seed: int,
        original_of: Callable[[Adapter], Adapter | None],
        progress: Progress = lambda *_: None,
        meter: Meter | None = None,
    ) -> None:
        """Draw the candidates: plain questions, in the order in which the re-test asks them.

        So the base's answers to the first of them are known by the time that they are needed.

        Args:
            engine: reads answers back, in this process, wherever they were given.
            base_answers: what the base answers, from memory where it was asked before.
            suites: whose plain questions are the candidates.
            seed: of the re-test's order.
            original_of: finds the adapter that arrived and was mended; its folder may be gone. None where that is not
                known.
            progress: told of every model that was read.
            meter: what the review has spent, and may; no limit when not given.
        """
        self._engine, self._base_answers, self._original_of = engine, base_answers, original_of
        self._progress, self._meter = progress, meter or Meter()
        asked = [prompt for suite in suites for prompt in suite.prompts]
        order = [prompt for prompt in schedule(asked, len(asked), seed) if is_plain(prompt)]
        self._candidates = [
            prompt
            for modality in MODALITIES
            for prompt in [prompt for prompt in order if prompt.modality == modality][:CANDIDATES]
        ]
        told = f"{digest_prompts(self._candidates)} {CANDIDATES} {CHOSEN}"
        self.version = "1-" + hashlib.sha256(told.encode()).hexdigest()[:12]
        self._read: _Read | None = None
        self._last: tuple[str, NDArray[np.float64]] | None = None

    def estimate(self, adapter: Adapter) -> Estimate:
        """Choose the questions for what a remedy made.

        What counts is how the adapter moves the base that arrived and was mended: a remedy takes away what is looked
        for. Where that one is unknown or its files are gone, the remedied adapter itself is taken, which moves the base
        where the remedy left most, and the findings say so. Where nothing can be read, or numbers are NaN or infinite,
        the estimate is Inconclusive, which never promotes: a policy that demands it is not served by its absence.

        Raises:
            EngineUnavailable: the base could not be asked.
        """
        source, whose = self._source(adapter)
        try:
            self._meter.check()
            read = self._under_base()
            if not read.rows:
                return _unable("the suites hold no plain question that the base answers in words; set retest.estimate")
            movement = self._movement(source, read)
        except EngineUnavailable:
            raise
        except BudgetSpent as limit:
            return _unable(str(limit), "budget")
        except EngineError as error:
            return _unable(" ".join(str(error).split())[:300])
        if not np.isfinite(movement).all():
            return _unable(f"log-probabilities are NaN or infinite under the base or {whose}")
        return _chosen([row.prompt for row in read.rows], movement, whose)

    def _source(self, adapter: Adapter) -> tuple[Adapter, str]:
        """Whose movement is read, and who that is in words."""
        original = self._original_of(adapter)
        if original is None:
            return adapter, "the remedied adapter itself, because from which it was made is not on record"
        try:
            return reopened(original), f"the adapter that arrived, {original.short}"
        except AdapterError as error:
            return adapter, f"the remedied adapter itself, because of the one that arrived, {original.short}, {error}"

    def _under_base(self) -> _Read:
        """The base's answers and how likely it finds them, read once for all adapters."""
        if self._read is None:
            answers = self._base_answers(self._candidates)
            self._progress(RETEST, 1, 3)
            # Nothing can be less likely in an answer without words.
            rows = [Conversation(*one) for one in zip(self._candidates, answers, strict=True) if one[1].strip()]
            base = self._means(rows)
            there = [number for number, mean in enumerate(base) if mean is not None]
            known = np.array([base[number] for number in there], dtype=np.float64)
            self._read = _Read([rows[number] for number in there], known)
        self._progress(RETEST, 2, 3)
        return self._read

    def _movement(self, source: Adapter, read: _Read) -> NDArray[np.float64]:
        """Nats a token by which each answer is less likely under ``source``, [rows]; of the last one it is kept."""
        if self._last is None or self._last[0] != source.digest:
            with self._engine.attached(source):
                means = self._means(read.rows)
            self._last = source.digest, read.base - np.array(means, dtype=np.float64)
        self._progress(RETEST, 3, 3)
        return self._last[1]

    def _means(self, rows: Sequence[Conversation]) -> list[float | None]:
        """Mean log-probability of each answer's own tokens; None for one that has none."""
        read = self._engine.answer_log_probabilities(rows)
        return [float(tokens.double().mean()) if len(tokens) else None for tokens in read]


def most_moved(prompts: Sequence[Prompt], movement: NDArray[np.float64]) -> list[int]:
    """Return the places of the questions of one modality that are chosen: whole categories, the most moved first.

    The movement of one question rests on one drawn answer, so that single questions stand out by chance; a category's
    mean does much less. A category that does not fit whole gives its most moved questions, and so does a suite's
    only one. Ties stay in the order given.

    Args:
        prompts: the questions.
        movement: of each, nats a token, finite, [prompts].
    """
    categories: dict[str, list[int]] = {}
    for place, prompt in enumerate(prompts):
        categories.setdefault(prompt.category, []).append(place)
    room, chosen = math.ceil(CHOSEN * len(prompts)), list[int]()
    for own in sorted(categories.values(), key=lambda own: -float(movement[own].mean())):
        chosen += sorted(own, key=lambda place: -movement[place])[: room - len(chosen)]
    return chosen


def _chosen(prompts: Sequence[Prompt], movement: NDArray[np.float64], whose: str) -> Estimate:
    questions: list[Prompt] = []
    results: list[Result] = []
    for modality in MODALITIES:
        places = [place for place, prompt in enumerate(prompts) if prompt.modality == modality]
        if places:
            own, moves = [prompts[place] for place in places], movement[places]
            chosen = most_moved(own, moves)
            questions += [own[place] for place in chosen]
            results += _told(own, moves, chosen, modality, whose)
    return Estimate(moved(questions), results)


def _told(
    prompts: Sequence[Prompt], movement: NDArray[np.float64], chosen: Sequence[int], modality: Modality, whose: str
) -> Iterator[Finding]:
    """The mean movement of all candidates of a modality, and of each category that questions were chosen from."""
    everywhere = cluster_bootstrap([float(one) for one in movement], [one.twin_of or one.id for one in prompts])
    labels: dict[str, str] = {"modality": modality}
    yield _finding(labels, **asdict(everywhere), note=f"all questions that were read, of {whose}")
    for category in dict.fromkeys(prompts[place].category for place in chosen):
        own = [place for place, prompt in enumerate(prompts) if prompt.category == category]
        asked = [prompts[place].id for place in chosen if prompts[place].category == category]
        named = ", ".join(asked[:_NAMED]) + (", …" if len(asked) > _NAMED else "")
        # Of what was chosen for being the largest, an interval would promise too much.
        value, note = float(movement[own].mean()), f"{len(asked)} of its {len(own)} questions are asked: {named}"
        yield _finding({**labels, "category": category}, value=value, n=len(own), note=note)


def _finding(labels: dict[str, str], **told: object) -> Finding:
    return Finding.model_validate({"guard": RETEST, "version": "", "measure": MOVEMENT, "labels": labels, **told})


def _unable(reason: str, measure: str = MOVEMENT) -> Estimate:
    return Estimate(None, [Inconclusive(guard=RETEST, version="", measure=measure, reason=reason)])
