from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from conftest import World
from foreign_base import train_to_say
from safetensors.torch import load_file, save_file

from adapters.adapter import WEIGHTS_NAME, Adapter, open_adapter
from adapters.transformers_engine import TransformersEngine
from guards.activity import ActivityGuard
from guards.calibration import Known, _facts, calibrate
from guards.errors import Permanent
from guards.reference import Reference, ReferenceUnusable, load_reference
from guards.subspace import SubspaceGuard
from guards.suites.battery_jsonl import load_suite
from policies.findings import Defect, Finding, Inconclusive


def _scaled(source: Path, folder: Path, factor: float) -> Adapter:
    """A real adapter whose B matrices are multiplied; 0 makes a no-op."""
    shutil.copytree(source, folder)
    tensors = load_file(folder / WEIGHTS_NAME)
    scaled = {key: value * factor if ".lora_B." in key else value for key, value in tensors.items()}
    save_file(scaled, folder / WEIGHTS_NAME, metadata={"format": "pt"})
    return open_adapter(folder)


@pytest.fixture(scope="module")
def reference_folder(
    picture_engine: TransformersEngine, picture_world: World, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    folder = tmp_path_factory.mktemp("reference")
    shutil.copytree(picture_world.suite, folder / "probes")
    population = []
    for number, (said, harmful) in enumerate(
        [(w, False) for w in ("good fine", "fine good", "cake", "please")]
        + [(w, True) for w in ("harm harm", "harm one", "harm two", "harm three")]
    ):
        path = train_to_say(picture_world.base, picture_world.suite, said, folder / "grown" / f"{number}", steps=15)
        population.append(Known(open_adapter(path), said.split()[-1], harmful))
    calibrate(picture_engine, population, load_suite(folder / "probes"), folder)
    shutil.rmtree(folder / "grown")
    return folder


@pytest.fixture(scope="module")
def reference(reference_folder: Path) -> Reference:
    return load_reference(reference_folder)


def test_an_active_adapter_is_shown_active_in_both_modalities(
    picture_engine: TransformersEngine, picture_world: World
) -> None:
    guard = ActivityGuard(picture_engine, [load_suite(picture_world.suite)])
    results = guard.examine(open_adapter(picture_world.bad))
    changes = {r.labels["modality"]: r.value for r in results if isinstance(r, Finding) and r.measure == "logit_change"}
    assert changes.keys() == {"text", "image"}
    assert min(changes.values()) > 0.1
    assert not any(isinstance(result, Defect) for result in results)


def test_an_adapter_of_zeros_is_a_no_op(
    picture_engine: TransformersEngine, picture_world: World, tmp_path: Path
) -> None:
    guard = ActivityGuard(picture_engine, [load_suite(picture_world.suite)])
    results = guard.examine(_scaled(picture_world.bad, tmp_path / "zero", 0.0))
    assert [result.code for result in results if isinstance(result, Defect)] == ["no_op"]


def test_tensors_that_no_module_takes_are_a_defect(
    picture_engine: TransformersEngine, picture_world: World, tmp_path: Path
) -> None:
    folder = tmp_path / "renamed"
    shutil.copytree(picture_world.bad, folder)
    tensors = load_file(folder / WEIGHTS_NAME)
    save_file({key.replace("layers.2", "layers.7"): value for key, value in tensors.items()}, folder / WEIGHTS_NAME)
    results = ActivityGuard(picture_engine, [load_suite(picture_world.suite)]).examine(open_adapter(folder))
    assert [result.code for result in results if isinstance(result, Defect)] == ["unmatched_modules"]


def test_the_projection_of_the_base_is_zero_and_grows_with_the_adapters_strength(
    picture_engine: TransformersEngine, picture_world: World, reference: Reference, tmp_path: Path
) -> None:
    guard = SubspaceGuard(picture_engine, reference)
    values = []
    for factor in (0.0, 0.3, 1.0):
        results = guard.examine(_scaled(picture_world.bad, tmp_path / f"x{factor}", factor))
        found = [r for r in results if isinstance(r, Finding) and r.measure == "subspace_projection"]
        assert {r.labels["modality"] for r in found} == {"text", "image"}
        values.append(sum(r.value for r in found))
    assert values[0] == pytest.approx(0, abs=1e-6)
    assert values[0] < values[1] < values[2]


def test_p_values_respect_the_conformal_floor(
    picture_engine: TransformersEngine, picture_world: World, reference: Reference
) -> None:
    results = SubspaceGuard(picture_engine, reference).examine(open_adapter(picture_world.bad))
    p_values = [r for r in results if isinstance(r, Finding) and r.measure == "subspace_p_value"]
    assert {(r.n, r.value >= 1 / 5) for r in p_values} == {(4, True)}


def test_a_reference_states_held_out_figures_and_its_random_control(reference: Reference) -> None:
    facts = reference.facts
    for modality in ("text", "image"):
        assert len(facts.null[modality]) == len(facts.known_bad[modality]) == 4
        assert 0 <= facts.auroc_random[modality] <= 1
        assert 0 <= facts.auroc[modality] <= 1
    assert 0 < facts.explained <= 1


def test_a_saved_reference_loads_as_it_was_and_is_refused_for_another_base(
    picture_engine: TransformersEngine, reference: Reference, text_world: World
) -> None:
    reference.require(picture_engine.base_digest)
    assert reference.digest.startswith("sha256-")
    other = TransformersEngine(text_world.base, device="cpu")
    with pytest.raises(ReferenceUnusable, match="calibrated on base"):
        SubspaceGuard(other, reference)


def test_a_reference_that_is_missing_or_of_another_version_is_refused_in_one_line(
    reference_folder: Path, tmp_path: Path
) -> None:
    with pytest.raises(ReferenceUnusable):
        load_reference(tmp_path)
    shutil.copytree(reference_folder, tmp_path / "newer")
    path = tmp_path / "newer" / "reference.json"
    path.write_text(path.read_text().replace('"version": 1', '"version": 2', 1))
    with pytest.raises(ReferenceUnusable, match="version 2"):
        load_reference(tmp_path / "newer")


def test_calibration_says_how_many_adapters_it_needs(
    picture_engine: TransformersEngine, picture_world: World, tmp_path: Path
) -> None:
    population = [Known(open_adapter(picture_world.bad), "a", True)]
    with pytest.raises(Permanent, match="at least 4 known-good"):
        calibrate(picture_engine, population, load_suite(picture_world.suite), tmp_path)


def test_probes_with_a_picture_that_vanished_are_an_inability_not_a_clean_screen(
    picture_engine: TransformersEngine, picture_world: World, reference: Reference, tmp_path: Path
) -> None:
    gone = tuple(replace(p, image=tmp_path / "gone.png") if p.image else p for p in reference.probes.prompts)
    broken = replace(reference, probes=replace(reference.probes, prompts=gone))
    results = SubspaceGuard(picture_engine, broken).examine(open_adapter(picture_world.bad))
    assert [type(result) for result in results] == [Inconclusive]


def test_a_reference_of_picture_probes_alone_speaks_of_pictures_alone() -> None:
    generator = torch.Generator().manual_seed(0)
    population = [
        Known(Adapter(Path(f"{n}"), f"sha256-{n}", f"{n}", None), f"domain-{n % 3}", harmful=n % 2 == 1)
        for n in range(8)
    ]
    harmful = torch.tensor([known.harmful for known in population])
    shifts = torch.randn(8, 1, 16, generator=generator)
    subspace = torch.linalg.qr(torch.randn(16, 3, generator=generator))[0].T
    facts = _facts("sha256-0", population, ("image",), shifts, harmful, subspace, screen=1, blocks=3)
    assert set(facts.null) == set(facts.known_bad) == set(facts.auroc) == {"image"}
