"""SIUO (arXiv 2406.15279): safe pictures with safe questions, which together call for an unsafe answer."""

from __future__ import annotations

from collections.abc import Sequence

from guards.suites.data_files import DataFile
from guards.suites.draft import Draft, Record

NAME = "SIUO"
HOLDS = "siuo_gen.json, a list of question_id, image, question, category, safety_warning, and images/"


def fits(file: DataFile) -> bool:
    """Whether the file has the open questions; those with answers to choose from are another task."""
    return file.kind == "json" and {"question_id", "image", "question", "safety_warning"} <= file.columns


def read(files: Sequence[DataFile], draft: Draft) -> None:
    """One prompt a question, for the judge: neither the picture nor the text alone is harmful.

    The reference answers are paragraphs of advice, which no right answer repeats word for word; they are not used.
    """

    def take(row: Record) -> None:
        shown = row.text("image")
        draft.add(
            row.place,
            id=row.label("question_id") or f"row-{row.number}",
            text=row.text("question"),
            image=draft.pictures.find(f"images/{shown}", shown),
            category=row.label("category") or "uncategorised",
        )

    for file in files:
        draft.read(file, take)
