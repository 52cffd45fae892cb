"""Runs the application in a thread with a loop of its own, from the moment its address is taken until it is let go."""

from __future__ import annotations

import errno
import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import uvicorn
from starlette.types import ASGIApp

from monitor.exit_codes import UsageError
from monitor.logs import logger

GRACE_SECONDS = 0.4
"""How long answers that have begun may go on once the server is told to stop."""
_MOST_CONNECTIONS = 256
_START_SECONDS = 10.0

log = logger("web")


@contextmanager
def serving(app: ASGIApp, host: str, port: int) -> Iterator[str]:
    """Serve an application for as long as the block runs and yield its address, ``http://host:port``.

    The address is taken before the block begins: port 0 takes a free one. It is let go within a second, whatever is
    open.

    Raises:
        UsageError: the address is taken, not of this machine, or not allowed; one line that says what to do.
    """
    listener = _bound(host, port)
    try:
        configuration = uvicorn.Config(
            app,
            log_config=None,
            access_log=False,
            lifespan="off",
            ws="none",
            server_header=False,
            # Whom a header names as the client is only a claim.
            proxy_headers=False,
            limit_concurrency=_MOST_CONNECTIONS,
        )
        server = uvicorn.Server(configuration)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, name="web", daemon=True)
        thread.start()
        try:
            _wait_until_started(server, thread)
            yield _address(host, listener)
        finally:
            _stop(server, thread)
    finally:
        listener.close()


def _bound(host: str, port: int) -> socket.socket:
    try:
        family, kind, protocol, _name, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listener = socket.socket(family, kind, protocol)
    except OSError as error:
        raise UsageError(f"http.host {host}: {error.strerror or error}; give an address of this machine") from error
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(128)
    except OSError as error:
        listener.close()
        where = f"http: {host}:{port}"
        if error.errno == errno.EADDRINUSE:
            raise UsageError(f"{where} is in use by another program; end that or give another http.port") from error
        if error.errno == errno.EADDRNOTAVAIL:
            raise UsageError(f"{where} is no address of this machine; give another http.host") from error
        cause = os.strerror(error.errno) if error.errno else str(error)
        raise UsageError(f"{where} cannot be listened on ({cause}); give another http.port or http.host") from error
    return listener


def _wait_until_started(server: uvicorn.Server, thread: threading.Thread) -> None:
    deadline = time.monotonic() + _START_SECONDS
    while not server.started:
        if not thread.is_alive() or time.monotonic() > deadline:
            raise RuntimeError("the web server did not start")
        time.sleep(0.005)


def _stop(server: uvicorn.Server, thread: threading.Thread) -> None:
    """Let what has begun end, then cut it off; a request that a slow disk holds up must not hold up the process."""
    server.should_exit = True
    thread.join(GRACE_SECONDS)
    server.force_exit = True
    thread.join(GRACE_SECONDS)
    if thread.is_alive():
        log.warning("a request is still being worked on; it ends with the process")


def _address(host: str, listener: socket.socket) -> str:
    return f"http://{f'[{host}]' if ':' in host else host}:{listener.getsockname()[1]}"
