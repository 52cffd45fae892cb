"""Adapters as people have them on disk, good and broken, on a tiny random Gemma3 that is built on the spot."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

CONFIG = "adapter_config.json"
WEIGHTS = "adapter_model.safetensors"
BASE_NAME = "tiny-random-gemma3"
HIDDEN = 32
MODULE = "model.language_model.layers.0.self_attn.q_proj"
"""A module of the tiny base that takes 32 inputs and gives 32 outputs."""


@cache
def gemma_config() -> Any:
    """A Gemma3 with two layers of width 32 in either tower."""
    from transformers import Gemma3Config

    return Gemma3Config(
        text_config={
            "vocab_size": 64,
            "hidden_size": HIDDEN,
            "intermediate_size": 64,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "num_key_value_heads": 1,
            "head_dim": 16,
            "sliding_window": 16,
            "max_position_embeddings": 128,
        },
        vision_config={
            "hidden_size": HIDDEN,
            "intermediate_size": 64,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "image_size": 32,
            "patch_size": 8,
        },
        mm_tokens_per_image=4,
        image_token_index=63,
        boi_token_index=61,
        eoi_token_index=62,
    )


def random_gemma(seed: int = 0) -> Any:
    """The tiny Gemma3 in memory, its weights random."""
    from transformers import Gemma3ForConditionalGeneration

    torch.manual_seed(seed)
    return Gemma3ForConditionalGeneration(gemma_config())


def write_base(folder: Path, **extra: Any) -> Path:
    """A base's folder with its config alone, which is all that structure needs."""
    folder.mkdir(parents=True)
    config = gemma_config().to_dict() | {"architectures": ["Gemma3ForConditionalGeneration"]} | extra
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def trained_adapter(folder: Path, seed: int = 0, **lora: Any) -> Path:
    """An adapter that real PEFT made of the tiny Gemma3, its pairs random as if trained."""
    from peft import LoraConfig, get_peft_model

    settings = {
        "task_type": "CAUSAL_LM",
        "r": 4,
        "lora_alpha": 8,
        "target_modules": ["q_proj", "v_proj", "fc1"],
        "init_lora_weights": False,
    }
    base = random_gemma()
    base.name_or_path = BASE_NAME
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # PEFT uses a name that transformers has deprecated
        model = get_peft_model(base, LoraConfig(**settings | lora))
        torch.manual_seed(seed)
        for name, parameter in model.named_parameters():
            if ".lora_" in name:
                torch.nn.init.normal_(parameter, std=0.02)
        model.save_pretrained(str(folder), save_embedding_layers=False)
    return edit_config(folder, base_model_name_or_path=BASE_NAME, init_lora_weights=True)


def plain_tensors(rank: int = 4, inputs: int = HIDDEN, outputs: int = HIDDEN) -> dict[str, torch.Tensor]:
    """One pair, for ``MODULE``."""
    generator = torch.Generator().manual_seed(0)
    return {
        f"base_model.model.{MODULE}.lora_A.weight": torch.randn(rank, inputs, generator=generator),
        f"base_model.model.{MODULE}.lora_B.weight": torch.randn(outputs, rank, generator=generator),
    }


def write_adapter(folder: Path, tensors: Mapping[str, torch.Tensor] | None = None, /, **config: Any) -> Path:
    """A small adapter written by hand: the given tensors (one rank-4 pair by default) and config values."""
    folder.mkdir(parents=True, exist_ok=True)
    plain = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": BASE_NAME,
        "r": 4,
        "lora_alpha": 8,
        "lora_dropout": 0.0,
        "target_modules": ["q_proj"],
        "bias": "none",
        "init_lora_weights": True,
        "inference_mode": True,
        "megatron_core": "megatron.core",
    }
    (folder / CONFIG).write_text(json.dumps(plain | config))
    save_file(dict(plain_tensors() if tensors is None else tensors), folder / WEIGHTS, metadata={"format": "pt"})
    return folder


def edit_config(folder: Path, **changes: Any) -> Path:
    """Change values of an adapter's config."""
    path = folder / CONFIG
    path.write_text(json.dumps(json.loads(path.read_text()) | changes, indent=2))
    return folder


def rename_tensors(folder: Path, rename: Callable[[str], str]) -> Path:
    """Give an adapter's tensors other names."""
    save_file({rename(key): tensor for key, tensor in load_file(folder / WEIGHTS).items()}, folder / WEIGHTS)
    return folder


def write_raw(folder: Path, header: object, payload: bytes, claimed: int | None = None) -> Path:
    """Weights with any header at all: an object to be written as JSON, or the very bytes."""
    raw = header if isinstance(header, bytes) else json.dumps(header).encode()
    length = len(raw) if claimed is None else claimed
    (folder / WEIGHTS).write_bytes(length.to_bytes(8, "little") + raw + payload)
    return folder


def edit_header(folder: Path, change: Callable[[dict[str, Any]], None], more: bytes = b"") -> Path:
    """Let a header lie about weights that were good."""
    raw = (folder / WEIGHTS).read_bytes()
    end = 8 + int.from_bytes(raw[:8], "little")
    header = json.loads(raw[8:end])
    change(header)
    return write_raw(folder, header, raw[end:] + more)
