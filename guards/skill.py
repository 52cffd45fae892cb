"""Can what a remedy made still do what the adapter was trained for? Its own task, asked before and after.

Questions with known answers are put to the base, to the adapter that arrived, and to what remedies made of it. Told is
which share of the original's right answers is left. A remedy that takes the skill with the harm has not mended the
adapter, it has removed it.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial

from adapters.adapter import Adapter, AdapterError, reopened
from adapters.engine import EngineError, EngineUnavailable, Generator, Sampling
from adapters.prompts import MODALITIES, Prompt
from guards.answers import Answers
from guards.capability import holds
from guards.errors import Permanent
from guards.interface import Memory, Progress
from guards.judges.meter import BudgetSpent, Meter
from guards.schedule import schedule
from guards.statistics import Interval, mean_interval, ratio_bootstrap, wilson
from guards.suites.apart import told_apart
from guards.suites.load import load_suite
from guards.suites.suite import digest_prompts
from policies.findings import Finding, Inconclusive, Result
from policies.skill import KEPT, SKILL, Skill


@dataclass(frozen=True, slots=True)
class _Asked:
    """One question, and whether each model answered it rightly."""

    prompt: Prompt
    base: bool
    original: bool
    remedied: bool

    @property
    def cluster(self) -> str:
        """A picture's question and its twin in words are about one thing."""
        return self.prompt.twin_of or self.prompt.id


class SkillGuard:
    """Asks the adapter's own task; no judge is needed, because the answers are known."""

    name = SKILL

    def __init__(
        self,
        generator: Generator,
        memory: Memory,
        questions: Sequence[Prompt],
        settings: Skill,
        max_new_tokens: int,
        original_of: Callable[[Adapter], Adapter | None],
        progress: Progress = lambda *_: None,
        meter: Meter | None = None,
    ) -> None:
        """Prepare what is asked.

        Args:
            generator: answers, with one adapter or none.
            memory: keeps the answers, so that the original is asked once, and known when its files are gone.
            questions: what :func:`read_questions` returns.
            settings: the seed of the order.
            max_new_tokens: longest answer.
            original_of: finds the adapter that arrived and was mended; its folder may be gone. None where that is not
                known.
            progress: told of every model that was asked.
            meter: what the review has spent, and may; no limit when not given.
        """
        # The likeliest answer, so that the luck of one draw is not taken for a lost skill.
        sampling = Sampling(temperature=0.0, max_new_tokens=max_new_tokens, seed=settings.seed)
        self._answers = Answers(generator, memory, sampling)
        self._questions, self._original_of = questions, original_of
        self._progress, self._meter = progress, meter or Meter()
        told = f"{digest_prompts(questions)} {sampling}"
        self.version = "1-" + hashlib.sha256(told.encode()).hexdigest()[:12]

    def examine(self, adapter: Adapter) -> list[Result]:
        """Ask base, original and adapter, and tell what is kept in each modality and together.

        Raises:
            EngineUnavailable: nobody could be asked.
        """
        try:
            asked = self._ask(adapter)
        except EngineUnavailable:
            raise
        except BudgetSpent as limit:
            return [self._inconclusive("budget", str(limit))]
        except (EngineError, _Unknown) as cause:
            return [self._inconclusive(KEPT, str(cause))]
        found: list[Result] = []
        for modality in MODALITIES:
            own = [one for one in asked if one.prompt.modality == modality]
            if own and not any(one.original for one in own):
                text = f"the adapter that arrived answers none of {len(own)} questions rightly; ask its own task"
                found.append(self._inconclusive(KEPT, text, modality=modality))
            elif own:
                found += self._told(own, modality=modality)
        together = self._told(asked) if any(one.original for one in asked) else []
        return [*found, *together]

    def _ask(self, adapter: Adapter) -> list[_Asked]:
        original = self._original_of(adapter)
        if original is None:
            raise _Unknown("from which adapter it was made is not on record, so that there is nothing to compare with")
        questions, right = self._questions, []
        asks = (partial(self._answers.of_base, questions), partial(self._arrived, original))
        for number, ask in enumerate((*asks, partial(self._own, adapter)), 1):
            self._meter.check()
            right.append([holds(said, q.reference_answer or "") for q, said in zip(questions, ask(), strict=True)])
            self._progress(self.name, number, 3)
        return [_Asked(*one) for one in zip(questions, *right, strict=True)]

    def _own(self, adapter: Adapter) -> list[str]:
        return self._answers.of(adapter, self._questions)

    def _arrived(self, original: Adapter) -> list[str]:
        """What the original answers, or answered once: its files may have been removed since."""
        known = self._answers.kept_of(original, self._questions)
        if known is not None:
            return known
        try:
            there = reopened(original)
        except AdapterError as error:
            asked = f"the adapter that it was made from ({original.digest}) was never asked these questions"
            again = "give it to review again, and what it was mended to with it"
            raise _Unknown(f"{asked}, and {error}; {again}") from error
        return self._own(there)

    def _told(self, asked: Sequence[_Asked], **labels: str) -> list[Result]:
        right = {name: [getattr(one, name) for one in asked] for name in ("base", "original", "remedied")}
        clusters = [one.cluster for one in asked]
        counts = ", ".join(f"{name} {sum(own)}" for name, own in right.items())
        note = f"right of {len(asked)}: {counts}"
        found = [
            self._finding("skill_right", wilson(sum(own), len(own)), {**labels, "model": name})
            for name, own in right.items()
        ]
        found.append(self._finding(KEPT, kept_of(right["remedied"], right["original"], clusters), labels, note))
        gained = [float(a) - float(b) for a, b in zip(right["original"], right["base"], strict=True)]
        if mean_interval(gained).low > 0:
            left = [float(a) - float(b) for a, b in zip(right["remedied"], right["base"], strict=True)]
            found.append(self._finding("skill_gain_kept", ratio_bootstrap(left, gained, clusters), labels, note))
        return found

    def _finding(self, measure: str, told: Interval, labels: dict[str, str], note: str = "") -> Result:
        return Finding(guard=self.name, version=self.version, measure=measure, labels=labels, note=note, **asdict(told))

    def _inconclusive(self, measure: str, cause: str, **labels: str) -> Inconclusive:
        reason = " ".join(cause.split())[:300]
        return Inconclusive(guard=self.name, version=self.version, measure=measure, reason=reason, labels=labels)


class _Unknown(Exception):
    """The original cannot be asked; the message says why."""


def kept_of(remedied: Sequence[bool], original: Sequence[bool], clusters: Sequence[str]) -> Interval:
    """Share of the original's right answers that is kept, with a 95 % cluster bootstrap interval over questions.

    For the lower end one question more is counted in that was lost, for the upper end one that was kept. Without them a
    sample in which nothing is lost would have no width, however small it is.

    Args:
        remedied: whether each answer of what a remedy made is right.
        original: the same of the adapter that arrived; at least one of them.
        clusters: what belongs together.
    """
    above, below = [float(one) for one in remedied], [float(one) for one in original]
    more = [*clusters, "one question more"]
    low = ratio_bootstrap([*above, 0.0], [*below, 1.0], more).low
    high = ratio_bootstrap([*above, 1.0], [*below, 1.0], more).high
    value = sum(above) / sum(below)
    return Interval(value, min(low, value), max(high, value), len(set(clusters)))


def read_questions(settings: Skill) -> list[Prompt]:
    """Load the questions of the adapter's own task that have a known answer, in the order in which they are asked.

    Raises:
        Permanent: a suite cannot be used, holds no such question, or fewer than could ever show that enough is kept.
    """
    suites = told_apart([load_suite(place) for place in settings.suites])
    known = [prompt for suite in suites for prompt in suite.prompts if prompt.reference_answer]
    if suites and not known:
        raise Permanent("retest.skill.suites hold no question with a 'reference_answer'; add what a right answer holds")
    chosen = schedule(known, settings.prompts, settings.seed)
    for modality, count in Counter(prompt.modality for prompt in chosen).items():
        if count < settings.fewest:
            raise Permanent(
                f"retest.skill asks {count} questions in {modality}, and at_least {settings.at_least:g} takes "
                f"{settings.fewest} to be shown; add questions to its suites, raise prompts, or lower at_least"
            )
    return chosen
