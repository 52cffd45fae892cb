"""The one place that hooks a model: reads the residual stream, and stops the forward pass where it may."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

import torch
from torch import nn

from adapters.engine import EngineError, Layer

_DECODER = re.compile(r"(?:^|\.)(?:language_model|text_model|model|transformer|decoder)\.(?:layers|h)$")
_VISION = re.compile(r"(?:^|\.)(?:vision_tower|vision_model|visual|image_encoder)\..*(?:layers|blocks)$")


class _Stop(Exception):
    """Raised by the deepest hook: everything that was asked for has been read."""


def transformer_blocks(model: nn.Module, tower: str) -> nn.ModuleList:
    """Find a tower's list of transformer blocks by name, never by assuming a model class.

    Raises:
        EngineError: the model has no such tower; the message lists the block lists that it has.
    """
    lists = {name: module for name, module in model.named_modules() if isinstance(module, nn.ModuleList)}
    vision = {name: module for name, module in lists.items() if _VISION.search(name)}
    found = vision if tower == "vision" else {n: m for n, m in lists.items() if _DECODER.search(n) and n not in vision}
    if not found:
        raise EngineError(f"no {tower} blocks found among: {', '.join(sorted(lists)) or 'no module lists'}")
    return max(found.values(), key=len)


@contextmanager
def recorded(model: nn.Module, layers: Sequence[Layer], stop: bool = True) -> Iterator[dict[Layer, torch.Tensor]]:
    """Record the outputs of some blocks during the forward pass made inside this ``with`` block.

    With ``stop``, the pass ends at the deepest decoder block asked for, so that neither the blocks above it nor
    the language-model head run; without any decoder layer, at the deepest vision block. Hooks are always removed.

    Yields a dictionary that the forward pass fills: per layer, the block's output, [rows, tokens, width].
    """
    outputs: dict[Layer, torch.Tensor] = {}
    deepest = max(layers, key=lambda layer: (layer.tower == "decoder", layer.index)) if layers else None
    handles = []

    def hook(layer: Layer) -> Any:
        def record(_module: nn.Module, _inputs: Any, output: Any) -> None:
            outputs[layer] = (output[0] if isinstance(output, tuple) else output).detach()
            if stop and layer == deepest:
                raise _Stop

        return record

    try:
        for layer in layers:
            blocks = transformer_blocks(model, layer.tower)
            if layer.index >= len(blocks):
                raise EngineError(f"layer {layer} does not exist: the {layer.tower} has {len(blocks)} blocks")
            handles.append(blocks[layer.index].register_forward_hook(hook(layer)))
        with suppress(_Stop):
            yield outputs
    finally:
        for handle in handles:
            handle.remove()
