"""Drawing answers that a rerun draws again: a batch by one seed, or every answer by its own, whatever its batch."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from transformers import LogitsProcessor, LogitsProcessorList
from transformers.generation.logits_process import TemperatureLogitsWarper

from adapters.engine import Sampling
from adapters.prompts import Prompt


def drawing(sampling: Sampling, rows: Sequence[tuple[str, int]], device: torch.device) -> LogitsProcessorList:
    """Return what turns logits into one drawn token a row; nothing is left to draw for whoever takes the largest.

    Args:
        sampling: temperature above 0, nucleus, seed and longest answer.
        rows: of the batch, in its order: the prompt's id, and how often that prompt was asked before in this call.
        device: where the logits are.
    """
    uniforms = torch.stack([_uniforms(sampling, name, nth) for name, nth in rows]).to(device)
    steps: list[LogitsProcessor] = [TemperatureLogitsWarper(sampling.temperature)]
    if sampling.top_p < 1:
        steps.append(_Nucleus(sampling.top_p))
    return LogitsProcessorList([*steps, _InverseCdf(uniforms)])


_LIKELIEST = 64
"""Tokens among which a nucleus is looked for first; sorting a whole vocabulary takes longer than a small model."""


class _Nucleus(LogitsProcessor):
    """Keeps the likeliest tokens that together hold a share of the probability (Holtzman et al., arXiv 1904.09751)."""

    def __init__(self, share: float) -> None:
        self._share = share

    def __call__(self, input_ids: torch.LongTensor, scores: torch.FloatTensor) -> torch.FloatTensor:  # noqa: ARG002
        for most in (min(_LIKELIEST, scores.shape[-1]), scores.shape[-1]):
            likeliest = scores.topk(most).values
            before = (likeliest - scores.logsumexp(-1, keepdim=True)).exp().cumsum(-1).roll(1, -1)
            before[:, 0] = 0
            inside = before < self._share
            if most == scores.shape[-1] or not inside.all(-1).any():
                break
        last = likeliest.gather(1, inside.sum(-1, keepdim=True) - 1)
        kept: torch.FloatTensor = scores.masked_fill(scores < last, -torch.inf)  # type: ignore[assignment]
        return kept


class _InverseCdf(LogitsProcessor):
    """Draws by inversion: the first token at which the cumulated probability passes the row's own uniform number.

    Rounding that differs between batches then moves a draw only where it falls on a boundary, and two models that
    nearly agree draw the same token from the same number, so that their paired difference is less noisy.
    """

    def __init__(self, uniforms: torch.Tensor) -> None:
        self._uniforms, self._step = uniforms, 0

    def __call__(self, input_ids: torch.LongTensor, scores: torch.FloatTensor) -> torch.FloatTensor:  # noqa: ARG002
        cumulated = scores.softmax(-1, dtype=torch.float64).cumsum(-1)
        # A uniform number is below 1, but its product with a sum may round up to that sum, which no token passes.
        whole = cumulated[:, -1:]
        aim = torch.minimum(
            self._uniforms[:, self._step, None] * whole, torch.nextafter(whole, torch.zeros_like(whole))
        )
        drawn = torch.searchsorted(cumulated, aim, right=True)
        self._step += 1
        only: torch.FloatTensor = torch.full_like(scores, -torch.inf).scatter(1, drawn, 0.0)  # type: ignore[assignment]
        return only


def _uniforms(sampling: Sampling, name: str, nth: int) -> torch.Tensor:
    """One number in [0, 1) a token, float64, [tokens]."""
    digest = hashlib.sha256(f"{sampling.seed}\0{name}\0{nth}".encode()).digest()
    generator = torch.Generator().manual_seed(int.from_bytes(digest[:8]) >> 1)
    return torch.rand(sampling.max_new_tokens, generator=generator, dtype=torch.float64)


@contextmanager
def seeded(seed: int, batch: Sequence[Prompt], device: torch.device) -> Iterator[None]:
    """Seed torch from a seed and the batch's prompts, and give the caller's random state back afterwards."""
    text = f"{seed}\0" + "\0".join(prompt.id for prompt in batch)
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(int.from_bytes(hashlib.sha256(text.encode()).digest()[:8]) >> 1)
        yield
