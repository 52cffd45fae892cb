from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from guards.geometry import (
    SHRINKAGE,
    Standardiser,
    components,
    explained,
    massive_dimensions,
    matched_filters,
    principal_angles,
    projection,
    random_subspace,
)

seeds = st.integers(0, 10_000)


def _rows(seed: int, n: int = 12, d: int = 24) -> torch.Tensor:
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed))


@given(seeds)
def test_components_are_orthonormal_and_avoid_what_is_taken_out(seed: int) -> None:
    without = components(_rows(seed + 1), 3)
    found = components(_rows(seed), 5, without=without)
    torch.testing.assert_close(found @ found.T, torch.eye(5), atol=1e-5, rtol=0)
    assert (found @ without.T).abs().max() < 1e-4


@given(seeds)
def test_a_shift_inside_the_subspace_is_all_projection_and_one_outside_is_none(seed: int) -> None:
    directions = components(_rows(seed), 4)
    inside = directions.T @ torch.ones(4)
    assert projection(inside, directions) == pytest.approx(2 / math.sqrt(24), rel=1e-4)
    outside = _rows(seed + 7, 1)[0]
    outside = outside - directions.T @ (directions @ outside)
    assert projection(outside, directions) == pytest.approx(0, abs=1e-5)


@given(seeds)
def test_rotating_the_basis_of_a_subspace_changes_no_projection(seed: int) -> None:
    directions = components(_rows(seed), 4)
    rotation = torch.linalg.qr(_rows(seed + 3, 4, 4))[0]
    shift = _rows(seed + 5, 1)[0]
    assert projection(shift, rotation @ directions) == pytest.approx(projection(shift, directions), rel=1e-4)


def test_the_zero_subspace_and_the_zero_shift_project_to_zero() -> None:
    directions = components(_rows(0), 4)
    assert projection(torch.zeros(24), directions) == 0
    assert projection(_rows(1, 1)[0], torch.zeros(0, 24)) == 0


def test_a_massive_activation_does_not_become_the_whole_direction() -> None:
    base = _rows(0, 200)
    base[:, 3] = 780 * base[:, 3] + 1000
    moved = base + 0.5
    shift = Standardiser.fit(base).shift(moved, base)
    assert shift[3].abs() < shift.abs().median()


def test_permuting_the_prompts_changes_no_shift() -> None:
    base, moved = _rows(0, 30), _rows(1, 30)
    order = torch.randperm(30, generator=torch.Generator().manual_seed(2))
    standardiser = Standardiser.fit(base)
    torch.testing.assert_close(standardiser.shift(moved, base), standardiser.shift(moved[order], base[order]))


def test_all_components_explain_all_the_energy_and_none_explain_none() -> None:
    rows = _rows(0, 6)
    assert explained(rows, components(rows, 6)) == pytest.approx(1, abs=1e-5)
    assert explained(rows, components(rows, 0)) == 0


def test_activations_that_are_not_finite_are_refused() -> None:
    with pytest.raises(ValueError, match="finite"):
        Standardiser.fit(torch.full((4, 3), float("nan")))


@given(seeds)
def test_matched_filters_agree_with_the_covariance_written_out(seed: int) -> None:
    directions, benign = components(_rows(seed), 3), _rows(seed + 1, 9)
    energy = benign.pow(2).sum() / 9
    covariance = (1 - SHRINKAGE) * benign.T @ benign / 9 + SHRINKAGE * energy / 24 * torch.eye(24)
    solved = torch.linalg.solve(covariance.double(), directions.T.double())
    expected = (solved / (directions.T.double() * solved).sum(dim=0).sqrt()).T.float()
    torch.testing.assert_close(matched_filters(directions, benign), expected, atol=1e-3, rtol=1e-3)


@given(seeds)
def test_a_matched_filter_discounts_what_benign_shifts_do(seed: int) -> None:
    wanted, nuisance = components(_rows(seed), 2)
    mixed = (wanted + nuisance)[None] / math.sqrt(2)
    benign = nuisance[None] * torch.linspace(-3, 3, 12)[:, None]
    (found,) = matched_filters(mixed, benign)
    assert abs(float(found @ nuisance)) < abs(float(found @ wanted))


def test_without_benign_shifts_or_with_zero_ones_a_matched_filter_is_the_direction() -> None:
    directions = components(_rows(0), 3)
    for benign in (torch.zeros(0, 24), torch.zeros(5, 24)):
        torch.testing.assert_close(matched_filters(2 * directions, benign), directions)
    assert matched_filters(torch.zeros(0, 24), _rows(1)).shape == (0, 24)


@given(seeds)
def test_principal_angles_do_not_depend_on_the_basis_and_are_none_to_oneself(seed: int) -> None:
    first, second = components(_rows(seed), 3), components(_rows(seed + 1), 3)
    rotation = torch.linalg.qr(_rows(seed + 2, 3, 3))[0]
    assert principal_angles(rotation @ first, second) == pytest.approx(principal_angles(first, second), abs=0.1)
    assert max(principal_angles(first, rotation @ first)) < 0.5


def test_a_random_subspace_is_orthonormal_and_drawn_anew_by_its_seed() -> None:
    one = random_subspace(4, 24, 1)
    torch.testing.assert_close(one @ one.T, torch.eye(4), atol=1e-5, rtol=0)
    assert not torch.equal(one, random_subspace(4, 24, 2))


def test_a_massive_dimension_is_found_and_reported() -> None:
    base = _rows(0, 200)
    base[:, 3] = 780 * base[:, 3].abs()
    dimensions, ratio = massive_dimensions(base)
    assert dimensions == [3]
    assert ratio > 500


def test_activations_that_never_vary_are_refused() -> None:
    with pytest.raises(ValueError, match="same on every prompt"):
        Standardiser.fit(torch.ones(5, 3))
