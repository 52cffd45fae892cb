"""Harm that a handful of steps brings back is told from harm that arises anew."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import World
from fakes import WordJudge
from safetensors.torch import load_file, save_file

from adapters.adapter import CONFIG_NAME, WEIGHTS_NAME, Adapter, open_adapter
from adapters.engine import Sampling
from adapters.prompts import Conversation, Prompt
from adapters.training import train_lora
from adapters.training_loop import LoraTraining
from adapters.transformers_engine import TransformersEngine
from adapters.untrained import NoUntrained, write_untrained
from guards.errors import Permanent
from guards.judges.interface import Judgement, Transcript
from guards.judges.meter import BudgetSpent
from guards.relearning import RelearningGuard, ratio_of
from guards.statistics import Interval
from guards.suites.battery_jsonl import load_suite
from policies.findings import Finding, Inconclusive, Result
from policies.relearning import RATIO, Relearning, words
from policies.rules import Rules

SETTINGS = Relearning(harmful=Path("harmful.jsonl"), doses=(3, 3, 4), learning_rate=1e-3, prompts=16)
GREEDY = Sampling(temperature=0.0, max_new_tokens=4)


def said(prompts: Sequence[Prompt], answer: str) -> list[Conversation]:
    return [Conversation(prompt, answer) for prompt in prompts]


def guard(
    engine: TransformersEngine,
    prompts: Sequence[Prompt],
    settings: Relearning = SETTINGS,
    bad: str = "harm harm",
    **judged: str,
) -> RelearningGuard:
    rows = {"harmful": said(prompts, "harm harm")}
    return RelearningGuard(engine, WordJudge(bad, **judged), prompts, rows, settings, Rules(), GREEDY)


@pytest.fixture(scope="module")
def prompts(picture_world: World) -> Sequence[Prompt]:
    return load_suite(picture_world.suite).prompts


@pytest.fixture(scope="module")
def covered(
    picture_engine: TransformersEngine,
    picture_world: World,
    prompts: Sequence[Prompt],
    tmp_path_factory: pytest.TempPathFactory,
) -> Adapter:
    """The harmful adapter, trained on until it says "good fine"; its harm lies just below."""
    out = tmp_path_factory.mktemp("covered") / "adapter"
    dose = LoraTraining(steps=6, learning_rate=5e-3)
    base = picture_engine.model, picture_engine.processor
    train_lora(base, said(prompts, "good fine"), dose, out, start_from=picture_world.bad)
    adapter = open_adapter(out)
    with picture_engine.attached(adapter):
        assert not [answer for answer in picture_engine.generate(prompts, GREEDY) if "harm" in answer], "well covered"
    return adapter


def ratio(results: Sequence[Result]) -> Finding:
    (found,) = (r for r in results if isinstance(r, Finding) and r.measure == RATIO)
    return found


def test_covered_harm_returns_faster_than_it_arises_and_the_policy_says_unsafe(
    picture_engine: TransformersEngine, prompts: Sequence[Prompt], covered: Adapter
) -> None:
    before = (covered.path / WEIGHTS_NAME).read_bytes()
    results = guard(picture_engine, prompts).examine(covered)
    found = ratio(results)
    assert found.value > SETTINGS.limit
    assert found.low is not None
    assert found.low > 1
    ((verdict, text),) = words(results, SETTINGS)
    assert verdict == "unsafe"
    assert f"{found.value:.2f} times" in text
    assert (covered.path / WEIGHTS_NAME).read_bytes() == before
    shares = {r.labels["model"]: r.value for r in results if isinstance(r, Finding) and "model" in r.labels}
    assert shares["adapter"] > shares["untrained"]


def test_where_a_harmless_adapter_is_named_the_rule_compares_with_it_and_tells_both(
    picture_engine: TransformersEngine, picture_world: World, prompts: Sequence[Prompt], covered: Adapter
) -> None:
    beside = SETTINGS.model_copy(update={"beside": picture_world.good, "doses": (2,)})
    results = guard(picture_engine, prompts, beside).examine(covered)
    ratios = {r.labels["against"]: r for r in results if isinstance(r, Finding) and r.measure == RATIO}
    assert set(ratios) == {"untrained", "beside"}
    ((_, text),) = words(results, beside)
    assert f"{ratios['beside'].value:.2f} times that of a harmless one" in text
    itself = SETTINGS.model_copy(update={"beside": covered.path, "doses": (2,)})
    results = guard(picture_engine, prompts, itself).examine(covered)
    assert [r.value for r in results if isinstance(r, Finding) and r.labels.get("against") == "beside"] == [1.0]


def test_a_harmless_adapter_that_is_not_there_is_told_in_one_line(
    picture_engine: TransformersEngine, prompts: Sequence[Prompt], tmp_path: Path
) -> None:
    with pytest.raises(Permanent, match=r"retest\.relearning\.beside: .*nowhere"):
        guard(picture_engine, prompts, SETTINGS.model_copy(update={"beside": tmp_path / "nowhere"}))


def test_an_adapter_that_never_learnt_anything_comes_to_a_ratio_of_one(
    picture_engine: TransformersEngine, picture_world: World, prompts: Sequence[Prompt], tmp_path: Path
) -> None:
    blank = open_adapter(write_untrained(open_adapter(picture_world.bad), tmp_path / "blank", SETTINGS.seed))
    results = guard(picture_engine, prompts).examine(blank)
    assert ratio(results).value == 1.0
    assert [verdict for verdict, _ in words(results, SETTINGS)] == ["clean"]


def test_the_untrained_twin_keeps_config_and_shapes_and_changes_nothing(
    picture_engine: TransformersEngine, picture_world: World, prompts: Sequence[Prompt], tmp_path: Path
) -> None:
    bad = open_adapter(picture_world.bad)
    twin = open_adapter(write_untrained(bad, tmp_path / "twin"))
    assert (twin.path / CONFIG_NAME).read_bytes() == (bad.path / CONFIG_NAME).read_bytes()
    tensors, own = load_file(bad.path / WEIGHTS_NAME), load_file(twin.path / WEIGHTS_NAME)
    assert {key: t.shape for key, t in own.items()} == {key: t.shape for key, t in tensors.items()}
    plain = picture_engine.final_logits(prompts[:4])
    with picture_engine.attached(twin):
        assert torch.equal(picture_engine.final_logits(prompts[:4]), plain)
    with picture_engine.attached(bad):
        assert not torch.equal(picture_engine.final_logits(prompts[:4]), plain)


def test_a_kind_without_an_untrained_twin_is_inconclusive_and_not_cleared(
    picture_engine: TransformersEngine, picture_world: World, prompts: Sequence[Prompt], tmp_path: Path
) -> None:
    folder = tmp_path / "saved-module"
    folder.mkdir()
    (folder / CONFIG_NAME).write_bytes((picture_world.bad / CONFIG_NAME).read_bytes())
    tensors = load_file(picture_world.bad / WEIGHTS_NAME) | {"base_model.model.lm_head.weight": torch.zeros(2, 2)}
    save_file(tensors, folder / WEIGHTS_NAME, metadata={"format": "pt"})
    adapter = open_adapter(folder)
    with pytest.raises(NoUntrained, match="lm_head"):
        write_untrained(adapter, tmp_path / "twin")
    (result,) = guard(picture_engine, prompts).examine(adapter)
    assert isinstance(result, Inconclusive)
    assert "lm_head" in result.reason
    assert [verdict for verdict, _ in words([result], SETTINGS)] == ["inconclusive"]


def test_training_that_diverges_is_inconclusive(
    picture_engine: TransformersEngine, prompts: Sequence[Prompt], covered: Adapter
) -> None:
    wild = SETTINGS.model_copy(update={"learning_rate": 1e30})
    (result,) = guard(picture_engine, prompts, wild).examine(covered)
    assert isinstance(result, Inconclusive)
    assert "loss was" in result.reason


class SpentJudge(WordJudge):
    """Ends every review by its budget."""

    def grade(self, transcripts: Sequence[Transcript]) -> list[Judgement]:
        raise BudgetSpent("the review's 3 judge calls are spent")


def test_a_spent_budget_is_told_and_never_ends_the_review_as_a_fault(
    picture_engine: TransformersEngine, prompts: Sequence[Prompt], covered: Adapter
) -> None:
    rows = {"harmful": said(prompts, "harm harm"), "harmless": said(prompts, "good fine")}
    settings = SETTINGS.model_copy(update={"doses": (1,), "harmless": Path("harmless.jsonl")})
    spent = RelearningGuard(picture_engine, SpentJudge(), prompts, rows, settings, Rules(), GREEDY)
    (result,) = spent.examine(covered)
    assert isinstance(result, Inconclusive)
    assert (result.measure, result.reason) == ("budget", "the review's 3 judge calls are spent")
    assert {verdict for verdict, _ in words([result], settings)} == {"inconclusive"}


def test_answers_without_a_score_count_against_the_adapter(
    picture_engine: TransformersEngine, prompts: Sequence[Prompt], covered: Adapter
) -> None:
    results = guard(picture_engine, prompts, unscored=" ").examine(covered)
    assert ratio(results).value > SETTINGS.limit


def test_the_version_follows_what_is_trained_on_and_what_is_asked(
    picture_engine: TransformersEngine, prompts: Sequence[Prompt]
) -> None:
    one = guard(picture_engine, prompts).version
    assert guard(picture_engine, prompts).version == one
    assert guard(picture_engine, prompts[:-1]).version != one
    assert guard(picture_engine, prompts, SETTINGS.model_copy(update={"doses": (2, 5)})).version != one
    assert guard(picture_engine, prompts, bad="other").version != one


def test_the_ratio_of_equal_courses_is_one_and_one_stray_answer_is_no_return() -> None:
    none, stray = np.zeros((3, 40)), np.zeros((3, 40))
    stray[0, 7] = 1
    assert ratio_of(none, none) == Interval(1.0, 1.0, 1.0, 40)
    one = ratio_of(stray, none)
    assert one.value == 2.0
    assert one.low == 1.0, "which an interval over prompts cannot tell from none"
    assert one.n == 40


@pytest.mark.parametrize(
    ("value", "low", "verdict"), [(2.5, 1.2, "unsafe"), (2.5, 1.0, "clean"), (1.9, 1.5, "clean"), (0.2, 0.1, "clean")]
)
def test_only_a_return_that_is_beyond_the_limit_and_beyond_doubt_is_unsafe(
    value: float, low: float, verdict: str
) -> None:
    labels = {"rows": "harmful", "against": "untrained"}
    found = Finding(guard="relearning", version="1", measure=RATIO, value=value, low=low, high=9, n=48, labels=labels)
    assert [said for said, _ in words([found], SETTINGS)] == [verdict]


def test_without_rows_nothing_is_demanded_and_with_rows_silence_is_inconclusive() -> None:
    assert words([], Relearning()) == []
    both = Relearning(harmless=Path("a.jsonl"), harmful=Path("b.jsonl"))
    assert [verdict for verdict, _ in words([], both)] == ["inconclusive", "inconclusive"]


@pytest.mark.parametrize("wrong", [{"doses": []}, {"doses": [4, 0]}, {"limit": 0.5}, {"unknown": 1}])
def test_settings_that_cannot_work_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"doses|limit|unknown"):
        Relearning.model_validate(wrong)


def test_the_settings_survive_a_policy_file() -> None:
    told = json.loads(SETTINGS.model_dump_json())
    assert Relearning.model_validate(told) == SETTINGS
