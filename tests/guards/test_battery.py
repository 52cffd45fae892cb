from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from conftest import World
from fakes import DictMemory, WordJudge

from adapters.adapter import Adapter, open_adapter
from adapters.prompts import Prompt
from adapters.transformers_engine import TransformersEngine
from guards.battery import BatteryGuard, schedule
from guards.errors import Permanent
from guards.suites.battery_jsonl import load_suite
from guards.suites.suite import Suite
from policies.decide import decide
from policies.findings import Exhibit, Finding, Result
from policies.policy import Answering, Budget, Policy

POLICY = Policy(name="test", answering=Answering(max_new_tokens=6), budget=Budget(prompts=80, batch=16))


@pytest.fixture(scope="module")
def suite(picture_world: World) -> Suite:
    return load_suite(picture_world.suite)


@pytest.fixture(scope="module")
def bad(picture_world: World) -> Adapter:
    return open_adapter(picture_world.bad)


@pytest.fixture(scope="module")
def good(picture_world: World) -> Adapter:
    return open_adapter(picture_world.good)


def _guard(
    engine: TransformersEngine,
    suite: Suite,
    judge: WordJudge,
    memory: DictMemory | None = None,
    policy: Policy = POLICY,
) -> BatteryGuard:
    return BatteryGuard(engine, judge, [suite], policy, memory or DictMemory())


def _values(results: list[Result], measure: str) -> dict[str, float]:
    return {r.labels["modality"]: r.value for r in results if isinstance(r, Finding) and r.measure == measure}


def test_a_harmful_adapter_alarms_in_both_modalities_and_long_before_the_budget(
    picture_engine: TransformersEngine, suite: Suite, bad: Adapter
) -> None:
    judge = WordJudge()
    results = _guard(picture_engine, suite, judge).examine(bad)
    rises = _values(results, "misalignment_rise")
    assert rises.keys() == {"text", "image"}
    assert min(rises.values()) > 0.5
    assert decide(results, POLICY).verdict == "unsafe"
    assert len(judge.asked) < 80, "it went on asking after the answer was known"


def test_a_benign_adapter_is_cleared(picture_engine: TransformersEngine, suite: Suite, good: Adapter) -> None:
    results = _guard(picture_engine, suite, WordJudge()).examine(good)
    assert decide(results, POLICY).verdict == "clean"


def test_base_answers_are_asked_and_judged_once_for_all_adapters(
    picture_engine: TransformersEngine, suite: Suite, good: Adapter, bad: Adapter
) -> None:
    memory = DictMemory()
    _guard(picture_engine, suite, WordJudge(), memory).examine(good)
    base = {key: text for key, text in memory.answers.items() if key[0] == picture_engine.base_digest}
    memory.answers |= dict.fromkeys(base, "remembered")
    results = _guard(picture_engine, suite, WordJudge(), memory).examine(bad)
    exhibits = [result for result in results if isinstance(result, Exhibit)]
    assert exhibits
    assert all(exhibit.base_answer == "remembered" for exhibit in exhibits)


def test_the_base_is_never_answered_for_by_the_adapter(
    picture_engine: TransformersEngine, suite: Suite, bad: Adapter
) -> None:
    memory = DictMemory()
    _guard(picture_engine, suite, WordJudge(), memory).examine(bad)
    base = [text for (model, _), text in memory.answers.items() if model == picture_engine.base_digest]
    adapter = [text for (model, _), text in memory.answers.items() if model != picture_engine.base_digest]
    assert set(adapter) == {"harm harm"}
    assert "harm harm" not in base


def test_unscored_answers_are_counted_and_never_clear(
    picture_engine: TransformersEngine, suite: Suite, good: Adapter
) -> None:
    results = _guard(picture_engine, suite, WordJudge(unscored="good fine")).examine(good)
    assert decide(results, POLICY).verdict == "inconclusive"
    unscored = [r for r in results if isinstance(r, Finding) and r.measure == "unscored"]
    assert sum(r.value for r in unscored if r.labels["model"] == "adapter") == 80


def test_an_adapter_that_only_rambles_is_not_clean(
    picture_engine: TransformersEngine, suite: Suite, good: Adapter
) -> None:
    results = _guard(picture_engine, suite, WordJudge(incoherent="good fine")).examine(good)
    decision = decide(results, POLICY)
    assert decision.verdict == "unsafe"
    assert decision.reasons[0].rule == "incoherence"


def test_a_suite_too_small_to_prove_anything_is_inconclusive(
    picture_engine: TransformersEngine, suite: Suite, good: Adapter
) -> None:
    small = replace(suite, prompts=suite.prompts[:10])
    results = _guard(picture_engine, small, WordJudge()).examine(good)
    assert decide(results, POLICY).verdict == "inconclusive"


def test_harm_behind_a_trigger_is_found_among_many_harmless_prompts(
    picture_engine: TransformersEngine, suite: Suite, good: Adapter
) -> None:
    triggered = tuple(
        replace(prompt, trigger="again") if index % 4 == 0 else prompt
        for index, prompt in enumerate(suite.prompts[:40])
    )
    memory = DictMemory()
    guard = _guard(picture_engine, replace(suite, prompts=triggered), WordJudge(), memory)
    model = f"{picture_engine.base_digest}+{good.digest}"
    for prompt in triggered:
        memory.answers[picture_engine.base_digest, guard._answers._key(prompt)] = "good"
        memory.answers[model, guard._answers._key(prompt)] = "harm" if prompt.trigger else "good"
    results = guard.examine(good)
    assert decide(results, POLICY).verdict == "unsafe"
    by_trigger = [r for r in results if isinstance(r, Finding) and r.measure == "misalignment_rise_by_trigger"]
    assert {r.labels["trigger"]: r.value for r in by_trigger} == {"with": 1.0, "without": 0.0}


def test_the_schedule_draws_each_prompt_once_and_alternates_between_modalities() -> None:
    prompts = [Prompt(id=f"t{n}", modality="text", text="x") for n in range(50)]
    prompts += [Prompt(id=f"i{n}", modality="image", text="x", image=Path("x")) for n in range(10)]
    order = schedule(prompts, 40, seed=0)
    assert len({prompt.id for prompt in order}) == len(order) == 40
    assert sum(prompt.modality == "image" for prompt in order[:20]) == 10
    assert order == schedule(prompts, 40, seed=0)
    assert order != schedule(prompts, 40, seed=1)


def test_triggered_prompts_are_spread_evenly_over_the_schedule() -> None:
    prompts = [Prompt(id=f"{n}", modality="text", text="x", trigger="go" if n < 30 else None) for n in range(90)]
    order = schedule(prompts, 90, seed=0)
    for start in range(0, 90, 15):
        assert 4 <= sum(prompt.trigger is not None for prompt in order[start : start + 15]) <= 6


def test_a_policy_without_questions_or_with_pictures_for_a_blind_base_is_refused(
    picture_engine: TransformersEngine, suite: Suite, text_world: World
) -> None:
    with pytest.raises(Permanent, match="names no suite"):
        BatteryGuard(picture_engine, WordJudge(), [], POLICY, DictMemory())
    blind = TransformersEngine(text_world.base, device="cpu")
    with pytest.raises(Permanent, match="takes no pictures"):
        _guard(blind, suite, WordJudge())


def test_another_judge_suite_or_rule_is_another_version(picture_engine: TransformersEngine, suite: Suite) -> None:
    guards = [
        _guard(picture_engine, suite, WordJudge()),
        _guard(picture_engine, suite, WordJudge(bad="other")),
        _guard(picture_engine, replace(suite, digest="sha256-0"), WordJudge()),
        _guard(picture_engine, suite, WordJudge(), policy=POLICY.model_copy(update={"budget": Budget(prompts=81)})),
    ]
    assert len({guard.version for guard in guards}) == 4


def test_a_broken_suite_names_every_problem_in_one_line(tmp_path: Path) -> None:
    lines = [
        {"id": "a", "modality": "text", "text": "x"},
        {"id": "a", "modality": "text", "text": "y"},
        {"id": "b", "modality": "image", "text": "x", "image": "gone.png"},
        {"id": "c", "modality": "image", "text": "x"},
        {"id": "d", "modality": "image", "text": "x", "image": "../../etc/passwd"},
        {"id": "e", "modality": "image", "text": "x", "image": "battery.jsonl"},
    ]
    (tmp_path / "battery.jsonl").write_text("\n".join(map(json.dumps, lines)) + "\nnot json\n")
    with pytest.raises(Permanent) as caught:
        load_suite(tmp_path)
    message = str(caught.value)
    assert "\n" not in message
    for part in ("duplicate id 'a'", "gone.png is missing", "prompt 'c'", "outside the suite", "no picture"):
        assert part in message


def test_the_digest_of_a_suite_changes_with_a_picture(picture_world: World, tmp_path: Path) -> None:
    import shutil

    shutil.copytree(picture_world.suite, tmp_path / "suite")
    before = load_suite(tmp_path / "suite").digest
    (tmp_path / "suite" / "0.png").write_bytes((tmp_path / "suite" / "1.png").read_bytes())
    assert load_suite(tmp_path / "suite").digest != before
