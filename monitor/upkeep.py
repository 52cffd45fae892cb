"""What keeps the state folder in order beside the reviews: ends what a kill interrupted, retires, removes, looks again.

Only for the process that holds the state folder. Every step is recorded first and safe to repeat.
"""

from __future__ import annotations

from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

from adapters.adapter import AdapterError, is_digest
from adapters.intake import withdraw
from adapters.private_folders import remove
from monitor.configuration import RetentionSettings
from monitor.ledger import Ledger, utc_now
from monitor.ledger.registry import Known
from monitor.moving import carry, files_of, move_out
from monitor.records import write_record
from monitor.state import StateFolder

RECORD_FILES = ("review.json", "review.md")
"""What :func:`monitor.records.write_record` writes."""

ORPHANED_AFTER = timedelta(days=1)
"""What no review needs is left so long below ``staging/`` and ``remedied/``, in case one is about to need it."""


def finish_interrupted(ledger: Ledger, state: StateFolder) -> list[str]:
    """End what a killed run had begun, whatever the policy is now, and return the digests that were placed.

    Call it once at the start, before anything else is placed or tidied. A placement that was begun is ended, because
    its decision is final. An adapter that was taken in and not queued yet is queued: its source may hold other bytes
    by now. A review that was finished gets its files below ``reviews/``.
    """
    placed = []
    for record, digest in ledger.unfinished_placements():
        known, home = ledger.registry.get(digest), files_of(digest, state, ledger.made_at(digest))
        if known is None or home is None:
            continue  # its job stages it again, or finds out that the files are gone
        with state.placing, suppress(AdapterError):  # its bytes were changed: its job finds out, too
            carry(known, home, record.begin_placement(digest), state)
            record.finish_placement(digest)
            placed.append(digest)
    for path in state.staging.glob("sha256-*"):
        known = ledger.registry.get(path.name)
        if known is None:
            continue  # its source still has it: nothing was recorded of it
        if known.place in ("retired", "removed") or (known.place is None and known.review is None):
            ledger.queue.add(known.digest, known.name, "arrival")
    _write_missing(ledger, state)
    return placed


def retire_superseded(ledger: Ledger, state: StateFolder) -> list[str]:
    """Take out of ``promoted/`` what newer versions of the same names replaced, and return those digests.

    What a review is about to place waits for that.
    """
    retired = []
    for digest in ledger.fleet.superseded():
        with state.placing:
            if not _stands(ledger, digest, "promoted") or ledger.is_under_review(digest):
                continue
            ledger.registry.begin_move(digest, "retired")
            move_out(digest, state.promoted, state.retired)
            ledger.registry.finish_move(digest, "retired")
        retired.append(digest)
    return retired


def remove_expired(
    ledger: Ledger, state: StateFolder, retention: RetentionSettings, now: datetime | None = None
) -> list[str]:
    """Remove the files of adapters that were put away long enough ago, and return those digests.

    Records are kept for ever, and ``promoted/`` is never touched. One that is waiting to be looked at stays.
    """
    now = now or utc_now()
    removed = []
    for known in _expired(ledger, retention, now):
        if ledger.queue.job(known.digest) is not None or ledger.is_under_review(known.digest):
            continue
        with state.placing:
            if known.place is None or not _stands(ledger, known.digest, known.place):
                continue
            ledger.registry.begin_move(known.digest, "removed")
            for folder in (state.quarantine, state.retired, state.staging):
                withdraw(known.digest, folder)
            ledger.registry.finish_move(known.digest, "removed")
        removed.append(known.digest)
    _remove_orphans(ledger, state, now - ORPHANED_AFTER)
    return removed


def queue_stale(ledger: Ledger, context_digest: str, after: timedelta, now: datetime | None = None) -> int:
    """Queue what is deployed to be looked at again, and return how many were.

    That is what was last reviewed under another context than the present one, and what was last reviewed longer ago
    than ``after``; the latter with another seed than in any review before.
    """
    queued = 0
    for digest in ledger.stale(context_digest, (now or utc_now()) - after):
        known = ledger.registry.get(digest)
        if known is not None:
            repeat = ledger.times_reviewed(digest, context_digest)
            queued += ledger.queue.add(digest, known.name, "re-review", repeat=repeat)
    return queued


def _write_missing(ledger: Ledger, state: StateFolder) -> None:
    """Write the last review's files, should a kill have come before; every start before looked after earlier ones."""
    review = ledger.newest_review()
    if review is not None:
        folder = state.reviews / review.id
        _sweep(folder)
        if not all((folder / name).is_file() for name in RECORD_FILES):
            write_record(review, folder)
    _sweep(state.path)


def _sweep(folder: Path) -> None:
    """Remove what :func:`monitor.report.files.write_atomically` left when it was killed."""
    for unfinished in folder.glob(".*.part"):
        unfinished.unlink(missing_ok=True)


def _expired(ledger: Ledger, retention: RetentionSettings, now: datetime) -> list[Known]:
    put_away = now - timedelta(days=retention.quarantine_days)
    retired = now - timedelta(days=retention.retired_days)
    before = ledger.registry.placed_before
    return [*before("quarantined", put_away), *before("held", put_away), *before("retired", retired)]


def _stands(ledger: Ledger, digest: str, place: str) -> bool:
    known = ledger.registry.get(digest)
    return known is not None and known.place == place


def _remove_orphans(ledger: Ledger, state: StateFolder, before: datetime) -> None:
    """Remove what killed runs and abandoned reviews left, where no open job needs it."""
    for path in _old_folders(state.staging, before):
        known = ledger.registry.get(path.name) if is_digest(path.name) else None
        waits = known is not None and known.review is None  # it arrived, and its review is still to come
        if is_digest(path.name) and not waits and ledger.queue.job(path.name) is None:
            withdraw(path.name, state.staging)
    needed = ledger.remedies_at_work()
    for path in _old_folders(state.remedied, before):
        if path.name not in needed:
            remove(path)


def _old_folders(folder: Path, before: datetime) -> list[Path]:
    """Return the folders that were written before a moment."""
    return [
        path
        for path in sorted(folder.iterdir())
        if path.is_dir() and not path.is_symlink() and datetime.fromtimestamp(path.stat().st_mtime, UTC) < before
    ]
