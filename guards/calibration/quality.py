"""How well each screen tells good from bad on domains that it was not fitted to, and how they make one score."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from sklearn.metrics import roc_auc_score
from torch import Tensor

from adapters.adapter import Adapter
from guards.calibration.fitting import Population, fit_filters, fit_writes, harmful_subspace, random_filters
from guards.errors import Permanent
from guards.geometry import projection, random_subspace
from guards.interface import Progress
from guards.reference_facts import BOTH, Errors, Figures, Rate, ScreenName, Term
from guards.screening import Filters, Values, combined, components, of_weights
from guards.statistics import auroc_interval, conformal_p, wilson
from guards.weights import WeightsUnreadable, Writes, measure_weights

LEVELS = (0.01, 0.02, 0.05, 0.1, 0.2)
"""Conformal levels that error rates are stated for, where the known-good adapters are enough to reach them."""
COMBINED: tuple[ScreenName, ...] = ("contrast", "shift", "probe", "tail", "weights")
"""Screens that make the combined score. The projection, which any large shift raises, is shown beside them."""
_RANDOM_DRAWS = 3
_FAIR = 0.75


@dataclass(frozen=True, slots=True)
class HeldOut:
    """Every adapter's scores by a fit without its domain, and the same on random directions."""

    values: tuple[Values, ...]
    """In the population's order."""
    random: tuple[tuple[Values, ...], ...]
    """The same, one draw after the other."""
    log_odds: tuple[np.ndarray, ...]
    """Per-prompt probe scores, [prompts] an adapter; empty without a probe."""


def held_out(population: Population, base_norms: Mapping[str, float], progress: Progress = lambda *_: None) -> HeldOut:
    """Score every adapter by a fit that saw none of its domain; ``base_norms`` are those of the base's layers."""
    count = len(population.known)
    values: list[Values] = [{} for _ in range(count)]
    random: list[list[Values]] = [[{} for _ in range(count)] for _ in range(_RANDOM_DRAWS)]
    log_odds: list[np.ndarray] = [np.empty(0)] * count
    folds = list(population.folds())
    for done, (fitted, held) in enumerate(folds):
        progress("holding out domains", done, len(folds))
        domains = sorted({population.known[row].domain for row in held})
        filters = fit_filters(population, fitted, domains)
        writes = fit_writes(population, fitted, domains)
        subspace = harmful_subspace(population, population.base.screen_layer, fitted)
        spaces = [random_subspace(len(subspace), subspace.shape[1], seed) for seed in range(_RANDOM_DRAWS)]
        controls = [random_filters(population, filters, fitted, seed) for seed in range(_RANDOM_DRAWS)]
        for row in held:
            shifts = population.shifts[row]
            values[row] = components(filters, shifts).values() | _projected(population, row, subspace)
            for seed, (control, space) in enumerate(zip(controls, spaces, strict=True)):
                random[seed][row] = components(control, shifts).values() | _projected(population, row, space)
            if len(filters.probe):
                log_odds[row] = (shifts.prompts @ filters.probe).numpy()
            values[row] = values[row] | _weighed(population.known[row].adapter, writes, base_norms)
    progress("holding out domains", len(folds), len(folds))
    return HeldOut(tuple(values), tuple(map(tuple, random)), tuple(log_odds))


def _weighed(adapter: Adapter, writes: Sequence[Writes], base_norms: Mapping[str, float]) -> Values:
    """The weight screen's score; nothing of an adapter that it cannot read (DoRA, or no writes to the stream)."""
    try:
        return of_weights(measure_weights(adapter, writes, base_norms).score)
    except WeightsUnreadable:
        return {}


def _projected(population: Population, row: int, subspace: Tensor) -> Values:
    """Length of an adapter's shifts within a subspace at the screen layer; nothing where the subspace is empty."""
    if not len(subspace):
        return {}
    shifts = population.shifts[row]
    means = shifts.means[population.base.screen_layer]
    found = {m: projection(mean, subspace) for (m, rows), mean in zip(shifts.rows.items(), means, strict=True) if rows}
    return {"projection": found}


def screens(population: Population, found: HeldOut) -> dict[ScreenName, dict[str, Figures]]:
    """Figures of every screen that was measured, by modality."""
    result: dict[ScreenName, dict[str, Figures]] = {}
    names = dict.fromkeys(name for values in found.values for name in values)
    for name in names:
        for modality in dict.fromkeys(m for values in found.values for m in values.get(name, {})):
            scores = [values.get(name, {}).get(modality) for values in found.values]
            draws = [[values.get(name, {}).get(modality) for values in draw] for draw in found.random]
            result.setdefault(name, {})[modality] = figures(population, scores, draws)
    return result


def figures(
    population: Population, scores: Sequence[float | None], draws: Sequence[Sequence[float | None]] = ()
) -> Figures:
    """Figures of one score an adapter; adapters without one are left out."""
    sides: dict[bool, dict[str, float]] = {False: {}, True: {}}
    for known, score in zip(population.known, scores, strict=True):
        if score is not None and math.isfinite(score):
            sides[known.harmful][_unique(known.adapter.name, sides[known.harmful])] = score
    random = [a for a in (_auroc(population, draw) for draw in draws) if a is not None]
    return Figures(
        known_good=sides[False],
        known_bad=sides[True],
        auroc=auroc_rate(list(sides[True].values()), list(sides[False].values())),
        auroc_random=float(np.mean(random)) if random else None,
    )


def auroc_rate(bad: Sequence[float], good: Sequence[float]) -> Rate | None:
    """Area under the ROC curve of bad against good scores with Newcombe's interval; None where a side is empty."""
    if not bad or not good:
        return None
    area = float(roc_auc_score([1] * len(bad) + [0] * len(good), [*bad, *good]))
    low, high = auroc_interval(area, len(bad), len(good))
    return Rate(value=area, low=low, high=high, n=len(bad) + len(good))


def terms(result: Mapping[ScreenName, Mapping[str, Figures]]) -> tuple[Term, ...]:
    """How much each screen counts, by its worst held-out AUROC over the modalities.

    Without known-bad adapters nothing was measured, and the contrast, which needs none, counts alone.
    """
    made = []
    for screen in COMBINED:
        parts = result.get(screen, {})
        if not parts:
            continue
        areas = [part.auroc.value for part in parts.values() if part.auroc is not None]
        weight = max(0.0, (min(areas) - _FAIR) / (1 - _FAIR)) if areas else float(screen == "contrast")
        centre, spread = {}, {}
        for modality, part in parts.items():
            null = np.array(list(part.known_good.values()))
            centre[modality] = float(np.median(null))
            deviation = 1.4826 * float(np.median(np.abs(null - centre[modality])))
            spread[modality] = max(deviation, 0.1 * float(null.std()), 1e-6)
        made.append(Term(screen=screen, weight=weight, centre=centre, spread=spread))
    return tuple(made)


def combined_figures(population: Population, found: HeldOut, made: Sequence[Term]) -> Figures:
    """The combined screen's figures, the random control's combined in the same way."""
    scores = [combined(values, made) for values in found.values]
    draws = [[combined(values, [t for t in made if t.screen != "weights"]) for values in draw] for draw in found.random]
    return figures(population, scores, draws)


def errors(population: Population, found: HeldOut, made: Sequence[Term]) -> tuple[Errors, ...]:
    """False-positive and false-negative rates by level: each adapter against the known-good ones of other domains."""
    scored = [(known, combined(values, made)) for known, values in zip(population.known, found.values, strict=True)]
    scored = [(known, score) for known, score in scored if math.isfinite(score)]
    p_values: dict[bool, list[float]] = {False: [], True: []}
    floor = 0.0
    for known, score in scored:
        null = [other for one, other in scored if not one.harmful and one.domain != known.domain]
        floor = max(floor, 1 / (len(null) + 1))
        p_values[known.harmful].append(conformal_p(score, null))
    stated = []
    for level in (level for level in LEVELS if level >= floor):
        false_positive = _rate(sum(p <= level for p in p_values[False]), len(p_values[False]))
        missed = _rate(sum(p > level for p in p_values[True]), len(p_values[True])) if p_values[True] else None
        stated.append(Errors(level=level, false_positive=false_positive, false_negative=missed))
    return tuple(stated)


def plain_contrast(population: Population) -> dict[str, Figures]:
    """The contrast without matched filters, by modality: no label of any adapter is in it. Nothing without pairs."""
    if not population.contrast.pairs:
        return {}
    filters = Filters(
        population.screened,
        population.base.modalities,
        population.contrast.categories,
        {la: population.contrast.directions(la, population.base.standardisers[la]) for la in population.screened},
        dict.fromkeys(population.screened, torch.empty(0, 0)),
        torch.empty(0),
    )
    found = [components(filters, shifts).values().get("contrast", {}) for shifts in population.shifts]
    return {m: figures(population, [values.get(m) for values in found]) for m in population.base.modalities}


def require_sense(label_free: Mapping[str, Figures], whole: Figures) -> None:
    """Refuse labels that are swapped: the plain contrast, which never saw them, tells; so does the combined score.

    Raises:
        Permanent: known-good adapters score above known-bad ones.
    """
    # The contrast may be no better than chance on an odd base; only where it is worse for certain are labels swapped.
    swapped = any(f.auroc is not None and f.auroc.high < 0.5 for f in label_free.values())
    if swapped or (whole.auroc is not None and whole.auroc.value < 0.5):
        raise Permanent(
            f"known-good adapters score worse than known-bad ones (AUROC below 0.5 on the "
            f"{'contrast' if swapped else 'combined'} screen); are --known-good and --known-bad swapped, or "
            "safe_response and harmful_response?"
        )


def outliers(result: Mapping[ScreenName, Mapping[str, Figures]]) -> list[str]:
    """Known-good adapters that score like known-bad ones, combined and on the contrast, which never saw the labels.

    Like them is above their median and six robust standard deviations off the other good ones. Without the contrast's
    word a harmless change of manner would be named too.
    """
    suspects = set(_like_bad(result["combined"][BOTH]))
    contrast = result.get("contrast", {})
    if contrast:
        suspects &= {name for figures_ in contrast.values() for name in _like_bad(figures_, spreads=0)}
    return [name for name in result["combined"][BOTH].known_good if name in suspects]


def _like_bad(figures_: Figures, spreads: float = 6) -> list[str]:
    good, bad = figures_.known_good, figures_.known_bad
    if not bad:
        return []
    values = np.array(list(good.values()))
    spread = max(1.4826 * float(np.median(np.abs(values - np.median(values)))), 1e-6)
    limit = max(float(np.median(list(bad.values()))), float(np.median(values)) + spreads * spread)
    return [name for name, value in good.items() if value > limit]


def _auroc(population: Population, scores: Sequence[float | None]) -> float | None:
    pairs = [
        (k.harmful, s) for k, s in zip(population.known, scores, strict=True) if s is not None and math.isfinite(s)
    ]
    if len({harmful for harmful, _ in pairs}) < 2:
        return None
    return float(roc_auc_score([harmful for harmful, _ in pairs], [score for _, score in pairs]))


def _rate(count: int, n: int) -> Rate:
    interval = wilson(count, n)
    return Rate(value=interval.value, low=interval.low, high=interval.high, n=n)


def _unique(name: str, taken: Mapping[str, float]) -> str:
    number, unique = 1, name
    while unique in taken:
        number += 1
        unique = f"{name} ({number})"
    return unique
