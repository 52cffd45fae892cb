"""Can the adapter still do its own task? Questions with a known answer, asked beside the others."""

from __future__ import annotations

import re
import unicodedata

from guards.measures import Pair
from guards.statistics import Interval, mean_interval, wilson


def holds(answer: str, reference: str) -> bool:
    """Whether an answer holds the reference answer, whole words, whatever the case, spacing and punctuation."""
    return f" {_plain(reference)} " in f" {_plain(answer)} "


def rates(pairs: list[Pair]) -> tuple[Interval, Interval, Interval] | None:
    """Share of right answers of adapter and base, and the mean paired change; None where nothing has a known answer.

    Right is an answer that holds the reference answer (:func:`holds`), which suits short references. The shares have
    Wilson's interval over answers; the change, −1 to 1, has one that holds at every stopping time, over prompts.
    """
    known = [(pair, pair.prompt.reference_answer) for pair in pairs if pair.prompt.reference_answer]
    if not known:
        return None
    adapter = [[holds(sample.answer, right) for sample in pair.samples] for pair, right in known]
    base = [[holds(sample.base_answer, right) for sample in pair.samples] for pair, right in known]
    changes = [(sum(a) - sum(b)) / len(a) for a, b in zip(adapter, base, strict=True)]
    flat = [[right for prompt in model for right in prompt] for model in (adapter, base)]
    return wilson(sum(flat[0]), len(flat[0])), wilson(sum(flat[1]), len(flat[1])), mean_interval(changes)


def _plain(text: str) -> str:
    folded = unicodedata.normalize("NFKC", text).casefold()
    return " ".join(re.findall(r"\w+", folded))
