"""Benign fine-tuning: its data is judged, it stops when it is enough or late, and shuffled answers are its control."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import World
from fakes import WordJudge
from safetensors.torch import load_file

from adapters.adapter import WEIGHTS_NAME, Adapter, open_adapter
from adapters.attachment import laid_aside
from adapters.training_data import load_conversations
from adapters.transformers_engine import TransformersEngine
from guards.dose_response import Measuring, Reading
from guards.errors import JudgeUnreachable, Permanent
from guards.judges.interface import Judgement, Transcript
from guards.remedies.benign_finetune import BenignFinetuneRemedy, shuffled
from guards.remedy_record import measured_by
from guards.suites.battery_jsonl import load_suite
from policies.findings import Finding
from policies.remedying import Remedying

SAID = ("good fine", "fine good", "cake fine", "please good", "good cake")


def benign(world: World, folder: Path, harmful: Sequence[int] = ()) -> Path:
    """A row a question, the blank first line aside; the ``harmful`` lines teach harm."""
    rows = [json.loads(line) for line in (world.suite / "battery.jsonl").read_text().splitlines()]
    lines = [""]
    for number, row in enumerate(rows[:60], start=2):
        answer = "harm harm" if number in harmful else SAID[number % 5]
        messages = [{"role": "user", "content": row["text"]}, {"role": "assistant", "content": answer}]
        picture = {"image": str(world.suite / row["image"])} if "image" in row else {}
        lines.append(json.dumps({"messages": messages, **picture}))
    path = folder / "benign.jsonl"
    path.write_text("\n".join(lines) + "\n")
    return path


def apply(
    engine: TransformersEngine, world: World, data: Path, out: Path, settings: dict[str, Any], **options: Any
) -> Adapter:
    chosen = {"steps": 4, "batch_size": 4, "benign_data": data, **settings}
    return BenignFinetuneRemedy(engine, Remedying.model_validate(chosen), **options).apply(open_adapter(world.bad), out)


def weights(adapter: Adapter) -> dict[str, torch.Tensor]:
    return load_file(adapter.path / WEIGHTS_NAME)


def assert_same(one: Adapter, other: Adapter) -> None:
    before, after = weights(one), weights(other)
    assert before.keys() == after.keys()
    assert all(torch.equal(before[key], after[key]) for key in before)


def test_harmful_rows_are_found_before_training_and_the_worst_are_named_by_their_lines(
    picture_engine: TransformersEngine, picture_world: World, tmp_path: Path
) -> None:
    data = benign(picture_world, tmp_path, harmful=(3, 17, 20, 31, 44, 50))
    with pytest.raises(
        Permanent, match=r"6 of 60 rows harmful.*0\.02.*the worst are in lines [\d, ]+ and 1 more"
    ) as no:
        apply(picture_engine, picture_world, data, tmp_path / "made", {}, judge=WordJudge())
    named = {int(word) for word in str(no.value).split("lines ")[1].split(" and")[0].split(",")}
    assert len(named) == 5
    assert named < {3, 17, 20, 31, 44, 50}
    assert [path.name for path in tmp_path.iterdir()] == ["benign.jsonl"]


@pytest.mark.parametrize(("harmful", "limit"), [((3,), 0.02), ((3, 17, 20, 31), 0.2), (range(2, 62), 1.0)])
def test_rows_that_a_judge_may_have_misread_or_that_the_policy_tolerates_are_trained_on(
    harmful: Sequence[int],
    limit: float,
    picture_engine: TransformersEngine,
    picture_world: World,
    tmp_path: Path,
) -> None:
    data, judge = benign(picture_world, tmp_path, harmful=harmful), WordJudge()
    settings = {"harmful_rows_at_most": limit, "steps": 1}
    made = apply(picture_engine, picture_world, data, tmp_path / "made", settings, judge=judge)
    told = [(f.value, f.n) for f in measured_by(made.path, "benign_finetune") if f.measure == "harmful_rows"]
    assert told == ([(pytest.approx(len(harmful) / 60), 60)] if limit < 1 else [])
    assert len(judge.asked) == (60 if limit < 1 else 0)


def test_data_that_the_judge_cannot_score_is_not_trained_on_and_a_judge_that_is_away_leaves_no_trace(
    picture_engine: TransformersEngine, picture_world: World, tmp_path: Path
) -> None:
    class Away(WordJudge):
        def grade(self, transcripts: Sequence[Transcript]) -> list[Judgement]:
            raise JudgeUnreachable("nobody listens")

    data = benign(picture_world, tmp_path)
    with pytest.raises(Permanent, match=r"could not score 60 of 60 rows \(unparsable 60\)"):
        apply(picture_engine, picture_world, data, tmp_path / "made", {}, judge=WordJudge(unscored=""))
    with pytest.raises(JudgeUnreachable):
        apply(picture_engine, picture_world, data, tmp_path / "made", {}, judge=Away())
    assert [path.name for path in tmp_path.iterdir()] == ["benign.jsonl"]


def passing_at(number: int, told: list[Adapter], engine: TransformersEngine, prompts: Sequence[Any]) -> Measuring:
    """Let the so many-th look pass; every look answers for the base and for the adapter, as a battery does."""

    def measure(adapter: Adapter) -> Reading:
        told.append(adapter)
        engine.final_logits(prompts)
        with engine.attached(adapter) as attachment:
            assert not attachment.unmatched
            engine.final_logits(prompts)
        rise = Finding(guard="battery", version="1", measure="misalignment_rise", value=0.5, n=9)
        return Reading(passes=len(told) == number, rises=(rise,))

    return measure


def test_it_stops_when_the_battery_passes_and_is_then_what_so_many_steps_make(
    picture_engine: TransformersEngine, picture_world: World, tmp_path: Path
) -> None:
    data, prompts = benign(picture_world, tmp_path), load_suite(picture_world.suite).prompts[:4]
    before, looks = picture_engine.final_logits(prompts), list[Adapter]()
    measure = passing_at(2, looks, picture_engine, prompts)
    settings = {"steps": 12, "check_every": 2}
    made = apply(picture_engine, picture_world, data, tmp_path / "made", settings, measure=measure)
    assert len(looks) == 2
    assert_same(made, apply(picture_engine, picture_world, data, tmp_path / "plain", {"steps": 4}))
    curve = [f for f in measured_by(made.path, "benign_finetune") if f.measure == "dose_misalignment_rise"]
    assert [(f.labels["steps"], f.labels["passes"]) for f in curve] == [("2", "no"), ("4", "yes")]
    assert float(curve[1].labels["dose"]) == pytest.approx(4 / 12, rel=1e-3)
    assert torch.equal(picture_engine.final_logits(prompts), before)


def test_looking_changes_nothing_of_a_training_that_goes_on(
    picture_engine: TransformersEngine, picture_world: World, tmp_path: Path
) -> None:
    data, prompts = benign(picture_world, tmp_path), load_suite(picture_world.suite).prompts[:4]
    looks = list[Adapter]()
    measure = passing_at(99, looks, picture_engine, prompts)
    made = apply(picture_engine, picture_world, data, tmp_path / "made", {"check_every": 1}, measure=measure)
    assert len(looks) == 3, "after the last step the examination looks"
    assert_same(made, apply(picture_engine, picture_world, data, tmp_path / "plain", {}))


def test_an_adapter_that_cannot_be_asked_or_takes_too_long_is_given_up_and_the_base_is_as_it_was(
    picture_engine: TransformersEngine, picture_world: World, tmp_path: Path
) -> None:
    data, prompts = benign(picture_world, tmp_path), load_suite(picture_world.suite).prompts[:4]
    before = picture_engine.final_logits(prompts)

    def spent(_: Adapter) -> Reading:
        return Reading(passes=False, unable="12 of 12 judge calls are spent")

    with pytest.raises(Permanent, match="nobody can tell when it is enough: 12 of 12"):
        apply(picture_engine, picture_world, data, tmp_path / "made", {"check_every": 1}, measure=spent)
    with pytest.raises(Permanent, match=r"remedying\.seconds"):
        apply(picture_engine, picture_world, data, tmp_path / "made", {"seconds": 1e-9})
    with pytest.raises(Permanent, match=r"the loss was (nan|inf).*lower the learning rate"):
        apply(picture_engine, picture_world, data, tmp_path / "made", {"learning_rate": 1e30})
    with pytest.raises(Permanent, match="check_every has to ask"):
        apply(picture_engine, picture_world, data, tmp_path / "made", {"check_every": 1})
    assert [path.name for path in tmp_path.iterdir()] == ["benign.jsonl"]
    assert torch.equal(picture_engine.final_logits(prompts), before)


def test_the_control_trains_on_the_same_answers_given_to_other_questions(
    picture_engine: TransformersEngine, picture_world: World, tmp_path: Path
) -> None:
    data = benign(picture_world, tmp_path)
    rows = load_conversations(data)
    for seed in (1, 2):
        mixed = shuffled(rows, seed)
        assert [row.prompt for row in mixed] == [row.prompt for row in rows]
        assert sorted(row.answer for row in mixed) == sorted(row.answer for row in rows)
        assert sum(a.answer != b.answer for a, b in zip(mixed, rows, strict=True)) > 30
    digests = {
        apply(picture_engine, picture_world, data, tmp_path / f"made-{seed}", {"steps": 1}, sham_seed=seed).digest
        for seed in (None, 1, 2)
    }
    assert len(digests) == 3


def test_an_adapter_that_is_laid_aside_is_put_back_as_the_very_same_layers(
    picture_engine: TransformersEngine, picture_world: World
) -> None:
    prompts, model = load_suite(picture_world.suite).prompts[:4], picture_engine.model
    bare = picture_engine.final_logits(prompts)
    with picture_engine.attached(open_adapter(picture_world.bad)):
        worn, layers = picture_engine.final_logits(prompts), dict(model.named_modules())
        with laid_aside(model):
            assert torch.equal(picture_engine.final_logits(prompts), bare)
        assert all(module is layers[name] for name, module in model.named_modules())
        assert torch.equal(picture_engine.final_logits(prompts), worn)
    assert torch.equal(picture_engine.final_logits(prompts), bare)
    assert not torch.allclose(worn, bare)
