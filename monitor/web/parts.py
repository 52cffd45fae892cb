"""The parts of the overview that keep themselves up to date: each is drawn alone, and sent only when it changed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from markupsafe import Markup

from monitor.ledger import Ledger
from monitor.web import views
from monitor.web.rendering import fragment


@dataclass(frozen=True, slots=True)
class Part:
    """One part as it is now."""

    html: Markup
    """The whole section, with how it asks for the next one."""
    mark: str
    """Changes whenever the content does."""


def _state(ledger: Ledger) -> dict[str, Any]:
    fleet = views.fleet(ledger, 0)
    return {"counts": ledger.registry.counts(), "depths": ledger.queue.depths(), "fleet": fleet}


def _now(ledger: Ledger) -> dict[str, Any]:
    return {"running": ledger.browse.jobs("running", 8)}


def _queue(ledger: Ledger) -> dict[str, Any]:
    browse = ledger.browse
    return {
        "waiting": browse.jobs("queued", 8),
        "dead": browse.jobs("dead", 5),
        "depths": ledger.queue.depths(),
    }


def _decisions(ledger: Ledger) -> dict[str, Any]:
    decided = ledger.browse.decisions(10)
    digests = list({one.digest for one in decided})
    rises: dict[str, dict[str, Any]] = {digest: {} for digest in digests}
    for point in ledger.measures.latest(digests):
        if point.measure == "misalignment_rise" and not point.category:
            rises[point.digest][point.modality] = point
    return {"decided": decided, "rises": rises, "known": ledger.browse.known(digests)}


def _fleet(ledger: Ledger) -> dict[str, Any]:
    return {"fleet": views.fleet(ledger, 20)}


PARTS: Final[dict[str, tuple[Callable[[Ledger], dict[str, Any]], int, str]]] = {
    "state": (_state, 5, "At a glance"),
    "now": (_now, 2, "Being examined now"),
    "decisions": (_decisions, 5, "Recent decisions"),
    "queue": (_queue, 5, "Queue"),
    "fleet": (_fleet, 5, "Fleet"),
}
"""By name: how it is read, after how many seconds a page asks for it again, and its heading."""


def live_part(ledger: Ledger, name: str, live: bool) -> Part:
    """Draw one part; one that is not ``live`` stays as it is."""
    read, seconds, heading = PARTS[name]
    inner, mark = fragment(f"part_{name}.html.j2", **read(ledger))
    html, _ = fragment("part.html.j2", name=name, heading=heading, inner=inner, mark=mark, seconds=seconds, live=live)
    return Part(html, mark)


def live_parts(ledger: Ledger, live: bool) -> dict[str, Markup]:
    """Draw all parts."""
    return {name: live_part(ledger, name, live).html for name in PARTS}
