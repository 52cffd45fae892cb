"""BeaverTails-V (arXiv 2503.17682): Parquet, a folder a category, several judged answers to the same question."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from guards.suites.data_files import DataFile
from guards.suites.draft import Draft, Record
from guards.suites.embedded import embedded_picture

NAME = "BeaverTails-V"
HOLDS = "CATEGORY/evaluation.parquet with question, image, response, is_response_safe"


def fits(file: DataFile) -> bool:
    """Whether the file has questions with judged answers."""
    return file.kind == "parquet" and {"question", "image", "is_response_safe"} <= file.columns


def read(files: Sequence[DataFile], draft: Draft) -> None:
    """One prompt a question and picture, for the judge: the label is of the answer that stands there, not of ours."""
    seen: set[tuple[str, Path]] = set()
    again = 0
    for file in files:
        category = file.path.parent.name if file.path.parent != draft.folder else file.stem

        def take(row: Record, file: DataFile = file, category: str = category) -> None:
            nonlocal again
            question, image = row.text("question"), embedded_picture(row)
            if (question, image) in seen:
                again += 1
                return
            seen.add((question, image))
            name = f"{category}/{file.stem}/{row.number}" if category != file.stem else f"{category}/{row.number}"
            draft.add(row.place, id=name, text=question, image=image, category=row.label("category") or category)

        draft.read(file, take)
    if again:
        draft.warnings.append(f"{again} rows are further answers to a question with its picture, which is asked once")
