"""An adapter's weights as low-rank products, one module after the other, and the base's norms to compare them with."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import sqrt

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from adapters.adapter import WEIGHTS_NAME, Adapter, NotAnAdapter
from adapters.anatomy import Anatomy, dissect, part_of
from adapters.declared import is_literal
from adapters.patterns import pattern_fault
from adapters.problems import shown
from guards.errors import Permanent
from guards.low_rank import LowRank

_SIDES = re.compile(r"(?:base_model\.model\.)?(?P<module>.+)\.lora_(?P<side>[AB])(?:\.[^.]+)?\.weight")
_NUMBERED = re.compile(r"(?:^|\.)[^.]+\.\d+\..+$")
"""From the list that holds the first numbered block: ``layers.3.self_attn.o_proj``."""


class WeightsUnreadable(Permanent):
    """The weight screen cannot measure this adapter; the message names the cause and the next step."""


@dataclass(frozen=True, slots=True)
class Delta:
    """What an adapter adds to one linear layer."""

    module: str
    """Its name in the adapter, PEFT's ``base_model.model.`` left off."""
    part: str
    """``decoder``, ``vision`` or ``projector``, by its name."""
    product: LowRank
    """scale·B·A; its factors are mapped from the file and read when they are used."""


@dataclass(frozen=True, slots=True)
class Pair:
    """One linear layer's two factors, as the file holds them."""

    module: str
    """Its name in the adapter, PEFT's ``base_model.model.`` left off."""
    a: Tensor
    """[r, in]; mapped from the file and read when it is used."""
    b: Tensor
    """[out, r]; likewise."""
    scale: float
    """What B·A is multiplied by."""

    def product(self, like: LowRank | None = None) -> LowRank:
        """B·A with its scale; what ``like`` has worked out of the same factors is taken over.

        Raises:
            WeightsUnreadable: it holds NaN or infinity.
        """
        try:
            return LowRank(self.a, self.b, self.scale, like=like)
        except ValueError as error:
            raise WeightsUnreadable(f"{shown(self.module, 160)}: {error}; train the adapter again") from error


def deltas(adapter: Adapter) -> Iterator[Delta]:
    """Yield every pair's product in the file's order, one in memory at a time.

    Raises:
        WeightsUnreadable: its files are unsound, hold more than plain pairs of linear layers, or NaN or infinity.
    """
    for pair in pairs(adapter):
        yield Delta(pair.module, part_of(pair.module), pair.product())


def pairs(adapter: Adapter) -> Iterator[Pair]:
    """Yield every pair in the file's order, its values unread.

    Raises:
        WeightsUnreadable: its files are unsound, or hold more than plain pairs of linear layers.
    """
    try:
        anatomy = dissect(adapter.path)
        _require_plain(anatomy)
        scales = _scales(anatomy)
        keys: dict[str, dict[str, str]] = defaultdict(dict)
        for key in anatomy.tensors:
            found = _SIDES.fullmatch(key)
            if found:
                keys[found["module"]][found["side"]] = key
        with safe_open(adapter.path / WEIGHTS_NAME, framework="pt", device="cpu") as weights:
            for module, sides in keys.items():
                factors = (weights.get_tensor(sides["A"]), weights.get_tensor(sides["B"]))
                yield Pair(module, *factors, scales[module])
    except (OSError, SafetensorError, NotAnAdapter) as error:
        raise WeightsUnreadable(f"the weights cannot be read: {shown(str(error), 200)}") from error


def _require_plain(anatomy: Anatomy) -> None:
    """Refuse what a sum of low-rank products does not describe: inability, not a fault of the adapter."""
    for problem in anatomy.problems:
        if problem.fatal:
            raise WeightsUnreadable(f"the files are not sound: {problem}")
    if not anatomy.modules:
        raise WeightsUnreadable("the file holds no LoRA pair; save the adapter with peft's save_pretrained")
    if anatomy.use_dora or anatomy.other_tensors:
        what = "a DoRA adapter rescales the base's own weights" if anatomy.use_dora else "it holds more than LoRA pairs"
        raise WeightsUnreadable(f"{what}, which its pairs alone do not tell; train a plain LoRA to have it measured")
    odd = [name for name, pair in anatomy.modules.items() if pair.embedding]
    odd += [key for key, tensor in anatomy.tensors.items() if len(tensor.shape) != 2]
    if odd:
        raise WeightsUnreadable(f"{shown(odd[0], 160)} is no linear layer, and only those are measured")


def _scales(anatomy: Anatomy) -> dict[str, float]:
    """What each module's B·A is multiplied by: alpha/r, with rsLoRA alpha/√r, by patterns as PEFT applies them."""
    if anatomy.alpha is None:
        raise WeightsUnreadable("adapter_config.json has no usable lora_alpha, so the scale is unknown")
    patterns = {key: rf"(.*\.)?({key})$" for key in anatomy.alpha_pattern}
    # A name with dots takes no time to match. Anything else is hostile until it was tried where it can be stopped.
    wild = [pattern for key, pattern in patterns.items() if not is_literal(key)]
    fault = pattern_fault(wild, list(anatomy.modules)) if wild else None
    if fault:
        raise WeightsUnreadable(f"alpha_pattern {fault}")
    scales = {}
    for module, pair in anatomy.modules.items():
        first = next((key for key, pattern in patterns.items() if re.match(pattern, module)), None)
        alpha = anatomy.alpha if first is None else anatomy.alpha_pattern[first]
        scales[module] = alpha / (sqrt(pair.rank) if anatomy.use_rslora else pair.rank)
    return scales


def base_norms(model: torch.nn.Module) -> dict[str, float]:
    """Return the Frobenius norm of every linear layer's weight by its name in the model, added up in float32.

    Layers of packed integers (quantised ones) and what PEFT has placed are left out.
    """
    norms = {}
    for name, module in model.named_modules():
        if isinstance(module, torch.nn.Linear) and ".lora_" not in name and module.weight.is_floating_point():
            norm = torch.linalg.vector_norm(module.weight.detach(), dtype=torch.float32)
            norms[name.removeprefix("base_model.model.").removesuffix(".base_layer")] = float(norm)
    return norms


class BaseNorms:
    """The base's norms, found under the names that adapters know its layers by."""

    def __init__(self, norms: Mapping[str, float]) -> None:
        """Take norms by the base's own names, as :func:`base_norms` gives them."""
        self._norms = norms
        self._alike: dict[tuple[str, str], list[str]] = defaultdict(list)
        for name in norms:
            self._alike[part_of(name), _tail(name)].append(name)

    def of(self, module: str) -> float:
        """Return the norm of the layer of that name, else of the one whose name ends most alike in the same part.

        Libraries disagree on the prefix (``model.language_model.layers.3`` and ``language_model.model.layers.3``), not
        on what follows the list of blocks.

        Raises:
            WeightsUnreadable: none is alike, several are, or its weights are all zero.
        """
        name = module if module in self._norms else self._likest(module)
        if name is None or not 0 < self._norms[name] < float("inf"):
            what = "is no linear layer of the base" if name is None else f"has norm {self._norms[name]} in the base"
            raise WeightsUnreadable(f"{shown(module, 160)} {what}, as far as the Reference knows; calibrate this base")
        return self._norms[name]

    def _likest(self, module: str) -> str | None:
        alike = self._alike.get((part_of(module), _tail(module)), [])
        shared = {name: _shared_end(name, module) for name in alike}
        best = [name for name in alike if shared[name] == max(shared.values())]
        return best[0] if len(best) == 1 else None


def _tail(name: str) -> str:
    found = _NUMBERED.search(name)
    return found[0].lstrip(".") if found else name.rpartition(".")[2]


def _shared_end(first: str, second: str) -> int:
    """How many of their last dotted parts two names share."""
    count = 0
    for one, other in zip(reversed(first.split(".")), reversed(second.split(".")), strict=False):
        if one != other:
            break
        count += 1
    return count
