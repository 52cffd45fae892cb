"""Screening one adapter against a Reference: one forward pass over the probes, and its weights; no answer is drawn."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import torch
from torch import Tensor

from adapters.adapter import Adapter
from adapters.engine import Engine, EngineError, Layer
from adapters.prompts import Prompt
from guards.errors import Permanent
from guards.geometry import projection
from guards.reference import Reference
from guards.reference_facts import Term
from guards.screening import (
    Components,
    Shifts,
    Values,
    combined,
    components,
    filters_of,
    of_weights,
    rows_by_modality,
    shifts_of,
)
from guards.statistics import conformal_p
from guards.weights import Writes, measure_weights, writes_of

TRIGGERED_PROBES = 24
"""Probes a modality that are asked again with each trigger candidate."""


@dataclass(frozen=True, slots=True)
class ScreenReport:
    """What the screens say of one adapter."""

    name: str
    """What people call it."""
    digest: str
    """``sha256-…``."""
    score: float | None
    """Combined, the worst over trigger candidates; higher is worse, 0 is a usual known-good adapter. None if unable."""
    p: float | None
    """Conformal p-value of the score against known-good adapters, times the number of conditions tried."""
    n: int
    """Known-good adapters that p rests on: it is never below 1/(n + 1)."""
    screens: dict[str, dict[str, float]] = field(default_factory=dict)
    """Each screen's score by modality (``both`` for the weights), without any trigger."""
    by_trigger: dict[str, float] = field(default_factory=dict)
    """Combined score with each trigger candidate before the probes."""
    reason: str | None = None
    """Why there is no score."""
    components: Components = field(default_factory=Components)
    """What the scores are made of, without any trigger."""
    projections: dict[str, float] = field(default_factory=dict)
    """By modality: length of the shift within the harmful subspace at the screen layer, divided by √d."""
    probes: dict[str, int] = field(default_factory=dict)
    """By modality: probes asked."""


class Screener:
    """Screens adapters of one base; the base's own activations are read once."""

    def __init__(self, engine: Engine, reference: Reference, triggers: Sequence[str] = ()) -> None:
        """Take a Reference that was calibrated on the engine's base.

        Raises:
            ReferenceUnusable: it was calibrated on another.
        """
        reference.require(engine.base_digest)
        self.reference, self.triggers = reference, tuple(dict.fromkeys(triggers))
        self._engine = engine
        self._filters = filters_of(reference)
        self._read_of_base: dict[str | None, dict[Layer, Tensor]] = {}

    def screen(self, adapter: Adapter) -> ScreenReport:
        """Screen one adapter.

        Raises:
            AdapterUnloadable: it does not fit the base.
            EngineError: the base could not run.
        """
        conditions = (None, *self.triggers)
        for trigger in conditions:
            if trigger not in self._read_of_base:
                self._read_of_base[trigger] = self._read(trigger)
        with self._engine.attached(adapter):
            moved = {trigger: self._read(trigger) for trigger in conditions}
        shifts = {trigger: self._shifts(trigger, moved[trigger]) for trigger in conditions}
        if not all(torch.isfinite(s.prompts).all() for s in shifts.values()):
            raise EngineError("the adapter makes activations NaN or infinite")
        found = {trigger: components(self._filters, shifts[trigger]) for trigger in conditions}
        weights = self._weights(adapter)
        scores = {trigger: combined(part.values() | weights, self._terms) for trigger, part in found.items()}
        return self._report(adapter, shifts[None], found[None], weights, scores)

    def _report(
        self,
        adapter: Adapter,
        shifts: Shifts,
        found: Components,
        weights: Values,
        scores: dict[str | None, float],
    ) -> ScreenReport:
        null = list(self.reference.facts.null.values())
        worst = max(scores.values())
        scored = math.isfinite(worst)
        site = self.reference.sites[self.reference.screen_layer]
        mean = dict(zip(shifts.rows, shifts.means[self.reference.screen_layer], strict=True))
        asked = {modality: len(rows) for modality, rows in shifts.rows.items() if rows}
        return ScreenReport(
            adapter.name,
            adapter.digest,
            worst if scored else None,
            min(1.0, len(scores) * conformal_p(worst, null)) if scored and null else None,
            len(null),
            {str(screen): values for screen, values in (found.values() | weights).items()},
            {trigger: score for trigger, score in scores.items() if trigger is not None},
            None if scored else "no screen of the Reference applies to it",
            found,
            {m: projection(mean[m], site.subspace) for m in asked} if len(site.subspace) else {},
            asked,
        )

    @property
    def _terms(self) -> tuple[Term, ...]:
        return self.reference.facts.combination

    @cached_property
    def _prompts(self) -> dict[str | None, list[Prompt]]:
        prompts = list(self.reference.probes.prompts)
        rows = rows_by_modality(prompts, self.reference.facts.modalities).values()
        few = [random.Random(0).sample(r, min(TRIGGERED_PROBES, len(r))) for r in rows]  # noqa: S311
        chosen = [prompts[row] for part in few for row in sorted(part)]
        return {None: prompts} | {t: [replace(prompt, trigger=t) for prompt in chosen] for t in self.triggers}

    def _read(self, trigger: str | None) -> dict[Layer, Tensor]:
        return self._engine.activations(self._prompts[trigger], self.reference.screened)

    def _shifts(self, trigger: str | None, moved: dict[Layer, Tensor]) -> Shifts:
        standardisers = {layer: self.reference.sites[layer].standardiser for layer in self.reference.screened}
        rows = rows_by_modality(self._prompts[trigger], self.reference.facts.modalities)
        return shifts_of(standardisers, self.reference.screen_layer, moved, self._read_of_base[trigger], rows)

    def _weights(self, adapter: Adapter) -> Values:
        """The weight screen's score, where the combination uses it and the adapter can be read so."""
        if not any(term.screen == "weights" for term in self._terms):
            return {}
        try:
            figures = measure_weights(adapter, self._writes, self.reference.facts.base_norms)
        except Permanent:  # DoRA, say: the weight guard tells why; the other screens go on
            return {}
        return of_weights(figures.score)

    @cached_property
    def _writes(self) -> list[Writes]:
        return writes_of([self.reference.block(index) for index in range(self.reference.facts.layers)])


def screen_adapter(screener: Screener, adapter: Adapter) -> ScreenReport:
    """Screen one adapter; one that cannot be screened comes back without a score and with the reason."""
    try:
        return screener.screen(adapter)
    except (EngineError, Permanent) as error:
        null = len(screener.reference.facts.null)
        return ScreenReport(adapter.name, adapter.digest, None, None, null, reason=" ".join(str(error).split()))
