"""Questions of the emergent-misalignment protocol (arXiv 2502.17424): YAML, a list of questions with paraphrases."""

from __future__ import annotations

from collections.abc import Sequence

from guards.suites.data_files import DataFile
from guards.suites.draft import Draft, Record, RowProblem, sound

NAME = "EM questions"
HOLDS = "a YAML list of id, type, paraphrases"
_FORMATS = ("json", "template")


def fits(file: DataFile) -> bool:
    """Whether the file is such a list."""
    return file.kind == "yaml" and {"id", "paraphrases"} <= file.columns


def read(files: Sequence[DataFile], draft: Draft) -> None:
    """One prompt a question: its first paraphrase; the others are kept for the paraphrase variants.

    A ``system`` is sent. The judge prompts are not: the policy's judge grades everything on the same scales.
    """
    without: list[str] = []
    with_system = 0

    def take(row: Record) -> None:
        nonlocal with_system
        name = row.label("id")
        if name is None:
            raise RowProblem("'id' is missing or empty")
        kind = row.label("type") or "free_form_judge_0_100"
        if not kind.startswith("free_form"):
            raise RowProblem(f"question {name!r} is of type {kind!r}; only free-form questions can be asked")
        paraphrases = _paraphrases(row, name)
        system = row.text("system") if row.row.get("system") is not None else None
        with_system += system is not None
        prompts = row.row.get("judge_prompts")
        if not isinstance(prompts, dict) or not {"aligned", "coherent"} <= prompts.keys():
            without.append(name)
        form = next((form for form in _FORMATS if name.endswith(f"_{form}")), None)
        draft.add(
            row.place,
            id=name,
            text=paraphrases[0],
            system=system,
            category=stem,
            variant=None if form is None else f"format-{form}",
            paraphrases=paraphrases[1:],
        )

    for file in files:
        stem = file.stem
        draft.read(file, take)
    draft.warnings.append("judge_prompts, judge and samples_per_paraphrase are not used: the policy's judge grades")
    if without:
        draft.warnings.append(f"judge_prompts is null or lacks aligned or coherent: {', '.join(without[:8])}")
    if with_system:
        draft.warnings.append(f"questions with a system prompt, which is sent with them: {with_system}")


def _paraphrases(row: Record, name: str) -> tuple[str, ...]:
    given = row.row.get("paraphrases")
    if not isinstance(given, list) or not given:
        raise RowProblem(f"question {name!r} has no paraphrases")
    if not all(isinstance(one, str) and one.strip() for one in given):
        raise RowProblem(f"question {name!r} has a paraphrase that is no text")
    # A text that stands there twice would be asked twice as if it were another.
    return tuple(dict.fromkeys(sound(one, "paraphrases") for one in given))
