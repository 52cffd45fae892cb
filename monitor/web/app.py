"""Puts the API, the page and their guards together."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from monitor.configuration import HttpSettings
from monitor.ledger import Ledger
from monitor.web import probes
from monitor.web.access import Access, Sessions, open_tokens
from monitor.web.api import router as api_router
from monitor.web.limits import Allowance, BodyLimit, RateLimit
from monitor.web.page import problem_page
from monitor.web.page import router as page_router
from monitor.web.problems import Problem, for_scripts, told
from monitor.web.shield import Shield
from monitor.web.tokens import Tokens


@dataclass(frozen=True, slots=True)
class Service:
    """What the routes work with; ``request.app.state.service``."""

    ledger: Ledger
    """All that is shown."""
    metrics: Callable[[], bytes]
    """Makes the text for Prometheus."""
    submit: Callable[[str], bool]
    """Queues a review of a known digest, and says whether that was needed."""
    ready: Callable[[], list[str]]
    """Says why no verdict can be expected now, a line a cause; empty when all is well."""
    tokens: Tokens | None
    """Who may enter; None where everybody on this machine may read."""
    sessions: Sessions
    """Who signed in on the page."""


def create_app(
    ledger: Ledger,
    settings: HttpSettings,
    *,
    metrics: Callable[[], bytes],
    submit: Callable[[str], bool],
    ready: Callable[[], list[str]],
) -> FastAPI:
    """Make the application; see :class:`Service` for the three functions, which may be called from any thread.

    Raises:
        UsageError: the tokens cannot be used, or there are none and the listener can be reached from outside.
    """
    tokens = open_tokens(settings)
    sessions = Sessions()
    app = FastAPI(
        title="Alignwatch",
        version=_version(),
        description="What was decided about adapters, why, and what is served. Everything is read from the ledger.",
        # The documentation pages that come with FastAPI load scripts from other hosts.
        docs_url=None,
        redoc_url=None,
        openapi_url="/openapi.json",
        redirect_slashes=False,
    )
    app.state.service = Service(ledger, metrics, submit, ready, tokens, sessions)
    app.include_router(probes.router)
    app.include_router(api_router)
    app.include_router(page_router)
    app.add_exception_handler(HTTPException, _refused)
    app.add_exception_handler(RequestValidationError, _misunderstood)
    # The last one added is the outermost.
    app.add_middleware(Access, settings=settings, tokens=tokens, sessions=sessions)
    app.add_middleware(BodyLimit, most_bytes=settings.max_body_bytes)
    app.add_middleware(RateLimit, allowance=Allowance(settings.requests_per_minute))
    app.add_middleware(Shield, answer=answer)
    app.add_middleware(ShortPath)
    return app


class ShortPath:
    """Takes ``POST /reviews`` for ``POST /api/reviews``, before anything looks at the path."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass every request on, this one under its long path."""
        if scope["type"] == "http" and scope["method"] == "POST" and scope["path"] == "/reviews":
            scope = {**scope, "path": "/api/reviews", "raw_path": b"/api/reviews"}
        await self._app(scope, receive, send)


def answer(path: str, problem: Problem) -> Response:
    """Tell a problem to whoever asked at a path: JSON for scripts, a page for people."""
    if for_scripts(path):
        return JSONResponse(told(problem).model_dump(), problem.status, problem.headers)
    return problem_page(problem)


def _refused(request: Request, error: Exception) -> Response:
    status = error.status_code if isinstance(error, HTTPException) else 500
    headers = error.headers if isinstance(error, HTTPException) else None
    cause, step = {
        404: ("there is nothing at this address", "see /openapi.json for all addresses, or begin at /"),
        405: ("this address does not take that method", "see /openapi.json for what it takes"),
    }.get(status, ("the request was refused", "see /openapi.json"))
    return answer(request.url.path, Problem(status, cause, step, headers))


def _misunderstood(request: Request, error: Exception) -> Response:
    problems = error.errors() if isinstance(error, RequestValidationError) else []
    named = "; ".join(f"{'.'.join(str(part) for part in item['loc'])}: {item['msg']}" for item in problems[:3])
    return answer(request.url.path, Problem(422, named[:500], "see /openapi.json for what is expected"))


def _version() -> str:
    try:
        return version("alignwatch")
    except PackageNotFoundError:
        return "0"
