"""What should be served, and what is: the fleet's memory in the ledger."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from datetime import UTC, datetime

from pydantic import ConfigDict, TypeAdapter
from sqlalchemy import delete, func, select, union
from sqlalchemy.orm import Session

from adapters.canary import Canary
from adapters.fleet_record import BEGUN, Desired, ReplicaState, ReplicaStatus, Serving, ServingState
from monitor.ledger import audit
from monitor.ledger.database import Database
from monitor.ledger.overrides import standing_override
from monitor.ledger.service_tables import AdapterRow, AuditRow, CanaryRow, NameRow, ReplicaRow, ServingRow
from monitor.ledger.tables import ExaminationRow, ReviewRow
from monitor.ledger.values import count

_CANARIES: TypeAdapter[tuple[Canary, ...]] = TypeAdapter(
    tuple[Canary, ...], config=ConfigDict(ser_json_bytes="base64", val_json_bytes="base64")
)
_EVER = datetime.min.replace(tzinfo=UTC)
_TOLD: dict[ServingState, audit.Kind] = {
    "loading": "served",
    "serving": "served",
    "failed": "rolled_back",
    "withdrawing": "withdrawn",
    "resident": "withdrawn",
    "absent": "withdrawn",
}


class FleetLedger:
    """The ledger as the fleet's reconciler sees it; see :class:`adapters.fleet_record.FleetMemory`."""

    def __init__(self, database: Database, clock: Callable[[], datetime], keep_versions: int = 2) -> None:
        """Keep the newest ``keep_versions`` promoted adapters of every name in service."""
        self._database = database
        self._clock = clock
        self._promoted = database.path.parent.absolute() / "promoted"
        self.keep_versions = keep_versions
        self._drawn: dict[str, tuple[Canary, ...]] = {}

    def aliases(self) -> dict[str, list[str]]:
        """Return, by name, its promoted digests, the newest arrival first: the first is what the name stands for.

        A mended adapter stands for every arrival that it was mended from, and for itself where its own bytes arrived.
        """
        promoted = AdapterRow.place == "promoted"
        mended = (
            select(ReviewRow.digest.label("arrival"), AdapterRow.digest.label("digest"))
            .select_from(AdapterRow)
            .join(ExaminationRow, ExaminationRow.digest == AdapterRow.digest)
            .join(ReviewRow, ReviewRow.ordinal == ExaminationRow.review_ordinal)
            .where(promoted)
        )
        stands_for = union(mended, select(AdapterRow.digest, AdapterRow.digest).where(promoted)).subquery()
        last = func.max(NameRow.ordinal)
        statement = (
            select(NameRow.name, AdapterRow.digest, last)
            .join(stands_for, stands_for.c.arrival == NameRow.digest)
            .join(AdapterRow, AdapterRow.digest == stands_for.c.digest)
            .group_by(NameRow.name, AdapterRow.digest)
            .order_by(NameRow.name, last.desc(), AdapterRow.placed.desc(), AdapterRow.digest)
        )
        aliases: dict[str, list[str]] = defaultdict(list)
        with self._database.reading() as session:
            for name, digest, _last in session.execute(statement):
                aliases[name].append(digest)
        return dict(aliases)

    def superseded(self) -> list[str]:
        """Return the promoted digests that no name needs any more.

        One that a person released stays until a version that its name keeps was promoted after that word.
        """
        aliases = self.aliases()
        kept = {digest for digests in aliases.values() for digest in digests[: self.keep_versions]}
        left = {digest for digests in aliases.values() for digest in digests} - kept
        if not left:
            return []
        newest: dict[str, datetime] = {}
        with self._database.reading() as session:
            promoted = select(AdapterRow.digest, AdapterRow.placed).where(AdapterRow.place == "promoted")
            placed = {digest: at for digest, at in session.execute(promoted) if at is not None}
            released = {
                digest: row.at
                for digest in left
                if (row := standing_override(session, digest)) is not None and row.action == "release"
            }
        for digests in aliases.values():
            since = max(placed.get(digest) or _EVER for digest in digests[: self.keep_versions])
            for digest in digests[self.keep_versions :]:
                newest[digest] = max(since, newest.get(digest, since))
        return sorted(digest for digest in left if digest not in released or released[digest] < newest[digest])

    def desired(self) -> list[Desired]:
        """Return what every replica should serve, the longest promoted first."""
        with self._database.reading() as session:
            rows = session.execute(
                select(AdapterRow, CanaryRow.digest)
                .outerjoin(CanaryRow, CanaryRow.digest == AdapterRow.digest)
                .where(AdapterRow.place == "promoted")
                .order_by(AdapterRow.placed, AdapterRow.digest)
            )
            desired = [
                Desired(
                    row.digest,
                    row.name,
                    self._promoted / row.digest,
                    () if drawn is None else self._canaries_of(session, row.digest),
                )
                for row, drawn in rows
            ]
        self._drawn = {one.digest: one.canaries for one in desired if one.canaries}
        return desired

    def _canaries_of(self, session: Session, digest: str) -> tuple[Canary, ...]:
        """Return an adapter's canaries, read once: they hold pictures, and a fleet asks every few seconds."""
        if digest not in self._drawn:
            text = session.scalar(select(CanaryRow.canaries).where(CanaryRow.digest == digest))
            self._drawn[digest] = () if text is None else _CANARIES.validate_json(text)
        return self._drawn[digest]

    def without_canaries(self) -> list[str]:
        """Return the promoted digests for which no canaries were drawn yet."""
        with self._database.reading() as session:
            missing = (
                select(AdapterRow.digest)
                .outerjoin(CanaryRow, CanaryRow.digest == AdapterRow.digest)
                .where(AdapterRow.place == "promoted", CanaryRow.digest.is_(None))
                .order_by(AdapterRow.placed)
            )
            return list(session.scalars(missing))

    def keep_canaries(self, digest: str, canaries: Sequence[Canary]) -> None:
        """Keep what an adapter will be proved with."""
        with self._database.writing() as session:
            session.merge(CanaryRow(digest=digest, canaries=_CANARIES.dump_json(tuple(canaries)).decode()))
        self._drawn.pop(digest, None)

    def servings(self) -> list[Serving]:
        """Return everything recorded of adapters on replicas."""
        with self._database.reading() as session:
            return [
                Serving(row.replica, row.digest, row.state, row.detail, row.attempts, row.since)  # type: ignore[arg-type]
                for row in session.scalars(select(ServingRow).order_by(ServingRow.replica, ServingRow.digest))
            ]

    def replicas(self) -> list[ReplicaStatus]:
        """Return every replica as last seen."""
        with self._database.reading() as session:
            return [
                ReplicaStatus(row.replica, row.state, row.detail, row.boot, row.since, row.checked)  # type: ignore[arg-type]
                for row in session.scalars(select(ReplicaRow).order_by(ReplicaRow.replica))
            ]

    def record(self, replica: str, digest: str, state: ServingState, detail: str = "") -> None:
        """Keep that an adapter on a replica comes to a state; an unchanged one is not written again."""
        with self._database.writing() as session:
            row = session.get(ServingRow, (replica, digest))
            if row is not None and (row.state, row.detail) == (state, detail):
                return
            now = self._clock()
            if row is None:
                row = ServingRow(replica=replica, digest=digest, attempts=0)
                session.add(row)
            changed = row.state != state
            row.state, row.detail = state, detail
            if changed:
                row.since = now
                row.attempts = 0 if state == "serving" else row.attempts + (state == "failed")
                count(session, "fleet_transitions_total", state=state)
                if state in _TOLD:
                    audit.append(session, now, _TOLD[state], digest, replica=replica, state=state, detail=detail)

    def seen(self, replica: str, state: ReplicaState, detail: str, boot: str) -> None:
        """Keep how a replica was found."""
        with self._database.writing() as session:
            now = self._clock()
            row = session.get(ReplicaRow, replica)
            if row is None:
                row = ReplicaRow(replica=replica)
                session.add(row)
            if row.state != state:
                row.since = now
            row.state, row.detail, row.boot, row.checked = state, detail, boot, now

    def forget(self, replica: str) -> None:
        """Drop everything about a replica that the configuration names no more."""
        with self._database.writing() as session:
            session.execute(delete(ServingRow).where(ServingRow.replica == replica))
            session.execute(delete(ReplicaRow).where(ReplicaRow.replica == replica))

    def drop(self, replica: str, digest: str) -> None:
        """Drop what is recorded of an adapter on a replica, once its absence was recorded."""
        with self._database.writing() as session:
            session.execute(delete(ServingRow).where(ServingRow.replica == replica, ServingRow.digest == digest))

    def rolled_out_since(self, moment: datetime) -> int:
        """Return how many adapters were begun to be rolled out since then, for the blast-radius limit."""
        begun = select(func.count(func.distinct(AuditRow.subject))).where(
            AuditRow.kind == "served",
            AuditRow.at >= audit.moment(moment),
            AuditRow.payload.contains('"state":"loading"'),
            AuditRow.payload.contains(f'"detail":"{BEGUN}"'),
        )
        with self._database.reading() as session:
            return int(session.scalar(begun) or 0)
