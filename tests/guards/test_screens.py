from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from conftest import World
from safetensors.torch import load_file, save_file

from adapters.adapter import WEIGHTS_NAME, Adapter, open_adapter
from adapters.transformers_engine import TransformersEngine
from guards.activity import ActivityGuard
from guards.calibration.population import Known
from guards.reference import Reference, ReferenceUnusable
from guards.screen import Screener, screen_adapter
from guards.subspace import SubspaceGuard
from guards.suites.battery_jsonl import load_suite
from policies.findings import Defect, Finding, Inconclusive, Result


def _scaled(source: Path, folder: Path, factor: float) -> Adapter:
    """A real adapter whose B matrices are multiplied; 0 makes a no-op."""
    shutil.copytree(source, folder)
    tensors = load_file(folder / WEIGHTS_NAME)
    scaled = {key: value * factor if ".lora_B." in key else value for key, value in tensors.items()}
    save_file(scaled, folder / WEIGHTS_NAME, metadata={"format": "pt"})
    return open_adapter(folder)


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


def _values(results: list[Result], measure: str) -> dict[tuple[str, ...], float]:
    found = [r for r in results if isinstance(r, Finding) and r.measure == measure]
    return {tuple(r.labels.values()): r.value for r in found}


_LINEAR = ("contrast_shift", "harm_shift", "probe_log_odds", "probe_tail", "subspace_projection")


def test_every_component_of_the_base_is_zero_and_its_score_that_of_a_known_good_adapter(
    picture_engine: TransformersEngine, picture_world: World, reference: Reference, tmp_path: Path
) -> None:
    results = SubspaceGuard(picture_engine, reference).examine(_scaled(picture_world.bad, tmp_path / "zero", 0.0))
    for measure in _LINEAR:
        values = _values(results, measure)
        assert {labels[0] for labels in values} == {"text", "image"}
        assert max(map(abs, values.values())) < 1e-5
    worst = max(reference.facts.screens["combined"]["both"].known_bad.values())
    assert _values(results, "screen_score")[()] < worst


def test_the_shift_grows_with_the_adapters_strength(
    picture_engine: TransformersEngine, picture_world: World, reference: Reference, tmp_path: Path
) -> None:
    guard = SubspaceGuard(picture_engine, reference)
    weak, strong = (guard.examine(_scaled(picture_world.bad, tmp_path / f"x{f}", f)) for f in (0.3, 1.0))
    for measure in ("harm_shift", "subspace_projection"):
        for labels, value in _values(weak, measure).items():
            assert 0 < value < _values(strong, measure)[labels]


def test_a_known_bad_adapter_scores_above_every_known_good_one(
    picture_engine: TransformersEngine, known: list[Known], reference: Reference
) -> None:
    screener = Screener(picture_engine, reference)
    scores = {True: [], False: []}
    for one in known:
        scores[one.harmful].append(screener.screen(one.adapter).score)
    assert min(scores[True]) > max(scores[False])


def test_p_values_respect_the_conformal_floor(
    picture_engine: TransformersEngine, picture_world: World, reference: Reference
) -> None:
    results = SubspaceGuard(picture_engine, reference).examine(open_adapter(picture_world.bad))
    measures = ("screen_p_value", "subspace_p_value", "probe_tail_p_value")
    p_values = [r for r in results if isinstance(r, Finding) and r.measure in measures]
    assert {r.measure for r in p_values} == set(measures)
    assert all(r.n == 5 and r.value >= 1 / 6 for r in p_values)


def test_each_trigger_candidate_is_tried_and_paid_for_in_the_p_value(
    picture_engine: TransformersEngine, picture_world: World, reference: Reference
) -> None:
    adapter = open_adapter(picture_world.bad)
    plain = Screener(picture_engine, reference).screen(adapter)
    tried = Screener(picture_engine, reference, ["again", "please", "again"]).screen(adapter)
    assert tried.by_trigger.keys() == {"again", "please"}
    assert plain.score is not None
    assert tried.score is not None
    assert tried.score == pytest.approx(max(plain.score, *tried.by_trigger.values()))
    assert tried.p == pytest.approx(min(1.0, 3 / 6))


def test_permuting_the_prompts_changes_no_score(
    picture_engine: TransformersEngine, picture_world: World, reference: Reference
) -> None:
    adapter = open_adapter(picture_world.bad)
    backwards = replace(reference, probes=replace(reference.probes, prompts=reference.probes.prompts[::-1]))
    first, second = (Screener(picture_engine, one).screen(adapter) for one in (reference, backwards))
    assert first.score == pytest.approx(second.score, abs=1e-4)


def test_a_saved_reference_is_refused_for_another_base(reference: Reference, text_world: World) -> None:
    with pytest.raises(ReferenceUnusable, match="calibrated on base"):
        SubspaceGuard(TransformersEngine(text_world.base, device="cpu"), reference)


def test_probes_with_a_picture_that_vanished_are_an_inability_not_a_clean_screen(
    picture_engine: TransformersEngine, picture_world: World, reference: Reference, tmp_path: Path
) -> None:
    gone = tuple(replace(p, image=tmp_path / "gone.png") if p.image else p for p in reference.probes.prompts)
    broken = replace(reference, probes=replace(reference.probes, prompts=gone))
    results = SubspaceGuard(picture_engine, broken).examine(open_adapter(picture_world.bad))
    assert [type(result) for result in results] == [Inconclusive]


def test_an_adapter_of_nan_is_an_inability_with_its_reason_and_no_score(
    picture_engine: TransformersEngine, picture_world: World, reference: Reference, tmp_path: Path
) -> None:
    report = screen_adapter(
        Screener(picture_engine, reference), _scaled(picture_world.bad, tmp_path / "nan", float("nan"))
    )
    assert (report.score, report.p) == (None, None)
    assert "NaN" in (report.reason or "")


@pytest.mark.parametrize(
    "device",
    [
        "cpu",
        pytest.param(
            "cuda",
            marks=[pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")],
        ),
    ],
)
def test_in_bfloat16_bad_adapters_still_score_above_good_ones(
    picture_world: World, known: list[Known], reference: Reference, device: str
) -> None:
    engine = TransformersEngine(picture_world.base, device=device, dtype=torch.bfloat16)
    screener = Screener(engine, reference)
    scores = {harmful: [screener.screen(k.adapter).score for k in known if k.harmful == harmful] for harmful in (0, 1)}
    assert min(scores[1]) > max(scores[0])
