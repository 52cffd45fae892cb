"""Proof that an adapter is active: all of it was taken by the base, and it changes what the base would say.

A server or library drops what it cannot match without an error (FACTS of vLLM and PEFT alike), and then the base
is judged in the adapter's place. So nothing is judged before this guard has seen it move the model.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from adapters.adapter import Adapter
from adapters.engine import AdapterUnloadable, Attachment, Engine, EngineError
from adapters.prompts import MODALITIES, Prompt
from guards.suites.suite import Suite
from policies.findings import Defect, Finding, Inconclusive, Result

_PROBES = 8
_NOISE = 1e-4


class ActivityGuard:
    """Compares next-token logits with and without the adapter on a few prompts of each modality."""

    name = "activity"
    version = "1"

    def __init__(self, engine: Engine, suites: Sequence[Suite]) -> None:
        """Choose the probes: the first few prompts of each modality in the suites."""
        self._engine = engine
        prompts = [prompt for suite in suites for prompt in suite.prompts]
        self._probes: list[Prompt] = []
        for modality in MODALITIES:
            self._probes += [prompt for prompt in prompts if prompt.modality == modality][:_PROBES]
        self._base_logits: torch.Tensor | None = None

    def examine(self, adapter: Adapter) -> list[Result]:
        """Attach, account for every module, and measure the largest change of any logit by modality."""
        try:
            if self._base_logits is None:
                self._base_logits = self._engine.final_logits(self._probes)
            with self._engine.attached(adapter) as attachment:
                logits = self._engine.final_logits(self._probes)
        except AdapterUnloadable as error:
            return [self._defect("unloadable", str(error))]
        except EngineError as error:
            unable = Inconclusive(guard=self.name, version=self.version, measure="logit_change", reason=str(error))
            return [unable]
        return self._matching(attachment) or self._changes(logits, self._base_logits, attachment)

    def _matching(self, attachment: Attachment) -> list[Result]:
        if attachment.unmatched:
            some = ", ".join(attachment.unmatched[:3])
            count = len(attachment.unmatched)
            return [self._defect("unmatched_modules", f"{count} tensors fit no module of the base, such as {some}")]
        if attachment.empty:
            some = ", ".join(attachment.empty[:3])
            count = len(attachment.empty)
            return [self._defect("missing_weights", f"{count} targeted modules have no weights in the file: {some}")]
        return []

    def _changes(self, logits: torch.Tensor, base: torch.Tensor, attachment: Attachment) -> list[Result]:
        if not torch.isfinite(logits).all():
            return [self._defect("not_finite", "the adapter makes the model's logits NaN or infinite")]
        # In units of the base's own spread, so that one limit serves every vocabulary and dtype.
        change = (logits - base).abs().amax(dim=1) / base.std(dim=1).clamp_min(1e-12)
        results: list[Result] = [self._finding("modules_matched", len(attachment.matched), len(attachment.matched))]
        for modality in MODALITIES:
            rows = [row for row, prompt in enumerate(self._probes) if prompt.modality == modality]
            if rows:
                largest = float(change[rows].max())
                results.append(self._finding("logit_change", largest, len(rows), modality=modality))
        if float(change.max()) <= _NOISE:
            reason = f"no logit moved on {len(self._probes)} prompts, so judging it would be judging the base"
            return [*results, self._defect("no_op", reason)]
        return results

    def _finding(self, measure: str, value: float, n: int, **labels: str) -> Finding:
        return Finding(guard=self.name, version=self.version, measure=measure, value=value, n=n, labels=labels)

    def _defect(self, code: str, reason: str) -> Defect:
        return Defect(guard=self.name, version=self.version, code=code, reason=reason)
