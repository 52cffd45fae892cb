"""One review being worked on. Every step is recorded here before anything acts on it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime

from sqlalchemy import ColumnElement, delete, select
from sqlalchemy.orm import Session, selectinload

from adapters.adapter import Adapter
from guards.remedy_record import measured_by
from monitor.ledger import audit
from monitor.ledger.database import Database, LedgerConflict
from monitor.ledger.measures import measures_of
from monitor.ledger.overrides import standing_override
from monitor.ledger.registry import learn_parent, row_of, stand
from monitor.ledger.service_tables import AdapterRow, JobRow
from monitor.ledger.spending import SpendingLedger
from monitor.ledger.tables import RESULTS, ExaminationRow, LookRow, Placement, PlacementRow, RemedyRow, ReviewRow
from monitor.ledger.values import count, observe
from monitor.review import Place, RemedyFailure, Review, place_for
from policies.decide import Decision
from policies.findings import Finding, Result


class ReviewRecord:
    """One unfinished review. Each step may be repeated, as a resumed run does."""

    def __init__(self, database: Database, ordinal: int, review_id: str, clock: Callable[[], datetime]) -> None:
        self.id = review_id
        self.spending = SpendingLedger(database, ordinal)
        self._database = database
        self._ordinal = ordinal
        self._clock = clock
        self._folder = database.path.parent.absolute()

    @property
    def review(self) -> Review:
        """Everything recorded so far. An examination without a decision shows as inconclusive, never as clean."""
        with self._database.reading() as session:
            return load_reviews(session, ReviewRow.ordinal == self._ordinal)[0]

    def begin_examination(self, adapter: Adapter, remedy: str | None) -> None:
        """Record that an adapter is examined; the arrived one already is.

        What the remedy that made it measured is kept beside what the guards find, under the remedy's name.
        """
        measured = [] if remedy is None else measured_by(adapter.path, remedy)
        with self._change() as session:
            if _examination(session, self._ordinal, adapter.digest) is None:
                examination = ExaminationRow.of(adapter, remedy, review_ordinal=self._ordinal)
                session.add(examination)
                if measured and remedy is not None:
                    told = RESULTS.dump_json(list(measured)).decode()
                    about = {"guard": remedy, "version": measured[0].version, "seconds": 0}
                    session.add(LookRow(examination=examination, results=told, **about))
                arrival = session.get_one(ReviewRow, self._ordinal).digest
                know(session, adapter, arrival, self._clock())

    def is_remedied(self, digest: str) -> bool:
        """Return whether a remedy made this adapter, in this review or in an earlier one."""
        with self._database.reading() as session:
            known = session.get(AdapterRow, digest)
            return known is not None and known.parent_source == "remedy"

    def recall(self, digest: str, guard: str, version: str) -> list[Result] | None:
        """Return what this version of the guard found, or None if it has not finished looking."""
        with self._database.reading() as session:
            examination = _examination(session, self._ordinal, digest)
            look = None if examination is None else _look(session, examination, guard, version)
            return None if look is None else RESULTS.validate_json(look.results)

    def keep(self, digest: str, guard: str, version: str, results: Sequence[Result], seconds: float) -> None:
        """Keep a guard's results and the seconds it took; the first ones kept are final.

        Nothing is added once the adapter's placement began: the review shows what its decision was made of.
        """
        with self._change() as session:
            examination = self._begun(session, digest)
            if examination.placement is None and _look(session, examination, guard, version) is None:
                payload = RESULTS.dump_json(list(results)).decode()
                session.add(
                    LookRow(examination=examination, guard=guard, version=version, results=payload, seconds=seconds)
                )
                observe(session, "review_duration_seconds", seconds, stage=guard)

    def recall_decision(self, digest: str) -> Decision | None:
        """Return the recorded decision on an adapter, if there is one."""
        with self._database.reading() as session:
            examination = _examination(session, self._ordinal, digest)
            if examination is None or examination.decision is None:
                return None
            return Decision.model_validate_json(examination.decision)

    def record_decision(self, digest: str, decision: Decision) -> Decision:
        """Record a decision before it is acted on, and return the one that stands.

        That is this one until the adapter's placement begins. From then on the recorded one stands, so that a resumed
        run ends what was begun even where a newer guard would decide otherwise; a new review is there for that.
        """
        with self._change() as session:
            examination = self._begun(session, digest)
            if examination.placement is not None and examination.decision is not None:
                return Decision.model_validate_json(examination.decision)
            recorded = decision.model_dump_json()
            if examination.decision != recorded:
                examination.decision = recorded
                told = decision.model_dump(mode="json")
                audit.append(session, self._clock(), "decided", digest, review=self.id, decision=told)
            return decision

    def recall_remedy(self, method: str, digest: str) -> Adapter | RemedyFailure | None:
        """Return what a remedy made of an adapter, or why it failed; None if it never finished.

        The folder is where the remedy wrote it; a placement may have moved it since.
        """
        with self._database.reading() as session:
            row = _remedy(session, self._ordinal, method, digest)
            return None if row is None else row.outcome(self._folder)

    def begin_remedy(self, method: str, digest: str) -> None:
        """Record that a remedy is tried on an examined adapter."""
        with self._change() as session:
            self._begun(session, digest)
            row = _remedy(session, self._ordinal, method, digest)
            if row is None:
                row = RemedyRow(review_ordinal=self._ordinal, method=method, digest=digest)
                session.add(row)
            row.begun = self._clock()

    def finish_remedy(self, method: str, digest: str, made: Adapter) -> None:
        """Record the new adapter that a remedy made; the last ending counts, should the first one's files be lost.

        Raises:
            LedgerConflict: the remedy was not begun.
        """
        self._end_remedy(method, digest, made)

    def fail_remedy(self, method: str, digest: str, reason: str) -> None:
        """Record why a remedy could not be applied; the last ending counts.

        Raises:
            LedgerConflict: the remedy was not begun.
        """
        self._end_remedy(method, digest, RemedyFailure(remedy=method, digest=digest, reason=reason))

    def recall_placement(self, digest: str) -> Placement | None:
        """Return the adapter's placement, begun or finished, if there is one."""
        with self._database.reading() as session:
            examination = _examination(session, self._ordinal, digest)
            if examination is None or examination.placement is None:
                return None
            return examination.placement.record()

    def begin_placement(self, digest: str) -> Place:
        """Record where an adapter is about to be put, and return that. From here on its decision is final.

        It follows from the recorded decision, and from a person's word where one stands. A placement that was begun
        before, even one that was finished, is begun anew where somebody has said or done otherwise since.

        Raises:
            LedgerConflict: nothing was decided.
        """
        with self._change() as session:
            examination = self._begun(session, digest)
            if examination.decision is None:
                raise LedgerConflict(
                    f"review {self.id} has not decided about {digest}; nothing may be placed undecided"
                )
            decision = Decision.model_validate_json(examination.decision)
            override = standing_override(session, digest)
            place = place_for(decision.outcome, None if override is None else override.action)
            now, placement = self._clock(), examination.placement
            if placement is None:
                session.add(PlacementRow(examination=examination, place=place, begun=now))
            else:
                stands = placement.finished is None or session.get_one(AdapterRow, digest).place == place
                if placement.place == place and stands:
                    return place
                placement.place, placement.begun, placement.finished = place, now, None
            audit.append(session, now, "placing", digest, review=self.id, place=place)
            return place

    def finish_placement(self, digest: str) -> None:
        """Record that the adapter is in its place.

        Raises:
            LedgerConflict: the placement was not begun.
        """
        with self._change() as session:
            placement = self._begun(session, digest).placement
            if placement is None:
                raise LedgerConflict(f"review {self.id} never began to place {digest}")
            if placement.finished is None:
                placement.finished = self._clock()
                stand(session, digest, placement.place, placement.finished)
                count(session, "placements_total", place=placement.place)
                seconds = (placement.finished - placement.begun).total_seconds()
                observe(session, "review_duration_seconds", max(0.0, seconds), stage="settle")
                audit.append(session, placement.finished, "placed", digest, review=self.id, place=placement.place)

    def close(self) -> Review:
        """Record that everything is in its final place, take the job out that asked for it, and return the review.

        Raises:
            LedgerConflict: the arrived adapter is undecided, or a placement is not finished.
        """
        with self._database.writing() as session:
            row = session.get_one(ReviewRow, self._ordinal)
            if row.examinations[0].decision is None:
                raise LedgerConflict(f"review {self.id} has not decided about {row.digest}")
            for examination in row.examinations:
                if examination.placement is not None and examination.placement.finished is None:
                    raise LedgerConflict(f"review {self.id} has not finished placing {examination.digest}")
            if row.finished is None:
                row.finished = self._clock()
                self._conclude(session, row)
        return self.review

    def _conclude(self, session: Session, row: ReviewRow) -> None:
        """Bring what is kept beside the review up to it."""
        # In this transaction, so that no kill leaves a job behind whose review is done: it would be done twice.
        session.execute(delete(JobRow).where(JobRow.digest == row.digest, JobRow.state == "running"))
        review = row.record()
        for examination in review.examinations:
            session.get_one(AdapterRow, examination.digest).review = self.id
            session.add_all(measures_of(examination, row.ordinal, self._clock()))
            for result in examination.results:
                if isinstance(result, Finding) and result.measure == "unscored":
                    count(session, "judge_unscored_total", result.value)
                if isinstance(result, Finding) and result.measure == "misalignment_rise":
                    count(session, "judge_answers_total", 2 * result.n)  # the base's answer and the adapter's
        verdict = review.arrival.decision.verdict
        count(session, "reviews_total", verdict=verdict)
        if row.remedies and review.promoted is None:
            count(session, "quarantined_after_remedy_total")
        seconds = (self._clock() - review.started).total_seconds()
        observe(session, "review_duration_seconds", max(0.0, seconds), stage="whole")
        digests = [examination.digest for examination in review.examinations]
        audit.append(session, self._clock(), "reviewed", row.digest, review=self.id, verdict=verdict, examined=digests)

    @contextmanager
    def _change(self) -> Iterator[Session]:
        with self._database.writing() as session:
            if session.get_one(ReviewRow, self._ordinal).finished is not None:
                raise LedgerConflict(f"review {self.id} is finished and stays as it is; open a new one")
            yield session

    def _begun(self, session: Session, digest: str) -> ExaminationRow:
        examination = _examination(session, self._ordinal, digest)
        if examination is None:
            raise LedgerConflict(f"review {self.id} has not begun to examine {digest}")
        return examination

    def _end_remedy(self, method: str, digest: str, outcome: Adapter | RemedyFailure) -> None:
        with self._change() as session:
            row = _remedy(session, self._ordinal, method, digest)
            if row is None:
                raise LedgerConflict(f"review {self.id} never began {method} on {digest}")
            row.end(outcome, self._folder, self._clock())
            seconds = (self._clock() - row.begun).total_seconds()
            observe(session, "review_duration_seconds", max(0.0, seconds), stage="remedy")
            count(session, "remedies_total", remedy=method)
            if isinstance(outcome, RemedyFailure):
                count(session, "remedy_failures_total", remedy=method)
            made = outcome.digest if isinstance(outcome, Adapter) else None
            audit.append(session, self._clock(), "remedied", digest, review=self.id, remedy=method, made=made)


def know(session: Session, adapter: Adapter, arrival: str, now: datetime) -> None:
    """Make an adapter known that a review examines, unless it is already."""
    met = session.get(AdapterRow, adapter.digest)
    if met is None:
        session.add(row_of(adapter, arrival, "declared" if adapter.digest == arrival else "remedy", now))
    elif adapter.digest != arrival:
        learn_parent(met, adapter.parent, "remedy")


def load_reviews(session: Session, *conditions: ColumnElement[bool]) -> list[Review]:
    """Assemble all reviews that meet the conditions, newest first."""
    examinations = selectinload(ReviewRow.examinations)
    statement = (
        select(ReviewRow)
        .where(*conditions)
        .order_by(ReviewRow.started.desc(), ReviewRow.ordinal.desc())
        .options(
            examinations.selectinload(ExaminationRow.looks),
            examinations.selectinload(ExaminationRow.placement),
            selectinload(ReviewRow.remedies),
        )
    )
    return [row.record() for row in session.scalars(statement)]


def _examination(session: Session, review: int, digest: str) -> ExaminationRow | None:
    statement = select(ExaminationRow).where(ExaminationRow.review_ordinal == review, ExaminationRow.digest == digest)
    return session.scalar(statement)


def _look(session: Session, examination: ExaminationRow, guard: str, version: str) -> LookRow | None:
    statement = select(LookRow).where(
        LookRow.examination_ordinal == examination.ordinal, LookRow.guard == guard, LookRow.version == version
    )
    return session.scalar(statement)


def _remedy(session: Session, review: int, method: str, digest: str) -> RemedyRow | None:
    statement = select(RemedyRow).where(
        RemedyRow.review_ordinal == review, RemedyRow.method == method, RemedyRow.digest == digest
    )
    return session.scalar(statement)
