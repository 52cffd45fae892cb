from __future__ import annotations

import math
from itertools import count

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from online_fdr.core.abstract.abstract_gamma_seq import AbstractGammaSequence
from online_fdr.e_values.sequential import ELond

from policies.stream import share_of_alpha

CAPITALS = st.lists(st.floats(min_value=0, max_value=1e9), min_size=1, max_size=60)


class Basel(AbstractGammaSequence):
    """The shares 6 / (pi j)^2, in the library's words."""

    def __init__(self) -> None:
        super().__init__()

    def calc_gamma(self, j: int, *_: object, **__: object) -> float:
        return 6 / (math.pi * j) ** 2


@given(CAPITALS, st.sampled_from([0.01, 0.05, 0.2]))
def test_e_lond_rejects_what_the_reference_implementation_rejects(e_values: list[float], alpha: float) -> None:
    theirs = ELond(alpha, gamma_seq=Basel())
    rejections = 0
    for position, e_value in enumerate(e_values, start=1):
        ours = e_value >= 1 / (alpha * share_of_alpha("e_lond", position, rejections))
        assert ours == theirs.test_one(e_value)
        rejections += ours


def test_what_the_whole_family_may_spend_adds_up_to_alpha() -> None:
    shares = [share_of_alpha("family_wise", position, 0) for position in range(1, 20_001)]
    assert sum(shares) < 1
    assert sum(shares) == pytest.approx(1, abs=1e-4)
    assert shares == sorted(shares, reverse=True)


@given(st.integers(1, 10**6), st.integers(0, 10**6))
def test_no_adapter_is_ever_tested_above_alpha(position: int, rejections: int) -> None:
    rejections %= position
    for control in ("fixed", "family_wise", "e_lond"):
        assert 0 < share_of_alpha(control, position, rejections) <= 1
    assert share_of_alpha("e_lond", position, rejections) >= share_of_alpha("family_wise", position, rejections)


def test_the_share_of_false_alarms_stays_below_alpha_though_adapters_share_their_evidence() -> None:
    rng, alpha, shares = np.random.default_rng(3), 0.2, []
    for _ in range(400):
        # The hardest kind of dependence: all tolerable adapters have the very same evidence, e-values of mean 1.
        shared = 1 / 0.05 if rng.random() < 0.05 else 0.0
        bad = rng.random(60) < 0.2
        rejections = false = 0
        for position, harmful in zip(count(1), bad, strict=False):
            rejected = (1e9 if harmful else shared) >= 1 / (alpha * share_of_alpha("e_lond", position, rejections))
            rejections += rejected
            false += rejected and not harmful
        shares.append(false / max(1, rejections))
    assert np.mean(shares) <= alpha


@pytest.mark.parametrize(("position", "rejections"), [(0, 0), (3, 3), (3, -1)])
def test_a_place_that_cannot_be_is_refused(position: int, rejections: int) -> None:
    with pytest.raises(ValueError, match="do not go together"):
        share_of_alpha("e_lond", position, rejections)
