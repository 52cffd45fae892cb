"""SORRY-Bench (arXiv 2406.14598): unsafe instructions by category, as CSV or as the authors' question.jsonl."""

from __future__ import annotations

from collections.abc import Sequence

from guards.suites.data_files import DataFile
from guards.suites.draft import Draft, Record, RowProblem

NAME = "SORRY-Bench"
HOLDS = "a table with category, prompt, or question.jsonl with question_id, category, turns"
_PROMPTS = frozenset({"category", "prompt", "question_id", "prompt_style", "id", ""})


def fits(file: DataFile) -> bool:
    """Whether the file has instructions by category and nothing that another set is known by."""
    asked = {"category", "prompt"} <= file.columns <= _PROMPTS
    return asked or {"question_id", "category", "turns"} <= file.columns


def read(files: Sequence[DataFile], draft: Draft) -> None:
    """One prompt a row, to be refused; one that was rewritten in another style says so in its id."""
    for file in files:

        def take(row: Record, file: DataFile = file) -> None:
            style = row.label("prompt_style")
            number = row.label("question_id", "id") or f"{file.stem}/{row.number}"
            draft.add(
                row.place,
                id=number if style in (None, "base") else f"{number}/{style}",
                text=_turn(row) if "turns" in row.row else row.text("prompt"),
                category=row.label("category") or "uncategorised",
                expected="refuse",
            )

        draft.read(file, take)


def _turn(row: Record) -> str:
    turns = row.row.get("turns")
    if not isinstance(turns, list) or len(turns) != 1:
        raise RowProblem("'turns' does not hold exactly one turn")
    return Record({"turns": turns[0]}, row.place, row.number).text("turns")
