"""An adapter as it was before it learnt anything: the same ranks, scales and targets, and no effect."""

from __future__ import annotations

import math
import shutil
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from adapters.adapter import CONFIG_NAME, WEIGHTS_NAME, Adapter


class NoUntrained(ValueError):
    """This kind of adapter cannot be set back; the message names the tensor that has no known beginning."""


def write_untrained(adapter: Adapter, out: Path, seed: int = 0) -> Path:
    """Write what ``adapter`` started from into the new folder ``out``: A drawn anew, B zero, as PEFT begins a LoRA.

    A is uniform in ±1/sqrt(inputs), which is what ``kaiming_uniform_`` with a = sqrt(5) comes to.

    Args:
        adapter: whose config and shapes are taken.
        out: a folder that does not exist yet.
        seed: of A.

    Raises:
        NoUntrained: it holds more than LoRA pairs of linear layers (DoRA's magnitudes, saved modules, embeddings).
        FileExistsError: ``out`` exists.
    """
    tensors = load_file(adapter.path / WEIGHTS_NAME)
    drawn = torch.Generator().manual_seed(seed)
    begun = {key: _begun(key, tensors[key], drawn) for key in sorted(tensors)}
    out.mkdir(parents=True)
    shutil.copyfile(adapter.path / CONFIG_NAME, out / CONFIG_NAME)
    save_file(begun, out / WEIGHTS_NAME, metadata={"format": "pt"})
    return out


def _begun(key: str, tensor: Tensor, drawn: torch.Generator) -> Tensor:
    if ".lora_B." in key and tensor.ndim == 2:
        return torch.zeros_like(tensor)
    if ".lora_A." in key and tensor.ndim == 2:
        bound = 1 / math.sqrt(tensor.shape[1])
        return ((torch.rand(tensor.shape, generator=drawn) * 2 - 1) * bound).to(tensor.dtype)
    raise NoUntrained(f"{key} is no LoRA pair of a linear layer, and what it was before training is not known")
