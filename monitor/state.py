"""The state folder: the ledger, and the folders through which an adapter passes. One process at a time changes it.

Retryable
    StateBusy       another process works on the folder
    StateFull       the disk is full or fails
Permanent
    StateUnusable   the folder cannot be made, read or written
"""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from filelock import FileLock, Timeout

from guards.errors import Permanent, Retryable

LEDGER_NAME = "ledger.db"
_LOCK_NAME = ".lock"
_HOLDER_NAME = ".holder"

_MODES = {
    "staging": 0o700,
    "promoted": 0o755,
    "quarantine": 0o700,
    "remedied": 0o700,
    "retired": 0o700,
    "reviews": 0o755,
}
"""Every folder and who may enter it: servers read ``promoted`` and reach nothing that was not."""

_DISK_ERRORS = {errno.ENOSPC, errno.EDQUOT, errno.EIO}


class StateBusy(Retryable):
    """Another process works on this state folder."""


class StateFull(Retryable):
    """The disk under the state folder is full or fails."""


class StateUnusable(Permanent):
    """The state folder cannot be made, read or written."""


@dataclass(frozen=True, slots=True)
class StateFolder:
    """Everything Alignwatch keeps, below one path."""

    path: Path
    """The folder itself, absolute."""
    placing: threading.Lock = field(default_factory=threading.Lock, repr=False, compare=False)
    """Held while files follow a recorded intent, so that two threads never move the same adapter."""

    @property
    def ledger_path(self) -> Path:
        """The ledger's file."""
        return self.path / LEDGER_NAME

    @property
    def staging(self) -> Path:
        """Where arrivals are copied to under their digest; 0700."""
        return self.path / "staging"

    @property
    def promoted(self) -> Path:
        """The only folder that servers may mount; 0755."""
        return self.path / "promoted"

    @property
    def quarantine(self) -> Path:
        """Out of every server's reach; 0700."""
        return self.path / "quarantine"

    @property
    def remedied(self) -> Path:
        """Where remedies write new adapters; 0700."""
        return self.path / "remedied"

    @property
    def retired(self) -> Path:
        """What a newer version of the same name replaced; 0700."""
        return self.path / "retired"

    @property
    def reviews(self) -> Path:
        """One folder a review, with its reports."""
        return self.path / "reviews"

    @classmethod
    @contextmanager
    def open(cls, path: Path) -> Iterator[StateFolder]:
        """Create what is missing and hold the folder for this process alone.

        The lock is the operating system's: it ends with the process, however that ends.

        Raises:
            StateBusy: another process holds the folder.
            StateFull: the disk is full or fails.
            StateUnusable: the path is a file, or cannot be written.
        """
        state = cls(path.absolute())
        with _named_errors(state.path):
            state.path.mkdir(parents=True, exist_ok=True)
            lock = FileLock(state.path / _LOCK_NAME, timeout=0, thread_local=False)
            try:
                lock.acquire()
            except Timeout as busy:
                raise StateBusy(
                    f"{state.path} is in use by {_holder(state.path)}; wait for it, end it, or name another folder"
                ) from busy
        try:
            with _named_errors(state.path):
                (state.path / _HOLDER_NAME).write_text(f"{os.getpid()}\n")
                state._lay_out()
            yield state
        finally:
            # The name goes before the lock: afterwards it might be the next holder's.
            with suppress(OSError):
                (state.path / _HOLDER_NAME).unlink(missing_ok=True)
            lock.release()

    @classmethod
    def peek(cls, path: Path) -> StateFolder:
        """Return a folder for reading only, whoever works on it. Open its ledger with ``read_only=True``.

        Raises:
            StateUnusable: there is no state folder here.
        """
        state = cls(path.absolute())
        try:
            exists = state.ledger_path.is_file()
        except OSError:
            exists = False
        if not exists:
            raise StateUnusable(f"{path} is not a state folder (no readable {LEDGER_NAME}); give one that a run made")
        return state

    def _lay_out(self) -> None:
        for name, mode in _MODES.items():
            folder = self.path / name
            folder.mkdir(mode=mode, exist_ok=True)
            if folder.stat().st_mode & 0o777 != mode:  # the umask, or somebody since
                folder.chmod(mode)


def _holder(path: Path) -> str:
    try:
        return f"process {int((path / _HOLDER_NAME).read_text())}"
    except (OSError, ValueError):  # it has only just begun, or is about to end
        return "another process"


@contextmanager
def _named_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, NotImplementedError) as error:
        cause = getattr(error, "strerror", None) or str(error) or "the file system cannot lock files"
        if getattr(error, "errno", None) in _DISK_ERRORS:
            raise StateFull(f"{path} cannot be written ({cause}); free space there and run again") from error
        raise StateUnusable(f"{path} cannot hold the state ({cause}); give a folder that you can write") from error
