"""Directional ablation of a model's writes to the residual stream, as a low-rank change of its weights.

A layer that writes W' = (I − t·QQᵀ)(W + sBA) where it wrote W + sBA has lost the share t of what it wrote within the
span of Q, whatever its input. The difference to the base's W is of rank r + k at most, with k directions in Q:

    W' − W = s [ (I − t·QQᵀ)B , −t·Q ] [ A ; QᵀW / s ]

so that the base's own writes are ablated too, and an ordinary LoRA file says so. Source: weight orthogonalisation of
Arditi et al., arXiv 2406.11717, section 4.1, there of the base's own matrices.

Exact, to rounding: what each chosen layer adds to the stream has no part (t = 1) in the directions, a norm between the
two included (:mod:`adapters.residual_writes`). Not reached: what the embeddings put into the stream, pictures' tokens
included; layers of blocks that are not chosen; a layer's bias, which a base that has one is refused for. It is not the
same as ablating the *stream* after a block (:mod:`adapters.steering`), which also takes out what came from before.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from adapters.residual_writes import ResidualWrites

_PAIR = re.compile(
    r"(?P<stem>(?:base_model\.model\.)?(?P<module>.+)\.lora_)(?P<side>[AB])(?P<rest>(?:\.[^.]+)?\.weight)"
)
PREFIX = "base_model.model."


class CannotBake(ValueError):
    """The ablation has no place in this adapter's file; the message says why."""


def baked(
    config: Mapping[str, Any],
    tensors: Mapping[str, Tensor],
    writes: ResidualWrites,
    directions: Mapping[int, Tensor],
    strength: float = 1.0,
) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Return an adapter's config and tensors with the ablation in them.

    The rank of every pair grows by the number of directions, because servers want one rank and one α for all: pairs
    that are not ablated get zeros, and α grows with the rank, so that they do what they did.

    Args:
        config: of a plain LoRA with one rank and one α.
        tensors: its pairs.
        writes: of its base.
        directions: raw directions by decoder block, [k, d] each, the same k in all; blocks left out are left alone.
        strength: t, the share that is taken out, above 0 and at most 1.

    Raises:
        CannotBake: ranks or scales of their own, DoRA, or a target that cannot be widened.
        WritesUnknown, BaseUnloadable: what the base writes cannot be told, or its weights cannot be read.
    """
    rank, growth = _plain_rank(config, tensors), max(len(rows) for rows in directions.values())
    alpha = float(config.get("lora_alpha", 8))
    root = bool(config.get("use_rslora"))
    scale = alpha / (math.sqrt(rank) if root else rank)
    made = {key: _widened(key, tensor, growth) for key, tensor in tensors.items()}
    stems = {writes.of(p["module"]): p for key in tensors if (p := _PAIR.fullmatch(key)) and writes.of(p["module"])}
    by_module = {write.module: place for write, place in stems.items() if write is not None}
    like = next(iter(tensors.values()))
    added = []
    for write in writes.all():
        rows = directions.get(write.block)
        if rows is None:
            continue
        place = by_module.get(write.module)
        stem = place["stem"] if place else f"{PREFIX}{write.module}.lora_"
        rest = place["rest"] if place else ".weight"
        added += [] if place else [write.module]
        basis, weight = write.output_basis(rows), writes.weight(write)
        outer = tensors.get(f"{stem}B{rest}", torch.zeros(weight.shape[0], rank)).float()
        inner = tensors.get(f"{stem}A{rest}", torch.zeros(rank, weight.shape[1])).float()
        outer = outer - strength * basis @ (basis.T @ outer)
        new_b, new_a = -strength * basis, basis.T @ weight / scale
        made[f"{stem}B{rest}"] = _wide(torch.cat([outer, new_b], dim=1), rank + growth, 1).to(like.dtype)
        made[f"{stem}A{rest}"] = _wide(torch.cat([inner, new_a]), rank + growth, 0).to(like.dtype)
    grown = alpha * (math.sqrt((rank + growth) / rank) if root else (rank + growth) / rank)
    changed = {**config, "r": rank + growth, "lora_alpha": int(grown) if grown.is_integer() else grown}
    if added:
        changed["target_modules"] = _targets(config, added)
    return changed, made


def _plain_rank(config: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> int:
    if config.get("rank_pattern") or config.get("alpha_pattern"):
        raise CannotBake("its modules have ranks or alphas of their own, which cannot grow together")
    places = {key: _PAIR.fullmatch(key) for key in tensors}
    odd = [key for key, place in places.items() if place is None]
    if config.get("use_dora") or odd:
        what = "it is DoRA" if config.get("use_dora") else f"it holds {odd[0]}, which is no plain pair"
        raise CannotBake(f"{what}, so that a write is not the sum of the base's and the pair's")
    ranks = {tensors[key].shape[0] for key, place in places.items() if place and place["side"] == "A"}
    if len(ranks) != 1:
        raise CannotBake(f"its pairs have the ranks {sorted(ranks)}; one is needed")
    return int(ranks.pop())


def _widened(key: str, tensor: Tensor, growth: int) -> Tensor:
    place = _PAIR.fullmatch(key)
    along = 0 if place and place["side"] == "A" else 1
    return _wide(tensor, tensor.shape[along] + growth, along)


def _wide(tensor: Tensor, size: int, along: int) -> Tensor:
    """Append zeros along a dimension until it has ``size`` entries."""
    missing = list(tensor.shape)
    missing[along] = size - tensor.shape[along]
    return torch.cat([tensor, tensor.new_zeros(missing)], dim=along).contiguous()


def _targets(config: Mapping[str, Any], added: Sequence[str]) -> str | list[str]:
    """The modules that are adapted: those that were, and ``added`` by their whole names."""
    narrowed = [key for key in ("exclude_modules", "layers_to_transform", "layers_pattern") if config.get(key)]
    targets = config.get("target_modules")
    if narrowed or not targets or targets == "all-linear":
        what = f"{narrowed[0]} is set" if narrowed else f"target_modules is {targets!r}"
        raise CannotBake(f"{what}, so that layers it does not adapt yet cannot be named beside those that it does")
    if isinstance(targets, str):
        return "|".join(f"(?:{pattern})" for pattern in (targets, *(re.escape(name) for name in added)))
    return [*targets, *added]
