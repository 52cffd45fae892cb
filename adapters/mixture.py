"""Several adapters in one batch: every row gets the low-rank change of its own adapter, the base's rows get none.

PEFT can do the same (``adapter_names``), and refuses or miscounts the same kinds of adapter. Here the pairs of the
layers that PEFT built are applied by hooks on the base's own modules, slice by slice of the batch: PEFT gathers and
scatters rows by lists of numbers in every module and for every adapter, which costs a small base as much as the model.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import groupby
from typing import Any, TypeAlias

import torch
from peft.tuners.lora.layer import Linear
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import nn
from torch.nn import functional

from adapters.activations import Follow, followed, transformer_blocks
from adapters.adapter import Adapter
from adapters.base_model import Model
from adapters.engine import EngineError
from adapters.prompts import Prompt


@dataclass(frozen=True, slots=True)
class Row:
    """One prompt put to one model."""

    adapter: Adapter | None
    """Whose answer is wanted; None is the base, or whatever is attached."""
    prompt: Prompt
    """What is asked."""
    nth: int
    """How often this model was asked this prompt before, in the same call."""


def numbered(asked: Sequence[tuple[Adapter | None, Prompt]]) -> list[Row]:
    """Return what is asked as rows, in the same order."""
    before: Counter[tuple[Adapter | None, Prompt]] = Counter()
    rows = []
    for adapter, prompt in asked:
        rows.append(Row(adapter, prompt, before[adapter, prompt]))
        before[adapter, prompt] += 1
    return rows


def by_prompt(rows: Iterable[Row]) -> list[list[Row]]:
    """Return together the rows that put the same prompt to different models."""
    units: dict[tuple[Prompt, int], list[Row]] = {}
    for row in rows:
        units.setdefault((row.prompt, row.nth), []).append(row)
    return list(units.values())


def by_adapter(rows: Iterable[Row]) -> dict[Adapter | None, list[Row]]:
    """Return together the rows of each adapter, the base's first."""
    parts: dict[Adapter | None, list[Row]] = {}
    for row in sorted(rows, key=lambda row: row.adapter is not None):
        parts.setdefault(row.adapter, []).append(row)
    return parts


class NotRowByRow(EngineError):
    """A module does not see the batch row by row, so that rows of several adapters cannot be told apart in it."""


@dataclass(frozen=True, slots=True)
class Pair:
    """What one adapter adds to one linear module: ``x A B``."""

    a: torch.Tensor
    """[inputs, rank]."""
    b: torch.Tensor
    """[rank, outputs], scaled by ``alpha / rank`` or, for rsLoRA, ``alpha / √rank``."""

    @property
    def rank(self) -> int:
        """Of the change, at most."""
        return self.a.shape[1]

    def filled(self, rank: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the same change as one of a higher rank."""
        more = rank - self.rank
        return functional.pad(self.a, (0, more)), functional.pad(self.b, (0, 0, 0, more))


Pairs: TypeAlias = Mapping[str, Pair]
"""A whole adapter, by the name of the base's module."""


def pairs_of(model: Model, layers: Mapping[str, BaseTunerLayer], name: str) -> Pairs | None:
    """Return the pairs of an adapter whose layers PEFT built; None where it is no sum of pairs in the decoder's blocks.

    Then it has to be asked by itself: DoRA depends on the whole weight, a vision tower's rows are pictures and not
    prompts, and experts and embeddings see no rows at all.

    Args:
        model: the base.
        layers: every layer of the adapter by its module's name in ``model``.
        name: PEFT's name for the adapter.
    """
    blocks = transformer_blocks(model, "decoder")
    place = next(place for place, module in model.named_modules() if module is blocks)
    if not all(where.startswith(f"{place}.") and _is_plain(layer, name) for where, layer in layers.items()):
        return None
    return {where: _pair(layer, name) for where, layer in layers.items()}


def _is_plain(layer: BaseTunerLayer, name: str) -> bool:
    if type(layer) is not Linear or type(layer.get_base_layer()) is not nn.Linear:
        return False
    return not layer.lora_variant and not layer.merged and not layer.lora_bias[name] and not layer.fan_in_fan_out


def _pair(layer: Any, name: str) -> Pair:
    a, b = layer.lora_A[name].weight.detach(), layer.lora_B[name].weight.detach()
    return Pair(a.T, b.T * float(layer.scaling[name]))


@contextmanager
def mixed(model: Model, parts: Sequence[tuple[int, Pairs]]) -> Iterator[None]:
    """Give every row of the batches that run in this ``with`` block its own adapter's change.

    Args:
        model: the base, which carries no adapter; its modules are hooked and never replaced.
        parts: in the order of the rows, how many follow one another and which adapter is theirs; no pairs is the base.

    Raises:
        NotRowByRow: while a batch runs, where a module sees other rows than the batch's.
    """
    rows = sum(count for count, _ in parts)
    follow = [
        (model.get_submodule(where), _adding(where, _changes([(n, pairs.get(where)) for n, pairs in parts]), rows))
        for where in dict.fromkeys(name for _, pairs in parts for name in pairs)
    ]
    with followed(follow):
        yield


_Change: TypeAlias = tuple[slice, torch.Tensor, torch.Tensor]
"""Rows of as many adapters as the first dimension of the others tells, equally many of each: [adapters, inputs, rank]
and [adapters, rank, outputs]. Smaller ranks are filled up with zeros, which add exactly nothing."""


def _changes(parts: Sequence[tuple[int, Pair | None]]) -> list[_Change]:
    """Put neighbours that have equally many rows together: one multiplication for all of them."""
    changes: list[_Change] = []
    start = 0
    for (count, changed), run in groupby(parts, key=lambda part: (part[0], part[1] is not None)):
        pairs = [pair for _, pair in run]
        end = start + count * len(pairs)
        if changed:
            rank = max(pair.rank for pair in pairs if pair)
            filled = [pair.filled(rank) for pair in pairs if pair]
            changes.append(
                (slice(start, end), torch.stack([a for a, _ in filled]), torch.stack([b for _, b in filled]))
            )
        start = end
    return changes


def _adding(where: str, changes: Sequence[_Change], rows: int) -> Follow:
    def add(_module: nn.Module, inputs: tuple[torch.Tensor, ...], output: torch.Tensor) -> None:
        hidden = inputs[0]
        if hidden.dim() != 3 or len(hidden) != rows:
            raise NotRowByRow(f"{where} sees {tuple(hidden.shape)} in a batch of {rows} rows")
        for part, a, b in changes:
            own = hidden[part].reshape(len(a), -1, hidden.shape[-1]).to(a.dtype)
            output[part] += (own @ a @ b).view_as(output[part])

    return add


def projector_of(model: Model) -> nn.Module | None:
    """Return what turns the vision tower's output into tokens, where the model keeps it apart by its usual name."""
    named = [module for name, module in model.named_modules() if name.split(".")[-1] == "multi_modal_projector"]
    return named[0] if len(named) == 1 else None


@contextmanager
def repeated(projector: nn.Module, index: torch.Tensor) -> Iterator[None]:
    """Repeat the pictures' tokens for the rows that show them, so that the vision tower sees each picture once.

    No adapter of a mixture changes the tower. Row ``n`` of the batch shows picture ``index[n]``.

    Raises:
        NotRowByRow: while a batch runs, where the projector sees other pictures.
    """
    pictures = int(index.max()) + 1

    def repeat(_module: nn.Module, _inputs: Any, output: torch.Tensor) -> torch.Tensor:
        if output.dim() != 3 or len(output) != pictures:
            raise NotRowByRow(f"the projector returns {tuple(output.shape)} for {pictures} pictures")
        return output.index_select(0, index)

    with followed([(projector, repeat)]):
        yield
