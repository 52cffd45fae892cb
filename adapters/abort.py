"""Many requests at once, and giving them up: one failure ends all, and so does Ctrl-C, leaving no thread behind."""

from __future__ import annotations

import socket
import threading
import weakref
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from typing import Any, TypeVar

T = TypeVar("T")

POLL_SECONDS = 0.5
"""Longest time that Ctrl-C goes unnoticed."""


class Aborted(Exception):
    """The work was given up; nobody waits for this request any more."""


class Abort:
    """Ends pauses and open connections of requests that are made together."""

    def __init__(self) -> None:
        self._set = threading.Event()
        self._open: weakref.WeakSet[socket.socket] = weakref.WeakSet()
        self._lock = threading.Lock()

    def now(self) -> None:
        """Wake everybody."""
        with self._lock:
            self._set.set()
            for wire in list(self._open):
                _shut(wire)

    def check(self) -> None:
        """Raise where the work was given up."""
        if self._set.is_set():
            raise Aborted

    def sleep(self, seconds: float, sleep: Callable[[float], None] | None) -> None:
        """Pause, unless or until the work is given up."""
        (sleep or self._set.wait)(seconds)
        self.check()

    def watch(self, event: str, info: dict[str, Any]) -> None:
        """Note each new connection: httpcore's trace hook. Closing a socket does not wake its reader; this can."""
        if not event.endswith(("connect_tcp.complete", "start_tls.complete")):
            return
        wire = info["return_value"].get_extra_info("socket")
        with self._lock:
            if isinstance(wire, socket.socket):
                self._open.add(wire)
                if self._set.is_set():
                    _shut(wire)


def all_at_once(work: Sequence[Callable[[Abort], T]], most: int, name: str) -> list[T]:
    """Do all work, at most ``most`` pieces at a time; results come back in its order.

    Args:
        work: each piece is told what ends it early.
        most: threads.
        name: of the threads.

    Raises:
        Exception: whatever one piece raised; the others were given up.
    """
    abort = Abort()
    pool = ThreadPoolExecutor(most, thread_name_prefix=name)
    try:
        begun = [pool.submit(piece, abort) for piece in work]
        _until_finished(begun)
        return [future.result() for future in begun]
    except BaseException:
        # Also KeyboardInterrupt: whoever waits for a socket or a pause is woken, then joined.
        abort.now()
        raise
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _until_finished(begun: Sequence[Future[T]]) -> None:
    """Wait for all, or raise the first exception of any."""
    while True:
        # In short waits: a signal that another thread happened to receive is noticed only between two of them.
        finished, unfinished = wait(begun, timeout=POLL_SECONDS, return_when=FIRST_EXCEPTION)
        for future in finished:
            future.result()
        if not unfinished:
            return


def _shut(wire: socket.socket) -> None:
    try:
        wire.shutdown(socket.SHUT_RDWR)
    except OSError:
        return  # already closed by the other side
