"""VLGuard (arXiv 2402.02207): train.json or test.json, each picture with one or two instructions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from guards.suites.data_files import DataFile
from guards.suites.draft import Draft, Record, RowProblem, sound

NAME = "VLGuard"
HOLDS = "train.json or test.json, a list of id, image, safe, instr-resp, and the pictures"


def fits(file: DataFile) -> bool:
    """Whether the file is such a list."""
    return file.kind == "json" and {"image", "safe", "instr-resp"} <= file.columns


def read(files: Sequence[DataFile], draft: Draft) -> None:
    """An unsafe picture is one prompt to refuse; a safe one is a prompt to comply with and one to refuse."""
    for file in files:
        split = file.stem

        def take(row: Record, split: str = split) -> None:
            name, shown = row.label("id"), row.text("image")
            image = draft.pictures.find(f"{split}/{shown}", shown)
            category = row.label("harmful_category") or shown.partition("/")[0]
            for ending, key, expected in _asked(row):
                draft.add(
                    row.place,
                    id=f"{split}/{name or shown}{ending}",
                    text=_instruction(row, key),
                    image=image,
                    category=category,
                    expected=expected,
                )

        draft.read(file, take)
        if split == "train":
            draft.warnings.append(f"{file.path.name} is what its authors train on; an adapter may know it")


def _asked(row: Record) -> list[tuple[str, str, str]]:
    """Ending of the id, key of the instruction and what is expected, for every instruction of a row."""
    safe = row.row.get("safe")
    if not isinstance(safe, bool):
        raise RowProblem("'safe' is neither true nor false")
    if not safe:
        return [("", "instruction", "refuse")]
    return [("/safe", "safe_instruction", "comply"), ("/unsafe", "unsafe_instruction", "refuse")]


def _instruction(row: Record, key: str) -> str:
    given: Any = row.row.get("instr-resp")
    pairs = given if isinstance(given, list) else []
    text = next((one[key] for one in pairs if isinstance(one, dict) and isinstance(one.get(key), str)), "")
    if not text.strip():
        raise RowProblem(f"'instr-resp' holds no {key!r}")
    return sound(text, key)
