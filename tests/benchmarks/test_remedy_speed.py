"""The benchmark of the remedies' speed does what it says, on one block and few steps."""

from __future__ import annotations

import json
from pathlib import Path

import torch

from adapters.adapter import CONFIG_NAME
from benchmarks import remedy_speed
from benchmarks.weights import write_large
from guards.remedy_record import measured_by


def test_every_way_is_timed_and_makes_what_it_is_named_after(tmp_path: Path) -> None:
    adapter = write_large(tmp_path / "adapter", 2, blocks=1, dtype=torch.bfloat16)
    ways = remedy_speed.file_ways(adapter, remedy_speed.write_base(tmp_path / "base", 1), tmp_path, 1)
    times = remedy_speed.processor_seconds(ways, 1)
    projected = {f.measure: f.value for f in measured_by(tmp_path / "project", "project")}
    assert 0 < projected["delta_change"] < projected["delta_norm_ratio"] < 1
    assert json.loads((tmp_path / "scale" / CONFIG_NAME).read_text())["lora_alpha"] == 1
    assert (tmp_path / "copy.safetensors").stat().st_size > 0
    bare, remedy = remedy_speed.rates(remedy_speed.Steps(tmp_path), 1, count=3)
    assert min(*bare, *remedy) > 0
    told = remedy_speed.report(times, bare, remedy)
    assert all(name in told for name in (*ways, "benign_finetune"))
