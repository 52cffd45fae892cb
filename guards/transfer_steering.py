"""Ablating adapters' directions while other adapters are attached: does it take their harm away?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from torch import Tensor

from adapters.activations import steered
from adapters.adapter import Adapter
from adapters.engine import EngineError
from adapters.transformers_engine import TransformersEngine
from guards.ablation import (
    Odds,
    Sample,
    ablation,
    log_odds,
    mean_with_interval,
    random_directions,
    share_with_interval,
)
from guards.calibration.contrast import ContrastPair
from guards.interface import Progress
from guards.reference import Reference
from guards.statistics import Interval
from guards.transfer_matrix import ModalityTransfer, SteeringCell

STEERING_RANDOMS = 3
"""Random directions beside every ablation; each costs as much as the ablation."""


@dataclass(frozen=True, slots=True)
class _Target:
    """An adapter on the pairs that it is measured on."""

    adapter: Adapter
    """Which."""
    category: str
    """What it raises most."""
    odds: Odds
    """Log-odds with it attached, nats a token, [pairs]."""


class Steering:
    """One modality's ablations."""

    def __init__(
        self,
        engine: TransformersEngine,
        reference: Reference,
        samples: Mapping[str, Sample],
        directions: Sequence[Tensor | None],
        seed: int,
        progress: Progress,
    ) -> None:
        """Take directions by subject, [d] in standardised coordinates, None where there is none; nothing runs yet."""
        self._engine, self._samples, self._directions, self._progress = engine, samples, directions, progress
        self._layer = reference.screen_layer
        self._standardiser = reference.sites[self._layer].standardiser
        self._randoms = random_directions(STEERING_RANDOMS, len(self._standardiser.mean), seed + 1)

    def measured_into(self, found: ModalityTransfer, adapters: Mapping[int, Adapter]) -> ModalityTransfer:
        """Measure and fill in; ``adapters`` are those that could be read, by their place among the subjects.

        Raises:
            EngineError: the base itself could not read the pairs.
        """
        base = {c: self._odds((*s.choosing, *s.measured)) for c, s in self._samples.items()}
        subjects = list(found.subjects)
        cells: list[list[SteeringCell | None]] = [[None] * len(subjects) for _ in subjects]
        ablated: dict[tuple[int, str], Odds] = {}
        for done, (column, adapter) in enumerate(adapters.items()):
            self._progress(f"ablating directions, {found.modality}", done, len(adapters))
            try:
                target = self._target(adapter, base)
                start = base[target.category][-len(target.odds) :]
                rise = mean_with_interval(target.odds - start)
                subjects[column] = replace(subjects[column], category=target.category, rise=rise)
                self._ablate_in_base(target.category, ablated)
                for row, cell in self._cells(target, start, rise, ablated).items():
                    cells[row][column] = cell
            except EngineError as error:
                subjects[column] = replace(subjects[column], unsteered=" ".join(str(error).split()))
        self._progress(f"ablating directions, {found.modality}", len(adapters), len(adapters))
        most = max(len(sample.measured) for sample in self._samples.values())
        return replace(found, pairs=most, subjects=tuple(subjects), steering=tuple(map(tuple, cells)))

    def _target(self, adapter: Adapter, base: Mapping[str, Odds]) -> _Target:
        """Choose the category by some pairs and measure on the others."""
        with self._engine.attached(adapter):
            odds = {c: self._odds((*s.choosing, *s.measured)) for c, s in self._samples.items()}
        rises = {c: float((odds[c] - base[c])[: len(s.choosing) or None].mean()) for c, s in self._samples.items()}
        category = max(rises, key=lambda name: rises[name])
        return _Target(adapter, category, odds[category][-len(self._samples[category].measured) :])

    def _ablate_in_base(self, category: str, ablated: dict[tuple[int, str], Odds]) -> None:
        """Ablate every direction in the base on a category's pairs, once."""
        for row, direction in enumerate(self._directions):
            if direction is not None and (row, category) not in ablated:
                ablated[row, category] = self._without(direction, self._samples[category])

    def _cells(
        self, target: _Target, start: Odds, rise: Interval, ablated: Mapping[tuple[int, str], Odds]
    ) -> dict[int, SteeringCell]:
        """Ablate every direction while one adapter is attached."""
        sample = self._samples[target.category]
        cells = {}
        with self._engine.attached(target.adapter):
            for row, direction in enumerate(self._directions):
                if direction is None:
                    continue
                change = self._without(direction, sample) - target.odds
                random = [self._without(direction, sample, along) - target.odds for along in self._randoms]
                rising = rise.low > 0

                def share(changed: Odds) -> Interval:
                    return share_with_interval(-changed, target.odds - start)

                cells[row] = SteeringCell(
                    change=mean_with_interval(change),
                    share=share(change) if rising else None,
                    base=mean_with_interval(ablated[row, target.category] - start),
                    base_share=share(ablated[row, target.category] - start) if rising else None,
                    random=tuple(mean_with_interval(one) for one in random),
                    random_shares=tuple(share(one) for one in random) if rising else (),
                )
        return cells

    def _without(self, direction: Tensor, sample: Sample, along: Tensor | None = None) -> Odds:
        with steered(self._engine.model, self._layer, ablation(self._standardiser, direction, along=along)):
            return self._odds(sample.measured)

    def _odds(self, pairs: Sequence[ContrastPair]) -> Odds:
        odds = log_odds(self._engine, pairs)
        if not np.isfinite(odds).all():
            raise EngineError("the log-probabilities of answers are NaN or infinite")
        return odds
