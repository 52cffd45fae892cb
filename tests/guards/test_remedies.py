from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import torch
from conftest import World
from safetensors.torch import load_file

from adapters.adapter import CONFIG_NAME, MANIFEST_NAME, WEIGHTS_NAME, Adapter, open_adapter
from adapters.engine import Layer, Sampling
from adapters.residual_writes import ResidualWrite, ResidualWrites
from adapters.transformers_engine import TransformersEngine
from guards.errors import Permanent
from guards.geometry import Standardiser, components
from guards.reference import Reference, Site
from guards.reference_facts import Facts
from guards.remedies.benign_finetune import BenignFinetuneRemedy
from guards.remedies.project import ProjectRemedy
from guards.remedy_record import measured_by
from guards.suites.battery_jsonl import load_suite
from policies.remedying import Remedying


def _reference(engine: TransformersEngine, world: World, dimensions: int) -> Reference:
    probes = load_suite(world.suite)
    layers = [Layer("decoder", index) for index in range(3)]
    base = engine.activations(probes.prompts, layers)
    with engine.attached(open_adapter(world.bad)):
        moved = engine.activations(probes.prompts, layers)
    sites = {}
    for layer in layers:
        standardiser = Standardiser.fit(base[layer])
        subspace = components((moved[layer] - base[layer]) / standardiser.scale, dimensions)
        sites[layer] = Site(standardiser, subspace, subspace[:0], subspace[:0], subspace[:0])
    facts = Facts(
        base_digest=engine.base_digest,
        screen_layer=1,
        layers=3,
        modalities=probes.modalities,
        categories=(),
        contrast_source="none",
        population=(),
        screens={},
        combination=(),
        errors=(),
    )
    return Reference(facts, sites, torch.empty(0), probes)


def _project(reference: Reference, world: World, components: int = 10) -> ProjectRemedy:
    return ProjectRemedy(reference, ResidualWrites(world.base), components)


def harmful_share(adapter: Adapter, reference: Reference) -> dict[str, float]:
    """Share of each residual-writing delta's energy within the harmful subspace, by the key of its B."""
    tensors = load_file(adapter.path / WEIGHTS_NAME)
    shares = {}
    for key, outer in tensors.items():
        place = re.search(r"language_model\.layers\.(\d+)\.(?:self_attn\.o_proj|mlp\.down_proj)\.lora_B", key)
        if place is None:
            continue
        block = int(place[1])
        site = reference.block(block)
        write = ResidualWrite(key, block, gain=None)  # a Llama decoder adds its writes as they are
        basis = write.output_basis(site.subspace / site.standardiser.scale)
        delta = outer.float() @ tensors[key.replace("lora_B", "lora_A")].float()
        total = float(delta.pow(2).sum())
        shares[key] = float((basis.T @ delta).pow(2).sum()) / total if total else 0.0
    return shares


def test_projecting_leaves_no_write_in_the_harmful_subspace_and_keeps_everything_else_of_the_file(
    picture_engine: TransformersEngine, picture_world: World, tmp_path: Path
) -> None:
    reference = _reference(picture_engine, picture_world, 4)
    bad = open_adapter(picture_world.bad)
    mended = _project(reference, picture_world).apply(bad, tmp_path / "mended")
    before, after = harmful_share(bad, reference), harmful_share(mended, reference)
    assert min(before.values()) > 0.01
    assert max(after.values()) < 1e-10
    old, new = load_file(bad.path / WEIGHTS_NAME), load_file(mended.path / WEIGHTS_NAME)
    assert {k: (v.shape, v.dtype) for k, v in old.items()} == {k: (v.shape, v.dtype) for k, v in new.items()}
    changed = {key for key in old if not torch.equal(old[key], new[key])}
    assert changed == set(before)
    assert (mended.path / CONFIG_NAME).read_bytes() == (bad.path / CONFIG_NAME).read_bytes()


def test_of_all_deltas_without_a_harmful_write_it_is_the_nearest_on_any_activations_the_tasks_own_included(
    picture_engine: TransformersEngine, picture_world: World, tmp_path: Path
) -> None:
    """Pythagoras: what is taken out is orthogonal to every delta that is left to choose from, whatever the inputs."""
    reference, bad = _reference(picture_engine, picture_world, 4), open_adapter(picture_world.bad)
    mended = _project(reference, picture_world).apply(bad, tmp_path / "mended")
    old, new = load_file(bad.path / WEIGHTS_NAME), load_file(mended.path / WEIGHTS_NAME)
    random = torch.Generator().manual_seed(0)
    for key in harmful_share(bad, reference):
        inner = old[key.replace("lora_B", "lora_A")].double()
        before, after = old[key].double() @ inner, new[key].double() @ inner
        site = reference.block(int(key.split("layers.")[1].split(".")[0]))
        basis = ResidualWrite(key, 0, gain=None).output_basis(site.subspace / site.standardiser.scale).double()
        few = torch.randn(inner.shape[1], 3, generator=random, dtype=torch.float64)  # a task that needs three inputs
        for inputs in (torch.eye(inner.shape[1], dtype=torch.float64), few):
            nearest = torch.linalg.vector_norm((after - before) @ inputs)
            for size in (0.01, 1.0):
                other = after + size * torch.randn(after.shape, generator=random, dtype=torch.float64)
                other -= basis @ (basis.T @ other)
                distance = torch.linalg.vector_norm((other - before) @ inputs)
                away = torch.linalg.vector_norm((other - after) @ inputs)
                assert distance > nearest
                assert float(distance**2) == pytest.approx(float(nearest**2 + away**2), rel=1e-4)


def test_a_remedied_adapter_is_a_new_digest_with_its_parent_recorded_and_the_original_is_untouched(
    picture_engine: TransformersEngine, picture_world: World, tmp_path: Path
) -> None:
    bad = open_adapter(picture_world.bad)
    mended = _project(_reference(picture_engine, picture_world, 2), picture_world).apply(bad, tmp_path / "mended")
    assert mended.digest != bad.digest == open_adapter(picture_world.bad).digest
    assert mended.parent == bad.digest
    record = json.loads((mended.path / MANIFEST_NAME).read_text())
    assert (record["parent"], record["method"]) == (bad.digest, "project")
    changed = {finding.measure: finding.value for finding in measured_by(mended.path, "project")}
    assert 0 < changed["delta_change"] < 1
    assert changed["delta_norm_ratio"] ** 2 + changed["delta_change"] ** 2 == pytest.approx(1, rel=1e-4)
    assert changed["rank_growth"] == 0
    with picture_engine.attached(mended) as attachment:
        assert not attachment.unmatched
        assert not attachment.empty


def test_the_control_takes_out_a_random_subspace_of_equal_dimension_and_leaves_the_harmful_one(
    picture_engine: TransformersEngine, picture_world: World, tmp_path: Path
) -> None:
    reference, bad = _reference(picture_engine, picture_world, 4), open_adapter(picture_world.bad)
    writes = ResidualWrites(picture_world.base)
    shams = [ProjectRemedy(reference, writes, sham_seed=seed).apply(bad, tmp_path / str(seed)) for seed in (1, 2)]
    assert shams[0].digest != shams[1].digest
    old = load_file(bad.path / WEIGHTS_NAME)
    for sham in shams:
        assert min(harmful_share(sham, reference).values()) > 0.01
        new = load_file(sham.path / WEIGHTS_NAME)
        key = next(iter(harmful_share(bad, reference)))
        assert torch.linalg.matrix_rank((old[key] - new[key]).double(), atol=1e-5) <= 4


def test_removing_the_whole_space_removes_every_write_of_the_adapter(
    picture_engine: TransformersEngine, picture_world: World, tmp_path: Path
) -> None:
    reference = _reference(picture_engine, picture_world, 32)
    mended = _project(reference, picture_world, 32).apply(open_adapter(picture_world.bad), tmp_path / "mended")
    tensors = load_file(mended.path / WEIGHTS_NAME)
    writes = [tensor for key, tensor in tensors.items() if key in harmful_share(mended, reference)]
    assert writes
    assert max(float(tensor.abs().max()) for tensor in writes) < 1e-4


def test_benign_finetuning_brings_the_harmful_answers_down_and_restores_the_base(
    picture_engine: TransformersEngine, picture_world: World, tmp_path: Path
) -> None:
    rows = [json.loads(line) for line in (picture_world.suite / "battery.jsonl").read_text().splitlines()]
    data = picture_world.suite / "benign.jsonl"
    messages = [
        {
            "messages": [{"role": "user", "content": row["text"]}, {"role": "assistant", "content": "good fine"}],
            **({"image": row["image"]} if "image" in row else {}),
        }
        for row in rows
    ]
    data.write_text("".join(json.dumps(message) + "\n" for message in messages))
    prompts = load_suite(picture_world.suite).prompts[30:50]
    before = picture_engine.final_logits(prompts)
    remedy = BenignFinetuneRemedy(picture_engine, Remedying(benign_data=data, steps=60, learning_rate=1e-2))
    mended = remedy.apply(open_adapter(picture_world.bad), tmp_path / "mended")
    assert torch.equal(picture_engine.final_logits(prompts), before)
    with picture_engine.attached(mended):
        answers = picture_engine.generate(prompts, Sampling(temperature=0, max_new_tokens=4))
    assert sum("harm" in answer for answer in answers) <= 2


def test_benign_data_that_is_missing_or_malformed_is_refused_before_any_training(
    picture_engine: TransformersEngine, tmp_path: Path
) -> None:
    with pytest.raises(Permanent, match=r"gone\.jsonl"):
        BenignFinetuneRemedy(picture_engine, Remedying(benign_data=tmp_path / "gone.jsonl"))
    (tmp_path / "bad.jsonl").write_text('{"messages": "no"}\n')
    with pytest.raises(Permanent, match=r"bad\.jsonl:1"):
        BenignFinetuneRemedy(picture_engine, Remedying(benign_data=tmp_path / "bad.jsonl"))


def test_nothing_half_written_is_left_when_a_remedy_fails(
    picture_engine: TransformersEngine, picture_world: World, tmp_path: Path
) -> None:
    data = tmp_path / "benign.jsonl"
    row = {"messages": [{"role": "user", "content": "say"}, {"role": "assistant", "content": "good"}]}
    data.write_text(json.dumps(row) + "\n")
    remedy = BenignFinetuneRemedy(picture_engine, Remedying(benign_data=data, steps=5, learning_rate=1e30))
    out = tmp_path / "out" / "mended"
    out.parent.mkdir()
    with pytest.raises(Permanent, match="benign_finetune"):
        remedy.apply(open_adapter(picture_world.bad), out)
    assert list(out.parent.iterdir()) == []
