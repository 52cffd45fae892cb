from __future__ import annotations

import numpy as np
import pytest

from benchmarks.sequential import PROMPTS, independent, one_sided_size, paired_size, simulated, stratified


def test_simulated_adapters_have_the_rise_that_was_asked_for() -> None:
    rng = np.random.default_rng(0)
    draws = independent(0.10, 0.05, 400, rng)
    assert draws.mean() == pytest.approx(0.10, abs=0.01)
    assert (draws == -1).mean() == pytest.approx(0.05, abs=0.01)
    assert stratified(0.02, 3, rng).sum(axis=1).tolist() == [0.02 * PROMPTS] * 3


def test_the_test_finds_the_harmful_clears_the_clean_and_counts_their_prompts() -> None:
    rng = np.random.default_rng(1)
    assert set(simulated(independent(0.9, 0.0, 20, rng)).words) == {"alarm"}
    clean = simulated(independent(0.0, 0.0, 5, rng))
    assert (set(clean.words), clean.mean) == ({"clear"}, 32)


def test_the_fixed_sizes_are_the_smallest_and_the_less_is_known_of_the_base_the_larger() -> None:
    assert one_sided_size(0.40) == 14
    assert one_sided_size(0.40) < paired_size(0.40) < 40
