from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from conftest import World
from PIL import Image

from adapters.encodings import Encodings
from adapters.engine import EngineError
from adapters.prompts import Prompt
from adapters.transformers_engine import TransformersEngine

CPU = torch.device("cpu")


class Encoder:
    """Ten rows of four bytes a prompt; counts how often it was asked."""

    def __init__(self) -> None:
        self.asked = 0

    def __call__(self, prompts: Sequence[Prompt]) -> dict[str, object]:
        self.asked += 1
        return {"input_ids": torch.full((len(prompts), 10), self.asked, dtype=torch.int32), "note": "as it is"}


def question(text: str, system: str | None = None) -> Prompt:
    return Prompt(id="q", modality="text", text=text, system=system)


def test_the_same_batch_is_encoded_once_and_every_caller_owns_what_it_gets() -> None:
    encodings, encode = Encodings(), Encoder()
    first = encodings.of([question("a")], encode, CPU)
    first["input_ids"].zero_()
    second = encodings.of([question("a")], encode, CPU)
    assert encode.asked == 1
    assert second["input_ids"].unique().tolist() == [1]
    assert second["note"] == "as it is"


@pytest.mark.parametrize(
    "other",
    [
        [question("b")],
        [question("a", system="be brief")],
        [question("a"), question("a")],
        [Prompt(id="q", modality="text", text="a", trigger="x")],
    ],
)
def test_another_batch_is_another_encoding(other: list[Prompt]) -> None:
    encodings, encode = Encodings(), Encoder()
    encodings.of([question("a")], encode, CPU)
    encodings.of(other, encode, CPU)
    assert encode.asked == 2


def test_the_least_recently_used_batch_makes_room() -> None:
    encodings, encode = Encodings(most_bytes=80), Encoder()
    for text in ("a", "b", "a", "c"):  # c takes the room of b, as a was used since
        encodings.of([question(text)], encode, CPU)
    assert encode.asked == 3
    encodings.of([question("a")], encode, CPU)
    assert encode.asked == 3
    encodings.of([question("b")], encode, CPU)
    assert encode.asked == 4


def test_a_batch_larger_than_the_bound_is_never_kept() -> None:
    encodings, encode = Encodings(most_bytes=39), Encoder()
    for _ in range(2):
        encodings.of([question("a")], encode, CPU)
    assert encode.asked == 2


def test_a_picture_that_changed_or_went_is_never_answered_from_memory(
    picture_engine: TransformersEngine, tmp_path: Path
) -> None:
    picture = tmp_path / "it.png"
    prompt = Prompt(id="i", modality="image", text="what is in the picture", image=picture)
    Image.new("RGB", (28, 28), "red").save(picture)
    red = picture_engine.encode([prompt])["pixel_values"]
    assert torch.equal(picture_engine.encode([prompt])["pixel_values"], red)
    Image.new("RGB", (28, 28), "blue").save(picture)
    os.utime(picture, ns=(1, 1))
    assert not torch.equal(picture_engine.encode([prompt])["pixel_values"], red)
    picture.unlink()
    with pytest.raises(EngineError, match=r"it\.png"):
        picture_engine.encode([prompt])


def test_an_encoding_kept_under_inference_can_be_trained_on(
    picture_engine: TransformersEngine, picture_world: World
) -> None:
    prompt = question("tell me what")
    with torch.inference_mode():
        picture_engine.encode([prompt])
    assert not picture_engine.encode([prompt])["input_ids"].is_inference()
