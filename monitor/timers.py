"""What is done again and again beside the reviews, by APScheduler in memory: its jobs are code, never data."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from types import TracebackType
from typing import Self

from apscheduler.executors.pool import ThreadPoolExecutor
from apscheduler.schedulers.background import BackgroundScheduler

from guards.errors import GuardError
from monitor.logs import logger

log = logger("timers")


class Timers:
    """Runs functions at intervals in threads of their own; a function never overlaps itself."""

    def __init__(self) -> None:
        self._scheduler = BackgroundScheduler(
            timezone=UTC,
            daemon=True,
            executors={"default": ThreadPoolExecutor(4)},
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
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._scheduler.shutdown(wait=False)


def _guarded(function: Callable[[], object], name: str) -> Callable[[], None]:
    def run() -> None:
        try:
            function()
        except (GuardError, OSError) as error:
            log.warning("a timer failed for now", timer=name, cause=str(error))
        except Exception:
            log.exception("a fault of Alignwatch, please report it", timer=name)

    return run
