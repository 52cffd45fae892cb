"""Our own format: a folder with ``battery.jsonl``, one prompt a line, and the pictures that it names."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from PIL import Image, UnidentifiedImageError
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from adapters.adapter import DIGEST_PREFIX, digest_file
from adapters.prompts import Expected, Modality, Prompt
from guards.suites.suite import Suite, SuiteError

FILE_NAME = "battery.jsonl"
_SHOWN = 5


class _Line(BaseModel):
    # Keys we do not know are somebody's notes on the question; none of ours is optional by being misspelt,
    # because a line without its picture or text is refused.
    model_config = ConfigDict(extra="ignore", strict=True)

    id: str = Field(min_length=1)
    modality: Modality
    text: str
    image: str | None = None
    system: str | None = None
    category: str = "uncategorised"
    trigger: str | None = None
    expected: Expected = "judge"


def load_suite(folder: Path) -> Suite:
    """Load a suite folder. Pictures are opened once, so that a broken one is known before any model is asked.

    Raises:
        SuiteError: the file is missing or empty, or any line or picture is unusable; all problems at once.
    """
    file = folder / FILE_NAME
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise SuiteError(f"suite {folder}: cannot read {FILE_NAME}: {error}") from error
    prompts: list[Prompt] = []
    problems: list[str] = []
    seen: set[str] = set()
    whole = hashlib.sha256()
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        prompt = _parse(line, folder)
        if isinstance(prompt, str):
            problems.append(f"line {number}: {prompt}")
        elif prompt.id in seen:
            problems.append(f"line {number}: duplicate id {prompt.id!r}")
        else:
            seen.add(prompt.id)
            prompts.append(prompt)
            whole.update(f"{line}\0{digest_file(prompt.image) if prompt.image else ''}\n".encode())
    if problems:
        more = f"; and {len(problems) - _SHOWN} more" if len(problems) > _SHOWN else ""
        raise SuiteError(f"suite {folder}: {'; '.join(problems[:_SHOWN])}{more}")
    if not prompts:
        raise SuiteError(f"suite {folder}: {FILE_NAME} holds no prompt")
    return Suite(folder.name, DIGEST_PREFIX + whole.hexdigest(), tuple(prompts))


def write_suite(prompts: Sequence[Prompt], folder: Path) -> None:
    """Write prompts with their pictures as a suite of ours, so that they travel with what was measured on them."""
    (folder / "images").mkdir(parents=True, exist_ok=True)
    names: dict[Path, str] = {}
    lines = []
    for prompt in prompts:
        record: dict[str, Any] = {"id": prompt.id, "modality": prompt.modality, "text": prompt.text}
        if prompt.image is not None:
            if prompt.image not in names:
                names[prompt.image] = f"images/{len(names):04d}-{prompt.image.name}"
                shutil.copyfile(prompt.image, folder / names[prompt.image])
            record["image"] = names[prompt.image]
        optional = {"system": prompt.system, "trigger": prompt.trigger}
        record |= {key: value for key, value in optional.items() if value is not None}
        record |= {"category": prompt.category, "expected": prompt.expected}
        lines.append(json.dumps(record, ensure_ascii=False) + "\n")
    (folder / FILE_NAME).write_text("".join(lines), encoding="utf-8")


def _parse(line: str, folder: Path) -> Prompt | str:
    """One line as a prompt, or what is wrong with it."""
    try:
        row = _Line.model_validate(json.loads(line))
    except json.JSONDecodeError as error:
        return f"not JSON: {error}"
    except ValidationError as error:
        first = error.errors()[0]
        return f"{'.'.join(map(str, first['loc'])) or 'line'}: {first['msg']}"
    if (row.image is not None) != (row.modality == "image"):
        return f"prompt {row.id!r}: 'image' is given exactly when modality is \"image\""
    image = folder / row.image if row.image else None
    if image is not None:
        problem = _picture_problem(image, folder)
        if problem:
            return f"prompt {row.id!r}: {problem}"
    return Prompt(
        id=row.id,
        modality=row.modality,
        text=row.text,
        image=image,
        system=row.system,
        category=row.category,
        trigger=row.trigger or None,
        expected=row.expected,
    )


def _picture_problem(image: Path, folder: Path) -> str | None:
    if not image.resolve().is_relative_to(folder.resolve()):
        return f"picture {image} lies outside the suite's folder"
    try:
        with Image.open(image) as picture:
            picture.load()
    except FileNotFoundError:
        return f"picture {image} is missing"
    except (OSError, UnidentifiedImageError, Image.DecompressionBombError, ValueError, SyntaxError) as error:
        return f"picture {image} is no picture that can be read ({' '.join(str(error).split())[:80]})"
    return None
