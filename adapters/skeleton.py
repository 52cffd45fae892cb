"""The shapes of a base model without its weights: what an adapter's pairs have to fit."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from adapters.adapter import digest_file
from adapters.anatomy import ModulePair
from adapters.base_model import one_line
from adapters.engine import BaseUnloadable

DECLARED_NAME_KEY = "alignwatch_base_name"
"""Extra key in a base's ``config.json`` that names it, whatever its folder is called."""


@dataclass(frozen=True, slots=True)
class Fit:
    """How an adapter's pairs lie on a base."""

    matched: tuple[str, ...]
    """Modules whose pair fits by name and shape, by the base's own names."""
    unmatched: tuple[str, ...]
    """Names in the adapter that no module of the base has; every library drops them silently."""
    misshapen: Mapping[str, str]
    """Module to one line saying both shapes."""
    unchecked: tuple[str, ...] = ()
    """Modules of the base that carry weights of their own kind (fused experts), whose shapes are not compared."""
    renamed: int = 0
    """How many pairs bear an older name that PEFT translates while loading."""
    clashing: bool = False
    """Whether two pairs are translated to one module."""


@dataclass(frozen=True)
class Skeleton:
    """A base's module names and shapes."""

    base: Path
    """The base as it was given."""
    names: tuple[str, ...]
    """What the base is called: its declared names, then its folder's."""
    config_digest: str
    """SHA-256 of ``config.json``, 64 hexadecimal digits."""
    modules: Mapping[str, tuple[int, int]]
    """Module name to (outputs, inputs); for an embedding (width, rows); for a convolution its channels."""
    others: frozenset[str] = frozenset()
    """Names of every other module."""
    model: Any = field(default=None, repr=False, compare=False)
    """The model on the meta device: no storage behind its parameters."""

    def fit(self, pairs: Mapping[str, ModulePair]) -> Fit:
        """Lay an adapter's pairs on the base, by exact name as PEFT does, older names translated as PEFT does."""
        strangers = {name: pair for name, pair in pairs.items() if name not in self.modules}
        renamed = _translate(self.model, strangers) if strangers else {}
        known = {name: pair for name, pair in pairs.items() if name in self.modules}
        misshapen, unmatched, unchecked = {}, [], []
        for name, pair in [*known.items(), *renamed.items()]:
            shape = self.modules.get(name)
            if shape is not None:
                if shape != (pair.outputs, pair.inputs):
                    misshapen[name] = (
                        f"is {pair.inputs} → {pair.outputs} in the adapter and {shape[1]} → {shape[0]} in the base"
                    )
            elif name not in strangers and name.removesuffix(".base_layer") in self.others:
                unchecked.append(name)
            else:
                unmatched.append(name)
        return Fit(
            matched=tuple(sorted({*known, *renamed} & set(self.modules) - set(misshapen))),
            unmatched=tuple(sorted(unmatched)),
            misshapen=misshapen,
            unchecked=tuple(sorted(unchecked)),
            renamed=sum(name in self.modules for name in renamed),
            clashing=not unchecked and (len(renamed) < len(strangers) or any(name in known for name in renamed)),
        )


def skeleton(base: Path) -> Skeleton:
    """Build a base from its config alone, with no storage behind its parameters. No code of it is run.

    ``base`` is a folder, or a Hub id whose config lies in the local cache; nothing is downloaded.

    Raises:
        BaseUnloadable: the config is missing, broken, or of an architecture that transformers does not know.
    """
    config_path = _config_of(base)
    try:
        raw = json.loads(config_path.read_text(encoding="utf-8"))
        model = _meta_model(config_path.parent)
    except FileNotFoundError:
        raise BaseUnloadable(f"base {base}: no config.json there; give the folder of a Hugging Face model") from None
    except (OSError, ValueError, KeyError, RuntimeError, ImportError, TypeError, AttributeError) as error:
        raise BaseUnloadable(f"base {base}: {one_line(error)}") from error
    shapes = {name: _shape(module) for name, module in model.named_modules() if name}
    return Skeleton(
        base=base,
        names=_names(config_path.parent, raw),
        config_digest=digest_file(config_path),
        modules={name: shape for name, shape in shapes.items() if shape},
        others=frozenset(name for name, shape in shapes.items() if not shape),
        model=model,
    )


def _config_of(base: Path) -> Path:
    if not base.exists() and len(base.parts) <= 2 and not base.is_absolute():
        from huggingface_hub import try_to_load_from_cache
        from huggingface_hub.errors import HFValidationError

        with suppress(HFValidationError):
            cached = try_to_load_from_cache(base.as_posix(), "config.json")
            if isinstance(cached, str):
                return Path(cached)
    return base / "config.json"


def _meta_model(base: Path) -> Any:
    from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForImageTextToText

    config = AutoConfig.from_pretrained(base, local_files_only=True)
    pictures = type(config) in AutoModelForImageTextToText._model_mapping
    loader: Any = AutoModelForImageTextToText if pictures else AutoModelForCausalLM
    with torch.device("meta"):
        return loader.from_config(config)


def _shape(module: torch.nn.Module) -> tuple[int, int] | None:
    if isinstance(module, torch.nn.Linear):
        return module.out_features, module.in_features
    if isinstance(module, torch.nn.Embedding):
        return module.embedding_dim, module.num_embeddings
    if isinstance(module, (torch.nn.Conv1d, torch.nn.Conv2d, torch.nn.Conv3d)):
        return module.out_channels, module.in_channels // module.groups
    if type(module).__name__ == "Conv1D":  # GPT-2's linear layer, its weight stored transposed
        weight: Any = module.weight
        inputs, outputs = weight.shape
        return int(outputs), int(inputs)
    return None


def _names(base: Path, raw: Any) -> tuple[str, ...]:
    config = raw if isinstance(raw, dict) else {}
    folder = base.resolve()
    declared = [config.get(DECLARED_NAME_KEY), config.get("_name_or_path"), folder.name]
    if folder.parent.name == "snapshots":  # the Hub's cache: models--owner--name/snapshots/revision
        declared.append("/".join(folder.parent.parent.name.split("--")[1:]))
    return tuple(dict.fromkeys(name for name in declared if isinstance(name, str) and name))


def _translate(model: Any, pairs: Mapping[str, ModulePair]) -> dict[str, ModulePair]:
    """Give pairs with names of older transformers the names that PEFT would load them under."""
    try:
        from peft import LoraConfig
        from peft.utils.transformers_weight_conversion import convert_peft_adapter_state_dict_for_transformers
    except ImportError:  # PEFT before 0.19 translates no names
        return dict(pairs)
    empty = {}
    for name, pair in pairs.items():
        sizes = {"A": (pair.rank, pair.inputs), "B": (pair.outputs, pair.rank)}
        for side, size in sizes.items():
            leaf = f"lora_embedding_{side}" if pair.embedding else f"lora_{side}.weight"
            empty[f"base_model.model.{name}.{leaf}"] = torch.empty(size, device="meta")
    try:
        converted = convert_peft_adapter_state_dict_for_transformers(model, LoraConfig(), empty, "default")
    except Exception:  # a name it cannot translate stays as it is, and is then reported unmatched
        return dict(pairs)
    found = {}
    for key, tensor in converted.items():
        name, _, leaf = key.removeprefix("base_model.model.").rpartition(".lora_")
        other = converted.get(key.replace(".lora_A", ".lora_B").replace(".lora_embedding_A", ".lora_embedding_B"))
        if leaf.startswith(("A", "embedding_A")) and other is not None:
            rank, inputs = tensor.shape[:2]
            found[name] = ModulePair(rank, inputs, other.shape[0], "", "embedding" in leaf)
    return found
