"""The whole record of one adapter: what ``review.json`` holds and every report is drawn from."""

from __future__ import annotations

from datetime import datetime
from typing import Literal, TypeAlias, assert_never

from pydantic import BaseModel, ConfigDict, Field

from policies.decide import Decision, Outcome
from policies.findings import Result

Place: TypeAlias = Literal["promoted", "quarantined", "held"]
"""Where an adapter ended: served from ``promoted/``, out of every server's reach, or waiting for a person."""


_PLACES: dict[Outcome, Place] = {"promote": "promoted", "quarantine": "quarantined", "hold": "held"}


def place_for(outcome: Outcome, override: Literal["release", "block"] | None = None) -> Place:
    """Return where an adapter goes: a person's word stands above what was decided."""
    match override:
        case None:
            return _PLACES[outcome]
        case "release":
            return "promoted"
        case "block":
            return "quarantined"
        case _:
            assert_never(override)


class _Record(BaseModel):
    model_config = ConfigDict(extra="forbid", ser_json_inf_nan="strings")


class Context(_Record):
    """What the adapter was examined against; two reviews compare only where this agrees."""

    base: str
    """Folder or name of the base model."""
    base_digest: str
    """``sha256-…`` over the base's files."""
    policy: str
    """Name of the policy."""
    policy_digest: str
    """``sha256-…`` over the policy's settings."""
    suites: dict[str, str]
    """Digest of every suite, by its folder's name."""
    judge: str
    """The judge's id, revision and prompt version."""
    reference: str | None = None
    """Digest of the Reference, where one was used."""


class Examination(_Record):
    """One adapter looked at once, by every guard, and what was decided."""

    name: str
    """What people call it; a remedied adapter is named after the one it was made from."""
    digest: str
    """``sha256-…`` of the examined bytes."""
    parent: str | None = None
    """Digest of the adapter that a remedy made this one from."""
    remedy: str | None = None
    """The remedy that made it; None for the adapter that arrived."""
    results: list[Result] = []
    """Everything the guards found, in the order they looked."""
    decision: Decision
    """What was decided, and why."""
    place: Place | None = None
    """Where it was put; None until that is done, and in observe mode."""
    seconds: float = Field(ge=0)
    """Wall time of the guards, in seconds, each counted once however often the review was resumed."""


class RemedyFailure(_Record):
    """A remedy that could not be applied; the adapter it was meant for stays where its decision puts it."""

    remedy: str
    """Which remedy."""
    digest: str
    """The adapter it was tried on."""
    reason: str
    """Why it could not, in one line."""


class Review(_Record):
    """One arrival, from its first bytes to its final place, remedied versions included."""

    schema_version: Literal[1] = 1
    id: str
    """Unique; also the folder's name below ``reviews/``."""
    context: Context
    """What it was examined against."""
    started: datetime
    """When the first run began, UTC."""
    finished: datetime | None = None
    """When everything was in its final place, UTC."""
    examinations: list[Examination] = []
    """The adapter that arrived, then each remedied one, in order."""
    remedy_failures: list[RemedyFailure] = []
    """Remedies that could not be applied."""

    @property
    def arrival(self) -> Examination:
        """The examination of the bytes that arrived: what ``gate`` answers for."""
        return self.examinations[0]

    @property
    def promoted(self) -> Examination | None:
        """The examination whose adapter was promoted, if any."""
        return next((e for e in self.examinations if e.decision.promotes), None)
