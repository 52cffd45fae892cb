"""The geometric screen: how far an adapter moves the base along directions that harmful adapters share.

One truncated forward pass over the Reference's probes. Source: arXiv 2602.16931 (about ten components of
final-token activations hold most of the harm); standardised and with known-good adapters as the null.
"""

from __future__ import annotations

import torch

from adapters.adapter import Adapter
from adapters.engine import AdapterUnloadable, Engine, EngineError
from adapters.prompts import MODALITIES
from guards.geometry import projection
from guards.reference import Reference
from guards.statistics import conformal_p
from policies.findings import Defect, Finding, Inconclusive, Result


class SubspaceGuard:
    """Projects the mean shift on the Reference's harmful subspace, text and pictures apart."""

    name = "subspace"

    def __init__(self, engine: Engine, reference: Reference) -> None:
        """Take a Reference that was calibrated on the engine's base.

        Raises:
            ReferenceUnusable: it was calibrated on another.
        """
        reference.require(engine.base_digest)
        self._engine, self._reference = engine, reference
        self.version = f"1-{reference.probes.digest[-12:]}"
        self._base: torch.Tensor | None = None

    def examine(self, adapter: Adapter) -> list[Result]:
        """Measure the shift on the probes and compare it with the known-good adapters' shifts."""
        layer, probes = self._reference.screen, self._reference.probes.prompts
        try:
            if self._base is None:
                self._base = self._engine.activations(probes, [layer])[layer]
            with self._engine.attached(adapter):
                moved = self._engine.activations(probes, [layer])[layer]
        except AdapterUnloadable as error:
            return [Defect(guard=self.name, version=self.version, code="unloadable", reason=str(error))]
        except EngineError as error:
            return [self._unable(str(error))]
        if not torch.isfinite(moved).all():
            return [self._unable("the adapter makes activations NaN or infinite")]
        return [result for modality in MODALITIES for result in self._of(modality, moved, self._base)]

    def _of(self, modality: str, moved: torch.Tensor, base: torch.Tensor) -> list[Result]:
        reference = self._reference
        rows = [row for row, prompt in enumerate(reference.probes.prompts) if prompt.modality == modality]
        if not rows or modality not in reference.facts.null:
            return []
        block = reference.facts.screen_layer
        shift = reference.standardisers[block].shift(moved[rows], base[rows])
        score = projection(shift, reference.subspaces[block])
        null, bad = reference.facts.null[modality], reference.facts.known_bad[modality]
        results = [
            self._finding("subspace_projection", score, len(rows), modality=modality),
            self._finding("subspace_p_value", conformal_p(score, list(null.values())), len(null), modality=modality),
        ]
        results += [self._finding("subspace_null", v, len(rows), modality=modality, adapter=k) for k, v in null.items()]
        results += [
            self._finding("subspace_known_bad", v, len(rows), modality=modality, adapter=k) for k, v in bad.items()
        ]
        return list(results)

    def _finding(self, measure: str, value: float, n: int, **labels: str) -> Finding:
        return Finding(guard=self.name, version=self.version, measure=measure, value=value, n=n, labels=labels)

    def _unable(self, reason: str) -> Inconclusive:
        return Inconclusive(guard=self.name, version=self.version, measure="subspace_projection", reason=reason)
