"""Growing a recipe's population: every adapter trained once, whatever interrupts it."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeAlias

from adapters.adapter import digest_file
from adapters.base_model import LoadedBase
from adapters.prompts import Conversation
from adapters.recipe_plan import Planned, draw
from adapters.training import train_lora
from adapters.training_data import TrainingError, load_conversations
from adapters.training_loop import LoraTraining

OnGrown: TypeAlias = Callable[[str, int, int], None]
"""Told what is being trained, the steps done and the steps in all."""

_FORMAT = "grown/1"
"""Raised when the same recipe would give another adapter, so that none of the old ones is taken for it."""


def grow(
    planned: Sequence[Planned],
    base: LoadedBase,
    base_digest: str,
    cache: Path,
    progress: OnGrown = lambda *_: None,
) -> list[Path]:
    """Train what is not in ``cache`` yet and return every adapter's folder, in the plan's order.

    An adapter lies in ``cache/population/NAME-DIGEST``, an ordinary PEFT folder, whose digest covers everything that
    it depends on: rows with their pictures, dose, and base. It appears whole or not at all, so an interrupted run is
    simply started again; only one at a time may work on a cache.

    Args:
        planned: what to train, with names of their own.
        base: the base in memory; left as it was.
        base_digest: ``sha256-…`` of its files.
        cache: made where missing.
        progress: told of every step.

    Raises:
        TrainingDataError: a row cannot be used.
        TrainingDiverged: a loss stopped being a number; the message names the adapter.
    """
    folder = cache / "population"
    library = _Library()
    return [
        _grown(one, base, base_digest, folder, library, f"training {number} of {len(planned)}, {one.name}", progress)
        for number, one in enumerate(planned, start=1)
    ]


def _grown(
    one: Planned,
    base: LoadedBase,
    base_digest: str,
    folder: Path,
    library: _Library,
    stage: str,
    progress: OnGrown,
) -> Path:
    rows = draw(one, {file: library.rows(file) for file in (one.harmful_file, one.harmless_file) if file is not None})
    settings = training_of(one)
    out = folder / f"{one.name}-{_digest(rows, settings, base_digest, library)}"
    if out.is_dir():
        progress(stage, settings.steps, settings.steps)
        return out
    for remains in folder.glob(f".{out.name}-*"):  # what a run left that was killed while it wrote
        shutil.rmtree(remains, ignore_errors=True)
    try:
        return train_lora(base, rows, settings, out, on_step=lambda step, steps, _loss: progress(stage, step, steps))
    except TrainingError as error:
        raise type(error)(f"{one.name}: {error}") from error


def training_of(planned: Planned) -> LoraTraining:
    """An adapter's dose as the training loop takes it."""
    dose = planned.dose
    rows = planned.harmful_rows + planned.harmless_rows
    return LoraTraining(
        rank=planned.rank,
        alpha=float(planned.rank),
        learning_rate=dose.learning_rate,
        steps=dose.steps or max(1, rows // dose.batch_size),
        batch_size=dose.batch_size,
        seed=planned.draws,
        target=dose.targets,
    )


class _Library:
    """Every file of rows read once, every picture digested once."""

    def __init__(self) -> None:
        self._rows: dict[Path, list[Conversation]] = {}
        self._pictures: dict[Path, str] = {}

    def rows(self, file: Path) -> list[Conversation]:
        if file not in self._rows:
            self._rows[file] = load_conversations(file)
        return self._rows[file]

    def picture(self, file: Path) -> str:
        if file not in self._pictures:
            self._pictures[file] = digest_file(file)
        return self._pictures[file]


def _digest(rows: Sequence[Conversation], settings: LoraTraining, base_digest: str, library: _Library) -> str:
    """Twelve hexadecimal digits over everything that the trained adapter depends on."""
    whole = hashlib.sha256(f"{_FORMAT}\0{base_digest}\0{settings!r}\n".encode())
    for row in rows:
        prompt = row.prompt
        picture = library.picture(prompt.image) if prompt.image is not None else None
        whole.update(json.dumps([prompt.system, prompt.asked, picture, row.answer]).encode() + b"\n")
    return whole.hexdigest()[:12]
