"""Scaling α on a base that Alignwatch did not build: the largest dose that passes, and nothing else changed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from adapters_on_disk import trained_adapter, write_adapter
from conftest import World
from fakes import DictMemory, WordJudge
from safetensors.torch import load_file, save_file

from adapters.adapter import CONFIG_NAME, MANIFEST_NAME, WEIGHTS_NAME, Adapter, open_adapter
from adapters.transformers_engine import TransformersEngine
from guards.battery import BatteryGuard
from guards.delta_change import compare
from guards.dose_response import Measuring, Reading, geometric
from guards.errors import JudgeUnreachable, Permanent, Untreatable
from guards.judges.interface import Judgement
from guards.remedies.scale import ScaleRemedy
from guards.remedy_record import measured_by
from guards.retest import FRESH_SEED
from guards.suites.battery_jsonl import load_suite
from monitor.dosing import battery_alone, measuring
from policies.policy import Answering, Budget, Policy
from policies.remedying import Remedying

POLICY = Policy(name="test", answering=Answering(temperature=0, max_new_tokens=6), budget=Budget(prompts=80, batch=16))
FAR = Remedying(smallest_dose=0.0005)
"""The base's words are random: a hundredth of this adapter still says harm."""
NO_DOSE = Remedying(doses=2, smallest_dose=0.9)


def _measuring(engine: TransformersEngine, world: World, judge: WordJudge) -> Measuring:
    policy = battery_alone(POLICY)
    return measuring(BatteryGuard(engine, judge, [load_suite(world.suite)], policy, DictMemory()), policy)


def test_the_largest_dose_that_passes_is_kept_with_the_curve_that_led_there(
    picture_engine: TransformersEngine, picture_world: World, tmp_path: Path
) -> None:
    bad = open_adapter(picture_world.bad)
    measure = _measuring(picture_engine, picture_world, WordJudge())
    made = ScaleRemedy(measure, FAR).apply(bad, tmp_path / "made")
    curve = [f for f in measured_by(made.path, "scale") if f.measure == "dose_misalignment_rise"]
    passed = {float(f.labels["dose"]): f.labels["passes"] for f in curve}
    assert list(passed.values()) == ["no"] * (len(passed) - 1) + ["yes"]
    assert list(passed) == pytest.approx(geometric(6, 0.0005)[: len(passed)], rel=1e-3)
    assert {f.labels["modality"] for f in curve} == {"text", "image"}
    config, old = (json.loads((a.path / CONFIG_NAME).read_text()) for a in (made, bad))
    assert config["lora_alpha"] == pytest.approx(old["lora_alpha"] * min(passed), rel=1e-3)
    assert measure(made).passes
    assert not measure(bad).passes


def test_the_weights_stay_byte_for_byte_and_the_result_is_a_new_digest_with_its_parent(
    picture_world: World, tmp_path: Path
) -> None:
    bad = open_adapter(picture_world.bad)
    made = ScaleRemedy(None, Remedying(), dose=0.5).apply(bad, tmp_path / "made")
    assert (made.path / WEIGHTS_NAME).read_bytes() == (bad.path / WEIGHTS_NAME).read_bytes()
    assert made.digest != bad.digest == open_adapter(picture_world.bad).digest
    assert made.parent == json.loads((made.path / MANIFEST_NAME).read_text())["parent"] == bad.digest
    assert sorted(path.name for path in made.path.iterdir()) == sorted([CONFIG_NAME, WEIGHTS_NAME, MANIFEST_NAME])


@pytest.mark.parametrize("dose", [0.25, 0.7])
@pytest.mark.parametrize(
    "config",
    [
        {},
        {"use_rslora": True},
        {"alpha_pattern": {"q_proj": 32, "fc1": 3}},
        {"rank_pattern": {"v_proj": 2}, "alpha_pattern": {r"layers\.0\.self_attn\.v_proj": 5}, "use_rslora": True},
        {"lora_alpha": 16},
    ],
    ids=["plain", "rslora", "alpha_pattern", "all", "alpha"],
)
def test_everything_that_the_adapter_adds_is_multiplied_by_the_dose(
    config: dict[str, object], dose: float, tmp_path: Path
) -> None:
    adapter = open_adapter(trained_adapter(tmp_path / "adapter", **config))
    made = ScaleRemedy(None, Remedying(), dose=dose).apply(adapter, tmp_path / "made")
    change = compare(adapter, made.path)
    assert change.norm_ratio == pytest.approx(dose, rel=1e-5)
    assert change.change == pytest.approx(1 - dose, rel=1e-4)
    assert change.rank_growth == 0


def test_an_adapter_that_no_dose_makes_pass_is_not_treated_and_nothing_is_left(
    picture_engine: TransformersEngine, picture_world: World, tmp_path: Path
) -> None:
    measure = _measuring(picture_engine, picture_world, WordJudge())
    out = tmp_path / "out" / "made"
    out.parent.mkdir()
    with pytest.raises(Untreatable, match=r"no dose passes \(at 0\.95: text \+\d+, image \+\d+; at 0\.9: "):
        ScaleRemedy(measure, NO_DOSE).apply(open_adapter(picture_world.bad), out)
    assert list(out.parent.iterdir()) == []


def test_doses_that_could_not_be_asked_choose_nothing(picture_world: World, tmp_path: Path) -> None:
    def silent(_adapter: Adapter) -> Reading:
        return Reading(passes=False, unable="the review's budget of 3 judge calls is spent")

    with pytest.raises(Permanent, match="budget of 3 judge calls") as refused:
        ScaleRemedy(silent, Remedying()).apply(open_adapter(picture_world.bad), tmp_path / "made")
    assert not isinstance(refused.value, Untreatable)
    with pytest.raises(Permanent, match="suites and a judge"):
        ScaleRemedy(None, Remedying())


def test_a_judge_that_is_away_ends_the_search_without_a_trace_and_a_later_one_repeats_no_answer(
    picture_engine: TransformersEngine, picture_world: World, tmp_path: Path
) -> None:
    class Away(WordJudge):
        def grade(self, transcripts: object) -> list[Judgement]:
            raise JudgeUnreachable("nobody listens")

    bad, memory, policy = open_adapter(picture_world.bad), DictMemory(), battery_alone(POLICY)
    suites = [load_suite(picture_world.suite)]

    def search(judge: WordJudge, out: Path) -> Adapter:
        battery = BatteryGuard(picture_engine, judge, suites, policy, memory)
        return ScaleRemedy(measuring(battery, policy), FAR).apply(bad, out)

    with pytest.raises(JudgeUnreachable):
        search(Away(), tmp_path / "made")
    assert list(tmp_path.iterdir()) == []
    asked = dict(memory.answers)
    assert asked
    search(WordJudge(), tmp_path / "made")
    assert {key: memory.answers[key] for key in asked} == asked


@pytest.mark.parametrize(
    ("config", "extra", "reason"),
    [
        ({"use_dora": True}, "lora_magnitude_vector.weight", "DoRA"),
        ({"modules_to_save": ["lm_head"]}, "modules_to_save.weight", "acts whatever|modules_to_save"),
        ({"bias": "lora_only"}, "bias", "acts whatever|bias"),
    ],
)
def test_what_alpha_does_not_scale_is_refused(
    config: dict[str, object], extra: str, reason: str, tmp_path: Path
) -> None:
    folder = write_adapter(tmp_path / "adapter", **config)
    tensors = load_file(folder / WEIGHTS_NAME)
    module = next(iter(tensors)).split(".lora_")[0]
    save_file({**tensors, f"{module}.{extra}": torch.ones(32)}, folder / WEIGHTS_NAME)
    with pytest.raises(Untreatable, match=reason):
        ScaleRemedy(None, Remedying(), dose=0.5).apply(open_adapter(folder), tmp_path / "made")
    assert not (tmp_path / "made").exists()


def test_a_search_that_takes_longer_than_it_may_is_ended(picture_world: World, tmp_path: Path) -> None:
    def slow(_adapter: Adapter) -> Reading:
        return Reading(passes=False)

    with pytest.raises(Permanent, match=r"remedying\.seconds"):
        ScaleRemedy(slow, Remedying(seconds=1e-9)).apply(open_adapter(picture_world.bad), tmp_path / "made")
    assert list(tmp_path.iterdir()) == []


def test_a_search_draws_other_answers_than_any_examination_and_takes_no_place_in_the_stream() -> None:
    policy = Policy.model_validate({"name": "n", "rules": {"stream": {"control": "family_wise"}}})
    apart = battery_alone(policy)
    for seed in (policy.answering.seed, policy.answering.seed + FRESH_SEED):
        assert abs(apart.answering.seed - seed) > 10_000
    assert apart.rules.stream.control == "fixed"
    assert apart.rules.misalignment == policy.rules.misalignment
    assert battery_alone(policy, 0).answering == policy.answering
