"""The worker: takes one job at a time from the queue and carries its adapter through the pipeline.

What ends a job
    the review is recorded      it is taken out
    Retryable, EngineError      it waits, with growing pauses, for ever: nothing is wrong with the adapter
    Permanent, AdapterError     dead letter: somebody has to change something first
    any other exception         a fault of ours: tried three times, then a dead letter
    the process ends            given back untouched
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from adapters.adapter import AdapterError
from adapters.engine import EngineError
from guards.errors import GuardError, Permanent, Retryable
from monitor.ledger import Ledger
from monitor.ledger.queue import Job
from monitor.logs import about, logger
from monitor.pipeline import Tools, review_adapter
from monitor.records import write_record
from monitor.review import Review
from monitor.state import StateFolder
from monitor.waiting import staged

if TYPE_CHECKING:
    from guards.judges.usage import Usage

LEASE_SECONDS = 120.0
"""How long a job stays with a worker that gives no sign of life."""

_FIRST_PAUSE, _LONGEST_PAUSE = 5.0, 300.0
_OUR_FAULTS = 3
_MAY_CRASH = 5

log = logger("worker")


def pause_after(attempts: int) -> float:
    """Return how many seconds a job waits after its ``attempts``-th failed attempt: doubling, up to five minutes."""
    return min(_LONGEST_PAUSE, _FIRST_PAUSE * 2.0 ** min(attempts - 1, 20))


class Worker:
    """Works on one job after the other; ``work`` is one of them."""

    def __init__(
        self,
        ledger: Ledger,
        state: StateFolder,
        tools: Callable[[int], Tools],
        owner: str,
        *,
        usage: Callable[[], Usage | None] = lambda: None,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """Work with what ``tools(repeat)`` builds, as ``owner``; ``usage`` tells what the judge has cost so far."""
        self._ledger = ledger
        self._state = state
        self._tools = tools
        self._owner = owner
        self._usage = usage
        self._monotonic = monotonic
        self._job: Job | None = None
        self._spent = (0, 0, 0, 0)
        self._told = float("-inf")
        self._progress = ("starting", 0, 1)

    def work(self) -> Job | None:
        """Take the next job and end it one way or another; None where none is due."""
        job = self._ledger.queue.lease(self._owner, LEASE_SECONDS)
        if job is None:
            return None
        self._job, self._progress = job, ("starting", 0, 1)
        with about(adapter=job.digest, name=job.name):
            try:
                self._attempt(job)
            except BaseException:  # the process ends: another one, or this one's successor, takes the job up
                with suppress(Exception):
                    self._ledger.queue.give_back(job.digest, self._owner)
                raise
            finally:
                self._job = None
        return job

    def progress(self, stage: str, done: int, total: int) -> None:
        """Keep the lease and tell how far the review is; fits :class:`guards.interface.Progress`."""
        self._progress = (stage, done, total)
        if self._monotonic() - self._told >= 1:
            self.heartbeat()

    def heartbeat(self) -> None:
        """Keep the lease; called by a timer too, because one batch of a large model can take minutes."""
        job = self._job
        if job is None:
            return
        self._told = self._monotonic()
        stage_, done, total = self._progress
        self._ledger.queue.heartbeat(job.digest, self._owner, LEASE_SECONDS, stage_, done, total)

    def count_usage(self) -> None:
        """Add what the judge has cost since this was last called to the ledger's counters."""
        usage = self._usage()
        if usage is None:
            return
        now = (usage.requests, usage.failures, usage.prompt_tokens, usage.completion_tokens)
        requests, failures, read, written = (a - b if a >= b else a for a, b in zip(now, self._spent, strict=True))
        self._spent = now
        values: list[tuple[str, int, dict[str, Any]]] = [
            ("judge_requests_total", requests, {}),
            ("judge_request_failures_total", failures, {}),
            ("judge_tokens_total", read, {"direction": "read"}),
            ("judge_tokens_total", written, {"direction": "written"}),
        ]
        for name, amount, labels in values:
            if amount:
                with suppress(GuardError):
                    self._ledger.values.count(name, amount, **labels)

    @property
    def busy_with(self) -> Job | None:
        """The job being worked on."""
        return self._job

    def _attempt(self, job: Job) -> None:
        log.info("review begins", reason=job.reason, attempt=job.attempts, repeat=job.repeat)
        queue = self._ledger.queue
        try:
            if job.attempts > _MAY_CRASH and job.error is None:
                raise Permanent(f"{job.attempts - 1} attempts ended with the process; the adapter may have killed it")
            review = self._review(job)
        except (Retryable, EngineError, OSError) as error:
            pause = pause_after(job.attempts)
            log.warning("review failed for now", cause=str(error), next_attempt_in=pause)
            self._fail("retryable", queue.retry, job.digest, self._owner, str(error), pause)
        except (GuardError, AdapterError) as error:
            log.error("review cannot succeed", cause=str(error), next_step="mend it, then alignwatch queue --revive")
            self._fail("permanent", queue.bury, job.digest, self._owner, str(error))
        except Exception as error:
            log.exception("a fault of Alignwatch, please report it")
            line = f"a fault of Alignwatch: {error!r}"
            if job.attempts < _OUR_FAULTS:
                self._fail("fault", queue.retry, job.digest, self._owner, line, pause_after(job.attempts))
            else:
                self._fail("fault", queue.bury, job.digest, self._owner, line)
        else:
            queue.finish(job.digest, self._owner)
            self._tell(review)
        finally:
            self.count_usage()

    def _review(self, job: Job) -> Review:
        adapter = staged(job, self._ledger, self._state)
        tools = self._tools(job.repeat)
        review = review_adapter(adapter, tools, self._ledger, self._state)
        write_record(review, self._state.reviews / review.id)
        return review

    def _fail(self, kind: str, end: Callable[..., None], *arguments: object) -> None:
        """Record a failure; where even the ledger fails, the lease runs out and the job is taken up again."""
        end(*arguments)
        self._ledger.values.count("review_failures_total", kind=kind)

    def _tell(self, review: Review) -> None:
        for examination in review.examinations:
            log.info(
                "reviewed",
                examined=examination.digest,
                examined_name=examination.name,
                verdict=examination.decision.verdict,
                place=examination.place or "observed",
                why=examination.decision.reasons[0].text if examination.decision.reasons else "",
                review=review.id,
                seconds=round(examination.seconds, 2),
            )
