"""The ledger: everything Alignwatch did and learnt, recorded before it is acted on.

A run that is killed anywhere resumes from here and repeats no finished judgement. What can go wrong is in
``monitor.ledger.database``.
"""

from __future__ import annotations

import hashlib
import json
import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from adapters.adapter import DIGEST_PREFIX, Adapter
from monitor.ledger import audit
from monitor.ledger.audit import AuditRecord
from monitor.ledger.audited import Audited
from monitor.ledger.browse import Browse
from monitor.ledger.database import Database, LedgerConflict, LedgerUnusable, LedgerUnwritable
from monitor.ledger.exported import Exported
from monitor.ledger.judge_canaries import JudgeCanaryLedger
from monitor.ledger.looks import Looks
from monitor.ledger.measures import Measures
from monitor.ledger.memory import SharedMemory
from monitor.ledger.overrides import Overrides
from monitor.ledger.queue import Queue
from monitor.ledger.record import ReviewRecord, know, load_reviews
from monitor.ledger.registry import Registry
from monitor.ledger.service_tables import AdapterRow, JobRow
from monitor.ledger.serving import FleetLedger
from monitor.ledger.stream import StreamLedger
from monitor.ledger.tables import ExaminationRow, Placement, PlacementRow, RemedyRow, ReviewRow
from monitor.ledger.values import Values
from monitor.review import Context, Review

__all__ = ["Ledger", "LedgerConflict", "LedgerUnusable", "LedgerUnwritable", "Placement", "ReviewRecord", "utc_now"]


def utc_now() -> datetime:
    """Return the present time, in UTC."""
    return datetime.now(UTC)


class Ledger(SharedMemory):
    """All reviews of one state folder, and the answers and judgements they share."""

    def __init__(self, path: Path, clock: Callable[[], datetime] = utc_now, *, read_only: bool = False) -> None:
        """Open or create ``ledger.db``; ``read_only`` takes nothing that is not there and needs no lock.

        Raises:
            LedgerUnusable: the file is missing (when only read), damaged, foreign or newer.
            LedgerUnwritable: the disk is full or fails, or another process holds the file.
        """
        self.path = path
        self._clock = clock
        database = Database(path, read_only=read_only)
        super().__init__(database)
        self.registry = Registry(database, clock)
        self.overrides = Overrides(database, clock)
        self.queue = Queue(database, clock)
        self.fleet = FleetLedger(database, clock)
        self.measures = Measures(database, clock)
        self.values = Values(database)
        self.browse = Browse(database, clock)
        self.exported = Exported(database)
        self.looks = Looks(database)
        self.stream = StreamLedger(database)
        self.judge_canaries = JudgeCanaryLedger(database, clock)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the file."""
        self._database.close()

    def open_review(self, adapter: Adapter, context: Context) -> ReviewRecord:
        """Resume the unfinished review of this adapter under this context, or begin a new one.

        A finished review stays as it is; the new one finds its answers and judgements kept.
        """
        digest_of_context = context_digest(context)
        with self._database.writing() as session:
            unfinished = select(ReviewRow).where(
                ReviewRow.digest == adapter.digest,
                ReviewRow.context_digest == digest_of_context,
                ReviewRow.finished.is_(None),
            )
            row = session.scalar(unfinished)
            if row is None:
                now = self._clock()
                row = ReviewRow(
                    id=_fresh_id(session, adapter, now),
                    digest=adapter.digest,
                    context=context.model_dump_json(),
                    context_digest=digest_of_context,
                    started=now,
                    # Begun together with the review, so that no review is ever without its arrival.
                    examinations=[ExaminationRow.of(adapter, remedy=None)],
                )
                session.add(row)
                know(session, adapter, adapter.digest, now)
                session.flush()
            return ReviewRecord(self._database, row.ordinal, row.id, self._clock)

    def reviews(self) -> list[Review]:
        """Return every review, newest first."""
        with self._database.reading() as session:
            return load_reviews(session)

    def review(self, review_id: str) -> Review | None:
        """Return one review by its id."""
        with self._database.reading() as session:
            return next(iter(load_reviews(session, ReviewRow.id == review_id)), None)

    def unfinished_placements(self) -> list[tuple[ReviewRecord, str]]:
        """Return the digests whose placement a killed run left half done, each with its review."""
        statement = (
            select(ReviewRow.ordinal, ReviewRow.id, ExaminationRow.digest)
            .join(ExaminationRow, ExaminationRow.review_ordinal == ReviewRow.ordinal)
            .join(PlacementRow, PlacementRow.examination_ordinal == ExaminationRow.ordinal)
            .where(PlacementRow.finished.is_(None))
            .order_by(PlacementRow.ordinal)
        )
        with self._database.reading() as session:
            return [
                (ReviewRecord(self._database, ordinal, review, self._clock), digest)
                for ordinal, review, digest in session.execute(statement)
            ]

    def made_at(self, digest: str) -> list[Path]:
        """Return the folders in which remedies wrote a digest; a review that was finished has removed its own."""
        statement = select(RemedyRow.made_path).where(RemedyRow.made_digest == digest).distinct()
        with self._database.reading() as session:
            return [self._database.path.parent.absolute() / made for made in session.scalars(statement) if made]

    def remedies_at_work(self) -> set[str]:
        """Return the names of the folders below ``remedied/`` that reviews with an open job still need."""
        statement = (
            select(RemedyRow.digest, RemedyRow.method)
            .join(ReviewRow, ReviewRow.ordinal == RemedyRow.review_ordinal)
            .join(JobRow, JobRow.digest == ReviewRow.digest)
            .where(ReviewRow.finished.is_(None))
        )
        with self._database.reading() as session:
            return {f"{digest}+{method}" for digest, method in session.execute(statement)}

    def is_under_review(self, digest: str) -> bool:
        """Whether a digest waits for its review, or is one of those that an open one examines; not if that is dead."""
        waits = select(JobRow.ordinal).where(JobRow.digest == digest, JobRow.state != "dead")
        examined = (
            select(ExaminationRow.ordinal)
            .join(ReviewRow, ReviewRow.ordinal == ExaminationRow.review_ordinal)
            .join(JobRow, JobRow.digest == ReviewRow.digest)
            .where(ExaminationRow.digest == digest, ReviewRow.finished.is_(None), JobRow.state != "dead")
        )
        with self._database.reading() as session:
            return session.scalar(waits) is not None or session.scalar(examined.limit(1)) is not None

    def last_review_of(self, digest: str) -> Review | None:
        """Return the last finished review that examined a digest, as an arrival or as a mended one."""
        last = select(AdapterRow.review).where(AdapterRow.digest == digest)
        with self._database.reading() as session:
            return next(iter(load_reviews(session, ReviewRow.id == last.scalar_subquery())), None)

    def newest_review(self) -> Review | None:
        """Return the review that was finished last."""
        finished = select(func.max(ReviewRow.finished)).scalar_subquery()
        with self._database.reading() as session:
            return next(iter(load_reviews(session, ReviewRow.finished == finished)), None)

    def times_reviewed(self, digest: str, context_digest: str | None = None) -> int:
        """Return how many finished reviews examined a digest, all or those under one context."""
        statement = (
            select(func.count())
            .select_from(ExaminationRow)
            .join(ReviewRow, ReviewRow.ordinal == ExaminationRow.review_ordinal)
            .where(ExaminationRow.digest == digest, ReviewRow.finished.is_not(None))
        )
        if context_digest is not None:
            statement = statement.where(ReviewRow.context_digest == context_digest)
        with self._database.reading() as session:
            return session.scalar(statement) or 0

    def stale(self, context: str, before: datetime) -> list[str]:
        """Return the promoted digests to look at again, the longest promoted first.

        That is those whose last review was under another context than the one with this digest, or that had none
        (an old policy that comes back is a change too), and those whose last review was finished before a moment. A
        mended adapter was looked at within the review of the arrival that it was made from.
        """
        statement = (
            select(AdapterRow.digest, ReviewRow.context_digest, ReviewRow.finished)
            .outerjoin(ReviewRow, ReviewRow.id == AdapterRow.review)
            .where(AdapterRow.place == "promoted")
            .order_by(AdapterRow.placed, AdapterRow.digest)
        )
        with self._database.reading() as session:
            return [
                digest
                for digest, under, finished in session.execute(statement)
                if under != context or finished is None or finished < before
            ]

    def audit_trail(self, subject: str | None = None) -> list[AuditRecord]:
        """Return the audit records in order, all or those about one digest."""
        with self._database.reading() as session:
            return list(audit.trail(session, subject))

    @contextmanager
    def audited(self) -> Iterator[Audited]:
        """One consistent look at the audit trail and the tables that have to agree with it."""
        with self._database.reading() as session:
            yield Audited(session)

    def audit_head(self) -> AuditRecord | None:
        """Return the last audit record; None while there is none."""
        with self._database.reading() as session:
            return audit.head(session)

    def broken_link(self) -> str | None:
        """Recompute the audit chain; None where it holds, else what is wrong with it."""
        with self._database.reading() as session:
            return audit.broken_link(session)

    def note(self, kind: audit.Kind, subject: str = "", **payload: Any) -> str:
        """Append one audit record of what no other record tells, and return its hash."""
        with self._database.writing() as session:
            return audit.append(session, self._clock(), kind, subject, **payload)

    def find_reviews(self, digest_prefix: str) -> list[Review]:
        """Return the reviews that examined a digest beginning so (``sha256-`` may be left out), newest first."""
        prefix = DIGEST_PREFIX + digest_prefix.lower().removeprefix(DIGEST_PREFIX)
        matching = ReviewRow.examinations.any(ExaminationRow.digest.startswith(prefix, autoescape=True))
        with self._database.reading() as session:
            return load_reviews(session, matching)


def context_digest(context: Context) -> str:
    canonical = json.dumps(context.model_dump(mode="json"), sort_keys=True)
    return hashlib.sha256(canonical.encode()).hexdigest()


def _fresh_id(session: Session, adapter: Adapter, now: datetime) -> str:
    """Name a review readably: when, which adapter, and four digits for those begun within one second."""
    while True:
        moment = now.astimezone(UTC).strftime("%Y%m%dT%H%M%SZ")
        review_id = f"{moment}-{adapter.short}-{secrets.token_hex(2)}"
        if session.scalar(select(ReviewRow.ordinal).where(ReviewRow.id == review_id)) is None:
            return review_id
