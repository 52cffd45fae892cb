"""What machines ask about the service itself."""

from __future__ import annotations

from typing import Literal

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse
from prometheus_client import CONTENT_TYPE_LATEST
from pydantic import BaseModel
from starlette.responses import Response

from guards.errors import GuardError

router = APIRouter(tags=["probes"])


class Alive(BaseModel):
    """The process answers."""

    status: Literal["alive"] = "alive"
    """Always this."""


class Readiness(BaseModel):
    """Whether verdicts can be expected."""

    status: Literal["ready", "not ready"]
    """``ready`` comes with 200, ``not ready`` with 503."""
    reasons: list[str] = []
    """Why not, a line a cause."""


@router.head("/healthz", include_in_schema=False)
@router.get("/healthz", response_model=Alive, operation_id="healthz")
def healthz() -> Alive:
    """Say that the process is alive. It says nothing about whether it can work: see ``/readyz``."""
    return Alive()


@router.head("/readyz", include_in_schema=False)
@router.get(
    "/readyz",
    response_model=Readiness,
    responses={503: {"model": Readiness, "description": "Not ready, with the reasons."}},
    operation_id="readyz",
)
def readyz(request: Request) -> Response:
    """Say whether verdicts can be expected: ledger readable and writable, worker alive, base loaded."""
    reasons = [*_ledger_troubles(request), *request.app.state.service.ready()]
    body = Readiness(status="not ready" if reasons else "ready", reasons=reasons)
    return JSONResponse(body.model_dump(), 503 if reasons else 200)


@router.get(
    "/metrics",
    response_class=Response,
    responses={200: {"content": {"text/plain": {}}, "description": "The text format of Prometheus."}},
    operation_id="metrics",
)
def metrics(request: Request) -> Response:
    """Return all metrics for Prometheus."""
    return Response(request.app.state.service.metrics(), media_type=CONTENT_TYPE_LATEST)


def _ledger_troubles(request: Request) -> list[str]:
    ledger = request.app.state.service.ledger
    try:
        ledger.queue.oldest()
    except GuardError as error:
        return [str(error)]
    if ledger.exported.writable():
        return []
    return ["the ledger cannot be written; free space there, make it writable, or end what holds it"]
