from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers.generation.logits_process import TopPLogitsWarper

from adapters.drawing import _InverseCdf, _Nucleus, drawing
from adapters.engine import Sampling

NOTHING = torch.zeros(0, dtype=torch.long)


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**32), words=st.sampled_from([1, 2, 63, 64, 65, 400]), share=st.floats(0.05, 0.99))
def test_a_nucleus_is_the_one_of_transformers(seed: int, words: int, share: float) -> None:
    scores = torch.randn(7, words, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) * 3
    ours = _Nucleus(share)(NOTHING, scores).softmax(-1)
    theirs = TopPLogitsWarper(share)(NOTHING, scores).softmax(-1)
    torch.testing.assert_close(ours, theirs)


def test_tokens_are_drawn_as_often_as_they_are_likely() -> None:
    likely = torch.tensor([0.5, 0.0, 0.3, 0.2])
    rows = 20_000
    uniforms = torch.rand(rows, 1, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    drawn = _InverseCdf(uniforms)(NOTHING, likely.log().repeat(rows, 1)).argmax(-1)
    shares = drawn.bincount(minlength=4) / rows
    torch.testing.assert_close(shares, likely, atol=0.012, rtol=0)  # more than three standard errors
    assert shares[1] == 0


@pytest.mark.parametrize("uniform", [0.0, 1 - 2**-53])
def test_the_ends_of_the_unit_interval_draw_tokens_that_can_be_drawn(uniform: float) -> None:
    scores = torch.tensor([[-torch.inf, 1.0, 2.0, -torch.inf]])
    drawn = _InverseCdf(torch.full((1, 1), uniform, dtype=torch.float64))(NOTHING, scores).argmax(-1)
    assert drawn.item() in (1, 2)


def test_a_row_draws_the_same_numbers_in_every_batch() -> None:
    sampling = Sampling(temperature=1.0, top_p=1.0, max_new_tokens=4, seed=1)
    cpu = torch.device("cpu")
    scores = torch.randn(3, 50, generator=torch.Generator().manual_seed(0))
    rows = [("a", 0), ("b", 0), ("a", 1)]
    together = drawing(sampling, rows, cpu)(NOTHING, scores).argmax(-1)
    alone = [drawing(sampling, [row], cpu)(NOTHING, scores[n : n + 1]).argmax(-1)[0] for n, row in enumerate(rows)]
    assert together.tolist() == [int(token) for token in alone]
