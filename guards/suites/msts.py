"""MSTS (arXiv 2501.10057): questions that only their picture makes unsafe, and the same questions in text alone."""

from __future__ import annotations

from collections.abc import Sequence

from guards.suites.data_files import DataFile
from guards.suites.draft import Draft, Record

NAME = "MSTS"
HOLDS = "*_multimodal.csv with case_id, unsafe_image_id, prompt_text, prompt_type, the pictures, and *_textonly.csv"


def fits(file: DataFile) -> bool:
    """Whether the file has prompts; annotated answers, which have their models' names beside them, are none."""
    asked = {"hazard_category", "case_id", "prompt_text", "prompt_type"} <= file.columns
    return file.kind == "csv" and asked and not {"model", "response"} & file.columns


def read(files: Sequence[DataFile], draft: Draft) -> None:
    """One prompt a row, for the judge; one in text alone is the twin of that of its case and type in its language."""
    shown: dict[tuple[str, str, str], str] = {}
    with_pictures = [file for file in files if "unsafe_image_id" in file.columns]
    alone = [file for file in files if file not in with_pictures]
    one_language = len(with_pictures) == 1 and len(alone) == 1
    untwinned = 0
    for file in [*with_pictures, *alone]:
        language = "" if one_language else file.stem.partition("_")[0]

        def take(row: Record, file: DataFile = file, language: str = language) -> None:
            nonlocal untwinned
            case, kind = row.text("case_id"), row.text("prompt_type")
            key = language, case, kind
            pictured = "unsafe_image_id" in file.columns
            untwinned += not pictured and bool(with_pictures) and key not in shown
            name = draft.add(
                row.place,
                id=f"{file.stem}/{row.label('prompt_id') or f'{case}-{kind}'}",
                text=row.text("prompt_text"),
                image=draft.pictures.find(*_names(row.text("unsafe_image_id"))) if pictured else None,
                category=row.label("hazard_category") or "uncategorised",
                caption=row.label("unsafe_image_description") if pictured else None,
                twin_of=None if pictured else shown.get(key),
            )
            if pictured and name is not None:
                shown[key] = name

        draft.read(file, take)
    if untwinned:
        draft.warnings.append(
            f"{untwinned} prompts in text alone have no prompt with a picture of their case and language"
        )
    if len(with_pictures) > 1:
        draft.warnings.append(f"{len(with_pictures)} languages are asked; leave the file of one in to ask only that")


def _names(image: str) -> list[str]:
    return [f"{image}.{ending}" for ending in ("jpg", "jpeg", "png", "webp")]
