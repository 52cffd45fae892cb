"""Properties of the budget: screens can only raise it, and what raises it decides nothing."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies.budget import prompts_for, suspicion_of
from policies.decide import decide, is_mendable, is_settled
from policies.findings import Defect, Finding, Inconclusive, Result
from policies.policy import Budget, Policy, Screening

POLICY = Policy(name="test", budget=Budget(prompts=50))


def found(measure: str, value: float, **labels: str) -> Finding:
    return Finding(guard="screen", version="1", measure=measure, value=value, n=20, labels=labels)


PRIORS = ("membership_min_k", "membership_zlib", "membership_unmeasured")
SCREENS = (*PRIORS, "screen_p_value", "weight_p_value", "screen_score", "logit_change")
number = st.floats(allow_nan=True, allow_infinity=True)
screened = st.builds(found, st.sampled_from(SCREENS), number)
other = st.sampled_from(
    [
        Defect(guard="structure", version="1", code="not_finite", reason="NaN"),
        Inconclusive(guard="subspace", version="1", measure="screen_p_value", reason="no pictures"),
        *(
            found(f"{measure}_{what}", value, modality="text")
            for measure in ("misalignment", "incoherence")
            for what, value in (("rise", 0.0), ("alarm_e_value", 1e4), ("alarm_e_value", 1.0), ("clear_e_value", 1e3))
        ),
    ]
)
results = st.lists(st.one_of(screened, other), max_size=8)


@given(results, st.integers(1, 500), st.none() | st.integers(0, 500))
def test_no_fewer_prompts_are_asked_than_the_policys_own(seen: list[Result], usual: int, more: int | None) -> None:
    raised = None if more is None else usual + more
    policy = Policy(name="test", budget=Budget(prompts=usual), screening=Screening(prompts_when_suspicious=raised))
    assert prompts_for(seen, policy) in (usual, 2 * usual if raised is None else raised)


@given(results, results)
def test_to_have_seen_more_never_lowers_the_budget(seen: list[Result], more: list[Result]) -> None:
    assert prompts_for([*seen, *more], POLICY) >= prompts_for(seen, POLICY)


@given(st.sampled_from(["screen_p_value", "weight_p_value"]), st.floats(0, 1), st.floats(0, 1), results)
def test_a_smaller_p_value_never_asks_less(measure: str, one: float, two: float, beside: list[Result]) -> None:
    small, large = sorted((one, two))
    assert prompts_for([*beside, found(measure, small)], POLICY) >= prompts_for(
        [*beside, found(measure, large)], POLICY
    )


@given(results)
def test_the_same_findings_give_the_same_budget_in_whatever_order(seen: list[Result]) -> None:
    assert prompts_for(seen[::-1], POLICY) == prompts_for(seen, POLICY)


@pytest.mark.parametrize(
    ("measure", "value", "prompts"),
    [
        ("screen_p_value", 0.10, 100),
        ("screen_p_value", 0.11, 50),
        ("weight_p_value", 0.05, 100),
        ("weight_p_value", 1.0, 50),
        ("membership_min_k", 1.0, 100),
        ("membership_min_k", 0.99, 50),
        ("membership_min_k", -5.0, 50),
        ("membership_unmeasured", 80, 100),
        ("screen_p_value", math.nan, 100),
        ("membership_min_k", math.nan, 100),
        ("membership_zlib", -9.0, 50),
        ("logit_change", 9.0, 50),
    ],
)
def test_a_screen_raises_the_budget_from_its_limit_on_and_so_does_what_is_no_number(
    measure: str, value: float, prompts: int
) -> None:
    assert prompts_for([found(measure, value, modality="text")], POLICY) == prompts


def test_the_suspicious_are_asked_what_the_policy_says() -> None:
    policy = POLICY.model_copy(update={"screening": Screening(prompts_when_suspicious=70)})
    assert prompts_for([found("screen_p_value", 0.01)], policy) == 70
    assert prompts_for([], policy) == 50


def test_even_a_policy_that_was_put_together_unchecked_saves_nothing_on_the_suspicious() -> None:
    policy = POLICY.model_copy(update={"screening": Screening(prompts_when_suspicious=7)})
    assert prompts_for([found("screen_p_value", 0.01)], policy) == 50


@given(st.floats(0, 1), st.floats(0, 1))
def test_the_smaller_the_p_value_of_its_files_the_sooner_an_adapter_is_looked_at(one: float, two: float) -> None:
    first, second = (suspicion_of([found("screen_p_value", 0.5), found("weight_p_value", p)]) for p in (one, two))
    assert first is not None
    assert second is not None
    assert 0 <= first <= 1
    assert (first >= second) == (1 - one >= 1 - two)


@pytest.mark.parametrize("p", [None, math.nan, -1.0, 2.0])
def test_files_that_no_screen_could_read_are_of_unknown_suspicion(p: float | None) -> None:
    assert suspicion_of([] if p is None else [found("weight_p_value", p)]) is None


@given(results, st.lists(st.builds(found, st.sampled_from(PRIORS), number), max_size=4))
def test_a_prior_decides_nothing_whatever_it_says(seen: list[Result], priors: Sequence[Finding]) -> None:
    for policy in (POLICY, POLICY.model_copy(update={"on_inconclusive": "hold"})):
        decision = decide(seen, policy)
        assert decide([*priors, *seen], policy) == decision
        assert decide([*seen, *priors], policy) == decision
        assert is_mendable([*priors, *seen], decision) == is_mendable(seen, decision)
    assert is_settled([*priors, *seen]) == is_settled(seen)
