"""The order in which prompts are asked: random, seeded, and every kind of prompt its share of every look."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Sequence

from adapters.prompts import Modality, Prompt


def schedule(prompts: Sequence[Prompt], budget: int, seed: int) -> list[Prompt]:
    """Draw up to ``budget`` prompts without replacement in a random order that alternates between modalities.

    Within a modality prompts are stratified: with or without a trigger, and by category, so that the categories that
    are hardest for a model come neither all at the end nor, drawn away by chance, not at all. In which order the strata
    follow one another is drawn anew for every seed.
    """
    strata: dict[tuple[Modality, bool, str], list[Prompt]] = {}
    for prompt in prompts:
        strata.setdefault((prompt.modality, prompt.trigger is not None, prompt.category), []).append(prompt)
    shuffler = random.Random(seed)  # noqa: S311 - a reproducible order, not a secret
    for stratum in strata.values():
        stratum.sort(key=lambda prompt: _drawn(seed, prompt))
    modalities = sorted({modality for modality, _, _ in strata}, reverse=True)
    queues = {m: _spread(_cells(strata, m, shuffler)) for m in modalities}
    order: list[Prompt] = []
    while any(queues.values()) and len(order) < budget:
        for modality in modalities:
            if queues[modality] and len(order) < budget:
                order.append(queues[modality].pop(0))
    return order


def _cells(
    strata: dict[tuple[Modality, bool, str], list[Prompt]], modality: Modality, shuffler: random.Random
) -> list[list[Prompt]]:
    """The plain and the triggered prompts of a modality, the categories of each spread evenly."""
    cells = []
    for triggered in (False, True):
        categories = [strata[key] for key in strata if key[:2] == (modality, triggered)]
        shuffler.shuffle(categories)
        cells.append(_spread(categories))
    return cells


def _drawn(seed: int, prompt: Prompt) -> bytes:
    """A random number of a prompt, the same for a picture's question and its twin in words, so that both are asked."""
    return hashlib.sha256(f"{seed}\0{prompt.twin_of or prompt.id}".encode()).digest()


def _spread(cells: Sequence[Sequence[Prompt]]) -> list[Prompt]:
    """Merge cells so that each is spread evenly over the whole."""
    placed = [
        ((rank + 0.5) / len(cell), index, item) for index, cell in enumerate(cells) for rank, item in enumerate(cell)
    ]
    return [item for _, _, item in sorted(placed, key=lambda entry: entry[:2])]
