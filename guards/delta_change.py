"""By how much a remedy changed what an adapter adds to its base, from the files of both."""

from __future__ import annotations

import filecmp
import math
from dataclasses import dataclass
from pathlib import Path

from adapters.adapter import WEIGHTS_NAME, Adapter
from guards.dose_response import VERSION
from guards.weight_files import WeightsUnreadable, deltas, scales_of
from policies.findings import Finding


@dataclass(frozen=True, slots=True)
class DeltaChange:
    """Two adapters' deltas compared, all modules together, in Frobenius norms."""

    norm_ratio: float
    """‖Δ'‖ / ‖Δ‖; 1 is as long as before."""
    change: float
    """‖Δ' − Δ‖ / ‖Δ‖; 0 is no change."""
    rank_growth: int
    """How much larger the largest rank has become; it costs memory and time at serving."""
    modules: int
    """Modules that either adapts."""


def compare(before: Adapter, after: Path) -> DeltaChange:
    """Compare an adapter with what a remedy wrote of it.

    Raises:
        WeightsUnreadable: one holds more than plain LoRA pairs.
    """
    made = Adapter(after, "", before.name)
    if filecmp.cmp(before.path / WEIGHTS_NAME, after / WEIGHTS_NAME, shallow=False):
        old_scales, new_scales = scales_of(before), scales_of(made)
        ratios = {new_scales[module] / scale for module, scale in old_scales.items() if scale}
        if len(ratios) == 1:  # then no weight need be multiplied to know the norms' ratio
            ratio = ratios.pop()
            return DeltaChange(ratio, abs(ratio - 1), 0, len(old_scales))
    old = {delta.module: delta.product for delta in deltas(before)}
    new = {delta.module: delta.product for delta in deltas(made, beside=old)}
    length = math.fsum(product.energy for product in old.values())
    apart = [product.energy_apart(old[name]) if name in old else product.energy for name, product in new.items()]
    apart += [product.energy for name, product in old.items() if name not in new]
    if not length:
        raise WeightsUnreadable("the adapter adds nothing to its base")
    ranks = [max(product.rank for product in products.values()) for products in (old, new)]
    return DeltaChange(
        math.sqrt(math.fsum(product.energy for product in new.values()) / length),
        math.sqrt(math.fsum(apart) / length),
        ranks[1] - ranks[0],
        len(old.keys() | new.keys()),
    )


def change_findings(remedy: str, before: Adapter, after: Path) -> list[Finding]:
    """The same as findings; none of an adapter that is more than plain pairs."""
    try:
        found = compare(before, after)
    except WeightsUnreadable:
        return []
    values = {"delta_norm_ratio": found.norm_ratio, "delta_change": found.change, "rank_growth": found.rank_growth}
    return [
        Finding(guard=remedy, version=VERSION, measure=measure, value=float(value), n=found.modules)
        for measure, value in values.items()
    ]
