"""Folders that are worked in privately and vanish afterwards, and the locks that tell live ones from orphans."""

from __future__ import annotations

import fcntl
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from adapters.adapter_files import walk

PRIVATE = 0o700
"""Mode of folders that only we may read: staging and quarantine."""

_INCOMING = ".alignwatch-incoming-"


def sweep_staging(staging: Path) -> int:
    """Remove what killed runs left half-written in ``staging`` and return how many there were.

    Copies that another process is still writing are left alone: it holds a lock on them, which dies with it.
    """
    if not staging.is_dir():
        return 0
    swept = 0
    with locked(staging):
        with os.scandir(staging) as entries:  # not glob: staging can hold thousands, and every arrival sweeps it
            orphans = sorted(entry.name for entry in entries if entry.name.startswith(_INCOMING))
        for orphan in (staging / name for name in orphans):
            with suppress(BlockingIOError, FileNotFoundError), locked(orphan, wait=False):
                remove(orphan)
                swept += 1
    return swept


def make_folder(folder: Path, mode: int) -> None:
    """Make a folder, its parents too, or give an existing one this mode."""
    folder.mkdir(parents=True, exist_ok=True, mode=mode)
    if stat.S_IMODE(folder.stat().st_mode) != mode:
        folder.chmod(mode)


@contextmanager
def private_folder(parent: Path) -> Iterator[Path]:
    """A locked folder that only we may read and that is gone afterwards, whatever happens."""
    with locked(parent):  # so that no sweep comes between making and locking it
        temporary = Path(tempfile.mkdtemp(prefix=_INCOMING, dir=parent))
        lock = os.open(temporary, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        fcntl.flock(lock, fcntl.LOCK_EX)
    try:
        yield temporary
    finally:
        remove(temporary)
        os.close(lock)


@contextmanager
def locked(folder: Path, wait: bool = True) -> Iterator[None]:
    """Hold an exclusive lock on a folder.

    Raises:
        BlockingIOError: another process holds it and ``wait`` is False.
    """
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        yield
    finally:
        os.close(descriptor)


def _unlock(folder: Path) -> None:
    """Make folders writable again: what lies in a read-only one cannot be removed."""
    folder.chmod(PRIVATE)
    for entry in walk(folder, 2**62):
        if stat.S_ISDIR(entry.status.st_mode):
            (folder / entry.path).chmod(PRIVATE)


def remove(path: Path) -> None:
    """Remove a file, link or folder, read-only ones too; nothing there is fine."""
    if path.is_symlink() or path.is_file():
        path.unlink()
    elif path.is_dir():
        _unlock(path)
        shutil.rmtree(path)


def sync(folder: Path) -> None:
    """Make the names in a folder durable."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
