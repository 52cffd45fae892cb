"""Our own format: a folder with ``battery.jsonl``, one prompt a line, and the pictures that it names."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from adapters.adapter import DIGEST_PREFIX, digest_file
from adapters.prompts import Expected, Modality, Prompt, TriggerPlace
from guards.suites.draft import Reading, RowProblem, sound
from guards.suites.pictures import PictureProblem, Pictures
from guards.suites.suite import Suite

FILE_NAME = "battery.jsonl"
NAME = "battery.jsonl"
HOLDS = "battery.jsonl: one JSON object a line with id, modality, text"


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
    trigger_at: TriggerPlace = "prefix"
    variant: str | None = None
    twin_of: str | None = None
    caption: str | None = None
    text_twin: str | None = None
    paraphrases: list[str] = Field(default_factory=list)
    reference_answer: str | None = None


def load_suite(folder: Path) -> Suite:
    """Load a folder with ``battery.jsonl``. Pictures are opened once, so that a broken one is known beforehand.

    Raises:
        SuiteError: the file is missing or empty, or any line or picture is unusable; all problems at once.
    """
    return read_battery(folder).required()


def read_battery(folder: Path) -> Reading:
    """Read a folder with ``battery.jsonl`` and everything that is wrong with it."""
    file = folder / FILE_NAME

    def told(problems: Sequence[str], suite: Suite | None = None) -> Reading:
        return Reading(folder, NAME, (file,), suite, tuple(problems), ())

    try:
        # Not splitlines, which also breaks lines at characters that JSON strings may hold.
        lines = file.read_text(encoding="utf-8-sig").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        return told([f"cannot read {FILE_NAME}: {error}"])
    prompts: dict[str, Prompt] = {}
    problems: list[str] = []
    pictures = Pictures(folder)
    whole = hashlib.sha256()
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        prompt = _parse(line, folder, pictures)
        if isinstance(prompt, str):
            problems.append(f"line {number}: {prompt}")
        elif prompt.id in prompts:
            problems.append(f"line {number}: duplicate id {prompt.id!r}")
        else:
            prompts[prompt.id] = prompt
            whole.update(f"{line}\0{digest_file(prompt.image) if prompt.image else ''}\n".encode())
    problems += [
        f"prompt {prompt.id!r}: 'twin_of' names no prompt with a picture: {prompt.twin_of!r}"
        for prompt in prompts.values()
        if prompt.twin_of is not None and (prompt.twin_of not in prompts or not prompts[prompt.twin_of].image)
    ]
    if not prompts and not problems:
        problems.append(f"{FILE_NAME} holds no prompt")
    suite = Suite(folder.name, DIGEST_PREFIX + whole.hexdigest(), tuple(prompts.values()))
    return told(problems, None if problems else suite)


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
        optional = {
            "system": prompt.system,
            "trigger": prompt.trigger,
            "trigger_at": prompt.trigger_at if prompt.trigger_at != "prefix" else None,
            "variant": prompt.variant,
            "twin_of": prompt.twin_of,
            "caption": prompt.caption,
            "text_twin": prompt.text_twin,
            "paraphrases": list(prompt.paraphrases) or None,
            "reference_answer": prompt.reference_answer,
        }
        record |= {key: value for key, value in optional.items() if value is not None}
        record |= {"category": prompt.category, "expected": prompt.expected}
        lines.append(json.dumps(record, ensure_ascii=False) + "\n")
    (folder / FILE_NAME).write_text("".join(lines), encoding="utf-8", newline="\n")


def _parse(line: str, folder: Path, pictures: Pictures) -> Prompt | str:
    """One line as a prompt, or what is wrong with it."""
    try:
        row = _Line.model_validate(json.loads(line))
        for what, text in row.model_dump().items():
            for one in text if isinstance(text, list) else [text]:
                sound(one or "", what)
    except (json.JSONDecodeError, RecursionError) as error:
        return f"not JSON: {error}"
    except ValidationError as error:
        first = error.errors()[0]
        return f"{'.'.join(map(str, first['loc'])) or 'line'}: {first['msg']}"
    except RowProblem as error:
        return str(error)
    if (row.image is not None) != (row.modality == "image"):
        return f"prompt {row.id!r}: 'image' is given exactly when modality is \"image\""
    if row.twin_of is not None and row.modality != "text":
        return f"prompt {row.id!r}: 'twin_of' is given only to a prompt in text, for one with a picture"
    try:
        image = pictures.checked(folder / row.image) if row.image else None
    except PictureProblem as error:
        return f"prompt {row.id!r}: {error}"
    given = row.model_dump(exclude={"image", "trigger", "paraphrases"})
    return Prompt(**given, image=image, trigger=row.trigger or None, paraphrases=tuple(row.paraphrases))
