from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from adapters_on_disk import edit_config, plain_tensors, random_gemma, trained_adapter, write_adapter
from conftest import World
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from torch import Tensor

from adapters.adapter import WEIGHTS_NAME, Adapter, open_adapter
from adapters.transformers_engine import TransformersEngine
from guards.errors import Permanent
from guards.geometry import Standardiser, random_subspace
from guards.low_rank import LowRank, Spectrum, orthonormal
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
from policies.findings import Finding, Inconclusive

WIDTH, INPUTS = 12, 10
O_PROJ = "model.language_model.layers.0.self_attn.o_proj"
FAULTS = ("plain", "dependent rows", "zero row", "zero", "badly scaled", "nearly cancelling", "tiny", "huge")


def factors(seed: int, rank: int, outputs: int, inputs: int, fault: str = "plain") -> tuple[Tensor, Tensor]:
    drawn = torch.Generator().manual_seed(seed)
    a, b = torch.randn(rank, inputs, generator=drawn), torch.randn(outputs, rank, generator=drawn)
    match fault:
        case "dependent rows":
            a[-1] = a[0]
            b[:, -1] = 2 * b[:, 0]
        case "zero row":
            a[0] = 0
        case "zero":
            b.zero_()
        case "badly scaled":
            steps = torch.logspace(-6, 6, rank)
            a, b = a * steps[:, None], b / steps
        case "nearly cancelling":
            a = a[:1] + 1e-3 * a
            b = b[:, :1] * (-1.0) ** torch.arange(rank) + 1e-3 * b
        case "tiny":
            a, b = a * 1e-19, b * 1e-19
        case "huge":
            a, b = a * 1e19, b * 1e17
    return a, b


sizes = st.integers(1, 9)


@settings(max_examples=150, deadline=None)
@given(st.integers(0, 999), st.integers(1, 12), sizes, sizes, st.sampled_from(FAULTS), st.sampled_from([0.5, 1.0, 4.0]))
def test_singular_values_and_energy_are_those_of_the_formed_product(
    seed: int, rank: int, outputs: int, inputs: int, fault: str, scale: float
) -> None:
    a, b = factors(seed, rank, outputs, inputs, fault)
    formed = torch.linalg.svdvals(scale * b.double() @ a.double())
    product = LowRank(a, b, scale)
    values = product.spectrum().values
    kept = min(rank, outputs, inputs)
    assert values.shape == (kept,)
    torch.testing.assert_close(values.pow(2), formed[:kept].pow(2), rtol=2e-3, atol=1e-4 * float(formed[0]) ** 2)
    assert product.energy == pytest.approx(float(formed.pow(2).sum()), rel=1e-3)


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 999), st.integers(1, 5), st.integers(0, 6), st.sampled_from(FAULTS))
def test_the_energy_within_a_subspace_is_that_of_the_formed_product(seed: int, rank: int, k: int, fault: str) -> None:
    a, b = factors(seed, rank, WIDTH, INPUTS, fault)
    unit = torch.rand(WIDTH, generator=torch.Generator().manual_seed(seed)) + 0.1
    basis = orthonormal(random_subspace(k, WIDTH, seed))
    formed = (b.double() @ a.double()) / unit.double()[:, None]
    part, whole = LowRank(a, b).energy_within(basis, unit)
    assert whole == pytest.approx(float(formed.pow(2).sum()), rel=1e-3)
    assert part == pytest.approx(float((basis.T @ formed).pow(2).sum()), rel=2e-3, abs=1e-4 * whole)


@given(st.integers(0, 99), st.sampled_from([0.01, 3.0, 1000.0]))
def test_scale_changes_no_share_and_no_shape(seed: int, scale: float) -> None:
    a, b = factors(seed, 3, WIDTH, INPUTS)
    one, other = LowRank(a, b).spectrum(), LowRank(a, b, scale).spectrum()
    assert other.energy == pytest.approx(scale**2 * one.energy)
    for name in ("top_share", "stable_rank", "effective_rank", "kurtosis"):
        assert getattr(other, name) == pytest.approx(getattr(one, name))


@given(st.integers(0, 99))
def test_turning_b_one_way_and_a_the_other_changes_nothing(seed: int) -> None:
    a, b = factors(seed, 4, WIDTH, INPUTS)
    turned = random_subspace(4, 4, seed + 1)
    basis, unit = orthonormal(random_subspace(2, WIDTH, seed)), torch.ones(WIDTH)
    one, other = LowRank(a, b), LowRank(turned.T @ a, b @ turned)
    torch.testing.assert_close(one.spectrum().values, other.spectrum().values, rtol=1e-3, atol=1e-3)
    assert one.energy_within(basis, unit) == pytest.approx(other.energy_within(basis, unit), rel=1e-4)


def test_the_subspace_of_everything_holds_all_energy_and_none_holds_nothing() -> None:
    product = LowRank(*factors(0, 3, WIDTH, INPUTS))
    part, whole = product.energy_within(orthonormal(torch.eye(WIDTH)), torch.ones(WIDTH))
    assert part == pytest.approx(whole)
    assert product.energy_within(orthonormal(torch.zeros(2, WIDTH)), torch.ones(WIDTH))[0] == 0


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_every_trained_dtype_is_read_at_its_own_value(dtype: torch.dtype) -> None:
    a, b = (factor.to(dtype) for factor in factors(0, 3, WIDTH, INPUTS))
    formed = float((b.double() @ a.double()).pow(2).sum())
    assert LowRank(a, b).energy == pytest.approx(formed, rel=1e-5)


def test_shapes_of_spectra_are_told_as_they_are() -> None:
    flat, single = Spectrum(torch.ones(4).double()), Spectrum(torch.tensor([2.0, 0, 0, 0]).double())
    assert (flat.top_share, flat.stable_rank, flat.kurtosis) == (0.25, 4, 0)
    assert (single.top_share, single.stable_rank, single.effective_rank) == (1, 1, 1)
    assert flat.effective_rank == pytest.approx(4)
    assert single.kurtosis == pytest.approx(7 / 3)
    nothing = Spectrum(torch.zeros(3).double())
    assert (nothing.top_share, nothing.stable_rank, nothing.effective_rank, nothing.kurtosis) == (0, 0, 0, 0)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_nan_and_infinity_are_refused(value: float) -> None:
    a, b = factors(0, 2, WIDTH, INPUTS)
    b[3, 1] = value
    with pytest.raises(ValueError, match="NaN or infinite"):
        LowRank(a, b)


def test_dependent_and_badly_scaled_directions_span_what_they_span() -> None:
    rows = torch.tensor([[1.0, 1, 0, 0], [2e6, 2e6, 0, 0], [0, 0, 1e-9, 0], [0, 0, 0, 0]])
    basis = orthonormal(rows)
    assert basis.shape == (4, 2)
    torch.testing.assert_close(basis.T @ basis, torch.eye(2).double())


def test_a_product_too_large_to_form_is_measured() -> None:
    side = 400_000  # formed it would take 640 GB
    product = LowRank(torch.ones(1, side), torch.ones(side, 1))
    assert product.spectrum().values.tolist() == pytest.approx([side])
    basis = torch.full((side, 1), side**-0.5)
    assert product.energy_within(basis, torch.ones(side)) == pytest.approx((side**2, side**2))


def pairs(modules: dict[str, tuple[Tensor, Tensor]]) -> dict[str, Tensor]:
    tensors = {}
    for module, (a, b) in modules.items():
        tensors[f"base_model.model.{module}.lora_A.weight"] = a.contiguous()
        tensors[f"base_model.model.{module}.lora_B.weight"] = b.contiguous()
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
    a, b = factors(0, 2, WIDTH, INPUTS, "zero")
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
        {name: m.weight.clone() for name, m in base.named_modules() if hasattr(m, "weight")},
    )
    writes = [Writes(torch.eye(32)[:3], torch.ones(32))] * 2
    figures = measure_weights(open_adapter(folder), writes, norms)
    merged = PeftModel.from_pretrained(base, str(folder)).merge_and_unload()
    after = dict(merged.named_modules())
    assert {module.part for module in figures.modules} == {"decoder", "vision"}
    for module in figures.modules:
        change = after[module.module].weight - before[module.module]
        assert module.norm == pytest.approx(float(change.norm()), rel=1e-3)
        assert module.base_norm == pytest.approx(float(before[module.module].norm()), rel=1e-5)


def fault(adapter: Path) -> str:
    """The one reason why nothing could be measured."""
    guard = WeightsGuard(along(0), NORMS, [1.0])
    (result,) = guard.examine(open_adapter(adapter))
    assert isinstance(result, Inconclusive)
    assert (result.guard, result.measure) == ("weights", "weight_score")
    assert "\n" not in result.reason
    return result.reason


def test_what_pairs_alone_do_not_tell_is_inconclusive(tmp_path: Path) -> None:
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


def test_files_that_cannot_be_read_are_inconclusive(tmp_path: Path) -> None:
    pair = {O_PROJ: factors(0, 2, WIDTH, INPUTS)}
    short = written(tmp_path / "short", pair).path
    raw = (short / WEIGHTS_NAME).read_bytes()
    (short / WEIGHTS_NAME).write_bytes(raw[:-8])
    assert "not sound" in fault(short)
    gone = written(tmp_path / "gone", pair)
    (gone.path / WEIGHTS_NAME).unlink()
    assert "missing" in fault(gone.path)


def test_a_hanging_pattern_is_inconclusive(tmp_path: Path) -> None:
    adapter = written(tmp_path / "a", {O_PROJ: factors(0, 2, WIDTH, INPUTS)}, alpha_pattern={"(.*_?)+x": 4})
    assert "alpha_pattern" in fault(adapter.path)


def test_places_that_the_reference_does_not_know_are_inconclusive(tmp_path: Path) -> None:
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
