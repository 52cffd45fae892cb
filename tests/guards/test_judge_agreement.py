"""Agreement beyond chance: against published examples, against scikit-learn, and where it is not defined."""

from __future__ import annotations

from typing import Literal

import krippendorff
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import cohen_kappa_score

from guards.judges.agreement import cohens_kappa, krippendorffs_alpha

# Krippendorff, "Computing Krippendorff's alpha-reliability" (2011), section C: four observers, twelve units.
OBSERVERS = (
    (1, 2, 3, 3, 2, 1, 4, 1, 2, None, None, None),
    (1, 2, 3, 3, 2, 2, 4, 1, 2, 5, None, 3),
    (None, 3, 3, 3, 2, 3, 4, 2, 2, 5, 1, None),
    (1, 2, 3, 3, 2, 4, 4, 1, 2, 5, 1, None),
)
UNITS = [str(unit) for unit in range(12)]


@pytest.mark.parametrize(("level", "published"), [("nominal", 0.743), ("interval", 0.849)])
def test_alpha_is_that_of_the_published_example(level: str, published: float) -> None:
    told = krippendorffs_alpha(OBSERVERS, level, UNITS)
    assert told is not None
    assert told.value == pytest.approx(published, abs=5e-4)
    assert told.n == 11  # the last unit was seen by one observer alone
    assert told.low < told.value < told.high <= 1


@given(
    st.integers(2, 4).flatmap(
        lambda raters: st.lists(
            st.lists(st.none() | st.integers(0, 100), min_size=raters, max_size=raters), min_size=1, max_size=25
        )
    ),
    st.sampled_from(["nominal", "interval"]),
)
def test_alpha_is_that_of_the_matrix_of_coincidences(
    answers: list[list[int | None]], level: Literal["nominal", "interval"]
) -> None:
    ratings = list(zip(*answers, strict=True))
    twice = [answer for answer in answers if sum(rating is not None for rating in answer) >= 2]
    told = krippendorffs_alpha(ratings, level, [str(row) for row in range(len(answers))])
    if len({rating for answer in twice for rating in answer if rating is not None}) < 2:
        assert told is None
    else:
        assert told is not None
        table = np.array([[np.nan if r is None else r for r in row] for row in ratings], dtype=float)
        expected = krippendorff.alpha(reliability_data=table, level_of_measurement=level)
        assert told.value == pytest.approx(expected, abs=1e-9)
        assert told.n == len(twice)
        assert told.low <= told.value <= told.high <= 1


def test_alpha_of_thousands_of_different_scores_needs_no_matrix_of_them() -> None:
    draw = np.random.default_rng(2)
    truth = draw.uniform(0, 100, 5000)
    told = krippendorffs_alpha(
        [list(truth), list(truth + draw.normal(0, 10, 5000))], "interval", [str(row) for row in range(5000)]
    )
    assert told is not None
    # The variance that is shared, 100²/12, in that of one rating.
    assert told.value == pytest.approx(833.3 / (833.3 + 50), abs=0.01)
    assert told.high - told.low < 0.01


def test_kappa_is_that_of_a_worked_table() -> None:
    # 20 yes-yes, 5 yes-no, 10 no-yes, 15 no-no: observed 0.7, by chance 0.5, so 0.4.
    first = [True] * 25 + [False] * 25
    second = [True] * 20 + [False] * 5 + [True] * 10 + [False] * 15
    told = cohens_kappa(first, second, [str(row) for row in range(50)])
    assert told is not None
    assert told.value == pytest.approx(0.4)
    # The large-sample standard error is 0.127 (Fleiss, Cohen and Everitt 1969).
    assert (told.low, told.high) == (pytest.approx(0.4 - 0.25, abs=0.04), pytest.approx(0.4 + 0.25, abs=0.04))


@given(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=4, max_size=40))
def test_kappa_is_scikit_learns_and_lies_in_its_interval(pairs: list[tuple[bool, bool]]) -> None:
    first, second = [a for a, _ in pairs], [b for _, b in pairs]
    told = cohens_kappa(first, second, [str(row) for row in range(len(pairs))])
    if told is None:
        assert len({*first, *second}) == 1
    else:
        assert told.value == pytest.approx(cohen_kappa_score(first, second))
        assert told.low <= told.value <= told.high <= 1


def test_answers_to_one_question_are_no_independent_observations() -> None:
    # In half of eight questions the second rater misses all harm, in the other half none.
    first = [True, True, False, False, False] * 8
    second = [True, True, False, False, False] * 4 + [False] * 20
    many = cohens_kappa(first, second, [str(row) for row in range(40)])
    few = cohens_kappa(first, second, [str(row // 5) for row in range(40)])
    assert many is not None
    assert few is not None
    assert many.value == few.value
    assert few.high - few.low > many.high - many.low


@pytest.mark.parametrize(("n", "low"), [(2, -0.1), (4, 0.1), (10, 0.5), (40, 0.9), (400, 0.99)])
def test_a_handful_of_answers_on_which_all_agree_shows_little(n: int, low: float) -> None:
    words = [row % 2 == 0 for row in range(n)]
    for clusters in ([str(row) for row in range(n)], ["one question"] * n):
        told = cohens_kappa(words, words, clusters)
        assert told is not None
        assert told.value == told.high == 1
        assert told.low < low


@pytest.mark.parametrize(("n", "rate", "se", "sp"), [(20, 0.5, 0.98, 0.98), (60, 0.3, 0.8, 0.9), (200, 0.1, 0.9, 0.95)])
def test_the_interval_holds_the_true_kappa_as_often_as_it_says(n: int, rate: float, se: float, sp: float) -> None:
    draw, runs, held = np.random.default_rng(5), 250, 0
    both, second = rate * se + (1 - rate) * sp, rate * se + (1 - rate) * (1 - sp)
    chance = rate * second + (1 - rate) * (1 - second)
    true = (both - chance) / (1 - chance)
    for _ in range(runs):
        truth = draw.random(n) < rate
        said = np.where(truth, draw.random(n) < se, draw.random(n) >= sp)
        told = cohens_kappa(list(truth), list(said), [str(row) for row in range(n)])
        held += told is None or told.low <= true <= told.high
    # Three standard errors of a coverage of 95 % over so many runs are 4.1 points.
    assert held / runs > 0.95 - 0.041


@pytest.mark.parametrize("words", [[], [True] * 5, [False] * 5])
def test_where_nobody_ever_differs_there_is_no_agreement_beyond_chance(words: list[bool]) -> None:
    assert cohens_kappa(words, words, ["q"] * len(words)) is None
    ratings = [[float(word) for word in words]] * 2
    assert krippendorffs_alpha(ratings, "nominal", ["q"] * len(words)) is None


def test_what_only_one_rated_is_no_agreement() -> None:
    assert krippendorffs_alpha([[1.0, None], [None, 2.0]], "interval", ["a", "b"]) is None
    assert krippendorffs_alpha([], "interval", []) is None
