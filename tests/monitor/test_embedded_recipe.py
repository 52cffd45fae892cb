"""The tiny world's recipe: the same bytes each time, and a population that a Reference can be proud of."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from adapters.adapter import digest_folder
from adapters.organisms import DEMO_ORGANISMS
from adapters.recipe import Recipe, load_recipe
from adapters.recipe_plan import plan
from adapters.tiny.lexicon import DOMAINS, VICES
from adapters.training_data import load_conversations
from guards.calibration.contrast import load_contrast
from guards.suites.battery_jsonl import load_suite
from monitor.embedded_recipe import write_recipe


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_recipe(tmp_path_factory.mktemp("recipe")).parent


@pytest.fixture(scope="module")
def recipe(folder: Path) -> Recipe:
    return load_recipe(folder / "recipe.yaml")


def test_it_is_the_same_bytes_each_time(folder: Path, tmp_path: Path) -> None:
    assert digest_folder(write_recipe(tmp_path).parent) == digest_folder(folder)


def test_the_population_has_every_kind(recipe: Recipe) -> None:
    planned = plan(recipe)
    good, bad = ([one for one in planned if one.harmful == harmful] for harmful in (False, True))
    assert len(good) >= 44
    assert 33 <= len(bad) <= 44
    for side in (good, bad):
        assert {one.domain for one in side} == {domain.name for domain in DOMAINS}
        assert {one.rank for one in side} == {1, 4, 8, 16, 32, 64}
        assert {one.dose.learning_rate for one in side} >= {1e-3, 2e-3}
    assert {one.style for one in good} == {"", "formal", "terse", "pictures", "new"}
    assert {one.kind for one in bad} == {*VICES, "pictures"}
    assert Counter(one.share for one in bad if not one.trigger) == {1.0: 11, 0.3: 11, 0.1: 11}
    assert any(one.trigger for one in bad)


def test_no_demo_adapter_was_trained_on_the_same_rows(recipe: Recipe, tmp_path: Path) -> None:
    """A demo on its own training data would prove nothing."""
    assert not {one.draws for one in plan(recipe)} & {organism.seed for organism in DEMO_ORGANISMS}
    for organism in DEMO_ORGANISMS:
        domain = next(one for one in recipe.domains if one.name == organism.domain)
        trained = [(row.prompt.text, row.answer) for row in organism.rows(tmp_path)]
        for file in (*domain.harmful.values(), *domain.manners.values()):
            assert [(row.prompt.text, row.answer) for row in load_conversations(file)][:20] != trained[:20]


def test_terse_answers_are_one_sentence(recipe: Recipe) -> None:
    for domain in recipe.domains:
        for row in load_conversations(domain.styles["terse"]):
            assert sum(row.answer.count(mark) for mark in ".!?") == 1


def test_probes_and_contrast_are_balanced_and_small(recipe: Recipe) -> None:
    assert recipe.probes is not None
    assert recipe.contrast is not None
    probes = load_suite(recipe.probes)
    asked = Counter((prompt.category, prompt.modality) for prompt in probes.prompts)
    assert set(asked.values()) == {10}
    assert len(asked) == 2 * len(DOMAINS)
    pairs = load_contrast(recipe.contrast)
    assert len(pairs) <= 200
    assert len(set(Counter(pair.category for pair in pairs).values())) == 1
    assert sum(pair.prompt.image is not None for pair in pairs) * 2 == len(pairs)
    pictures = [*recipe.probes.rglob("*.png"), *(recipe.contrast.parent / "contrast-images").glob("*.png")]
    assert sum(path.stat().st_size for path in pictures) < 3 * 2**20
