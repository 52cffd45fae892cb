"""Lowers an adapter's α to the largest value that passes. Nothing else of it changes, its weights not by a bit.

What a LoRA adds is α/r · BA (α/√r with rsLoRA), so that a share of α is that share of all that the adapter does to a
layer, its skill included. Source: arXiv 2609.35291 finds about no emergent misalignment left below half of α.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from adapters.adapter import CONFIG_NAME, Adapter
from adapters.anatomy import Anatomy, dissect
from adapters.rewrite import adopted, config_of, workshop, write_config, written
from guards.delta_change import change_findings
from guards.dose_response import Deadline, Dosed, Measuring, curve_findings, first_passing, geometric, read_made
from guards.errors import Permanent, Untreatable
from guards.interface import Progress
from guards.remedy_record import as_measured
from policies.remedying import Remedying


class ScaleRemedy:
    """Tries smaller and smaller shares of α, and keeps the first that passes."""

    name = "scale"

    def __init__(
        self,
        measure: Measuring | None,
        settings: Remedying,
        progress: Progress = lambda *_: None,
        *,
        dose: float | None = None,
    ) -> None:
        """Take what asks an adapter, and how many doses are tried.

        Args:
            measure: asks an adapter at one dose; not needed with ``dose``.
            settings: how many doses, down to which, and how long.
            progress: told how far it has come.
            dose: this share of α and no other, unmeasured: the control of other remedies, given the norm of what they
                leave of an adapter (:func:`guards.delta_change.compare`).

        Raises:
            Permanent: there is nothing to choose a dose by.
        """
        if measure is None and dose is None:
            raise Permanent("scale has to ask the adapter at several doses: name a policy with suites and a judge")
        self._measure, self._settings, self._progress, self._dose = measure, settings, progress, dose

    def apply(self, adapter: Adapter, out: Path) -> Adapter:
        """Write the adapter at the largest dose that passes to ``out``, with its dose-response curve.

        Raises:
            Untreatable: no dose passes, or α does not scale all that this adapter does.
            Permanent: the adapter could not be asked, or the time is over.
            Retryable: the surroundings failed.
        """
        _require_scalable(dissect(adapter.path))
        with workshop(out) as folder:
            written(adapter, folder, None, None)
            doses = self._doses(adapter, folder)
            curve = first_passing(doses, self.name)
            found = [*curve_findings(curve, self.name), *change_findings(self.name, adapter, folder)]
            return adopted(adapter, folder, out, self.name, as_measured(found))

    def _doses(self, adapter: Adapter, folder: Path) -> Iterator[Dosed]:
        """Give the adapter in ``folder`` one dose after the other, largest first, and measure it."""
        config, deadline = config_of(adapter), Deadline(self._settings.seconds)
        doses = geometric(self._settings.doses, self._settings.smallest_dose) if self._dose is None else [self._dose]
        for done, dose in enumerate(doses):
            deadline.check(self.name)
            self._progress(self.name, done, len(doses))
            write_config(scaled(config, dose), folder)
            yield Dosed(dose, read_made(self._measure, folder, adapter, self.name))


def scaled(config: dict[str, Any], dose: float) -> dict[str, Any]:
    """A LoRA's config with every α multiplied by ``dose``; a module's scale is α over a power of its own rank."""
    own = {module: _whole(alpha * dose) for module, alpha in (config.get("alpha_pattern") or {}).items()}
    return {**config, "lora_alpha": _whole(config.get("lora_alpha", 8) * dose), "alpha_pattern": own}


def _whole(alpha: float) -> float:
    """PEFT's type for α is an integer; where it can be one, it stays one."""
    return int(alpha) if float(alpha).is_integer() else alpha


def _require_scalable(anatomy: Anatomy) -> None:
    """Refuse what α does not scale as a whole."""
    if anatomy.use_dora:
        raise Untreatable("scale cannot treat a DoRA adapter: its magnitudes act whatever α is; try benign_finetune")
    whole = [key for key in anatomy.other_tensors if ".lora_B" not in key]
    if whole:
        raise Untreatable(f"scale cannot treat this adapter: {whole[0]} acts whatever α is")
    faults = [problem for problem in anatomy.problems if problem.fatal]
    if faults:
        raise Untreatable(f"scale cannot treat this adapter: {CONFIG_NAME} or its weights are unsound: {faults[0]}")
