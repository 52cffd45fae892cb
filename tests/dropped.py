"""Small adapters as trainers drop them: whole files of a few hundred bytes, made without torch."""

from __future__ import annotations

import json
from pathlib import Path

CONFIG = "adapter_config.json"
WEIGHTS = "adapter_model.safetensors"
INDEX = "adapter_model.safetensors.index.json"


def weights(number: int = 0, values: int = 16) -> bytes:
    """A whole safetensors file with one tensor of so many float32 values, others for every ``number``."""
    payload = number.to_bytes(4, "little") * values
    tensor = {"dtype": "F32", "shape": [values], "data_offsets": [0, len(payload)]}
    header = json.dumps({"lora_A.weight": tensor}).encode()
    return len(header).to_bytes(8, "little") + header + payload


def drop(folder: Path, number: int = 0) -> Path:
    """Write an adapter file by file, as a trainer does."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / CONFIG).write_text(json.dumps({"peft_type": "LORA", "r": 4, "number": number}))
    (folder / WEIGHTS).write_bytes(weights(number))
    return folder


def drop_sharded(folder: Path, shards: int = 2) -> Path:
    """Write an adapter whose weights lie in shards, with their index."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / CONFIG).write_text("{}")
    names = [f"adapter_model-{n:05}-of-{shards:05}.safetensors" for n in range(1, shards + 1)]
    (folder / INDEX).write_text(json.dumps({"weight_map": {f"tensor-{n}": name for n, name in enumerate(names)}}))
    for number, name in enumerate(names):
        (folder / name).write_bytes(weights(number))
    return folder
