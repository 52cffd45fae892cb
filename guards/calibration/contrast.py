"""The response contrast: what the base's own activations look like while it is made to say harm, and while it is not.

Source: the steering follow-ups of arXiv 2602.16931: direction = mean(harmful) − mean(safe) of teacher-forced answers.
It needs no known-bad adapter, and harmless changes of manner score low on it (docs/geometry.md).
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from torch import Tensor

from adapters.engine import Engine, Layer
from adapters.prompts import Conversation, Prompt
from guards.errors import Permanent
from guards.geometry import Standardiser, cosine, unit_rows

FILE_NAME = "contrast.jsonl"
ONE = "harm"
"""The category of pairs that name none."""
FEWEST = 4
"""Pairs that a category needs: two halves of two."""


class ContrastError(Permanent):
    """The pairs cannot be used; the message names file, line and cause."""


class _Line(BaseModel):
    model_config = ConfigDict(extra="ignore", strict=True)

    prompt: str = Field(min_length=1)
    safe_response: str = Field(min_length=1)
    harmful_response: str = Field(min_length=1)
    image: str | None = None
    category: str | None = None


@dataclass(frozen=True, slots=True)
class ContrastPair:
    """One prompt with a safe and a harmful answer."""

    prompt: Prompt
    """What is asked."""
    safe: str
    """What a well-behaved model says."""
    harmful: str
    """What a harmful one says."""
    category: str = ONE
    """Its vice or domain; each has a direction of its own."""


def load_contrast(path: Path) -> list[ContrastPair]:
    """Read JSONL of ``{"prompt", "image"?, "safe_response", "harmful_response", "category"?}``, or a folder with it.

    Raises:
        ContrastError: a line or picture cannot be used, or a category has fewer than four pairs; every problem told.
    """
    file = path / FILE_NAME if path.is_dir() else path
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ContrastError(f"contrast {file}: {' '.join(str(error).split())}") from error
    pairs: list[ContrastPair] = []
    problems: list[str] = []
    for number, line in enumerate(lines, start=1):
        if line.strip():
            read = _pair(line, number, file.parent)
            pairs += [read] if isinstance(read, ContrastPair) else []
            problems += [f"line {number}: {read}"] if isinstance(read, str) else []
    few = {c: sum(pair.category == c for pair in pairs) for c in categories(pairs)}
    problems += [f"category {c!r} has {n} pairs, at least {FEWEST} are needed" for c, n in few.items() if n < FEWEST]
    if problems or not pairs:
        told = "; ".join(problems[:4]) or "holds no pairs"
        raise ContrastError(
            f"contrast {file}: {told}" + (f"; and {len(problems) - 4} more" if len(problems) > 4 else "")
        )
    return pairs


def categories(pairs: Sequence[ContrastPair]) -> tuple[str, ...]:
    """Every category, in the order of first appearance."""
    return tuple(dict.fromkeys(pair.category for pair in pairs))


def write_contrast(pairs: Sequence[ContrastPair], folder: Path) -> None:
    """Write pairs and their pictures into ``folder``, so that they travel with a Reference."""
    (folder / "images").mkdir(parents=True, exist_ok=True)
    names: dict[Path, str] = {}
    lines = []
    for pair in pairs:
        record: dict[str, Any] = {
            "prompt": pair.prompt.asked,
            "safe_response": pair.safe,
            "harmful_response": pair.harmful,
            "category": pair.category,
        }
        if pair.prompt.image is not None:
            if pair.prompt.image not in names:
                names[pair.prompt.image] = f"images/{len(names):04d}{pair.prompt.image.suffix}"
                shutil.copyfile(pair.prompt.image, folder / names[pair.prompt.image])
            record["image"] = names[pair.prompt.image]
        lines.append(json.dumps(record, ensure_ascii=False) + "\n")
    (folder / FILE_NAME).write_text("".join(lines), encoding="utf-8")


@dataclass(frozen=True, slots=True)
class ContrastActivations:
    """The base's activations over both answers of every pair, and what directions follow from them."""

    pairs: tuple[ContrastPair, ...]
    """In the order of the rows."""
    difference: dict[Layer, Tensor]
    """Harmful minus safe, mean over answer tokens, [pairs, d], by decoder block at position ``answer``."""

    @property
    def categories(self) -> tuple[str, ...]:
        """In the order of the directions."""
        return categories(self.pairs)

    def directions(self, layer: Layer, standardiser: Standardiser, without: Sequence[str] = ()) -> Tensor:
        """Unit directions in standardised coordinates, [categories, d], the categories ``without`` left out."""
        source = self.difference[replace(layer, position="answer")] / standardiser.scale
        rows = [source[self._of(category)].mean(dim=0) for category in self.categories if category not in without]
        if not rows:
            return source[:0]
        return unit_rows(torch.stack(rows))

    def split_half(self, layer: Layer, standardiser: Standardiser) -> dict[str, float]:
        """Cosine between each category's direction from every other pair and that from the rest; below 0.5 is noise."""
        source = self.difference[replace(layer, position="answer")] / standardiser.scale
        halves = {c: source[self._of(c)] for c in self.categories}
        return {c: cosine(rows[::2].mean(dim=0), rows[1::2].mean(dim=0)) for c, rows in halves.items()}

    def _of(self, category: str) -> list[int]:
        return [row for row, pair in enumerate(self.pairs) if pair.category == category]


def read_contrast(engine: Engine, pairs: Sequence[ContrastPair], blocks: int) -> ContrastActivations:
    """Have the base read both answers of every pair."""
    layers = [Layer("decoder", index, "answer") for index in range(blocks)]
    if not pairs:
        return ContrastActivations((), {})
    safe = engine.teacher_forced([Conversation(pair.prompt, pair.safe) for pair in pairs], layers)
    harmful = engine.teacher_forced([Conversation(pair.prompt, pair.harmful) for pair in pairs], layers)
    difference = {layer: harmful[layer] - safe[layer] for layer in layers}
    if not all(torch.isfinite(rows).all() for rows in difference.values()):
        raise ContrastError("the base's activations over the contrast's answers are not finite")
    return ContrastActivations(tuple(pairs), difference)


def _pair(line: str, number: int, folder: Path) -> ContrastPair | str:
    try:
        row = _Line.model_validate(json.loads(line))
    except ValueError as error:
        if not isinstance(error, ValidationError):
            return f"not JSON ({error})"
        first = error.errors()[0]
        return f"{'.'.join(map(str, first['loc'])) or 'line'}: {first['msg']}"
    image = folder / row.image if row.image is not None else None
    if image is not None and not image.is_file():
        return f"picture {row.image!r} is missing"
    if row.safe_response.strip() == row.harmful_response.strip():
        return "safe_response and harmful_response are the same"
    prompt = Prompt(
        id=f"pair-{number}",
        modality="text" if image is None else "image",
        text=row.prompt,
        image=image,
        category=row.category or ONE,
    )
    return ContrastPair(prompt, row.safe_response, row.harmful_response, row.category or ONE)
