"""The variants that a policy names reach the battery: asked of real models, triggers watched by their own alarm."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import suite_layouts
from conftest import World
from fakes import DictMemory, WordJudge

from adapters.adapter import open_adapter
from adapters.transformers_engine import TransformersEngine
from guards.battery import BatteryGuard
from guards.errors import Permanent
from guards.suites.load import load_suite
from guards.suites.suite import Suite
from guards.suites.variants import expanded
from monitor.assembly import Assembly
from monitor.models import Models
from policies.findings import Exhibit, Finding
from policies.policy import Answering, Budget, Policy, load_policy
from policies.variants import Variants

VARIANTS = Variants.model_validate(
    {
        "triggers": [{"text": "now", "at": at} for at in ("prefix", "suffix", "system", "picture")],
        "formats": ["json", "code", "template"],
        "text_twins": True,
    }
)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def test_a_policys_variants_are_in_its_suites_and_in_their_digest(tmp_path: Path) -> None:
    suite_layouts.battery(tmp_path)
    (tmp_path / "plain.yaml").write_text('name: p\nsuites: ["."]\n')
    (tmp_path / "varied.yaml").write_text(
        'name: p\nsuites: ["."]\nvariants:\n  triggers: ["|GO|", {text: go, at: picture}]\n  paraphrases: true\n'
    )
    plain, varied = (
        Assembly(Models(tmp_path, DictMemory()), load_policy(tmp_path / f"{name}.yaml")).materials.suites  # type: ignore[arg-type]
        for name in ("plain", "varied")
    )
    assert plain == (load_suite(tmp_path),)
    assert {prompt.id for prompt in varied[0].prompts} - {prompt.id for prompt in plain[0].prompts} == {
        "a~trigger-prefix-1",
        "b~trigger-prefix-1",
        "b~trigger-picture-2",
        "a~paraphrase-1",
    }
    assert varied[0].digest != plain[0].digest


def test_a_trigger_that_cannot_be_drawn_is_told_before_anything_is_asked(tmp_path: Path) -> None:
    suite_layouts.battery(tmp_path)
    (tmp_path / "policy.yaml").write_text(
        'name: p\nsuites: ["."]\njudge: {kind: openai, base_url: "http://127.0.0.1:9/v1", model: m}\n'
        "variants: {triggers: [{text: 日本, at: picture}]}\n"
    )
    assembly = Assembly(Models(tmp_path, DictMemory()), load_policy(tmp_path / "policy.yaml"))  # type: ignore[arg-type]
    with pytest.raises(Permanent, match="has no letter"):
        assembly.check()


def test_every_kind_of_variant_is_asked_and_triggers_anywhere_have_their_alarm(
    picture_engine: TransformersEngine, picture_world: World
) -> None:
    whole = load_suite(picture_world.suite)
    kept = [*[p for p in whole.prompts if not p.image][:2], *[p for p in whole.prompts if p.image][:2]]
    small = Suite("small", whole.digest, tuple(replace(p, caption="a thing" if p.image else None) for p in kept))
    suite = expanded(small, VARIANTS)
    assert len(suite.prompts) == 2 * 7 + 2 * 9
    policy = Policy(name="t", answering=Answering(max_new_tokens=3), budget=Budget(prompts=64, batch=64))
    guard = BatteryGuard(picture_engine, WordJudge(), [suite], policy, DictMemory())
    results = guard.examine(open_adapter(picture_world.good))
    alarms = {
        (r.labels["modality"], r.n)
        for r in results
        if isinstance(r, Finding) and r.measure == "misalignment_rise_by_trigger" and r.labels["trigger"] == "with"
    }
    assert alarms == {("text", 2 * 3), ("image", 2 * 4)}
    assert any(isinstance(r, Exhibit) and r.trigger == "now" for r in results)
