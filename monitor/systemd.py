"""Telling systemd how the service is, where systemd started it (sd_notify(3)); elsewhere nothing happens."""

from __future__ import annotations

import os
import socket
from contextlib import suppress


def notify(*lines: str) -> bool:
    """Send states such as ``READY=1``, and say whether somebody listens. Never fails: a deaf manager is no fault."""
    address = os.environ.get("NOTIFY_SOCKET")
    if not address:
        return False
    with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as channel:
        channel.connect("\0" + address[1:] if address.startswith("@") else address)
        channel.sendall("\n".join(lines).encode())
        return True
    return False


def watchdog_seconds() -> float | None:
    """Return how often systemd wants ``WATCHDOG=1`` at the latest, in seconds; None where it does not."""
    microseconds = os.environ.get("WATCHDOG_USEC", "")
    meant_for = os.environ.get("WATCHDOG_PID", str(os.getpid()))
    if not microseconds.isdigit() or meant_for != str(os.getpid()):
        return None
    return int(microseconds) / 1e6
