"""Steering baked into a LoRA: the smallest strength that passes, along the Reference's response contrast."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from adapters_on_disk import trained_adapter
from conftest import World
from safetensors.torch import load_file

from adapters.adapter import CONFIG_NAME, MANIFEST_NAME, WEIGHTS_NAME, Adapter, digest_adapter, open_adapter
from adapters.residual_writes import ResidualWrites
from adapters.transformers_engine import TransformersEngine
from guards.dose_response import Measuring, Reading
from guards.errors import Permanent, Untreatable
from guards.reference import Reference, ReferenceUnusable
from guards.remedies.steer import SteerRemedy, contrast_directions
from guards.remedy_record import measured_by
from policies.findings import Finding
from policies.remedying import Remedying

HERE = {"modality": "text"}


def passing_at(number: int, asked: list[str]) -> Measuring:
    """Let the so many-th adapter that is asked pass."""

    def measure(adapter: Adapter) -> Reading:
        asked.append(digest_adapter(adapter.path))
        rise = Finding(
            guard="battery", version="1", measure="misalignment_rise", value=1 / len(asked), n=9, labels=HERE
        )
        return Reading(passes=len(asked) == number, rises=(rise,))

    return measure


def within(adapter: Adapter, writes: ResidualWrites, directions: dict[int, torch.Tensor]) -> dict[int, float]:
    """Largest share of a layer's whole write, base and adapter together, that lies along the directions, by block."""
    tensors = load_file(adapter.path / WEIGHTS_NAME)
    config = json.loads((adapter.path / CONFIG_NAME).read_text())
    shares: dict[int, float] = {}
    for write in writes.all():
        outer = next((t for key, t in tensors.items() if f"{write.module}.lora_B" in key), None)
        whole = writes.weight(write)
        if outer is not None:
            inner = next(t for key, t in tensors.items() if f"{write.module}.lora_A" in key)
            whole = whole + config["lora_alpha"] / config["r"] * outer @ inner
        basis = write.output_basis(directions[write.block])
        share = float((basis.T @ whole).norm() / whole.norm())
        shares[write.block] = max(shares.get(write.block, 0.0), share)
    return shares


@pytest.fixture(scope="module")
def writes(picture_world: World) -> ResidualWrites:
    return ResidualWrites(picture_world.base)


def test_the_smallest_strength_that_passes_is_kept_with_the_curve_and_the_growth_of_its_rank(
    reference: Reference,
    writes: ResidualWrites,
    picture_world: World,
    picture_engine: TransformersEngine,
    tmp_path: Path,
) -> None:
    bad, asked = open_adapter(picture_world.bad), list[str]()
    settings = Remedying(steer_strengths=(1.0, 0.2, 0.6))
    made = SteerRemedy(reference, writes, passing_at(2, asked), settings).apply(bad, tmp_path / "made")
    found = measured_by(made.path, "steer")
    curve = {f.labels["dose"]: f.labels["passes"] for f in found if f.measure == "dose_misalignment_rise"}
    assert curve == {"0.2": "no", "0.6": "yes"}
    assert len(set(asked)) == 2
    assert asked[1] == made.digest != bad.digest == open_adapter(picture_world.bad).digest
    told = {f.measure: f.value for f in found if f.measure not in ("dose_misalignment_rise",)}
    assert told["rank_growth"] == len(reference.facts.categories) == 2
    assert told["delta_change"] > 0
    record = json.loads((made.path / MANIFEST_NAME).read_text())
    assert (record["parent"], record["method"]) == (bad.digest, "steer")
    assert [path.name for path in tmp_path.iterdir()] == ["made"]
    with picture_engine.attached(made) as attachment:
        assert not attachment.unmatched
        assert not attachment.empty


def test_at_full_strength_no_layer_writes_along_the_contrast_and_a_blocks_choice_is_kept_to(
    reference: Reference, writes: ResidualWrites, picture_world: World, tmp_path: Path
) -> None:
    bad, directions = open_adapter(picture_world.bad), contrast_directions(reference)
    before = within(bad, writes, directions)
    assert min(before.values()) > 0.05
    whole = SteerRemedy(reference, writes, None, Remedying(), strength=1.0).apply(bad, tmp_path / "whole")
    assert max(within(whole, writes, directions).values()) < 1e-5
    settings = Remedying(steer_blocks=(1,))
    one = within(
        SteerRemedy(reference, writes, None, settings, strength=1.0).apply(bad, tmp_path / "one"), writes, directions
    )
    assert one.pop(1) < 1e-5
    assert one == pytest.approx({block: share for block, share in before.items() if block != 1}, rel=1e-4)


def test_the_control_takes_out_as_many_random_directions_and_leaves_the_contrast(
    reference: Reference, writes: ResidualWrites, picture_world: World, tmp_path: Path
) -> None:
    bad, directions = open_adapter(picture_world.bad), contrast_directions(reference)
    growths = set()
    for seed in (1, 2):
        sham = SteerRemedy(reference, writes, None, Remedying(), strength=1.0, sham_seed=seed)
        made = sham.apply(bad, tmp_path / str(seed))
        assert min(within(made, writes, directions).values()) > 0.02
        assert max(within(made, writes, contrast_directions(reference, sham_seed=seed)).values()) < 1e-5
        growths |= {f.value for f in measured_by(made.path, "steer") if f.measure == "rank_growth"}
    assert growths == {2}
    assert digest_adapter(tmp_path / "1") != digest_adapter(tmp_path / "2")


@pytest.mark.parametrize(
    ("lora", "reason"), [({"use_dora": True}, "it is DoRA"), ({"rank_pattern": {"v_proj": 2}}, "of their own")]
)
def test_an_adapter_that_has_no_place_for_it_is_not_treated_and_nothing_is_left(
    lora: dict[str, Any], reason: str, reference: Reference, writes: ResidualWrites, tmp_path: Path
) -> None:
    adapter = open_adapter(trained_adapter(tmp_path / "adapter", **lora))
    out = tmp_path / "out" / "made"
    out.parent.mkdir()
    with pytest.raises(Untreatable, match=f"steer cannot treat this adapter: {reason}|steer .*{reason}"):
        SteerRemedy(reference, writes, None, Remedying(), strength=1.0).apply(adapter, out)
    assert list(out.parent.iterdir()) == []


def test_no_strength_that_passes_a_spent_time_and_an_unasked_adapter_choose_nothing(
    reference: Reference, writes: ResidualWrites, picture_world: World, tmp_path: Path
) -> None:
    bad = open_adapter(picture_world.bad)

    def apply(measure: Measuring | None, **settings: Any) -> None:
        SteerRemedy(reference, writes, measure, Remedying(**settings)).apply(bad, tmp_path / "made")

    with pytest.raises(Untreatable, match=r"no dose passes \(at 0\.25: text \+100; .*at 1: text \+25\)"):
        apply(passing_at(99, []))
    with pytest.raises(Permanent, match=r"remedying\.seconds"):
        apply(passing_at(99, []), seconds=1e-9)
    with pytest.raises(Permanent, match="budget of 3") as refused:
        apply(lambda _: Reading(passes=False, unable="the review's budget of 3 judge calls is spent"))
    assert not isinstance(refused.value, Untreatable)
    with pytest.raises(Permanent, match="suites and a judge"):
        apply(None)
    assert list(tmp_path.iterdir()) == []


def test_a_reference_without_the_contrast_or_the_block_is_refused_before_anything_is_asked(
    reference: Reference, writes: ResidualWrites
) -> None:
    bare = {place: replace(site, contrast=site.contrast[:0]) for place, site in reference.sites.items()}
    with pytest.raises(ReferenceUnusable, match="calibrate with --contrast"):
        SteerRemedy(replace(reference, sites=bare), writes, passing_at(1, []), Remedying())
    with pytest.raises(ReferenceUnusable, match="block 99 is not in the Reference"):
        SteerRemedy(reference, writes, passing_at(1, []), Remedying(steer_blocks=(99,)))
