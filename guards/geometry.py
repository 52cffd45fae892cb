"""Linear algebra of shifts in the residual stream: standardising, subspaces, projections.

A shift is an adapter's mean activation minus the base's at the last prompt token, one vector of width d. One
residual dimension of Gemma3 is hundreds of times larger than the median (a massive activation), so everything is
standardised per dimension before any mean or component is taken.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True)
class Standardiser:
    """Per-dimension location and scale of base activations."""

    mean: Tensor
    """float32, [d]."""
    scale: Tensor
    """Standard deviation, float32, [d], all positive."""

    @classmethod
    def fit(cls, activations: Tensor) -> Standardiser:
        """Fit on base activations, [n, d] with n at least 2.

        Raises:
            ValueError: fewer than two rows, or values that are not finite.
        """
        if activations.shape[0] < 2 or not torch.isfinite(activations).all():
            raise ValueError("standardising needs at least two rows of finite activations")
        scale = activations.std(dim=0)
        # A dimension that never varies carries no signal; a floor keeps it from becoming all of it.
        return cls(activations.mean(dim=0), scale.clamp_min(1e-3 * scale.median().clamp_min(1e-12)))

    def shift(self, adapter: Tensor, base: Tensor) -> Tensor:
        """Mean paired shift in standard deviations, [d], from activations on the same prompts, [n, d] each."""
        return (adapter - base).mean(dim=0) / self.scale


def components(rows: Tensor, count: int, without: Tensor | None = None) -> Tensor:
    """Leading directions of ``rows`` about the origin, orthonormal, [at most count, d].

    Not centred: the mean shift itself is the first thing that harmful adapters share.

    Args:
        rows: standardised shifts, [n, d].
        count: how many; fewer come back where the rows span fewer dimensions.
        without: orthonormal directions, [k, d], removed from the rows first.
    """
    if without is not None and len(without):
        rows = rows - rows @ without.T @ without
    if not len(rows):
        return rows
    directions: Tensor
    _, singular, directions = torch.linalg.svd(rows, full_matrices=False)
    kept = int((singular > 1e-6 * singular[0].clamp_min(1e-12)).sum())
    return directions[: min(count, kept)]


def explained(rows: Tensor, directions: Tensor) -> float:
    """Share of the rows' energy (sum of squares) that lies in the span of orthonormal ``directions``; 0 to 1."""
    total = float(rows.pow(2).sum())
    return float((rows @ directions.T).pow(2).sum()) / total if total else 0.0


def projection(shift: Tensor, directions: Tensor) -> float:
    """Length of a standardised shift within a subspace, divided by √d.

    So 0 is no shift, and 1 would be every dimension moved by its own standard deviation, all of it harmful.
    """
    return float(torch.linalg.vector_norm(directions @ shift)) / math.sqrt(shift.shape[0])


def raw_basis(directions: Tensor, scale: Tensor) -> Tensor:
    """Orthonormal basis, [d, k], of what must vanish in the raw residual stream for a standardised subspace to.

    The standardised projection of a raw write w is directions @ (w / scale), so w must be orthogonal to the
    columns of diag(1/scale) @ directions.T.
    """
    basis: Tensor
    basis, _ = torch.linalg.qr((directions / scale).T)
    return basis
