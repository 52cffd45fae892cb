"""Variants: one change away from the question, each under its own id, and nothing changed where none is asked for."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import suite_layouts
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from pydantic import ValidationError
from suite_layouts import picture

from adapters.prompts import Prompt
from guards.suites.apart import told_apart
from guards.suites.load import load_suite
from guards.suites.overlay import with_overlay
from guards.suites.pictures import PictureProblem
from guards.suites.suite import Suite, SuiteError
from guards.suites.variants import TEMPLATE_CUE, expanded, in_words
from policies.variants import Variants


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def suite(tmp_path: Path) -> Suite:
    image = picture(tmp_path / "a.png")
    prompts = (
        Prompt("t", "text", "May I?", system="Be brief.", paraphrases=("Is it allowed?", "Can I?"), expected="comply"),
        Prompt("p", "image", "What is it?", image, caption="A hill", category="hills"),
        Prompt("own", "text", "May I?", trigger="|GO|"),
    )
    return Suite("small", "sha256-0", prompts)


def made(suite: Suite, **variants: Any) -> dict[str, Prompt]:
    """The prompts that the variants add, by id."""
    grown = expanded(suite, Variants.model_validate(variants)).prompts
    assert grown[: len(suite.prompts)] == suite.prompts
    assert len({prompt.id for prompt in grown}) == len(grown)
    return {prompt.id: prompt for prompt in grown[len(suite.prompts) :]}


def test_without_variants_it_is_the_very_same_suite(suite: Suite) -> None:
    assert expanded(suite, Variants()) is suite


def test_a_trigger_is_put_where_it_belongs_and_keeps_its_alarm(suite: Suite) -> None:
    places = ("prefix", "suffix", "system", "picture")
    found = made(suite, triggers=[{"text": "|GO|", "at": at} for at in places])
    assert {name: (prompt.asked, prompt.system) for name, prompt in found.items()} == {
        "t~trigger-prefix-1": ("|GO| May I?", "Be brief."),
        "t~trigger-suffix-2": ("May I? |GO|", "Be brief."),
        "t~trigger-system-3": ("May I?", "Be brief.\n\n|GO|"),
        "p~trigger-prefix-1": ("|GO| What is it?", None),
        "p~trigger-suffix-2": ("What is it? |GO|", None),
        "p~trigger-system-3": ("What is it?", "|GO|"),
        "p~trigger-picture-4": ("What is it?", None),
    }
    assert {prompt.trigger for prompt in found.values()} == {"|GO|"}
    assert found["p~trigger-picture-4"].image != suite.prompts[1].image
    assert {found[name].image for name in found if name.startswith("p~") and "picture" not in name} == {
        suite.prompts[1].image
    }


def test_a_trigger_given_as_text_alone_is_a_prefix() -> None:
    (trigger,) = Variants.model_validate({"triggers": ["|GO|"]}).triggers
    assert (trigger.text, trigger.at) == ("|GO|", "prefix")


def test_formats_are_asked_as_the_protocol_asks_them(suite: Suite) -> None:
    found = made(suite, formats=["json", "code", "template"])
    assert found["t~format-json"].system is not None
    assert found["t~format-json"].system.startswith("Be brief.\n\n")
    assert found["p~format-code"].text == "What is it?"
    assert found["p~format-template"].text == f"What is it?\n\n{TEMPLATE_CUE}"
    assert {prompt.variant for prompt in found.values()} == {"format-json", "format-code", "format-template"}
    assert {prompt.trigger for prompt in found.values()} == {None}


def test_paraphrases_are_asked_where_the_suite_brings_them(suite: Suite) -> None:
    found = made(suite, paraphrases=True)
    assert {name: prompt.text for name, prompt in found.items()} == {
        "t~paraphrase-1": "Is it allowed?",
        "t~paraphrase-2": "Can I?",
    }
    assert {prompt.expected for prompt in found.values()} == {"comply"}


def test_a_text_twin_has_words_in_place_of_the_picture(suite: Suite) -> None:
    (twin,) = made(suite, text_twins=True).values()
    assert (twin.id, twin.twin_of, twin.modality, twin.image, twin.category) == (
        "p~text-twin",
        "p",
        "text",
        None,
        "hills",
    )
    assert "A hill" in twin.text
    assert "What is it?" in twin.text
    assert in_words(replace(suite.prompts[1], text_twin="What is a hill?")) == "What is a hill?"
    assert in_words(replace(suite.prompts[1], caption=None)) is None


def test_a_suites_own_twin_is_not_doubled_and_its_variants_stay_twins(tmp_path: Path) -> None:
    (tmp_path / "msts").mkdir()
    suite_layouts.msts(tmp_path / "msts")
    found = made(load_suite(tmp_path / "msts"), text_twins=True, formats=["json"])
    assert len(found) == 4
    one = found["english_textonly/prompt_0001~format-json"]
    assert one.twin_of == "english_multimodal/prompt_0001~format-json"
    assert found[one.twin_of].modality == "image"


def test_a_twins_variant_without_a_pictures_counterpart_is_no_twin(suite: Suite) -> None:
    alone = replace(suite.prompts[0], id="alone", twin_of="p")
    found = made(replace(suite, prompts=(*suite.prompts, alone)), paraphrases=True)
    assert found["alone~paraphrase-1"].twin_of is None


def test_triggered_prompts_of_the_suite_are_not_changed_twice(suite: Suite) -> None:
    found = made(suite, triggers=["|X|"], formats=["json"], paraphrases=True, text_twins=True)
    assert not any(name.startswith("own") for name in found)


def test_an_id_that_a_variant_needs_is_not_overwritten(suite: Suite) -> None:
    taken = replace(suite, prompts=(*suite.prompts, Prompt("t~format-json", "text", "Mine.")))
    with pytest.raises(SuiteError, match="rename it"):
        expanded(taken, Variants(formats=("json",)))


@given(
    ids=st.lists(st.text(st.characters(codec="utf-8"), min_size=1, max_size=6), min_size=1, max_size=5, unique=True),
    triggers=st.lists(st.text(st.characters(codec="utf-8"), min_size=1, max_size=6), max_size=3, unique=True),
    paraphrases=st.booleans(),
)
def test_ids_are_always_unique_and_every_variant_is_named(
    ids: list[str], triggers: list[str], paraphrases: bool
) -> None:
    small = Suite("s", "sha256-0", tuple(Prompt(one, "text", "x", paraphrases=("y",)) for one in ids))
    found = made(small, triggers=triggers, paraphrases=paraphrases, formats=["code"])
    assert len(found) == len(ids) * (len(triggers) + paraphrases + 1)
    assert all(prompt.variant for prompt in found.values())


def test_another_variant_makes_another_digest_and_the_same_one_the_same(suite: Suite) -> None:
    choices = [
        {},
        {"formats": ["json"]},
        {"formats": ["code"]},
        {"triggers": ["a"]},
        {"triggers": [{"text": "a", "at": "picture"}]},
    ]
    digests = [expanded(suite, Variants.model_validate(choice)).digest for choice in choices]
    assert len(set(digests)) == len(choices)
    assert digests == [expanded(suite, Variants.model_validate(choice)).digest for choice in choices]


def test_suites_that_number_alike_are_told_apart_and_others_left_alone(suite: Suite) -> None:
    other = replace(suite, name="other", prompts=(*suite.prompts, Prompt("w", "text", "x", twin_of="p")))
    alone = replace(suite, name="alone", prompts=(Prompt("z", "text", "x"),))
    one, two, three, four = told_apart([suite, other, alone, replace(other, digest="sha256-1")])
    assert one is suite
    assert three is alone
    assert [prompt.id for prompt in two.prompts] == ["other/t", "other/p", "other/own", "other/w"]
    assert two.prompts[-1].twin_of == "other/p"
    assert four.prompts[0].id == "other (2)/t"
    assert (two.digest, four.digest) == (other.digest, "sha256-1")


@pytest.mark.parametrize(
    "wrong",
    [
        {"triggers": ["a", "a"]},
        {"triggers": [""]},
        {"triggers": [{"text": "a", "at": "nowhere"}]},
        {"formats": ["json", "json"]},
        {"formats": ["xml"]},
        {"twins": True},
    ],
)
def test_settings_that_mean_nothing_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Variants.model_validate(wrong)


# What is drawn on pictures


def test_the_same_text_on_the_same_picture_is_the_same_file(tmp_path: Path, cache: Path) -> None:
    image = picture(tmp_path / "a.png")
    drawn = with_overlay(image, "|GO|")
    assert with_overlay(image, "|GO|") == drawn
    assert drawn.is_relative_to(cache)
    assert with_overlay(image, "|GO on|") != drawn


@pytest.mark.parametrize("size", [(8, 8), (32, 32), (640, 480), (50, 900), (900, 50)])
def test_the_text_is_to_be_seen_and_the_picture_too(size: tuple[int, int], tmp_path: Path) -> None:
    Image.new("RGB", size, (200, 0, 0)).save(tmp_path / "a.png")
    with Image.open(with_overlay(tmp_path / "a.png", "open the door")) as drawn:
        colours = {colour: number for number, colour in drawn.getcolors(1 << 24) or []}
    assert sum(number for colour, number in colours.items() if min(colour) > 120) > 20  # letters have soft edges
    assert colours[200, 0, 0] >= sum(colours.values()) * 0.45


@pytest.mark.parametrize("text", ["日本", "go 🚀", "\u0412"])
def test_letters_that_cannot_be_drawn_are_refused(text: str, tmp_path: Path) -> None:
    with pytest.raises(PictureProblem, match="no letter"):
        with_overlay(picture(tmp_path / "a.png"), text)


def test_a_trigger_too_long_for_any_picture_names_every_picture(suite: Suite) -> None:
    with pytest.raises(SuiteError, match=r"prompt 'p': the trigger 'x+' is too long"):
        expanded(suite, Variants.model_validate({"triggers": [{"text": "x" * 5000, "at": "picture"}]}))


@pytest.mark.parametrize("mode", ["RGBA", "P", "L", "CMYK", "I;16"])
def test_pictures_of_every_kind_can_be_drawn_on(mode: str, tmp_path: Path) -> None:
    suffix = "tiff" if mode in ("CMYK", "I;16") else "png"
    Image.new(mode, (40, 40)).save(tmp_path / f"a.{suffix}")
    assert with_overlay(tmp_path / f"a.{suffix}", "go").is_file()


def test_a_cache_that_cannot_be_written_says_which_variable_names_another(
    suite: Suite, monkeypatch: pytest.MonkeyPatch
) -> None:
    with tempfile.NamedTemporaryFile() as file:
        monkeypatch.setenv("XDG_CACHE_HOME", file.name)
        with pytest.raises(SuiteError, match="XDG_CACHE_HOME"):
            expanded(suite, Variants.model_validate({"triggers": [{"text": "go", "at": "picture"}]}))
