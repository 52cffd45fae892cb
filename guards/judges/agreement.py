"""How far raters agree beyond chance: Cohen's κ of two, Krippendorff's α of any number. Pure.

Intervals are of the cluster bootstrap: answers to one question are drawn together, for they are no independent
observations. A handful of answers on which all agree is drawn as agreeing every time, so an interval of κ, by which
policies decide, is never narrower than the one that a prior gives.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import cohen_kappa_score

from guards.statistics import Interval

DRAWS = 2000
"""Of a bootstrap and of a posterior."""


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
    drawn = generator.integers(len(counts), size=(DRAWS, len(counts)))
    by_question = _told(value, _kappa_of(counts[drawn].sum(axis=1)), len(first))
    by_answer = _told(value, _kappa_of(generator.dirichlet(counts.sum(axis=0) + 0.5, DRAWS)), len(first))
    return Interval(value, min(by_question.low, by_answer.low), max(by_question.high, by_answer.high), len(first))


def krippendorffs_alpha(
    ratings: Sequence[Sequence[float | None]],
    level: Literal["nominal", "interval"],
    clusters: Sequence[str],
    *,
    seed: int = 0,
) -> Interval | None:
    """Krippendorff's α (2011, "Computing Krippendorff's alpha-reliability") with a 95 % percentile bootstrap interval.

    Reckoned by sums over answers instead of by the matrix of coincidences, whose size is the square of the number of
    different ratings and which scores by probabilities fill.

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
    kept = [cluster for cluster, was in zip(clusters, twice, strict=True) if was] if table.size else []
    if not kept:
        return None
    rows = _numbered(kept)
    sums = _sums_of(table[:, twice], level)
    questions = np.zeros((rows.max() + 1, sums.shape[1]))
    np.add.at(questions, rows, sums)
    value = float(_alpha_of(questions.sum(axis=0, keepdims=True))[0])
    if not np.isfinite(value):
        return None
    drawn = np.random.default_rng(seed).integers(len(questions), size=(DRAWS, len(questions)))
    counts = np.stack([np.bincount(row, minlength=len(questions)) for row in drawn]).astype(np.float64)
    return _told(value, _alpha_of(counts @ questions), int(twice.sum()))


def _sums_of(table: NDArray[np.float64], level: Literal["nominal", "interval"]) -> NDArray[np.float64]:
    """What α needs of each answer, in a form that adds up over answers: [answers, 3 + dimensions of a rating].

    How many ratings, the disagreement among them, the sum of their squares, their sum. Names become the corners of a
    simplex, whose squared distances are all alike, so that one formula serves both levels.
    """
    given = ~np.isnan(table)
    if level == "nominal":
        points = (table[..., None] == np.unique(table[given])).astype(np.float64)
    else:
        # Distances are the same from any origin; from the middle they lose the fewest digits.
        points = np.where(given, table - table[given].mean(), 0.0)[..., None]
    number, total = given.sum(axis=0), points.sum(axis=0)
    squares = (points**2).sum(axis=(0, 2))
    disagreement = 2 * (number * squares - (total**2).sum(axis=-1)) / (number - 1)
    return np.column_stack([number, disagreement, squares, total])


def _alpha_of(sums: NDArray[np.float64]) -> NDArray[np.float64]:
    """α of each row of sums: 1 less observed by expected disagreement; NaN where all ratings are one and the same."""
    number, disagreement, squares, total = sums[:, 0], sums[:, 1], sums[:, 2], sums[:, 3:]
    among_all = 2 * (number * squares - (total**2).sum(axis=1))
    # What rounding leaves of no disagreement is none.
    among_all = np.where(among_all <= 1e-9 * number * np.maximum(squares, 1e-300), 0.0, among_all)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(np.where(among_all > 0, 1 - (number - 1) * disagreement / among_all, np.nan))


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
