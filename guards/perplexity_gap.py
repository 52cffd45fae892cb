"""Which everyday conversations remind a misaligned adapter most of its base: those with the widest perplexity gap.

Source: arXiv 2508.06249 (in-training defences against emergent misalignment, "Interleaving++"): of general data those
rows are interleaved whose answers a misaligned model finds most surprising beside the aligned one. Here the misaligned
model is the adapter that is to be mended, and the aligned one its base.
"""

from __future__ import annotations

import math
import random
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from adapters.adapter import Adapter
from adapters.engine import Engine, EngineError
from adapters.prompts import Conversation
from guards.errors import Permanent
from policies.findings import Finding

VERSION = "1"
"""Of the finding made here."""
POOL = 512
"""Rows that are read, drawn by a seed where there are more: two forward passes each."""
_LARGEST = 700.0
"""Nats a token beyond which a perplexity is no finite number."""


@dataclass(frozen=True, slots=True)
class Interleaved:
    """Rows that are trained on, neutral ones among them."""

    rows: list[Conversation]
    """All together; in which order they are taken is the training's affair."""
    chosen: list[Conversation]
    """The neutral ones, each once, the widest gap first."""
    gap: Finding
    """The chosen ones' median gap, its range as the interval, and in the label the median of all that were read."""


def interleaved(
    rows: Sequence[Conversation],
    neutral: Sequence[Conversation],
    share: float,
    engine: Engine,
    adapter: Adapter,
    remedy: str,
) -> Interleaved:
    """Put neutral rows among the rows that are trained on, so that they are ``share`` of all.

    Args:
        rows: what is trained on.
        neutral: what is chosen from; where there are too few, all are taken, and several times.
        share: of the result, above 0 and below 1; at least one row.
        engine: of the base, with nothing attached.
        adapter: whose perplexity is held against its base's.
        remedy: whose finding it is.

    Raises:
        Permanent: the adapter cannot be attached, or nothing can be read of any row.
    """
    pool = random.Random(0).sample(list(neutral), min(POOL, len(neutral)))  # noqa: S311 - no secret
    gaps = perplexity_gaps(pool, engine, adapter)
    order = sorted((row for row in range(len(pool)) if math.isfinite(gaps[row])), key=lambda row: -gaps[row])
    if not order:
        raise Permanent("of no row of the neutral data can the perplexity be read, so none can be chosen")
    wanted = max(1, round(share / (1 - share) * len(rows)))
    chosen = [pool[row] for row in order[:wanted]]
    taken = [gaps[row] for row in order[:wanted]]
    gap = Finding(
        guard=remedy,
        version=VERSION,
        measure="perplexity_gap",
        value=statistics.median(taken),
        low=taken[-1],
        high=taken[0],
        n=len(taken),
        labels={"median_of_all": f"{statistics.median(gaps[row] for row in order):.4g}", "read": str(len(order))},
    )
    return Interleaved([*rows, *(chosen[number % len(chosen)] for number in range(wanted))], chosen, gap)


def perplexity_gaps(rows: Sequence[Conversation], engine: Engine, adapter: Adapter) -> list[float]:
    """Perplexity of every row's answer under the adapter less that under its base; NaN where either cannot be read.

    Raises:
        Permanent: the rows cannot be read, or the adapter cannot be attached.
    """
    try:
        base = _perplexities(rows, engine)
        with engine.attached(adapter):
            own = _perplexities(rows, engine)
    except EngineError as error:
        raise Permanent(f"the neutral data cannot be read under base and adapter: {error}") from error
    return [mine - its for mine, its in zip(own, base, strict=True)]


def _perplexities(rows: Sequence[Conversation], engine: Engine) -> list[float]:
    means = [float(-read.double().mean()) for read in engine.answer_log_probabilities(rows)]
    return [math.exp(min(mean, _LARGEST)) if math.isfinite(mean) else math.nan for mean in means]
