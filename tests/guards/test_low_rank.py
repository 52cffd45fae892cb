from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from guards.geometry import random_subspace
from guards.low_rank import LowRank, Spectrum, orthonormal

WIDTH, INPUTS = 12, 10
FAULTS = ("plain", "dependent rows", "zero row", "zero", "badly scaled", "nearly cancelling", "tiny", "huge")


def factors(seed: int, rank: int, outputs: int, inputs: int, fault: str = "plain") -> tuple[Tensor, Tensor]:
    drawn = torch.Generator().manual_seed(seed)
    a, b = torch.randn(rank, inputs, generator=drawn), torch.randn(outputs, rank, generator=drawn)
    match fault:
        case "dependent rows":
            a[-1] = a[0]
            b[:, -1] = 2 * b[:, 0]
        case "zero row":
            a[0] = 0
        case "zero":
            b.zero_()
        case "badly scaled":
            steps = torch.logspace(-6, 6, rank)
            a, b = a * steps[:, None], b / steps
        case "nearly cancelling":
            a = a[:1] + 1e-3 * a
            b = b[:, :1] * (-1.0) ** torch.arange(rank) + 1e-3 * b
        case "tiny":
            a, b = a * 1e-19, b * 1e-19
        case "huge":
            a, b = a * 1e19, b * 1e17
    return a, b


sizes = st.integers(1, 9)


@settings(max_examples=150, deadline=None)
@given(st.integers(0, 999), st.integers(1, 12), sizes, sizes, st.sampled_from(FAULTS), st.sampled_from([0.5, 1.0, 4.0]))
def test_singular_values_and_energy_are_those_of_the_formed_product(
    seed: int, rank: int, outputs: int, inputs: int, fault: str, scale: float
) -> None:
    a, b = factors(seed, rank, outputs, inputs, fault)
    formed = torch.linalg.svdvals(scale * b.double() @ a.double())
    product = LowRank(a, b, scale)
    values = product.spectrum().values
    kept = min(rank, outputs, inputs)
    assert values.shape == (kept,)
    torch.testing.assert_close(values.pow(2), formed[:kept].pow(2), rtol=2e-3, atol=1e-4 * float(formed[0]) ** 2)
    assert product.energy == pytest.approx(float(formed.pow(2).sum()), rel=1e-3)


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 999), st.integers(1, 5), st.integers(0, 6), st.sampled_from(FAULTS))
def test_the_energy_within_a_subspace_is_that_of_the_formed_product(seed: int, rank: int, k: int, fault: str) -> None:
    a, b = factors(seed, rank, WIDTH, INPUTS, fault)
    unit = torch.rand(WIDTH, generator=torch.Generator().manual_seed(seed)) + 0.1
    basis = orthonormal(random_subspace(k, WIDTH, seed))
    formed = (b.double() @ a.double()) / unit.double()[:, None]
    part, whole = LowRank(a, b).energy_within(basis, unit)
    assert whole == pytest.approx(float(formed.pow(2).sum()), rel=1e-3)
    assert part == pytest.approx(float((basis.T @ formed).pow(2).sum()), rel=2e-3, abs=1e-4 * whole)


@settings(deadline=None)
@given(st.integers(0, 99), st.sampled_from([0.01, 3.0, 1000.0]))
def test_scale_changes_no_share_and_no_shape(seed: int, scale: float) -> None:
    a, b = factors(seed, 3, WIDTH, INPUTS)
    one, other = LowRank(a, b).spectrum(), LowRank(a, b, scale).spectrum()
    assert other.energy == pytest.approx(scale**2 * one.energy)
    for name in ("top_share", "stable_rank", "effective_rank", "kurtosis"):
        assert getattr(other, name) == pytest.approx(getattr(one, name))


@settings(deadline=None)
@given(st.integers(0, 99))
def test_turning_b_one_way_and_a_the_other_changes_nothing(seed: int) -> None:
    a, b = factors(seed, 4, WIDTH, INPUTS)
    turned = random_subspace(4, 4, seed + 1)
    basis, unit = orthonormal(random_subspace(2, WIDTH, seed)), torch.ones(WIDTH)
    one, other = LowRank(a, b), LowRank(turned.T @ a, b @ turned)
    torch.testing.assert_close(one.spectrum().values, other.spectrum().values, rtol=1e-3, atol=1e-3)
    assert one.energy_within(basis, unit) == pytest.approx(other.energy_within(basis, unit), rel=1e-4)


def test_the_subspace_of_everything_holds_all_energy_and_none_holds_nothing() -> None:
    product = LowRank(*factors(0, 3, WIDTH, INPUTS))
    part, whole = product.energy_within(orthonormal(torch.eye(WIDTH)), torch.ones(WIDTH))
    assert part == pytest.approx(whole)
    assert product.energy_within(orthonormal(torch.zeros(2, WIDTH)), torch.ones(WIDTH))[0] == 0


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_every_trained_dtype_is_read_at_its_own_value(dtype: torch.dtype) -> None:
    a, b = (factor.to(dtype) for factor in factors(0, 3, WIDTH, INPUTS))
    formed = float((b.double() @ a.double()).pow(2).sum())
    assert LowRank(a, b).energy == pytest.approx(formed, rel=1e-5)


def test_shapes_of_spectra_are_told_as_they_are() -> None:
    flat, single = Spectrum(torch.ones(4).double()), Spectrum(torch.tensor([2.0, 0, 0, 0]).double())
    assert (flat.top_share, flat.stable_rank, flat.kurtosis) == (0.25, 4, 0)
    assert (single.top_share, single.stable_rank, single.effective_rank) == (1, 1, 1)
    assert flat.effective_rank == pytest.approx(4)
    assert single.kurtosis == pytest.approx(7 / 3)
    nothing = Spectrum(torch.zeros(3).double())
    assert (nothing.top_share, nothing.stable_rank, nothing.effective_rank, nothing.kurtosis) == (0, 0, 0, 0)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_nan_and_infinity_are_refused(value: float) -> None:
    a, b = factors(0, 2, WIDTH, INPUTS)
    b[3, 1] = value
    with pytest.raises(ValueError, match="NaN or infinite"):
        LowRank(a, b)


def test_dependent_and_badly_scaled_directions_span_what_they_span() -> None:
    rows = torch.tensor([[1.0, 1, 0, 0], [2e6, 2e6, 0, 0], [0, 0, 1e-9, 0], [0, 0, 0, 0]])
    basis = orthonormal(rows)
    assert basis.shape == (4, 2)
    torch.testing.assert_close(basis.T @ basis, torch.eye(2).double())


def test_a_product_too_large_to_form_is_measured() -> None:
    side = 400_000  # formed it would take 640 GB
    product = LowRank(torch.ones(1, side), torch.ones(side, 1))
    assert product.spectrum().values.tolist() == pytest.approx([side])
    basis = torch.full((side, 1), side**-0.5)
    assert product.energy_within(basis, torch.ones(side)) == pytest.approx((side**2, side**2))


@pytest.mark.parametrize("kept", ["both factors", "A", "B", "neither"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_product_like_another_has_its_own_energy_and_lies_as_far_apart_as_formed(
    kept: str, dtype: torch.dtype
) -> None:
    draw = torch.Generator().manual_seed(3)
    a, b, c, d = (torch.randn(*shape, generator=draw).to(dtype) for shape in ((4, 40), (24, 4), (4, 40), (24, 4)))
    one = LowRank(a, b, 2.0)
    a, b = (a if kept in ("both factors", "A") else c), (b if kept in ("both factors", "B") else d)
    other = LowRank(a.clone(), b.clone(), 0.5, like=one)
    assert other.energy == pytest.approx(LowRank(a, b, 0.5).energy, rel=1e-6)
    formed = 0.5 * b.double() @ a.double() - 2.0 * one._b.double() @ one._a.double()
    assert other.energy_apart(one) == pytest.approx(float(formed.pow(2).sum()), rel=1e-4)
    assert one.energy_apart(one) == 0
