"""The decoder's writes to the residual stream: which linear layers make them, and what stands in between.

A block of most decoders adds the outputs of two linear layers to the stream as they are. Gemma 2 and 3, OLMo 2 and
GLM-4 normalise each output first: what reaches the stream is ``gain · x / rms(x)``, gain by dimension. It is orthogonal
to a direction v exactly where ``Σ v_i gain_i x_i = 0``, so that for a layer's output v has to be weighted by the gain.
How long a write is depends on all of x by rms(x); which way it points, within what is orthogonal, does not.
"""

from __future__ import annotations

import copy
import re
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from adapters.activations import transformer_blocks
from adapters.anatomy import part_of
from adapters.base_model import folder_of
from adapters.engine import BaseUnloadable, EngineError
from adapters.problems import shown
from adapters.skeleton import skeleton

# Output projections of attention and of the feed-forward block, under the names that the common models use.
_WRITE = re.compile(
    r"(?:^|\.)(?:layers|h|blocks)\.(?P<block>\d+)\.(?P<within>(?:.+\.)?(?:o_proj|out_proj|down_proj|fc2|c_proj))$"
)
_IN_BLOCK = re.compile(r"(?:^|\.)(?:layers|h|blocks)\.(?P<block>\d+)\.(?P<within>.+)$")
_ATTENTION = re.compile(r"(?:^|\.)(?:self_attn|attn|attention|self_attention)\.")

_AFTER = (
    {"attention": "post_attention_layernorm", "feed_forward": "post_feedforward_layernorm"},
    {"attention": "post_self_attn_layernorm", "feed_forward": "post_mlp_layernorm"},
)
"""Norms between a write and the stream; where a block has only the first of a pair, that one stands elsewhere (Llama
calls the norm before its feed-forward block ``post_attention_layernorm``)."""
_ELSEWHERE = {
    *("input_layernorm", "pre_feedforward_layernorm", "post_attention_layernorm", "ln_1", "ln_2", "ln_attn"),
    *("self_attn_layer_norm", "final_layer_norm"),
}
_DEPENDENT = 1e-6
"""A direction that adds less than this share of the largest one to a span is one that rounding made up."""


class WritesUnknown(EngineError):
    """What a base's layers write to the residual stream cannot be told from its files; the message says why."""


def block_written(module: str) -> int | None:
    """Number of the decoder block whose residual write this linear layer makes; None where it makes none."""
    place = _WRITE.search(module) if part_of(module) == "decoder" else None
    return int(place["block"]) if place else None


@dataclass(frozen=True, slots=True)
class ResidualWrite:
    """A linear layer whose output is added to the decoder's residual stream."""

    module: str
    """Its name in the model."""
    block: int
    """The decoder block that it belongs to."""
    gain: Tensor | None
    """float32, [d], of the root-mean-square norm that its output passes first; None where it passes none."""

    def output_basis(self, directions: Tensor) -> Tensor:
        """Return what the layer's output must be orthogonal to, for what reaches the stream to be to ``directions``.

        Args:
            directions: rows in the raw stream, [n, d]; neither unit nor orthogonal by need.

        Returns:
            Orthonormal columns, float32, [d, k]; k is below n where the rows depend on one another.
        """
        weighted = directions.double() if self.gain is None else directions.double() * self.gain.double()
        left, singular, _ = torch.linalg.svd(weighted.T, full_matrices=False)
        kept = singular > _DEPENDENT * singular[:1].clamp_min(1e-300)
        basis: Tensor = left[:, kept].float().contiguous()
        return basis


class ResidualWrites:
    """All residual writes of one base, read from its files; no weight is read before it is asked for."""

    def __init__(self, base: Path | str) -> None:
        """Take a folder or Hub id; nothing is read yet."""
        self._base = base
        self._known: dict[str, ResidualWrite] = {}

    def of(self, module: str) -> ResidualWrite | None:
        """Return the write that a linear layer makes, by an adapter's name or the model's; None where it makes none.

        Raises:
            WritesUnknown: the base has no such block or layer, or a norm whose place or kind is not known.
            BaseUnloadable: the base's config cannot be read.
        """
        place = _WRITE.search(module) if part_of(module) == "decoder" else None
        if place is None:
            return None
        if module not in self._known:
            block, within = int(place["block"]), place["within"]
            if block >= len(self._blocks):
                raise WritesUnknown(f"{shown(module, 160)} is in no block of the base, which has {len(self._blocks)}")
            self._known[module] = ResidualWrite(f"{self._place}.{block}.{within}", block, self._gain(block, within))
        return self._known[module]

    def all(self) -> list[ResidualWrite]:
        """Every residual write of the decoder, block after block.

        Raises:
            WritesUnknown: a norm's place or kind is not known.
            BaseUnloadable: the base's config cannot be read.
        """
        found = []
        for block in range(len(self._blocks)):
            for name, module in self._blocks[block].named_modules():
                write = self.of(f"{self._place}.{block}.{name}") if _is_linear(module) else None
                found += [write] if write is not None else []
        return found

    def weight(self, write: ResidualWrite) -> Tensor:
        """Return the base's weight of a write, float32, [d, inputs].

        Raises:
            WritesUnknown: the base holds it under another name, quantised, or with a bias beside it.
        """
        name = write.module.removeprefix(f"{self._place}.{write.block}.")
        try:
            layer: Any = self._blocks[write.block].get_submodule(name)
        except AttributeError:
            raise WritesUnknown(f"{shown(write.module, 160)} is no layer of the base") from None
        if not _is_linear(layer):
            raise WritesUnknown(f"{write.module} of the base is a {type(layer).__name__} and no plain linear layer")
        if layer.bias is not None:
            raise WritesUnknown(f"{write.module} of the base has a bias, which no low-rank change reaches")
        weight = self._tensor(write.block, f"{name}.weight")
        return weight if isinstance(layer, nn.Linear) else weight.T.contiguous()

    def _gain(self, block: int, within: str) -> Tensor | None:
        children = dict(self._blocks[block].named_children())
        kind = "attention" if _ATTENTION.search(within) else "feed_forward"
        pair = next((pair for pair in _AFTER if set(pair.values()) <= set(children)), {})
        known = {*_ELSEWHERE, *pair.values()}
        strange = [n for n, m in children.items() if "norm" in type(m).__name__.lower() and n not in known]
        if strange:
            raise WritesUnknown(f"whether the norm {strange[0]} of block {block} changes residual writes is not known")
        name = pair.get(kind)
        return None if name is None else self._gain_of(children[name], self._tensor(block, f"{name}.weight"), name)

    def _gain_of(self, empty: nn.Module, weight: Tensor, name: str) -> Tensor:
        """Ask the model's own norm what it does, because Gemma's gain is 1 + weight and others' the weight."""
        if {key for key, _ in empty.named_parameters()} != {"weight"}:
            raise WritesUnknown(f"{name} of the base is no root-mean-square norm with a gain by dimension")
        norm: Any = copy.deepcopy(empty).to_empty(device="cpu").float()
        norm.load_state_dict({"weight": weight})
        drawn = torch.randn(len(weight), generator=torch.Generator().manual_seed(0))
        with torch.inference_mode():
            gain: Tensor = norm(torch.ones_like(drawn))
            tried = norm(drawn)
        expected = gain * drawn / drawn.square().mean().sqrt()
        if not torch.allclose(tried, expected, rtol=1e-4, atol=1e-5):
            raise WritesUnknown(f"{name} of the base is no root-mean-square norm with a gain by dimension")
        return gain.clone()

    def _tensor(self, block: int, within: str) -> Tensor:
        file = self._files.get((block, within))
        if file is None:
            raise WritesUnknown(f"{self._place}.{block}.{within} is not in the base's safetensors files")
        try:
            with safe_open(file[0], framework="pt", device="cpu") as tensors:
                found: Tensor = tensors.get_tensor(file[1])
        except (OSError, SafetensorError) as error:
            raise WritesUnknown(f"{file[0].name} of the base cannot be read: {shown(str(error), 120)}") from error
        if not found.is_floating_point():
            raise WritesUnknown(f"{file[1]} of the base is quantised")
        return found.float()

    @cached_property
    def _blocks(self) -> nn.ModuleList:
        """The decoder's blocks without storage behind their parameters."""
        return transformer_blocks(self._model, "decoder")

    @cached_property
    def _place(self) -> str:
        """The blocks' name in the model."""
        name: str = next(name for name, module in self._model.named_modules() if module is self._blocks)
        return name

    @cached_property
    def _model(self) -> nn.Module:
        model: nn.Module = skeleton(folder_of(self._base)).model
        return model

    @cached_property
    def _files(self) -> dict[tuple[int, str], tuple[Path, str]]:
        """File and key of the decoder's tensors by block and name within it; files name what precedes differently."""
        found: dict[tuple[int, str], tuple[Path, str]] = {}
        for path in sorted(folder_of(self._base).glob("*.safetensors")):
            try:
                with safe_open(path, framework="pt", device="cpu") as tensors:
                    keys = list(tensors.keys())
            except (OSError, SafetensorError) as error:
                raise BaseUnloadable(f"base {self._base}: {path.name}: {shown(str(error), 120)}") from error
            for key in keys:
                place = _IN_BLOCK.search(key) if part_of(key) == "decoder" else None
                if place is not None:
                    found[int(place["block"]), place["within"]] = path, key
        return found


def _is_linear(module: nn.Module) -> bool:
    return isinstance(module, nn.Linear) or type(module).__name__ == "Conv1D"  # GPT-2's, its weight stored transposed
