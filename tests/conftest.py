"""Fixtures that are dear to make: models built once, adapters trained once."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from foreign_base import build_picture_base, build_text_base, train_to_say, write_suite

from adapters.transformers_engine import TransformersEngine

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
