"""What the API and the page answer when they cannot do what was asked: a cause and a next step, never a trace."""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import BaseModel


class Problem(Exception):
    """A request that is refused or cannot be answered."""

    def __init__(self, status: int, cause: str, next_step: str, headers: Mapping[str, str] | None = None) -> None:
        """Answer with an HTTP status, one line on the cause and one on what to do."""
        super().__init__(cause)
        self.status = status
        self.cause = cause
        self.next_step = next_step
        self.headers = dict(headers or {})


class ProblemBody(BaseModel):
    """How a problem is told to scripts."""

    error: str
    """The cause, in one line."""
    next_step: str
    """What to do about it, in one line."""


def told(problem: Problem) -> ProblemBody:
    """Put a problem into the form for scripts."""
    return ProblemBody(error=problem.cause, next_step=problem.next_step)


def for_scripts(path: str) -> bool:
    """Whether what asks at this path reads JSON rather than a page."""
    return path.startswith("/api/") or path in {"/metrics", "/healthz", "/readyz", "/openapi.json"}
