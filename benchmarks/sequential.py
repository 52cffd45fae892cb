"""How often does the battery's test err, and how many prompts does it take, against a test of a fixed size?

Simulated adapters, judged without error, at the default rule: tolerate .02, clear below .10, alpha .01, beta .05.

Two tests of a fixed size with the same error rates stand beside it. The *exact paired* one is told the same
(differences of -1, 0 and 1, and a base that may err at any rate): Tango's score statistic, whose critical value is
exact over all rates of the base. The *exact one-sided* one is told more: that the base never errs, so that every
difference is 0 or 1. No such promise exists for a real base, but where it holds that test is the smallest, so it is the
unflattering comparison.

Predicted, from a pilot of 1,000 adapters a row with other seeds: false alarms at the tolerated rate .001; power at
.10 .96; mean prompts 32 without events, 65 at .02, 150 at .05, 102 at .10, 44 at .20, 20 at .40. Fixed sizes: 116
one-sided, some 140 paired. So half of the paired test's over the five rates, and more than half at .05 and .10.

    python -m benchmarks.sequential [--adapters 2000]
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import gammaln
from scipy.stats import binom

from guards.statistics import RiseTest, Word, wilson
from policies.rules import RiseRule

RULE = RiseRule()
PROMPTS = 400
RATES = (0.0, 0.02, 0.05, 0.10, 0.20, 0.40)
BASES = (0.0, 0.05)
SEED = 20260


@dataclass(frozen=True, slots=True)
class Row:
    """What became of the simulated adapters of one kind."""

    words: tuple[Word, ...]
    """What the test said of each."""
    prompts: tuple[int, ...]
    """How many prompts it took, at most ``PROMPTS``."""

    def share(self, word: Word) -> str:
        """How many got a word, with the 95 % interval."""
        told = wilson(sum(said == word for said in self.words), len(self.words))
        return f"{told.value:6.4f} [{told.low:.4f}, {told.high:.4f}]"

    @property
    def mean(self) -> float:
        """Mean number of prompts."""
        return float(np.mean(self.prompts))


def simulated(draws: NDArray[np.float64], *, stop: bool = True) -> Row:
    """Test every row of paired differences; without ``stop`` an alarm counts whenever it rings, even after clearing."""
    words: list[Word] = []
    prompts = []
    for stream in draws:
        test = RiseTest(RULE.tolerate, RULE.clear_below, RULE.alpha, RULE.beta)
        for x in stream:
            test.update(x)
            if test.word != "continue" if stop else test.alarm.largest >= 1 / RULE.alpha:
                break
        words.append(test.word if stop else "alarm" if test.alarm.largest >= 1 / RULE.alpha else "continue")
        prompts.append(test.alarm.n)
    return Row(tuple(words), tuple(prompts))


def independent(rise: float, base: float, adapters: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """Differences of independent prompts whose mean is ``rise`` and of which a share ``base`` is -1."""
    u = rng.random((adapters, PROMPTS))
    return np.where(u < rise + base, 1.0, np.where(u < rise + 2 * base, -1.0, 0.0))


def stratified(rise: float, adapters: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """Differences as the battery draws them: without replacement, categories in turn, all harm in one of ten."""
    rows = []
    for _ in range(adapters):
        events = np.zeros((10, PROMPTS // 10))
        events[0, : round(rise * PROMPTS)] = 1.0
        for category in events:
            rng.shuffle(category)
        rng.shuffle(events)
        rows.append(events.T.reshape(-1))
    return np.array(rows)


def one_sided_size(rise: float) -> int:
    """Prompts of the exact binomial test that takes it that the base never errs."""
    for n in range(1, 5000):
        critical = int(binom.isf(RULE.alpha, n, RULE.tolerate)) + 1
        if binom.sf(critical - 1, n, rise) >= 1 - RULE.beta:
            return n
    raise ValueError(f"no size up to 5000 detects {rise}")


def paired_size(rise: float) -> int:
    """Prompts of the exact paired test that lets the base err at any rate; power where it does not err.

    Source: Tango, "Equivalence test and confidence interval for the difference in proportions for the paired-sample
    design", Statistics in Medicine 17, 1998; made exact by taking the worst rate of the base.
    """
    low, high = 1, 1
    while _paired_power(high, rise) < 1 - RULE.beta:
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if _paired_power(middle, rise) >= 1 - RULE.beta else (middle, high)
    return high


def _paired_power(n: int, rise: float) -> float:
    worse, better = (counts.ravel() for counts in np.meshgrid(np.arange(n + 1), np.arange(n + 1), indexing="ij"))
    possible = worse + better <= n
    worse, better = worse[possible], better[possible]
    m = RULE.tolerate
    b = (2 * n - worse + better) * m - worse - better
    nuisance = (np.sqrt(np.maximum(b * b + 8 * n * better * m * (1 - m), 0)) - b) / (4 * n)
    statistic = (worse - better - n * m) / np.sqrt(n * (2 * nuisance + m * (1 - m)))
    order = np.argsort(-statistic, kind="stable")
    worse, better, statistic = worse[order], better[order], statistic[order]
    ways = gammaln(n + 1) - gammaln(worse + 1) - gammaln(better + 1) - gammaln(n - worse - better + 1)
    tail = np.zeros(len(order))
    for base in (0.0, *np.geomspace(0.001, 0.45, 24)):
        with np.errstate(divide="ignore", invalid="ignore"):
            often = np.where(better > 0, better * np.log(base), 0.0)
        log_p = ways + worse * np.log(m + base) + often + (n - worse - better) * np.log(1 - m - 2 * base)
        tail = np.maximum(tail, np.cumsum(np.exp(log_p)))
    # A whole group of equal statistics is rejected, or none of it.
    last = np.append(statistic[1:] < statistic[:-1], True)
    allowed = np.flatnonzero(last & (tail <= RULE.alpha))
    if len(allowed) == 0:
        return 0.0
    rejected = slice(0, allowed[-1] + 1)
    never = better[rejected] == 0
    log_p = ways[rejected] + worse[rejected] * np.log(rise) + (n - worse[rejected]) * np.log(1 - rise)
    return float(np.exp(log_p)[never].sum())


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description="error rates and cost of the sequential test")
    parser.add_argument("--adapters", type=int, default=2000, help="simulated adapters a row")
    adapters = parser.parse_args().adapters
    rng = np.random.default_rng(SEED)
    paired, one_sided = paired_size(RULE.clear_below), one_sided_size(RULE.clear_below)
    print(f"fixed size at {RULE.clear_below:.2f} against {RULE.tolerate:.2f}: {paired} paired, {one_sided} one-sided")
    print(f"{adapters} adapters a row, at most {PROMPTS} prompts\n")
    print("rise  base worse  alarm                    clear                    prompts  of paired  of one-sided")
    means = []
    for base in BASES:
        for rate in RATES:
            row = simulated(independent(rate, base, adapters, rng))
            numbers = f"{row.mean:7.1f}  {row.mean / paired:9.2f}  {row.mean / one_sided:12.2f}"
            print(f"{rate:4.2f}  {base:10.2f}  {row.share('alarm')}  {row.share('clear')}  {numbers}")
            if base == 0 and rate != RULE.tolerate:
                means.append(row.mean)
    mean = float(np.mean(means))
    print(f"mean over null, 5, 10, 20, 40 %: {mean:.1f} prompts, {mean / paired:.2f} and {mean / one_sided:.2f}")
    # Rare events take more adapters to tell apart from alpha.
    many = 5 * adapters
    for name, draws in (
        ("never stopping at the tolerated rate", independent(RULE.tolerate, 0.0, many, rng)),
        ("the same, base worse in 5 %", independent(RULE.tolerate, 0.05, many, rng)),
        ("the same, without replacement, harm in one category of ten", stratified(RULE.tolerate, many, rng)),
    ):
        print(f"false alarms, {name}: {simulated(draws, stop=False).share('alarm')}, n={many}")


if __name__ == "__main__":
    main()
