"""The outermost layer: turns whatever goes wrong into one clear answer, and tells browsers what a page may do."""

from __future__ import annotations

import traceback
from collections.abc import Callable
from typing import Final

from starlette.datastructures import MutableHeaders
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from monitor.ledger import LedgerUnusable, LedgerUnwritable
from monitor.logs import logger
from monitor.web.problems import Problem

_HEADERS: Final = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
        "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    # Not no-referrer: browsers would then also hide the origin of our own forms from us.
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}

log = logger("web")


class Shield:
    """Answers with a problem where the application raises one, or anything else."""

    def __init__(self, app: ASGIApp, answer: Callable[[str, Problem], Response]) -> None:
        """``answer(path, problem)`` makes the response."""
        self._app = app
        self._answer = answer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer in any case."""
        if scope["type"] != "http":
            return
        begun = False

        async def guarded(message: Message) -> None:
            nonlocal begun
            if message["type"] == "http.response.start":
                begun = True
                headers = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    headers[name] = value
                headers.setdefault("Cache-Control", "no-store")
            await send(message)

        try:
            await self._app(scope, receive, guarded)
        except Exception as error:
            problem = _problem(error, scope["path"])
            if begun:  # half an answer cannot be turned into another; the connection ends, and the client sees that
                return
            await self._answer(scope["path"], problem)(scope, receive, guarded)


def _problem(error: Exception, path: str) -> Problem:
    match error:
        case Problem():
            return error
        case LedgerUnwritable() | LedgerUnusable():
            cause, _, step = str(error).rpartition("; ")
            return Problem(503, cause or str(error), step or "look at the service's log")
        case _:
            # As text, because a log that draws exceptions may draw what variables hold, and one may hold a token.
            trace = "".join(traceback.format_exception(error))
            log.error("a request failed", path=path[:200], cause=repr(error), trace=trace)
            return Problem(500, "this is a fault of Alignwatch", "report it with what the service's log says")
