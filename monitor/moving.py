"""Taking an adapter's files out of a folder in one rename: at once, whole, and on a full disk too."""

from __future__ import annotations

import errno
import os
from pathlib import Path

from adapters.adapter import Adapter
from adapters.intake import PUBLIC, home_of, withdraw
from adapters.intake import place as publish
from adapters.private_folders import PRIVATE, sync
from monitor.ledger.registry import Known
from monitor.pipeline import put
from monitor.review import Place
from monitor.state import StateFolder

_FROZEN = 0o555


def move_out(digest: str, source: Path, target: Path) -> bool:
    """Move ``source/sha256-…`` to ``target/sha256-…``, a private folder, and say whether it was there.

    Raises:
        AdapterError: ``digest`` is none.
        OSError: it cannot be moved.
    """
    leaving, arriving = home_of(digest, source), home_of(digest, target)
    if not os.path.lexists(leaving):
        return False
    if leaving.is_symlink() or os.path.lexists(arriving):
        return withdraw(digest, source)
    leaving.chmod(PRIVATE)  # a folder has to be writable to be moved
    try:
        leaving.rename(arriving)
    except OSError as error:
        leaving.chmod(_FROZEN)
        if error.errno != errno.EXDEV:
            raise
        publish(Adapter(leaving, digest, digest), target, PRIVATE)
        return withdraw(digest, source)
    arriving.chmod(_FROZEN)
    sync(target)
    sync(source)
    return True


def carry(known: Known, home: Path, place: Place, state: StateFolder) -> None:
    """Put the files that lie at ``home`` into a place, proved where servers will read them; safe to repeat.

    Raises:
        AdapterError: they are no longer those of the digest; nothing is promoted.
        OSError: the disk is full or fails.
    """
    adapter = Adapter(home, known.digest, known.name, known.parent)
    if place == "promoted":  # they leave where they were only then: it may be the only copy
        publish(adapter, state.promoted, PUBLIC)
        for folder in (state.quarantine, state.retired):
            withdraw(known.digest, folder)
        return
    for folder in (state.promoted, state.retired):
        move_out(known.digest, folder, state.quarantine)
    if not home_of(known.digest, state.quarantine).is_dir():
        put(adapter, place, state)


def files_of(digest: str, state: StateFolder, made_at: list[Path]) -> Path | None:
    """Return where a digest's files lie now: where it was put first, then where it waits to be; None where nowhere."""
    settled = (state.promoted, state.quarantine, state.retired, state.staging)
    homes = [*(home_of(digest, folder) for folder in settled), *made_at]
    return next((home for home in homes if home.is_dir() and not home.is_symlink()), None)
