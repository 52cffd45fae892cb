"""The geometry of a population: how many components hold its harm, how steady its directions are, how they lie."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from adapters.engine import Layer
from guards.calibration.fitting import GOOD_COMPONENTS, HARMFUL_COMPONENTS, Population
from guards.geometry import components, cosine, explained, mean_direction, principal_angles, random_subspace
from guards.reference_facts import Angles, Curves

_RANDOM_DRAWS = 5
_GROUP_COMPONENTS = 3
_MOST_PAIRS = 60
_LOW_RANK = 8


def curves(population: Population) -> tuple[Curves, ...]:
    """Describe every place."""
    return tuple(_at(population, layer) for layer in population.base.layers)


def _at(population: Population, layer: Layer) -> Curves:
    base = population.base
    massive, ratio = base.massive[layer]
    means, harmful = population.means(layer), population.harmful
    bad = _without_good(means[harmful], means[~harmful])
    told = {m: bad[:, column] for column, m in enumerate(base.modalities) if len(bad) and bad[:, column].any()}
    split = {f"known-bad shift, {m}": _split_half(rows) for m, rows in told.items() if len(rows) >= 4}
    if layer.tower == "decoder" and population.contrast.pairs:
        halves = population.contrast.split_half(layer, base.standardisers[layer])
        split |= {f"contrast, {category}": value for category, value in halves.items()}
    return Curves(
        layer=str(layer),
        explained={m: _cumulative(rows) for m, rows in told.items()},
        explained_random=_random_shares(torch.cat(list(told.values()))) if told else [],
        split_half=split,
        massive=massive,
        massive_ratio=ratio,
    )


def angles(population: Population) -> tuple[Angles, ...]:
    """Principal angles between the known-bad shifts of two domains, ranks and modalities, and between contrasts."""
    base, layer = population.base, population.base.screen_layer
    means, harmful = population.means(layer), population.harmful
    bad = _without_good(means[harmful], means[~harmful])
    known = [k for k in population.known if k.harmful]
    found: list[Angles] = []
    if len(bad):
        by_domain = {
            d: bad[[k.domain == d for k in known]].flatten(0, 1) for d in dict.fromkeys(k.domain for k in known)
        }
        found += _pairs("domain", {d: rows for d, rows in by_domain.items() if len(rows) >= 2})
        ranks = [k.member().rank or 0 for k in known]
        by_rank = {
            f"rank up to {_LOW_RANK}": bad[[0 < rank <= _LOW_RANK for rank in ranks]].flatten(0, 1),
            f"rank over {_LOW_RANK}": bad[[rank > _LOW_RANK for rank in ranks]].flatten(0, 1),
        }
        found += _pairs("rank", {name: rows for name, rows in by_rank.items() if len(rows) >= 2})
        found += _pairs("modality", {m: bad[:, column] for column, m in enumerate(base.modalities)})
    if population.contrast.pairs:
        directions = population.contrast.directions(layer, base.standardisers[layer])
        found += _pairs("category", {c: directions[[n]] for n, c in enumerate(population.contrast.categories)})
    return tuple(found)


def _without_good(bad: Tensor, good: Tensor) -> Tensor:
    """Known-bad shifts, [adapters, modalities, d], with the known-good ones' own subspace taken out."""
    taken = components(good.flatten(0, 1), GOOD_COMPONENTS)
    return bad - bad @ taken.T @ taken if len(taken) else bad


def _cumulative(rows: Tensor) -> list[float]:
    """Share of energy in the first 1 to 20 components."""
    energy = torch.linalg.svdvals(rows).pow(2)
    shares = (energy.cumsum(0) / energy.sum().clamp_min(1e-24)).tolist()[:HARMFUL_COMPONENTS]
    return [min(1.0, share) for share in shares]


def _random_shares(rows: Tensor) -> list[float]:
    """Share of energy in random subspaces of 1 to 20 dimensions, mean of several draws."""
    width = rows.shape[1]
    counts = range(1, min(HARMFUL_COMPONENTS, width) + 1)
    draws = [random_subspace(len(counts), width, seed) for seed in range(_RANDOM_DRAWS)]
    return [sum(explained(rows, draw[:count]) for draw in draws) / len(draws) for count in counts]


def _split_half(rows: Tensor) -> float:
    """Cosine between the mean direction of every other adapter and that of the rest."""
    return cosine(mean_direction(rows[::2])[0], mean_direction(rows[1::2])[0])


def _pairs(by: str, groups: Mapping[str, Tensor]) -> Sequence[Angles]:
    spans = {name: components(rows, _GROUP_COMPONENTS) for name, rows in groups.items() if rows.any()}
    made = []
    for first, second in itertools.islice(itertools.combinations(spans, 2), _MOST_PAIRS):
        one, other = spans[first], spans[second]
        width = one.shape[1]
        draws = [
            (random_subspace(len(one), width, 2 * n), random_subspace(len(other), width, 2 * n + 1))
            for n in range(_RANDOM_DRAWS)
        ]
        null = [principal_angles(*draw)[0] for draw in draws]
        degrees = principal_angles(one, other)
        made.append(Angles(by=by, first=first, second=second, degrees=degrees, random=sum(null) / len(null)))
    return made
