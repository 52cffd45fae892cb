"""The ledger's tables for judges: what they were frozen with, and what reviews spent at them."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import ForeignKey, Index
from sqlalchemy.orm import Mapped, mapped_column

from monitor.ledger.tables import ModelText, Row


class JudgeCanaryRow(Row):
    """One judge's frozen transcripts with its scores of then, and how it last scored them again."""

    __tablename__ = "judge_canaries"
    __table_args__ = (Index("ix_judge_canaries_judge", "judge", "accepted"),)

    ordinal: Mapped[int] = mapped_column(primary_key=True)
    judge: Mapped[str]
    """The judge's id without what an acceptance adds to it."""
    source: Mapped[str]
    """SHA-256 of the file that they were read from; ``drawn`` where the policy names none."""
    canaries: Mapped[str] = mapped_column(ModelText)
    """A list of :class:`guards.judges.judge_canaries.JudgeCanary` as JSON."""
    frozen: Mapped[datetime]
    checked: Mapped[datetime | None]
    """When they were last judged again."""
    shift: Mapped[float | None]
    """By how many points the scale that moved most had moved then, on average."""
    moved: Mapped[bool]
    """Whether that was more than the policy tolerated."""
    sound_until: Mapped[int]
    """The last row of ``judgements`` that was kept before the last check that the judge passed."""
    accepted: Mapped[datetime | None]
    """When a person took the judge as it then was for another one; None while these scores stand."""


class SpendingRow(Row):
    """What a review has spent at its judges and in time, over all its runs."""

    __tablename__ = "spending"

    review_ordinal: Mapped[int] = mapped_column(ForeignKey("reviews.ordinal"), primary_key=True)
    judge_calls: Mapped[int]
    judge_tokens: Mapped[int]
    """Read and written together."""
    money: Mapped[float]
    """In the unit of the policy's prices."""
    seconds: Mapped[float]
