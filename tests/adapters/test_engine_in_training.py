"""Reading a model that is being trained gives what a review would read, and leaves no trace in the training."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
import torch
from conftest import World
from trained_world import harmful_rows, learnt, live, train
from transformers import TrainerCallback

from adapters.adapter import open_adapter
from adapters.engine import Layer
from adapters.engine_in_training import EngineInTraining, NotALora, require_lora, undisturbed
from adapters.prompts import Prompt
from adapters.transformers_engine import TransformersEngine
from guards.suites.battery_jsonl import load_suite

LAYERS = [Layer("decoder", 0), Layer("decoder", 2)]


@pytest.fixture
def probes(picture_world: World) -> list[Prompt]:
    prompts = load_suite(picture_world.suite).prompts
    return [*prompts[:5], *prompts[40:45]]


def _draw_and_fail() -> None:
    torch.rand(3)
    raise ValueError("while it draws")


class _Reader(TrainerCallback):
    """Reads after every step, with the adapter and without."""

    def __init__(self, world: World, probes: list[Prompt]) -> None:
        self.world, self.probes, self.reads = world, probes, 0

    def on_step_end(self, args, state, control, model=None, **_) -> None:  # type: ignore[no-untyped-def]
        engine = EngineInTraining(model, self.world.base)
        for without in (False, True):
            engine.activations(self.probes, LAYERS, without_adapter=without)
        self.reads += 1


@pytest.mark.parametrize("checkpointing", [False, True])
def test_a_training_that_is_read_ends_bit_for_bit_as_one_that_is_not(
    picture_world: World, probes: list[Prompt], tmp_path: Path, checkpointing: bool
) -> None:
    ended = []
    for callbacks in ([], [_Reader(picture_world, probes)]):
        model = live(picture_world.base)
        train(
            model,
            picture_world.base,
            harmful_rows(picture_world),
            tmp_path,
            callbacks,
            activation_checkpointing=checkpointing,
        )
        ended.append(learnt(model))
    assert callbacks[0].reads == 6
    assert all(torch.equal(value, ended[1][name]) for name, value in ended[0].items())
    assert any(value.abs().sum() > 0 for name, value in ended[0].items() if "lora_B" in name)


def test_mode_frozen_parameters_and_random_numbers_are_put_back_exactly(
    picture_world: World, probes: list[Prompt]
) -> None:
    model = live(picture_world.base).train()
    odd = model.get_base_model().model.language_model.layers[1]
    odd.eval()  # a module that its trainer keeps in another mode than the rest
    frozen = next(p for n, p in model.named_parameters() if "lora_A" in n)
    frozen.requires_grad_(False)  # PEFT would let it learn again
    modes = {name: module.training for name, module in model.named_modules()}
    flags = {name: parameter.requires_grad for name, parameter in model.named_parameters()}
    states = torch.get_rng_state(), random.getstate()
    engine = EngineInTraining(model, picture_world.base)
    engine.activations(probes, LAYERS, without_adapter=True)
    with pytest.raises(ValueError, match="while it draws"), undisturbed(model):
        _draw_and_fail()
    assert modes == {name: module.training for name, module in model.named_modules()}
    assert flags == {name: parameter.requires_grad for name, parameter in model.named_parameters()}
    assert torch.equal(states[0], torch.get_rng_state())
    assert states[1] == random.getstate()
    assert all(not layer._disable_adapters for layer in model.modules() if hasattr(layer, "_disable_adapters"))


def test_what_is_read_is_what_a_review_of_the_saved_adapter_reads(
    picture_world: World, probes: list[Prompt], picture_engine: TransformersEngine, tmp_path: Path
) -> None:
    model = live(picture_world.base)
    train(model, picture_world.base, harmful_rows(picture_world), tmp_path / "trainer")
    model.save_pretrained(str(tmp_path / "adapter"), save_embedding_layers=False)
    engine = EngineInTraining(model, picture_world.base)
    base = picture_engine.activations(probes, LAYERS)
    with picture_engine.attached(open_adapter(tmp_path / "adapter")):
        reviewed = picture_engine.activations(probes, LAYERS)
    read = engine.activations(probes, LAYERS)
    plain = engine.activations(probes, LAYERS, without_adapter=True)
    for layer in LAYERS:
        torch.testing.assert_close(read[layer], reviewed[layer])
        torch.testing.assert_close(plain[layer], base[layer])
        assert (read[layer] - plain[layer]).abs().max() > 1e-2
    assert engine.base_digest == picture_engine.base_digest


def test_what_carries_no_lora_that_learns_is_refused(picture_world: World) -> None:
    model = live(picture_world.base)
    with pytest.raises(NotALora, match="peft_config"):
        require_lora(model.get_base_model())
    with pytest.raises(NotALora, match="peft_config"):
        EngineInTraining(None, picture_world.base)
    model.merge_adapter()
    with pytest.raises(NotALora, match="merged"):
        EngineInTraining(model, picture_world.base)
