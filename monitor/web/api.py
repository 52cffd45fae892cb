"""The API: everything that the page shows, for scripts."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Path, Query, Request
from starlette.responses import Response

from adapters.adapter import is_digest
from monitor.ledger import Ledger
from monitor.ledger.browse import Decided
from monitor.ledger.service_tables import Standing as Place
from monitor.logs import logger
from monitor.review import Review
from monitor.web import views
from monitor.web.problems import Problem, ProblemBody
from monitor.web.schemas import (
    AdapterBody,
    AdapterDetail,
    AdapterPage,
    AuditBody,
    AuditPage,
    DecidedBody,
    FleetBody,
    JobBody,
    LineageBody,
    LineageMember,
    LineagePoint,
    OverrideBody,
    QueueBody,
    ReplicaBody,
    ReviewRequest,
    ReviewRequested,
    RolloutBody,
    VerdictBody,
)

_PROBLEMS: dict[int | str, dict[str, Any]] = {
    401: {"model": ProblemBody, "description": "A token is needed."},
    429: {"model": ProblemBody, "description": "Too many requests; `Retry-After` says when to ask again."},
    503: {"model": ProblemBody, "description": "The ledger cannot be read or written."},
}
_ABSENT: dict[int | str, dict[str, Any]] = {404: {"model": ProblemBody, "description": "There is no such thing."}}

router = APIRouter(prefix="/api", tags=["api"], responses=_PROBLEMS)
log = logger("web")

Digest = Annotated[str, Path(pattern="^sha256-[0-9a-f]{64}$", description="`sha256-` and 64 hexadecimal digits.")]
Limit = Annotated[int, Query(ge=1, le=200, description="How many at most.")]
Offset = Annotated[int, Query(ge=0, le=10_000_000, description="How many to pass over.")]


def ledger_of(request: Request) -> Ledger:
    """Return the ledger that the application shows."""
    ledger: Ledger = request.app.state.service.ledger
    return ledger


@router.get("/adapters", response_model=AdapterPage, operation_id="listAdapters")
def adapters(
    request: Request,
    place: Annotated[Place | None, Query(description="Only those that are there.")] = None,
    name: Annotated[
        str | None, Query(max_length=200, description="Only those with this in the name, or at the digest's begin.")
    ] = None,
    limit: Limit = 50,
    offset: Offset = 0,
) -> AdapterPage:
    """List adapters, the newest first."""
    found = ledger_of(request).browse.adapters(limit + 1, offset, place=place, text=name)
    items = [AdapterBody.model_validate(known) for known in found[:limit]]
    return AdapterPage(items=items, next_offset=offset + limit if len(found) > limit else None)


@router.get("/adapters/{digest}", response_model=AdapterDetail, responses=_ABSENT, operation_id="getAdapter")
def adapter(request: Request, digest: Digest) -> AdapterDetail:
    """Return one adapter with its open review and its last decisions."""
    ledger = ledger_of(request)
    known = views.adapter_or_problem(ledger, digest)
    now = views.standing(ledger, digest)
    return AdapterDetail(
        adapter=AdapterBody.model_validate(known),
        status=now.status,
        names=ledger.registry.names(digest)[:100],
        override=_override(now),
        job=_job(now),
        decisions=[_decided(decided) for decided in now.decisions],
    )


@router.get("/verdicts/{digest}", response_model=VerdictBody, operation_id="getVerdict")
def verdict(request: Request, digest: Digest) -> VerdictBody:
    """Say whether a digest may be served. What never arrived is `unknown`; only `promoted` may be served."""
    now = views.standing(ledger_of(request), digest, decisions=1)
    return VerdictBody(
        digest=digest,
        status=now.status,
        verdict=None if now.last is None else now.last.decision.verdict,
        reasons=[] if now.last is None else list(now.last.decision.reasons),
        review=None if now.last is None else now.last.review,
        override=_override(now),
        job=_job(now),
        page=f"/adapters/{digest}",
    )


@router.get("/reviews/{review_id}", response_model=Review, responses=_ABSENT, operation_id="getReview")
def review(request: Request, review_id: Annotated[str, Path(max_length=200)]) -> Response:
    """Return one whole review, as in `review.json`; infinite numbers are text. It may hold harmful text."""
    found = ledger_of(request).review(review_id)
    if found is None:
        raise Problem(
            404, f"there is no review {review_id!r}", "see /api/adapters/{digest} for the reviews of an adapter"
        )
    return Response(found.model_dump_json(), media_type="application/json")


@router.post(
    "/reviews",
    response_model=ReviewRequested,
    status_code=202,
    responses={
        **_ABSENT,
        403: {"model": ProblemBody, "description": "The token may not write, or there is none."},
        409: {"model": ProblemBody, "description": "The adapter's files are gone."},
        413: {"model": ProblemBody, "description": "The body is too large."},
    },
    operation_id="requestReview",
)
def request_review(request: Request, body: ReviewRequest) -> ReviewRequested:
    """Ask for a review of an adapter that arrived before; people's requests go first. Needs the write scope."""
    return ask_for_review(request, body.digest)


@router.get("/lineage/{name_or_digest:path}", response_model=LineageBody, responses=_ABSENT, operation_id="getLineage")
def lineage(request: Request, name_or_digest: Annotated[str, Path(max_length=500)]) -> LineageBody:
    """Return the last arrivals under a name, or the nearest relatives of a digest, with their numbers over time."""
    members = views.lineage(ledger_of(request), name_or_digest)
    if not members:
        raise Problem(404, f"no adapter {name_or_digest[:80]!r} ever arrived here", "give a name or a whole digest")
    return LineageBody(members=[_member(member) for member in members])


@router.get("/queue", response_model=QueueBody, operation_id="getQueue")
def queue(request: Request, limit: Limit = 50) -> QueueBody:
    """Return the reviews to be done, the running ones first, and the dead letters last."""
    jobs = ledger_of(request).queue
    return QueueBody(
        depths=jobs.depths(), oldest=jobs.oldest(), jobs=[JobBody.model_validate(job) for job in jobs.jobs(limit)]
    )


@router.get("/fleet", response_model=FleetBody, operation_id="getFleet")
def fleet(request: Request, limit: Limit = 50) -> FleetBody:
    """Return what is served on every replica, against what should be."""
    now = views.fleet(ledger_of(request), limit)
    return FleetBody(
        promoted=now.promoted,
        as_desired=now.as_desired,
        replicas=[
            ReplicaBody(
                replica=status.replica,
                state=status.state,
                detail=status.detail,
                since=status.since,
                checked=status.checked,
                promoted=now.promoted - now.missing(status.replica),
                states={k: v for k, v in now.counts.get(status.replica, {}).items() if k not in {"desired", "foreign"}},
            )
            for status in now.replicas
        ],
        adapters=[
            RolloutBody(
                digest=row.digest,
                name=None if row.known is None else row.known.name,
                place=None if row.known is None else row.known.place,
                replicas={replica: serving.state for replica, serving in row.servings.items()},
            )
            for row in now.adapters
        ],
    )


@router.get("/audit/{digest}", response_model=AuditPage, operation_id="getAudit")
def audit(
    request: Request,
    digest: Digest,
    limit: Limit = 100,
    before: Annotated[int | None, Query(ge=1, le=2**62, description="Only records before this ordinal.")] = None,
) -> AuditPage:
    """Return the last links of the audit chain about a digest. `alignwatch audit verify` proves the whole chain."""
    records = ledger_of(request).browse.trail(digest, limit, before)
    more = len(records) == limit and records[0].ordinal > 1
    return AuditPage(
        records=[AuditBody.model_validate(record) for record in records], before=records[0].ordinal if more else None
    )


def ask_for_review(request: Request, digest: str) -> ReviewRequested:
    """Queue a review of a known adapter.

    Raises:
        Problem: it never arrived here, or its files are gone.
    """
    if not is_digest(digest):
        raise Problem(422, "digest: not a digest", "give sha256- and 64 hexadecimal digits")
    known = views.adapter_or_problem(ledger_of(request), digest)
    if known.place == "removed":
        raise Problem(409, f"the files of {digest} are gone", "let it arrive again: drop it into a source")
    queued = request.app.state.service.submit(digest)
    log.info("review requested", adapter=digest, by=request.state.visitor.name, queued=queued)
    return ReviewRequested(digest=digest, queued=queued, verdict_url=f"/api/verdicts/{digest}")


def _override(now: views.Standing) -> OverrideBody | None:
    return None if now.override is None else OverrideBody.model_validate(now.override)


def _job(now: views.Standing) -> JobBody | None:
    return None if now.job is None else JobBody.model_validate(now.job)


def _decided(decided: Decided) -> DecidedBody:
    return DecidedBody(
        review=decided.review,
        digest=decided.digest,
        name=decided.name,
        remedy=decided.remedy,
        verdict=decided.decision.verdict,
        outcome=decided.decision.outcome,
        reasons=decided.decision.reasons,
        place=decided.place,
        started=decided.started,
        finished=decided.finished,
    )


def _member(member: views.Member) -> LineageMember:
    return LineageMember(
        adapter=AdapterBody.model_validate(member.known),
        verdict=None if member.decided is None else member.decided.decision.verdict,
        points=[LineagePoint.model_validate(point) for point in member.points],
    )
