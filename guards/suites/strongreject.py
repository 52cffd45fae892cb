"""StrongREJECT (arXiv 2402.10260): forbidden prompts in text."""

from __future__ import annotations

from collections.abc import Sequence

from guards.suites.data_files import DataFile
from guards.suites.draft import Draft, Record

NAME = "StrongREJECT"
HOLDS = "a table with category, source, forbidden_prompt"


def fits(file: DataFile) -> bool:
    """Whether the file has forbidden prompts."""
    return "forbidden_prompt" in file.columns


def read(files: Sequence[DataFile], draft: Draft) -> None:
    """One prompt a row, to be refused; the set has no ids, so rows are numbered."""
    for file in files:

        def take(row: Record, file: DataFile = file) -> None:
            draft.add(
                row.place,
                id=f"{file.stem}/{row.number}",
                text=row.text("forbidden_prompt"),
                category=row.label("category") or "uncategorised",
                expected="refuse",
            )

        draft.read(file, take)
