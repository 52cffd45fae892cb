"""Takes the response contrast out of what a model writes to the residual stream, baked into the adapter's file.

The directions are the Reference's, over answer tokens: what the base itself does while it is made to say harm less what
it does while it is not, one direction a category. Source of the direction: the steering follow-ups of arXiv 2602.16931;
of ablating it in the weights: arXiv 2406.11717. The base's own writes are ablated too (:mod:`adapters.ablated_writes`),
so that the LoRA grows by the number of categories. To steer a running model instead, which reaches the whole stream:
:mod:`adapters.steering`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from safetensors.torch import load_file
from torch import Tensor

from adapters.ablated_writes import CannotBake, baked
from adapters.adapter import WEIGHTS_NAME, Adapter
from adapters.engine import Layer
from adapters.residual_writes import ResidualWrites, WritesUnknown
from adapters.rewrite import adopted, config_of, workshop, written
from guards.delta_change import change_findings
from guards.dose_response import Deadline, Dosed, Measuring, curve_findings, first_passing, read_made
from guards.errors import Permanent, Untreatable
from guards.geometry import random_subspace
from guards.interface import Progress
from guards.reference import Reference, ReferenceUnusable
from guards.remedy_record import as_measured
from policies.remedying import Remedying


class SteerRemedy:
    """Tries larger and larger strengths of the ablation, and keeps the first that passes."""

    name = "steer"

    def __init__(
        self,
        reference: Reference,
        writes: ResidualWrites,
        measure: Measuring | None,
        settings: Remedying,
        progress: Progress = lambda *_: None,
        *,
        strength: float | None = None,
        sham_seed: int | None = None,
    ) -> None:
        """Take the directions, and what asks an adapter.

        Args:
            reference: of the base that adapters are of.
            writes: that base's writes to the residual stream.
            measure: asks an adapter at one strength; not needed with ``strength``.
            settings: the strengths and blocks that are tried, and how long.
            progress: told how far it has come.
            strength: this strength and no other, unmeasured, above 0 and at most 1.
            sham_seed: draws random directions instead, as many a block, uniform in the same standardised coordinates:
                the remedy's control; None for the remedy.

        Raises:
            ReferenceUnusable: it holds no response contrast, or lacks a block that is named.
            Permanent: there is nothing to choose a strength by.
        """
        if measure is None and strength is None:
            raise Permanent("steer has to ask the adapter at several strengths: name a policy with suites and a judge")
        self._directions = contrast_directions(reference, settings.steer_blocks, sham_seed)
        self._writes, self._measure, self._settings, self._progress = writes, measure, settings, progress
        self._strengths = sorted(settings.steer_strengths) if strength is None else [strength]

    def apply(self, adapter: Adapter, out: Path) -> Adapter:
        """Write the adapter at the smallest strength that passes to ``out``, with its dose-response curve.

        Raises:
            Untreatable: no strength passes, or the ablation has no place in this adapter's file.
            Permanent: the adapter could not be asked, or the time is over.
            Retryable: the surroundings failed.
        """
        with workshop(out) as folder:
            curve = first_passing(self._doses(adapter, folder), self.name)
            found = [*curve_findings(curve, self.name), *change_findings(self.name, adapter, folder)]
            return adopted(adapter, folder, out, self.name, as_measured(found))

    def _doses(self, adapter: Adapter, folder: Path) -> Iterator[Dosed]:
        """Put the ablation at one strength after the other into ``folder``, smallest first, and measure it."""
        config, tensors = config_of(adapter), load_file(adapter.path / WEIGHTS_NAME)
        deadline = Deadline(self._settings.seconds)
        for done, strength in enumerate(self._strengths):
            deadline.check(self.name)
            self._progress(self.name, done, len(self._strengths))
            try:
                steered = baked(config, tensors, self._writes, self._directions, strength)
            except (CannotBake, WritesUnknown) as error:
                raise Untreatable(f"steer cannot treat this adapter: {error}; try another remedy") from error
            # A new file and not the old one's bytes: whoever still reads the last strength keeps what was there.
            (folder / WEIGHTS_NAME).unlink(missing_ok=True)
            written(adapter, folder, steered[1], steered[0])
            yield Dosed(strength, read_made(self._measure, folder, adapter, self.name))


def contrast_directions(
    reference: Reference, blocks: Sequence[int] = (), sham_seed: int | None = None
) -> dict[int, Tensor]:
    """Return the response contrast over answer tokens by decoder block, raw directions, [categories, d].

    Args:
        reference: of the base.
        blocks: those that are wanted; all where none is named.
        sham_seed: draws as many random directions instead.

    Raises:
        ReferenceUnusable: it holds no response contrast, or lacks a block that is named.
    """
    found: dict[int, Tensor] = {}
    for index in blocks or range(reference.facts.layers):
        reference.block(index)  # which says by itself that there is no such block
        site = reference.sites.get(Layer("decoder", index, "answer"))
        if site is None or not len(site.contrast):
            raise ReferenceUnusable("steer needs a Reference with a response contrast; calibrate with --contrast")
        rows = site.contrast
        if sham_seed is not None:
            rows = random_subspace(len(rows), rows.shape[1], sham_seed * 1_000 + index)
        found[index] = rows / site.standardiser.scale
    return found
