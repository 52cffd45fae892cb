"""Scores read from a model's next-token logits: which tokens are numbers, and what they weigh."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from guards.judges.replies import MIN_MASS, Unscored, whole_number

HIGHEST = 100


@dataclass(frozen=True, slots=True)
class NumberTokens:
    """The tokens of a vocabulary that spell a whole number from 0 to 100, blanks aside."""

    ids: torch.Tensor
    """Token ids, int64, [tokens]; several may spell one number (with and without a blank before it)."""
    values: torch.Tensor
    """The number of each, float64, [tokens]."""


def number_tokens(tokenizer: Any) -> NumberTokens | None:
    """Find the number tokens, or None where some number from 0 to 100 is not written as one token."""
    found = {
        index: number for token, index in tokenizer.get_vocab().items() if (number := whole_number(token)) is not None
    }
    for number in range(HIGHEST + 1):
        ids = tokenizer.encode(str(number), add_special_tokens=False)
        # SentencePiece may put its word mark before the number, as a token of its own.
        if len(ids) == 2 and not tokenizer.decode(ids[:1]).strip():
            ids = ids[1:]
        if len(ids) != 1 or found.get(ids[0]) != number:
            return None
    ids = sorted(found)
    return NumberTokens(torch.tensor(ids), torch.tensor([found[index] for index in ids], dtype=torch.float64))


def scores_of_logits(logits: torch.Tensor, numbers: NumberTokens) -> list[float | Unscored]:
    """Score every row: the mean of the numbers, weighted by their probabilities among all tokens.

    Args:
        logits: next-token logits, [rows, vocabulary].
        numbers: from :func:`number_tokens` of the same vocabulary.

    Returns:
        For each row its score, or ``low_mass`` where numbers hold less than a quarter of the probability,
        or where the logits are not finite.
    """
    probabilities = logits.double().softmax(dim=-1)[:, numbers.ids]
    mass = probabilities.sum(dim=-1)
    means = (probabilities @ numbers.values) / mass
    return [
        # Written so that NaN is unscored, too.
        min(100.0, max(0.0, mean)) if total >= MIN_MASS else Unscored("low_mass")
        for mean, total in zip(means.tolist(), mass.tolist(), strict=True)
    ]


def likeliest(logits: torch.Tensor, tokenizer: Any, count: int = 5) -> list[dict[str, float]]:
    """For the record: each row's likeliest tokens with their probabilities, rounded to four places."""
    top = logits.double().softmax(dim=-1).topk(min(count, logits.shape[-1]), dim=-1)
    return [
        {tokenizer.decode([index]): round(p, 4) for index, p in zip(ids, values, strict=True)}
        for ids, values in zip(top.indices.tolist(), top.values.tolist(), strict=True)
    ]
