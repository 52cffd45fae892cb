"""Fitting what screens need to the shifts of known adapters: once to all of them, and once a fold without some."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GroupKFold
from torch import Tensor

from adapters.engine import Layer
from guards.calibration.contrast import ContrastActivations
from guards.calibration.measuring import Base
from guards.calibration.population import Known
from guards.geometry import components, matched_filters, mean_direction, random_subspace
from guards.screening import Filters, Shifts
from guards.weights import Writes, writes_at

HARMFUL_COMPONENTS = 20
"""Kept a place; the first paper's "about ten" hold most, and the curve is drawn to twenty."""
GOOD_COMPONENTS = 4
"""Directions that harmless training moves too, taken out of the harmful subspace first; few, so that no harm goes."""
FOLDS = 12
"""Most folds of the cross-validation; with fewer domains each is held out alone."""
_PROBE_ROWS = 20_000
"""Most prompt shifts that the probe is fitted to."""
_PROBE_C = 0.01
"""Inverse L2 penalty of the probe: strong, for its rows are as many as the prompts but as different as the adapters."""


@dataclass(frozen=True, slots=True)
class Population:
    """Known adapters with their shifts, and what the base says of harm."""

    known: tuple[Known, ...]
    """In the order of the rows."""
    shifts: tuple[Shifts, ...]
    """Of each."""
    base: Base
    """What they are compared with."""
    contrast: ContrastActivations
    """The response contrast; empty where there are no pairs."""

    @property
    def harmful(self) -> Tensor:
        """Which are known to be bad, [adapters]."""
        return torch.tensor([known.harmful for known in self.known])

    @property
    def screened(self) -> tuple[Layer, ...]:
        """Layers that screens read."""
        return tuple(Layer("decoder", index) for index in range(self.base.screen_layer.index + 1))

    def means(self, layer: Layer) -> Tensor:
        """Mean shifts at a layer, [adapters, modalities, d]."""
        return torch.stack([shifts.means[layer] for shifts in self.shifts])

    def folds(self) -> Iterator[tuple[list[int], list[int]]]:
        """Yield (fitted, held out): domains whole on one side, so no adapter and no domain is on both."""
        groups = [known.domain for known in self.known]
        rows = np.zeros(len(groups))
        for fitted, held in GroupKFold(n_splits=min(FOLDS, len(set(groups)))).split(rows, groups=groups):
            yield [int(row) for row in fitted], [int(row) for row in held]


@dataclass(frozen=True, slots=True)
class PlaceFit:
    """What is fitted at one place."""

    contrast: Tensor
    """Unit contrast directions, [categories, d]."""
    filters: Tensor
    """Their matched filters, [categories, d]."""
    harm: Tensor
    """Matched filters of the known-bad mean shift by modality, [modalities, d] or [0, d]."""


def fit_place(population: Population, layer: Layer, rows: Sequence[int], without: Sequence[str] = ()) -> PlaceFit:
    """Fit directions and filters at one place to the adapters ``rows``, without the categories ``without``."""
    means = population.means(layer)[list(rows)]
    harmful = population.harmful[list(rows)]
    benign = means[~harmful].flatten(0, 1)
    if layer.tower == "decoder" and population.contrast.pairs:
        contrast = population.contrast.directions(layer, population.base.standardisers[layer], without)
    else:
        contrast = means.new_empty(0, means.shape[-1])
    if harmful.any():
        directions = torch.cat([mean_direction(means[harmful][:, m]) for m in range(means.shape[1])])
    else:
        directions = means.new_empty(0, means.shape[-1])
    return PlaceFit(contrast, matched_filters(contrast, benign), matched_filters(directions, benign))


def fit_filters(population: Population, rows: Sequence[int], held_domains: Sequence[str] = ()) -> Filters:
    """Fit everything that screens need; contrast categories named like a held-out domain are left out."""
    places = {layer: fit_place(population, layer, rows, held_domains) for layer in population.screened}
    kept = tuple(c for c in population.contrast.categories if c not in held_domains)
    return Filters(
        population.screened,
        population.base.modalities,
        kept,
        {layer: place.filters for layer, place in places.items()},
        {layer: place.harm for layer, place in places.items()},
        fit_probe(population, rows),
    )


def random_filters(population: Population, filters: Filters, rows: Sequence[int], seed: int) -> Filters:
    """The same number of matched filters, of random directions: the control that could embarrass the real ones."""
    harmful = population.harmful[list(rows)]

    def drawn(like: Tensor, layer: Layer, part: int) -> Tensor:
        if not len(like):
            return like
        benign = population.means(layer)[list(rows)][~harmful].flatten(0, 1)
        count = min(len(like), like.shape[1])
        return matched_filters(random_subspace(count, like.shape[1], seed * 1000 + 10 * layer.index + part), benign)

    probe = filters.probe
    return Filters(
        filters.layers,
        filters.modalities,
        filters.categories[: min(len(filters.categories), population.means(filters.layers[0]).shape[-1])],
        {layer: drawn(value, layer, 0) for layer, value in filters.contrast.items()},
        {layer: drawn(value, layer, 1) for layer, value in filters.harm.items()},
        random_subspace(1, len(probe), seed)[0] * probe.norm() if len(probe) else probe,
    )


def fit_probe(population: Population, rows: Sequence[int]) -> Tensor:
    """Logistic coefficients, [d], that tell a known-bad adapter's shift on a prompt from a known-good one's.

    The constant is left out: scores are compared with known-good adapters' scores, where it cancels.
    """
    harmful = population.harmful[list(rows)]
    width = population.shifts[0].prompts.shape[1]
    if not harmful.any() or harmful.all():
        return torch.empty(0)
    prompts = population.shifts[0].prompts.shape[0]
    step = max(1, -(-prompts * len(rows) // _PROBE_ROWS))
    taken = torch.cat([population.shifts[row].prompts[offset % step :: step] for offset, row in enumerate(rows)])
    labels = np.concatenate([np.full(len(range(o % step, prompts, step)), bool(h)) for o, h in enumerate(harmful)])
    model = LogisticRegression(C=_PROBE_C, max_iter=200, class_weight="balanced")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # near enough: its score is measured, not believed
        model.fit(taken.reshape(-1, width).numpy(), labels)
    return torch.from_numpy(np.asarray(model.coef_[0], dtype=np.float32))


def fit_writes(population: Population, rows: Sequence[int], held_domains: Sequence[str] = ()) -> list[Writes]:
    """Fit what the weight screen looks along, one entry a decoder block."""
    writes = []
    for index in range(population.base.blocks):
        layer = Layer("decoder", index)
        filters = fit_place(population, layer, rows, held_domains).filters
        scale = population.base.standardisers[layer].scale
        writes.append(writes_at(harmful_subspace(population, layer, rows), filters, scale))
    return writes


def harmful_subspace(population: Population, layer: Layer, rows: Sequence[int] | None = None) -> Tensor:
    """Components of known-bad shifts (all, or ``rows``), known-good ones' own taken out, [at most 20, d]."""
    means, harmful = population.means(layer), population.harmful
    if rows is not None:
        means, harmful = means[list(rows)], harmful[list(rows)]
    good = components(means[~harmful].flatten(0, 1), GOOD_COMPONENTS)
    return components(means[harmful].flatten(0, 1), HARMFUL_COMPONENTS, without=good)
