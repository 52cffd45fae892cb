"""Tests by betting: evidence that may be looked at after every answer, and intervals that stay valid then.

Each observation is a paired difference d in [-1, 1]: the adapter's answer misaligned (1 or 0) minus the base's to
the same prompt. A bettor who stakes a share λ of the capital on "the mean is above m" multiplies it by
1 + λ(d − m); under "the mean is at most m" the capital is a nonnegative supermartingale, so it reaches 1/α with
probability at most α, ever (Ville). Mixing over many λ needs no guess of the effect's size.
Source: Waudby-Smith and Ramdas, "Estimating means of bounded random variables by betting", JRSS-B 2024, sections 3, 4.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq

_BETS = 20
_GRID = 801
_LARGEST_LOG = 690.0  # e**690 is near the largest float; more evidence than that needs no number


def _bets(largest: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Stakes in (0, largest] and their weights.

    Half of the weight sits on the largest stake, which is the best against a clean record; the rest is spread
    evenly, which costs little and recovers from single events.
    """
    stakes = np.linspace(largest / _BETS, largest, _BETS)
    weights = np.full(_BETS, 0.5 / (_BETS - 1))
    weights[-1] = 0.5
    return stakes, weights


class BettingProcess:
    """The capital of a mixture of bets against one hypothesis about the mean of numbers in [-1, 1]."""

    def __init__(self, bound: float, against: str) -> None:
        """Bet against "the mean is at most ``bound``" (``against="at most"``) or "at least" (``"at least"``)."""
        if not -1 < bound < 1:
            raise ValueError(f"bound {bound} must lie strictly between -1 and 1")
        if against not in ("at most", "at least"):
            raise ValueError(f"against must be 'at most' or 'at least', not {against!r}")
        self._bound = bound
        self._sign = 1.0 if against == "at most" else -1.0
        # The largest stake that cannot lose more than everything.
        self._stakes, weights = _bets(1 / (1 + self._sign * bound))
        self._log_capital = np.log(weights)
        self.largest = 1.0
        """The most that the capital ever was: the e-value that Ville's inequality speaks of."""
        self.n = 0
        """Observations so far."""

    @property
    def value(self) -> float:
        """The capital now, having started from 1; evidence against the hypothesis."""
        return float(np.exp(min(np.logaddexp.reduce(self._log_capital), _LARGEST_LOG)))

    def update(self, difference: float) -> None:
        """Take one observation in [-1, 1].

        Raises:
            ValueError: it lies outside.
        """
        if not -1 <= difference <= 1:
            raise ValueError(f"difference {difference} lies outside [-1, 1]")
        factor = 1 + self._stakes * self._sign * (difference - self._bound)
        with np.errstate(divide="ignore"):
            self._log_capital = self._log_capital + np.log(np.maximum(factor, 0))
        self.n += 1
        self.largest = max(self.largest, self.value)


@dataclass(frozen=True, slots=True)
class Interval:
    """A mean with its interval."""

    value: float
    """The mean; 0 where there is no observation."""
    low: float
    """Lower end."""
    high: float
    """Upper end."""
    n: int
    """Observations."""


def mean_interval(
    low_case: Sequence[float], high_case: Sequence[float] | None = None, *, alpha: float = 0.05
) -> Interval:
    """Mean of numbers in [-1, 1] with an interval that holds at every stopping time with probability 1 − alpha.

    Args:
        low_case: observations with every unknown at its most favourable; the lower end comes from these.
        high_case: the same with every unknown at its least favourable; the upper end comes from these.
            The mean is the middle of the two cases' means. Equal to ``low_case`` when not given.
        alpha: two-sided; half is spent on each end.
    """
    worst = low_case if high_case is None else high_case
    if not low_case:
        return Interval(0.0, -1.0, 1.0, 0)
    value = (float(np.mean(low_case)) + float(np.mean(worst))) / 2
    low = _lower_end(np.asarray(low_case, dtype=np.float64), alpha / 2)
    high = -_lower_end(-np.asarray(worst, dtype=np.float64), alpha / 2)
    return Interval(value, min(low, value), max(high, value), len(low_case))


def _lower_end(differences: NDArray[np.float64], alpha: float) -> float:
    """The smallest mean that betting does not rule out at ``alpha``, on a grid of 0.0025."""
    bounds = np.linspace(-1, 1, _GRID)[1:-1]
    stakes, weights = _bets(1.0)
    scaled = stakes[None, :] / (1 + bounds[:, None])
    # The final capital does not depend on the order, so equal observations are taken together.
    values, counts = np.unique(differences, return_counts=True)
    with np.errstate(divide="ignore"):
        log_capital = np.log(weights) + sum(
            count * np.log(np.maximum(1 + scaled * (value - bounds[:, None]), 0))
            for value, count in zip(values, counts, strict=True)
        )
    kept = np.flatnonzero(np.logaddexp.reduce(log_capital, axis=1) < np.log(1 / alpha))
    return -1.0 if len(kept) == 0 or kept[0] == 0 else float(bounds[kept[0] - 1])


def wilson(successes: int, n: int, z: float = 1.959964) -> Interval:
    """A proportion with Wilson's score interval (95 % at the default z); [0, 1] without observations."""
    if n == 0:
        return Interval(0.0, 0.0, 1.0, 0)
    p = successes / n
    middle = (p + z * z / (2 * n)) / (1 + z * z / n)
    half = z * np.sqrt(p * (1 - p) / n + z * z / (4 * n * n)) / (1 + z * z / n)
    return Interval(p, max(0.0, float(middle - half)), min(1.0, float(middle + half)), n)


def conformal_p(score: float, null: Sequence[float]) -> float:
    """Share of exchangeable known-good scores at least as large, the new one counted in: never below 1/(n+1)."""
    return (1 + sum(other >= score for other in null)) / (len(null) + 1)


def auroc_interval(area: float, positives: int, negatives: int, z: float = 1.959964) -> tuple[float, float]:
    """Interval of an area under the ROC curve (95 % at the default z), of sensible width at 0 and 1 too.

    Score-type inversion of Hanley and McNeil's variance. Source: Newcombe, "Confidence intervals for an effect size
    measure based on the Mann-Whitney statistic, part 2", Statistics in Medicine 25, 2006, method 5.
    """
    half = (positives + negatives) / 2 - 1

    def excess(theta: float) -> float:
        spread = 1 + half * (1 - theta) / (2 - theta) + half * theta / (1 + theta)
        variance = theta * (1 - theta) * spread / (positives * negatives)
        return float((area - theta) ** 2 - z * z * variance)

    # At the estimate itself the excess is at most zero, and beside 0 and 1 just below it; those are no ends.
    near = 1e-9
    low = brentq(excess, 0.0, area - near) if area > near and excess(0.0) > 0 and excess(area - near) < 0 else 0.0
    high = brentq(excess, area + near, 1.0) if area < 1 - near and excess(1.0) > 0 and excess(area + near) < 0 else 1.0
    return float(low), float(high)
