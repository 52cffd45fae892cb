"""SPA-VL (arXiv 2406.12030): questions about pictures, JSON with picture files or Parquet with pictures inside."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from guards.suites.data_files import DataFile
from guards.suites.draft import Draft, Record
from guards.suites.embedded import embedded_picture

NAME = "SPA-VL"
HOLDS = "JSON of image, question, chosen, rejected with picture files, or Parquet with image, question, class1"


def fits(file: DataFile) -> bool:
    """Whether the file has the questions of its training, validation or test part."""
    asked = {"image", "question"} <= file.columns
    return file.kind in ("json", "parquet") and asked and bool({"chosen", "class1"} & file.columns)


def read(files: Sequence[DataFile], draft: Draft) -> None:
    """One prompt a row, for the judge. Chosen and rejected answers are preferences and are not used."""
    for file in files:

        def take(row: Record, file: DataFile = file) -> None:
            parquet = file.kind == "parquet"
            image = embedded_picture(row) if parquet else draft.pictures.find(row.text("image"))
            number = row.number if parquet else row.label("id", "") or row.number
            draft.add(
                row.place,
                id=f"{file.stem}/{number}",
                text=row.text("question"),
                image=image,
                category=row.label("class1") or _first_folder(row) or "uncategorised",
            )

        draft.read(file, take)


def _first_folder(row: Record) -> str | None:
    """The kind of harm, by which the published pictures are sorted into folders."""
    image = row.row.get("image")
    parts = [part for part in Path(image).parts if part != "/"] if isinstance(image, str) else []
    return parts[0] if len(parts) > 1 else None
