"""Short looks at the ledger for the API and the page: each reads as many rows as it shows, however many there are."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import case, func, select
from sqlalchemy.orm import Session

from adapters.fleet_record import Serving
from monitor.ledger import audit
from monitor.ledger.audit import AuditRecord
from monitor.ledger.database import Database
from monitor.ledger.queue import Job, job_of, turn
from monitor.ledger.registry import Known, known_of
from monitor.ledger.service_tables import AdapterRow, JobRow, JobState, NameRow, ServingRow, Standing
from monitor.ledger.tables import ExaminationRow, PlacementRow, ReviewRow
from monitor.review import Place
from policies.decide import Decision


@dataclass(frozen=True, slots=True)
class Decided:
    """One examination, without what the guards found."""

    review: str
    """Id of its review."""
    digest: str
    """The adapter."""
    name: str
    """What people call it."""
    remedy: str | None
    """The remedy that made it; None for an adapter that arrived."""
    decision: Decision
    """What was decided, and why."""
    place: Place | None
    """Where it was put; None until that is done, and in observe mode."""
    started: datetime
    """When the review began, UTC."""
    finished: datetime | None
    """When it ended, UTC."""


@dataclass(frozen=True, slots=True)
class Named:
    """One name, with its last arrival."""

    name: str
    """What people call its adapters."""
    digest: str
    """The last one that arrived."""
    at: datetime
    """When that was, UTC."""
    arrivals: int
    """How often something arrived under it."""


_DECIDED = (
    select(ExaminationRow, ReviewRow, PlacementRow)
    .join(ReviewRow, ReviewRow.ordinal == ExaminationRow.review_ordinal)
    .outerjoin(PlacementRow, PlacementRow.examination_ordinal == ExaminationRow.ordinal)
    .where(ExaminationRow.decision.is_not(None))
)


class Browse:
    """Pages of one ledger. Everything is bounded by ``limit``."""

    def __init__(self, database: Database, clock: Callable[[], datetime]) -> None:
        self._database = database
        self._clock = clock

    def decisions(self, limit: int, digest: str | None = None) -> list[Decided]:
        """Return the last decisions, of all adapters or of one, the newest first."""
        statement = _DECIDED.order_by(ExaminationRow.ordinal.desc()).limit(limit)
        if digest is not None:
            statement = statement.where(ExaminationRow.digest == digest)
        with self._database.reading() as session:
            return [_decided(*row) for row in session.execute(statement)]

    def last_decisions(self, digests: Sequence[str]) -> dict[str, Decided]:
        """Return the last decision about each of these digests (at most 500)."""
        last = (
            select(func.max(ExaminationRow.ordinal))
            .where(ExaminationRow.digest.in_(list(digests)[:500]), ExaminationRow.decision.is_not(None))
            .group_by(ExaminationRow.digest)
        )
        with self._database.reading() as session:
            rows = session.execute(_DECIDED.where(ExaminationRow.ordinal.in_(last)))
            return {decided.digest: decided for decided in (_decided(*row) for row in rows)}

    def adapters(
        self, limit: int, offset: int = 0, *, place: Standing | None = None, text: str | None = None
    ) -> list[Known]:
        """Return adapters, the newest first: of one place, and with this text in the name or at the digest's begin."""
        statement = select(AdapterRow).order_by(AdapterRow.seen.desc(), AdapterRow.digest).limit(limit).offset(offset)
        if place is not None:
            statement = statement.where(AdapterRow.place == place)
        if text:
            prefix = "sha256-" + text.lower().removeprefix("sha256-")
            named = AdapterRow.name.icontains(text, autoescape=True)
            statement = statement.where(named | AdapterRow.digest.startswith(prefix, autoescape=True))
        with self._database.reading() as session:
            return [known_of(row) for row in session.scalars(statement)]

    def known(self, digests: Sequence[str]) -> dict[str, Known]:
        """Return those of these digests (at most 500) that are known."""
        with self._database.reading() as session:
            rows = session.scalars(select(AdapterRow).where(AdapterRow.digest.in_(list(digests)[:500])))
            return {row.digest: known_of(row) for row in rows}

    def names(self, limit: int, offset: int = 0, text: str | None = None) -> list[Named]:
        """Return names, the one with the newest arrival first, those that contain a text where one is given."""
        last = func.max(NameRow.ordinal)
        newest = select(last.label("ordinal"), func.count().label("arrivals")).group_by(NameRow.name)
        if text:
            newest = newest.where(NameRow.name.icontains(text, autoescape=True))
        page = newest.order_by(last.desc()).limit(limit).offset(offset).subquery()
        statement = select(NameRow, page.c.arrivals).join(page, page.c.ordinal == NameRow.ordinal)
        with self._database.reading() as session:
            rows = session.execute(statement.order_by(NameRow.ordinal.desc()))
            return [Named(row.name, row.digest, row.at, arrivals) for row, arrivals in rows]

    def jobs(self, state: JobState, limit: int, offset: int = 0) -> list[Job]:
        """Return open jobs of one state, in the order in which they would be taken."""
        statement = select(JobRow).where(JobRow.state == state).order_by(*turn(self._clock()))
        with self._database.reading() as session:
            return [job_of(row) for row in session.scalars(statement.limit(limit).offset(offset))]

    def lineage(self, digest: str, up: int = 24, down: int = 24) -> list[Known]:
        """Return an adapter with its nearest ancestors and descendants, parents before children.

        At most ``up`` ancestors, and at most ``down`` descendants, the nearest and then the oldest first.
        """
        with self._database.reading() as session:
            own = session.get(AdapterRow, digest)
            if own is None:
                return []
            above = _ancestors(session, own, up)
            below = _descendants(session, own, down)
            return [known_of(row) for row in (*reversed(above), own, *below)]

    def lineage_of_name(self, name: str, limit: int = 60) -> list[Known]:
        """Return the last adapters that arrived under a name and what remedies made of them, the oldest first."""
        with self._database.reading() as session:
            arrivals = session.scalars(
                select(NameRow.digest).where(NameRow.name == name).order_by(NameRow.ordinal.desc()).limit(limit)
            ).all()
            rows = session.scalars(
                select(AdapterRow)
                .where(AdapterRow.arrival.in_(arrivals))
                .order_by(AdapterRow.seen.desc(), AdapterRow.digest)
                .limit(2 * limit)
            )
            return [known_of(row) for row in rows][::-1]

    def trail(self, digest: str, limit: int, before: int | None = None) -> list[AuditRecord]:
        """Return the last audit records about a digest, of those before an ordinal where one is given, oldest first."""
        with self._database.reading() as session:
            return audit.latest(session, digest, limit, before)

    def rollout(self, limit: int) -> list[tuple[str, Known | None, list[Serving]]]:
        """Return digests with their state on each replica: first what is not as desired, then the newest promoted.

        A replica may hold what no arrival made known; such a digest comes without its ``Known``.
        """
        if limit < 1:
            return []
        unsettled = (
            select(ServingRow.digest)
            .join(AdapterRow, AdapterRow.digest == ServingRow.digest, isouter=True)
            .where(
                case(
                    (AdapterRow.place == "promoted", ServingRow.state != "serving"),
                    else_=ServingRow.state != "absent",
                )
            )
            .group_by(ServingRow.digest)
            .order_by(func.max(ServingRow.since).desc())
            .limit(limit)
        )
        promoted = select(AdapterRow.digest).where(AdapterRow.place == "promoted")
        promoted = promoted.order_by(AdapterRow.placed.desc()).limit(limit)
        with self._database.reading() as session:
            digests = list(dict.fromkeys([*session.scalars(unsettled), *session.scalars(promoted)]))[:limit]
            rows = {row.digest: known_of(row) for row in _rows(session, digests)}
            servings: dict[str, list[Serving]] = {digest: [] for digest in digests}
            found = select(ServingRow).where(ServingRow.digest.in_(digests)).order_by(ServingRow.replica)
            for row in session.scalars(found):
                servings[row.digest].append(
                    Serving(row.replica, row.digest, row.state, row.detail, row.attempts, row.since)  # type: ignore[arg-type]
                )
            return [(digest, rows.get(digest), servings[digest]) for digest in digests]

    def serving_counts(self) -> dict[str, dict[str, int]]:
        """Return, by replica, how many adapters are in each state.

        Beside the states: ``desired`` are the promoted ones that serve, ``foreign`` those that are not promoted and
        not proved absent.
        """
        promoted = func.coalesce(AdapterRow.place == "promoted", False)
        statement = (
            select(ServingRow.replica, ServingRow.state, promoted, func.count())
            .join(AdapterRow, AdapterRow.digest == ServingRow.digest, isouter=True)
            .group_by(ServingRow.replica, ServingRow.state, promoted)
        )
        counts: dict[str, dict[str, int]] = {}
        with self._database.reading() as session:
            for replica, state, wanted, number in session.execute(statement):
                of_replica = counts.setdefault(replica, {"desired": 0, "foreign": 0})
                of_replica[state] = of_replica.get(state, 0) + number
                of_replica["desired"] += number if wanted and state == "serving" else 0
                of_replica["foreign"] += number if not wanted and state != "absent" else 0
        return counts


def _rows(session: Session, digests: Sequence[str]) -> list[AdapterRow]:
    return list(session.scalars(select(AdapterRow).where(AdapterRow.digest.in_(digests))))


def _ancestors(session: Session, own: AdapterRow, limit: int) -> list[AdapterRow]:
    above: list[AdapterRow] = []
    met, row = {own.digest}, own
    while len(above) < limit and row.parent is not None and row.parent not in met:  # a declared parent may be a lie
        parent = session.get(AdapterRow, row.parent)
        if parent is None:
            break
        above.append(parent)
        met.add(parent.digest)
        row = parent
    return above


def _descendants(session: Session, own: AdapterRow, limit: int) -> list[AdapterRow]:
    below: list[AdapterRow] = []
    met, level = {own.digest}, [own.digest]
    while level and len(below) < limit:
        statement = select(AdapterRow).where(AdapterRow.parent.in_(level), AdapterRow.digest.not_in(met))
        rows = session.scalars(statement.order_by(AdapterRow.seen).limit(limit - len(below))).all()
        below += rows
        level = [row.digest for row in rows]
        met.update(level)
    return below


def _decided(examination: ExaminationRow, review: ReviewRow, placement: PlacementRow | None) -> Decided:
    return Decided(
        review=review.id,
        digest=examination.digest,
        name=examination.name,
        remedy=examination.remedy,
        decision=Decision.model_validate_json(examination.decision or ""),
        place=placement.place if placement is not None and placement.finished is not None else None,
        started=review.started,
        finished=review.finished,
    )
