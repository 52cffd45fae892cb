"""Linear algebra of ΔW = s·B·A from its two thin factors; the product, [out, in], is never formed.

Everything follows from the r × r Gram matrices AAᵀ and BᵀB: the energy ‖ΔW‖² is s²·tr(BᵀB·AAᵀ), and with AAᵀ = LLᵀ
the squared singular values of ΔW are the eigenvalues of s²·Lᵀ(BᵀB)L.

Gram matrices and not Householder's QR of both factors, because a Gram matrix is one matrix product, which runs near
the processor's peak: on a rank-128 adapter the QR and SVD of its factors alone take 1.3 times the whole screen
(benchmarks/weights.py). The price is that squaring halves the digits. Where single precision could then be too little,
which is looked at for every pair, the same is done in double precision; that leaves as many digits as QR of
single-precision factors has. A test holds both against torch's SVD of the formed product.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

_TRUST = 1e-3
"""Single precision is enough where the product keeps at least this share of the energy that its factors could give
(the product of their Gram matrices' norms): an error of 1e-7 in the factors is then one of at most 1e-4 in it."""
_SMALLEST = 1e-20
"""Squares summed below this come near the end of single precision's range, where digits go missing."""
_FLAT = 1e-6
"""Singular values that spread by less than this share of the largest one have no shape to speak of."""
_BEGINNING = 4096
"""Bytes that are compared first."""
_DEPENDENT = 1e-6
"""A direction that adds less than this to a span, unit rows, is one that single precision made up."""


@dataclass(frozen=True, slots=True)
class Spectrum:
    """The singular values of one ΔW."""

    values: Tensor
    """float64, largest first, scale included, [min(r, in, out)]; zeros where the rank is lower."""

    @property
    def energy(self) -> float:
        """Sum of squares, ‖ΔW‖²."""
        return float(self.values.pow(2).sum())

    @property
    def top_share(self) -> float:
        """Share of the energy in the largest singular value, 0 to 1; 0 for a zero ΔW."""
        return float(self.values[0].pow(2)) / self.energy if self.energy else 0.0

    @property
    def stable_rank(self) -> float:
        """Energy over that of the largest singular value, 1 to r; 0 for a zero ΔW."""
        return 1 / self.top_share if self.top_share else 0.0

    @property
    def effective_rank(self) -> float:
        """Exponential of the entropy of the shares of energy, 1 to r; 0 for a zero ΔW.

        Source: Roy and Vetterli, "The effective rank", 2007, there of the values and here of their squares.
        """
        if not self.energy:
            return 0.0
        shares = self.values.pow(2) / self.energy
        return math.exp(float(-torch.xlogy(shares, shares).sum()))

    @property
    def kurtosis(self) -> float:
        """Fourth standardised moment of the singular values, at least 1 (a normal distribution's is 3); 0 if alike."""
        centred = self.values - self.values.mean()
        variance = float(centred.pow(2).mean())
        if math.sqrt(variance) <= _FLAT * float(self.values[0]):
            return 0.0
        return float(centred.pow(4).mean()) / variance**2


class LowRank:
    """One ΔW = scale·B·A, known by its factors."""

    def __init__(self, a: Tensor, b: Tensor, scale: float = 1.0, *, like: LowRank | None = None) -> None:
        """Take A, [r, in], and B, [out, r], of any floating dtype; ``scale`` is what the server multiplies them by.

        Args:
            a: A.
            b: B.
            scale: what their product is multiplied by.
            like: a product whose Gram matrices are taken over where it has the very same factor, which is looked up in
                a fraction of the time that they take.

        Raises:
            ValueError: the shapes share no rank, or a value is NaN or infinite.
        """
        if a.dim() != 2 or b.dim() != 2 or a.shape[0] != b.shape[1] or 0 in (*a.shape, *b.shape):
            raise ValueError(f"A of shape {list(a.shape)} and B of shape {list(b.shape)} are no low-rank pair")
        self._a, self._b, self.scale = a, b, scale
        self._dtype = torch.float32
        known = like if like is not None and like._dtype is torch.float32 else None
        self._gram_a: Tensor = known._gram_a if known and same_bytes(known._a, a) else _gram(a.T, torch.float32)
        self._gram_b: Tensor = known._gram_b if known and same_bytes(known._b, b) else _gram(b, torch.float32)
        if not _trusted(self._gram_a, self._gram_b):
            self._dtype = torch.float64
            self._gram_a, self._gram_b = _gram(a.T, torch.float64), _gram(b, torch.float64)
            if not (torch.isfinite(self._gram_a).all() and torch.isfinite(self._gram_b).all()):
                raise ValueError("holds values that are NaN or infinite")

    @property
    def rank(self) -> int:
        """Rows of A."""
        return self._a.shape[0]

    @property
    def outputs(self) -> int:
        """Rows of B."""
        return self._b.shape[0]

    @property
    def energy(self) -> float:
        """‖ΔW‖², the squared Frobenius norm."""
        return self.scale**2 * _energy(self._gram_a, self._gram_b)

    def energy_apart(self, other: LowRank) -> float:
        """‖ΔW − ΔW'‖² of another of the same layer."""
        if same_bytes(self._a, other._a):
            if same_bytes(self._b, other._b):
                return (self.scale - other.scale) ** 2 * _energy(self._gram_a, self._gram_b)
            apart = self.scale * self._b.float() - other.scale * other._b.float()
            return LowRank(self._a, apart, like=self).energy
        return self.minus(other).energy

    def minus(self, other: LowRank) -> LowRank:
        """Return this ΔW less another of the same layer: a pair of both ranks together."""
        wide = torch.promote_types(torch.float32, torch.promote_types(self._a.dtype, other._a.dtype))
        return LowRank(
            torch.cat([self._a.to(wide), other._a.to(wide)]),
            torch.cat([self.scale * self._b.to(wide), -other.scale * other._b.to(wide)], dim=1),
        )

    def spectrum(self) -> Spectrum:
        """Return the singular values."""
        gram_a, gram_b = _balanced(self._gram_a, self._gram_b)
        root, failed = torch.linalg.cholesky_ex(gram_a)
        if failed:  # A has dependent rows; its eigenvectors give a root all the same
            values, vectors = torch.linalg.eigh(gram_a)
            root = vectors * values.clamp_min(0).sqrt()
        squares = torch.linalg.eigvalsh(root.T @ gram_b @ root).flip(0).clamp_min(0)
        return Spectrum(self.scale * squares[: min(self._a.shape[1], self._b.shape[0])].sqrt())

    def energy_within(self, basis: Tensor, unit: Tensor) -> tuple[float, float]:
        """Return how much energy of diag(1/unit)·ΔW lies in the span of ``basis``, and all of it.

        Args:
            basis: orthonormal columns, [out, k].
            unit: what one step of each output dimension is measured in, all positive, [out].
        """
        for dtype in (torch.float32, torch.float64) if self._dtype is torch.float32 else (torch.float64,):
            rows = self._b.to(dtype) / unit.to(dtype)[:, None]
            gram = _gram(rows, dtype)
            if _trusted(self._gram_a, gram):
                break
        within = basis.to(dtype).T @ rows
        whole = self.scale**2 * _energy(self._gram_a, gram)
        part = self.scale**2 * _energy(self._gram_a, (within.T @ within).double())
        return min(part, whole), whole


def orthonormal(directions: Tensor) -> Tensor:
    """Orthonormal basis, [d, at most k] in float64, of the span of rows, [k, d]; dependent rows add nothing."""
    rows = directions.double()
    length = torch.linalg.vector_norm(rows, dim=1, keepdim=True)
    rows = rows / torch.where(length > 0, length, torch.ones_like(length))
    # By SVD and not QR, which gives some direction for a dependent row too.
    left, singular, _ = torch.linalg.svd(rows.T, full_matrices=False)
    kept = int((singular > _DEPENDENT).sum())
    return torch.narrow(left, 1, 0, kept)


def same_bytes(one: Tensor, other: Tensor) -> bool:
    """Whether two tensors hold the same bytes, looked up at the speed of memory, which torch.equal is far below."""
    if one is other:
        return True
    if one.shape != other.shape or one.dtype != other.dtype or not (one.is_contiguous() and other.is_contiguous()):
        return False
    mine, its = (tensor.view(torch.uint8).numpy().reshape(-1) for tensor in (one, other))
    # What differs mostly differs at once, and the whole is compared only where the beginning is the same.
    if not np.array_equal(mine[:_BEGINNING], its[:_BEGINNING]):
        return False
    if mine.size % 8 == 0:  # eight bytes at a time, so that numpy's own answer is an eighth of what it compares
        mine, its = mine.view(np.uint64), its.view(np.uint64)
    return np.array_equal(mine, its)


def _gram(tall: Tensor, dtype: torch.dtype) -> Tensor:
    """tallᵀ·tall, [r, r], added up in ``dtype`` and returned in float64."""
    # numpy works out one half of it alone, but its threads and torch's take turns so badly that both are slower.
    wide = tall.to(dtype)
    return (wide.T @ wide).double()


def _energy(gram_a: Tensor, gram_b: Tensor) -> float:
    """tr(BᵀB·AAᵀ); both are symmetric. Rounding can take it below zero, which no energy is."""
    return max(0.0, float((gram_a * gram_b).sum()))


def _balanced(gram_a: Tensor, gram_b: Tensor) -> tuple[Tensor, Tensor]:
    """Give A rows of unit length and B the inverse factor, which leaves BA alone and takes away what scaling spoils."""
    length = gram_a.diagonal().clamp_min(0).sqrt()
    length = torch.where(length > 0, length, torch.ones_like(length))
    return gram_a / torch.outer(length, length), gram_b * torch.outer(length, length)


def _trusted(gram_a: Tensor, gram_b: Tensor) -> bool:
    """Whether Gram matrices made in single precision have enough digits for the product."""
    smallest = min(float(gram_a.diagonal().min()), float(gram_b.diagonal().min()))
    if not (math.isfinite(float(gram_a.sum())) and math.isfinite(float(gram_b.sum()))) or smallest < _SMALLEST:
        return False
    gram_a, gram_b = _balanced(gram_a, gram_b)
    possible = float(gram_a.abs().sum(dim=1).max() * gram_b.abs().sum(dim=1).max())
    return _energy(gram_a, gram_b) >= _TRUST * possible
