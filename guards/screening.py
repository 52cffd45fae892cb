"""From shifts to scores: what the activation screens make of an adapter's activations beside the base's.

Every component is linear in the mean shift (but the tail), so a step of a lineage is the difference of two
adapters' components. In standardised coordinates, z the mean shift of one modality at one layer:

contrast  matched filters of the base's own harmful-minus-safe answers, one a category, averaged over the layers
shift     matched filter of the known-bad adapters' mean shift, averaged over the layers
probe     log-odds, less their constant, of a logistic classifier of single prompts' shifts, at the screen layer
tail      mean of the largest tenth of single prompts' log-odds: harm that only some prompts wake

A matched filter for direction d among benign shifts of covariance S is S⁻¹d, scaled so that a benign shift scores with
variance one: it discounts every direction that harmless training moves too. Source: linear discriminant analysis
(Fisher 1936) with shrunk covariance; the response contrast is that of arXiv 2602.16931's steering follow-ups.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from adapters.engine import Layer
from adapters.prompts import Prompt
from guards.geometry import Standardiser
from guards.reference import Reference
from guards.reference_facts import BOTH, ScreenName, Term
from policies.findings import Finding, Result

TAIL_SHARE = 0.1
"""Of the prompts, the largest of which make the tail; at least one."""

Values = dict[ScreenName, dict[str, float]]
"""One score a screen and modality."""


@dataclass(frozen=True, slots=True)
class Components:
    """What was measured of one adapter, in units of benign standard deviations (the probe's in log-odds)."""

    contrast: dict[str, dict[str, float]] = field(default_factory=dict)
    """By modality and category."""
    shift: dict[str, float] = field(default_factory=dict)
    """By modality."""
    probe: dict[str, float] = field(default_factory=dict)
    """By modality."""
    tail: dict[str, float] = field(default_factory=dict)
    """By modality; not linear."""

    def minus(self, other: Components) -> Components:
        """The step from ``other`` to this one; the tail, which is no difference of tails, is left out."""
        return Components(
            {m: {c: v - other.contrast[m][c] for c, v in row.items()} for m, row in self.contrast.items()},
            {m: v - other.shift[m] for m, v in self.shift.items()},
            {m: v - other.probe[m] for m, v in self.probe.items()},
        )

    def values(self) -> Values:
        """One score a screen and modality: of the contrast the category that moved most."""
        found: Values = {
            "contrast": {m: max(row.values()) for m, row in self.contrast.items() if row},
            "shift": dict(self.shift),
            "probe": dict(self.probe),
            "tail": dict(self.tail),
        }
        return {screen: values for screen, values in found.items() if values}


@dataclass(frozen=True, slots=True)
class Filters:
    """What turns shifts into components: a whole Reference's, or those of one fold of its calibration."""

    layers: tuple[Layer, ...]
    """Layers whose mean shifts are read."""
    modalities: tuple[str, ...]
    """In the order of all rows."""
    categories: tuple[str, ...]
    """Of the contrast, in the order of its filters."""
    contrast: Mapping[Layer, Tensor]
    """Matched filters of the response contrast, [categories, d] a layer."""
    harm: Mapping[Layer, Tensor]
    """Matched filters of the known-bad mean shift, [modalities, d] a layer; [0, d] without known-bad adapters."""
    probe: Tensor
    """Logistic coefficients, [d]; empty without known-bad adapters."""


@dataclass(frozen=True, slots=True)
class Shifts:
    """How one adapter moves the base on some prompts, in standard deviations of the base."""

    means: Mapping[Layer, Tensor]
    """Mean shift by layer, [modalities, d]."""
    prompts: Tensor
    """Every prompt's shift at the screen layer, [prompts, d]."""
    rows: Mapping[str, Sequence[int]]
    """By modality: its prompts."""


def filters_of(reference: Reference) -> Filters:
    """The filters that a Reference holds."""
    facts, layers = reference.facts, reference.screened
    return Filters(
        layers,
        facts.modalities,
        facts.categories,
        {layer: reference.sites[layer].filters for layer in layers},
        {layer: reference.sites[layer].harm for layer in layers},
        reference.probe,
    )


def shifts_of(
    standardisers: Mapping[Layer, Standardiser],
    screen_layer: Layer,
    moved: Mapping[Layer, Tensor],
    base: Mapping[Layer, Tensor],
    rows: Mapping[str, Sequence[int]],
) -> Shifts:
    """Reduce activations with and without an adapter, [prompts, d] a layer, to standardised shifts."""
    means = {
        layer: torch.stack([standardiser.shift(moved[layer][list(r)], base[layer][list(r)]) for r in rows.values()])
        for layer, standardiser in standardisers.items()
    }
    scale = standardisers[screen_layer].scale
    return Shifts(means, (moved[screen_layer] - base[screen_layer]) / scale, rows)


def rows_by_modality(prompts: Sequence[Prompt], modalities: Sequence[str]) -> dict[str, list[int]]:
    """Which prompts ask in which modality; a modality without any has an empty row and is left out of scores."""
    return {m: [row for row, prompt in enumerate(prompts) if prompt.modality == m] for m in modalities}


def components(filters: Filters, shifts: Shifts) -> Components:
    """Measure one adapter's shifts."""
    result = Components()
    for column, modality in enumerate(filters.modalities):
        rows = list(shifts.rows[modality])
        if not rows:
            continue
        if filters.categories:
            each = torch.stack([filters.contrast[la] @ shifts.means[la][column] for la in filters.layers]).mean(dim=0)
            result.contrast[modality] = dict(zip(filters.categories, each.tolist(), strict=True))
        harm = [filters.harm[la][column] @ shifts.means[la][column] for la in filters.layers if len(filters.harm[la])]
        if harm:
            result.shift[modality] = float(torch.stack(harm).mean())
        if len(filters.probe):
            log_odds = shifts.prompts[rows] @ filters.probe
            result.probe[modality] = float(log_odds.mean())
            result.tail[modality] = tail(log_odds)
    return result


def components_of(results: Iterable[Result]) -> Components | None:
    """Rebuild what the subspace guard recorded of one adapter without any trigger; None where it measured nothing."""
    made = Components()
    for result in results:
        if not isinstance(result, Finding) or "modality" not in result.labels or "trigger" in result.labels:
            continue
        modality = result.labels["modality"]
        match result.measure:
            case "contrast_shift":
                made.contrast.setdefault(modality, {})[result.labels["category"]] = result.value
            case "harm_shift":
                made.shift[modality] = result.value
            case "probe_log_odds":
                made.probe[modality] = result.value
            case "probe_tail":
                made.tail[modality] = result.value
            case _:
                pass
    return made if made.contrast or made.shift or made.probe else None


def tail(log_odds: Tensor) -> float:
    """Mean of the largest tenth, at least one."""
    return float(log_odds.topk(max(1, round(TAIL_SHARE * len(log_odds)))).values.mean())


def combined(values: Values, terms: Sequence[Term]) -> float:
    """One score out of all screens, higher is worse; 0 is a typical known-good adapter.

    Each screen's worst modality in robust standard deviations of the known-good ones, its logarithm taken beyond
    one (dose differs by orders of magnitude), weighted by how well the screen told good from bad. A screen that
    was not measured is left out; without any, NaN, which compares as no score at all.
    """
    total = weights = 0.0
    for term in terms:
        measured = values.get(term.screen, {})
        found = [
            (value - term.centre[modality]) / term.spread[modality]
            for modality, value in measured.items()
            if modality in term.centre
        ]
        if found and term.weight:
            worst = max(found)
            total += term.weight * math.copysign(math.log1p(abs(worst)), worst)
            weights += term.weight
    return total / weights if weights else float("nan")


def of_weights(score: float) -> Values:
    """The weight screen's score among the others."""
    return {"weights": {BOTH: score}}
