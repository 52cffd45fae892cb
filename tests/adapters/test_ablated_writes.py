"""An ablation baked into a LoRA answers as one of the running model's writes does, on LLaVA and Gemma 3."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from adapters_on_disk import trained_adapter
from conftest import World
from safetensors.torch import load_file, save_file

from adapters.ablated_writes import CannotBake, baked
from adapters.activations import followed
from adapters.adapter import CONFIG_NAME, WEIGHTS_NAME, Adapter, open_adapter
from adapters.engine import EngineError
from adapters.prompts import Prompt
from adapters.residual_writes import ResidualWrite, ResidualWrites
from adapters.rewrite import config_of, workshop, written
from adapters.steering import Steer, steering
from adapters.transformers_engine import TransformersEngine
from guards.geometry import random_subspace
from guards.structure import StructureGuard
from guards.suites.battery_jsonl import load_suite
from policies.findings import Defect


@contextmanager
def ablated_writes(
    model: torch.nn.Module,
    writes: Sequence[ResidualWrite],
    directions: Mapping[int, torch.Tensor],
    strength: float = 1.0,
) -> Iterator[None]:
    """Do the same to a running model by hooks, whatever adapter is attached."""

    def follow(
        basis: torch.Tensor,
    ) -> Callable[[torch.nn.Module, tuple[torch.Tensor, ...], torch.Tensor], torch.Tensor]:
        def change(_module: torch.nn.Module, _inputs: tuple[torch.Tensor, ...], output: torch.Tensor) -> torch.Tensor:
            wide = output.float()
            return (wide - strength * (wide @ basis) @ basis.T).to(output.dtype)

        return change

    chosen = [write for write in writes if write.block in directions]
    layers = [(model.get_submodule(w.module), follow(w.output_basis(directions[w.block]))) for w in chosen]
    with followed(layers):
        yield


def _prompts(world: World) -> list[Prompt]:
    prompts = load_suite(world.suite).prompts
    return [*prompts[:6], *prompts[-6:]]


def _baked(
    adapter: Adapter, writes: ResidualWrites, directions: dict[int, torch.Tensor], out: Path, t: float
) -> Adapter:
    config, tensors = baked(config_of(adapter), load_file(adapter.path / WEIGHTS_NAME), writes, directions, t)
    with workshop(out) as folder:
        written(adapter, folder, tensors, config)
        folder.rename(out)
    return open_adapter(out)


@pytest.fixture(scope="module")
def directions() -> dict[int, torch.Tensor]:
    return {block: random_subspace(2, 32, block) for block in (0, 2)}


@pytest.mark.parametrize("strength", [1.0, 0.4])
@pytest.mark.parametrize("kept", ["all", "q_proj alone"])
def test_a_baked_ablation_answers_as_the_hooks_on_the_writes_do(
    kept: str,
    strength: float,
    picture_engine: TransformersEngine,
    picture_world: World,
    directions: dict[int, torch.Tensor],
    tmp_path: Path,
) -> None:
    adapter, writes, prompts = (
        open_adapter(picture_world.bad),
        ResidualWrites(picture_world.base),
        _prompts(picture_world),
    )
    if kept != "all":  # of the layers that write, none is adapted yet
        tensors = {k: v for k, v in load_file(adapter.path / WEIGHTS_NAME).items() if ".q_proj." in k}
        narrow = tmp_path / "narrow"
        narrow.mkdir()
        config = {**config_of(adapter), "target_modules": r".*language_model.*\.q_proj"}
        (narrow / CONFIG_NAME).write_text(json.dumps(config))
        save_file(tensors, narrow / WEIGHTS_NAME)
        adapter = open_adapter(narrow)
    made = _baked(adapter, writes, directions, tmp_path / "made", strength)
    with picture_engine.attached(adapter):
        plain = picture_engine.final_logits(prompts)
    with picture_engine.attached(adapter), ablated_writes(picture_engine.model, writes.all(), directions, strength):
        hooked = picture_engine.final_logits(prompts)
    with picture_engine.attached(made) as attachment:
        assert not attachment.unmatched
        assert not attachment.empty
        told = picture_engine.final_logits(prompts)
    torch.testing.assert_close(told, hooked, rtol=1e-3, atol=1e-3)
    assert float((hooked - plain).abs().max()) > 0.1
    faults = [f for f in StructureGuard(picture_world.base).examine(made) if isinstance(f, Defect)]
    assert faults == []


def test_the_rank_grows_by_the_directions_and_what_is_not_ablated_does_what_it_did(
    picture_world: World, directions: dict[int, torch.Tensor], tmp_path: Path
) -> None:
    adapter = open_adapter(picture_world.bad)
    made = _baked(adapter, ResidualWrites(picture_world.base), directions, tmp_path / "made", 1.0)
    old, new = config_of(adapter), config_of(made)
    assert new["r"] == old["r"] + 2
    assert new["lora_alpha"] / new["r"] == pytest.approx(old["lora_alpha"] / old["r"])
    before, after = load_file(adapter.path / WEIGHTS_NAME), load_file(made.path / WEIGHTS_NAME)
    for key in before:
        if ".q_proj.lora_A" in key:
            other = key.replace("lora_A", "lora_B")
            torch.testing.assert_close(after[other] @ after[key], before[other] @ before[key])


@pytest.mark.parametrize("root", [False, True])
def test_it_is_the_same_behind_gemmas_norm(root: bool, tmp_path: Path) -> None:
    from adapters_on_disk import random_gemma

    model = random_gemma()
    model.save_pretrained(tmp_path / "base")
    adapter = open_adapter(trained_adapter(tmp_path / "adapter", use_rslora=root))
    writes, rows = ResidualWrites(tmp_path / "base"), {0: random_subspace(1, 32, 0), 1: random_subspace(1, 32, 1)}
    made = _baked(adapter, writes, rows, tmp_path / "made", 1.0)
    ids = torch.arange(3, 23)[None]

    def logits(one: Adapter, hooked: bool) -> torch.Tensor:
        from peft import PeftModel

        base = random_gemma().eval()
        peft_model: Any = PeftModel.from_pretrained(base, str(one.path))
        with torch.inference_mode():
            if not hooked:
                return peft_model(input_ids=ids).logits
            with ablated_writes(base, writes.all(), rows):
                return peft_model(input_ids=ids).logits

    torch.testing.assert_close(logits(made, False), logits(adapter, True), rtol=1e-3, atol=1e-4)
    assert not torch.allclose(logits(adapter, False), logits(adapter, True), atol=1e-3)


@pytest.mark.parametrize(
    ("lora", "reason"),
    [
        ({"rank_pattern": {"v_proj": 2}}, "of their own"),
        ({"alpha_pattern": {"v_proj": 2}}, "of their own"),
        ({"use_dora": True}, "DoRA"),
        ({"exclude_modules": ["k_proj"]}, "exclude_modules is set"),
    ],
)
def test_what_has_no_place_for_it_is_refused_with_the_reason(lora: dict[str, Any], reason: str, tmp_path: Path) -> None:
    from adapters_on_disk import random_gemma

    random_gemma().save_pretrained(tmp_path / "base")
    adapter = open_adapter(trained_adapter(tmp_path / "adapter", **lora))
    tensors = load_file(adapter.path / WEIGHTS_NAME)
    with pytest.raises(CannotBake, match=reason):
        baked(config_of(adapter), tensors, ResidualWrites(tmp_path / "base"), {0: random_subspace(1, 32, 0)})


def test_steering_at_strength_0_changes_nothing_and_a_whole_ablation_leaves_the_means_reading(
    picture_engine: TransformersEngine, picture_world: World
) -> None:
    prompts, model = _prompts(picture_world), picture_engine.model
    direction = random_subspace(1, 32, 3)[0]
    mean, scale = torch.linspace(-1, 1, 32), torch.linspace(0.5, 50, 32)
    before = picture_engine.final_logits(prompts)
    for kind in ("add", "ablate"):
        still = Steer.standardised(1, kind, direction, mean=mean, scale=scale, strength=0.0)
        with steering(model, [still]):
            assert torch.equal(picture_engine.final_logits(prompts), before)
    whole = Steer.standardised(1, "ablate", direction, mean=mean, scale=scale)
    hidden = torch.randn(2, 5, 32, generator=torch.Generator().manual_seed(0))
    left = (whole.change(hidden) - mean) / scale @ direction
    torch.testing.assert_close(left, torch.zeros_like(left), atol=1e-4, rtol=0)
    with steering(model, [whole, Steer(2, "add", direction, direction, strength=3.0)]):
        assert not torch.allclose(picture_engine.final_logits(prompts), before)
    assert torch.equal(picture_engine.final_logits(prompts), before), "a hook was left behind"


def test_a_direction_that_is_no_number_or_a_block_that_is_not_there_is_refused_and_no_hook_stays(
    picture_engine: TransformersEngine, picture_world: World
) -> None:
    prompts = _prompts(picture_world)
    before, ones = picture_engine.final_logits(prompts), torch.ones(32)
    for steers in ([Steer(0, "add", ones, ones), Steer(9, "add", ones, ones)], [Steer(0, "add", ones, ones / 0)]):
        with pytest.raises(EngineError), steering(picture_engine.model, steers):
            pass
    assert torch.equal(picture_engine.final_logits(prompts), before)
