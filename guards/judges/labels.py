"""What people said of transcripts: JSONL, one labelled answer a line, for comparing a judge with them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from adapters.adapter import DIGEST_PREFIX, digest_file
from adapters.prompts import Modality, Prompt
from guards.errors import Permanent
from guards.judges.interface import JudgingProtocol
from guards.judges.pictures import data_url

Model: TypeAlias = Literal["base", "adapter"]


class LabelsError(Permanent):
    """The labels cannot be used; the message names every problem, a line each."""

    def __init__(self, path: Path, problems: Sequence[str]) -> None:
        """Name the file and all that is wrong with it."""
        self.problems = tuple(problems)
        super().__init__(f"labels {path}: " + "\n  ".join(["correct this and run the same command again:", *problems]))


class _Row(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    id: str = Field(min_length=1)
    modality: Modality
    text: str = Field(min_length=1)
    answer: str
    image: str | None = None
    system: str | None = None
    category: str = "uncategorised"
    misaligned: bool | None = None
    alignment: float | None = Field(default=None, ge=0, le=100)
    coherent: bool = True
    model: Model | None = None
    other_answer: str | None = None


@dataclass(frozen=True, slots=True)
class Label:
    """One answer and what a person said of it."""

    prompt: Prompt
    """What was asked."""
    answer: str
    """What was answered; hostile like any judged text."""
    misaligned: bool
    """Whether the person found it harmful and coherent."""
    alignment: float | None
    """The person's own score, 0 to 100, higher is better; None where they gave none."""
    model: Model | None
    """Whose answer it is, where that was said."""
    other_answer: str | None
    """What the comparative protocol shows beside it: the base's answer, or an adapter's where this is the base's."""

    @property
    def question(self) -> str:
        """The same for all answers to one question."""
        return json.dumps([self.prompt.system, self.prompt.asked, str(self.prompt.image)])


@dataclass(frozen=True, slots=True)
class Labels:
    """All rows of one file."""

    rows: tuple[Label, ...]
    """In the file's order."""
    digest: str
    """SHA-256 over the file and the pictures that it names."""


def read_labels(path: Path, misaligned_below: float, protocol: JudgingProtocol = "absolute") -> Labels:
    """Read labels. A person may say whether an answer is misaligned, or score it, or both.

    Args:
        path: the file.
        misaligned_below: where a score without a word counts as misaligned, if the answer is coherent.
        protocol: the judge's; a comparative one needs ``other_answer`` in every row.

    Raises:
        LabelsError: anything is wrong; all problems at once, by line.
    """
    try:
        raw = path.read_bytes()
        lines = raw.decode("utf-8-sig").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise LabelsError(path, [getattr(error, "strerror", None) or str(error)]) from error
    whole, problems = hashlib.sha256(raw), list[str]()
    rows: dict[str, Label] = {}
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        row = _parsed(line)
        found = [row] if isinstance(row, str) else _contradictions(row, misaligned_below, protocol)
        if isinstance(row, _Row):
            found += [f"duplicate id {row.id!r}"] if row.id in rows else []
            picture = path.parent / row.image if row.image is not None else None
            found += _unusable(picture)
            if not found:
                rows[row.id] = _label(row, picture, misaligned_below)
                whole.update((digest_file(picture) if picture is not None else "").encode())
        problems += [f"line {number}: {problem}" for problem in found]
    if not rows and not problems:
        problems.append("no row in it")
    if problems:
        raise LabelsError(path, problems)
    return Labels(tuple(rows.values()), DIGEST_PREFIX + whole.hexdigest())


def _parsed(line: str) -> _Row | str:
    try:
        return _Row.model_validate_json(line)
    except ValidationError as error:
        told = []
        for item in error.errors():
            place = ".".join(map(str, item["loc"]))
            cause = "unknown key (a typo?)" if item["type"] == "extra_forbidden" else item["msg"]
            told.append(f"{place}: {cause}" if place else cause)
        return "; ".join(told)


def _contradictions(row: _Row, below: float, protocol: JudgingProtocol) -> list[str]:
    found = []
    if row.misaligned is None and row.alignment is None:
        found.append("says neither 'misaligned' nor 'alignment'")
    if row.misaligned and not row.coherent:
        found.append("'misaligned' is true of an answer that is not coherent; misaligned is harmful and coherent")
    if row.misaligned is not None and row.alignment is not None:
        low = row.alignment < below and row.coherent
        if low != row.misaligned:
            found.append(
                f"'misaligned' is {str(row.misaligned).lower()}, but alignment {row.alignment:g} says otherwise "
                f"(misaligned is below {below:g} and coherent)"
            )
    if (row.image is not None) != (row.modality == "image"):
        found.append("a picture is given exactly when the modality is 'image'")
    if protocol == "comparative" and row.other_answer is None:
        found.append("'other_answer' is missing, which the comparative protocol shows beside the answer")
    return found


def _unusable(picture: Path | None) -> list[str]:
    if picture is None:
        return []
    try:
        data_url(picture)
    except Permanent as error:
        return [
            str(error).replace("repair the suite's file", "correct the row").replace("repair the suite", "correct it")
        ]
    return []


def _label(row: _Row, picture: Path | None, below: float) -> Label:
    prompt = Prompt(row.id, row.modality, row.text, image=picture, system=row.system, category=row.category)
    scored = row.alignment is not None and row.alignment < below and row.coherent
    misaligned = scored if row.misaligned is None else row.misaligned
    return Label(prompt, row.answer, misaligned, row.alignment, row.model, row.other_answer)
