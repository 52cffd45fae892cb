"""Takes the harmful subspace out of an adapter's own delta, on the modules that write to the residual stream.

B := (I − QQᵀ)B, where Q spans what must vanish in the raw stream for the standardised subspace to. The rank stays,
serving costs nothing more, and any LoRA server can load the result. Its limit is known: strong harm routes around
the modules or directions that are taken out, so the result is examined like any other adapter.
"""

from __future__ import annotations

import re
from pathlib import Path

from safetensors.torch import load_file

from adapters.adapter import WEIGHTS_NAME, Adapter
from adapters.rewrite import rewritten
from guards.errors import Permanent
from guards.geometry import raw_basis
from guards.reference import Reference

# Output projections of attention and of the feed-forward block, under the names that the common models use.
_WRITES = re.compile(r"(?P<block>\d+)\.(?:self_attn\.(?:o_proj|out_proj)|mlp\.(?:down_proj|fc2)|attn\.c_proj)\.lora_B")
_VISION = re.compile(r"vision_tower|vision_model|visual|image_encoder")


COMPONENTS = 10
"""Of the harmful subspace, taken out: the first paper's "about ten". More would cost skill."""


class ProjectRemedy:
    """Projects the harmful subspace out of every residual-writing LoRA module of the decoder."""

    name = "project"

    def __init__(self, reference: Reference, components: int = COMPONENTS) -> None:
        """Use the first ``components`` of the subspaces of ``reference``, one subspace a decoder block.

        Raises:
            Permanent: the Reference was calibrated without known-bad adapters and holds no subspace.
        """
        if not len(reference.block(0).subspace):
            raise Permanent("project needs a Reference with known-bad adapters; calibrate with --known-bad or a recipe")
        self._reference, self._components = reference, components

    def apply(self, adapter: Adapter, out: Path) -> Adapter:
        """Write the projected adapter to ``out``.

        Raises:
            Permanent: the adapter writes to the residual stream nowhere, so there is nothing to project.
        """
        tensors = load_file(adapter.path / WEIGHTS_NAME)
        if any("lora_magnitude_vector" in key for key in tensors):
            # DoRA rescales base and delta together, so what B loses here is not what the model's writes lose.
            raise Permanent("project cannot treat a DoRA adapter; try benign_finetune")
        treated = 0
        for key, tensor in tensors.items():
            place = _WRITES.search(key)
            if place is None or _VISION.search(key):
                continue
            site = self._reference.block(int(place["block"]))
            basis = raw_basis(site.subspace[: self._components], site.standardiser.scale)
            wide = tensor.float()
            tensors[key] = (wide - basis @ (basis.T @ wide)).to(tensor.dtype).contiguous()
            treated += 1
        if not treated:
            raise Permanent("project cannot treat this adapter: it has no o_proj, down_proj or alike in the decoder")
        return rewritten(adapter, tensors, out, method=self.name)
