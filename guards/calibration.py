"""Fitting a Reference for one base from known-good and known-bad adapters of it.

Every figure that a Reference states is held out: a known-good adapter's projection is measured on a subspace that
was fitted without it, a known-bad one's on a subspace fitted without any adapter of its domain.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from sklearn.metrics import roc_auc_score
from torch import Tensor

from adapters.activations import transformer_blocks
from adapters.adapter import Adapter
from adapters.engine import Layer
from adapters.transformers_engine import TransformersEngine
from guards.errors import Permanent
from guards.geometry import Standardiser, components, explained, projection
from guards.interface import Progress
from guards.reference import Facts, Reference, save_reference
from guards.suites.suite import Suite

HARMFUL_COMPONENTS = 10
"""The first paper's "about ten components"."""
GOOD_COMPONENTS = 4
"""Directions that harmless training moves too, taken out first; few, so that harm is not taken out with them."""
_FEWEST = 4


@dataclass(frozen=True, slots=True)
class Known:
    """An adapter whose character is known."""

    adapter: Adapter
    """Where it is."""
    domain: str
    """What it was trained on; held out together."""
    harmful: bool
    """Whether it is known to be bad."""


def calibrate(
    engine: TransformersEngine,
    population: Sequence[Known],
    probes: Suite,
    out: Path,
    progress: Progress = lambda *_: None,
) -> Reference:
    """Measure every adapter's shift at every decoder block, fit the subspaces, and write the Reference to ``out``.

    Raises:
        Permanent: too few adapters of either kind (at least four each, the bad ones of at least two domains).
    """
    bad_domains = {known.domain for known in population if known.harmful}
    counts = [sum(known.harmful == harmful for known in population) for harmful in (False, True)]
    if min(counts) < _FEWEST or len(bad_domains) < 2:
        raise Permanent(
            f"calibration needs at least {_FEWEST} known-good and {_FEWEST} known-bad adapters, the bad ones of "
            f"two domains; got {counts[0]} and {counts[1]} of {len(bad_domains)}"
        )
    blocks = len(transformer_blocks(engine.model, "decoder"))
    layers = [Layer("decoder", index) for index in range(blocks)]
    base = engine.activations(probes.prompts, layers)
    standardisers = tuple(Standardiser.fit(base[layer]) for layer in layers)
    # [adapters, blocks, modalities, d]
    shifts = []
    for done, known in enumerate(population):
        with engine.attached(known.adapter):
            moved = engine.activations(probes.prompts, layers)
        shifts.append(
            torch.stack(
                [_by_modality(moved[la], base[la], s, probes) for la, s in zip(layers, standardisers, strict=True)]
            )
        )
        progress("calibrate", done + 1, len(population))
    stacked = torch.stack(shifts)
    harmful = torch.tensor([known.harmful for known in population])
    subspaces = tuple(_harmful_subspace(stacked[:, block], harmful) for block in range(blocks))
    screen = blocks // 2
    facts = _facts(
        engine.base_digest,
        population,
        probes.modalities,
        stacked[:, screen],
        harmful,
        subspaces[screen],
        screen,
        blocks,
    )
    reference = Reference(facts, standardisers, subspaces, probes)
    save_reference(reference, out)
    return reference


def _by_modality(moved: Tensor, base: Tensor, standardiser: Standardiser, probes: Suite) -> Tensor:
    """Mean standardised shift of each modality that the probes have, [modalities, d]."""
    rows = [[i for i, p in enumerate(probes.prompts) if p.modality == m] for m in probes.modalities]
    return torch.stack([standardiser.shift(moved[row], base[row]) for row in rows])


def _harmful_subspace(shifts: Tensor, harmful: Tensor) -> Tensor:
    """Components of known-bad shifts, [adapters, modalities, d], after the known-good ones' own are taken out."""
    good = components(shifts[~harmful].flatten(0, 1), GOOD_COMPONENTS)
    return components(shifts[harmful].flatten(0, 1), HARMFUL_COMPONENTS, without=good)


def _facts(
    base_digest: str,
    population: Sequence[Known],
    modalities: Sequence[str],
    shifts: Tensor,
    harmful: Tensor,
    subspace: Tensor,
    screen: int,
    blocks: int,
) -> Facts:
    held_out = [_held_out(index, population, shifts, harmful) for index in range(len(population))]
    random = torch.linalg.qr(torch.randn(subspace.T.shape, generator=torch.Generator().manual_seed(0)))[0].T
    null: dict[str, dict[str, float]] = {}
    bad: dict[str, dict[str, float]] = {}
    auroc: dict[str, float] = {}
    auroc_random: dict[str, float] = {}
    for column, modality in enumerate(modalities):
        scores = [projection(shifts[i, column], held_out[i]) for i in range(len(population))]
        labelled = list(zip(population, scores, strict=True))
        null[modality] = {known.adapter.name: score for known, score in labelled if not known.harmful}
        bad[modality] = {known.adapter.name: score for known, score in labelled if known.harmful}
        auroc[modality] = float(roc_auc_score(harmful.numpy(), scores))
        control = [projection(shifts[i, column], random) for i in range(len(population))]
        auroc_random[modality] = float(roc_auc_score(harmful.numpy(), control))
    return Facts(
        base_digest=base_digest,
        screen_layer=screen,
        layers=blocks,
        null=null,
        known_bad=bad,
        auroc=auroc,
        auroc_random=auroc_random,
        explained=explained(shifts[harmful].flatten(0, 1), subspace),
    )


def _held_out(index: int, population: Sequence[Known], shifts: Tensor, harmful: Tensor) -> Tensor:
    """The subspace fitted without one known-good adapter, or without a known-bad one's whole domain."""
    one = population[index]
    kept = torch.tensor(
        [
            not (i == index or (one.harmful and other.harmful and other.domain == one.domain))
            for i, other in enumerate(population)
        ]
    )
    return _harmful_subspace(shifts[kept], harmful[kept])
