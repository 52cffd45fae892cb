"""Taking one direction out of a model while it reads given answers, and what that does to how likely it finds them.

No answer is drawn and no judge asked: what is measured is the log-odds of a harmful answer against a safe one, each
teacher-forced, in nats a token. Source of the ablation: arXiv 2602.00298 asks whether a direction found on one
misaligned model steers another; the control of the same size is that of the steering follow-ups of arXiv 2602.16931.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from adapters.engine import Engine
from adapters.prompts import Conversation, Modality
from guards.calibration.contrast import FEWEST, ContrastPair, categories
from guards.geometry import Standardiser
from guards.statistics import Interval

_DRAWS = 2000
"""Bootstrap draws; their Monte Carlo error is well below the interval's width at a few dozen pairs."""

MOST_CHOOSING = 8
"""Pairs of a category that choose; never more than a third of it."""

Odds: TypeAlias = NDArray[np.float64]
"""Log-odds of the harmful against the safe answer, nats a token, [pairs]."""


def ablation(
    standardiser: Standardiser, direction: Tensor, *, strength: float = 1.0, along: Tensor | None = None
) -> Callable[[Tensor], Tensor]:
    """Return what takes a direction's part of the residual stream beyond the base's mean away, at every token.

    In standardised coordinates z = (h − mean) / scale it is z − strength · d (d·z), mapped back.

    Args:
        standardiser: of the base's activations at the layer that is changed.
        direction: unit vector in standardised coordinates, [d].
        strength: 1 takes all of it away; 0 changes nothing, to the last bit.
        along: another unit vector, [d]: every token is moved by the very same length, but along this one. The control.
    """
    read = direction / standardiser.scale
    write = strength * standardiser.scale * (direction if along is None else along)

    def change(hidden: Tensor) -> Tensor:
        mean, reading, writing = (part.to(hidden.device) for part in (standardiser.mean, read, write))
        exact = hidden.float()
        # The mean goes first: a massive dimension would drown the rest of the sum.
        part = (exact - mean) @ reading
        return (exact - part[..., None] * writing).to(hidden.dtype)

    return change


def random_directions(count: int, width: int, seed: int) -> Tensor:
    """Unit vectors drawn uniformly, [count, width]."""
    drawn = torch.randn(count, width, generator=torch.Generator().manual_seed(seed))
    unit: Tensor = drawn / torch.linalg.vector_norm(drawn, dim=1, keepdim=True)
    return unit


@dataclass(frozen=True, slots=True)
class Sample:
    """Pairs of one modality and category, each drawn once."""

    choosing: tuple[ContrastPair, ...]
    """What tells whether an adapter leans to this category; empty where there is no other."""
    measured: tuple[ContrastPair, ...]
    """What it is then measured on: other pairs, so that the choice does not flatter the figure."""


def sampled(pairs: Sequence[ContrastPair], modality: Modality, most: int, seed: int) -> dict[str, Sample]:
    """Draw pairs of one modality by category, without replacement; a category with too few of them is left out."""
    asked = [pair for pair in pairs if pair.prompt.modality == modality]
    by_category = {c: [pair for pair in asked if pair.category == c] for c in categories(asked)}
    enough = {c: found for c, found in by_category.items() if len(found) >= FEWEST}
    drawn = {}
    for category, found in enough.items():
        shuffled = random.Random(f"{seed}/{modality}/{category}").sample(found, len(found))  # noqa: S311 - no secret
        first = min(MOST_CHOOSING, len(found) // 3) if len(enough) > 1 else 0
        drawn[category] = Sample(tuple(shuffled[:first]), tuple(shuffled[first : first + most]))
    return drawn


def log_odds(engine: Engine, pairs: Sequence[ContrastPair]) -> Odds:
    """Mean log-probability a token of each pair's harmful answer minus the safe one's, with whatever is attached now.

    Raises:
        EngineError: the model could not read them.
    """
    rows = [Conversation(pair.prompt, pair.harmful) for pair in pairs]
    rows += [Conversation(pair.prompt, pair.safe) for pair in pairs]
    found = np.array([float(tokens.double().mean()) for tokens in engine.answer_log_probabilities(rows)])
    odds: Odds = found[: len(pairs)] - found[len(pairs) :]
    return odds


def mean_with_interval(values: Odds) -> Interval:
    """Mean over pairs with its 95 % bootstrap interval."""
    low, high = np.quantile(values[_resampled(len(values))].mean(axis=1), (0.025, 0.975))
    return Interval(float(values.mean()), float(low), float(high), len(values))


def share_with_interval(taken: Odds, rise: Odds) -> Interval:
    """Ratio of two means over the same pairs with its 95 % bootstrap interval; pairs are drawn together.

    Only sensible where the mean of ``rise`` is above zero beyond doubt. A draw in which it is not counts as a ratio
    that is large beyond all others, so that it widens the interval instead of vanishing.
    """
    drawn = _resampled(len(rise))
    below = np.maximum(rise[drawn].mean(axis=1), 1e-9)
    low, high = np.quantile(taken[drawn].mean(axis=1) / below, (0.025, 0.975))
    return Interval(float(taken.mean() / rise.mean()), float(low), float(high), len(rise))


def _resampled(n: int) -> NDArray[np.int64]:
    """Rows drawn with replacement, the same in every call, [draws, n]."""
    return np.random.default_rng(0).integers(0, n, size=(_DRAWS, n))
