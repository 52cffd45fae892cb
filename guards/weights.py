"""The weight screen: what an adapter's weights alone tell, from A and B, without a forward pass and without forming ΔW.

Which way the modules write that add to the residual stream, how the changes are shaped, and how large they are.
Sources: "Watch the weights" (left singular vectors of o_proj and down_proj live in the residual stream) and arXiv
2602.15195 (the spectral statistics of backdoor classifiers). docs/guards/weights.md says what the score is worth.
"""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

import torch
from torch import Tensor

from adapters.adapter import Adapter
from adapters.problems import shown
from adapters.residual_writes import block_written
from guards.errors import Permanent
from guards.low_rank import Spectrum, orthonormal
from guards.reference import Site
from guards.statistics import conformal_p
from guards.weight_files import BaseNorms, Delta, WeightsUnreadable, base_norms, deltas
from policies.findings import Finding, Result

__all__ = [
    "ModuleFigures",
    "WeightFigures",
    "WeightsGuard",
    "WeightsUnreadable",
    "Writes",
    "base_norms",
    "measure_weights",
    "writes_at",
    "writes_of",
]

DIRECTIONS = 3
"""Components of the harmful subspace that are looked along: chosen by experiment, where two did as well and one or five
did worse (docs/guards/weights.md)."""

_SHAPED = re.compile(r"(?:^|\.)(?:[qkvo]_proj|out_proj|qkv_proj|down_proj|fc2|c_attn|c_proj)$")


@dataclass(frozen=True, slots=True)
class Writes:
    """The harmful directions after one decoder block, and what the residual stream is measured in there."""

    directions: Tensor
    """Rows in standardised coordinates, [k, d]; neither unit nor orthogonal by need, and k may be 0: not looked at."""
    scale: Tensor
    """Standard deviation of the base's activations by dimension, [d], all positive. Without it the one massive
    dimension of the stream would be all there is."""


@dataclass(frozen=True, slots=True)
class ModuleFigures:
    """What was measured of one module's ΔW."""

    module: str
    """Its name in the adapter."""
    part: str
    """``decoder``, ``vision`` or ``projector``."""
    norm: float
    """‖ΔW‖, Frobenius."""
    base_norm: float
    """‖W‖ of the base's layer, above 0."""
    spectrum: Spectrum | None = None
    """Singular values, where the module is one whose shape is looked at: q, k, v, o and down projections."""
    along: float | None = None
    """Energy along the harmful directions, in standardised coordinates; None where it writes to no stream looked at."""
    written: float = 0.0
    """All its energy there."""
    by_chance: float = 0.0
    """Share that a random subspace of the same dimension holds on average, k/d."""


@dataclass(frozen=True, slots=True)
class WeightFigures:
    """What was measured of one adapter."""

    modules: tuple[ModuleFigures, ...]
    """In the file's order."""

    @property
    def writing(self) -> tuple[ModuleFigures, ...]:
        """The modules that the score rests on: they write to the decoder's residual stream, after a block looked at."""
        return tuple(module for module in self.modules if module.along is not None)

    @property
    def energy_ratio(self) -> float:
        """Share of all energy written that lies along the harmful directions, 0 to 1; 0 for an adapter of zeros."""
        written = sum(module.written for module in self.writing)
        return sum(module.along or 0.0 for module in self.writing) / written if written else 0.0

    @property
    def energy_random(self) -> float:
        """The share that random directions of the same number would hold, 0 to 1: the control beside it."""
        written = sum(module.written for module in self.writing)
        if not written:
            return fmean(module.by_chance for module in self.writing)
        return sum(module.written * module.by_chance for module in self.writing) / written

    @property
    def score(self) -> float:
        """How many times the share that chance would give lies along the harmful directions; higher is worse.

        Of all energy together, so that modules that hardly write cannot hide one that does.
        """
        return self.energy_ratio / self.energy_random

    def of(self, part: str) -> tuple[ModuleFigures, ...]:
        """Return the modules of one part."""
        return tuple(module for module in self.modules if module.part == part)


def writes_of(sites: Sequence[Site]) -> list[Writes]:
    """Return what the screen looks along, one a decoder block, from a Reference's places in their order.

    The leading harmful components of known-bad adapters; without known-bad adapters the filtered response contrast,
    which is much the weaker screen (docs/guards/weights.md).
    """
    return [writes_at(site.subspace, site.filters, site.standardiser.scale) for site in sites]


def writes_at(subspace: Tensor, filters: Tensor, scale: Tensor) -> Writes:
    """Return what is looked along after one block: harmful components, or without any the contrast's filters."""
    return Writes((subspace if len(subspace) else filters)[:DIRECTIONS], scale)


def measure_weights(adapter: Adapter, writes: Sequence[Writes], base_norms: Mapping[str, float]) -> WeightFigures:
    """Measure every module of an adapter, one in memory at a time.

    Args:
        adapter: plain LoRA pairs of linear layers, as ``adapter_config.json`` and ``adapter_model.safetensors`` say.
        writes: the harmful directions, one entry a decoder block, in order.
        base_norms: Frobenius norm of the base's layers by name, as :func:`base_norms` gives them.

    Raises:
        WeightsUnreadable: it cannot be measured so (DoRA, NaN, a block or layer that is not known here), or it writes
            nowhere that is looked at; nothing was learnt about it.
    """
    bases = [orthonormal(write.directions) for write in writes]
    norms = BaseNorms(base_norms)
    with torch.inference_mode():
        figures = WeightFigures(tuple(_measured(delta, writes, bases, norms) for delta in deltas(adapter)))
    if not figures.writing:
        raise WeightsUnreadable(
            "no module writes to the decoder's residual stream where harmful directions are known, so its weights "
            "alone do not tell where it pushes; the other guards have to"
        )
    return figures


def _measured(delta: Delta, writes: Sequence[Writes], bases: Sequence[Tensor], norms: BaseNorms) -> ModuleFigures:
    spectrum = delta.product.spectrum() if _SHAPED.search(delta.module) else None
    norm, base_norm = math.sqrt(delta.product.energy), norms.of(delta.module)
    block = block_written(delta.module)
    if block is None:
        return ModuleFigures(delta.module, delta.part, norm, base_norm, spectrum)
    if block >= len(writes):
        where = shown(delta.module, 160)
        raise WeightsUnreadable(f"{where} is in block {block}, and {len(writes)} are known; calibrate this base")
    basis, unit = bases[block], writes[block].scale
    if delta.product.outputs != len(unit):
        where = shown(delta.module, 160)
        reason = (
            f"writes {delta.product.outputs} dimensions, and the residual stream has {len(unit)}; calibrate this base"
        )
        raise WeightsUnreadable(f"{where} {reason}")
    if not basis.shape[1]:
        return ModuleFigures(delta.module, delta.part, norm, base_norm, spectrum)
    along, written = delta.product.energy_within(basis, unit)
    return ModuleFigures(
        delta.module, delta.part, norm, base_norm, spectrum, along, written, basis.shape[1] / len(unit)
    )


class WeightsGuard:
    """Screens an adapter's files alone and compares with known-good adapters. It informs and sets priority."""

    name = "weights"

    def __init__(self, writes: Sequence[Writes], base_norms: Mapping[str, float], null: Sequence[float]) -> None:
        """Take what a Reference knows of the base, and the scores of known-good adapters (none: no p-value).

        Raises:
            Permanent: a direction, scale or known-good score is not finite, or a scale is not positive.
        """
        numbers = [tensor for write in writes for tensor in (write.directions, write.scale)]
        finite = all(bool(torch.isfinite(tensor).all()) for tensor in numbers) and all(map(math.isfinite, null))
        if not finite or not all(bool((write.scale > 0).all()) for write in writes):
            raise Permanent("the weight screen's directions, scales or known-good scores are unusable; calibrate again")
        self._writes, self._norms, self._null = tuple(writes), dict(base_norms), tuple(null)
        known = hashlib.sha256(repr((sorted(self._norms.items()), self._null)).encode())
        for tensor in numbers:
            known.update(tensor.double().contiguous().numpy().tobytes())
        self.version = f"1-{known.hexdigest()[:12]}"

    def examine(self, adapter: Adapter) -> list[Result]:
        """Measure the weights, text and pictures' shared decoder apart from vision tower and projector."""
        try:
            figures = measure_weights(adapter, self._writes, self._norms)
        except WeightsUnreadable as error:
            # No weight that can be read so is no reason to block what the other guards can look at (an adapter of
            # q and v alone writes nowhere); as it is no reason to trust it either, it raises the battery's budget.
            unmeasured = self._finding("weight_unmeasured", 1.0, 0)
            return [unmeasured.model_copy(update={"note": str(error)})]
        parts = [part for part in ("decoder", "vision", "projector") if figures.of(part)]
        return [*self._score(figures), *(finding for part in parts for finding in self._part(figures.of(part), part))]

    def _score(self, figures: WeightFigures) -> Iterator[Finding]:
        n = len(figures.writing)
        yield self._finding("weight_score", figures.score, n)
        if self._null:
            yield self._finding("weight_p_value", conformal_p(figures.score, self._null), len(self._null))
        yield self._finding("weight_energy_ratio", figures.energy_ratio, n)
        yield self._finding("weight_energy_random", figures.energy_random, n)

    def _part(self, modules: Sequence[ModuleFigures], part: str) -> Iterator[Finding]:
        """How large one part's changes are beside the base, and what shape they have."""
        norm, base = (math.hypot(*values) for values in zip(*((m.norm, m.base_norm) for m in modules), strict=True))
        yield self._finding("weight_relative_norm", norm / base, len(modules), path=part)
        largest = max(module.norm / module.base_norm for module in modules)
        yield self._finding("weight_relative_norm_largest", largest, len(modules), path=part)
        spectra = [module.spectrum for module in modules if module.spectrum is not None and module.norm]
        if spectra:
            n = len(spectra)
            yield self._finding("weight_top_share", fmean(s.top_share for s in spectra), n, path=part)
            yield self._finding("weight_stable_rank", fmean(s.stable_rank for s in spectra), n, path=part)
            yield self._finding("weight_effective_rank", fmean(s.effective_rank for s in spectra), n, path=part)
            yield self._finding("weight_kurtosis", fmean(s.kurtosis for s in spectra), n, path=part)

    def _finding(self, measure: str, value: float, n: int, **labels: str) -> Finding:
        return Finding(guard=self.name, version=self.version, measure=measure, value=value, n=n, labels=labels)
