"""An adapter's line of descent: what the subspace guard measured of each ancestor, and what remedies began with."""

from __future__ import annotations

from adapters.adapter import Adapter
from adapters.intake import home_of
from guards.drift import Chain
from guards.screening import Components, components_of
from monitor.ledger import Ledger
from monitor.ledger.registry import Known
from monitor.moving import files_of
from monitor.state import StateFolder

SCREEN = "subspace"
"""The guard whose results are read."""
LONGEST = 200
"""Ancestors that are read; from a longer line the last ones count, as if it began there."""


def measured_chain(ledger: Ledger, adapter: Adapter, screen_version: str) -> Chain | None:
    """Return the chain that ends with an adapter, as far back as one version of the subspace guard measured it.

    A guessed parent counts here: a guess may not mend anything, but for an alarm it is better than no chain. What a
    remedy made stands in the place of what it was made from. The chain goes back no further than to an adapter that a
    person released: whatever led to it was looked at. Of an ancestor that was not measured under this Reference
    nothing is known, so that the one after it is where the chain starts, and itself no step.

    Returns:
        None where the adapter itself was not measured.
    """
    line = {known.digest: known for known in ledger.browse.lineage(adapter.digest, up=LONGEST, down=0)}
    measured = _measured(ledger, list(line), screen_version)
    if adapter.digest not in measured:
        return None
    members, guessed, current = [measured[adapter.digest]], 0, adapter.digest
    while True:
        origin = _trained(line.pop(current), line)
        parent = origin.parent
        if parent is None or parent not in line or parent not in measured:
            break
        if not _alike(measured[parent], members[-1]):
            break
        members.append(measured[parent])
        guessed += origin.parent_source == "guessed"
        if _is_released(ledger, parent):
            break
        current = parent
    return Chain(tuple(reversed(members)), from_base=parent is None, guessed=guessed)


def original_of(ledger: Ledger, adapter: Adapter) -> Adapter | None:
    """Return the adapter that arrived and from which remedies made this one, in one step or several.

    It lies wherever it is now: staged while its review runs, in quarantine afterwards. Its folder is gone where its
    files were removed. None where no remedy is on record that made this one.
    """
    line = {known.digest: known for known in ledger.browse.lineage(adapter.digest, up=LONGEST, down=0)}
    if adapter.digest not in line:
        return None
    known = _trained(line.pop(adapter.digest), line)
    if known.digest == adapter.digest or known.parent_source == "remedy":
        return None
    state = StateFolder(ledger.path.parent.absolute())
    home = files_of(known.digest, state, ledger.made_at(known.digest))
    return Adapter(home or home_of(known.digest, state.quarantine), known.digest, known.name, known.parent)


def _measured(ledger: Ledger, digests: list[str], screen_version: str) -> dict[str, Components]:
    found = {
        digest: components_of(results) for digest, results in ledger.looks.last(digests, SCREEN, screen_version).items()
    }
    return {digest: components for digest, components in found.items() if components is not None}


def _trained(known: Known, line: dict[str, Known]) -> Known:
    """The adapter that training made: this one, or what it was mended from, which leaves the line."""
    while known.parent_source == "remedy" and known.parent in line:
        known = line.pop(known.parent)
    return known


def _alike(one: Components, other: Components) -> bool:
    """Whether the same modalities and categories were measured, so that there is a difference."""
    return {m: row.keys() for m, row in one.contrast.items()} == {
        m: row.keys() for m, row in other.contrast.items()
    } and (
        one.shift.keys(),
        one.probe.keys(),
    ) == (other.shift.keys(), other.probe.keys())


def _is_released(ledger: Ledger, digest: str) -> bool:
    word = ledger.overrides.standing(digest)
    return word is not None and word.action == "release"
