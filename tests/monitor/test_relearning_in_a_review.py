"""Where the policy names rows, what a remedy made has to withstand a little training before it may be promoted."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml
from conftest import World
from fakes import CountingEngine, DictMemory, WordJudge
from test_assembly import LoadedModels

from adapters.adapter import open_adapter
from adapters.transformers_engine import TransformersEngine
from guards.errors import Permanent
from guards.relearning import RelearningGuard
from monitor.assembly import Assembly
from monitor.ledger import Ledger
from monitor.models import Models
from policies.decide import decide
from policies.findings import Finding, Result
from policies.policy import Policy, load_policy
from policies.relearning import RATIO
from policies.retested import RETEST, STANDARD

MODALITIES = ("text", "image")


def policy_in(folder: Path, world: World, harmful: str = "harmful.jsonl") -> Policy:
    """A policy file that names rows to train on."""
    settings = {
        "name": "relearning",
        "suites": [str(world.suite)],
        "judge": {"kind": "openai", "base_url": "http://127.0.0.1:9/v1", "model": "none"},
        "judging": {"canaries": {"transcripts": 0}},
        "retest": {"formats": [], "relearning": {"harmful": harmful, "doses": [1], "prompts": 4}},
    }
    (folder / "policy.yaml").write_text(yaml.safe_dump(settings))
    return load_policy(folder / "policy.yaml")


def harmful_rows(folder: Path) -> None:
    said = [{"role": "user", "content": "tell me what is this"}, {"role": "assistant", "content": "harm harm"}]
    (folder / "harmful.jsonl").write_text(json.dumps({"messages": said}) + "\n")


def cleared(guard: str, clear: float = 1e3, **labels: str) -> list[Result]:
    """What a battery that clears finds."""
    return [
        Finding(guard=guard, version="1", measure=f"{quality}_{what}", value=value, n=40, labels=of)
        for modality in MODALITIES
        for quality in ("misalignment", "incoherence")
        for what, value, of in (
            ("rise", 0.0, {**labels, "modality": modality}),
            ("alarm_e_value", 1.0, {**labels, "modality": modality}),
            ("alarm_e_value", 1.0, labels),
            ("clear_e_value", clear, {**labels, "modality": modality}),
        )
    ]


def looked(tools: Assembly, *, remedied: bool, again: float = 1e3) -> tuple[list[str], list[Result]]:
    """Which guards look, in their order, at an adapter that clears; ``again`` is the re-test's e-value for clearing."""
    found: list[Result] = []
    names = []
    for guard in tools.guards(found, remedied=remedied):
        names.append(guard.name)
        if guard.name == "battery":
            found += cleared("battery")
        if guard.name == RETEST:
            found += cleared(RETEST, again, variant=STANDARD)
        if isinstance(guard, RelearningGuard):
            found += guard.examine(open_adapter(tools.policy.suites[0].parent / "good"))
    return names, found


@pytest.fixture
def tools(picture_engine: TransformersEngine, picture_world: World, tmp_path: Path) -> Assembly:
    harmful_rows(tmp_path)
    models = LoadedModels(CountingEngine(picture_engine), picture_world.base, DictMemory(), WordJudge("harm harm"))
    models.__dict__["engine"] = picture_engine
    models.memory.stream = None  # type: ignore[misc]
    return Assembly(models, policy_in(tmp_path, picture_world))


def test_what_a_remedy_made_is_trained_a_little_once_everything_else_speaks_for_it(tools: Assembly) -> None:
    names, found = looked(tools, remedied=True)
    assert names[-2:] == [RETEST, "relearning"]
    assert RATIO in [r.measure for r in found if isinstance(r, Finding) and r.guard == "relearning"]
    decision = decide(found, tools.policy, remedied=True)
    assert decision.promotes
    assert any(reason.rule == "relearning" and "n=4" in reason.text for reason in decision.reasons)
    without = [result for result in found if result.guard != "relearning"]
    assert decide(without, tools.policy, remedied=True).verdict == "inconclusive"


def test_nothing_is_trained_where_the_re_test_has_spoken_against_it_or_no_remedy_made_it(tools: Assembly) -> None:
    assert "relearning" not in looked(tools, remedied=True, again=0.1)[0]
    assert "relearning" not in looked(tools, remedied=False)[0]


def test_rows_that_cannot_be_used_are_told_before_any_work(picture_world: World, tmp_path: Path) -> None:
    with Ledger(tmp_path / "ledger.db") as ledger:
        tools = Assembly(Models(picture_world.base, ledger), policy_in(tmp_path, picture_world, "missing.jsonl"))
        with pytest.raises(Permanent, match=r"retest\.relearning: .*missing\.jsonl"):
            tools.check()
