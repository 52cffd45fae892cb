"""The page: what is served, what is examined, and why anything was decided. Works without JavaScript."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Final, Literal
from urllib.parse import parse_qs, quote, urlencode

from fastapi import APIRouter, Query, Request
from fastapi.responses import FileResponse, HTMLResponse, RedirectResponse
from starlette.concurrency import run_in_threadpool
from starlette.responses import Response

from adapters.adapter import is_digest
from monitor.report.pictures import thumbnail
from monitor.web import charts, evidence, views
from monitor.web.access import COOKIE, SESSION_SECONDS, Visitor, local_path
from monitor.web.api import ask_for_review, ledger_of
from monitor.web.parts import PARTS, live_part, live_parts
from monitor.web.problems import Problem
from monitor.web.rendering import PLACES, page, templates

PER_PAGE: Final = 50
_STATIC: Final = Path(__file__).with_name("static")
_SERVED: Final = {
    "style.css": "text/css",
    "live.js": "text/javascript",
    "htmx.min.js": "text/javascript",
    "icon.svg": "image/svg+xml",
}
"""Every file that is given out; nothing is looked up by the name that a client gives."""

router = APIRouter(include_in_schema=False)

Start = Annotated[int, Query(ge=0, le=10_000_000)]
Text = Annotated[str, Query(max_length=500)]


@router.get("/")
def overview(request: Request, live: Literal["on", "off"] = "on") -> HTMLResponse:
    """Show the state of everything at one look."""
    ledger = ledger_of(request)
    counts = ledger.registry.counts()
    return page(
        request, "overview.html.j2", parts=live_parts(ledger, live == "on"), live=live, known=sum(counts.values())
    )


@router.get("/live/{name}")
def live(request: Request, name: str, have: Text = "") -> Response:
    """Return one live part, or 204 where the reader has it already."""
    if name not in PARTS:
        raise Problem(404, "there is no such part", "begin at /")
    part = live_part(ledger_of(request), name, live=True)
    return Response(status_code=204) if part.mark == have else HTMLResponse(part.html)


@router.get("/adapters")
def adapters(request: Request, place: str = "", name: Text = "", start: Start = 0) -> HTMLResponse:
    """List adapters, the newest first."""
    wanted = place if place in PLACES else None
    ledger = ledger_of(request)
    found = ledger.browse.adapters(PER_PAGE + 1, start, place=wanted, text=name.strip() or None)  # type: ignore[arg-type]
    last = ledger.browse.last_decisions([known.digest for known in found])
    shown = [(known, last.get(known.digest)) for known in found[:PER_PAGE]]
    asked = {"place": wanted or "", "name": name}
    return page(
        request,
        "adapters.html.j2",
        rows=shown,
        counts=ledger.registry.counts(),
        place=wanted,
        name=name,
        older=_link(asked, start + PER_PAGE) if len(found) > PER_PAGE else None,
        newer=_link(asked, max(0, start - PER_PAGE)) if start else None,
    )


@router.get("/adapters/{digest}")
def adapter(request: Request, digest: str, review: Text = "", asked: str = "") -> Response:
    """Show one adapter with its evidence; a part of a digest, or a name, leads to it."""
    ledger = ledger_of(request)
    if not is_digest(digest):
        found = ledger.registry.find(digest, limit=2)
        return RedirectResponse(
            f"/adapters/{found[0].digest}" if len(found) == 1 else f"/adapters?name={quote(digest, safe='')}", 303
        )
    known = views.adapter_or_problem(ledger, digest)
    now = views.standing(ledger, digest)
    return page(
        request,
        "adapter.html.j2",
        known=known,
        now=now,
        names=ledger.registry.names(digest)[:20],
        evidence=evidence.of_adapter(ledger, now, review or None),
        trail=ledger.browse.trail(digest, 50)[::-1],
        family=views.members(ledger, ledger.browse.lineage(digest, up=4, down=8)),
        asked=asked in {"queued", "open"} and asked,
    )


@router.post("/adapters/{digest}/review")
async def request_review(request: Request, digest: str) -> Response:
    """Queue a review from the form on an adapter's page."""
    visitor: Visitor = request.state.visitor
    sent = await _form(request)
    if visitor.form_key is None or sent.get("form_key") != visitor.form_key:
        raise Problem(403, "this form is out of date", "open the page anew and send it from there")
    asked = await run_in_threadpool(ask_for_review, request, digest)
    return RedirectResponse(f"/adapters/{digest}?asked={'queued' if asked.queued else 'open'}", 303)


@router.get("/reviews/{review_id}/pictures/{digest}/{number}")
def picture(request: Request, review_id: str, digest: str, number: int) -> Response:
    """Return the picture that a recorded exhibit names, made anew from its pixels, and nothing else."""
    exhibit = evidence.exhibit_at(ledger_of(request), review_id, digest, number)
    small = None if exhibit is None or exhibit.image is None else thumbnail(Path(exhibit.image))
    if small is None:
        raise Problem(404, "there is no such picture, or its file is gone", "open the adapter's page anew")
    kind, content = small
    return Response(content, media_type=f"image/{kind}", headers={"Cache-Control": "private, max-age=3600"})


@router.get("/lineage")
def lineages(request: Request, name: Text = "", start: Start = 0) -> HTMLResponse:
    """List the names under which adapters arrived."""
    found = ledger_of(request).browse.names(PER_PAGE + 1, start, name.strip() or None)
    return page(
        request,
        "lineages.html.j2",
        rows=found[:PER_PAGE],
        name=name,
        older=_link({"name": name}, start + PER_PAGE) if len(found) > PER_PAGE else None,
        newer=_link({"name": name}, max(0, start - PER_PAGE)) if start else None,
    )


@router.get("/lineage/{name:path}")
def lineage(request: Request, name: str) -> HTMLResponse:
    """Show the timeline of alignment along the lineage of a name, or around a digest."""
    members = views.lineage(ledger_of(request), name)
    if not members:
        raise Problem(404, "nothing ever arrived under that name", "see /lineage for all names")
    return page(
        request,
        "lineage.html.j2",
        name=name,
        members=members,
        alignment=charts.timelines(members, "alignment_score"),
        rise=charts.timelines(members, "misalignment_rise"),
        interval=charts.interval,
    )


@router.get("/compare")
def compare(request: Request, a: Text = "", b: Text = "") -> HTMLResponse:
    """Show two adapters side by side."""
    ledger = ledger_of(request)
    sides = [evidence.resolve(ledger, text) for text in (a, b)]
    both = None
    if sides[0] is not None and sides[1] is not None:
        both = evidence.comparison(ledger, sides[0], sides[1])
    missing = [text for text, side in zip((a, b), sides, strict=True) if text.strip() and side is None]
    return page(request, "compare.html.j2", a=a, b=b, both=both, missing=missing, newest=ledger.browse.adapters(30))


@router.get("/queue")
def queue(request: Request, start: Start = 0) -> HTMLResponse:
    """Show every open review and the dead letters."""
    browse = ledger_of(request).browse
    waiting = browse.jobs("queued", PER_PAGE + 1, start)
    return page(
        request,
        "queue.html.j2",
        running=browse.jobs("running", PER_PAGE),
        waiting=waiting[:PER_PAGE],
        dead=browse.jobs("dead", PER_PAGE),
        depths=ledger_of(request).queue.depths(),
        older=_link({}, start + PER_PAGE) if len(waiting) > PER_PAGE else None,
        newer=_link({}, max(0, start - PER_PAGE)) if start else None,
    )


@router.get("/login")
def login_form(request: Request, next: Text = "/") -> HTMLResponse:  # noqa: A002  # what browsers show
    """Show the form that trades a token for a session."""
    return page(request, "login.html.j2", next=local_path(next), refused=False)


@router.post("/login")
async def login(request: Request) -> Response:
    """Begin a session for whoever has a token."""
    service, sent = request.app.state.service, await _form(request)
    onwards = local_path(sent.get("next", "/"))
    grant = None if service.tokens is None else service.tokens.identify(sent.get("token", "").strip())
    if grant is None:
        return page(request, "login.html.j2", status=401, next=onwards, refused=True)
    answer = RedirectResponse(onwards, 303)
    # A proxy that speaks TLS says so; claiming it falsely only makes the cookie stricter.
    secure = request.url.scheme == "https" or request.headers.get("x-forwarded-proto") == "https"
    answer.set_cookie(
        COOKIE, service.sessions.begin(grant), SESSION_SECONDS, httponly=True, samesite="strict", secure=secure
    )
    return answer


@router.post("/logout")
def logout(request: Request) -> Response:
    """End the session."""
    request.app.state.service.sessions.end(request.cookies.get(COOKIE, ""))
    answer = RedirectResponse("/login", 303)
    answer.delete_cookie(COOKIE, httponly=True, samesite="strict")
    return answer


@router.get("/static/{name}")
def static(name: str) -> Response:
    """Return one of the page's own files."""
    if name not in _SERVED:
        raise Problem(404, "there is no such file", "begin at /")
    return FileResponse(_STATIC / name, media_type=_SERVED[name], headers={"Cache-Control": "max-age=300"})


def problem_page(problem: Problem) -> HTMLResponse:
    """Tell a problem to a person."""
    html = templates().get_template("problem.html.j2").render(problem=problem, path="", visitor=None, signed_in=False)
    return HTMLResponse(html, problem.status, problem.headers)


async def _form(request: Request) -> dict[str, str]:
    """Read a form's fields; the body is bounded before it comes here."""
    text = (await request.body()).decode("utf-8", "replace")
    try:
        return {key: values[0] for key, values in parse_qs(text, max_num_fields=20).items()}
    except ValueError:
        return {}


def _link(asked: dict[str, str], start: int) -> str:
    return "?" + urlencode({key: value for key, value in {**asked, "start": str(start)}.items() if value})
