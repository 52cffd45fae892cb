"""The next remedy starts from the best adapter so far: harm first, skill second, cost third."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import assume, given
from hypothesis import strategies as some

from policies.findings import Defect, Finding, Result
from policies.merit import ranking
from policies.policy import Policy
from policies.retested import RETEST
from policies.skill import KEPT

POLICY = Policy.model_validate({"name": "test", "retest": {"skill": {"suites": ["own-task"]}}})
Attempt = list[Result]
ends = some.floats(-1, 1).map(lambda end: round(end, 2))


def battery(text: float | None, image: float | None, variant: str = "", **measured: float) -> Attempt:
    """A battery with these upper ends, or the re-test's under a variant; None where a modality was not asked."""
    guard, under = (RETEST, {"variant": variant}) if variant else ("battery", {})
    found = [
        Finding(guard=guard, version="1", measure="misalignment_rise", value=-1, high=high, n=9, labels={**under, **of})
        for high, of in ((text, {"modality": "text"}), (image, {"modality": "image"}))
        if high is not None
    ]
    labels = {**under, "modality": "text"}
    told = [
        Finding(guard=guard, version="1", measure=measure, value=value, n=9, labels=of)
        for measure, value in measured.items()
        for of in ((under, labels) if measure.endswith("alarm_e_value") else (labels,))
    ]
    return [*found, *told]


def cleared(text: float, image: float) -> Attempt:
    """A battery that clears, with these upper ends."""
    e_values = [
        Finding(guard="battery", version="1", measure=f"{quality}_{what}", value=value, n=9, labels=labels)
        for quality in ("misalignment", "incoherence")
        for modality in ("text", "image")
        for what, value, labels in (
            ("clear_e_value", 1e3, {"modality": modality}),
            ("alarm_e_value", 1.0, {"modality": modality}),
            ("alarm_e_value", 1.0, {}),
        )
    ]
    return [*battery(text, image, incoherence_rise=0.0), *e_values]


def skill(low: float, high: float = 1) -> Attempt:
    return [
        Finding(
            guard="skill", version="1", measure=KEPT, value=1, low=low, high=high, n=40, labels={"modality": "text"}
        )
    ]


@given(first=some.tuples(ends, ends), second=some.tuples(ends, ends))
def test_what_is_no_worse_anywhere_and_better_somewhere_is_better_whatever_the_order(
    first: tuple[float, float], second: tuple[float, float]
) -> None:
    better = tuple(min(pair) for pair in zip(first, second, strict=True))
    assume(better != second)
    assert ranking([battery(*second), battery(*better)], POLICY) == [1, 0]
    assert ranking([battery(*better), battery(*second)], POLICY) == [0, 1]


@given(attempts=some.lists(some.tuples(ends, ends), min_size=1, max_size=5), worse=some.tuples(ends, ends))
def test_the_best_has_the_least_upper_end_of_its_worst_modality_and_a_worse_attempt_more_changes_nothing(
    attempts: list[tuple[float, float]], worse: tuple[float, float]
) -> None:
    found = [battery(*attempt) for attempt in attempts]
    best = ranking(found, POLICY)[0]
    assert max(attempts[best]) == min(max(attempt) for attempt in attempts)
    assume(max(worse) > max(attempts[best]))
    assert ranking([*found, battery(*worse)], POLICY)[0] == best


@given(attempt=some.tuples(ends, ends), times=some.integers(1, 5))
def test_a_remedy_that_changes_nothing_is_not_built_upon(attempt: tuple[float, float], times: int) -> None:
    assert ranking([battery(*attempt)] * times, POLICY) == list(range(times))


@given(some.permutations(range(4)))
def test_the_order_of_the_attempts_decides_only_between_equals(order: Sequence[int]) -> None:
    attempts = [battery(0.1, 0.2), battery(0.2, 0.3), battery(0.3, 0.3), battery(0.9, 0.1)]
    told = ranking([attempts[number] for number in order], POLICY)
    assert [order[place] for place in told] == [0, 1, 2, 3]


def test_skill_decides_between_equally_harmful_ones_and_never_against_less_harm() -> None:
    same = battery(0.05, 0.05)
    assert ranking([[*same, *skill(0.5)], [*same, *skill(0.9)]], POLICY) == [1, 0]
    assert ranking([[*battery(0.06, 0.05), *skill(0.9)], [*same, *skill(0.0)]], POLICY) == [1, 0]
    assert ranking([[*same, *skill(0.0)], same], POLICY) == [0, 1], "not measured is no skill shown"


def test_what_got_as_far_as_a_cue_and_failed_there_is_better_than_what_never_got_there() -> None:
    failed_at_json = [*cleared(0.06, 0.06), *battery(0.06, 0.06, "standard"), *battery(0.5, 0.9, "cue:json")]
    assert ranking([battery(0.4, 0.4), failed_at_json], POLICY) == [1, 0]
    failed_before = [*cleared(0.06, 0.06), *battery(0.1, 0.3, "standard")]
    assert ranking([failed_before, failed_at_json], POLICY) == [1, 0]
    idle = [*battery(0.4, 0.4), *battery(0.3, 0.3, "standard")]
    assert ranking([battery(0.4, 0.4), idle], POLICY) == [0, 1], "to be asked more is no merit where the battery failed"
    assert ranking([battery(None, 0.1), battery(0.4, 0.4)], POLICY) == [1, 0], (
        "a modality that was not asked is no merit"
    )


@pytest.mark.parametrize(
    "broken",
    [
        battery(0.0, 0.0, incoherence_rise=0.9, incoherence_alarm_e_value=1e6),
        battery(0.0, 0.0, over_refusal_rise=0.9, over_refusal_alarm_e_value=1e6),
        [*battery(0.0, 0.0), *battery(0.0, 0.0, "cue:json", incoherence_rise=0.9, incoherence_alarm_e_value=1e6)],
        [*cleared(0.0, 0.0), *skill(0.1, 0.5)],
        [*battery(0.0, 0.0), Defect(guard="activity", version="1", code="no_op", reason="it does nothing")],
    ],
    ids=["rambles", "refuses", "rambles under a cue", "lost its skill", "defect"],
)
def test_what_rambles_refuses_forgot_its_task_or_is_broken_is_no_start_however_little_harm_it_shows(
    broken: Attempt,
) -> None:
    assert ranking([broken, battery(1.0, 1.0)], POLICY) == [1, 0]
