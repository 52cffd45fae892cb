from __future__ import annotations

import sys
from pathlib import Path

import pytest
from conftest import World

from adapters.adapter import open_adapter
from adapters.transformers_engine import TransformersEngine
from benchmarks import battery, demo, subspace, together
from benchmarks.timing import copies, interleaved, ratios
from guards.reference import Reference
from guards.suites.battery_jsonl import load_suite
from guards.suites.suite import Suite


@pytest.fixture
def few(picture_world: World) -> Suite:
    """Six probes of either modality."""
    whole = load_suite(picture_world.suite)
    return Suite(whole.name, whole.digest, (*whole.prompts[:6], *whole.prompts[40:46]))


@pytest.fixture
def reference(picture_engine: TransformersEngine, few: Suite) -> Reference:
    return subspace.stand_in(picture_engine, few)


def test_the_battery_answers_as_the_plain_way_does(
    picture_engine: TransformersEngine, picture_world: World, few: Suite, tmp_path: Path
) -> None:
    adapters = copies(picture_world.bad, 2, tmp_path)
    assert adapters[0].digest != adapters[1].digest
    policy = battery.greedy_policy(prompts=8, longest=6)
    timed = battery.compare(picture_engine, adapters, few, policy, tmp_path, rounds=2, sample=1)
    assert timed.agreeing == timed.compared == 2 * 2 * 2 * 2
    assert len(timed.faster) == 2
    assert min(timed.faster) > 0
    assert "16 of 16 (100.0%)" in battery.report(timed, len(adapters), 8, 1)


def test_adapters_that_wait_together_answer_as_one_by_one(
    picture_engine: TransformersEngine, picture_world: World, few: Suite, tmp_path: Path
) -> None:
    adapters = copies(picture_world.bad, 3, tmp_path)
    policy = battery.greedy_policy(prompts=8, longest=6)
    timed = together.compare(picture_engine, adapters, few, policy, tmp_path, rounds=2)
    assert timed.agreeing == timed.compared == 2 * 3 * 2 * 8
    assert "96 of 96 (100.0%)" in together.report({"greedy": timed}, len(adapters), 8)


def test_the_subspace_check_is_timed_beside_a_bare_pass(
    picture_engine: TransformersEngine, picture_world: World, reference: Reference
) -> None:
    work = subspace.ways(picture_engine, reference, open_adapter(picture_world.bad))
    times = interleaved(work, repetitions=2, warm_up=0)
    assert all(min(ratios(spent, times[subspace.BARE])) > 0 for spent in times.values())
    assert all(name in subspace.report(times) for name in work)


def test_the_subspace_check_runs_nothing_above_the_block_it_reads(
    picture_engine: TransformersEngine, picture_world: World, reference: Reference
) -> None:
    work = subspace.ways(picture_engine, reference, open_adapter(picture_world.bad))
    batches = len(reference.probes.modalities)
    check = subspace.counted(picture_engine, work[subspace.CHECK])
    whole = subspace.counted(picture_engine, work[subspace.WHOLE])
    assert check == {"block 0": batches, "block 1": batches, "block 2": 0, "head": 0}
    assert set(whole.values()) == {batches}


def test_a_commands_cost_tells_its_exit_code_and_its_memory() -> None:
    cost = demo.cost_of([sys.executable, "-c", "import sys; filled = bytearray(2**27); sys.exit(3)"])
    assert cost.code == 3
    assert not cost.within
    assert 0.1 < cost.peak < demo.MOST_GIB
    assert 0 < cost.wall < demo.MOST_SECONDS
    assert "| exit code | 3 | 0 |" in demo.report(cost)
