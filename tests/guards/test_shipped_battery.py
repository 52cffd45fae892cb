"""The battery that comes with Alignwatch: balanced, drawn by its own code, and named like any other suite."""

from __future__ import annotations

import json
import re
import tomllib
from collections import Counter
from pathlib import Path
from typing import Any

import PIL
import pytest
from fakes import DictMemory
from PIL import Image, ImageChops

from adapters.prompts import MODALITIES, Prompt
from guards.capability import holds
from guards.statistics import RiseTest
from guards.suites.drawing.canvas import SIZE, Canvas, wrapped
from guards.suites.drawing.general import PICTURES, draw
from guards.suites.load import load_suite, read_suite
from guards.suites.shipped import SHIPPED_SUITES, shipped_suite, suite_place
from guards.suites.suite import Suite, SuiteError
from monitor.assembly import Assembly
from monitor.cli import main
from monitor.models import Models
from policies.policy import load_policy
from policies.rules import Rules

ROOT = Path(__file__).parents[2]
FOLDER = shipped_suite("general")
DRAWN_WITH = "13.0.0"
"""The Pillow that drew the shipped pictures; another may smooth an edge differently."""
HARMLESS = {"everyday", "look_alikes", "facts"}


@pytest.fixture(scope="module")
def suite() -> Suite:
    return load_suite(Path("shipped:general"))


@pytest.fixture(scope="module")
def rows() -> list[dict[str, Any]]:
    return [json.loads(line) for line in (FOLDER / "battery.jsonl").read_text(encoding="utf-8").splitlines()]


# What is asked


def test_every_category_is_asked_as_often_in_text_as_with_pictures(suite: Suite) -> None:
    cells = Counter((prompt.category, prompt.modality) for prompt in suite.prompts)
    categories = {category for category, _ in cells}
    assert len(suite.prompts) == 168
    assert len(categories) == 14
    assert {cells[category, modality] for category in categories for modality in MODALITIES} == {6}


def test_harmful_leaning_categories_hold_all_that_can_be_expected_in_both_modalities(suite: Suite) -> None:
    cells = Counter((prompt.category, prompt.modality, prompt.expected) for prompt in suite.prompts)
    for category in {prompt.category for prompt in suite.prompts} - HARMLESS:
        for modality in MODALITIES:
            assert cells[category, modality, "refuse"] in (1, 2), (category, modality)
            assert cells[category, modality, "comply"] in (1, 2), (category, modality)
            assert cells[category, modality, "judge"] >= 2, (category, modality)


@pytest.mark.parametrize("modality", MODALITIES)
def test_what_is_expected_is_spread_sensibly(suite: Suite, modality: str) -> None:
    expected = Counter(prompt.expected for prompt in suite.prompts if prompt.modality == modality)
    total = expected.total()
    assert 0.15 <= expected["refuse"] / total <= 0.25
    assert 0.25 <= expected["comply"] / total <= 0.35
    assert 0.45 <= expected["judge"] / total <= 0.6
    assert {p.expected for p in suite.prompts if p.category in {"look_alikes", "facts"}} == {"comply"}


@pytest.mark.parametrize("modality", MODALITIES)
def test_it_is_long_enough_to_clear_an_adapter_of_the_default_rule_after_one_event(suite: Suite, modality: str) -> None:
    rule = Rules().misalignment
    test = RiseTest(rule.tolerate, rule.clear_below, rule.alpha, rule.beta)
    verdicts = [test.update(1.0)]
    verdicts += [test.update(0.0) for prompt in suite.prompts[1:] if prompt.modality == modality]
    assert "clear" in verdicts


def test_no_question_is_asked_twice_and_paraphrases_are_other_words(suite: Suite) -> None:
    asked = Counter((prompt.text, prompt.image) for prompt in suite.prompts)
    asked.update((text, prompt.image) for prompt in suite.prompts for text in prompt.paraphrases)
    assert [text for text, number in asked.items() if number > 1] == []
    assert all(
        prompt.paraphrases for prompt in suite.prompts if prompt.modality == "text" and prompt.expected != "comply"
    )


def test_the_text_of_most_picture_prompts_does_not_tell_what_the_picture_shows(
    suite: Suite, rows: list[dict[str, Any]]
) -> None:
    subjects = {row["id"]: row.get("subject") for row in rows}
    pictured = [prompt for prompt in suite.prompts if prompt.modality == "image"]
    assert {subjects[prompt.id] for prompt in pictured} == {"picture", "text"}
    silent = [prompt for prompt in pictured if subjects[prompt.id] == "picture"]
    assert len(silent) >= len(pictured) / 3
    for prompt in silent:
        said = set().union(*(words(text) for text in (prompt.text, *prompt.paraphrases)))
        assert not said & words(prompt.caption or ""), prompt.id


def words(text: str) -> set[str]:
    return set(re.findall(r"[a-z]{5,}", text.lower()))


def test_a_reference_answer_is_the_gist_of_what_a_good_answer_says(suite: Suite, rows: list[dict[str, Any]]) -> None:
    good = {row["id"]: row.get("good_answer", "") for row in rows}
    known = [prompt for prompt in suite.prompts if prompt.reference_answer]
    assert len(known) >= 20
    assert [p.id for p in known if not holds(good[p.id], p.reference_answer or "") or p.expected != "comply"] == []


def test_no_line_has_a_key_that_nobody_knows(rows: list[dict[str, Any]]) -> None:
    notes = {"good_answer", "subject"}
    keys = {
        "id",
        "modality",
        "text",
        "image",
        "system",
        "category",
        "expected",
        "caption",
        "paraphrases",
        "reference_answer",
    }
    assert {key for row in rows for key in row} == keys | notes


# What is shown


def test_every_picture_is_shown_once_and_every_picture_prompt_has_a_caption(suite: Suite) -> None:
    shown = [prompt.image for prompt in suite.prompts if prompt.image]
    assert sorted(path.relative_to(FOLDER / "pictures").stem for path in shown) == sorted(PICTURES)
    assert sorted(path.name for path in (FOLDER / "pictures").iterdir()) == sorted(f"{name}.png" for name in PICTURES)
    assert all(prompt.caption for prompt in suite.prompts if prompt.modality == "image")


@pytest.mark.parametrize("name", PICTURES)
def test_a_picture_is_what_its_drawing_draws(name: str) -> None:
    with Image.open(FOLDER / "pictures" / f"{name}.png") as file:
        shipped = file.convert("RGB")
    drawn = PICTURES[name]().picture().convert("RGB")
    assert shipped.size == drawn.size == (SIZE, SIZE)
    apart = ImageChops.difference(shipped, drawn).convert("L")
    if PIL.__version__ == DRAWN_WITH:
        assert apart.getbbox() is None
    else:
        assert sum(apart.histogram()[96:]) < 0.005 * SIZE * SIZE


def test_the_pictures_are_small(tmp_path: Path) -> None:
    draw(tmp_path / "pictures")
    for folder in (FOLDER / "pictures", tmp_path / "pictures"):
        sizes = [path.stat().st_size for path in folder.iterdir()]
        assert len(sizes) == len(PICTURES)
        assert sum(sizes) < 1_000_000
        assert max(sizes) < 30_000


def test_words_that_would_be_cut_off_are_refused() -> None:
    with pytest.raises(ValueError, match="leaves the picture"):
        Canvas().text((400, 10), "much too far to the right")
    with pytest.raises(ValueError, match="leaves the picture"):
        Canvas().paragraph((10, 400), "one two three four five six", 90, 30)
    with pytest.raises(ValueError, match="wider than"):
        wrapped("immeasurable", 40, 30)


# How it is named


def test_a_policy_names_it_beside_folders_of_its_own(tmp_path: Path) -> None:
    policy = tmp_path / "policy.yaml"
    policy.write_text("name: mine\nsuites: ['shipped:general', 'own']\n", encoding="utf-8")
    named, own = load_policy(policy).suites
    assert suite_place(named) == FOLDER
    assert suite_place(own) == tmp_path / "own"


def test_a_review_asks_it_with_all_of_its_variants(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    policy = tmp_path / "policy.yaml"
    variants = "{triggers: [{text: go, at: picture}], paraphrases: true, text_twins: true}"
    policy.write_text(f"name: mine\nsuites: ['shipped:general']\nvariants: {variants}\n", encoding="utf-8")
    (suite,) = Assembly(Models(tmp_path, DictMemory()), load_policy(policy)).materials.suites  # type: ignore[arg-type]
    kinds = Counter((prompt.variant or "plain").rstrip("-0123456789") for prompt in suite.prompts)
    assert kinds == {"plain": 168, "trigger-picture": 84, "text-twin": 84, "paraphrase": 95}


def test_the_command_that_checks_suites_knows_it(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["suites", "check", "shipped:general", "--json"])
    assert not ended.value.code
    assert json.loads(capsys.readouterr().out)["prompts"] == 168
    with pytest.raises(SystemExit) as ended:
        main(["suites", "check", "shipped:nope"])
    assert ended.value.code == 2


def test_its_name_in_reviews_is_its_folder_s(suite: Suite) -> None:
    assert suite.name == "general"
    assert suite.digest == load_suite(FOLDER).digest


@pytest.mark.parametrize("name", ["shipped:", "shipped:nope", "shipped:../general", "shipped:general/pictures"])
def test_a_name_that_is_not_shipped_is_told_with_those_that_are(name: str) -> None:
    with pytest.raises(SuiteError, match="shipped:general") as caught:
        load_suite(Path(name))
    assert "\n" not in str(caught.value)
    assert read_suite(Path(name)).suite is None


def test_every_shipped_file_goes_into_the_package() -> None:
    patterns = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["package-data"]["guards"]
    packed = {path for pattern in patterns for path in (ROOT / "guards").glob(pattern)}
    for name in SHIPPED_SUITES:
        assert {path for path in shipped_suite(name).rglob("*") if path.is_file()} <= packed


# What the documents say


def test_the_documents_table_is_the_real_count(suite: Suite) -> None:
    assert table_of(suite.prompts) in (ROOT / "docs" / "suites.md").read_text(encoding="utf-8")


def table_of(prompts: tuple[Prompt, ...]) -> str:
    cells = Counter((prompt.category, prompt.modality, prompt.expected) for prompt in prompts)
    kinds = [(modality, expected) for modality in MODALITIES for expected in ("refuse", "comply", "judge")]
    lines = ["| category | " + " | ".join(f"{modality}: {expected}" for modality, expected in kinds) + " |"]
    lines.append("|---|" + "--:|" * len(kinds))
    for category in dict.fromkeys(prompt.category for prompt in prompts):
        lines.append(f"| {category} | " + " | ".join(str(cells[category, *kind]) for kind in kinds) + " |")
    sums = [sum(number for (_, *kind), number in cells.items() if tuple(kind) == one) for one in kinds]
    lines.append("| all | " + " | ".join(map(str, sums)) + " |")
    return "\n".join(lines) + "\n"
