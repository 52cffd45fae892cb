"""Who may ask for what. Everything is closed but what is named here, so that no new route is open by mistake.

A script sends its token with every request. A browser trades it once, on a form, for a cookie that holds a random
session: the token itself is never stored there, a script on the page could not read the cookie, and no other site can
have it sent. The session ends with the token, after a while, and with the process.
"""

from __future__ import annotations

import hashlib
import ipaddress
import secrets
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final
from urllib.parse import quote, urlsplit

from starlette.datastructures import Headers
from starlette.requests import HTTPConnection
from starlette.responses import RedirectResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from monitor.configuration import HttpSettings
from monitor.exit_codes import UsageError
from monitor.web.limits import PROBES
from monitor.web.problems import Problem, for_scripts
from monitor.web.tokens import Grant, Tokens

COOKIE: Final = "alignwatch_session"
SESSION_SECONDS: Final = 12 * 3600
_SAFE: Final = frozenset({"GET", "HEAD", "OPTIONS"})
_HOW_TO_WRITE: Final = "make a token with 'alignwatch token FILE --scope write' and name the file under http.tokens"


@dataclass(frozen=True, slots=True)
class Visitor:
    """Who asks."""

    name: str
    """The token's name; ``anyone`` where none is needed."""
    may_write: bool
    """Whether reviews may be asked for."""
    form_key: str | None = None
    """What the page's forms send back, for somebody who signed in."""


@dataclass(frozen=True, slots=True)
class _Session:
    grant: Grant
    form_key: str
    ends: float


class Sessions:
    """Who signed in, in memory and bounded. Only hashes of the cookies are kept."""

    def __init__(self, most: int = 1000, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._most = most
        self._monotonic = monotonic
        self._open: OrderedDict[bytes, _Session] = OrderedDict()
        self._lock = threading.Lock()

    def begin(self, grant: Grant) -> str:
        """Begin a session and return what its cookie holds."""
        secret = secrets.token_urlsafe(32)
        session = _Session(grant, secrets.token_urlsafe(32), self._monotonic() + SESSION_SECONDS)
        with self._lock:
            self._open[_key(secret)] = session
            while len(self._open) > self._most:
                self._open.popitem(last=False)
        return secret

    def find(self, secret: str) -> tuple[Grant, str] | None:
        """Return whose session a cookie is, and the key of its forms."""
        with self._lock:
            session = self._open.get(_key(secret))
            if session is None:
                return None
            if session.ends <= self._monotonic():
                del self._open[_key(secret)]
                return None
            return session.grant, session.form_key

    def end(self, secret: str) -> None:
        """End a session."""
        with self._lock:
            self._open.pop(_key(secret), None)


class Access:
    """Lets a request through to what its sender may have, and names the sender in ``request.state.visitor``."""

    def __init__(self, app: ASGIApp, settings: HttpSettings, tokens: Tokens | None, sessions: Sessions) -> None:
        self._app = app
        self._open_metrics = settings.open_metrics
        self._hosts = _own_names(settings.host) if tokens is None else None
        self._tokens = tokens
        self._sessions = sessions

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Check host, origin and sender, or refuse."""
        if scope["type"] != "http":
            return
        request = HTTPConnection(scope)
        self._check_host(request.headers)
        path, safe = scope["path"], scope["method"] in _SAFE
        if not safe and not path.startswith("/api/") and not same_origin(request.headers):
            raise Problem(403, "this form was not sent from this page", "open the page anew and send it from there")
        visitor = self._visitor(request, safe)
        if visitor is None and not self._is_open(path):
            if for_scripts(path):
                raise Problem(
                    401,
                    "a token is needed, and none of ours was given",
                    "send 'Authorization: Bearer TOKEN'",
                    {"WWW-Authenticate": "Bearer"},
                )
            await _to_login(request)(scope, receive, send)
            return
        if visitor is not None and not safe and not visitor.may_write and path not in {"/login", "/logout"}:
            raise Problem(403, f"{visitor.name} may not write", _HOW_TO_WRITE)
        scope.setdefault("state", {})["visitor"] = visitor or Visitor("nobody", may_write=False)
        await self._app(scope, receive, send)

    def _is_open(self, path: str) -> bool:
        return path == "/login" or path.startswith("/static/") or (path in PROBES and self._open_metrics)

    def _visitor(self, request: HTTPConnection, safe: bool) -> Visitor | None:
        if self._tokens is None:
            return Visitor("anyone", may_write=False)
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        if scheme:
            grant = self._tokens.identify(token.strip()) if scheme.lower() == "bearer" else None
            return None if grant is None else Visitor(grant.name, grant.scope == "write")
        if not safe and for_scripts(request.url.path):
            return None  # a browser sends its cookie by itself; what writes has to mean it
        found = self._sessions.find(request.cookies.get(COOKIE, ""))
        if found is None or not self._tokens.stands(found[0]):
            return None
        grant, form_key = found
        return Visitor(grant.name, grant.scope == "write", form_key)

    def _check_host(self, headers: Headers) -> None:
        """Refuse a name that somebody made point to this machine in order to read it through a visitor's browser."""
        if self._hosts is None:
            return
        name = urlsplit(f"//{headers.get('host', '')}").hostname or ""
        if name not in self._hosts:
            raise Problem(
                421,
                "this service does not answer under that name",
                f"ask for {sorted(self._hosts)[0]}, or set http.tokens to be asked under any name",
            )


def open_tokens(settings: HttpSettings) -> Tokens | None:
    """Read the configured tokens; None where there are none, which only a listener on loopback may do without.

    Raises:
        UsageError: the listener can be reached from outside and no tokens are configured, or they cannot be used.
    """
    if settings.tokens is not None:
        return Tokens(settings.tokens)
    if not is_loopback(settings.host):
        raise UsageError(
            f"http.host {settings.host} can be reached from other machines, and http.tokens is not set; make a token "
            "with 'alignwatch token FILE' and name the file there, or listen on 127.0.0.1"
        )
    return None


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches a listener there."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def same_origin(headers: Headers) -> bool:
    """Whether a form was sent from a page of ours: by what the browser says itself, which no page can change."""
    site = headers.get("sec-fetch-site")
    if site is not None:
        return site == "same-origin"
    origin = headers.get("origin")
    return origin is not None and urlsplit(origin).netloc.lower() == headers.get("host", "").lower() != ""


def local_path(path: str) -> str:
    """Return a path on this page to go on to, the first one where what is given leads elsewhere."""
    plain = path.startswith("/") and not path.startswith(("//", "/\\")) and path.isprintable()
    return path if plain and path.isascii() else "/"


def _own_names(host: str) -> frozenset[str]:
    return frozenset({"localhost", "127.0.0.1", "::1", host})


def _to_login(request: HTTPConnection) -> RedirectResponse:
    wanted = request.url.path + (f"?{request.url.query}" if request.url.query else "")
    address = "/login" if wanted == "/" else f"/login?next={quote(wanted, safe='/')}"
    if request.headers.get("hx-request"):  # a live part: the whole page goes to the form
        return RedirectResponse(address, 204, {"HX-Redirect": "/login"})
    return RedirectResponse(address, 303)


def _key(secret: str) -> bytes:
    return hashlib.sha256(secret.encode(errors="replace")).digest()
