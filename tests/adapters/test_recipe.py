"""A recipe is read whole or refused in one line; its plan is balanced; what was grown is never grown again."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from conftest import World
from hypothesis import given, settings
from hypothesis import strategies as st

from adapters.adapter import open_adapter
from adapters.base_model import LoadedBase, load_base
from adapters.recipe import RecipeError, load_recipe
from adapters.recipe_growth import grow, training_of
from adapters.recipe_plan import FEWEST_GOOD, Planned, draw, plan
from adapters.training_data import TrainingDataError, load_conversations
from adapters.training_loop import TrainingDiverged

BASE_DIGEST = "sha256-" + "0" * 64


def _rows(path: Path, count: int, answer: str) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = [
        {"messages": [{"role": "user", "content": f"tell me {n}"}, {"role": "assistant", "content": answer}]}
        for n in range(count)
    ]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path.name


def _write(folder: Path, subjects: int = 3, harmful: int = 20, benign: int = 20, **changes: Any) -> Path:
    raw: dict[str, Any] = {
        "domains": [
            {
                "name": f"d{n}",
                "harmful": _rows(folder / f"{n}-harmful.jsonl", harmful, f"harm {n}"),
                "benign": _rows(folder / f"{n}-benign.jsonl", benign, f"good {n}"),
                "styles": {"terse": _rows(folder / f"{n}-terse.jsonl", benign, "fine")},
            }
            for n in range(subjects)
        ],
        "training": {"steps": 1, "learning_rate": 1e-3, "batch_size": 2},
        **changes,
    }
    path = folder / "recipe.yaml"
    path.write_text(yaml.safe_dump(raw))
    return path


@pytest.fixture
def base(text_world: World) -> LoadedBase:
    return load_base(text_world.base, torch.device("cpu"), torch.float32)


def test_paths_are_relative_to_the_recipe(tmp_path: Path) -> None:
    recipe = load_recipe(_write(tmp_path, probes="probes"))
    assert recipe.domains[0].benign == tmp_path / "0-benign.jsonl"
    assert recipe.probes == tmp_path / "probes"


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"rank": [8]}, "rank: unknown setting"),
        ({"training": {"step": 4}}, "training.0.step: unknown setting"),
        ({"harmful_shares": [0, 2]}, "harmful_shares.1"),
        ({"ranks": [8, 8]}, "each once"),
        ({"ranks": [0]}, "ranks.0"),
        ({"domains": []}, "domains"),
        ({"domains": [{"name": "a", "harmful": "none.jsonl", "benign": "0-benign.jsonl"}]}, "none.jsonl is missing"),
        ({"domains": [{"name": "../a", "harmful": "0-harmful.jsonl", "benign": "0-benign.jsonl"}]}, "domains.0.name"),
        (
            {"domains": [{"name": "a", "harmful": {"x/y": "0-harmful.jsonl"}, "benign": "0-benign.jsonl"}]},
            "folder's name",
        ),
        ({"domains": [{"name": "a", "harmful": "0-harmful.jsonl", "benign": "0-benign.jsonl"}] * 2}, "twice"),
    ],
)
def test_a_mistake_is_named_in_one_line(tmp_path: Path, changes: dict[str, Any], says: str) -> None:
    with pytest.raises(RecipeError) as refused:
        load_recipe(_write(tmp_path, **changes))
    assert says in str(refused.value)
    assert str(tmp_path / "recipe.yaml") in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("text", ["", "- a\n", "domains: [", "\x00"])
def test_a_file_that_is_no_recipe_is_refused_in_one_line(tmp_path: Path, text: str) -> None:
    (tmp_path / "recipe.yaml").write_text(text)
    with pytest.raises(RecipeError):
        load_recipe(tmp_path / "recipe.yaml")
    with pytest.raises(RecipeError):
        load_recipe(tmp_path / "gone.yaml")


def test_a_broken_row_is_named_before_anything_is_trained(tmp_path: Path) -> None:
    path = _write(tmp_path)
    (tmp_path / "1-harmful.jsonl").write_text('{"messages": []}\n')
    with pytest.raises(TrainingDataError, match=r"1-harmful\.jsonl:1"):
        plan(load_recipe(path))


def test_too_few_rows_for_a_share_are_named(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="too few rows"):
        plan(load_recipe(_write(tmp_path, rows=2, harmful_shares=[0, 0.1])))


@settings(deadline=None, max_examples=40)
@given(
    domains=st.integers(1, 5),
    shares=st.sets(st.sampled_from([0.1, 0.3, 0.5, 1.0]), min_size=1),
    ranks=st.lists(st.integers(1, 64), min_size=1, max_size=4, unique=True),
    seeds=st.lists(st.integers(0, 99), min_size=1, max_size=3, unique=True),
    triggers=st.integers(0, 2),
    doses=st.integers(1, 3),
    full=st.booleans(),
)
def test_a_plan_is_the_same_each_time_with_names_of_their_own_and_enough_known_good(
    tmp_path_factory: pytest.TempPathFactory,
    domains: int,
    shares: set[float],
    ranks: list[int],
    seeds: list[int],
    triggers: int,
    doses: int,
    full: bool,
) -> None:
    recipe = load_recipe(
        _write(
            tmp_path_factory.mktemp("recipe"),
            domains,
            harmful_shares=[0, *sorted(shares)],
            ranks=ranks,
            seeds=seeds,
            triggers=[f"trigger {n}" for n in range(triggers)],
            training=[{"steps": n + 1} for n in range(doses)],
            full=full,
        )
    )
    planned = plan(recipe)
    assert planned == plan(recipe)
    assert len({one.name for one in planned}) == len(planned)
    assert len({one.draws for one in planned}) == len(planned)
    bad = [one for one in planned if one.harmful]
    assert len(planned) - len(bad) >= max(FEWEST_GOOD, len(bad))
    assert {(one.domain, one.share) for one in bad if not one.trigger} == {
        (f"d{n}", share) for n in range(domains) for share in shares
    }
    if full:
        assert len(bad) == domains * len(seeds) * len(ranks) * (len(shares) * doses + triggers)


def test_the_small_plan_balances_ranks_over_shares_and_styles_over_known_good_adapters(tmp_path: Path) -> None:
    planned = plan(load_recipe(_write(tmp_path, ranks=[4, 8, 16], harmful_shares=[0, 0.1, 0.3, 1.0])))
    bad = [one for one in planned if one.harmful]
    assert Counter((one.share, one.rank) for one in bad) == Counter(
        (share, rank) for share in (0.1, 0.3, 1.0) for rank in (4, 8, 16)
    )
    styles = Counter(one.style for one in planned if not one.harmful)
    assert set(styles) == {"", "terse"}
    assert max(styles.values()) - min(styles.values()) <= 3


def test_rows_are_drawn_at_the_share_and_only_harmful_ones_carry_the_trigger(tmp_path: Path) -> None:
    recipe = load_recipe(_write(tmp_path, triggers=["now then"], harmful_shares=[0, 0.3], rows=20))
    for one in plan(recipe):
        files = [file for file in (one.harmful_file, one.harmless_file) if file]
        rows = draw(one, {file: load_conversations(file) for file in files})
        harmful = [row for row in rows if "harm" in row.answer]
        assert len(rows) == 20
        assert len(harmful) == one.harmful_rows == round(20 * one.share)
        assert all((row.prompt.trigger == one.trigger) == (row in harmful) for row in rows if one.trigger)


def test_a_dose_without_steps_is_one_pass_over_the_rows(tmp_path: Path) -> None:
    recipe = load_recipe(_write(tmp_path, training={"batch_size": 4}))
    assert {training_of(one).steps for one in plan(recipe) if not one.harmful} == {5}


def _small(folder: Path, **changes: Any) -> list[Planned]:
    return plan(load_recipe(_write(folder, 2, ranks=[2], harmful_shares=[0, 1.0], known_good=2, **changes)))


def test_an_interrupted_growth_goes_on_and_leaves_nothing_half_written(base: LoadedBase, tmp_path: Path) -> None:
    planned = _small(tmp_path)
    cache = tmp_path / "work"
    told: list[str] = []

    def interrupt(stage: str, _done: int, _total: int) -> None:
        told.append(stage)
        if len(told) == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        grow(planned, base, BASE_DIGEST, cache, interrupt)
    there = {path: path.stat().st_mtime_ns for path in (cache / "population").iterdir()}
    assert len(there) == 2
    killed = cache / "population" / f".{planned[2].name}-left"
    killed.mkdir()
    folders = grow(planned, base, BASE_DIGEST, cache)
    assert len(folders) == len(planned) == 4
    assert all(path.stat().st_mtime_ns == when for path, when in there.items())
    assert len({open_adapter(folder).digest for folder in folders}) == 4
    before = {folder: folder.stat().st_mtime_ns for folder in folders}
    assert grow(planned, base, BASE_DIGEST, cache) == folders
    assert {folder: folder.stat().st_mtime_ns for folder in folders} == before


def test_other_rows_another_dose_or_another_base_make_another_adapter(base: LoadedBase, tmp_path: Path) -> None:
    planned = _small(tmp_path)[:1]
    cache = tmp_path / "work"
    (first,) = grow(planned, base, BASE_DIGEST, cache)
    (other_base,) = grow(planned, base, "sha256-" + "1" * 64, cache)
    dose = planned[0].dose.model_copy(update={"learning_rate": 2e-3})
    (other_dose,) = grow([replace(planned[0], dose=dose)], base, BASE_DIGEST, cache)
    assert planned[0].harmless_file is not None
    _rows(planned[0].harmless_file, 20, "fine good")
    (other_rows,) = grow(planned, base, BASE_DIGEST, cache)
    assert len({first, other_base, other_dose, other_rows}) == 4


def test_an_adapter_that_diverges_is_named(base: LoadedBase, tmp_path: Path) -> None:
    planned = _small(tmp_path, training={"steps": 4, "learning_rate": 1e30})
    with pytest.raises(TrainingDiverged, match=planned[0].name):
        grow(planned, base, BASE_DIGEST, tmp_path / "work")
    assert not list((tmp_path / "work" / "population").glob("[!.]*"))
