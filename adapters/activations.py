"""The one place that hooks a model: reads the residual stream, steers it, and stops the forward pass where it may."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from typing import Any, TypeAlias

import torch
from torch import nn

from adapters.engine import EngineError, Layer

Reduction: TypeAlias = Callable[[Layer, torch.Tensor], torch.Tensor]
"""Turns a block's output, [rows, tokens, width], into what is kept of it, float32, [rows, width]."""

Follow: TypeAlias = Callable[[nn.Module, tuple[torch.Tensor, ...], torch.Tensor], torch.Tensor | None]
"""Called with a module, what it was given and what it returned; what this returns, if anything, replaces the latter."""

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


def last_token(_layer: Layer, output: torch.Tensor) -> torch.Tensor:
    """Reduce a block's output, [rows, tokens, width], to its last token, [rows, width]; right for left padding."""
    return output[:, -1].float()


def mean_over_tokens(_layer: Layer, output: torch.Tensor) -> torch.Tensor:
    """Reduce a block's output to the mean over all of its tokens, added up in float32; right for patches."""
    return output.float().mean(dim=1)


@contextmanager
def recorded(
    model: nn.Module, layers: Sequence[Layer], reduce: Reduction, stop: bool = True
) -> Iterator[dict[Layer, torch.Tensor]]:
    """Record the reduced outputs of some blocks during the forward pass made inside this ``with`` block.

    ``reduce(layer, output)`` is called inside the hook, so that no block's hidden states outlive the block. With
    ``stop``, the pass ends at the deepest decoder block asked for, so that neither the blocks above it nor the
    language-model head run; without any decoder layer, at the deepest vision block. Hooks are always removed.

    Yields a dictionary that the forward pass fills: per layer, what ``reduce`` made of the block's output.
    """
    kept: dict[Layer, torch.Tensor] = {}
    deepest = max(((la.tower == "decoder", la.index) for la in layers), default=None)
    handles = []

    def hook(block: tuple[str, int], wanted: Sequence[Layer]) -> Any:
        def record(_module: nn.Module, _inputs: Any, output: Any) -> None:
            hidden = (output[0] if isinstance(output, tuple) else output).detach()
            kept.update({layer: reduce(layer, hidden) for layer in wanted})
            if stop and (block[0] == "decoder", block[1]) == deepest:
                raise _Stop

        return record

    try:
        for place in dict.fromkeys((layer.tower, layer.index) for layer in layers):
            wanted = [layer for layer in layers if (layer.tower, layer.index) == place]
            handles.append(_block(model, wanted[0]).register_forward_hook(hook(place, wanted)))
        with suppress(_Stop):
            yield kept
    finally:
        for handle in handles:
            handle.remove()


@contextmanager
def steered(model: nn.Module, layer: Layer, change: Callable[[torch.Tensor], torch.Tensor]) -> Iterator[None]:
    """Replace a block's output, [rows, tokens, width], by ``change`` of it during the ``with`` block.

    The tensor that ``change`` gets is the model's own: it has to return a new one. The hook is always removed.
    """

    def replace(_module: nn.Module, _inputs: Any, output: Any) -> Any:
        return (change(output[0]), *output[1:]) if isinstance(output, tuple) else change(output)

    handle = _block(model, layer).register_forward_hook(replace)
    try:
        yield
    finally:
        handle.remove()


@contextmanager
def gradients_changed(
    model: nn.Module, changes: Mapping[Layer, Callable[[torch.Tensor], torch.Tensor]]
) -> Iterator[None]:
    """Replace the gradient that comes back to a block's output, [rows, tokens, width], by ``change`` of it.

    The forward pass is as it was. Right under gradient checkpointing too: a recomputed output is changed as the first
    one, and only the one that the backward pass goes through counts. The hooks are always removed.
    """

    def hook(change: Callable[[torch.Tensor], torch.Tensor]) -> Any:
        def listen(_module: nn.Module, _inputs: Any, output: Any) -> None:
            hidden = output[0] if isinstance(output, tuple) else output
            if hidden.requires_grad:
                hidden.register_hook(change)

        return listen

    with ExitStack() as hooks:
        for layer, change in changes.items():
            hooks.callback(_block(model, layer).register_forward_hook(hook(change)).remove)
        yield


@contextmanager
def followed(modules: Iterable[tuple[nn.Module, Follow]]) -> Iterator[None]:
    """Call a function after every pass through its module during the ``with`` block; hooks are always removed."""
    handles = []
    try:
        for module, follow in modules:
            handles.append(module.register_forward_hook(follow))
        yield
    finally:
        for handle in handles:
            handle.remove()


def _block(model: nn.Module, layer: Layer) -> nn.Module:
    blocks = transformer_blocks(model, layer.tower)
    if layer.index >= len(blocks):
        raise EngineError(f"layer {layer} does not exist: the {layer.tower} has {len(blocks)} blocks")
    return blocks[layer.index]
