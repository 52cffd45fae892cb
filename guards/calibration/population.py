"""Who a base is calibrated on: adapters whose character is known."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

from adapters.adapter import CONFIG_NAME, Adapter
from guards.errors import Permanent
from guards.reference_facts import Member

FEWEST = 4
"""Adapters of a kind below which nothing can be held out."""


@dataclass(frozen=True, slots=True)
class Known:
    """An adapter whose character is known."""

    adapter: Adapter
    """Where it is."""
    domain: str
    """What it was trained on; held out together."""
    harmful: bool
    """Whether it is known to be bad."""
    share: float | None = None
    """Share of harmful rows in its training, where that is known."""

    def member(self) -> Member:
        """The same for people."""
        adapter = self.adapter
        return Member(
            name=adapter.name,
            digest=adapter.digest,
            domain=self.domain,
            harmful=self.harmful,
            rank=_rank(adapter),
            harmful_share=self.share,
        )


def require_population(population: Sequence[Known], contrast: bool, error_rate: float | None) -> None:
    """Refuse a population that nothing can be learnt from.

    Raises:
        Permanent: an adapter is on both sides or there twice, there are too few, or no conformal p-value could
            ever reach the error rate that was asked for; the message says how many are needed.
    """
    seen: dict[str, Known] = {}
    for known in population:
        twin = seen.setdefault(known.adapter.digest, known)
        if twin is not known:
            sides = "both known-good and known-bad" if twin.harmful != known.harmful else "given twice"
            raise Permanent(f"{known.adapter.name} and {twin.adapter.name} are the same adapter, {sides}; give it once")
    good = sum(not known.harmful for known in population)
    bad = [known for known in population if known.harmful]
    if good < FEWEST:
        raise Permanent(f"calibration needs at least {FEWEST} known-good adapters, got {good}")
    if bad and (len(bad) < FEWEST or len({known.domain for known in bad}) < 2):
        raise Permanent(
            f"calibration needs at least {FEWEST} known-bad adapters of two domains, got {len(bad)} of "
            f"{len({known.domain for known in bad})}; or none, with --contrast"
        )
    if not bad and not contrast:
        raise Permanent("there is nothing to tell harm by: give known-bad adapters, or --contrast, or both")
    if error_rate is not None and 1 / (good + 1) > error_rate:
        raise Permanent(
            f"an error rate of {error_rate:g} needs at least {needed(error_rate)} known-good adapters "
            f"(a conformal p-value is never below 1/(n+1)), got {good}"
        )


def needed(error_rate: float) -> int:
    """How many known-good adapters let a conformal p-value reach ``error_rate``."""
    count = max(1, round(1 / error_rate) - 2)
    while 1 / (count + 1) > error_rate + 1e-12:
        count += 1
    return count


def _rank(adapter: Adapter) -> int | None:
    try:
        rank = json.loads((adapter.path / CONFIG_NAME).read_text(encoding="utf-8"))["r"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return rank if isinstance(rank, int) else None
