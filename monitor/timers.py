"""What is done again and again beside the reviews, by APScheduler in memory: its jobs are code, never data."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from types import TracebackType
from typing import Self

from apscheduler.executors.pool import ThreadPoolExecutor
from apscheduler.schedulers.background import BackgroundScheduler

from guards.errors import GuardError
from monitor.logs import logger

log = logger("timers")

_JUMP_SECONDS = 2.0
"""A clock that is set by more than this has jumped; less is the usual slewing."""


def wall_against_monotonic() -> float:
    """Return by how many seconds the clock on the wall is ahead of the one that nobody sets."""
    return time.time() - time.monotonic()


class Timers:
    """Runs functions at intervals in threads of their own; a function never overlaps itself.

    APScheduler keeps its appointments by the clock on the wall. Where that is set back by a day, they would all wait
    for a day; so a jump is looked for, and everything is done at once after one.
    """

    def __init__(self, offset: Callable[[], float] = wall_against_monotonic, look_seconds: float = 1.0) -> None:
        """``offset`` tells how the wall's clock stands against a monotonic one; it is asked every ``look_seconds``."""
        self._offset = offset
        self._look_seconds = look_seconds
        self._stop = threading.Event()
        self._lookout = threading.Thread(target=self._look_for_jumps, name="clock", daemon=True)
        self._scheduler = BackgroundScheduler(
            timezone=UTC,
            daemon=True,
            executors={"default": ThreadPoolExecutor(8)},
            # What was missed, by a busy machine or a clock that jumped, is done once and soon.
            job_defaults={"coalesce": True, "max_instances": 1, "misfire_grace_time": None},
        )

    def every(self, seconds: float, function: Callable[[], object], name: str) -> None:
        """Call ``function`` now and then every ``seconds``. What it raises is told, and it is called again."""
        self._scheduler.add_job(
            _guarded(function, name), "interval", seconds=seconds, id=name, next_run_time=datetime.now(UTC)
        )

    def __enter__(self) -> Self:
        self._scheduler.start()
        self._lookout.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        # After an orderly end others take over, and must not meet what still runs; a process that ends does not wait.
        self._scheduler.shutdown(wait=kind is None)

    def _look_for_jumps(self) -> None:
        last = self._offset()
        while not self._stop.wait(self._look_seconds):
            now = self._offset()
            if abs(now - last) > _JUMP_SECONDS:
                log.warning("the clock was set; everything regular is done at once", by_seconds=round(now - last, 1))
                for job in self._scheduler.get_jobs():
                    job.modify(next_run_time=datetime.now(UTC))
            last = now


def _guarded(function: Callable[[], object], name: str) -> Callable[[], None]:
    def run() -> None:
        try:
            function()
        except (GuardError, OSError) as error:
            log.warning("a timer failed for now", timer=name, cause=str(error))
        except Exception:
            log.exception("a fault of Alignwatch, please report it", timer=name)

    return run
