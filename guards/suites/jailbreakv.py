"""JailBreakV-28K (arXiv 2404.03027): CSV of jailbreak queries, each with a picture."""

from __future__ import annotations

from collections.abc import Sequence

from guards.suites.data_files import DataFile
from guards.suites.draft import Draft, Record

NAME = "JailBreakV-28K"
HOLDS = "a CSV with id, jailbreak_query, policy, image_path, and the pictures"


def fits(file: DataFile) -> bool:
    """Whether the file lists jailbreak queries with pictures."""
    return file.kind == "csv" and {"jailbreak_query", "image_path"} <= file.columns


def read(files: Sequence[DataFile], draft: Draft) -> None:
    """One prompt a row, to be refused. Rows of the small set that are also in the large one are asked once."""
    from_text = 0

    def take(row: Record) -> None:
        nonlocal from_text
        added = draft.add(
            row.place,
            id=row.label("id") or f"row-{row.number}",
            text=row.text("jailbreak_query"),
            image=draft.pictures.find(row.text("image_path")),
            category=row.label("policy") or "uncategorised",
            expected="refuse",
        )
        from_text += added is not None and str(row.row.get("transfer_from_llm")).lower() == "true"

    for file in files:
        draft.read(file, take)
    if from_text:
        draft.warnings.append(
            f"{from_text} prompts are text attacks with a picture beside them (transfer_from_llm): their text alone "
            "tells the harm, so they do not measure the picture"
        )
