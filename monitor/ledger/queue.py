"""The queue of reviews to be done. It lies in the ledger, so that no crash loses a place in it.

Who waits for a job decides its class; within a class the more suspicious goes first, so that harm is found early, and
among equals the one that waits longest. At most one job of a digest is open. A job is leased, kept by heartbeats and
deleted when its review is finished; one whose worker died is leased again. What failed for the surroundings' sake
waits and is tried for ever, with growing pauses; what cannot succeed is dead until somebody revives it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import ColumnElement, case, delete, func, or_, select, update

from monitor.ledger.database import Database
from monitor.ledger.service_tables import JobReason, JobRow, JobState
from monitor.ledger.tables import ReviewRow

PRIORITIES: dict[JobReason, int] = {"requested": 20, "arrival": 10, "re-review": 0}
"""People wait for what they asked for, trainers for their arrivals; what is deployed was reviewed before."""

OVERTAKEN_FOR = timedelta(hours=6)
"""For so long others that are more suspicious may go before a job; then its age alone counts within its class, so
that nobody waits for ever behind a stream of suspicious arrivals."""

LONGEST_PAUSE = timedelta(hours=1)
"""No failed job waits longer for its next attempt."""


@dataclass(frozen=True, slots=True)
class Job:
    """One review to be done."""

    digest: str
    """The adapter."""
    name: str
    """What people call it."""
    reason: JobReason
    """Why it is to be reviewed."""
    repeat: int
    """0 for the first review under a policy; each later one asks with another seed."""
    priority: int
    """The higher goes first."""
    state: JobState
    """``dead`` waits for a person."""
    attempts: int
    """How often it was begun."""
    not_before: datetime
    """When it may be tried again, UTC."""
    enqueued: datetime
    """When it was put in, UTC."""
    owner: str | None = None
    """Who works on it."""
    stage: str | None = None
    """What is being done, for people."""
    done: int | None = None
    """Steps of the stage that are finished."""
    total: int | None = None
    """Steps that the stage has."""
    error: str | None = None
    """Why the last attempt failed, in one line."""
    suspicion: float | None = None
    """How suspicious a screen of its files found it, 0 to 1, the higher the sooner; None, which is unknown, goes
    before all that are known."""


class Queue:
    """All open jobs of one ledger."""

    def __init__(self, database: Database, clock: Callable[[], datetime]) -> None:
        self._database = database
        self._clock = clock

    def add(
        self,
        digest: str,
        name: str,
        reason: JobReason,
        *,
        context_digest: str | None = None,
        repeat: int = 0,
        suspicion: float | None = None,
    ) -> bool:
        """Put a review in, and say whether that was needed.

        It is not where the digest's job is open already, or where it was reviewed under this very context. An open job
        takes over a higher priority, and waits no longer then. A dead one is left to people: a request revives it, a
        second arrival does not.

        ``suspicion``, 0 to 1, orders it within its class. What is unknown or no number goes first: what no screen
        could read is no less suspicious than what one could.
        """
        suspicion = suspicion if suspicion is not None and math.isfinite(suspicion) else None
        with self._database.writing() as session:
            open_job = session.scalar(select(JobRow).where(JobRow.digest == digest))
            if open_job is not None:
                return self._urge(open_job, reason)
            if context_digest is not None and session.scalar(
                select(ReviewRow.ordinal).where(
                    ReviewRow.digest == digest,
                    ReviewRow.context_digest == context_digest,
                    ReviewRow.finished.is_not(None),
                )
            ):
                return False
            now = self._clock()
            session.add(
                JobRow(
                    digest=digest,
                    name=name,
                    reason=reason,
                    repeat=repeat,
                    priority=PRIORITIES[reason],
                    state="queued",
                    attempts=0,
                    not_before=now,
                    enqueued=now,
                    suspicion=suspicion,
                )
            )
            return True

    def _urge(self, job: JobRow, reason: JobReason) -> bool:
        """Bring a second reason for the same review to its open job; True where that revived it."""
        if job.state == "dead":
            if reason == "requested":
                job.state, job.attempts, job.priority, job.reason = "queued", 0, PRIORITIES[reason], reason
                job.not_before, job.error = self._clock(), None
            return reason == "requested"
        if PRIORITIES[reason] > job.priority:
            job.priority, job.reason = PRIORITIES[reason], reason
            if job.state == "queued":
                job.not_before = self._clock()
        return False

    def lease(self, owner: str, seconds: float) -> Job | None:
        """Take the job that is next, for so long; None where none is due.

        A job whose lease ran out is taken over from whoever had it.
        """
        with self._database.writing() as session:
            now = self._clock()
            due = or_(
                (JobRow.state == "queued") & (JobRow.not_before <= now),
                # Nobody pauses for so long: the clock was set back meanwhile.
                (JobRow.state == "queued") & (JobRow.not_before > now + LONGEST_PAUSE),
                (JobRow.state == "running") & (JobRow.expires <= now),
            )
            row = session.scalar(select(JobRow).where(due).order_by(*turn(now)).limit(1))
            if row is None:
                return None
            row.state, row.owner, row.expires = "running", owner, now + timedelta(seconds=seconds)
            row.attempts += 1
            row.stage = row.done = row.total = None
            return job_of(row)

    def heartbeat(self, digest: str, owner: str, seconds: float, stage: str, done: int, total: int) -> bool:
        """Keep a lease and tell how far the work is; False where the lease was lost to another."""
        expires = self._clock() + timedelta(seconds=seconds)
        changed = {"expires": expires, "stage": stage, "done": done, "total": total}
        return self._change(digest, owner, changed)

    def finish(self, digest: str, owner: str) -> None:
        """Take a job out: its review is recorded."""
        with self._database.writing() as session:
            session.execute(delete(JobRow).where(JobRow.digest == digest, JobRow.owner == owner))

    def give_back(self, digest: str, owner: str) -> None:
        """Return a job untouched, because its worker ends; the attempt does not count."""
        self._change(
            digest, owner, {"state": "queued", "owner": None, "expires": None, "attempts": JobRow.attempts - 1}
        )

    def retry(self, digest: str, owner: str, error: str, pause: float) -> None:
        """Return a job whose attempt failed; it is due again after ``pause`` seconds, at most an hour."""
        not_before = self._clock() + min(timedelta(seconds=pause), LONGEST_PAUSE)
        changed = {"state": "queued", "owner": None, "expires": None, "error": error, "not_before": not_before}
        self._change(digest, owner, changed)

    def bury(self, digest: str, owner: str, error: str) -> None:
        """Set a job aside as a dead letter: trying again cannot help."""
        self._change(digest, owner, {"state": "dead", "owner": None, "expires": None, "error": error})

    def revive(self, digest: str | None = None) -> int:
        """Queue a dead job again, or all of them, and return how many there were."""
        with self._database.writing() as session:
            dead = select(JobRow).where(JobRow.state == "dead")
            rows = session.scalars(dead if digest is None else dead.where(JobRow.digest == digest)).all()
            for row in rows:
                row.state, row.attempts, row.not_before, row.error = "queued", 0, self._clock(), None
            return len(rows)

    def reclaim(self) -> int:
        """Queue again what a process left running. Only for whoever holds the state folder's lock."""
        with self._database.writing() as session:
            left = update(JobRow).where(JobRow.state == "running")
            return int(session.execute(left.values(state="queued", owner=None, expires=None)).rowcount)  # type: ignore[attr-defined]

    def jobs(self, limit: int = 1000) -> list[Job]:
        """Return the open jobs, in the order in which they would be taken, the dead ones last."""
        order = (JobRow.state == "dead", JobRow.state != "running", *turn(self._clock()))
        with self._database.reading() as session:
            return [job_of(row) for row in session.scalars(select(JobRow).order_by(*order).limit(limit))]

    def job(self, digest: str) -> Job | None:
        """Return the open job of a digest, if there is one."""
        with self._database.reading() as session:
            row = session.scalar(select(JobRow).where(JobRow.digest == digest))
            return None if row is None else job_of(row)

    def depths(self) -> dict[JobState, int]:
        """Return how many jobs are in each state."""
        with self._database.reading() as session:
            counted = session.execute(select(JobRow.state, func.count()).group_by(JobRow.state))
            depths: dict[JobState, int] = dict.fromkeys(("queued", "running", "dead"), 0)
            for state, count in counted:
                depths[state] = count
            return depths

    def oldest(self) -> datetime | None:
        """Return when the oldest job that is not dead was put in, UTC."""
        with self._database.reading() as session:
            return session.scalar(select(func.min(JobRow.enqueued)).where(JobRow.state != "dead"))

    def _change(self, digest: str, owner: str, values: Mapping[str, object]) -> bool:
        with self._database.writing() as session:
            held = update(JobRow).where(JobRow.digest == digest, JobRow.owner == owner, JobRow.state == "running")
            return bool(session.execute(held.values(**values)).rowcount)  # type: ignore[attr-defined]


def turn(now: datetime) -> tuple[ColumnElement[Any], ...]:
    """Return what jobs are ordered by: class, whether overtaken long enough, suspicion, and age."""
    waited = JobRow.enqueued <= now - OVERTAKEN_FOR
    known = case((waited, 0.0), else_=JobRow.suspicion)
    return JobRow.priority.desc(), waited.desc(), known.desc().nulls_first(), JobRow.ordinal.asc()


def job_of(row: JobRow) -> Job:
    """Return a row as everyone else knows it."""
    return Job(
        digest=row.digest,
        name=row.name,
        reason=row.reason,
        repeat=row.repeat,
        priority=row.priority,
        state=row.state,
        attempts=row.attempts,
        not_before=row.not_before,
        enqueued=row.enqueued,
        owner=row.owner,
        stage=row.stage,
        done=row.done,
        total=row.total,
        error=row.error,
        suspicion=row.suspicion,
    )
