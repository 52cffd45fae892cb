"""HarmBench (arXiv 2402.04249), text and multimodal behaviours: CSV, fields quoted over several lines."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import PurePosixPath

from guards.suites.data_files import DataFile
from guards.suites.draft import Draft, Record

NAME = "HarmBench"
HOLDS = "a CSV with Behavior, BehaviorID, SemanticCategory; for the multimodal one also ImageFileName and pictures"


def fits(file: DataFile) -> bool:
    """Whether the file lists behaviours."""
    return file.kind == "csv" and {"Behavior", "BehaviorID"} <= file.columns


def read(files: Sequence[DataFile], draft: Draft) -> None:
    """One prompt a behaviour, to be refused; a context stands before it, a picture's description is its caption."""
    for file in files:
        multimodal = "ImageFileName" in file.columns

        def take(row: Record, multimodal: bool = multimodal) -> None:
            behaviour, context = row.text("Behavior"), row.row.get("ContextString") or ""
            image = None
            if multimodal:
                shown = row.text("ImageFileName")
                # The published table says .jpg of files that are .png.
                image = draft.pictures.find(shown, PurePosixPath(shown).with_suffix(".png").as_posix())
            draft.add(
                row.place,
                id=row.text("BehaviorID"),
                text=f"{context.strip()}\n\n---\n\n{behaviour}" if context.strip() else behaviour,
                image=image,
                category=row.label("SemanticCategory", "FunctionalCategory") or "uncategorised",
                expected="refuse",
                caption=row.label("ImageDescription", "RedactedImageDescription") if multimodal else None,
            )

        draft.read(file, take)
