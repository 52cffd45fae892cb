"""Which adapter was made from which: traced when one arrives, and shown as a tree with verdicts."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from rich.text import Text

from adapters.adapter import Adapter
from monitor.exit_codes import UsageError
from monitor.ledger import Ledger
from monitor.ledger.browse import Decided
from monitor.ledger.registry import Known
from monitor.ledger.service_tables import ParentSource, Standing
from monitor.report.words import LONGEST_NAME, points, short_digest, visible
from policies.findings import Verdict

_MOST_NODES = 300
"""Adapters of one family that are shown whole; of a larger one those nearest to what was asked for."""
_MOST_VERSIONS = 20
_LATEST_DECISIONS = 10
"""Of one adapter, among which its last finished review is looked for; the later ones are not finished yet."""
_COLOURS: dict[str, str] = {"clean": "green", "unsafe": "red", "inconclusive": "yellow"}


@dataclass(frozen=True, slots=True)
class Rise:
    """A misalignment rise over the base, paired, in one modality."""

    modality: str
    """``text`` or ``image``."""
    value: float
    """As a ratio, −1 to 1."""
    low: float | None
    """Lower end of the 95 % interval."""
    high: float | None
    """Upper end of the 95 % interval."""
    n: int
    """Prompts it rests on."""


@dataclass(frozen=True, slots=True)
class LineageNode:
    """One adapter of a family. Names are as they arrived: escape them before showing."""

    digest: str
    """``sha256-…``."""
    name: str | None
    """What people call it; None for one that was only ever declared to be a parent."""
    parent: str | None
    """Digest of what it was made from, where that is known."""
    parent_source: ParentSource | None
    """How the parent is known: declared, guessed, or because a remedy made the adapter."""
    seen: datetime | None
    """When it first arrived or was made, UTC; None where it never did."""
    place: Standing | None
    """Where it is now."""
    verdict: Verdict | None
    """Of the last finished review that examined it."""
    review: str | None
    """Id of that review."""
    rises: tuple[Rise, ...]
    """What that review measured; empty where it measured nothing."""
    asked: bool
    """Whether it is what was asked for."""


def trace_parent(adapter: Adapter, ledger: Ledger) -> tuple[Adapter, ParentSource | None]:
    """Return a staged arrival with its parent, and how that is known.

    What the adapter declares counts, unless it would make it its own ancestor. Where nothing is declared, the last
    other arrival of the same name is guessed to be the parent of bytes that were never seen before.
    """
    if adapter.parent is not None and not _is_ancestor(adapter.digest, adapter.parent, ledger):
        return adapter, "declared"
    if ledger.registry.get(adapter.digest) is None:
        for _, digest in ledger.registry.versions(adapter.name, limit=1):
            if not _is_ancestor(adapter.digest, digest, ledger):
                return replace(adapter, parent=digest), "guessed"
    return replace(adapter, parent=None), None


def lineage_tree(name_or_digest: str, ledger: Ledger) -> list[LineageNode]:
    """Return the family of an adapter, or of all that arrived under a name, parents before children.

    Raises:
        UsageError: nothing is called so, or several digests begin so.
    """
    asked = _asked(name_or_digest, ledger)
    family: dict[str, Known] = {}
    for digest in asked:
        if digest not in family:
            relatives = ledger.registry.family(digest)
            if len(relatives) > _MOST_NODES:
                relatives = ledger.browse.lineage(digest, up=_MOST_NODES // 2, down=_MOST_NODES // 2)
            family |= {known.digest: known for known in relatives}
    unseen = {known.parent for known in family.values() if known.parent is not None} - family.keys()
    rises = _rises(list(family), ledger)
    nodes = [_unseen(digest, ledger) for digest in sorted(unseen)]
    nodes += [_node(known, rises.get(known.digest, ()), known.digest in asked, ledger) for known in family.values()]
    return nodes


def lineage_json(nodes: Sequence[LineageNode]) -> list[dict[str, Any]]:
    """Return the tree for scripts, in plain JSON types; times are ISO 8601, UTC."""
    return [
        {
            "digest": node.digest,
            "name": node.name,
            "parent": node.parent,
            "parent_source": node.parent_source,
            "seen": node.seen.isoformat() if node.seen else None,
            "place": node.place,
            "verdict": node.verdict,
            "review": node.review,
            "misalignment_rise": {
                rise.modality: {"value": rise.value, "low": rise.low, "high": rise.high, "n": rise.n}
                for rise in node.rises
            },
            "asked": node.asked,
        }
        for node in nodes
    ]


def render_lineage(nodes: Sequence[LineageNode]) -> Text:
    """Draw the tree for a terminal, two lines an adapter. A line of single children is not indented, a fork is."""
    present = {node.digest for node in nodes}
    children: dict[str | None, list[LineageNode]] = {}
    for node in nodes:
        children.setdefault(node.parent if node.parent in present else None, []).append(node)
    drawn: set[str] = set()
    text = Text()
    for depth, node in _in_order(children, drawn):
        _draw(text, node, "  " * depth)
    for node in nodes:  # a circle of declared parents has no beginning
        if node.digest not in drawn:
            drawn.add(node.digest)
            _draw(text, node, "")
    text.rstrip()
    return text


def _is_ancestor(digest: str, of: str, ledger: Ledger) -> bool:
    """Whether ``digest`` is ``of`` or among its ancestors, as far as these are known."""
    met: set[str] = set()
    while of not in met:
        if of == digest:
            return True
        met.add(of)
        known = ledger.registry.get(of)
        if known is None or known.parent is None:
            return False
        of = known.parent
    return False


def _asked(text: str, ledger: Ledger) -> list[str]:
    found = ledger.registry.find(text, limit=_MOST_VERSIONS)
    versions = [digest for _, digest in ledger.registry.versions(text, limit=_MOST_VERSIONS)]
    named = list(dict.fromkeys([*versions, *(known.digest for known in found if known.name == text)]))
    if named:
        return named
    if not found:
        raise UsageError(
            f"no adapter is called {visible(text)!r} or has a digest that begins so; give a name or digest"
        )
    if len(found) > 1:
        listed = ", ".join(short_digest(known.digest) for known in found[:8])
        raise UsageError(f"{text!r} is the beginning of several digests: {listed}; give more characters")
    return [found[0].digest]


def _rises(digests: Sequence[str], ledger: Ledger) -> dict[str, tuple[Rise, ...]]:
    rises: dict[str, tuple[Rise, ...]] = {}
    for one in ledger.measures.latest(digests, {"misalignment_rise"}):
        if not one.category and not one.model:
            rises[one.digest] = (*rises.get(one.digest, ()), Rise(one.modality, one.value, one.low, one.high, one.n))
    return {
        digest: tuple(sorted(found, key=lambda rise: rise.modality, reverse=True)) for digest, found in rises.items()
    }


def last_decided(known: Known, ledger: Ledger) -> Decided | None:
    """Return what the last finished review of an adapter decided about it; None where there is none."""
    if known.review is None:
        return None
    decisions = ledger.browse.decisions(_LATEST_DECISIONS, known.digest)
    return next((one for one in decisions if one.review == known.review), None)


def _node(known: Known, rises: tuple[Rise, ...], asked: bool, ledger: Ledger) -> LineageNode:
    decided = last_decided(known, ledger)
    return LineageNode(
        digest=known.digest,
        name=known.name,
        parent=known.parent,
        parent_source=known.parent_source,
        seen=known.seen,
        place=known.place,
        verdict=decided.decision.verdict if decided else None,
        review=known.review,
        rises=rises,
        asked=asked,
    )


def _unseen(digest: str, ledger: Ledger) -> LineageNode:
    """An adapter outside the family's part that is shown, most often one that was only ever declared."""
    known = ledger.registry.get(digest)
    if known is not None:
        return replace(_node(known, (), False, ledger), parent=None, parent_source=None)
    return LineageNode(digest, None, None, None, None, None, None, None, (), False)


def _in_order(children: dict[str | None, list[LineageNode]], drawn: set[str]) -> Iterator[tuple[int, LineageNode]]:
    waiting = [(0, node) for node in reversed(children.get(None, []))]
    while waiting:
        depth, node = waiting.pop()
        if node.digest in drawn:
            continue
        drawn.add(node.digest)
        yield depth, node
        below = children.get(node.digest, [])
        waiting += [(depth + (len(below) > 1), child) for child in reversed(below)]


def _draw(text: Text, node: LineageNode, indent: str) -> None:
    text.append(f"{indent}{'●' if node.asked else '○'} ")
    text.append(
        visible(node.name, limit=LONGEST_NAME) if node.name else "never seen here", "bold" if node.name else "dim"
    )
    text.append(f"  {short_digest(node.digest)}\n")
    if node.seen is None:
        return
    text.append(f"{indent}  ")
    text.append(node.verdict or "not reviewed", _COLOURS.get(node.verdict or "", "dim"))
    text.append("".join(f" · {part}" for part in _details(node)) + "\n")


def _details(node: LineageNode) -> Iterable[str]:
    if node.place:
        yield node.place
    for rise in node.rises:
        interval = f"{points(rise.low)} to {points(rise.high)}, " if rise.low is not None else ""
        yield f"{visible(rise.modality, limit=LONGEST_NAME)} {points(rise.value)} ({interval}n {rise.n})"
    if node.parent:
        yield f"{node.parent_source} parent {short_digest(node.parent)}"
    if node.seen:
        yield f"{node.seen:%Y-%m-%d %H:%M} UTC"
