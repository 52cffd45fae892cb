"""Giving up requests that other threads wait for."""

from __future__ import annotations

import socket
import threading
import weakref
from collections.abc import Callable
from typing import Any


class Aborted(Exception):
    """The work was given up; nobody waits for this request any more."""


class Abort:
    """Ends pauses and open connections of one ``ask_all`` at once."""

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


def _shut(wire: socket.socket) -> None:
    try:
        wire.shutdown(socket.SHUT_RDWR)
    except OSError:
        return  # already closed by the other side
