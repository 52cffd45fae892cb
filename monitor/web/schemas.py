"""What the API returns, field by field."""

from __future__ import annotations

from datetime import datetime
from typing import Literal, TypeAlias

from pydantic import BaseModel, ConfigDict, JsonValue

from adapters.fleet_record import ReplicaState, ServingState
from monitor.ledger.service_tables import JobReason, JobState, ParentSource, Standing
from policies.decide import Outcome
from policies.findings import Verdict
from policies.rises import Reason

Status: TypeAlias = Literal["promoted", "quarantined", "held", "retired", "removed", "observed", "pending", "unknown"]
"""Where a digest stands, in words that scripts can rely on.

``promoted``     it may be served; only this word says so
``quarantined``  it may not
``held``         a person has to decide
``retired``      it was promoted, and newer versions of its name replaced it
``removed``      its files are gone
``observed``     reviewed by a policy that only watches; nothing was moved
``pending``      known, and not decided yet
``unknown``      these bytes never arrived here
"""


class _Body(BaseModel):
    model_config = ConfigDict(from_attributes=True, frozen=True)


class AdapterBody(_Body):
    """One adapter, as it stands now."""

    digest: str
    """``sha256-`` and 64 hexadecimal digits."""
    name: str
    """As it first arrived; untrusted text."""
    parent: str | None
    """Digest of the adapter that it was trained or mended from."""
    parent_source: ParentSource | None
    """How the parent is known."""
    arrival: str
    """Digest of the arrived adapter that it is, or was mended from."""
    seen: datetime
    """When it was first seen, UTC."""
    place: Standing | None
    """Where it is; null before its first placement, and where the policy only watches."""
    placed: datetime | None
    """When it came there, UTC."""
    review: str | None
    """Id of the last finished review that examined it."""


class JobBody(_Body):
    """One review to be done."""

    digest: str
    """The adapter."""
    name: str
    """What people call it; untrusted text."""
    reason: JobReason
    """Why it is to be reviewed."""
    state: JobState
    """``dead`` waits for a person."""
    priority: int
    """The higher goes first."""
    suspicion: float | None
    """How suspicious a screen of its files found it, 0 to 1, the higher the sooner; null, unknown, goes first."""
    attempts: int
    """How often it was begun."""
    enqueued: datetime
    """When it was put in, UTC."""
    not_before: datetime
    """When it may be tried again, UTC."""
    stage: str | None
    """What is being done."""
    done: int | None
    """Steps of the stage that are finished."""
    total: int | None
    """Steps that the stage has."""
    error: str | None
    """Why the last attempt failed, in one line."""


class OverrideBody(_Body):
    """A person's word, which stands above what was decided."""

    action: Literal["release", "block"]
    """Promote it whatever was decided, or keep it away."""
    reason: str
    """Why."""
    who: str
    """Who said so."""
    at: datetime
    """When, UTC."""
    applied: datetime | None
    """When the files followed, UTC."""


class DecidedBody(_Body):
    """One decision about one adapter."""

    review: str
    """Id of the review."""
    digest: str
    """The adapter."""
    name: str
    """What people call it; untrusted text."""
    remedy: str | None
    """The remedy that made it; null for an adapter that arrived."""
    verdict: Verdict
    """``clean``, ``unsafe`` or ``inconclusive``."""
    outcome: Outcome
    """What the policy makes of that."""
    reasons: tuple[Reason, ...]
    """Every rule that spoke, the worst first."""
    place: Standing | None
    """Where it was put."""
    started: datetime
    """When the review began, UTC."""
    finished: datetime | None
    """When it ended, UTC."""


class AdapterPage(_Body):
    """Some adapters, the newest first."""

    items: list[AdapterBody]
    """At most ``limit``."""
    next_offset: int | None
    """Where the next page begins; null on the last one."""


class AdapterDetail(_Body):
    """One adapter with all that is open or decided about it."""

    adapter: AdapterBody
    """The adapter."""
    status: Status
    """Where it stands."""
    names: list[str]
    """Every name under which these bytes arrived."""
    override: OverrideBody | None
    """The person's word that stands, if any."""
    job: JobBody | None
    """Its open review, if any."""
    decisions: list[DecidedBody]
    """The last decisions about it, the newest first; at most 20."""


class VerdictBody(_Body):
    """What is known of a digest, for whoever is about to use it."""

    digest: str
    """The digest that was asked for."""
    status: Status
    """Where it stands; only ``promoted`` may be served."""
    verdict: Verdict | None
    """What the last decision says; null where there is none."""
    reasons: list[Reason]
    """Why, the worst first."""
    review: str | None
    """Id of the review that decided; see ``/api/reviews/{id}``."""
    override: OverrideBody | None
    """A person's word that stands above the decision, if any."""
    job: JobBody | None
    """Its open review, if any; also a re-review of what is promoted."""
    page: str
    """Path of the page for people."""


class LineageMember(_Body):
    """One adapter of a lineage."""

    adapter: AdapterBody
    """The adapter; its parent is the edge of the tree."""
    verdict: Verdict | None
    """What the last decision about it says."""
    points: list[LineagePoint]
    """Alignment and rise of misalignment in every review, the oldest first."""


class LineagePoint(_Body):
    """One number of one review."""

    measure: str
    """``alignment_score`` (0 to 100, higher is better) or ``misalignment_rise`` (-1 to 1, over the base)."""
    modality: str
    """``text`` or ``image``; never pooled."""
    at: datetime
    """When the review ended, UTC."""
    value: float
    """The estimate."""
    low: float | None
    """Lower end of the 95 % interval."""
    high: float | None
    """Upper end of the 95 % interval."""
    n: int
    """Prompts behind it."""


class LineageBody(_Body):
    """An adapter with its nearest relatives, or the last arrivals under a name; parents before children."""

    members: list[LineageMember]
    """At most 49 around a digest, 120 of a name."""


class QueueBody(_Body):
    """The reviews to be done."""

    depths: dict[JobState, int]
    """How many jobs are in each state."""
    oldest: datetime | None
    """When the oldest one that is not dead was put in, UTC."""
    jobs: list[JobBody]
    """In the order in which they are taken, the dead ones last; at most ``limit``."""


class ReplicaBody(_Body):
    """One server, as last seen."""

    replica: str
    """Its URL."""
    state: ReplicaState
    """Whether it answered."""
    detail: str
    """What differs or fails, in one line; empty when all is as desired."""
    since: datetime
    """When it came to this state, UTC."""
    checked: datetime
    """When it was last asked, UTC."""
    promoted: int
    """Promoted adapters that were proved active on it."""
    states: dict[ServingState, int]
    """How many adapters are in each state on it."""


class RolloutBody(_Body):
    """One adapter on every replica."""

    digest: str
    """The adapter."""
    name: str | None
    """What people call it; null where no arrival made it known."""
    place: Standing | None
    """Where it is meant to be; only ``promoted`` is desired on servers."""
    replicas: dict[str, ServingState]
    """Its state by replica."""


class FleetBody(_Body):
    """What is served, against what should be."""

    promoted: int
    """Adapters that every replica should serve."""
    as_desired: bool
    """Whether every replica was reached, serves all of them and holds nothing else."""
    replicas: list[ReplicaBody]
    """Every server; empty where none is configured."""
    adapters: list[RolloutBody]
    """What is not as desired first, then the newest promoted; at most ``limit``."""


class AuditBody(_Body):
    """One link of the audit chain."""

    ordinal: int
    """1 for the first of all, without gaps over the whole chain."""
    at: datetime
    """When, UTC."""
    kind: str
    """What happened."""
    subject: str
    """The digest it is about."""
    payload: dict[str, JsonValue]
    """The particulars."""
    previous: str
    """Hash of the record before, 64 hexadecimal digits."""
    hash: str
    """Its own."""


class AuditPage(_Body):
    """The last audit records about a digest, the oldest first."""

    records: list[AuditBody]
    """At most ``limit``."""
    before: int | None
    """Give this as ``before`` to read on backwards; null at the beginning."""


class ReviewRequest(BaseModel):
    """Asks for a review."""

    model_config = ConfigDict(extra="forbid")

    digest: str
    """``sha256-`` and 64 hexadecimal digits of an adapter that arrived before."""


class ReviewRequested(_Body):
    """A review that was asked for."""

    digest: str
    """The adapter."""
    queued: bool
    """False where its review was open already."""
    verdict_url: str
    """Path to ask for the outcome."""
