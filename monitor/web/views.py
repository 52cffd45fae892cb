"""What the API and the page show, read from the ledger. No look reads more rows than it shows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from adapters.adapter import is_digest
from adapters.fleet_record import ReplicaStatus, Serving
from monitor.ledger import Ledger
from monitor.ledger.browse import Decided
from monitor.ledger.measures import Measured
from monitor.ledger.overrides import Override
from monitor.ledger.queue import Job
from monitor.ledger.registry import Known
from monitor.report.words import short_digest
from monitor.web.problems import Problem
from monitor.web.schemas import Status

LINEAGE_MEASURES = ("alignment_score", "misalignment_rise")
"""What the timeline along a lineage shows."""


@dataclass(frozen=True, slots=True)
class Standing:
    """One digest with all that is open or decided about it."""

    digest: str
    """The digest."""
    known: Known | None
    """The adapter; None where it never arrived."""
    status: Status
    """Where it stands."""
    override: Override | None
    """The person's word that stands."""
    job: Job | None
    """Its open review."""
    decisions: list[Decided]
    """The last decisions about it, the newest first."""

    @property
    def last(self) -> Decided | None:
        """The newest decision."""
        return self.decisions[0] if self.decisions else None


@dataclass(frozen=True, slots=True)
class Rollout:
    """One adapter on every replica."""

    digest: str
    """The adapter."""
    known: Known | None
    """None where no arrival made it known."""
    servings: dict[str, Serving]
    """By replica."""

    @property
    def desired(self) -> bool:
        """Whether it should be served."""
        return self.known is not None and self.known.place == "promoted"


@dataclass(frozen=True, slots=True)
class Fleet:
    """What is served, against what should be."""

    promoted: int
    """Adapters that every replica should serve."""
    replicas: list[ReplicaStatus]
    """Every server, as last seen."""
    counts: dict[str, dict[str, int]]
    """By replica: adapters in each state, ``desired`` and ``foreign``."""
    adapters: list[Rollout]
    """What is not as desired first."""

    def missing(self, replica: str) -> int:
        """How many promoted adapters a replica does not serve."""
        return self.promoted - self.counts.get(replica, {}).get("desired", 0)

    def foreign(self, replica: str) -> int:
        """How many adapters a replica serves or may hold that are not promoted."""
        return self.counts.get(replica, {}).get("foreign", 0)

    @property
    def as_desired(self) -> bool:
        """Whether every replica was reached, serves all that is promoted, and holds nothing else."""
        return all(
            status.state == "up"
            and not status.detail
            and not self.missing(status.replica)
            and not self.foreign(status.replica)
            for status in self.replicas
        )


@dataclass(frozen=True, slots=True)
class Member:
    """One adapter of a lineage with its numbers."""

    known: Known
    """The adapter."""
    decided: Decided | None
    """The last decision about it."""
    points: list[Measured]
    """``LINEAGE_MEASURES`` of the adapter, not of the base, in every review, the oldest first."""
    base: list[Measured]
    """Alignment of the base in the same reviews."""


def standing(ledger: Ledger, digest: str, decisions: int = 20) -> Standing:
    """Read everything about one digest."""
    known = ledger.registry.get(digest)
    decided = ledger.browse.decisions(decisions, digest)
    override = ledger.overrides.standing(digest)
    return Standing(digest, known, _status(known), override, ledger.queue.job(digest), decided)


def adapter_or_problem(ledger: Ledger, digest: str) -> Known:
    """Return a known adapter.

    Raises:
        Problem: 404, it never arrived here.
    """
    known = ledger.registry.get(digest)
    if known is None:
        raise Problem(
            404, f"no adapter {short_digest(digest)} ever arrived here", "see /api/adapters for those that did"
        )
    return known


def fleet(ledger: Ledger, limit: int) -> Fleet:
    """Read the fleet; ``limit`` adapters at most."""
    return Fleet(
        promoted=ledger.registry.counts().get("promoted", 0),
        replicas=ledger.fleet.replicas(),
        counts=ledger.browse.serving_counts(),
        adapters=[
            Rollout(digest, known, {serving.replica: serving for serving in servings})
            for digest, known, servings in ledger.browse.rollout(limit)
        ],
    )


def lineage(ledger: Ledger, key: str) -> list[Member]:
    """Read the lineage around a digest, or of a name, parents before children; empty where there is none."""
    known = ledger.browse.lineage(key) if is_digest(key) else ledger.browse.lineage_of_name(key)
    return members(ledger, known)


def members(ledger: Ledger, known: Sequence[Known]) -> list[Member]:
    """Read numbers and decisions of some adapters."""
    digests = [adapter.digest for adapter in known]
    points: dict[str, list[Measured]] = {digest: [] for digest in digests}
    base: dict[str, list[Measured]] = {digest: [] for digest in digests}
    for measure in LINEAGE_MEASURES:
        for point in ledger.measures.history(digests, measure):
            (base if point.model == "base" else points)[point.digest].append(point)
    last = ledger.browse.last_decisions(digests)
    return [Member(a, last.get(a.digest), points[a.digest], base[a.digest]) for a in known]


def _status(known: Known | None) -> Status:
    if known is None:
        return "unknown"
    if known.place is not None:
        return known.place
    return "pending" if known.review is None else "observed"
