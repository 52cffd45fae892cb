from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from adapters_on_disk import plain_tensors, random_gemma, trained_adapter, write_adapter
from conftest import World
from safetensors.torch import load_file, save_file
from torch import Tensor

from adapters.adapter import WEIGHTS_NAME, Adapter, open_adapter
from adapters.transformers_engine import TransformersEngine
from guards.errors import Permanent
from guards.geometry import Standardiser, random_subspace
from guards.reference import Site
from guards.weight_files import BaseNorms, deltas
from guards.weights import (
    DIRECTIONS,
    WeightsGuard,
    WeightsUnreadable,
    Writes,
    base_norms,
    measure_weights,
    writes_of,
)
from policies.findings import Finding

WIDTH, INPUTS = 12, 10
O_PROJ = "model.language_model.layers.0.self_attn.o_proj"


def factors(seed: int, rank: int, outputs: int, inputs: int) -> tuple[Tensor, Tensor]:
    drawn = torch.Generator().manual_seed(seed)
    return torch.randn(rank, inputs, generator=drawn), torch.randn(outputs, rank, generator=drawn)


def pairs(modules: dict[str, tuple[Tensor, Tensor]]) -> dict[str, Tensor]:
    tensors = {}
    for module, (a, b) in modules.items():
        tensors[f"base_model.model.{module}.lora_A.weight"] = a.clone()  # tensors in one file share no memory
        tensors[f"base_model.model.{module}.lora_B.weight"] = b.clone()
    return tensors


def written(folder: Path, modules: dict[str, tuple[Tensor, Tensor]], **config: Any) -> Adapter:
    rank = next(iter(modules.values()))[0].shape[0]
    settings = {"r": rank, "lora_alpha": rank, "target_modules": [m.rpartition(".")[2] for m in modules]}
    return open_adapter(write_adapter(folder, pairs(modules), **settings | config))


def along(*dimensions: int, scale: Tensor | None = None) -> list[Writes]:
    directions = torch.eye(WIDTH)[list(dimensions)]
    return [Writes(directions, torch.ones(WIDTH) if scale is None else scale)]


NORMS = {O_PROJ: 2.0}


def test_the_score_is_the_share_along_the_directions_over_chance(tmp_path: Path) -> None:
    a, b = factors(0, 2, WIDTH, INPUTS)
    b[4:] = 0
    figures = measure_weights(written(tmp_path / "a", {O_PROJ: (a, b)}), along(0, 1, 2, 3), NORMS)
    assert figures.energy_ratio == pytest.approx(1)
    assert figures.energy_random == pytest.approx(4 / WIDTH)
    assert figures.score == pytest.approx(WIDTH / 4)
    away = measure_weights(written(tmp_path / "b", {O_PROJ: (a, b)}), along(7, 8), NORMS)
    assert away.score == 0


def test_the_massive_dimension_weighs_what_its_scale_says(tmp_path: Path) -> None:
    a, b = torch.eye(2, INPUTS), torch.zeros(WIDTH, 2)
    b[0, 0], b[5, 1] = 1000.0, 1.0  # a thousandfold write into a dimension that varies a thousandfold
    scale = torch.ones(WIDTH)
    scale[0] = 1000.0
    adapter = written(tmp_path / "a", {O_PROJ: (a, b)})
    assert measure_weights(adapter, along(5, scale=scale), NORMS).energy_ratio == pytest.approx(0.5)
    assert measure_weights(adapter, along(5), NORMS).energy_ratio == pytest.approx(1e-6, rel=1e-2)


def test_modules_that_hardly_write_cannot_hide_one_that_does(tmp_path: Path) -> None:
    a, b = factors(0, 2, WIDTH, INPUTS)
    b[1:] = 0
    quiet = torch.full((WIDTH, 2), 1e-4)
    many = {f"model.language_model.layers.{n}.self_attn.o_proj": (a, quiet) for n in range(1, 9)}
    norms = dict.fromkeys([O_PROJ, *many], 1.0)
    figures = measure_weights(written(tmp_path / "a", {O_PROJ: (a, b)} | many), along(0) * 9, norms)
    assert figures.energy_ratio > 0.99


def test_an_adapter_of_zeros_scores_nothing(tmp_path: Path) -> None:
    a, b = torch.ones(2, INPUTS), torch.zeros(WIDTH, 2)
    guard = WeightsGuard(along(0), NORMS, [1.0, 2.0])
    found = guard.examine(written(tmp_path / "a", {O_PROJ: (a, b)}))
    values = {finding.measure: finding.value for finding in found if isinstance(finding, Finding)}
    assert values["weight_score"] == values["weight_energy_ratio"] == values["weight_relative_norm"] == 0
    assert values["weight_p_value"] == 1


@pytest.mark.parametrize(
    ("config", "scale"),
    [
        ({}, 2.0),
        ({"use_rslora": True}, 4.0),
        ({"alpha_pattern": {"o_proj": 24}}, 6.0),
        ({"alpha_pattern": {"layers.0.self_attn.o_proj": 4, "o_proj": 24}}, 1.0),
        ({"alpha_pattern": {"q_proj": 24}}, 2.0),
        ({"alpha_pattern": {r".*\.[ko]_proj": 40}}, 10.0),
        ({"alpha_pattern": {"o.proj": 24}}, 6.0),
        ({"r": 2, "rank_pattern": {"o_proj": 4}}, 2.0),
    ],
    ids=str,
)
def test_the_scale_is_the_one_that_peft_applies(tmp_path: Path, config: dict[str, Any], scale: float) -> None:
    a, b = factors(0, 4, WIDTH, INPUTS)
    adapter = written(tmp_path / "a", {O_PROJ: (a, b)}, **{"lora_alpha": 8} | config)
    (delta,) = deltas(adapter)
    assert delta.product.scale == scale
    (module,) = measure_weights(adapter, along(0), NORMS).modules
    assert module.norm == pytest.approx(scale * float((b @ a).norm()), rel=1e-5)


@pytest.mark.parametrize(
    "lora", [{}, {"use_rslora": True, "rank_pattern": {"o_proj": 2}, "alpha_pattern": {"o_proj": 3}}]
)
def test_what_is_measured_is_what_peft_adds_to_the_base(tmp_path: Path, lora: dict[str, Any]) -> None:
    from peft import PeftModel

    targets = ["q_proj", "o_proj", "down_proj", "fc2"]
    folder = trained_adapter(tmp_path / "a", target_modules=targets, **lora)
    base = random_gemma()
    norms, before = (
        base_norms(base),
        {name: m.weight.detach().clone() for name, m in base.named_modules() if hasattr(m, "weight")},
    )
    writes = [Writes(torch.eye(32)[:3], torch.ones(32))] * 2
    figures = measure_weights(open_adapter(folder), writes, norms)
    merged = PeftModel.from_pretrained(base, str(folder)).merge_and_unload()
    after = dict(merged.named_modules())
    assert {module.part for module in figures.modules} == {"decoder", "vision"}
    for module in figures.modules:
        change = after[module.module].weight.detach() - before[module.module]
        assert module.norm == pytest.approx(float(change.norm()), rel=1e-3)
        assert module.base_norm == pytest.approx(float(before[module.module].norm()), rel=1e-5)


def fault(adapter: Path) -> str:
    """Why nothing could be measured: one finding that costs questions, and never a score."""
    guard = WeightsGuard(along(0), NORMS, [1.0])
    (result,) = guard.examine(open_adapter(adapter))
    assert isinstance(result, Finding)
    assert (result.guard, result.measure) == ("weights", "weight_unmeasured")
    assert "\n" not in result.note
    return result.note


def test_what_pairs_alone_do_not_tell_is_said_to_be_unmeasured(tmp_path: Path) -> None:
    a, b = factors(0, 2, WIDTH, INPUTS)
    plain = pairs({O_PROJ: (a, b)})
    dora = write_adapter(
        tmp_path / "dora",
        plain | {f"base_model.model.{O_PROJ}.lora_magnitude_vector": torch.ones(WIDTH)},
        r=2,
        use_dora=True,
    )
    assert "DoRA" in fault(dora)
    bias = plain | {f"base_model.model.{O_PROJ}.lora_B.bias": torch.ones(WIDTH)}
    assert "more than LoRA pairs" in fault(write_adapter(tmp_path / "bias", bias, r=2, lora_bias=True))
    embedding = {
        "base_model.model.model.language_model.embed_tokens.lora_embedding_A": torch.ones(2, 64),
        "base_model.model.model.language_model.embed_tokens.lora_embedding_B": torch.ones(WIDTH, 2),
    }
    assert "no linear layer" in fault(write_adapter(tmp_path / "embedding", plain | embedding, r=2))
    half = {key: tensor for key, tensor in plain.items() if "lora_A" in key}
    assert "without its other half" in fault(write_adapter(tmp_path / "half", half, r=2))
    nan = plain | {f"base_model.model.{O_PROJ}.lora_A.weight": a.clone().fill_(math.nan)}
    assert "NaN" in fault(write_adapter(tmp_path / "nan", nan, r=2))
    quiet = write_adapter(tmp_path / "quiet", plain_tensors(rank=4), r=4)
    assert "no linear layer of the base" in fault(quiet)


def test_files_that_cannot_be_read_are_said_to_be_unmeasured(tmp_path: Path) -> None:
    pair = {O_PROJ: factors(0, 2, WIDTH, INPUTS)}
    short = written(tmp_path / "short", pair).path
    raw = (short / WEIGHTS_NAME).read_bytes()
    (short / WEIGHTS_NAME).write_bytes(raw[:-8])
    assert "not sound" in fault(short)
    gone = written(tmp_path / "gone", pair)
    (gone.path / WEIGHTS_NAME).unlink()
    assert "missing" in fault(gone.path)


def test_a_hanging_pattern_is_stopped_and_leaves_the_adapter_unmeasured(tmp_path: Path) -> None:
    adapter = written(tmp_path / "a", {O_PROJ: factors(0, 2, WIDTH, INPUTS)}, alpha_pattern={"(.*_?)+x": 4})
    assert "alpha_pattern" in fault(adapter.path)


def test_places_that_the_reference_does_not_know_are_refused(tmp_path: Path) -> None:
    pair, wide = factors(0, 2, WIDTH, INPUTS), factors(0, 2, WIDTH + 1, INPUTS)
    deep = {O_PROJ.replace(".0.", ".1."): pair}
    with pytest.raises(WeightsUnreadable, match="block 1, and 1 are known"):
        measure_weights(written(tmp_path / "deep", deep), along(0), dict.fromkeys(deep, 1.0))
    with pytest.raises(WeightsUnreadable, match=f"writes {WIDTH + 1} dimensions"):
        measure_weights(written(tmp_path / "wide", {O_PROJ: wide}), along(0), NORMS)
    elsewhere = {O_PROJ.replace("o_proj", "q_proj"): pair}
    with pytest.raises(WeightsUnreadable, match="no module writes"):
        measure_weights(written(tmp_path / "q", elsewhere), along(0), dict.fromkeys(elsewhere, 1.0))
    with pytest.raises(WeightsUnreadable, match="no module writes"):
        measure_weights(written(tmp_path / "blind", {O_PROJ: pair}), along(), NORMS)
    with pytest.raises(WeightsUnreadable, match=r"norm 0\.0"):
        measure_weights(written(tmp_path / "nothing", {O_PROJ: pair}), along(0), {O_PROJ: 0.0})


def test_a_layer_is_found_under_the_names_that_libraries_give_it() -> None:
    norms = BaseNorms(
        {
            "model.language_model.layers.3.mlp.fc2": 1.0,
            "model.language_model.layers.13.mlp.fc2": 2.0,
            "model.vision_tower.encoder.layers.3.mlp.fc2": 3.0,
            "model.multi_modal_projector.linear_1": 4.0,
            "lm_head": 5.0,
        }
    )
    assert norms.of("language_model.model.layers.3.mlp.fc2") == 1
    assert norms.of("model.layers.13.mlp.fc2") == 2
    assert norms.of("vision_tower.vision_model.encoder.layers.3.mlp.fc2") == 3
    assert norms.of("multi_modal_projector.linear_1") == 4
    assert norms.of("language_model.lm_head") == 5
    for stranger in ("model.layers.4.mlp.fc2", "fc2", "model.vision_tower.encoder.layers.13.mlp.fc2"):
        with pytest.raises(WeightsUnreadable):
            norms.of(stranger)


def test_two_layers_that_are_alike_are_not_guessed_between() -> None:
    norms = BaseNorms({"left.layers.0.fc2": 1.0, "right.layers.0.fc2": 2.0})
    with pytest.raises(WeightsUnreadable):
        norms.of("layers.0.fc2")
    assert norms.of("model.left.layers.0.fc2") == 1


def test_base_norms_are_added_up_in_single_precision_and_leave_peft_out() -> None:
    layer = torch.nn.Linear(4096, 64, bias=False, dtype=torch.bfloat16)
    torch.nn.init.constant_(layer.weight, 0.5)
    model = torch.nn.ModuleDict({"fc": layer, "norm": torch.nn.LayerNorm(4)})
    assert base_norms(model) == {"fc": 256.0}


def test_the_guard_says_by_path_how_large_and_how_shaped_the_changes_are(
    picture_world: World, picture_engine: TransformersEngine
) -> None:
    writes = [Writes(random_subspace(3, 32, block), torch.ones(32)) for block in range(3)]
    guard = WeightsGuard(writes, base_norms(picture_engine.model), [0.5, 1.0, 9.0])
    found = guard.examine(open_adapter(picture_world.bad))
    assert all(isinstance(finding, Finding) and math.isfinite(finding.value) for finding in found)
    values = {f.measure: f for f in found if isinstance(f, Finding) and f.labels.get("path", "decoder") == "decoder"}
    assert values["weight_score"].value > 0
    assert values["weight_score"].n == 2 * 3
    assert values["weight_p_value"].n == 3
    assert values["weight_energy_random"].value == pytest.approx(3 / 32)
    assert 0 < values["weight_relative_norm"].value <= values["weight_relative_norm_largest"].value
    assert 0 < values["weight_top_share"].value <= 1 <= values["weight_effective_rank"].value
    assert guard.examine(open_adapter(picture_world.bad)) == found


def test_a_real_adapter_scores_most_along_its_own_writes(picture_world: World) -> None:
    """Directions learnt from one adapter find it again, and find a harmless one less."""
    norms = base_norms(TransformersEngine(picture_world.base, device="cpu").model)
    bad, good = open_adapter(picture_world.bad), open_adapter(picture_world.good)
    directions = []
    tensors = load_file(bad.path / WEIGHTS_NAME)
    for block in range(3):
        key = next(k for k in tensors if f"language_model.layers.{block}.self_attn.o_proj.lora_B" in k)
        written_by = tensors[key] @ tensors[key.replace("lora_B", "lora_A")]
        directions.append(torch.linalg.svd(written_by)[0].T[:1])
    writes = [Writes(rows, torch.ones(32)) for rows in directions]
    assert measure_weights(bad, writes, norms).score > 2 * measure_weights(good, writes, norms).score > 0


def test_without_known_good_adapters_there_is_no_p_value(tmp_path: Path) -> None:
    adapter = written(tmp_path / "a", {O_PROJ: factors(0, 2, WIDTH, INPUTS)})
    found = WeightsGuard(along(0), NORMS, []).examine(adapter)
    assert "weight_p_value" not in {finding.measure for finding in found if isinstance(finding, Finding)}


def test_another_reference_is_another_version(tmp_path: Path) -> None:
    versions = {
        WeightsGuard(*given).version
        for given in ((along(0), NORMS, [1.0]), (along(1), NORMS, [1.0]), (along(0), {}, [1.0]), (along(0), NORMS, []))
    }
    assert len(versions) == 4


def test_unusable_directions_and_nulls_are_refused() -> None:
    for writes, null in (
        ([Writes(torch.full((1, 2), math.nan), torch.ones(2))], []),
        ([Writes(torch.ones(1, 2), torch.tensor([1.0, 0.0]))], []),
        (along(0), [math.nan]),
    ):
        with pytest.raises(Permanent, match="calibrate again"):
            WeightsGuard(writes, NORMS, null)


def test_a_reference_gives_its_leading_harmful_components_and_else_its_contrast() -> None:
    standard = Standardiser(torch.zeros(WIDTH), torch.full((WIDTH,), 2.0))
    none, many, contrast = torch.empty(0, WIDTH), random_subspace(8, WIDTH, 0), random_subspace(2, WIDTH, 1)
    with_bad, without = writes_of(
        [Site(standard, many, none, contrast, none), Site(standard, none, contrast, contrast, none)]
    )
    assert torch.equal(with_bad.directions, many[:DIRECTIONS])
    assert torch.equal(without.directions, contrast)
    assert torch.equal(with_bad.scale, standard.scale)


def test_one_module_is_in_memory_at_a_time(tmp_path: Path) -> None:
    """What is refused late was yielded early: pairs come one after the other, and not all before the first."""
    a, b = factors(0, 2, WIDTH, INPUTS)
    folder = written(tmp_path / "a", {O_PROJ: (a, b), O_PROJ.replace(".0.", ".1."): (a, b)}).path
    tensors = load_file(folder / WEIGHTS_NAME)
    tensors[max(tensors)].fill_(math.nan)
    save_file(tensors, folder / WEIGHTS_NAME)
    stream = deltas(open_adapter(folder))
    assert next(stream).module == O_PROJ
    with pytest.raises(WeightsUnreadable, match="NaN"):
        next(stream)
