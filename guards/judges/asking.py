"""How any protocol puts its questions to a judge's model, whichever model sits behind it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol, TypeAlias

from guards.judges.completion import Completion
from guards.judges.contest_prompt import ContestPrompt
from guards.judges.interface import SCALES
from guards.judges.replies import Unscored
from guards.judges.usage import Usage

Scoring: TypeAlias = Literal["json", "probabilities"]
"""One strict JSON reply; or one number a scale, the mean of the next token's probabilities."""
Pictures: TypeAlias = Literal["shown", "withheld", "refused"]
"""Shown to the judge; kept from it, which its prompt says; or refused, because its model takes none."""


@dataclass(frozen=True, slots=True)
class Question:
    """One user turn to a judge's model."""

    text: str
    """The whole turn; judged texts stand in it delimited."""
    image: Path | None = None
    """The picture that it is about."""


@dataclass(frozen=True, slots=True)
class ReplyForm:
    """What a JSON reply has to look like."""

    name: str
    """What the server calls it."""
    schema: dict[str, Any]
    """JSON schema; checked again on arrival, for not every server enforces it."""
    max_tokens: int
    """Longest reply, in tokens; a longer one is not what was asked for."""

    @property
    def response_format(self) -> dict[str, Any]:
        """The same as OpenAI's interface takes it."""
        return {"type": "json_schema", "json_schema": {"name": self.name, "strict": True, "schema": self.schema}}


def object_of(properties: dict[str, Any]) -> dict[str, Any]:
    """A JSON schema of an object with exactly these keys."""
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


GRADES = object_of({scale: {"type": "integer", "minimum": 0, "maximum": 100} for scale in SCALES})
"""A whole number from 0 to 100 on every scale."""
ONE_ANSWER = ReplyForm("judgement", GRADES, 128)
"""The grades of one answer; three times the longest pretty-printed reply."""


class Asker(Protocol):
    """A judge's model."""

    @property
    def scoring(self) -> Scoring:
        """How its scores are read."""
        ...

    @property
    def contest_prompt(self) -> ContestPrompt | None:
        """What it is told where it sees two answers; None where its model was trained on one answer alone."""
        ...

    @property
    def plants(self) -> tuple[str, ...] | None:
        """Harmful sentences of its own, for :mod:`guards.judges.planted`: None where it understands any plain one, none
        where it has a language of its own and nobody said what is harmful in it."""
        ...

    @property
    def name(self) -> str:
        """The first part of a judge's id: kind, model and revision."""
        ...

    @property
    def pictures(self) -> Pictures:
        """What becomes of pictures."""
        ...

    @property
    def usage(self) -> Usage:
        """What it has cost so far."""
        ...

    def tame(self, text: str) -> str:
        """A hostile text without what this very model would take for control tokens."""
        ...

    def ask_json(self, questions: Sequence[Question], form: ReplyForm) -> list[Completion]:
        """Ask for one JSON reply each, in order.

        Raises:
            JudgeUnreachable: no reply after bounded retries.
            Permanent: the configuration is refused, or a picture cannot be read.
        """
        ...

    def ask_numbers(self, questions: Sequence[Question]) -> list[tuple[float | Unscored, object]]:
        """Ask for one number each, in order: its mean, 0 to 100, or why there is none; and the likeliest tokens.

        Raises:
            JudgeUnreachable, Permanent: as above.
        """
        ...
