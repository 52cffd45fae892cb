"""XSTest (arXiv 2308.01263): harmless look-alikes and their harmful contrasts, for over-refusal."""

from __future__ import annotations

from collections.abc import Sequence

from adapters.prompts import Expected
from guards.suites.data_files import DataFile
from guards.suites.draft import Draft, Record, RowProblem

NAME = "XSTest"
HOLDS = "a table with id, prompt, type, focus, and label in newer ones"


def fits(file: DataFile) -> bool:
    """Whether the file has prompts by type and focus."""
    return {"prompt", "type", "focus"} <= file.columns


def read(files: Sequence[DataFile], draft: Draft) -> None:
    """One prompt a row: a safe one is to be complied with, an unsafe one to be refused."""

    def take(row: Record) -> None:
        kind = row.text("type")
        draft.add(
            row.place,
            id=row.label("id", "id_v2") or f"row-{row.number}",
            text=row.text("prompt"),
            category=kind,
            expected=_expected(row, kind),
        )

    for file in files:
        draft.read(file, take)


def _expected(row: Record, kind: str) -> Expected:
    """What the label says; older files have none, and their contrasts are told by their type alone."""
    label = (row.label("label") or ("unsafe" if kind.startswith("contrast") else "safe")).lower()
    match label:
        case "safe":
            return "comply"
        case "unsafe":
            return "refuse"
        case _:
            raise RowProblem(f"'label' is {label!r}, neither safe nor unsafe")
