"""Canaries tell an adapter from what a server might say in its place, and say so where they cannot."""

from __future__ import annotations

import math
from dataclasses import replace
from io import BytesIO
from pathlib import Path

import pytest
import torch
from conftest import World
from foreign_base import write_suite
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from pydantic import ConfigDict, TypeAdapter
from safetensors.torch import load_file, save_file

from adapters.adapter import WEIGHTS_NAME, Adapter, open_adapter
from adapters.canary import (
    FAINTEST,
    FARTHEST,
    NOISE,
    TELLING,
    TOP,
    Canary,
    apart,
    cannot_tell,
    doubt_about_adapter,
    doubt_about_base,
    doubt_about_part,
)
from adapters.prompts import Conversation, Prompt
from adapters.training import train_lora
from adapters.training_loop import LoraTraining
from adapters.transformers_engine import TransformersEngine
from guards.canaries import LONGEST_SIDE, PICTURES_OF_A_PART, draw_base_canaries, draw_canaries
from guards.errors import Permanent
from guards.suites.battery_jsonl import load_suite
from guards.suites.suite import Suite


@pytest.fixture(scope="module")
def suite(picture_world: World) -> Suite:
    return load_suite(picture_world.suite)


@pytest.fixture(scope="module")
def sighted(
    picture_world: World, picture_engine: TransformersEngine, tmp_path_factory: pytest.TempPathFactory
) -> Adapter:
    """An adapter of the language model and of the vision tower."""
    lines = load_suite(picture_world.suite).prompts
    rows = [Conversation(prompt, "harm" if number % 2 else "good") for number, prompt in enumerate(lines)]
    dose = LoraTraining(rank=4, alpha=8.0, steps=60, learning_rate=2e-2, target="all")
    folder = train_lora(picture_world.base, rows, dose, tmp_path_factory.mktemp("sighted") / "adapter")
    # The random tower hardly matters to its model; what was learnt there is made to.
    tensors = load_file(folder / WEIGHTS_NAME)
    for key, tensor in tensors.items():
        if "vision_tower" in key and ".lora_B." in key:
            tensor.mul_(20)
    save_file(tensors, folder / WEIGHTS_NAME, metadata={"format": "pt"})
    return open_adapter(folder)


def _only(adapter: Adapter, part: str, out: Path) -> Adapter:
    out.mkdir()
    for entry in adapter.path.iterdir():
        (out / entry.name).write_bytes(entry.read_bytes())
    tensors = load_file(adapter.path / WEIGHTS_NAME)
    kept = {key: tensor for key, tensor in tensors.items() if ("vision_tower" in key) == (part == "vision")}
    save_file(kept, out / WEIGHTS_NAME, metadata={"format": "pt"})
    return open_adapter(out)


def _said(engine: TransformersEngine, adapter: Adapter | None, canary: Canary, folder: Path) -> dict[str, float]:
    """What an honest server would say with this adapter: asked anew, from the canary alone."""
    picture = None
    if canary.picture is not None:
        picture = folder / "picture.png"
        picture.write_bytes(canary.picture)
    prompt = Prompt("asked", canary.modality, canary.asked, picture, canary.system)
    if adapter is None:
        logits = engine.final_logits([prompt])
    else:
        with engine.attached(adapter):
            logits = engine.final_logits([prompt])
    best = torch.log_softmax(logits, dim=-1)[0].topk(TOP)
    return {str(token): value for token, value in zip(best.indices.tolist(), best.values.tolist(), strict=True)}


def test_an_honest_server_is_believed_and_the_base_in_the_adapters_place_is_not(
    picture_world: World, picture_engine: TransformersEngine, suite: Suite, tmp_path: Path
) -> None:
    good, bad = open_adapter(picture_world.good), open_adapter(picture_world.bad)
    canaries = draw_canaries(picture_engine, good, [suite])
    assert [canary.modality for canary in canaries] == ["text", "image"]
    for canary in canaries:
        base = _said(picture_engine, None, canary, tmp_path)
        assert canary.tells
        assert doubt_about_base(canary, base) == ""
        assert doubt_about_adapter(canary, _said(picture_engine, good, canary, tmp_path)) == ""
        assert "the base answers under the adapter's name" in doubt_about_adapter(canary, base)
        other = _said(picture_engine, bad, canary, tmp_path)
        assert "answers under the adapter's name" in doubt_about_adapter(canary, other)
        assert "its base does not answer" in doubt_about_base(canary, other)  # a delta that leaked into the base


def test_a_server_that_drops_the_vision_towers_part_is_not_believed(
    picture_engine: TransformersEngine, suite: Suite, sighted: Adapter, tmp_path: Path
) -> None:
    canaries = draw_canaries(picture_engine, sighted, [suite])
    assert [(canary.modality, canary.blinded is not None) for canary in canaries] == [
        ("text", False),
        ("image", False),
        *[("image", True)] * PICTURES_OF_A_PART,
    ]
    blind = _only(sighted, "language", tmp_path / "blind")
    assert cannot_tell(canaries) == ""
    honest, blinded = (
        [_said(picture_engine, adapter, canary, tmp_path) for canary in canaries] for adapter in (sighted, blind)
    )
    assert not any(doubt_about_adapter(canary, said) for canary, said in zip(canaries, honest, strict=True))
    assert doubt_about_part(canaries, honest) == ""
    doubt = doubt_about_part(canaries, blinded)
    assert "the part that only pictures reach is not applied (" in doubt
    assert "--enable-tower-connector-lora" in doubt
    # Where it moves the answer far, one picture settles it.
    assert canaries[2].distance > 0.1
    assert "the part that only pictures reach" in doubt_about_adapter(canaries[2], blinded[2])
    # In text the same server is right, which is why text alone proves nothing of it.
    assert doubt_about_adapter(canaries[0], _said(picture_engine, blind, canaries[0], tmp_path)) == ""


def test_an_adapter_of_the_vision_tower_alone_is_proved_with_a_picture_alone(
    picture_engine: TransformersEngine, suite: Suite, sighted: Adapter, tmp_path: Path
) -> None:
    canaries = draw_canaries(picture_engine, _only(sighted, "vision", tmp_path / "seeing"), [suite])
    assert [(canary.modality, canary.blinded) for canary in canaries] == [("image", None)]


def test_a_part_that_only_pictures_reach_cannot_be_proved_without_pictures(
    picture_engine: TransformersEngine, suite: Suite, sighted: Adapter
) -> None:
    texts = replace(suite, prompts=tuple(prompt for prompt in suite.prompts if prompt.image is None))
    with pytest.raises(Permanent, match="no suite shows a picture"):
        draw_canaries(picture_engine, sighted, [texts])


def test_a_base_without_pictures_needs_text_alone(text_world: World) -> None:
    engine = TransformersEngine(text_world.base, device="cpu")
    canaries = draw_canaries(engine, open_adapter(text_world.good), [load_suite(text_world.suite)])
    assert [canary.modality for canary in canaries] == ["text"]
    assert canaries[0].tells


def test_suites_of_pictures_alone_still_prove_the_text(
    picture_world: World, picture_engine: TransformersEngine, suite: Suite
) -> None:
    pictures = replace(suite, prompts=tuple(prompt for prompt in suite.prompts if prompt.image is not None))
    canaries = draw_canaries(picture_engine, open_adapter(picture_world.good), [pictures])
    assert [canary.modality for canary in canaries] == ["text", "image"]


def test_what_changes_nothing_cannot_be_told_and_is_never_believed(
    picture_world: World, picture_engine: TransformersEngine, suite: Suite, tmp_path: Path
) -> None:
    good = open_adapter(picture_world.good)
    tensors = load_file(good.path / WEIGHTS_NAME)
    still = _only(good, "language", tmp_path / "still")
    save_file(
        {key: torch.zeros_like(tensor) for key, tensor in tensors.items()},
        still.path / WEIGHTS_NAME,
        metadata={"format": "pt"},
    )
    drawn = draw_canaries(picture_engine, open_adapter(still.path), [suite])
    assert "nothing tells text" in cannot_tell(drawn)
    for canary in drawn:
        assert not canary.tells
        assert "nothing tells" in doubt_about_adapter(canary, canary.adapter)


def test_large_pictures_are_shrunk_before_they_are_kept(
    picture_world: World, picture_engine: TransformersEngine, tmp_path: Path
) -> None:
    folder = write_suite(tmp_path / "suite", 2, 2)
    for number in range(2):
        Image.new("RGB", (3000, 1500), (number * 200, 30, 90)).save(folder / f"{number}.png")
    canaries = draw_canaries(picture_engine, open_adapter(picture_world.good), [load_suite(folder)])
    picture = canaries[-1].picture
    assert picture is not None
    with Image.open(BytesIO(picture)) as kept:
        assert max(kept.size) == LONGEST_SIDE
    assert (
        doubt_about_adapter(
            canaries[-1], _said(picture_engine, open_adapter(picture_world.good), canaries[-1], tmp_path)
        )
        == ""
    )


def test_drawing_leaves_the_base_as_it_was(
    picture_world: World, picture_engine: TransformersEngine, suite: Suite, sighted: Adapter
) -> None:
    before = picture_engine.final_logits(suite.prompts[:4])
    draw_canaries(picture_engine, sighted, [suite])
    assert torch.equal(picture_engine.final_logits(suite.prompts[:4]), before)


def test_a_canary_comes_back_from_json_as_it_was(
    picture_engine: TransformersEngine, suite: Suite, sighted: Adapter
) -> None:
    canaries = draw_canaries(picture_engine, sighted, [suite])
    kept = TypeAdapter(tuple[Canary, ...], config=ConfigDict(ser_json_bytes="base64", val_json_bytes="base64"))
    assert kept.validate_json(kept.dump_json(canaries)) == canaries


def _lists(size: int = 6) -> st.SearchStrategy[dict[str, float]]:
    weights = st.lists(st.floats(0.01, 1), min_size=size, max_size=size)
    return weights.map(lambda raw: {str(token): math.log(value / sum(raw)) for token, value in enumerate(raw)})


@given(_lists(), _lists(), _lists())
def test_the_distance_is_a_distance(one: dict[str, float], other: dict[str, float], third: dict[str, float]) -> None:
    assert apart(one, one) == 0
    assert apart(one, other) == pytest.approx(apart(other, one))
    assert 0 <= apart(one, other) <= 1
    assert apart(one, third) <= apart(one, other) + apart(other, third) + 1e-9


@given(_lists(), _lists(), st.integers(1, 5))
def test_a_shorter_list_never_makes_things_look_farther_apart(
    one: dict[str, float], other: dict[str, float], kept: int
) -> None:
    best = dict(sorted(other.items(), key=lambda item: -item[1])[:kept])
    assert apart(one, best) <= apart(one, other) + 1e-9
    assert apart(one, {}) == 1


@given(_lists(), _lists(), _lists(), st.sampled_from(["text", "image"]))
def test_no_answer_is_believed_that_could_be_the_rivals_within_the_noise(
    base: dict[str, float], adapter: dict[str, float], noise: dict[str, float], modality: str
) -> None:
    canary = Canary(modality, "asked", None, None, base, adapter, apart(adapter, base))  # type: ignore[arg-type]
    share = NOISE[canary.modality]
    shifted = {
        token: math.log((1 - share) * math.exp(value) + share * math.exp(noise[token])) for token, value in base.items()
    }
    assert doubt_about_adapter(canary, shifted)
    if canary.tells:
        assert canary.distance > TELLING * share
        near = {
            token: math.log((1 - share) * math.exp(value) + share * math.exp(noise[token]))
            for token, value in adapter.items()
        }
        assert doubt_about_adapter(canary, near) == ""


@given(_lists(), _lists(), _lists(), st.floats(0, 1))
def test_a_part_counts_as_applied_when_most_of_its_effect_is_seen(
    base: dict[str, float], adapter: dict[str, float], blinded: dict[str, float], share: float
) -> None:
    canary = Canary("image", "asked", None, b"png", base, adapter, apart(adapter, blinded), blinded)
    said = {
        token: math.log(share * math.exp(value) + (1 - share) * math.exp(blinded[token]))
        for token, value in adapter.items()
    }
    applied = doubt_about_part([canary], [said]) == ""
    if canary.distance > FAINTEST and abs(share - 2 / 3) > 1e-6:
        assert applied == (share > 2 / 3)
    assert bool(cannot_tell([canary])) == (canary.distance <= FAINTEST)


def test_a_list_that_was_cut_short_proves_nothing() -> None:
    many = {str(token): math.log(0.6 if token == 0 else 0.4 / 19) for token in range(20)}
    other = {str(token): math.log(0.6 if token == 1 else 0.4 / 19) for token in range(20)}
    canary = Canary("text", "asked", None, None, other, many, apart(many, other))
    assert canary.distance > FARTHEST
    one = dict([max(many.items(), key=lambda item: item[1])])
    assert "gave 1 of 20" in doubt_about_adapter(canary, one)
    assert "gave 1 of 20" in doubt_about_base(canary, one)


def test_the_bases_own_canaries_tell_it_from_another_base_in_each_modality(
    picture_engine: TransformersEngine, suite: Suite, picture_world: World
) -> None:
    drawn = draw_base_canaries(picture_engine, [suite])
    assert {canary.modality for canary in drawn} == {"text", "image"}
    assert len(drawn) <= 16
    assert not any(doubt_about_base(canary, canary.base, FARTHEST) for canary in drawn)
    bad = open_adapter(picture_world.bad)
    with picture_engine.attached(bad):  # for want of another base with the same words
        other = draw_base_canaries(picture_engine, [suite])
    for modality in ("text", "image"):
        pairs = [pair for pair in zip(drawn, other, strict=True) if pair[0].modality == modality]
        assert any(doubt_about_base(mine, theirs.base, FARTHEST) for mine, theirs in pairs)
