"""Bounds of what one client may ask: how much at once, how often, and how slowly."""

from __future__ import annotations

import asyncio
import ipaddress
import math
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Final

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from monitor.web.problems import Problem

PROBES: Final = frozenset({"/healthz", "/readyz", "/metrics"})
"""What machines ask. They have an allowance of their own, so that a busy page never makes the service look dead."""

SLOWEST_BODY_SECONDS: Final = 10.0
"""A request's body has to be here after so long."""


class Allowance:
    """How often each client may ask: a bucket that holds one minute's worth and fills again evenly."""

    def __init__(self, per_minute: int, clients: int = 4096, monotonic: Callable[[], float] = time.monotonic) -> None:
        """Remember at most so many ``clients``; the one that has been silent longest is forgotten first."""
        self._per_minute = per_minute
        self._most = clients
        self._monotonic = monotonic
        self._left: OrderedDict[str, tuple[float, float]] = OrderedDict()
        self._lock = threading.Lock()

    def take(self, client: str) -> float:
        """Take one request from a client's allowance and return 0, or the seconds until there is one again."""
        with self._lock:
            now = self._monotonic()
            left, at = self._left.pop(client, (float(self._per_minute), now))
            left = min(float(self._per_minute), left + (now - at) * self._per_minute / 60)
            allowed = left >= 1
            self._left[client] = (left - allowed, now)
            while len(self._left) > self._most:
                self._left.popitem(last=False)
            return 0.0 if allowed else (1 - left) * 60 / self._per_minute

    def __len__(self) -> int:
        return len(self._left)


def client_of(scope: Scope) -> str:
    """Name who asks: the address, of IPv6 its network, because one client has all of that."""
    host = str((scope.get("client") or ("unknown",))[0])
    try:
        address = ipaddress.ip_address(host.split("%")[0])
    except ValueError:
        return host
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is None:
        return str(ipaddress.ip_network((address, 64), strict=False))
    return str(address)


class RateLimit:
    """Refuses clients that ask too often."""

    def __init__(self, app: ASGIApp, allowance: Allowance) -> None:
        self._app = app
        self._allowance = allowance

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let a request through, or refuse it with 429."""
        if scope["type"] == "http":
            kind = "probe " if scope["path"] in PROBES else ""
            wait = self._allowance.take(kind + client_of(scope))
            if wait > 0:
                seconds = str(math.ceil(wait))
                raise Problem(
                    429,
                    "too many requests from this address",
                    f"wait {seconds} s, or raise http.requests_per_minute",
                    {"Retry-After": seconds},
                )
        await self._app(scope, receive, send)


class BodyLimit:
    """Reads a request's body before anything else does, up to a size and a time."""

    def __init__(self, app: ASGIApp, most_bytes: int, slowest: float = SLOWEST_BODY_SECONDS) -> None:
        self._app = app
        self._most = most_bytes
        self._slowest = slowest

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Hand the whole body on, or refuse it with 413 or 408."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        declared = next((value for name, value in scope["headers"] if name == b"content-length"), b"0")
        if not declared.isdigit() or int(declared) > self._most:
            raise self._too_large()
        try:
            async with asyncio.timeout(self._slowest):
                body = await self._body(receive)
        except TimeoutError:
            raise Problem(
                408, "the request's body did not arrive in time", "send it again", {"Connection": "close"}
            ) from None
        if body is None:  # the client is gone
            return
        waiting: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

        async def replay() -> Message:
            return waiting.pop() if waiting else await receive()

        await self._app(scope, replay, send)

    async def _body(self, receive: Receive) -> bytes | None:
        whole = bytearray()
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                return None
            whole += message.get("body", b"")
            if len(whole) > self._most:
                raise self._too_large()
            if not message.get("more_body", False):
                return bytes(whole)

    def _too_large(self) -> Problem:
        return Problem(
            413,
            f"the request's body is larger than {self._most} bytes",
            "send less, or raise http.max_body_bytes",
            {"Connection": "close"},
        )
