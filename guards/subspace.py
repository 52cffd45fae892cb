"""The geometric screen: how far an adapter moves the base along directions that harm shares.

One truncated forward pass over the Reference's probes (and once more over some of them for every trigger candidate).
Source: arXiv 2602.16931 (about ten components of final-token activations hold most of the harm) and its steering
follow-ups (response contrast); standardised, and with known-good adapters as the null. Figures: docs/geometry.md.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence

from adapters.adapter import Adapter
from adapters.engine import AdapterUnloadable, Engine, EngineError
from guards.reference import Reference
from guards.reference_facts import Figures, Rate, ScreenName
from guards.screen import Screener, ScreenReport
from guards.statistics import conformal_p
from policies.findings import Defect, Finding, Inconclusive, Result


class SubspaceGuard:
    """Screens the activations, text and pictures apart, and compares with known-good adapters."""

    name = "subspace"

    def __init__(self, engine: Engine, reference: Reference, triggers: Sequence[str] = ()) -> None:
        """Take a Reference that was calibrated on the engine's base, and the policy's trigger candidates.

        Raises:
            ReferenceUnusable: it was calibrated on another.
        """
        self._screener = Screener(engine, reference, triggers)
        self._reference = reference
        tried = hashlib.sha256("\0".join(triggers).encode()).hexdigest()[:6] if triggers else "none"
        self.version = f"2-{(reference.digest or reference.probes.digest)[-12:]}-{tried}"

    def examine(self, adapter: Adapter) -> list[Result]:
        """Measure the shift on the probes and compare it with the known-good adapters' shifts."""
        try:
            report = self._screener.screen(adapter)
        except AdapterUnloadable as error:
            return [Defect(guard=self.name, version=self.version, code="unloadable", reason=str(error))]
        except EngineError as error:
            return [self._unable(str(error))]
        if report.score is None:
            return [self._unable(report.reason or "it was not scored")]
        return [*self._combined(report, report.score), *self._parts(report)]

    def _combined(self, report: ScreenReport, score: float) -> Iterator[Result]:
        yield self._finding("screen_score", score, sum(report.probes.values()))
        for trigger, value in report.by_trigger.items():
            yield self._finding("screen_score_triggered", value, sum(report.probes.values()), trigger=trigger)
        if report.p is not None:
            yield self._finding("screen_p_value", report.p, report.n)
        for errors in self._reference.facts.errors:
            rates = {
                "screen_false_positive_rate": errors.false_positive,
                "screen_false_negative_rate": errors.false_negative,
            }
            for measure, rate in rates.items():
                if rate is not None:
                    yield Finding(
                        guard=self.name,
                        version=self.version,
                        measure=measure,
                        value=rate.value,
                        low=rate.low,
                        high=rate.high,
                        n=rate.n,
                        labels={"level": f"{errors.level:g}"},
                    )

    def _parts(self, report: ScreenReport) -> Iterator[Result]:
        found = report.components
        for modality, n in report.probes.items():
            for category, value in found.contrast.get(modality, {}).items():
                yield self._finding("contrast_shift", value, n, modality=modality, category=category)
            if modality in found.shift:
                yield self._finding("harm_shift", found.shift[modality], n, modality=modality)
            if modality in found.probe:
                yield self._finding("probe_log_odds", found.probe[modality], n, modality=modality)
                yield self._finding("probe_tail", found.tail[modality], n, modality=modality)
                figures = self._figures("tail", modality)
                if figures is not None:
                    p = conformal_p(found.tail[modality], list(figures.known_good.values()))
                    yield self._finding("probe_tail_p_value", p, len(figures.known_good), modality=modality)
            if modality in report.projections:
                yield from self._projection(report.projections[modality], n, modality)

    def _projection(self, value: float, n: int, modality: str) -> Iterator[Result]:
        """The length within the harmful subspace, and the known adapters' own by name, for the drawing."""
        yield self._finding("subspace_projection", value, n, modality=modality)
        figures = self._figures("projection", modality)
        if figures is None:
            return
        null = list(figures.known_good.values())
        yield self._finding("subspace_p_value", conformal_p(value, null), len(null), modality=modality)
        for name, known in figures.known_good.items():
            yield self._finding("subspace_null", known, n, modality=modality, adapter=name)
        for name, known in figures.known_bad.items():
            yield self._finding("subspace_known_bad", known, n, modality=modality, adapter=name)

    def _rate(self, measure: str, rate: Rate, level: str) -> Finding:
        found = self._finding(measure, rate.value, rate.n, level=level)
        return found.model_copy(update={"low": rate.low, "high": rate.high})

    def _figures(self, screen: ScreenName, modality: str) -> Figures | None:
        return self._reference.facts.screens.get(screen, {}).get(modality)

    def _finding(self, measure: str, value: float, n: int, **labels: str) -> Finding:
        return Finding(guard=self.name, version=self.version, measure=measure, value=value, n=n, labels=labels)

    def _unable(self, reason: str) -> Inconclusive:
        return Inconclusive(guard=self.name, version=self.version, measure="screen_score", reason=reason)
