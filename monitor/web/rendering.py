"""Turns templates into pages. Everything is escaped, and what would hide is shown, by the report's own environment."""

from __future__ import annotations

import hashlib
from datetime import datetime
from functools import cache
from typing import Any, Final
from urllib.parse import quote

from fastapi import Request
from fastapi.responses import HTMLResponse
from jinja2 import Environment
from markupsafe import Markup

from monitor.report.html import environment
from monitor.web.access import Visitor

PLACES: Final = ("promoted", "held", "quarantined", "retired", "removed")
"""Every place of an adapter, in the order it is shown."""


@cache
def templates() -> Environment:
    """Return the page's templates."""
    own = environment("monitor.web")
    own.filters.update(moment=moment, path=lambda text: quote(text, safe=""))
    own.globals.update(PLACES=PLACES)
    return own


def page(request: Request, template: str, *, status: int = 200, **content: Any) -> HTMLResponse:
    """Render a whole page for whoever asks."""
    visitor: Visitor = request.state.visitor
    html = (
        templates()
        .get_template(template)
        .render(visitor=visitor, path=request.url.path, signed_in=visitor.form_key is not None, **content)
    )
    return HTMLResponse(_encodable(html), status)


def fragment(template: str, **content: Any) -> tuple[Markup, str]:
    """Render a part of a page, and return it with a mark that changes whenever it does."""
    html = _encodable(templates().get_template(template).render(**content))
    return Markup(html), hashlib.sha256(html.encode()).hexdigest()[:16]  # noqa: S704  # the template escaped it


def moment(at: datetime | None) -> Markup:
    """A time for people, in UTC, and for machines."""
    if at is None:
        return Markup("–")
    return Markup('<time datetime="{}">{}</time>').format(at.isoformat(), f"{at:%d %b %Y, %H:%M} UTC")


def _encodable(html: str) -> str:
    """A lone surrogate cannot be sent; the templates show those, this is for what no filter saw."""
    return html.encode("utf-8", "backslashreplace").decode()
