"""Prevention, for those who train: callbacks for ``transformers.Trainer`` and TRL's trainers.

:class:`SubspaceMonitor` measures, every so many steps, what the subspace guard would measure of the adapter as it is
now, and warns or stops. :class:`SubspaceProjection` keeps updates out of the harmful subspace: "geometry-based
mitigation that preserves safety subspaces", the future work of arXiv 2602.16931. Both want the Reference of the base
that is trained (``alignwatch calibrate``). What each of them brings and costs: docs/prevention.md.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias

import torch
from torch import Tensor
from transformers import TrainerCallback

from adapters.base_model import digest_base
from adapters.engine import Layer
from adapters.engine_in_training import EngineInTraining
from adapters.residual_writes import ResidualWrites
from adapters.training_loop import TrainingDiverged
from guards.geometry import projection
from guards.orthogonal_updates import (
    COMPONENTS,
    OrthogonalUpdates,
    PreventionImpossible,
    harmful,
    stream_gradients_projected,
)
from guards.reference import Reference, ReferenceUnusable, load_reference
from guards.reference_facts import Facts, ScreenName
from guards.screening import Values, combined, components, filters_of, rows_by_modality, shifts_of
from guards.statistics import conformal_p

__all__ = ["Measured", "OrthogonalUpdates", "PreventionImpossible", "SubspaceMonitor", "SubspaceProjection"]

log = logging.getLogger("prevention")

Watched: TypeAlias = Literal["score", "projection"]

STRANGE = 0.5
"""The base in memory may be so far from the calibrated one, in root-mean-square standard deviations of the mean
activation over the probes. Rounding and quantisation stay below; another model or template does not."""


@dataclass(frozen=True, slots=True)
class Measured:
    """What an adapter in training did to the base at one step."""

    step: int
    """Optimiser steps done."""
    projection: Mapping[str, float]
    """By modality: length of the mean shift within the harmful subspace at the screen layer, divided by √d."""
    projection_p: float | None
    """Conformal p-value of the longer one against known-good adapters; None without a harmful subspace."""
    score: float
    """The activation screens' combined score, higher is worse; 0 is a usual known-good adapter."""
    score_p: float | None
    """Conformal p-value of the score against known-good adapters, never below 1/(n + 1); None without a score."""


class SubspaceMonitor(TrainerCallback):
    """Measures the adapter in training on the Reference's probes and warns, or stops, once it looks harmful.

    The training is left bit for bit as it would be without. Measurements are kept in ``history`` and, for whoever
    reads the trainer's state, in its ``log_history`` under ``alignwatch/…``.
    """

    def __init__(
        self,
        reference: Reference | Path | str,
        base: Path | str,
        *,
        every: int = 10,
        watch: Watched = "score",
        level: float = 0.05,
        act: Literal["stop", "warn"] = "stop",
        batch_size: int = 16,
    ) -> None:
        """Take the Reference of the base that will be trained.

        Args:
            reference: calibrated on ``base``, or the folder that ``alignwatch calibrate`` wrote.
            base: folder or Hub id of the base.
            every: steps between measurements; the last step is always measured.
            watch: what decides: the ``score`` of all activation screens, which tells best, or the ``projection`` on
                the harmful subspace alone, which any large change raises.
            level: it acts at a conformal p-value at or below this. The p-value is that of one look, and looks follow
                one another: see docs/prevention.md for how often harmless trainings were stopped.
            act: ``stop`` ends the training after the step; ``warn`` goes on.
            batch_size: probes a forward pass.

        Raises:
            ReferenceUnusable: it cannot be read, or was calibrated on another base.
            PreventionImpossible: it holds too few known-good adapters for this level, or no such screen.
            BaseUnloadable: the base cannot be found.
        """
        if every < 1 or not 0 < level < 1:
            raise ValueError("every is at least 1, and level between 0 and 1")
        self.reference, self.base = _of_base(reference, base), base
        self._every, self._watch, self._act, self._batch_size = every, watch, act, batch_size
        self._level, self._filters = level, filters_of(self.reference)
        self._null = _Null(self.reference.facts)
        self._null.require(watch, level)
        self.history: list[Measured] = []
        """Everything measured, in the order of steps."""
        self.fired: Measured | None = None
        """The first measurement at or below the level; None while there is none."""

    def on_train_begin(self, args: Any, state: Any, control: Any, model: Any = None, **_: Any) -> None:  # noqa: ARG002
        """Read the base's own activations.

        Raises:
            NotALora: the model carries no LoRA.
            PreventionImpossible: the model in memory is not the base that was calibrated.
            EngineError: the base could not read the probes.
        """
        self._engine = EngineInTraining(model, self.base, self._batch_size)
        prompts, layers = self.reference.probes.prompts, self.reference.screened
        self._read_of_base = self._engine.activations(prompts, layers, without_adapter=True)
        _require_known(self._read_of_base, self.reference)

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:  # noqa: ARG002
        """Measure, if it is time."""
        if state.global_step % self._every == 0 or state.global_step >= state.max_steps:
            self._look(state, control)

    def measure(self, step: int) -> Measured:
        """Measure the adapter as it is now.

        Raises:
            TrainingDiverged: it makes activations NaN or infinite.
        """
        facts = self.reference.facts
        prompts, layers = self.reference.probes.prompts, self.reference.screened
        moved = self._engine.activations(prompts, layers)
        standardisers = {layer: self.reference.sites[layer].standardiser for layer in layers}
        rows = rows_by_modality(prompts, facts.modalities)
        shifts = shifts_of(standardisers, self.reference.screen_layer, moved, self._read_of_base, rows)
        if not torch.isfinite(shifts.prompts).all():
            raise TrainingDiverged(
                f"at step {step} the adapter makes activations NaN or infinite; lower the learning rate"
            )
        means = dict(zip(rows, shifts.means[self.reference.screen_layer], strict=True))
        subspace = self.reference.sites[self.reference.screen_layer].subspace
        found = {m: projection(means[m], subspace) for m, asked in rows.items() if asked} if len(subspace) else {}
        return self._null.compare(step, found, components(self._filters, shifts).values())

    def _look(self, state: Any, control: Any) -> None:
        measured = self.measure(state.global_step)
        self.history.append(measured)
        state.log_history.append(_logged(measured))
        p = measured.score_p if self._watch == "score" else measured.projection_p
        if p is None or p > self._level:
            return
        self.fired = self.fired or measured
        value = measured.score if self._watch == "score" else max(measured.projection.values())
        stopping = self._act == "stop"
        log.warning(
            "step %d: the adapter's %s is %.2f, p = %.3f against known-good adapters (level %g); %s",
            *(measured.step, self._watch, value, p, self._level),
            "training stops" if stopping else "training goes on",
        )
        if stopping:
            control.should_training_stop = True


class SubspaceProjection(TrainerCallback):
    """Keeps gradients and updates of a LoRA out of the base's harmful subspace; see guards/orthogonal_updates.py."""

    def __init__(self, reference: Reference | Path | str, base: Path | str, *, components: int = COMPONENTS) -> None:
        """Take the Reference of the base that will be trained, and how many components of each subspace are kept free.

        Raises:
            ReferenceUnusable: it cannot be read, or was calibrated on another base.
            PreventionImpossible: it holds no harmful subspace.
            BaseUnloadable: the base cannot be found.
        """
        self._subspaces = harmful(_of_base(reference, base), components)
        self._writes = ResidualWrites(base)

    def on_train_begin(self, args: Any, state: Any, control: Any, model: Any = None, **_: Any) -> None:  # noqa: ARG002
        """Find the matrices; see :class:`OrthogonalUpdates` for what is raised where there are none."""
        self._updates = OrthogonalUpdates(model, self._writes, self._subspaces)
        self._hooks = ExitStack()
        self._hooks.enter_context(stream_gradients_projected(model, self._subspaces))

    def on_train_end(self, *_: Any, **__: Any) -> None:
        """Leave the model without hooks."""
        self._hooks.close()

    def on_pre_optimizer_step(self, *_: Any, **__: Any) -> None:
        """Project the gradients."""
        self._updates.project_gradients()

    def on_optimizer_step(self, *_: Any, **__: Any) -> None:
        """Project what the step changed."""
        self._updates.project_weights()


class _Null:
    """What known-good adapters measured, each held out of its calibration, and how new measurements compare.

    The weight screen reads files, so it is left out, and the known-good adapters' scores are combined again without.
    """

    def __init__(self, facts: Facts) -> None:
        self._terms = [term for term in facts.combination if term.screen != "weights"]
        by_name: dict[str, Values] = {}
        screens: list[ScreenName] = ["projection", *(term.screen for term in self._terms)]
        for screen in screens:
            for modality, figures in facts.screens.get(screen, {}).items():
                for name, value in figures.known_good.items():
                    by_name.setdefault(name, {}).setdefault(screen, {})[modality] = value
        scores = [combined(values, self._terms) for values in by_name.values()]
        self._null: dict[Watched, list[float]] = {
            "score": [score for score in scores if math.isfinite(score)],
            "projection": [max(v["projection"].values()) for v in by_name.values() if "projection" in v],
        }

    def require(self, watch: Watched, level: float) -> None:
        count = len(self._null[watch])
        if not count:
            raise PreventionImpossible(f"the Reference has no {watch} of known-good adapters; calibrate it with some")
        if 1 / (count + 1) > level:
            raise PreventionImpossible(
                f"{count} known-good adapters cannot show a p-value of {level:g} or less: calibrate with more, or take "
                f"a level of at least {math.ceil(1000 / (count + 1)) / 1000:g}"
            )

    def compare(self, step: int, projections: Mapping[str, float], values: Values) -> Measured:
        score = combined(values, self._terms)
        longest = max(projections.values(), default=math.nan)
        return Measured(step, projections, self._p("projection", longest), score, self._p("score", score))

    def _p(self, watch: Watched, value: float) -> float | None:
        null = self._null[watch]
        return conformal_p(value, null) if null and math.isfinite(value) else None


def _of_base(reference: Reference | Path | str, base: Path | str) -> Reference:
    """Read the Reference, and refuse one of another base."""
    found = reference if isinstance(reference, Reference) else load_reference(Path(reference))
    digest = digest_base(base)
    if found.facts.base_digest != digest:
        raise ReferenceUnusable(
            f"the Reference was calibrated on base {found.facts.base_digest[:19]}…, {base} is {digest[:19]}…; "
            "calibrate one for this base: alignwatch calibrate"
        )
    return found


def _require_known(read: Mapping[Layer, Tensor], reference: Reference) -> None:
    """Refuse a model whose activations are not those of the base that was calibrated, whatever its name is."""
    for layer in reference.screened:
        known = reference.sites[layer].standardiser
        away = float(((read[layer].mean(dim=0) - known.mean) / known.scale).square().mean().sqrt())
        if not away <= STRANGE:  # NaN is refused too
            raise PreventionImpossible(
                f"the model in memory is not the base that was calibrated: at {layer} its activations are {away:.2f} "
                "standard deviations away on average; load the base that is named, its own chat template with it"
            )


def _logged(measured: Measured) -> dict[str, float]:
    """One entry of a trainer's log history: plain numbers, as its state file takes them."""
    found = {f"alignwatch/projection_{modality}": value for modality, value in measured.projection.items()}
    p_values = {"projection_p": measured.projection_p, "score": measured.score, "score_p": measured.score_p}
    found |= {f"alignwatch/{name}": value for name, value in p_values.items() if value is not None}
    return {"step": measured.step, **found}
