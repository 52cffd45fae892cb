"""The ledger's tables, and how their rows become the records that everyone else reads."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, ClassVar

from pydantic import ConfigDict, TypeAdapter
from sqlalchemy import DateTime, Dialect, ForeignKey, Text, TypeDecorator, UniqueConstraint
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship
from sqlalchemy.types import TypeEngine

from adapters.adapter import Adapter
from monitor.review import Context, Examination, Place, RemedyFailure, Review
from policies.decide import Decision
from policies.findings import Result
from policies.rises import Reason

RESULTS: TypeAdapter[list[Result]] = TypeAdapter(list[Result], config=ConfigDict(ser_json_inf_nan="strings"))
"""Writes and reads one guard's results. Of the models' own setting for infinities a list takes no notice."""


@dataclass(frozen=True, slots=True)
class Placement:
    """One adapter's way to its place."""

    review: str
    """Id of the review that decided it."""
    digest: str
    """The adapter."""
    name: str
    """What people call it."""
    place: Place
    """Where it goes."""
    begun: datetime
    """When the intent was recorded, UTC."""
    finished: datetime | None
    """When it was done, UTC; None while a run is at it, or was killed there."""


class UtcDateTime(TypeDecorator[datetime]):
    """An aware time, stored as UTC without its zone because SQLite has no type that keeps one."""

    impl = DateTime
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:  # noqa: ARG002
        """Turn an aware time into naive UTC; a naive one is refused, since nobody knows what it means."""
        if value is not None and value.tzinfo is None:
            raise ValueError(f"{value} has no time zone")
        return None if value is None else value.astimezone(UTC).replace(tzinfo=None)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:  # noqa: ARG002
        """Give the zone back."""
        return None if value is None else value.replace(tzinfo=UTC)


class ModelText(TypeDecorator[str]):
    r"""What a model said, stored as a JSON string: models also say ``\0`` and lone surrogates."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: Dialect) -> str | None:  # noqa: ARG002
        """Escape everything that is not ASCII."""
        return None if value is None else json.dumps(value)

    def process_result_value(self, value: Any | None, dialect: Dialect) -> str | None:  # noqa: ARG002
        """Undo the escapes."""
        return None if value is None else str(json.loads(value))


class Row(DeclarativeBase):
    """One row of the ledger."""

    type_annotation_map: ClassVar[dict[Any, TypeEngine[Any] | type[TypeEngine[Any]]]] = {
        datetime: UtcDateTime,
        str: Text,
    }


class ReviewRow(Row):
    """One arrival under one context. At most one of the same digest and context is unfinished."""

    __tablename__ = "reviews"

    ordinal: Mapped[int] = mapped_column(primary_key=True)
    id: Mapped[str] = mapped_column(unique=True)
    digest: Mapped[str] = mapped_column(index=True)
    """Of the adapter that arrived."""
    context: Mapped[str]
    """A ``Context`` as JSON."""
    context_digest: Mapped[str]
    started: Mapped[datetime]
    finished: Mapped[datetime | None]
    examinations: Mapped[list[ExaminationRow]] = relationship(
        back_populates="review", order_by="ExaminationRow.ordinal"
    )
    remedies: Mapped[list[RemedyRow]] = relationship(back_populates="review", order_by="RemedyRow.ordinal")

    def record(self) -> Review:
        """Assemble everything that is known of the review so far."""
        context = Context.model_validate_json(self.context)
        return Review(
            id=self.id,
            context=context,
            started=self.started,
            finished=self.finished,
            examinations=[examination.record(context.policy) for examination in self.examinations],
            remedy_failures=[
                RemedyFailure(remedy=row.method, digest=row.digest, reason=row.reason)
                for row in self.remedies
                if row.reason is not None
            ],
        )


class ExaminationRow(Row):
    """One adapter within a review."""

    __tablename__ = "examinations"
    __table_args__ = (UniqueConstraint("review_ordinal", "digest"),)

    ordinal: Mapped[int] = mapped_column(primary_key=True)
    review_ordinal: Mapped[int] = mapped_column(ForeignKey("reviews.ordinal"))
    digest: Mapped[str] = mapped_column(index=True)
    name: Mapped[str]
    parent: Mapped[str | None]
    remedy: Mapped[str | None]
    decision: Mapped[str | None]
    """A ``Decision`` as JSON; None while nothing is decided."""
    review: Mapped[ReviewRow] = relationship(back_populates="examinations")
    looks: Mapped[list[LookRow]] = relationship(back_populates="examination", order_by="LookRow.ordinal")
    placement: Mapped[PlacementRow | None] = relationship(back_populates="examination")

    @classmethod
    def of(cls, adapter: Adapter, remedy: str | None, **review: Any) -> ExaminationRow:
        """Start an examination of an adapter that arrived or that a remedy made."""
        return cls(digest=adapter.digest, name=adapter.name, parent=adapter.parent, remedy=remedy, **review)

    def record(self, policy: str) -> Examination:
        """Assemble the examination; of a guard that looked in several versions, the last look counts."""
        looks = {look.guard: look for look in self.looks}
        placed = self.placement is not None and self.placement.finished is not None
        return Examination(
            name=self.name,
            digest=self.digest,
            parent=self.parent,
            remedy=self.remedy,
            results=[result for look in looks.values() for result in RESULTS.validate_json(look.results)],
            decision=undecided(policy) if self.decision is None else Decision.model_validate_json(self.decision),
            place=self.placement.place if self.placement is not None and placed else None,
            seconds=sum(look.seconds for look in looks.values()),
        )


class LookRow(Row):
    """What one version of one guard found in one examination."""

    __tablename__ = "looks"
    __table_args__ = (UniqueConstraint("examination_ordinal", "guard", "version"),)

    ordinal: Mapped[int] = mapped_column(primary_key=True)
    examination_ordinal: Mapped[int] = mapped_column(ForeignKey("examinations.ordinal"))
    guard: Mapped[str]
    version: Mapped[str]
    results: Mapped[str]
    """A list of ``Result`` as JSON."""
    seconds: Mapped[float]
    examination: Mapped[ExaminationRow] = relationship(back_populates="looks")


class PlacementRow(Row):
    """The intent to put an adapter somewhere, and whether that was done."""

    __tablename__ = "placements"

    ordinal: Mapped[int] = mapped_column(primary_key=True)
    examination_ordinal: Mapped[int] = mapped_column(ForeignKey("examinations.ordinal"), unique=True)
    place: Mapped[Place] = mapped_column(Text)
    begun: Mapped[datetime]
    finished: Mapped[datetime | None]
    examination: Mapped[ExaminationRow] = relationship(back_populates="placement")

    def record(self) -> Placement:
        """Return it as everyone else knows it."""
        return Placement(
            review=self.examination.review.id,
            digest=self.examination.digest,
            name=self.examination.name,
            place=self.place,
            begun=self.begun,
            finished=self.finished,
        )


class RemedyRow(Row):
    """One remedy tried on one adapter: begun, then either made something or failed."""

    __tablename__ = "remedies"
    __table_args__ = (UniqueConstraint("review_ordinal", "method", "digest"),)

    ordinal: Mapped[int] = mapped_column(primary_key=True)
    review_ordinal: Mapped[int] = mapped_column(ForeignKey("reviews.ordinal"))
    method: Mapped[str]
    digest: Mapped[str]
    """Of the adapter that it was tried on."""
    begun: Mapped[datetime]
    finished: Mapped[datetime | None]
    made_digest: Mapped[str | None]
    made_name: Mapped[str | None]
    made_path: Mapped[str | None]
    """Relative to the ledger's folder where it lies below it, so that the state folder can be moved."""
    made_parent: Mapped[str | None]
    reason: Mapped[str | None]
    """Why it failed; None while it has not."""
    review: Mapped[ReviewRow] = relationship(back_populates="remedies")

    def end(self, outcome: Adapter | RemedyFailure, folder: Path, now: datetime) -> None:
        """Fill in how it ended; ``folder`` is the ledger's."""
        self.finished = now
        self.reason = self.made_digest = self.made_name = self.made_path = self.made_parent = None
        if isinstance(outcome, RemedyFailure):
            self.reason = outcome.reason
            return
        path = outcome.path.absolute()
        self.made_digest, self.made_name, self.made_parent = outcome.digest, outcome.name, outcome.parent
        self.made_path = str(path.relative_to(folder) if path.is_relative_to(folder) else path)

    def outcome(self, folder: Path) -> Adapter | RemedyFailure | None:
        """Tell how it ended; None if it has not."""
        if self.reason is not None:
            return RemedyFailure(remedy=self.method, digest=self.digest, reason=self.reason)
        if self.made_digest is None or self.made_name is None or self.made_path is None:
            return None
        return Adapter(folder / self.made_path, self.made_digest, self.made_name, self.made_parent)


class AnswerRow(Row):
    """One finished answer of one model."""

    __tablename__ = "answers"

    model: Mapped[str] = mapped_column(primary_key=True)
    key: Mapped[str] = mapped_column(primary_key=True)
    answer: Mapped[str] = mapped_column(ModelText)


class JudgementRow(Row):
    """One finished judgement."""

    __tablename__ = "judgements"

    key: Mapped[str] = mapped_column(primary_key=True)
    judgement: Mapped[str]
    """A ``Judgement`` as JSON."""


def undecided(policy: str) -> Decision:
    """Stand in for a decision that was not reached yet: nothing decided means quarantine."""
    reason = Reason(rule="examination", verdict="inconclusive", text="not finished, so nothing is decided")
    return Decision(outcome="quarantine", verdict="inconclusive", reasons=(reason,), policy=policy)
