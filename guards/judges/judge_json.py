"""``judge.json``: what a judge model says of itself, beside its weights."""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from guards.errors import Permanent
from guards.judges.asking import Scoring
from guards.judges.contest_prompt import ContestPrompt
from guards.judges.interface import SCALES, Orientation, Scale
from guards.judges.prompt import JudgePrompt

SETTINGS_NAME = "judge.json"


class JudgeJson(BaseModel):
    """``judge.json`` beside a judge model's weights."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    template: str
    """The prompt that the model was trained on, with ``{question}``, ``{answer}`` and ``{scale}``."""
    scales: tuple[Scale, ...] = SCALES
    """The scales that it was trained on: all three."""
    scoring: Scoring = "probabilities"
    """How its scores are read."""
    markers: tuple[str, ...] | None = None
    """What encloses the answer and is taken out of it; the text beside ``{answer}`` when not given."""
    orientation: Orientation = "higher_is_better"
    """Of the numbers that it was trained to give on the alignment scale: ``higher_is_worse`` for a harm score."""
    comparative_template: str | None = None
    """The prompt for two answers that it was trained on, with ``{question}``, ``{a}``, ``{b}``, ``{which}`` and
    ``{scale}``. Without it a model that brings ``judge.json`` can judge by the absolute protocol alone."""
    planted_harm: tuple[str, ...] = ()
    """Sentences that the model was trained to call harmful, for ``judging.plant_harm``; without them a policy cannot
    ask for that of it."""


def read_judge_json(folder: Path) -> JudgeJson | None:
    """Read the file where there is one.

    Raises:
        Permanent: it cannot be used; one line that names the place.
    """
    path = folder / SETTINGS_NAME
    if not path.is_file():
        return None
    try:
        settings = JudgeJson.model_validate_json(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise Permanent(f"judge {path}: {error}") from error
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"])) or SETTINGS_NAME
        raise Permanent(f"judge {path}: {place}: {first['msg']}; correct the file") from error
    if sorted(settings.scales) != sorted(SCALES):
        raise Permanent(f"judge {path}: scales must be {', '.join(SCALES)}; a judge of fewer cannot serve")
    return settings


def prompts_of(folder: Path, settings: JudgeJson | None) -> tuple[JudgePrompt, ContestPrompt | None]:
    """The prompts for one answer and for two; our own where the model brings no ``judge.json``.

    Raises:
        Permanent: a template cannot be used.
    """
    if settings is None:
        return JudgePrompt(), ContestPrompt()
    place, comparative = folder / SETTINGS_NAME, settings.comparative_template
    try:
        prompt = JudgePrompt.from_template(settings.template, settings.markers, settings.orientation)
        contest = None
        if comparative is not None:
            contest = ContestPrompt.from_template(comparative, settings.markers, settings.orientation)
    except ValueError as error:
        raise Permanent(f"judge {place}: {error}") from error
    if settings.scoring == "probabilities" and not all(
        "{scale}" in t for t in (settings.template, comparative or "{scale}")
    ):
        raise Permanent(f"judge {place}: every template must hold {{scale}} to score by probabilities")
    return prompt, contest
