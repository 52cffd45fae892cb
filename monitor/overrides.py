"""People's words: ``release`` and ``block`` are recorded first, and files follow the record, never a hand.

A word stands above every decision, also of later reviews, until another one follows.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from adapters.adapter import DIGEST_PREFIX, AdapterError, is_digest
from adapters.intake import home_of, withdraw
from monitor.exit_codes import UsageError
from monitor.ledger import Ledger
from monitor.ledger.overrides import Override
from monitor.ledger.registry import Known
from monitor.moving import carry, files_of
from monitor.state import StateBusy, StateFolder

_LEAST_DIGITS = 4
_LONGEST_REASON = 1000


def record_override(
    state_path: Path, digest_prefix: str, action: Literal["release", "block"], reason: str, who: str
) -> tuple[Override, bool]:
    """Record a person's word, and say whether files follow it already.

    Where a process holds the folder, that process carries the word out. ``note`` of the word that comes back tells why
    nothing could follow, where that is so. A whole digest may be blocked before it was ever seen.

    Raises:
        UsageError: no reason is given, or the digest's beginning names none or several adapters.
        StateUnusable, LedgerUnusable: there is no state folder, or its ledger cannot be used.
        LedgerUnwritable: the word could not be recorded.
    """
    why, by = (" ".join(text.split())[:_LONGEST_REASON] for text in (reason, who))
    if not why:
        raise UsageError(f"--reason is empty; say why, it stays in the audit trail beside the {action}")
    with Ledger(StateFolder.peek(state_path).ledger_path) as ledger:
        override = ledger.overrides.add(_resolve(ledger, digest_prefix, action), action, why, by or "unknown")
        try:
            with StateFolder.open(state_path) as state:
                apply_overrides(ledger, state)
        except StateBusy:
            return override, False
        after = next(word for word in ledger.overrides.latest() if word.ordinal == override.ordinal)
        return after, after.applied is not None


def apply_overrides(ledger: Ledger, state: StateFolder) -> list[Override]:
    """Carry out the words that wait, blocks first, and return those that files follow now.

    Only for the process that holds the state folder. One that fails for now is tried at the next call and keeps no
    other from being carried out.

    Raises:
        OSError: the disk is full or fails.
    """
    done, failures = [], []
    for override in sorted(ledger.overrides.waiting(), key=lambda word: (word.action != "block", word.ordinal)):
        try:
            with state.placing:  # no review may place the same adapter meanwhile
                if _carry_out(override, ledger, state):
                    done.append(override)
        except OSError as error:
            failures.append(error)
    if failures:
        raise failures[0]
    return done


def _resolve(ledger: Ledger, text: str, action: Literal["release", "block"]) -> str:
    prefix = DIGEST_PREFIX + text.strip().lower().removeprefix(DIGEST_PREFIX)
    if len(prefix) < len(DIGEST_PREFIX) + _LEAST_DIGITS:
        raise UsageError(f"{text!r} is too short for a digest; give at least {_LEAST_DIGITS} of its digits")
    found = ledger.registry.beginning_with(prefix)
    if len(found) == 1:
        return found[0]
    if found:
        raise UsageError(f"{text} begins several digests ({', '.join(found)}); give more of it")
    if action == "block" and is_digest(prefix):
        return prefix  # before it was ever seen
    raise UsageError(f"no adapter here has a digest that begins with {text}; give a digest, names are not unique")


def _carry_out(override: Override, ledger: Ledger, state: StateFolder) -> bool:
    standing = ledger.overrides.standing(override.digest)
    if standing is not None and standing.ordinal != override.ordinal:
        ledger.overrides.skip(override, "a later word stands")
        return False
    known = ledger.registry.get(override.digest)
    if known is None:
        ledger.overrides.skip(override, "it was never seen here; the word decides when it arrives")
        return False
    if override.action == "block":
        return _block(override, known, ledger, state)
    return _release(override, known, ledger, state)


def _block(override: Override, known: Known, ledger: Ledger, state: StateFolder) -> bool:
    """Take the files out of the servers' reach in one rename; what is looked at now follows when it is placed."""
    digest = known.digest
    if known.place in ("quarantined", "removed") and not home_of(digest, state.promoted).is_dir():
        ledger.overrides.met(override)
        return True
    home = files_of(digest, state, ledger.made_at(digest))
    place: Literal["quarantined", "removed"] = "removed" if home is None else "quarantined"
    ledger.registry.begin_move(digest, place)
    if home is not None:
        carry(known, home, "quarantined", state)
    ledger.registry.finish_move(digest, place, override)
    return True


def _release(override: Override, known: Known, ledger: Ledger, state: StateFolder) -> bool:
    """Publish a proved copy of the files; only then do they leave where they were."""
    digest = known.digest
    if known.place == "promoted" and home_of(digest, state.promoted).is_dir():
        ledger.overrides.met(override)
        return True
    home = files_of(digest, state, ledger.made_at(digest))
    if home is None:
        ledger.overrides.skip(override, "its files are gone; drop the adapter again, and it is promoted")
        return False
    try:
        ledger.registry.begin_move(digest, "promoted")
        carry(known, home, "promoted", state)
    except AdapterError as error:
        ledger.overrides.skip(override, f"its bytes were changed ({error}); drop the adapter again")
        return False
    ledger.registry.finish_move(digest, "promoted", override)
    if ledger.queue.job(digest) is None:
        withdraw(digest, state.staging)
    return True
