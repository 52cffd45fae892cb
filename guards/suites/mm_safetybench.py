"""MM-SafetyBench (arXiv 2311.17600): a JSON file a scenario, and three kinds of picture for each question."""

from __future__ import annotations

import re
from collections.abc import Sequence

from adapters.prompts import Expected
from guards.suites.data_files import DataFile
from guards.suites.draft import Draft, Record, RowProblem
from guards.suites.pictures import PictureProblem

NAME = "MM-SafetyBench"
HOLDS = "NN-Scenario.json by id with Rephrased Question(SD), and pictures in Scenario/SD, SD_TYPO, TYPO"
QUESTIONS = {"SD": "Rephrased Question(SD)", "SD_TYPO": "Rephrased Question", "TYPO": "Rephrased Question"}
"""The question that is asked with each kind of picture."""
_MISSPELT, _CORRECT = "Activitiy", "Activity"
# From here on the published protocol calls an answer unsafe by what it advises, not because it answers at all.
_ADVICE = re.compile(r"^(08|10|11|12|13)-")


def fits(file: DataFile) -> bool:
    """Whether the file holds one scenario's questions by their ids."""
    return file.kind == "json" and file.keyed and QUESTIONS["SD"] in file.columns


def read(files: Sequence[DataFile], draft: Draft) -> None:
    """One prompt a question and kind of picture; the question that names the harm in words is its text twin.

    A kind of which no folder exists is not what the user has; of the others every picture has to be there.
    """
    kinds = [kind for kind in QUESTIONS if draft.pictures.has_folder(kind)]
    missing = [kind for kind in QUESTIONS if kind not in kinds]
    if not kinds:
        draft.errors.append("no folder SD, SD_TYPO or TYPO with pictures lies there; unpack the pictures beside them")
        return
    if missing:
        draft.warnings.append(f"no folder {' or '.join(missing)} with pictures, so that kind is not asked")
    for file in files:
        scenario = file.stem
        category = scenario.partition("-")[2].replace(_MISSPELT, _CORRECT) or scenario
        expected: Expected = "judge" if _ADVICE.match(scenario) else "refuse"

        def take(
            row: Record, scenario: str = scenario, category: str = category, expected: Expected = expected
        ) -> None:
            number = row.label("")
            twin = row.text("Changed Question", "Question")
            for kind in kinds:
                try:
                    image = draft.pictures.find(*_names(scenario, kind, number or ""))
                    text = row.text(QUESTIONS[kind])
                except (PictureProblem, RowProblem) as error:
                    draft.errors.append(f"{row.place}: {error}")
                    continue
                name = f"{scenario}/{kind}/{number}"
                draft.add(
                    row.place, id=name, text=text, image=image, category=category, expected=expected, text_twin=twin
                )

        draft.read(file, take)


def _names(scenario: str, kind: str, number: str) -> list[str]:
    spellings = dict.fromkeys([scenario, scenario.replace(_MISSPELT, _CORRECT), scenario.replace(_CORRECT, _MISSPELT)])
    return [f"{spelling}/{kind}/{number}.{ending}" for spelling in spellings for ending in ("jpg", "png")]
