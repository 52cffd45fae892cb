"""Drift along a lineage: evidence that adapters trained on from one another turn slowly towards harm.

The step from parent to child is the difference of their components, scored like any adapter. The hypothesis is that
every step is exchangeable with the known-good adapters' own training from the base. Then, given the order of all
scores before it, a step falls with equal probability into each gap between them (sequential ranks: Rényi 1962). A
bet on the gap by the step's conformal p-value against the known-good adapters, over the bet's mean over all gaps, is
therefore fair: a conformal test martingale (Vovk, Nouretdinov and Gammerman, ICML 2003; Vovk, Gammerman and Shafer,
"Algorithmic learning in a random world", chapters 7 and 8). The earlier steps lie in gaps too and raise that mean:
this pays for comparing every step with the same known-good adapters, which makes their p-values dependent.

The bet is 1 + λ·clip(2 − 4p, −1, 1): it wins by a bad rank what it loses by the mirrored good one. Continued training
makes larger steps in both directions than training from the base (docs/guards/drift.md); a bet on small p-values, such
as the usual p^(κ − 1), takes that for a turn, and this one does not. One step at most doubles what is at stake.

Stakes λ are mixed, and so are the steps at which the turn may have begun, with weights 1/(j(j + 1)). The mixture is
an e-process, so the probability that it ever reaches 1/α on one benign lineage is at most α (Ville). An ordinary
CUSUM, or an e-detector (Shin, Ramdas and Rinaldo 2022), keeps the best start instead of a weighted mean: it finds a
late turn sooner, but bounds only the mean time between false alarms, and on a lineage that goes on alarms for certain.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from adapters.adapter import Adapter
from guards.reference_facts import Facts, ScreenName
from guards.screening import Components, Values, combined
from guards.statistics import conformal_p
from policies.findings import Finding, Inconclusive, Result

LINEAR: tuple[ScreenName, ...] = ("contrast", "shift", "probe")
"""Screens whose components of a step are a difference; the tail's and the weights' are not."""
STEPS_TO_ALARM = 12
"""Steps within which the worst possible lineage has to alarm, else the Reference knows too few good adapters: at an
alpha of 0.05 six can do it with many adapters, at 0.001 no fewer than twelve."""

_STAKES = np.arange(1, 11) / 10
_WEIGHTS = np.append(np.full(9, 0.3 / 9), 0.7)
"""Most of it on the largest stake, which is the best against a steady turn; the others recover from a good step."""
_MOST_ADAPTERS = 1000


@dataclass(frozen=True, slots=True)
class Chain:
    """One line of descent, as far back as it was measured under one Reference."""

    members: tuple[Components, ...]
    """Oldest first; the adapter under review is the last. At least one."""
    from_base: bool
    """Whether the oldest was trained from the base itself, so that its own shift is the first step."""
    guessed: int = 0
    """Steps whose parent was only guessed from the name."""

    @property
    def steps(self) -> list[Components]:
        """The step of each member from the one before it, oldest first."""
        later = [child.minus(parent) for parent, child in zip(self.members, self.members[1:], strict=False)]
        return [self.members[0], *later] if self.from_base else later


History: TypeAlias = Callable[[Adapter, str], Chain | None]
"""Finds an adapter's chain among what one version of the subspace guard measured; None without its own shift."""


@dataclass(frozen=True, slots=True)
class Evidence:
    """What the steps of one lineage amount to."""

    e_value: float
    """The largest that the e-process ever was, at least 1: what has turned is not undone by a benign step."""
    step_p: tuple[float, ...]
    """Every step's conformal p-value by itself, against the known-good adapters; oldest first."""


def evidence(steps: Sequence[float], null: Sequence[float]) -> Evidence:
    """Bet on every step of a lineage in turn.

    Args:
        steps: the steps' scores, oldest first, higher is worse.
        null: known-good adapters' scores, at least one.
    """
    known = np.asarray(null, dtype=np.float64)
    all_gaps = _bets(np.arange(1, len(known) + 2) / (len(known) + 1)).sum(axis=0)
    capital, largest, p_values = np.zeros(len(_STAKES)), 1.0, []
    for number, step in enumerate(steps, start=1):
        # Ties count against the bet twice: here above the step, and below it among the gaps of later ones.
        p_values.append(conformal_p(step, null))
        tied = (1 + np.count_nonzero(known > step)) / (len(known) + 1)
        # A new start joins what is at stake since earlier ones; what will start later waits as it is.
        capital = (capital + 1 / (number * (number + 1))) * _bets(p_values[-1]) * (len(known) + number) / all_gaps
        all_gaps = all_gaps + _bets(tied)
        largest = max(largest, float(capital @ _WEIGHTS) + 1 / (number + 1))
    return Evidence(largest, tuple(p_values))


def _bets(p: float | NDArray[np.float64]) -> NDArray[np.float64]:
    """What every stake makes of one unit at a p-value: [stakes], or [n, stakes] of an array."""
    worth: NDArray[np.float64] = 1 + _STAKES * np.clip(2 - 4 * np.asarray(p)[..., None], -1, 1)
    return worth


@cache
def adapters_needed(alpha: float) -> int:
    """Fewest known-good adapters with which ``STEPS_TO_ALARM`` steps, each above all of them, reach 1/alpha."""
    worst = [1.0] * STEPS_TO_ALARM
    enough = (n for n in range(1, _MOST_ADAPTERS) if evidence(worst, [0.0] * n).e_value >= 1 / alpha)
    return next(enough, _MOST_ADAPTERS)


def step_score(step: Components, facts: Facts) -> float:
    """Score a step as an adapter is scored, by the linear screens alone; NaN where none of them applies."""
    return combined({screen: values for screen, values in step.values().items() if screen in LINEAR}, facts.combination)


def known_good_scores(facts: Facts) -> list[float]:
    """The same score of every known-good adapter's held-out components, those left out for which there is none."""
    by_adapter: dict[str, Values] = {}
    for screen in LINEAR:
        for modality, figures in facts.screens.get(screen, {}).items():
            for name, value in figures.known_good.items():
                by_adapter.setdefault(name, {}).setdefault(screen, {})[modality] = value
    scores = [combined(values, facts.combination) for values in by_adapter.values()]
    return [score for score in scores if math.isfinite(score)]


class DriftGuard:
    """Adds up the steps of an adapter's lineage; asks no model anything."""

    name = "drift"

    def __init__(self, facts: Facts, screen_version: str, history: History, alpha: float) -> None:
        """Take what the Reference states, and where the subspace guard's measurements are recorded.

        ``screen_version`` is that guard's under this Reference; ``alpha`` the policy's ``rules.drift.alpha``, above 0.
        """
        self._facts, self._screen_version, self._history, self._alpha = facts, screen_version, history, alpha
        self.version = f"1-{screen_version}"

    def examine(self, adapter: Adapter) -> list[Result]:
        """Score the steps that led to an adapter, and bet on each."""
        null = known_good_scores(self._facts)
        if not null:
            return [self._unable("the Reference has no screen whose steps add up; calibrate again or set alpha to 0")]
        chain = self._history(adapter, self._screen_version)
        if chain is None:
            return [self._unable("its own shift was not measured, so its last step is unknown")]
        steps = [step_score(step, self._facts) for step in chain.steps]
        if not all(math.isfinite(score) for score in steps):
            return [self._unable("a step has no score; a screen of the Reference was not measured")]
        found = evidence(steps, null)
        note = f"{chain.guessed} of the parents only guessed" if chain.guessed else ""
        results = [
            self._finding("drift_e_value", found.e_value, len(steps), note),
            self._finding("drift_steps", len(steps), len(chain.members)),
            self._finding("drift_adapters_needed", adapters_needed(self._alpha), len(null)),
        ]
        if steps:
            results.append(self._finding("drift_step_score", steps[-1], len(null)))
            results.append(self._finding("drift_step_p_value", found.step_p[-1], len(null)))
        return list(results)

    def _finding(self, measure: str, value: float, n: int, note: str = "") -> Finding:
        return Finding(guard=self.name, version=self.version, measure=measure, value=value, n=n, note=note)

    def _unable(self, reason: str) -> Inconclusive:
        return Inconclusive(guard=self.name, version=self.version, measure="drift_e_value", reason=reason)
