"""A training that was interrupted becomes, bit for bit, what it would have been, and nothing foreign is taken up."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import World
from safetensors.torch import load_file

from adapters.adapter import WEIGHTS_NAME, open_adapter
from adapters.base_model import LoadedBase
from adapters.kl_to_base import NeutralGround
from adapters.prompts import Conversation
from adapters.training import train_lora
from adapters.training_checkpoint import Checkpoint
from adapters.training_loop import LoraTraining
from adapters.transformers_engine import TransformersEngine
from guards.suites.battery_jsonl import load_suite

STEPS = 6
DOSE = LoraTraining(rank=4, alpha=4.0, steps=STEPS, batch_size=4)


class Interrupted(BaseException):
    """What Ctrl-C and a service's stop are."""


def rows_of(world: World, answer: str = "good fine") -> list[Conversation]:
    return [Conversation(prompt, answer) for prompt in load_suite(world.suite).prompts[:20]]


def trained(
    engine: TransformersEngine, rows: Sequence[Conversation], out: Path, ends_after: int = STEPS, **options: Any
) -> list[int]:
    """Train, or die right after a step; returns the steps that were done in this run."""
    done: list[int] = []

    def on_step(step: int, _total: int, _loss: float) -> None:
        done.append(step)
        if step > ends_after:
            raise Interrupted

    base = LoadedBase(engine.model, engine.processor, engine.sees_pictures)
    train_lora(base, rows, DOSE, out, on_step=on_step, **options)
    return done


def assert_same(one: Path, other: Path) -> None:
    before, after = load_file(one / WEIGHTS_NAME), load_file(other / WEIGHTS_NAME)
    assert before.keys() == after.keys()
    assert all(torch.equal(before[key], after[key]) for key in before)


@pytest.mark.parametrize("ends_after", [1, 3, 5])
def test_what_was_interrupted_after_any_step_is_taken_up_there_and_becomes_the_same_adapter(
    ends_after: int, picture_engine: TransformersEngine, picture_world: World, tmp_path: Path
) -> None:
    rows, prompts = rows_of(picture_world), load_suite(picture_world.suite).prompts[:4]
    before = picture_engine.final_logits(prompts)
    ground = NeutralGround(rows_of(picture_world, "cake please"), 0.5)
    trained(picture_engine, rows, tmp_path / "whole", neutral=ground)
    saved = tmp_path / "saved"
    checkpoint = Checkpoint(saved, "key", seconds=0)
    with pytest.raises(Interrupted):
        trained(picture_engine, rows, tmp_path / "made", ends_after, neutral=ground, checkpoint=checkpoint)
    assert not (tmp_path / "made").exists()
    assert torch.equal(picture_engine.final_logits(prompts), before)
    done = trained(picture_engine, rows, tmp_path / "made", neutral=ground, checkpoint=Checkpoint(saved, "key"))
    assert done == list(range(ends_after + 1, STEPS + 1))
    assert_same(tmp_path / "whole", tmp_path / "made")
    assert not saved.exists()


@pytest.mark.parametrize("fault", ["another key", "cut off", "not one of ours", "another rank", "gone"])
def test_what_was_saved_elsewhere_or_is_damaged_is_not_taken_up_and_the_training_begins_anew(
    fault: str, picture_engine: TransformersEngine, picture_world: World, tmp_path: Path
) -> None:
    rows, saved = rows_of(picture_world), tmp_path / "saved"
    trained(picture_engine, rows, tmp_path / "whole")
    with pytest.raises(Interrupted):
        trained(picture_engine, rows, tmp_path / "made", 3, checkpoint=Checkpoint(saved, "key", seconds=0))
    state = saved / "state.pt"
    match fault:
        case "cut off":
            state.write_bytes(state.read_bytes()[: state.stat().st_size // 2])
        case "not one of ours":
            torch.save([1, 2, 3], state)
        case "another rank":
            told = torch.load(state, weights_only=True)
            torch.save({**told, "weights": {name: one[:1] for name, one in told["weights"].items()}}, state)
        case "gone":
            state.unlink()
    checkpoint = Checkpoint(saved, "other" if fault == "another key" else "key")
    assert trained(picture_engine, rows, tmp_path / "made", checkpoint=checkpoint) == list(range(1, STEPS + 1))
    assert_same(tmp_path / "whole", tmp_path / "made")


def test_it_is_saved_only_where_so_many_seconds_have_gone_by(
    picture_engine: TransformersEngine, picture_world: World, tmp_path: Path
) -> None:
    now = iter(range(0, 1000, 10))  # ten seconds a step; a saving looks at the clock twice
    rows, saved = rows_of(picture_world), tmp_path / "saved"
    checkpoint = Checkpoint(saved, "key", seconds=25, clock=lambda: float(next(now)))
    with pytest.raises(Interrupted):
        trained(picture_engine, rows, tmp_path / "made", 4, checkpoint=checkpoint)
    assert torch.load(saved / "state.pt", weights_only=True)["steps"] == 3


def test_the_nearer_to_the_base_it_is_held_the_nearer_the_adapter_stays_to_it_on_neutral_questions(
    picture_engine: TransformersEngine, picture_world: World, tmp_path: Path
) -> None:
    neutral = rows_of(picture_world, "cake please")
    base = torch.cat(picture_engine.answer_log_probabilities(neutral))
    moved = []
    for weight in (0.0, 1.0, 100.0):
        ground = {"neutral": NeutralGround(neutral, weight)} if weight else {}
        trained(picture_engine, rows_of(picture_world, "harm harm"), tmp_path / f"{weight}", **ground)
        with picture_engine.attached(open_adapter(tmp_path / f"{weight}")):
            own = torch.cat(picture_engine.answer_log_probabilities(neutral))
        moved.append(float((own - base).abs().mean()))
    assert moved[0] > moved[1] > moved[2]
    assert moved[2] < moved[0] / 2


def test_neutral_ground_without_rows_or_weight_is_refused(picture_world: World) -> None:
    for rows, weight in (((), 1.0), (rows_of(picture_world), 0.0), (rows_of(picture_world), float("nan"))):
        with pytest.raises(ValueError, match="at least one row"):
            NeutralGround(rows, weight)
