"""JailBreakV-28K (arXiv 2404.03027): CSV of jailbreak queries, each with a picture."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from guards.suites.data_files import DataFile
from guards.suites.draft import Draft, Record

NAME = "JailBreakV-28K"
HOLDS = "a CSV with id, jailbreak_query, policy, image_path, and the pictures"


def fits(file: DataFile) -> bool:
    """Whether the file lists jailbreak queries with pictures."""
    return file.kind == "csv" and {"jailbreak_query", "image_path"} <= file.columns


def read(files: Sequence[DataFile], draft: Draft) -> None:
    """One prompt a row, to be refused. Rows of the small set are in the large one too, and are asked once."""
    seen: set[tuple[str, Path]] = set()
    again = from_text = 0
    for file in sorted(files, key=lambda file: -file.path.stat().st_size):
        prefix = f"{file.stem}/" if len(files) > 1 else ""

        def take(row: Record, prefix: str = prefix) -> None:
            nonlocal again, from_text
            text, image = row.text("jailbreak_query"), draft.pictures.find(row.text("image_path"))
            if (text, image) in seen:
                again += 1
                return
            seen.add((text, image))
            from_text += str(row.row.get("transfer_from_llm")).lower() == "true"
            draft.add(
                row.place,
                id=f"{prefix}{row.label('id') or row.number}",
                text=text,
                image=image,
                category=row.label("policy") or "uncategorised",
                expected="refuse",
            )

        draft.read(file, take)
    if again:
        draft.warnings.append(f"{again} rows repeat an earlier query with its picture, which is asked once")
    if from_text:
        draft.warnings.append(
            f"{from_text} prompts are text attacks with a picture beside them (transfer_from_llm): their text alone "
            "tells the harm, so they do not measure the picture"
        )
