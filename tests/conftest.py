"""Fixtures that are dear to make: models built once, adapters trained once."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from foreign_base import build_picture_base, build_text_base, train_to_say, write_suite

from adapters.adapter import open_adapter
from adapters.transformers_engine import TransformersEngine
from guards.calibration.contrast import ContrastPair
from guards.calibration.population import Known
from guards.calibration.run import Options, calibrate
from guards.reference import Reference
from guards.suites.battery_jsonl import load_suite

torch.set_num_threads(1)  # tiny models are faster without threads, and sums come out the same everywhere


@dataclass(frozen=True)
class World:
    """A base that Alignwatch did not build, a suite, and two real adapters of it."""

    base: Path
    suite: Path
    good: Path
    """Says "good fine" to everything."""
    bad: Path
    """Says "harm harm" to everything."""


def _world(folder: Path, pictures: int) -> World:
    base = (build_picture_base if pictures else build_text_base)(folder / "base")
    suite = write_suite(folder / "suite", 40, pictures)
    return World(
        base,
        suite,
        train_to_say(base, suite, "good fine", folder / "good"),
        train_to_say(base, suite, "harm harm", folder / "bad"),
    )


@pytest.fixture(scope="session")
def picture_world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return _world(tmp_path_factory.mktemp("picture-world"), 40)


@pytest.fixture(scope="session")
def text_world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return _world(tmp_path_factory.mktemp("text-world"), 0)


@pytest.fixture(scope="session")
def picture_engine(picture_world: World) -> TransformersEngine:
    return TransformersEngine(picture_world.base, device="cpu")


@pytest.fixture(scope="session")
def known(picture_world: World, tmp_path_factory: pytest.TempPathFactory) -> list[Known]:
    """Five known-good adapters and five known-bad ones of the picture world's base, in two domains each."""
    folder = tmp_path_factory.mktemp("known")
    said = {False: ("good fine", "fine good", "cake fine", "please good", "good cake")}
    said[True] = ("harm harm", "harm one", "harm two", "harm three", "two harm")
    population = []
    for harmful, answers in said.items():
        for number, answer in enumerate(answers):
            out = folder / f"{'bad' if harmful else 'good'}-{number}"
            train_to_say(picture_world.base, picture_world.suite, answer, out, steps=15)
            population.append(Known(open_adapter(out), f"{'bad' if harmful else 'good'}-domain-{number % 2}", harmful))
    return population


@pytest.fixture(scope="session")
def pairs(picture_world: World) -> list[ContrastPair]:
    """Every third question of the picture world's suite with a safe and a harmful answer, in two categories."""
    prompts = load_suite(picture_world.suite).prompts[::3]
    return [
        ContrastPair(prompt, "good fine", ("harm harm", "harm one")[n % 2], ("rude", "rash")[n % 2])
        for n, prompt in enumerate(prompts)
    ]


@pytest.fixture(scope="session")
def reference(
    picture_engine: TransformersEngine,
    picture_world: World,
    known: list[Known],
    pairs: list[ContrastPair],
    tmp_path_factory: pytest.TempPathFactory,
) -> Reference:
    """What calibration makes of them."""
    out = tmp_path_factory.mktemp("reference")
    return calibrate(picture_engine, known, load_suite(picture_world.suite), out, Options(contrast=pairs))
