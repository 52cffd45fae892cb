"""Keeping a LoRA's updates out of a subspace while it is trained by any optimiser.

Two parts, which belong together:

1.  The gradient that comes back to the residual stream behind every decoder block loses its part within the subspace,
    g := (I − QQᵀ)g. So no layer below, of whatever kind, is rewarded for moving the stream along harmful directions.
2.  The B matrices of layers that write to the stream, [d, rank], whose columns are what the adapter can add to it,
    change orthogonally to the subspace alone, a norm in between included (:mod:`adapters.residual_writes`).

The second alone was measured to prevent nothing: the other layers learn the same harm (docs/prevention.md).

For B, projecting its gradient is enough for plain gradient descent only: Adam divides every entry by a scale of its
own, and D⁻¹(I − QQᵀ)g is not orthogonal to Q; weight decay and momentum kept from before are not either. So the change
of B is projected after the step, which holds whatever the optimiser did. The gradient is projected as well, so that the
optimiser's moments are those of the directions that B may take. Source of keeping updates orthogonal to a subspace:
gradient projection memory, arXiv 2103.09762; the harmful subspace's is arXiv 2602.16931, whose future work this is.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from adapters.activations import gradients_changed
from adapters.engine import Layer
from adapters.engine_in_training import require_lora
from adapters.residual_writes import ResidualWrite, ResidualWrites
from adapters.training_loop import TrainingDiverged
from guards.errors import Permanent
from guards.reference import Reference

COMPONENTS = 10
"""Of each harmful subspace, kept free: the first paper's "about ten" (arXiv 2602.16931)."""


class PreventionImpossible(Permanent):
    """This training cannot be watched or constrained; the message names the cause and comes before its first step."""


@dataclass(frozen=True, slots=True)
class _Kept:
    """One B matrix whose part within its Q stays what it was."""

    module: str
    """The layer's name in the model that is trained."""
    weight: nn.Parameter
    """B, [d, rank]."""
    basis: Tensor
    """Q, float32, [d, k]."""
    within: Tensor
    """QᵀB before the first step, float32, [k, rank]: nothing for a fresh LoRA, whose B is zero."""


class OrthogonalUpdates:
    """Keeps every update of a LoRA's residual-writing B matrices orthogonal to given subspaces.

    For a training loop of your own: inside :func:`stream_gradients_projected`, call :meth:`project_gradients` after the
    backward pass and :meth:`project_weights` after the optimiser's step. A Trainer gets
    :class:`guards.prevention.SubspaceProjection`, which does all three.
    """

    def __init__(self, model: object, writes: ResidualWrites, subspaces: Mapping[int, Tensor]) -> None:
        """Find the matrices, and remember what each has within its subspace now.

        Args:
            model: the PeftModel in training.
            writes: its base's writes to the residual stream.
            subspaces: by decoder block, directions in the raw stream, [n, d], for instance of :func:`harmful`.

        Raises:
            NotALora: the model carries no LoRA.
            PreventionImpossible: its LoRA adapts no layer that writes to the residual stream; or such a layer learns
                more than plain LoRA pairs (DoRA, a bias, a full copy), or its B is not whole in this process.
            EngineError: what the base writes to the residual stream is not known.
        """
        self._kept: list[_Kept] = []
        peft = require_lora(model)
        for name, module in peft.named_modules():
            learning = [(n, p) for n, p in module.named_parameters() if p.requires_grad]
            write = writes.of(name) if learning else None
            if write is None:
                continue
            for within, weight in learning:
                if within.startswith("lora_A.") and within.endswith(".weight"):
                    continue
                if not (within.startswith("lora_B.") and within.endswith(".weight")):
                    raise PreventionImpossible(
                        f"{name}.{within} is trained, which writes to the residual stream beyond plain LoRA pairs "
                        "(DoRA, a bias or modules_to_save); train without it to keep updates out of a subspace"
                    )
                basis = write.output_basis(subspaces[write.block]).to(weight.device)
                if weight.ndim != 2 or len(weight) != len(basis):
                    raise PreventionImpossible(
                        f"{name}.{within} has shape {tuple(weight.shape)}, the subspace is of width {len(basis)}; "
                        "weights that are spread over processes (FSDP, DeepSpeed ZeRO-3) cannot be kept out of it"
                    )
                self._kept.append(_Kept(name, weight, basis, basis.T @ weight.detach().float()))
        if not self._kept:
            raise PreventionImpossible(
                "the LoRA in training adapts no layer that writes to the residual stream (o_proj, down_proj or alike), "
                "so there is no update to keep out of the harmful subspace; add them to target_modules"
            )

    @property
    def modules(self) -> tuple[str, ...]:
        """Names of the layers whose updates are kept orthogonal."""
        return tuple(kept.module for kept in self._kept)

    @torch.no_grad()
    def project_gradients(self) -> None:
        """Take the subspace out of the gradients of this step, where there are any."""
        for kept in self._kept:
            if kept.weight.grad is not None:
                wide = kept.weight.grad.float()
                kept.weight.grad.copy_(wide - kept.basis @ (kept.basis.T @ wide))

    @torch.no_grad()
    def project_weights(self) -> None:
        """Give every B the part within the subspace back that it had before the first step.

        Raises:
            TrainingDiverged: a weight is NaN or infinite.
        """
        moved = [kept.basis.T @ kept.weight.float() - kept.within for kept in self._kept]
        if not math.isfinite(float(torch.stack([part.abs().sum().cpu() for part in moved]).sum())):
            raise TrainingDiverged("the adapter's weights are NaN or infinite; lower the learning rate")
        for kept, part in zip(self._kept, moved, strict=True):
            kept.weight.copy_(kept.weight.float() - kept.basis @ part)


@contextmanager
def stream_gradients_projected(model: nn.Module, subspaces: Mapping[int, Tensor]) -> Iterator[None]:
    """Take given subspaces out of the gradients of the residual stream during the ``with`` block.

    Args:
        model: the model in training.
        subspaces: by decoder block, directions in the raw stream behind it, [n, d].
    """

    def change(basis: Tensor) -> Callable[[Tensor], Tensor]:
        def projected(gradient: Tensor) -> Tensor:
            q = basis.to(gradient.device)
            wide = gradient.float()
            return (wide - (wide @ q) @ q.T).to(gradient.dtype)

        return projected

    changes = {}
    for block, directions in subspaces.items():
        plain = ResidualWrite(f"block {block}", block, gain=None)  # behind a block there is no norm in between
        changes[Layer("decoder", block)] = change(plain.output_basis(directions))
    with gradients_changed(model, changes):
        yield


def harmful(reference: Reference, components: int = COMPONENTS) -> dict[int, Tensor]:
    """Harmful directions of every decoder block, in the raw stream, [at most 2 · components, d].

    The first ``components`` of the subspace at the last prompt token and of the one over answer tokens: a model is
    trained on its answers, and harm that is learnt there need not show at the prompt.

    Raises:
        PreventionImpossible: the Reference was calibrated without known-bad adapters and holds no subspace.
    """
    found: dict[int, Tensor] = {}
    for index in range(reference.facts.layers):
        places = (reference.block(index), reference.sites.get(Layer("decoder", index, "answer")))
        rows = [site.subspace[:components] / site.standardiser.scale for site in places if site is not None]
        found[index] = torch.cat(rows)
    if not all(len(rows) for rows in found.values()):
        raise PreventionImpossible(
            "the Reference holds no harmful subspace; calibrate it with --known-bad adapters or a recipe"
        )
    return found
