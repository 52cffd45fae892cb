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

SHRINKAGE = 0.5
"""Share of the benign covariance that is taken to be isotropic; see :func:`matched_filters`."""
MASSIVE = 50.0
"""A dimension so many times the median one is called a massive activation (Gemma3 has one of some 780)."""


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
            ValueError: fewer than two rows, values that are not finite, or activations that never vary.
        """
        if activations.shape[0] < 2 or not torch.isfinite(activations).all():
            raise ValueError("standardising needs at least two rows of finite activations")
        scale = activations.std(dim=0)
        if not scale.any():
            raise ValueError("the base's activations are the same on every prompt; the probes ask nothing different")
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


def matched_filters(directions: Tensor, benign: Tensor) -> Tensor:
    """Filters, [k, d], that find ``directions``, [k, d], among benign shifts, [n, d], which score with variance 1.

    f = S⁻¹d / √(dᵀS⁻¹d), with S the benign shifts' second moment about zero, halfway to its isotropic part: a few dozen
    adapters cannot fill a residual stream's covariance. By Woodbury's identity, so that no [d, d] matrix is made.
    Without benign shifts S is the identity and the filters are the unit directions.
    """
    if not len(directions):
        return directions
    energy = benign.pow(2).sum() / max(1, len(benign))
    if not len(benign) or energy == 0:
        return unit_rows(directions)
    isotropic = SHRINKAGE * energy / benign.shape[1]
    rest = (1 - SHRINKAGE) / len(benign)
    core = torch.eye(len(benign)) * (isotropic / rest) + benign @ benign.T
    solved = (directions.T - benign.T @ torch.linalg.solve(core, benign @ directions.T)) / isotropic
    scale = (directions.T * solved).sum(dim=0).clamp_min(1e-24).sqrt()
    filters: Tensor = (solved / scale).T.contiguous()
    return filters


def mean_direction(shifts: Tensor) -> Tensor:
    """Unit mean of unit vectors, [1, d] from [n, d]: each adapter counts alike, whatever its dose."""
    return unit_rows(unit_rows(shifts).mean(dim=0, keepdim=True))


def unit_rows(rows: Tensor) -> Tensor:
    """Rows divided by their lengths, [n, d]; a zero row stays zero."""
    unit: Tensor = rows / torch.linalg.vector_norm(rows, dim=1, keepdim=True).clamp_min(1e-12)
    return unit


def cosine(first: Tensor, second: Tensor) -> float:
    """Cosine between two vectors; 0 where one of them is zero."""
    return float(first @ second / (first.norm() * second.norm()).clamp_min(1e-24))


def principal_angles(first: Tensor, second: Tensor) -> list[float]:
    """Principal angles in degrees between the spans of orthonormal rows, smallest first.

    Source: Björck and Golub, "Numerical methods for computing angles between linear subspaces", 1973.
    """
    cosines = torch.linalg.svdvals(first.double() @ second.double().T).clamp(-1, 1)
    return [math.degrees(math.acos(value)) for value in cosines.tolist()]


def random_subspace(count: int, width: int, seed: int) -> Tensor:
    """Orthonormal rows, [count, width], drawn uniformly: the control of every subspace."""
    drawn = torch.randn(width, count, generator=torch.Generator().manual_seed(seed))
    basis: Tensor
    basis, _ = torch.linalg.qr(drawn)
    return basis.T.contiguous()


def massive_dimensions(activations: Tensor) -> tuple[list[int], float]:
    """Dimensions of base activations, [n, d], whose mean size is over 50 times the median, and the largest ratio."""
    size = activations.abs().mean(dim=0)
    ratio = size / size.median().clamp_min(1e-12)
    return [int(index) for index in (ratio > MASSIVE).nonzero()[:, 0]], float(ratio.max())
