from __future__ import annotations

import threading
from collections.abc import Callable

import pytest

from guards.errors import Retryable
from monitor.timers import Timers

PATIENCE = 20.0


class Calls:
    """Counts calls, and lets somebody wait for the next one."""

    def __init__(self, act: Callable[[], None] = lambda: None) -> None:
        self.count = 0
        self._act = act
        self._called = threading.Semaphore(0)

    def __call__(self) -> None:
        self.count += 1
        self._called.release()
        self._act()

    def came(self) -> bool:
        return self._called.acquire(timeout=PATIENCE)


def test_a_function_is_called_at_once_and_not_again_before_its_time() -> None:
    calls = Calls()
    with Timers() as timers:
        timers.every(3600, calls, "hourly")
        assert calls.came()
    assert calls.count == 1


def _refuse() -> None:
    raise Retryable("the disk is full")


def _break() -> None:
    raise ZeroDivisionError


@pytest.mark.parametrize("trouble", [_refuse, _break])
def test_what_a_function_raises_keeps_it_and_others_from_nothing(trouble: Callable[[], None]) -> None:
    failing, other = Calls(trouble), Calls()
    with Timers() as timers:
        timers.every(0.01, failing, "failing")
        timers.every(0.01, other, "other")
        assert failing.came()
        assert failing.came()
        assert other.came()
        assert other.came()


@pytest.mark.parametrize("jump", [-86400.0, 86400.0])
def test_a_clock_that_is_set_by_a_day_delays_nothing_by_a_day(jump: float) -> None:
    calls = Calls()
    ahead = 0.0

    with Timers(offset=lambda: ahead, look_seconds=0.005) as timers:
        timers.every(3600, calls, "hourly")
        assert calls.came()
        ahead = jump
        assert calls.came()
    assert calls.count == 2


def test_an_orderly_end_waits_for_what_still_runs() -> None:
    begun, go_on = threading.Event(), threading.Event()
    ended = []

    def slow() -> None:
        begun.set()
        go_on.wait(PATIENCE)
        ended.append(True)

    with Timers() as timers:
        timers.every(3600, slow, "slow")
        assert begun.wait(PATIENCE)
        threading.Timer(0.05, go_on.set).start()
    assert ended == [True]
