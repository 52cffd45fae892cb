"""A direction found on one adapter is tried on others: what is certain beforehand about the result."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from io import StringIO
from pathlib import Path

import pytest
import torch
from conftest import World
from rich.console import Console
from safetensors.torch import load_file, save_file

from adapters.activations import steered, transformer_blocks
from adapters.adapter import WEIGHTS_NAME, Adapter, open_adapter
from adapters.engine import Layer
from adapters.transformers_engine import TransformersEngine
from benchmarks.transfer import report
from guards.ablation import ablation, log_odds, random_directions, sampled, share_with_interval
from guards.calibration.contrast import ContrastPair, write_contrast
from guards.errors import Permanent
from guards.geometry import Standardiser
from guards.reference import CONTRAST, Reference, ReferenceUnusable, Site
from guards.reference_facts import Facts
from guards.suites.battery_jsonl import load_suite
from guards.suites.suite import Suite
from guards.transfer import _areas, transfer
from guards.transfer_matrix import TransferMatrix
from monitor.transfer_table import print_transfer, transfer_json

HOSTILE = "\x1b[31m[bold]bad[/bold]\u202e" + "x" * 500


def _changed(source: Path, folder: Path, factor: float) -> Adapter:
    """A real adapter whose B matrices are multiplied; 0 makes a no-op, NaN a ruin."""
    shutil.copytree(source, folder)
    tensors = load_file(folder / WEIGHTS_NAME)
    changed = {key: value * factor if ".lora_B." in key else value for key, value in tensors.items()}
    save_file(changed, folder / WEIGHTS_NAME, metadata={"format": "pt"})
    return open_adapter(folder)


@pytest.fixture(scope="module")
def pairs(picture_world: World) -> list[ContrastPair]:
    prompts = load_suite(picture_world.suite).prompts
    return [
        ContrastPair(prompt, "good fine", said, said.split()[-1])
        for prompt in (*prompts[20:30], *prompts[60:70])
        for said in ("harm harm", "please cake")
    ]


@pytest.fixture(scope="module")
def reference(
    picture_engine: TransformersEngine,
    picture_world: World,
    pairs: list[ContrastPair],
    tmp_path_factory: pytest.TempPathFactory,
) -> Reference:
    """What transfer reads of a Reference, measured on the real base; nothing is fitted to any adapter."""
    whole = load_suite(picture_world.suite)
    probes = Suite(whole.name, whole.digest, (*whole.prompts[:12], *whole.prompts[40:52]))
    blocks = len(transformer_blocks(picture_engine.model, "decoder"))
    layers = [Layer("decoder", index) for index in range(blocks // 2 + 1)]
    base = picture_engine.activations(probes.prompts, layers)
    nothing = torch.empty(0, base[layers[0]].shape[1])
    sites = {la: Site(Standardiser.fit(base[la]), nothing, nothing, nothing, nothing) for la in layers}
    facts = Facts(
        base_digest=picture_engine.base_digest,
        layers=blocks,
        screen_layer=blocks // 2,
        modalities=probes.modalities,
        categories=("harm", "cake"),
        contrast_source="file",
        population=(),
        screens={},
        combination=(),
        errors=(),
    )
    folder = tmp_path_factory.mktemp("reference")
    write_contrast(pairs, folder / CONTRAST)
    return Reference(facts, sites, torch.empty(0), probes, "sha256-0", folder)


@pytest.fixture(scope="module")
def matrix(
    picture_engine: TransformersEngine,
    picture_world: World,
    reference: Reference,
    tmp_path_factory: pytest.TempPathFactory,
) -> TransferMatrix:
    """A harmful adapter, the same at half its strength, a harmless one, a no-op, a ruin, the first once more, none."""
    folder = tmp_path_factory.mktemp("adapters")
    bad = open_adapter(picture_world.bad)
    adapters = [
        bad,
        replace(_changed(picture_world.bad, folder / "half", 0.5), name=HOSTILE),
        open_adapter(picture_world.good),
        _changed(picture_world.bad, folder / "zero", 0.0),
        _changed(picture_world.bad, folder / "nan", float("nan")),
        bad,
        Adapter(folder / "gone", "sha256-gone", "gone"),
    ]
    return transfer(picture_engine, reference, adapters, pairs=6)


def test_steering_at_strength_zero_is_the_unsteered_model_to_the_last_bit(
    picture_engine: TransformersEngine, reference: Reference, pairs: list[ContrastPair]
) -> None:
    layer, width = reference.screen_layer, 32
    direction = random_directions(1, width, 0)[0]
    before = log_odds(picture_engine, pairs)
    still = ablation(reference.sites[layer].standardiser, direction, strength=0.0)
    with steered(picture_engine.model, layer, still):
        assert (log_odds(picture_engine, pairs) == before).all()
    moving = ablation(reference.sites[layer].standardiser, direction)
    with steered(picture_engine.model, layer, moving):
        assert (log_odds(picture_engine, pairs) != before).any()
    assert (log_odds(picture_engine, pairs) == before).all(), "the hook is gone"


def test_an_ablated_direction_keeps_no_part_beyond_the_bases_mean_and_others_keep_theirs() -> None:
    rows = torch.randn(5, 3, 16, generator=torch.Generator().manual_seed(0)) * torch.linspace(1, 900, 16) + 40
    standardiser = Standardiser.fit(rows.flatten(0, 1))
    basis = torch.linalg.qr(torch.randn(16, 16, generator=torch.Generator().manual_seed(1)))[0].T
    before = (rows - standardiser.mean) / standardiser.scale
    after = (ablation(standardiser, basis[0])(rows) - standardiser.mean) / standardiser.scale
    assert (after @ basis[0]).abs().max() < 1e-4
    assert torch.allclose(after @ basis[1:].T, before @ basis[1:].T, atol=1e-4)
    assert torch.allclose(
        ablation(standardiser, basis[0])(ablation(standardiser, basis[0])(rows)),
        after * standardiser.scale + standardiser.mean,
        atol=1e-2,
    )


def test_a_random_control_moves_every_token_as_far_as_the_ablation() -> None:
    rows = torch.randn(4, 6, 16, generator=torch.Generator().manual_seed(0))
    standardiser = Standardiser.fit(rows.flatten(0, 1))
    first, other = random_directions(2, 16, 3)
    moved = (ablation(standardiser, first)(rows) - rows) / standardiser.scale
    control = (ablation(standardiser, first, along=other)(rows) - rows) / standardiser.scale
    assert torch.allclose(moved.norm(dim=-1), control.norm(dim=-1), atol=1e-5)


def test_an_adapters_own_direction_tells_it_and_takes_its_harm_away_and_random_ones_do_less(
    matrix: TransferMatrix,
) -> None:
    for part in matrix.modalities:
        assert part.steering is not None
        probe, steering, bad = part.probe[0][0], part.steering[0][0], part.subjects[0]
        assert probe is not None
        assert steering is not None
        assert bad.category == "harm"
        assert bad.rise is not None
        assert bad.rise.low > 0
        assert probe.auroc.value > max(0.9, probe.random_mean)
        assert probe.auroc.n == part.prompts == 12
        assert steering.share is not None
        assert steering.share.low <= steering.share.value <= steering.share.high
        assert steering.share.n == part.pairs == 6
        assert len(steering.random) == len(steering.random_shares) == 3
        assert steering.random_mean is not None
        assert steering.share.value > steering.random_mean


def test_an_adapter_that_only_adds_noise_is_not_told_by_the_direction_of_its_own_noise() -> None:
    generator = torch.Generator().manual_seed(0)
    base = torch.randn(80, 400, generator=generator)
    noise = torch.randn(80, 400, generator=generator)
    one_line = torch.zeros(400).index_fill(0, torch.tensor([7]), 4.0)
    rows = [base + noise, base + noise + one_line]
    areas = _areas(base, rows, [noise, noise + one_line], random_directions(4, 400, 0))
    told = [cell.auroc.value for cell in (areas[0][0], areas[1][1]) if cell is not None]
    assert told[0] < 0.65
    assert told[1] > 0.9


def test_a_weaker_copy_of_an_adapter_has_nearly_its_direction_and_shares_its_fate(matrix: TransferMatrix) -> None:
    for part in matrix.modalities:
        cosine, probe = part.cosines[0][1], part.probe[0][1]
        assert cosine is not None
        assert cosine > 0.8
        assert cosine == pytest.approx(part.cosines[1][0])
        assert probe is not None
        assert probe.auroc.value > 0.9


def test_an_adapter_without_a_direction_keeps_its_place_with_the_reason_and_loses_no_other(
    matrix: TransferMatrix,
) -> None:
    for part in matrix.modalities:
        reasons = [subject.reason for subject in part.subjects]
        assert reasons[:3] == [None] * 3
        assert reasons[3] == "it does not move the base on these probes"
        assert reasons[4] == "it makes activations NaN or infinite"
        assert "the same adapter" in (reasons[5] or "")
        assert (reasons[6] or "").startswith("gone: ")
        assert {part.probe[row] for row in (3, 4, 5, 6)} == {(None,) * 7}
        assert all(part.probe[row][column] is None for row in range(7) for column in (4, 5, 6))
        still = part.probe[0][3]
        assert still is not None, "an adapter that moves nothing can still be told, or not, by others"
        assert still.auroc.value == 0.5


def test_where_there_is_no_rise_no_share_is_stated(matrix: TransferMatrix) -> None:
    for part in matrix.modalities:
        assert part.steering is not None
        cell = part.steering[0][3]
        assert cell is not None
        assert cell.share is cell.base_share is cell.random_mean is None
        assert part.subjects[3].rise is not None
        assert part.subjects[3].rise.value == 0


def test_text_and_pictures_are_told_apart(matrix: TransferMatrix) -> None:
    assert [part.modality for part in matrix.modalities] == ["text", "image"]
    assert matrix.modalities[0].subjects[0].size != matrix.modalities[1].subjects[0].size


def test_without_contrast_pairs_only_the_steering_is_missing_and_the_reason_is_told(
    picture_engine: TransformersEngine,
    picture_world: World,
    reference: Reference,
    pairs: list[ContrastPair],
    tmp_path: Path,
) -> None:
    bare = transfer(picture_engine, replace(reference, folder=None), [open_adapter(picture_world.bad)])
    assert [part.steering for part in bare.modalities] == [None, None]
    assert all("holds no contrast pairs" in (part.steering_reason or "") for part in bare.modalities)
    assert all(part.probe[0][0] is not None for part in bare.modalities)
    write_contrast([pair for pair in pairs if pair.prompt.modality == "text"], tmp_path / CONTRAST)
    half = transfer(picture_engine, replace(reference, folder=tmp_path), [open_adapter(picture_world.bad)], pairs=4)
    assert [part.steering is None for part in half.modalities] == [False, True]
    assert "fewer than 4 pairs" in (half.modalities[1].steering_reason or "")


def test_no_adapter_or_another_base_is_refused(
    picture_engine: TransformersEngine, picture_world: World, reference: Reference
) -> None:
    with pytest.raises(Permanent, match="at least one adapter"):
        transfer(picture_engine, reference, [])
    other = replace(reference, facts=reference.facts.model_copy(update={"base_digest": "sha256-other"}))
    with pytest.raises(ReferenceUnusable, match="calibrated on base"):
        transfer(picture_engine, other, [open_adapter(picture_world.bad)])


def test_pairs_that_choose_a_category_are_not_measured_on(pairs: list[ContrastPair]) -> None:
    for sample in sampled(pairs, "text", 5, seed=0).values():
        ids = [pair.prompt.id for pair in (*sample.choosing, *sample.measured)]
        assert len(ids) == len(set(ids))
        assert len(sample.choosing) == 3
        assert len(sample.measured) == 5
    alone = sampled([pair for pair in pairs if pair.category == "harm"], "text", 24, seed=0)["harm"]
    assert alone.choosing == ()
    assert len(alone.measured) == 10
    assert sampled(pairs, "text", 5, seed=0) == sampled(pairs, "text", 5, seed=0)


def test_all_of_a_rise_taken_away_is_a_share_of_one() -> None:
    rise = torch.rand(12, generator=torch.Generator().manual_seed(0)).double().numpy() + 0.5
    whole = share_with_interval(rise, rise)
    assert whole.value == whole.low == whole.high == pytest.approx(1)
    assert share_with_interval(0 * rise, rise).high == 0


def test_the_table_bounds_and_defuses_names_and_the_json_is_plain(matrix: TransferMatrix) -> None:
    out = StringIO()
    print_transfer(matrix, Console(file=out, width=240, force_terminal=False))
    shown = out.getvalue()
    assert "\x1b" not in shown
    assert "\u202e" not in shown
    assert "[bold]bad" in shown
    assert "x" * 41 not in shown
    assert "it does not move the base" in shown
    assert "no rise" in shown
    plain = json.loads(json.dumps(transfer_json(matrix), allow_nan=False))
    cell = plain["modalities"][0]["probe"][0][0]
    assert cell["auroc"]["n"] == 12
    assert cell["random_mean"] == pytest.approx(sum(cell["random"]) / len(cell["random"]))
    assert plain["modalities"][0]["steering"][0][4] is None
    assert plain["modalities"][1]["subjects"][1]["name"] == HOSTILE


def test_the_benchmarks_tables_hold_a_row_and_a_column_an_adapter(matrix: TransferMatrix) -> None:
    for part in matrix.modalities:
        told = report(part)
        assert told.count("\n| 3 good | ") == 3
        assert "| on 7 |" in told
        assert "no rise" in told
