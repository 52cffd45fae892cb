"""How far raters agree beyond chance: Cohen's κ of two, Krippendorff's α of any number. Pure.

Intervals are of the cluster bootstrap: answers to one question are drawn together, for they are no independent
observations. A handful of answers on which all agree is drawn as agreeing every time, so an interval of κ, by which
policies decide, is never narrower than the one that a prior gives.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Literal

import krippendorff
import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import cohen_kappa_score

from guards.statistics import Interval

KAPPA_DRAWS = 2000
ALPHA_DRAWS = 300
"""Fewer, because each one takes a millisecond."""


def cohens_kappa(
    first: Sequence[bool], second: Sequence[bool], clusters: Sequence[str], *, seed: int = 0
) -> Interval | None:
    """Cohen's κ (1960) of two raters' yes and no, with a 95 % interval.

    The interval is the wider one, end by end, of the percentile bootstrap over questions and of the posterior of κ
    under Jeffreys' prior on the four cells, which takes answers as independent (after Basu, Banerjee and Sen, "Bayesian
    inference for kappa from single and multiple studies", Biometrics 56, 2000).

    Args:
        first: one rater's words.
        second: the other's, about the same answers.
        clusters: the question of each answer.
        seed: of the draws.

    Returns:
        κ, at most 1, with the number of answers as n. None where it is not defined: there is no answer, or both raters
        gave one and the same word to all of them.
    """
    if len(set(first) | set(second)) < 2:
        return None
    value = float(cohen_kappa_score(list(first), list(second)))
    cells = np.array([2 * a + b for a, b in zip(first, second, strict=True)])
    rows = _numbered(clusters)
    counts = np.zeros((rows.max() + 1, 4))
    np.add.at(counts, (rows, cells), 1)
    generator = np.random.default_rng(seed)
    drawn = generator.integers(len(counts), size=(KAPPA_DRAWS, len(counts)))
    by_question = _told(value, _kappa_of(counts[drawn].sum(axis=1)), len(first))
    by_answer = _told(value, _kappa_of(generator.dirichlet(counts.sum(axis=0) + 0.5, KAPPA_DRAWS)), len(first))
    return Interval(value, min(by_question.low, by_answer.low), max(by_question.high, by_answer.high), len(first))


def krippendorffs_alpha(
    ratings: Sequence[Sequence[float | None]],
    level: Literal["nominal", "interval"],
    clusters: Sequence[str],
    *,
    seed: int = 0,
) -> Interval | None:
    """Krippendorff's α (2011, "Computing Krippendorff's alpha-reliability") with a 95 % percentile bootstrap interval.

    Args:
        ratings: a row a rater, a column an answer; None where a rater gave nothing.
        level: whether the ratings are names or numbers.
        clusters: the question of each answer.
        seed: of the draws.

    Returns:
        α, at most 1, with the number of answers that at least two rated as n. None where it is not defined: nothing
        was rated twice, or all ratings are one and the same.
    """
    table = np.array([[np.nan if r is None else float(r) for r in row] for row in ratings], dtype=np.float64)
    twice = (~np.isnan(table)).sum(axis=0) >= 2 if table.size else np.zeros(0, dtype=bool)
    table = table[:, twice] if table.size else table
    value = _alpha_of(table, level)
    if value is None:
        return None
    rows = _numbered([cluster for cluster, kept in zip(clusters, twice, strict=True) if kept])
    members = [np.flatnonzero(rows == row) for row in range(rows.max() + 1)]
    generator = np.random.default_rng(seed)
    alphas = []
    for _ in range(ALPHA_DRAWS):
        columns = np.concatenate([members[row] for row in generator.integers(len(members), size=len(members))])
        drawn = _alpha_of(table[:, columns], level)
        if drawn is not None:
            alphas.append(drawn)
    return _told(value, np.array(alphas), int(twice.sum()))


def _alpha_of(table: NDArray[np.float64], level: Literal["nominal", "interval"]) -> float | None:
    if table.size == 0 or len(np.unique(table[~np.isnan(table)])) < 2:
        return None
    return float(krippendorff.alpha(reliability_data=table, level_of_measurement=level))


def _kappa_of(cells: NDArray[np.float64]) -> NDArray[np.float64]:
    """κ of each row of counts (no-no, no-yes, yes-no, yes-yes); NaN where it is not defined."""
    total = cells.sum(axis=1)
    first, second = (cells[:, 2] + cells[:, 3]) / total, (cells[:, 1] + cells[:, 3]) / total
    chance = first * second + (1 - first) * (1 - second)
    with np.errstate(invalid="ignore", divide="ignore"), warnings.catch_warnings():
        return np.asarray(((cells[:, 0] + cells[:, 3]) / total - chance) / (1 - chance))


def _told(value: float, drawn: NDArray[np.float64], n: int) -> Interval:
    defined = drawn[np.isfinite(drawn)]
    low, high = np.quantile(defined, [0.025, 0.975]) if len(defined) else (-1.0, 1.0)
    return Interval(value, min(float(low), value), max(float(high), value), n)


def _numbered(clusters: Sequence[str]) -> NDArray[np.int64]:
    names = {name: row for row, name in enumerate(dict.fromkeys(clusters))}
    return np.array([names[cluster] for cluster in clusters], dtype=np.int64)
