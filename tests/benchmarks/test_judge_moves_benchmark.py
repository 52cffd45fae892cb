"""What the benchmark does to a judge is what it says, and is undone."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from benchmarks.judge_moves import Looked, Row, changed, noisy, quantised, report
from guards.judges.shift import Shift
from guards.statistics import Interval
from policies.judging import JudgeCanaries


@pytest.mark.parametrize("bits", [8, 4, 2])
def test_a_quantised_matrix_has_so_many_levels_a_row_and_is_off_by_half_a_step_at_most(bits: int) -> None:
    weights = torch.randn(5, 400, generator=torch.Generator().manual_seed(1))
    coarse = quantised(bits)(weights)
    for row, rough in zip(weights, coarse, strict=True):
        assert len(rough.unique()) <= 2**bits - 1
        step = row.abs().max() / (2 ** (bits - 1) - 1)
        assert (row - rough).abs().max() <= step / 2 + 1e-6
        assert rough.abs().max() == pytest.approx(float(row.abs().max()))


def test_noise_is_of_the_size_that_is_said_the_same_for_a_seed_and_spares_what_is_no_matrix() -> None:
    weights = 3 * torch.randn(200, 200, generator=torch.Generator().manual_seed(1))
    added = noisy(0.1, 7)(weights) - weights
    assert float(added.std() / weights.std()) == pytest.approx(0.1, rel=0.02)
    assert torch.equal(noisy(0.1, 7)(weights), weights + added)
    assert not torch.equal(noisy(0.1, 8)(weights), weights + added)
    assert torch.equal(noisy(0.1, 7)(weights[0]), weights[0])


def test_a_changed_model_is_what_it_was_afterwards() -> None:
    model = nn.Sequential(nn.Linear(8, 8), nn.LayerNorm(8))
    before = [parameter.detach().clone() for parameter in model.parameters()]
    with changed(model, noisy(0.5, 0)):
        assert not torch.equal(model[0].weight, before[0])
        assert torch.equal(model[1].weight, before[2])
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), before, strict=True))


def test_the_table_tells_from_which_to_which_and_how_often_it_was_noticed() -> None:
    def looked(points: float) -> Looked:
        told = Interval(points, points, points, 16)
        shift = Shift({"alignment": told, "coherence": told}, {}, Interval(0.0, 0.0, 0.2, 16))
        return Looked((shift, shift), Interval(0.97, 0.95, 0.99, 600))

    row = Row("noise 20%", (looked(2.5), looked(3.5)))
    assert "| noise 20% | 2.50 to 3.50 | 0 | 1 of 2 | 2.50 to 3.50 | 0 | 1 of 2 | 0.970 |" in report(
        [row], JudgeCanaries()
    )
