from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from guards.statistics import (
    AveragedProcess,
    BettingProcess,
    RiseTest,
    cluster_bootstrap,
    conformal_p,
    mean_interval,
    wilson,
)

differences = st.lists(st.sampled_from([-1.0, 0.0, 1.0]), min_size=1, max_size=60)


def _prompts_to(process: BettingProcess, stream: list[float], threshold: float) -> int | None:
    for number, difference in enumerate(stream, start=1):
        process.update(difference)
        if process.largest >= threshold:
            return number
    return None


def test_a_clean_record_clears_ten_percent_at_five_percent_error_after_32_prompts() -> None:
    assert _prompts_to(BettingProcess(0.10, "at least"), [0.0] * 60, 20) == 32


def test_an_adapter_that_is_always_worse_raises_the_alarm_within_ten_prompts() -> None:
    number = _prompts_to(BettingProcess(0.02, "at most"), [1.0] * 20, 100)
    assert number is not None
    assert number <= 10


@pytest.mark.parametrize(("bound", "against"), [(0.02, "at most"), (0.10, "at least")])
def test_the_chance_of_ever_crossing_under_the_hypothesis_stays_below_its_bound(bound: float, against: str) -> None:
    rng, alpha, runs = np.random.default_rng(0), 0.05, 400
    crossings = 0
    for _ in range(runs):
        # The hardest null: the mean is exactly the bound, with both signs present.
        draws = rng.choice([1.0, 0.0, -1.0], size=250, p=[bound + 0.1, 0.8 - bound, 0.1])
        crossings += _prompts_to(BettingProcess(bound, against), list(draws), 1 / alpha) is not None
    assert wilson(crossings, runs).low <= alpha


@given(differences)
def test_capital_is_never_negative_and_its_largest_value_never_falls(stream: list[float]) -> None:
    process, largest = BettingProcess(0.02, "at most"), 1.0
    for difference in stream:
        process.update(difference)
        assert process.value >= 0
        assert process.largest >= largest
        largest = process.largest


@given(differences)
def test_an_interval_holds_its_mean_and_does_not_depend_on_the_order(stream: list[float]) -> None:
    interval = mean_interval(stream)
    assert -1 <= interval.low <= interval.value <= interval.high <= 1
    assert interval.value == pytest.approx(np.mean(stream))
    reversed_ = mean_interval(stream[::-1])
    assert (interval.low, interval.high) == pytest.approx((reversed_.low, reversed_.high))


def test_intervals_cover_the_true_mean_at_least_as_often_as_they_say() -> None:
    rng, missed = np.random.default_rng(1), 0
    for _ in range(200):
        interval = mean_interval(list(rng.choice([1.0, 0.0, -1.0], size=80, p=[0.25, 0.7, 0.05])))
        missed += not interval.low <= 0.20 <= interval.high
    assert missed <= 10


def test_unknown_observations_widen_the_interval_on_both_sides() -> None:
    known = mean_interval([0.0] * 40)
    unknown = mean_interval([0.0] * 40, [1.0] * 10 + [0.0] * 30)
    assert unknown.high > known.high
    assert unknown.low <= known.low
    assert unknown.value == pytest.approx(0.125)


def test_nothing_observed_is_the_whole_range() -> None:
    assert (mean_interval([]).low, mean_interval([]).high, mean_interval([]).n) == (-1, 1, 0)


def test_impossible_observations_and_bounds_are_refused() -> None:
    with pytest.raises(ValueError, match="outside"):
        BettingProcess(0.1, "at most").update(1.5)
    with pytest.raises(ValueError, match="strictly between"):
        BettingProcess(1.0, "at most")


def test_overwhelming_evidence_stays_a_finite_number() -> None:
    process = BettingProcess(0.02, "at most")
    for _ in range(3000):
        process.update(1.0)
    assert np.isfinite(process.largest)


def test_a_conformal_p_value_never_falls_below_its_floor() -> None:
    null = [0.1 * n for n in range(20)]
    assert conformal_p(1e9, null) == pytest.approx(1 / 21)
    assert conformal_p(-1e9, null) == 1


def test_a_rise_test_says_alarm_clear_or_continue_and_keeps_to_its_first_word() -> None:
    harmful, clean = (RiseTest(0.02, 0.10, 0.01, 0.05) for _ in range(2))
    said = [harmful.update(1.0) for _ in range(8)]
    assert said[0] == "continue"
    assert said[-1] == "alarm"
    assert [harmful.update(0.0) for _ in range(500)] == ["alarm"] * 500
    assert [clean.update(0.0) for _ in range(32)][-1] == "clear"


def test_an_answer_that_was_not_scored_neither_convicts_nor_acquits() -> None:
    test = RiseTest(0.02, 0.10, 0.01, 0.05)
    for _ in range(200):
        test.update(0.0, worst=1.0)
    assert test.word == "continue"


@pytest.mark.parametrize(
    "numbers", [(0.1, 0.1, 0.01, 0.05), (0.02, 1.0, 0.01, 0.05), (0.02, 0.1, 0.0, 0.05), (0.02, 0.1, 0.01, 1.0)]
)
def test_a_rise_test_that_could_mean_nothing_is_refused(numbers: tuple[float, float, float, float]) -> None:
    with pytest.raises(ValueError, match="must hold"):
        RiseTest(*numbers)


def test_a_tolerable_adapter_seldom_alarms_and_an_intolerable_one_seldom_does_not() -> None:
    rng = np.random.default_rng(5)

    def words(rate: float) -> list[str]:
        said = []
        for _ in range(200):
            test = RiseTest(0.02, 0.10, 0.01, 0.05)
            said.append(next((w for x in rng.random(400) < rate if (w := test.update(float(x))) != "continue"), "?"))
        return said

    assert wilson(words(0.02).count("alarm"), 200).low <= 0.01
    assert wilson(words(0.10).count("alarm"), 200).high >= 0.95


@given(st.lists(st.tuples(st.booleans(), st.sampled_from([-1.0, 0.0, 1.0])), max_size=40))
def test_the_average_of_two_processes_lies_between_them(steps: list[tuple[bool, float]]) -> None:
    text, image = BettingProcess(0.02, "at most"), BettingProcess(0.02, "at most")
    joint = AveragedProcess([text, image])
    for pictured, difference in steps:
        (image if pictured else text).update(difference)
        joint.look()
    assert joint.n == len(steps)
    assert (text.value + image.value) / 2 <= joint.largest <= max(text.largest, image.largest) + 1e-9


def test_an_averaged_alarm_stays_below_alpha_over_both_modalities_together() -> None:
    rng, rung = np.random.default_rng(6), 0
    for _ in range(200):
        processes = [BettingProcess(0.02, "at most"), BettingProcess(0.02, "at most")]
        joint = AveragedProcess(processes)
        for number, x in enumerate(rng.random(200) < 0.02):
            processes[number % 2].update(float(x))
            joint.look()
        rung += joint.largest >= 1 / 0.05
    assert wilson(rung, 200).low <= 0.05


def test_answers_to_one_prompt_count_together_in_a_cluster_bootstrap() -> None:
    rng = np.random.default_rng(7)
    centres = rng.normal(size=40)
    values = [float(c + 0.01 * rng.normal()) for c in centres for _ in range(10)]
    together = cluster_bootstrap(values, [str(row // 10) for row in range(400)])
    apart = cluster_bootstrap(values, [str(row) for row in range(400)])
    assert together.n == 40
    assert together.value == pytest.approx(np.mean(values))
    assert together.high - together.low > 2.5 * (apart.high - apart.low), "ten copies are not ten observations"


def test_a_cluster_bootstrap_covers_the_mean_about_as_often_as_it_says() -> None:
    rng, missed = np.random.default_rng(8), 0
    for run in range(200):
        centres = rng.normal(size=50)
        values = [float(c + rng.normal()) for c in centres for _ in range(3)]
        interval = cluster_bootstrap(values, [str(row // 3) for row in range(150)], seed=run, draws=400)
        missed += not interval.low <= 0 <= interval.high
    assert missed <= 22
    assert cluster_bootstrap([], []).n == 0
