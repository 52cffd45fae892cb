"""Takes the harmful subspace out of an adapter's own delta, on the modules that write to the residual stream.

B := (I − QQᵀ)B, where Q spans what a module's output must be orthogonal to for its write to have no part in the
standardised subspace, a norm between the two included (:mod:`adapters.residual_writes`). What the adapter adds before
such a norm then has no part in it after the norm either; the base's own part stays, longer or shorter by the norm. The
rank stays, serving costs nothing more, and any LoRA server can load the result. Its limit is known: strong harm routes
around the modules or directions that are taken out, so the result is examined like any other adapter.
"""

from __future__ import annotations

import re
from pathlib import Path

from safetensors.torch import load_file
from torch import Tensor

from adapters.adapter import WEIGHTS_NAME, Adapter
from adapters.engine import EngineError
from adapters.residual_writes import ResidualWrites
from adapters.rewrite import adopted, workshop, written
from guards.delta_change import change_findings
from guards.errors import Permanent, Untreatable
from guards.geometry import random_subspace
from guards.reference import Reference
from guards.remedy_record import as_measured

_OUTER = re.compile(r"(?:base_model\.model\.)?(?P<module>.+)\.lora_B(?:\.[^.]+)?\.weight")


COMPONENTS = 10
"""Of the harmful subspace, taken out: the first paper's "about ten". More would cost skill."""


class ProjectRemedy:
    """Projects the harmful subspace out of every residual-writing LoRA module of the decoder."""

    name = "project"

    def __init__(
        self,
        reference: Reference,
        writes: ResidualWrites,
        components: int = COMPONENTS,
        *,
        sham_seed: int | None = None,
    ) -> None:
        """Use the first ``components`` of the subspaces of ``reference``, one subspace a decoder block.

        Args:
            reference: of the base that adapters are of.
            writes: that base's writes to the residual stream.
            components: of each block's subspace, taken out.
            sham_seed: draws random subspaces of the same dimensions instead, the remedy's control; None for the remedy.

        Raises:
            Permanent: the Reference was calibrated without known-bad adapters and holds no subspace.
        """
        if not len(reference.block(0).subspace):
            raise Permanent("project needs a Reference with known-bad adapters; calibrate with --known-bad or a recipe")
        self._reference, self._writes, self._components = reference, writes, components
        self._sham_seed = sham_seed

    def apply(self, adapter: Adapter, out: Path) -> Adapter:
        """Write the projected adapter to ``out``.

        Raises:
            Untreatable: the adapter writes to the residual stream nowhere, so there is nothing to project; it is DoRA;
                or what its base writes there is not known.
        """
        tensors = load_file(adapter.path / WEIGHTS_NAME)
        if any("lora_magnitude_vector" in key for key in tensors):
            # DoRA rescales base and delta together, so what B loses here is not what the model's writes lose.
            raise Untreatable("project cannot treat a DoRA adapter; try benign_finetune")
        treated = 0
        for key, tensor in tensors.items():
            basis = self._basis(key)
            if basis is None:
                continue
            wide = tensor.float()
            tensors[key] = (wide - basis @ (basis.T @ wide)).to(tensor.dtype).contiguous()
            treated += 1
        if not treated:
            raise Untreatable("project cannot treat this adapter: it has no o_proj, down_proj or alike in the decoder")
        with workshop(out) as folder:
            written(adapter, folder, tensors, None)
            measured = as_measured(change_findings(self.name, adapter, folder))
            return adopted(adapter, folder, out, self.name, measured)

    def _basis(self, key: str) -> Tensor | None:
        """What a tensor of the adapter must be orthogonal to, [d, k]; None where it is no B of a residual write."""
        outer = _OUTER.fullmatch(key)
        try:
            write = self._writes.of(outer["module"]) if outer else None
        except EngineError as error:
            raise Untreatable(f"project cannot treat this adapter: {error}") from error
        if write is None:
            return None
        site = self._reference.block(write.block)
        subspace = site.subspace[: self._components]
        if self._sham_seed is not None:
            # Seeded by the block, so that both of its writes lose the same subspace, as in the remedy.
            subspace = random_subspace(len(subspace), subspace.shape[1], self._sham_seed * 1_000 + write.block)
        return write.output_basis(subspace / site.standardiser.scale)
