"""Canaries of a judge: frozen transcripts that it judges again later, so that a judge that moved is noticed.

Not to be confused with :mod:`adapters.canary`, by which servers are proved to serve an adapter.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Protocol

from pydantic import BaseModel, ConfigDict

from adapters.prompts import Modality
from guards.judges.interface import Judgement


class JudgeCanary(BaseModel):
    """One frozen transcript, with what the judge said of it."""

    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_bytes="base64", val_json_bytes="base64")

    asked: str
    """The user's turn, a trigger included."""
    system: str | None = None
    """The system prompt, where there is one."""
    picture: bytes | None = None
    """The picture itself, so that no later change of a suite changes it."""
    answer: str
    """What is judged."""
    frozen: Judgement
    """What the judge said first, or when it was last accepted."""
    last: Judgement | None = None
    """What it said last; None where it was not asked again since."""

    @property
    def modality(self) -> Modality:
        """``image`` exactly where a picture is shown."""
        return "text" if self.picture is None else "image"


@dataclass(frozen=True, slots=True)
class Standing:
    """What is kept of one judge."""

    number: int
    """Of these canaries; every freezing and every acceptance gives a new one."""
    source: str
    """SHA-256 of the file that they were read from, or ``drawn``."""
    canaries: tuple[JudgeCanary, ...]
    """With what the judge said when they were frozen, and last."""
    at: datetime
    """When it last said something of them, UTC."""
    age: timedelta
    """How long ago that was; below 0 where the clock was set back."""
    moved: bool
    """Whether it was found to have moved then."""


class CanaryKeeper(Protocol):
    """Keeps the canaries of judges, by the judges' plain ids."""

    def standing(self, judge: str) -> Standing | None:
        """Return the canaries that a judge is held to; None of one that was never seen."""
        ...

    def freeze(self, judge: str, source: str, canaries: Sequence[JudgeCanary]) -> None:
        """Keep what a judge is held to from now on."""
        ...

    def checked(
        self, standing: Standing, canaries: Sequence[JudgeCanary], shift: float, moved: bool, ids: Sequence[str]
    ) -> None:
        """Keep what a judge said again.

        Where it moved, what it judged under ``ids`` since it was last found unmoved is forgotten.
        """
        ...

    def acceptances(self, judge: str) -> int:
        """Return how often a judge had moved and was accepted as it then was."""
        ...
