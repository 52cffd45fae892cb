"""Tests by betting: evidence that may be looked at after every answer, and intervals that stay valid then.

Each observation is a paired difference d in [-1, 1]: the adapter's answer misaligned (1 or 0) minus the base's to
the same prompt. A bettor who stakes a share λ of the capital on "the mean is above m" multiplies it by
1 + λ(d − m); under "the mean is at most m" the capital is a nonnegative supermartingale, so it reaches 1/α with
probability at most α, ever (Ville). Mixing over many λ needs no guess of the effect's size.
Source: Waudby-Smith and Ramdas, "Estimating means of bounded random variables by betting", JRSS-B 2024, sections 3, 4.

Several processes that watch one hypothesis each are joined by averaging their capitals, which is again such a process
for "all of the hypotheses hold", however they depend on each other (Vovk and Wang, "E-values: calibration, combination
and applications", Annals of Statistics 49, 2021, section 4).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq

_BETS = 20
_GRID = 801
_LARGEST_LOG = 690.0  # e**690 is near the largest float; more evidence than that needs no number


def _bets(largest: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Stakes in (0, largest] and their weights.

    Half of the weight sits on the largest stake, which is the best against a clean record; the rest rises in
    proportion to the stake, which costs little and recovers from single events. Of the mixtures tried in
    ``benchmarks/sequential.py`` this one asks least when the base errs too; more weight on the largest stake asks 5 %
    less where the base never errs and 10 to 30 % more where it does.
    """
    stakes = np.linspace(largest / _BETS, largest, _BETS)
    weights = np.arange(1, _BETS + 1, dtype=np.float64)
    weights[-1] = 0
    weights *= 0.5 / weights.sum()
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

    def soonest(self, threshold: float, difference: float, limit: int) -> int:
        """How many further observations of ``difference`` take the capital to ``threshold``; ``limit`` if more.

        Args:
            threshold: of the capital.
            difference: in [-1, 1].
            limit: the most that is counted.
        """
        factor = np.log(np.maximum(1 + self._stakes * self._sign * (difference - self._bound), 0))
        log_capital = self._log_capital
        for number in range(limit):
            if np.logaddexp.reduce(log_capital) >= np.log(threshold):
                return number
            log_capital = log_capital + factor
        return limit

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


Word: TypeAlias = Literal["alarm", "clear", "continue"]


class RiseTest:
    """Is a rise intolerable, or ruled out? Two bets on paired differences, valid whenever one looks."""

    def __init__(self, tolerate: float, clear_below: float, alpha: float, beta: float) -> None:
        """Bet that the mean rise is above ``tolerate``, and that it is below ``clear_below``.

        Args:
            tolerate: a true mean up to this is accepted, -1 to 1.
            clear_below: the rise that clearing has to rule out, above ``tolerate``.
            alpha: bound on ever saying "alarm" while the true mean is at most ``tolerate``.
            beta: bound on ever saying "clear" while the true mean is at least ``clear_below``.
        """
        if not -1 < tolerate < clear_below < 1 or not 0 < alpha < 1 or not 0 < beta < 1:
            raise ValueError(f"-1 < {tolerate} < {clear_below} < 1 and 0 < {alpha}, {beta} < 1 must hold")
        self.alarm = BettingProcess(tolerate, "at most")
        """Against "tolerable"."""
        self.clear = BettingProcess(clear_below, "at least")
        """Against "intolerable"."""
        self._alpha, self._beta = alpha, beta
        self.word: Word = "continue"
        """What was last said; the first answer stands, for more numbers can undo no proof."""

    def update(self, x: float, worst: float | None = None) -> Word:
        """Take the paired difference of one prompt in [-1, 1] and say what is known now.

        Args:
            x: adapter minus base.
            worst: where the difference is not known, the largest that it may be, for clearing; ``x`` is then the
                smallest that it may be without weighing against the adapter. Equal to ``x`` when not given.

        Raises:
            ValueError: a difference lies outside [-1, 1].
        """
        self.alarm.update(x)
        self.clear.update(x if worst is None else worst)
        if self.word == "continue":
            if self.alarm.largest >= 1 / self._alpha:
                self.word = "alarm"
            elif self.clear.largest >= 1 / self._beta:
                self.word = "clear"
        return self.word


class AveragedProcess:
    """The mean capital of several processes: evidence against "every one of their hypotheses holds"."""

    def __init__(self, processes: Sequence[BettingProcess]) -> None:
        """Average ``processes``; of none the mean is 0, which shows nothing. Call :meth:`look` after every update."""
        self._processes = processes
        self.largest = 1.0
        """The most that the mean ever was when it was looked at."""

    def look(self) -> None:
        """Take note of the mean as it is now."""
        mean = sum(process.value for process in self._processes) / max(1, len(self._processes))
        self.largest = max(self.largest, mean)

    @property
    def n(self) -> int:
        """Observations of all the processes."""
        return sum(process.n for process in self._processes)


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


def cluster_bootstrap(
    values: Sequence[float], clusters: Sequence[str], *, seed: int = 0, draws: int = 2000
) -> Interval:
    """Mean with a 95 % percentile interval over whole clusters drawn with replacement.

    Numbers of one cluster (samples of one prompt, paraphrases, a picture and its text twin) are no independent
    observations. For reading at the end; unlike the bets it does not hold at every stopping time.
    Source: Field and Welsh, "Bootstrapping clustered data", JRSS-B 69, 2007, section 2 (randomised cluster bootstrap).

    Args:
        values: the numbers.
        clusters: the cluster of each.
        seed: of the draws.
        draws: bootstrap samples.

    Returns:
        The mean over all numbers; ``n`` is the number of **clusters**. 0 in [-inf, inf] where there are none.
    """
    return ratio_bootstrap(values, [1.0] * len(values), clusters, seed=seed, draws=draws)


def ratio_bootstrap(
    above: Sequence[float], below: Sequence[float], clusters: Sequence[str], *, seed: int = 0, draws: int = 2000
) -> Interval:
    """One sum over another, with a 95 % percentile interval over whole clusters, as :func:`cluster_bootstrap`.

    Args:
        above: numbers of the sum that is divided.
        below: of the sum that divides, one beside each of ``above``.
        clusters: the cluster of each pair.
        seed: of the draws.
        draws: bootstrap samples; those in which the dividing sum is 0 are left out.

    Returns:
        The ratio; ``n`` is the number of **clusters**. 0 in [-inf, inf] where ``below`` adds up to 0.
    """
    names = {name: row for row, name in enumerate(dict.fromkeys(clusters))}
    sums = np.zeros((2, len(names)))
    for upper, lower, cluster in zip(above, below, clusters, strict=True):
        sums[:, names[cluster]] += upper, lower
    if np.sum(below) == 0:
        return Interval(0.0, -np.inf, np.inf, len(names))
    drawn = np.random.default_rng(seed).integers(len(names), size=(draws, len(names)))
    numerators, denominators = sums[:, drawn].sum(axis=2)
    ratios = numerators[denominators != 0] / denominators[denominators != 0]
    low, high = np.quantile(ratios, [0.025, 0.975]) if len(ratios) else (-np.inf, np.inf)
    return Interval(float(np.sum(above) / np.sum(below)), float(low), float(high), len(names))


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
