"""Correction for a judge's errors: what a perfect judge leaves alone, and how often the intervals hold the truth."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from guards.judges.correction import (
    Confusion,
    prediction_powered_rate,
    prediction_powered_rise,
    rogan_gladen_rate,
    rogan_gladen_rise,
)

PERFECT = Confusion(200, 0, 200, 0)
RUNS = 600


def test_a_perfect_judges_numbers_are_left_as_they_are() -> None:
    differences = [1.0] * 12 + [-1.0] * 3 + [0.0] * 85
    for told in (
        rogan_gladen_rise(differences, differences, PERFECT),
        prediction_powered_rise(differences, differences, PERFECT, PERFECT),
    ):
        assert told is not None
        assert told.value == pytest.approx(0.09)
        assert -0.02 < told.low < 0.09 < told.high < 0.2
        assert told.n == 100
    for rate in (rogan_gladen_rate(12, 100, PERFECT), prediction_powered_rate(12, 100, PERFECT)):
        assert rate is not None
        assert rate.value == pytest.approx(0.12)
        assert 0.05 < rate.low < 0.12 < rate.high < 0.21


def test_the_interval_of_a_rate_is_that_of_its_equations_worked_one_by_one() -> None:
    told = rogan_gladen_rate(90, 200, Confusion(90, 10, 90, 10))
    assert told is not None
    assert told.value == pytest.approx((0.45 - 0.1) / 0.8)
    # Lang and Reiczigel's primes: Se' = Sp' = 91/102, AP' = 91.92073/203.84146, P' = 0.343100/0.784314 = 0.437452;
    # equation 17: dP = 7.68292 (0.437452 - 0.562548) 0.000943259 = -0.000907;
    # equation 4: variance = (0.00121463 + 0.507824 0.000943259) / 0.615148 = 0.00275323, and 1.96 of its root 0.102842.
    assert (told.low, told.high) == (pytest.approx(0.33370, abs=1e-5), pytest.approx(0.53939, abs=1e-5))


@pytest.mark.parametrize(
    "known",
    [Confusion(), Confusion(5, 5, 5, 5), Confusion(2, 1, 2, 1), Confusion(50, 0, 0, 0), Confusion(0, 20, 0, 20)],
)
def test_a_judge_that_cannot_be_told_from_guessing_corrects_nothing(known: Confusion) -> None:
    assert rogan_gladen_rise([0.0] * 50, [0.0] * 50, known) is None
    assert rogan_gladen_rate(5, 50, known) is None


def test_nothing_judged_or_labelled_gives_nothing() -> None:
    assert rogan_gladen_rate(0, 0, PERFECT) is None
    assert rogan_gladen_rise([], [], PERFECT) is None
    assert prediction_powered_rate(0, 0, PERFECT) is None
    assert prediction_powered_rate(1, 5, Confusion()) is None
    assert prediction_powered_rise([], [], PERFECT, PERFECT) is None
    assert prediction_powered_rise([1.0], [1.0], PERFECT, Confusion()) is None


@given(
    st.lists(st.floats(-1, 1), min_size=1, max_size=60),
    st.tuples(*[st.integers(0, 60)] * 4),
    st.tuples(*[st.integers(0, 60)] * 4),
)
def test_every_interval_holds_its_value_and_stays_in_range(
    values: list[float], one: tuple[int, ...], other: tuple[int, ...]
) -> None:
    for told in (
        rogan_gladen_rise(values, values, Confusion(*one)),
        prediction_powered_rise(values, values, Confusion(*one), Confusion(*other)),
    ):
        if told is not None:
            assert -1 <= told.low <= told.value <= told.high <= 1


@given(st.lists(st.floats(0, 1), min_size=5, max_size=60))
def test_turning_the_signs_turns_the_interval(values: list[float]) -> None:
    known = Confusion(80, 10, 90, 20)
    told = rogan_gladen_rise(values, values, known)
    turned = rogan_gladen_rise([-x for x in values], [-x for x in values], known)
    assert told is not None
    assert turned is not None
    assert (told.low, told.high) == (pytest.approx(-turned.high), pytest.approx(-turned.low))


def test_what_is_not_known_widens_both_ends() -> None:
    known = rogan_gladen_rise([0.0] * 100, [0.0] * 100, PERFECT)
    unknown = rogan_gladen_rise([0.0] * 100, [0.0] * 90 + [1.0] * 10, PERFECT)
    assert known is not None
    assert unknown is not None
    assert unknown.high > known.high + 0.08
    assert unknown.low <= known.low + 1e-9


def confusion(said: NDArray[np.bool_], truth: NDArray[np.bool_]) -> Confusion:
    return Confusion(
        int((said & truth).sum()), int((said & ~truth).sum()), int((~said & ~truth).sum()), int((~said & truth).sum())
    )


def judge(truth: NDArray[np.bool_], se: float, sp: float, draw: np.random.Generator) -> NDArray[np.bool_]:
    luck = draw.random(truth.shape)
    return np.where(truth, luck < se, luck >= sp)


@pytest.mark.parametrize(
    ("base_rate", "rate", "se", "sp", "n", "labels"),
    [
        (0.0, 0.0, 0.9, 0.98, 120, 100),
        (0.05, 0.15, 0.8, 0.9, 120, 100),
        (0.3, 0.7, 0.7, 0.8, 60, 60),
        (0.02, 0.5, 0.95, 0.99, 40, 200),
    ],
)
def test_the_intervals_hold_the_true_rise_as_often_as_they_say(
    base_rate: float, rate: float, se: float, sp: float, n: int, labels: int
) -> None:
    draw = np.random.default_rng(7)
    base, adapter = draw.random((RUNS, n)) < base_rate, draw.random((RUNS, n)) < rate
    differences = judge(adapter, se, sp, draw).astype(float) - judge(base, se, sp, draw)
    half = np.arange(2 * labels) < labels
    of_base, of_adapter = (draw.random((RUNS, 2 * labels)) < p for p in (base_rate, rate))
    balanced, said_b, said_a = (
        judge(truth, se, sp, draw) for truth in (np.broadcast_to(half, (RUNS, 2 * labels)), of_base, of_adapter)
    )
    held = {"rogan_gladen": 0, "prediction_powered": 0}
    for run in range(RUNS):
        row = list(differences[run])
        rogan = rogan_gladen_rise(row, row, confusion(balanced[run], half))
        known = [confusion(said_a[run], of_adapter[run]), confusion(said_b[run], of_base[run])]
        powered = prediction_powered_rise(row, row, *known)
        assert rogan is not None
        assert powered is not None
        held["rogan_gladen"] += rogan.low <= rate - base_rate <= rogan.high
        held["prediction_powered"] += powered.low <= rate - base_rate <= powered.high
    # Three standard errors of a coverage of 95 % over so many runs are 2.7 points.
    assert min(held.values()) / RUNS > 0.95 - 0.027, held


@pytest.mark.parametrize(("rate", "se", "sp"), [(0.03, 0.9, 0.95), (0.2, 0.8, 0.9), (0.6, 0.75, 0.85)])
def test_the_intervals_hold_the_true_rate_as_often_as_they_say(rate: float, se: float, sp: float) -> None:
    draw = np.random.default_rng(11)
    n, labels = 100, 100
    said = judge(draw.random((RUNS, n)) < rate, se, sp, draw).sum(axis=1)
    half = np.arange(2 * labels) < labels
    truth = draw.random((RUNS, 2 * labels)) < rate
    balanced, alike = judge(np.broadcast_to(half, truth.shape), se, sp, draw), judge(truth, se, sp, draw)
    held = [0, 0]
    for run in range(RUNS):
        known = confusion(balanced[run], half), confusion(alike[run], truth[run])
        for index, told in enumerate(
            (rogan_gladen_rate(said[run], n, known[0]), prediction_powered_rate(said[run], n, known[1]))
        ):
            assert told is not None
            held[index] += told.low <= rate <= told.high
    assert min(held) / RUNS > 0.95 - 0.027, held


def test_the_correction_removes_the_bias_that_it_is_for() -> None:
    draw = np.random.default_rng(3)
    truth = draw.random(200_000) < 0.3
    said = judge(truth, 0.7, 0.9, draw)
    told = rogan_gladen_rate(said.sum(), len(said), Confusion(7000, 1000, 9000, 3000))
    assert told is not None
    assert abs(said.mean() - 0.3) > 0.01
    assert told.value == pytest.approx(0.3, abs=0.01)
