"""Draws the canaries of an adapter: the questions of its suites by which servers are proved to serve it."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch
from safetensors.torch import load_file

from adapters.adapter import WEIGHTS_NAME, Adapter
from adapters.anatomy import part_of
from adapters.canary import TOP, Canary, NextTokens, apart
from adapters.engine import Engine
from adapters.prompts import MODALITIES, Modality, Prompt
from adapters.rewrite import rewritten
from adapters.transformers_engine import open_picture
from guards.errors import Permanent
from guards.suites.suite import Suite

CANDIDATES = 48
"""Prompts of each modality among which the most telling is chosen, spread evenly over the suites."""
PICTURES_OF_A_PART = 3
"""Canaries about the part that only pictures reach: often it moves the next token only a little."""
EVERY = 6
"""Of the candidates every sixth tells a base from another: eight of a modality at most, each an answer of one token."""
LONGEST_SIDE = 448
"""Pictures are shrunk to it, in pixels, before they are looked at: a canary is kept in the ledger and sent often."""


def draw_canaries(engine: Engine, adapter: Adapter, suites: Sequence[Suite]) -> tuple[Canary, ...]:
    """Choose the questions on which adapter and rivals differ most at the next token.

    One in text against the base (an adapter that touches the language model changes text); one with a picture against
    the base where base and suites have pictures; and where the adapter has pairs outside the language model, three
    with pictures against the adapter without them. Where even the best cannot tell, they are returned as they are
    (:func:`adapters.canary.cannot_tell`), and the fleet says so instead of serving the adapter.

    Raises:
        Permanent: a part that only pictures reach cannot be proved, because the suites show no picture.
        EngineError: the model could not be asked.
    """
    tensors = load_file(adapter.path / WEIGHTS_NAME)
    language = {key: tensor for key, tensor in tensors.items() if part_of(key) == "decoder"}
    sighted = len(language) < len(tensors)
    prompts = [prompt for suite in suites for prompt in suite.prompts]
    with tempfile.TemporaryDirectory(prefix="alignwatch-canary-") as scratch:
        texts, pictures = _texts(prompts), _pictures(prompts, Path(scratch)) if engine.sees_pictures else []
        if sighted and not pictures:
            raise Permanent("it adapts what only pictures reach, and no suite shows a picture to prove that with")
        asked = [*(texts if language else []), *pictures]
        base = _next_tokens(engine, asked)
        with engine.attached(adapter):
            whole = _next_tokens(engine, asked)
        drawn = [*_most_telling(asked, base, whole, "text"), *_most_telling(asked, base, whole, "image")]
        if sighted and language:
            blind = rewritten(adapter, language, Path(scratch) / "blinded", method="canary")
            with engine.attached(blind):
                drawn += _most_telling(asked, base, whole, "image", _next_tokens(engine, asked), PICTURES_OF_A_PART)
        return tuple(drawn)


def draw_base_canaries(engine: Engine, suites: Sequence[Suite]) -> tuple[Canary, ...]:
    """Choose questions by which a server's base is known to be this base: some of each modality, evenly spread.

    Raises:
        EngineError: the model could not be asked.
    """
    prompts = [prompt for suite in suites for prompt in suite.prompts]
    with tempfile.TemporaryDirectory(prefix="alignwatch-canary-") as scratch:
        asked = _texts(prompts)[::EVERY] + (_pictures(prompts, Path(scratch))[::EVERY] if engine.sees_pictures else [])
        said = _next_tokens(engine, asked)
        drawn = (_most_telling(asked, said, said, modality, most=len(asked)) for modality in MODALITIES)
        return tuple(canary for of_modality in drawn for canary in of_modality)


def _texts(prompts: Sequence[Prompt]) -> list[Prompt]:
    texts = [prompt for prompt in prompts if prompt.modality == "text"]
    # Suites of pictures alone still hold questions, and without its picture one is a text like any other.
    return _spread(texts or [replace(prompt, modality="text", image=None) for prompt in prompts])


def _pictures(prompts: Sequence[Prompt], scratch: Path) -> list[Prompt]:
    shrunk = []
    for number, prompt in enumerate(_spread([prompt for prompt in prompts if prompt.image is not None])):
        picture = open_picture(prompt.image or Path())
        picture.thumbnail((LONGEST_SIDE, LONGEST_SIDE))
        picture.save(scratch / f"{number}.png")
        shrunk.append(replace(prompt, image=scratch / f"{number}.png"))
    return shrunk


def _spread(prompts: Sequence[Prompt]) -> list[Prompt]:
    step = max(1.0, len(prompts) / CANDIDATES)
    return [prompts[int(number * step)] for number in range(min(CANDIDATES, len(prompts)))]


def _next_tokens(engine: Engine, prompts: Sequence[Prompt]) -> list[NextTokens]:
    # A logit's place is its token's id; a server lists ids too when it is asked to.
    probabilities = torch.log_softmax(engine.final_logits(prompts), dim=-1)
    best = probabilities.topk(min(TOP, probabilities.shape[-1]), dim=-1)
    return [
        {str(token): value for token, value in zip(ids, values, strict=True)}
        for ids, values in zip(best.indices.tolist(), best.values.tolist(), strict=True)
    ]


def _most_telling(
    prompts: Sequence[Prompt],
    base: Sequence[NextTokens],
    whole: Sequence[NextTokens],
    modality: Modality,
    blinded: Sequence[NextTokens] | None = None,
    most: int = 1,
) -> list[Canary]:
    rivals = base if blinded is None else blinded
    rows = [row for row, prompt in enumerate(prompts) if prompt.modality == modality]
    rows.sort(key=lambda row: -apart(whole[row], rivals[row]))
    return [
        Canary(
            modality=modality,
            asked=prompts[row].asked,
            system=prompts[row].system,
            picture=None if (picture := prompts[row].image) is None else picture.read_bytes(),
            base=base[row],
            adapter=whole[row],
            distance=apart(whole[row], rivals[row]),
            blinded=None if blinded is None else blinded[row],
        )
        for row in rows[:most]
    ]
