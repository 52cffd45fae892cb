from __future__ import annotations

import itertools
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapters.adapter import Adapter
from guards.drift import (
    STEPS_TO_ALARM,
    Chain,
    DriftGuard,
    adapters_needed,
    evidence,
    known_good_scores,
    step_score,
)
from guards.reference_facts import BOTH, Facts, Figures, Term
from guards.screening import Components, components_of
from policies.findings import Finding, Inconclusive

ALPHA = 0.05
ADAPTER = Adapter(Path("/a"), "sha256-a", "a")
NULL = [float(rank) for rank in range(60)]
"""Sixty known-good adapters; a step of 53.5 is at the ninth place from above, p = 7/61 = 0.115."""


@pytest.mark.parametrize("known", [20, 60])
def test_a_benign_lineage_ever_alarms_no_more_often_than_alpha(known: int) -> None:
    draw, lineages, steps = np.random.default_rng(known), 2000, 30
    alarms = 0
    for _ in range(lineages):
        scores = draw.normal(size=known + steps).tolist()
        alarms += evidence(scores[known:], scores[:known]).e_value >= 1 / ALPHA
    assert alarms / lineages <= ALPHA + 3 * math.sqrt(ALPHA * (1 - ALPHA) / lineages)
    assert alarms > 0, "a test that never rings has no power either"


@pytest.mark.parametrize("scores", [range(7), (0, 0, 1, 1, 1, 2, 2), (0,) * 7])
def test_over_all_orders_no_threshold_is_reached_oftener_than_villes_bound(scores: tuple[int, ...]) -> None:
    found = np.array([evidence(order[3:], order[:3]).e_value for order in itertools.permutations(scores)])
    assert all((found >= level - 1e-9).mean() <= 1 / level + 1e-9 for level in np.unique(found))


def test_scores_that_all_tie_are_no_evidence() -> None:
    assert evidence([0.0] * 30, [0.0] * 20).e_value == 1


def test_steps_that_each_pass_alone_add_up_to_an_alarm() -> None:
    found = evidence([53.5] * 12, NULL)
    assert min(found.step_p) > ALPHA, "no step would be stopped by itself"
    assert found.e_value >= 1 / ALPHA


@pytest.mark.parametrize("seed", range(5))
def test_a_turn_after_twenty_benign_steps_is_caught(seed: int) -> None:
    benign = np.random.default_rng(seed).uniform(-1, 60, size=20).tolist()
    assert evidence(benign, NULL).e_value < 1 / ALPHA
    assert evidence([*benign, *[53.5] * 16], NULL).e_value >= 1 / ALPHA


def test_what_has_turned_is_not_undone_by_benign_steps() -> None:
    turned = [57.5] * 8
    assert evidence([*turned, *[10.0] * 30], NULL).e_value == evidence(turned, NULL).e_value


def test_a_lineage_that_strides_twice_as_far_to_either_side_is_no_turn() -> None:
    draw, alarms = np.random.default_rng(0), 0
    for _ in range(1000):
        null, steps = draw.normal(size=60).tolist(), draw.normal(scale=2, size=30).tolist()
        alarms += evidence(steps, null).e_value >= 1 / ALPHA
    assert alarms / 1000 <= ALPHA


@given(st.permutations(NULL[:12]), st.lists(st.floats(-5, 20), max_size=6))
def test_the_order_of_the_known_good_adapters_decides_nothing(null: list[float], steps: list[float]) -> None:
    assert evidence(steps, null) == evidence(steps, NULL[:12])


def test_one_huge_step_counts_no_more_than_any_step_above_all_known_good_ones() -> None:
    benign = [20.0, 40.0, 10.0]
    assert evidence([*benign, 1e9], NULL).e_value == evidence([*benign, 60.0], NULL).e_value
    before, after = evidence(benign, NULL), evidence([1e9], NULL)
    assert evidence([*benign, 1e9], NULL).e_value <= 2 * before.e_value
    assert after.e_value < 2


@given(st.lists(st.floats(-5, 70), max_size=10), st.floats(-5, 70), st.floats(0, 50))
def test_a_worse_last_step_is_never_weaker_evidence(steps: list[float], last: float, more: float) -> None:
    assert evidence([*steps, last + more], NULL).e_value >= evidence([*steps, last], NULL).e_value * (1 - 1e-9)


@pytest.mark.parametrize("alpha", [0.05, 0.01, 0.001])
def test_the_adapters_that_are_needed_are_the_fewest_that_suffice(alpha: float) -> None:
    fewest = adapters_needed(alpha)
    reached = [evidence([1.0] * STEPS_TO_ALARM, [0.0] * n).e_value for n in (fewest - 1, fewest)]
    assert reached[0] < 1 / alpha <= reached[1]


def test_the_page_tells_how_many_adapters_are_needed() -> None:
    page = (Path(__file__).parents[2] / "docs" / "guards" / "drift.md").read_text()
    told = [adapters_needed(alpha) for alpha in (0.05, 0.01, 0.001)]
    assert "({} at α = 0.05, {} at 0.01, {} at 0.001)".format(*told) in page


def shifted(amount: float, tail: float = 0.0) -> Components:
    """Moved alike in both modalities and on every linear screen."""
    modalities = ("text", "image")
    return Components(
        {m: {"cruel": amount, "careless": amount / 2} for m in modalities},
        dict.fromkeys(modalities, amount),
        dict.fromkeys(modalities, amount),
        dict.fromkeys(modalities, tail),
    )


def facts(known: int = 60, screens: tuple[str, ...] = ("contrast", "shift", "probe", "tail")) -> Facts:
    """A Reference whose known-good adapters moved by 0 to 1 on every screen, in equal parts."""
    sides = dict.fromkeys(("text", "image"), 0.0), dict.fromkeys(("text", "image"), 0.1)
    scores = {f"good-{n}": n / max(1, known - 1) for n in range(known)}
    figures = Figures(known_good=scores, known_bad={})
    return Facts(
        base_digest="sha256-b",
        layers=2,
        screen_layer=1,
        modalities=("text", "image"),
        categories=("cruel", "careless"),
        contrast_source="file",
        population=(),
        screens={
            **{screen: dict.fromkeys(("text", "image"), figures) for screen in screens},  # type: ignore[dict-item]
            "combined": {BOTH: figures},
        },
        combination=tuple(Term(screen=screen, weight=1, centre=sides[0], spread=sides[1]) for screen in screens),  # type: ignore[arg-type]
        errors=(),
    )


def looked(chain: Chain | None, **options: int) -> dict[str, Finding]:
    results = DriftGuard(facts(**options), "2-ref", lambda *_: chain, ALPHA).examine(ADAPTER)
    return {result.measure: result for result in results if isinstance(result, Finding)}


def test_the_null_is_scored_as_the_steps_are() -> None:
    null = known_good_scores(facts(11))
    assert null == [step_score(shifted(n / 10), facts(11)) for n in range(11)]


def test_the_tail_which_is_no_difference_counts_for_nothing() -> None:
    assert step_score(shifted(0.5, tail=100.0), facts()) == step_score(shifted(0.5), facts())


def test_a_roots_own_shift_is_its_first_step() -> None:
    found = looked(Chain((shifted(2.0),), from_base=True))
    assert (found["drift_steps"].value, found["drift_e_value"].n) == (1, 1)
    assert found["drift_step_p_value"].value == pytest.approx(1 / 61)
    assert found["drift_step_p_value"].n == 60


def test_only_what_was_added_to_the_parent_counts_as_a_step() -> None:
    members = tuple(shifted(10 + 0.5 * n) for n in range(4))
    found = looked(Chain(members, from_base=False, guessed=1))
    assert (found["drift_steps"].value, found["drift_steps"].n) == (3, 4)
    assert found["drift_step_p_value"].value == pytest.approx(0.5, abs=0.02)
    assert found["drift_e_value"].value < 2
    assert "guessed" in found["drift_e_value"].note


def test_a_lineage_that_turns_slowly_is_told_from_one_that_wanders() -> None:
    turning = Chain(tuple(shifted(0.93 * n) for n in range(1, 13)), from_base=True)
    wandering = Chain(tuple(shifted(0.93 * (n % 2)) for n in range(1, 13)), from_base=True)
    assert looked(turning)["drift_step_p_value"].value > ALPHA
    assert looked(turning)["drift_e_value"].value >= 1 / ALPHA
    assert looked(wandering)["drift_e_value"].value < 1 / ALPHA


def test_a_chain_without_a_step_shows_nothing_and_claims_no_p_value() -> None:
    found = looked(Chain((shifted(2.0),), from_base=False))
    assert (found["drift_e_value"].value, found["drift_e_value"].n) == (1, 0)
    assert "drift_step_p_value" not in found


def test_how_many_known_good_adapters_there_should_be_is_told() -> None:
    found = looked(Chain((shifted(0.0),), from_base=True), known=1)
    assert found["drift_adapters_needed"].value == adapters_needed(ALPHA) > found["drift_adapters_needed"].n == 1


@pytest.mark.parametrize(
    ("chain", "screens", "cause"),
    [
        (None, ("shift",), "own shift was not measured"),
        (Chain((shifted(1.0),), from_base=True), ("tail",), "no screen whose steps add up"),
        (Chain((Components(),), from_base=True), ("shift",), "a step has no score"),
        (Chain((shifted(math.inf),), from_base=True), ("shift",), "a step has no score"),
    ],
)
def test_inability_to_look_is_said(chain: Chain | None, screens: tuple[str, ...], cause: str) -> None:
    (result,) = DriftGuard(facts(screens=screens), "2-ref", lambda *_: chain, ALPHA).examine(ADAPTER)
    assert isinstance(result, Inconclusive)
    assert cause in result.reason


def test_the_guards_version_follows_the_screens() -> None:
    versions = {DriftGuard(facts(), version, lambda *_: None, ALPHA).version for version in ("2-a", "2-b")}
    assert len(versions) == 2


def found(measure: str, value: float, **labels: str) -> Finding:
    return Finding(guard="subspace", version="2", measure=measure, value=value, n=10, labels=labels)


def test_components_come_back_from_their_findings_and_triggered_ones_do_not() -> None:
    kept = shifted(1.5, tail=2.0)
    results = [
        found("contrast_shift", value, modality=modality, category=category)
        for modality, row in kept.contrast.items()
        for category, value in row.items()
    ]
    for measure, values in (("harm_shift", kept.shift), ("probe_log_odds", kept.probe), ("probe_tail", kept.tail)):
        results += [found(measure, value, modality=modality) for modality, value in values.items()]
        results.append(found(measure, 99.0, modality="text", trigger="x"))
    assert components_of([found("screen_score", 3.0), *results]) == kept
    assert components_of([found("screen_score", 3.0)]) is None
