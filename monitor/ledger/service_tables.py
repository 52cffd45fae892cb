"""The ledger's tables for the service: adapters and their names, the queue, the audit trail, the fleet, and values."""

from __future__ import annotations

from datetime import datetime
from typing import Literal, TypeAlias

from sqlalchemy import ForeignKey, Index, Text
from sqlalchemy.orm import Mapped, mapped_column

from monitor.ledger.tables import Row

Standing: TypeAlias = Literal["promoted", "quarantined", "held", "retired", "removed"]
"""Where an adapter is now. ``retired``: superseded and served no more; ``removed``: its files are gone."""

ParentSource: TypeAlias = Literal["declared", "guessed", "remedy"]
"""How a parent is known: from ``alignwatch.json``, by name and time, or because a remedy made the adapter of it."""

JobState: TypeAlias = Literal["queued", "running", "dead"]
JobReason: TypeAlias = Literal["arrival", "requested", "re-review"]


class AdapterRow(Row):
    """Everything that is known of one digest now: kept up to date beside the records that it follows from."""

    __tablename__ = "adapters"
    __table_args__ = (Index("ix_adapters_place", "place", "placed"), Index("ix_adapters_seen", "seen"))

    digest: Mapped[str] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(index=True)
    """As it first arrived; for a mended adapter, after the one it was made from."""
    parent: Mapped[str | None] = mapped_column(index=True)
    parent_source: Mapped[ParentSource | None] = mapped_column(Text)
    arrival: Mapped[str] = mapped_column(index=True)
    """Digest of the arrived adapter that it is, or was mended from."""
    seen: Mapped[datetime]
    """When it was first seen."""
    place: Mapped[Standing | None] = mapped_column(Text)
    placed: Mapped[datetime | None]
    """When it came to its place."""
    review: Mapped[str | None]
    """Id of the last finished review that examined it."""


class NameRow(Row):
    """One arrival of a digest under a name. The last one whose adapter is promoted is what the name stands for."""

    __tablename__ = "names"
    __table_args__ = (Index("ix_names_name", "name"), Index("ix_names_digest", "digest"))

    ordinal: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]
    digest: Mapped[str]
    source: Mapped[str]
    at: Mapped[datetime]


class SightingRow(Row):
    """What a source held when last looked at, so that a rescan reads no file that did not change."""

    __tablename__ = "sightings"

    source: Mapped[str] = mapped_column(primary_key=True)
    path: Mapped[str] = mapped_column(primary_key=True)
    """Of the adapter's folder, relative to the source's."""
    signature: Mapped[str]
    """Digest of names, sizes, inodes and times of all its files."""
    digest: Mapped[str | None]
    """Of the adapter; None where it could not be taken in."""
    reason: Mapped[str | None]
    """Why not, in one line."""
    at: Mapped[datetime]


class JobRow(Row):
    """One review to be done. It is deleted when the review is finished: the review is the record."""

    __tablename__ = "jobs"
    __table_args__ = (Index("ix_jobs_order", "state", "priority", "ordinal"),)

    ordinal: Mapped[int] = mapped_column(primary_key=True)
    digest: Mapped[str] = mapped_column(unique=True)
    name: Mapped[str]
    reason: Mapped[JobReason] = mapped_column(Text)
    repeat: Mapped[int]
    """0 for the first review under a policy; each later one asks with another seed."""
    priority: Mapped[int]
    """The higher goes first."""
    state: Mapped[JobState] = mapped_column(Text)
    attempts: Mapped[int]
    """How often it was begun."""
    not_before: Mapped[datetime]
    owner: Mapped[str | None]
    """Who works on it."""
    expires: Mapped[datetime | None]
    """When its lease ends, unless a heartbeat comes."""
    stage: Mapped[str | None]
    done: Mapped[int | None]
    total: Mapped[int | None]
    error: Mapped[str | None]
    """Why the last attempt failed, in one line."""
    enqueued: Mapped[datetime]
    suspicion: Mapped[float | None]
    """How suspicious a screen of its files found it, 0 to 1; None where no screen could tell."""


class OverrideRow(Row):
    """A person's word on one digest; the last one stands."""

    __tablename__ = "overrides"

    ordinal: Mapped[int] = mapped_column(primary_key=True)
    digest: Mapped[str] = mapped_column(index=True)
    action: Mapped[Literal["release", "block"]] = mapped_column(Text)
    reason: Mapped[str]
    who: Mapped[str]
    at: Mapped[datetime]
    applied: Mapped[datetime | None]
    """When the files followed; None until then."""
    note: Mapped[str | None]
    """Why nothing can follow; None while it is to be carried out, or was."""


class AuditRow(Row):
    """One link of the audit chain. Triggers refuse to change or delete one."""

    __tablename__ = "audit"
    __table_args__ = (Index("ix_audit_kind", "kind", "at"),)

    ordinal: Mapped[int] = mapped_column(primary_key=True)
    at: Mapped[str]
    """ISO 8601, UTC; text, because it is hashed."""
    kind: Mapped[str]
    subject: Mapped[str] = mapped_column(index=True)
    """The digest it is about; empty where it is about none."""
    payload: Mapped[str]
    """Canonical JSON."""
    previous: Mapped[str]
    """The hash of the record before."""
    hash: Mapped[str]
    """See :mod:`monitor.ledger.audit`."""


class CanaryRow(Row):
    """What an adapter was seen to do in process, against which its servers are checked."""

    __tablename__ = "canaries"

    digest: Mapped[str] = mapped_column(primary_key=True)
    canaries: Mapped[str]
    """A list of ``Canary`` as JSON."""


class ServingRow(Row):
    """One adapter on one replica."""

    __tablename__ = "servings"
    __table_args__ = (Index("ix_servings_state", "state", "replica"),)

    replica: Mapped[str] = mapped_column(primary_key=True)
    digest: Mapped[str] = mapped_column(primary_key=True)
    state: Mapped[str]
    """A ``ServingState``."""
    detail: Mapped[str]
    attempts: Mapped[int]
    since: Mapped[datetime]


class ReplicaRow(Row):
    """One server, as it was last seen."""

    __tablename__ = "replicas"

    replica: Mapped[str] = mapped_column(primary_key=True)
    state: Mapped[str]
    """A ``ReplicaState``."""
    detail: Mapped[str]
    boot: Mapped[str]
    """Identity of the server's process; another one means that it restarted."""
    since: Mapped[datetime]
    checked: Mapped[datetime]


class MeasureRow(Row):
    """One number of one examination, flat, for metrics and timelines."""

    __tablename__ = "measures"
    __table_args__ = (Index("ix_measures_digest", "digest", "review_ordinal"),)

    ordinal: Mapped[int] = mapped_column(primary_key=True)
    review_ordinal: Mapped[int] = mapped_column(ForeignKey("reviews.ordinal"))
    digest: Mapped[str]
    at: Mapped[datetime]
    measure: Mapped[str]
    modality: Mapped[str]
    """Empty where the number is of no modality; the same holds for the next two."""
    category: Mapped[str]
    model: Mapped[str]
    """``adapter`` or ``base`` where both are measured."""
    value: Mapped[float]
    low: Mapped[float | None]
    high: Mapped[float | None]
    n: Mapped[int]


class ValueRow(Row):
    """A counter or a gauge that outlives the process."""

    __tablename__ = "metric_values"

    name: Mapped[str] = mapped_column(primary_key=True)
    labels: Mapped[str] = mapped_column(primary_key=True)
    """A JSON object with sorted keys."""
    value: Mapped[float]


class StreamRow(Row):
    """One adapter's place in a stream of tests whose error is bounded as a whole."""

    __tablename__ = "stream"
    __table_args__ = (Index("ix_stream_position", "stream", "position", unique=True),)

    stream: Mapped[str] = mapped_column(primary_key=True)
    """What is controlled, under which rules, for which base."""
    test: Mapped[str] = mapped_column(primary_key=True)
    """Digest of the adapter and version of the battery."""
    position: Mapped[int]
    """1 for the first."""
    rejections: Mapped[int]
    """Alarms that had been told before it."""
    rejected: Mapped[bool | None]
    """Whether its own alarm rang; None until that is known."""
