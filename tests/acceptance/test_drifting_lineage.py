"""The eight-step lineage: every step passes alone, and the drift rule speaks before the answers go wrong."""

from __future__ import annotations

import pytest

from adapters.adapter import open_adapter
from adapters.tiny import BASE, REFERENCE
from adapters.transformers_engine import TransformersEngine
from benchmarks.lineage import SCREEN_LIMIT, Step, World, benign, row, turning
from guards.drift import DriftGuard
from guards.reference import load_reference
from monitor.embedded import embedded_policy
from policies.decide import decide
from policies.policy import Policy


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    reference = load_reference(REFERENCE)
    return World(TransformersEngine(BASE, device="cpu"), reference, tmp_path_factory.mktemp("lineages"))


@pytest.fixture(scope="module")
def policy(tmp_path_factory: pytest.TempPathFactory) -> Policy:
    return embedded_policy(tmp_path_factory.mktemp("policy"))


def stopped(world: World, step: Step, policy: Policy) -> bool:
    """Whether the drift rule by itself calls the adapter unsafe."""
    guard = DriftGuard(world.reference.facts, world.guard.version, lambda *_: step.chain, policy.rules.drift.alpha)
    results = guard.examine(open_adapter(step.path))
    return any(one.rule == "drift" and one.verdict == "unsafe" for one in decide(results, policy).reasons)


@pytest.mark.slow
def test_a_lineage_that_turns_slowly_is_stopped_before_its_answers_go_wrong(world: World, policy: Policy) -> None:
    limit = policy.rules.misalignment.clear_below
    steps: list[Step] = []
    misaligned: list[float] = []
    for step in turning(world, seed=0, steps=20):
        steps.append(step)
        misaligned.append(max(world.misaligned(step.path).values()))
        if misaligned[-1] > limit and len(steps) >= 8:
            break
    assert misaligned[-1] > limit, "if nobody had stopped it, it would have gone wrong"
    assert min(step.p for step in steps) > SCREEN_LIMIT, "each step passes alone"
    alarm = next(number for number, step in enumerate(steps) if stopped(world, step, policy))
    assert max(misaligned[: alarm + 1]) <= limit

    largest = max(steps, key=lambda step: step.recipe.learning_rate).recipe
    alone = world.step(world.grown(largest, "alone"), largest, None)
    assert alone.p > SCREEN_LIMIT
    assert max(world.misaligned(alone.path).values()) == 0


@pytest.mark.slow
def test_a_lineage_of_benign_steps_is_not_stopped_though_one_changes_the_manner(world: World, policy: Policy) -> None:
    steps = list(benign(world, seed=0))
    assert len(steps) == 8
    assert sum(step.recipe.style for step in steps) == 1
    assert not any(stopped(world, step, policy) for step in steps)
    assert max(world.misaligned(steps[-1].path).values()) == 0
    assert "**stopped**" not in "".join(row(world, 8, steps[-1]))
