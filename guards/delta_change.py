"""By how much a remedy changed what an adapter adds to its base, from the files of both."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from pathlib import Path

from adapters.adapter import Adapter
from guards.dose_response import VERSION
from guards.low_rank import same_bytes
from guards.weight_files import Pair, WeightsUnreadable, pairs
from policies.findings import Finding


@dataclass(frozen=True, slots=True)
class DeltaChange:
    """Two adapters' deltas compared over the modules where they differ, all together, in Frobenius norms."""

    norm_ratio: float
    """‖Δ'‖ / ‖Δ‖; 1 is as long as before."""
    change: float
    """‖Δ' − Δ‖ / ‖Δ‖; 0 is no change."""
    rank_growth: int
    """How much larger the largest rank of all modules has become; it costs memory and time at serving."""
    modules: int
    """Modules in which they differ, those that only one of them adapts among them."""


def compare(before: Adapter, after: Path) -> DeltaChange:
    """Compare an adapter with what a remedy wrote of it. What is the same in both, byte by byte, costs a look.

    Raises:
        WeightsUnreadable: one holds more than plain LoRA pairs, or adds nothing where it was changed.
    """
    old = {pair.module: pair for pair in pairs(before)}
    new = {pair.module: pair for pair in pairs(Adapter(after, "", before.name))}
    growth = max(len(pair.a) for pair in new.values()) - max(len(pair.a) for pair in old.values())
    alike = {name for name in old.keys() & new.keys() if _have_same_factors(old[name], new[name])}
    if len(alike) == len(old) == len(new):
        ratios = {new[name].scale / pair.scale for name, pair in old.items() if pair.scale}
        if len(ratios) == 1:  # then no weight need be multiplied to know the norms' ratio
            ratio = ratios.pop()
            return DeltaChange(ratio, abs(ratio - 1), 0, len(old) if ratio != 1 else 0)
    differ = [name for name in old.keys() | new.keys() if name not in alike or old[name].scale != new[name].scale]
    if not differ:
        return DeltaChange(1.0, 0.0, growth, 0)
    energies = [_energies(old.get(name), new.get(name)) for name in differ]
    was, becomes, apart = (math.fsum(column) for column in zip(*energies, strict=True))
    if not was:
        raise WeightsUnreadable("the adapter adds nothing to its base where it was changed")
    return DeltaChange(math.sqrt(becomes / was), math.sqrt(apart / was), growth, len(differ))


def _have_same_factors(old: Pair, new: Pair) -> bool:
    return same_bytes(old.b, new.b) and same_bytes(old.a, new.a)


def _energies(old: Pair | None, new: Pair | None) -> tuple[float, float, float]:
    """‖Δ‖², ‖Δ'‖² and ‖Δ' − Δ‖² of one module; what only one adapter has is zero in the other."""
    was = old.product() if old else None
    if old and new and same_bytes(old.a, new.a):
        new = replace(new, a=old.a)  # so that nobody need look again
    becomes = new.product(like=was) if new else None
    if was is None or becomes is None:
        energies = [one.energy if one else 0.0 for one in (was, becomes)]
        return energies[0], energies[1], sum(energies)
    return was.energy, becomes.energy, becomes.energy_apart(was)


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
