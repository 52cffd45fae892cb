"""Bringing adapters in and putting them away, so that a kill at any moment leaves nothing half-written in sight.

Every folder named ``sha256-…`` is complete: it is written under another name first and renamed at the end. All acts
are safe to repeat.
"""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

from adapters.adapter import (
    CONFIG_NAME,
    DIGEST_PREFIX,
    Adapter,
    AdapterError,
    NotAnAdapter,
    declared_parent,
    digest_folder,
    is_digest,
)
from adapters.adapter_files import MAX_DEPTH, MAX_ENTRIES, Entry, open_regular, walk
from adapters.private_folders import PRIVATE, make_folder, private_folder, remove, sweep_staging, sync

__all__ = ["PRIVATE", "PUBLIC", "home_of", "place", "stage", "sweep_staging", "withdraw"]

MAX_BYTES = 8 * 2**30
"""Largest adapter taken in. Rank 256 on every linear layer of a 70 B model takes about 6 GiB in bfloat16."""

PUBLIC = 0o755
"""Mode of the folder that servers read."""

_CHUNK = 2**20


def stage(
    source: Path, staging: Path, name: str | None = None, *, max_bytes: int = MAX_BYTES, max_files: int = MAX_ENTRIES
) -> Adapter:
    """Copy an adapter into ``staging`` under its digest, read-only, and return that copy.

    ``max_bytes`` bounds the files' total size, ``max_files`` the number of files and folders. Symbolic links are
    kept as links and never followed, so that the structure guard can report them.

    Raises:
        NotAnAdapter: the source is missing or holds no ``adapter_config.json``.
        AdapterError: it is still being written, too large, or holds a pipe, socket or device.
        OSError: the disk is full, or a file cannot be read or written. Nothing is left behind.
    """
    _require_adapter(source)
    make_folder(staging, PRIVATE)
    sweep_staging(staging)
    try:
        digest = _copy_in(source, staging, staging, max_bytes, max_files)
    except FileNotFoundError as error:
        raise AdapterError(f"{source} is still being written: {error.filename} vanished; try again later") from error
    return Adapter(staging / digest, digest, name or source.resolve().name, declared_parent(source))


def place(adapter: Adapter, folder: Path, mode: int = PUBLIC) -> Adapter:
    """Publish a read-only copy of a staged adapter as ``folder/sha256-…`` and return it.

    ``mode`` is that of ``folder`` itself: ``PUBLIC`` for what servers read, ``PRIVATE`` for quarantine. The copy is
    written beside ``folder``, where no server looks, unless that is another file system.

    Raises:
        AdapterError: the adapter's files are no longer those of its digest.
        OSError: the disk is full, or a file cannot be read or written. Nothing is left behind.
    """
    make_folder(folder, mode)
    target = home_of(adapter.digest, folder)
    workshop = _workshop(folder)
    sweep_staging(workshop)
    if not _holds(target, adapter.digest):
        digest = _copy_in(adapter.path, workshop, folder, max_bytes=None, max_files=None, expected=adapter.digest)
        target = home_of(digest, folder)
    return Adapter(target, adapter.digest, adapter.name, adapter.parent)


def withdraw(digest: str, folder: Path) -> bool:
    """Remove ``folder/sha256-…`` and say whether it was there. It is out of sight at once, in one rename.

    Raises:
        AdapterError: ``digest`` is none.
        OSError: it cannot be removed.
    """
    target = home_of(digest, folder)
    if not os.path.lexists(target):
        return False
    if target.is_symlink():
        target.unlink()
        return True
    target.chmod(PRIVATE)  # a folder has to be writable to be moved
    with private_folder(_workshop(folder)) as temporary:
        target.rename(temporary / "leaving")
        sync(folder)
    return True


def home_of(digest: str, folder: Path) -> Path:
    """Return where an adapter lies below ``folder``. Only a digest can name a place, never a path.

    Raises:
        AdapterError: ``digest`` is none.
    """
    if not is_digest(digest):
        raise AdapterError(f"{digest!r} is no digest; one is {DIGEST_PREFIX} and 64 hexadecimal digits")
    return folder / digest


def _require_adapter(source: Path) -> None:
    if not source.is_dir():
        raise NotAnAdapter(f"{source} is not a folder; give the folder that holds {CONFIG_NAME}")
    if not os.path.lexists(source / CONFIG_NAME):
        raise NotAnAdapter(f"{source} holds no {CONFIG_NAME}; give the folder that peft's save_pretrained wrote")


def _workshop(folder: Path) -> Path:
    """Where to work on what ``folder`` will hold: beside it, unless that is another file system."""
    parent = folder.resolve().parent
    return parent if parent.stat().st_dev == folder.stat().st_dev else folder


def _copy_in(
    source: Path,
    workshop: Path,
    folder: Path,
    max_bytes: int | None,
    max_files: int | None,
    expected: str | None = None,
) -> str:
    """Copy ``source`` below ``workshop``, prove the copy, move it to ``folder/sha256-…`` and return the digest."""
    with private_folder(workshop) as temporary:
        copy = temporary / "copy"
        before = _survey(source, max_bytes, max_files)
        copy.mkdir(mode=PRIVATE)
        for entry in before:
            _copy_entry(source / entry.path, copy / entry.path, entry)
        digest = digest_folder(copy)
        if _changed(before, _survey(source, max_bytes, max_files)) or digest_folder(source) != digest:
            raise AdapterError(f"{source} is still being written; try again when it is complete")
        if expected not in (None, digest):
            raise AdapterError(f"{source} holds {digest} and no longer {expected}; stage the adapter again")
        _freeze(copy, before)
        target = home_of(digest, folder)
        if not _holds(target, digest):
            remove(target)
            _publish(copy, target)
    return digest


def _survey(source: Path, max_bytes: int | None, max_files: int | None) -> list[Entry]:
    """List a folder and refuse what cannot or must not be copied, before a byte of it is."""
    entries, size = [], 0
    for entry in walk(source, max_files if max_files is not None else 2**62):
        entries.append(entry)
        kind = entry.status.st_mode
        if not entry.path.isascii() and entry.path.encode("utf-8", "replace").decode() != entry.path:
            raise AdapterError(f"{source} holds {entry.path!r}, whose name is not UTF-8; rename it")
        if entry.path.count("/") >= MAX_DEPTH:
            raise AdapterError(f"{source} nests folders more than {MAX_DEPTH} deep; give the adapter's folder alone")
        if not (stat.S_ISREG(kind) or stat.S_ISDIR(kind) or stat.S_ISLNK(kind)):
            # It has no content, so no digest can tell a folder with it from one without.
            raise AdapterError(f"{source} holds {entry.path!r}, a named pipe, socket or device; remove it")
        size += entry.status.st_size if stat.S_ISREG(kind) else 0
        if max_bytes is not None and size > max_bytes:
            raise AdapterError(f"{source} holds more than {max_bytes} bytes; give the adapter's own files alone")
        if max_files is not None and len(entries) > max_files:
            raise AdapterError(f"{source} holds more than {max_files} files; give the adapter's own files alone")
    return entries


def _changed(before: list[Entry], after: list[Entry]) -> bool:
    def seen(entries: list[Entry]) -> list[tuple[object, ...]]:
        return [(e.path, e.status.st_ino, e.status.st_mode, e.status.st_size, e.status.st_mtime_ns) for e in entries]

    return seen(before) != seen(after)


def _copy_entry(source: Path, target: Path, entry: Entry) -> None:
    if stat.S_ISDIR(entry.status.st_mode):
        target.mkdir(mode=PRIVATE)
    elif stat.S_ISLNK(entry.status.st_mode):
        target.symlink_to(source.readlink())
    else:
        _copy_file(source, target, entry.status.st_size)


def _copy_file(source: Path, target: Path, size: int) -> None:
    """Copy the first ``size`` bytes; a file that grows meanwhile is found out by its digest, not copied for ever."""
    with open_regular(source) as reader, target.open("xb") as writer:
        while size > 0 and (chunk := reader.read(min(size, _CHUNK))):
            writer.write(chunk)
            size -= len(chunk)
        writer.flush()
        os.fsync(writer.fileno())


def _freeze(copy: Path, entries: list[Entry]) -> None:
    """Make everything but the top folder read-only, and durable."""
    for entry in reversed(entries):
        path = copy / entry.path
        if stat.S_ISDIR(entry.status.st_mode):
            path.chmod(0o555)
            sync(path)
        elif stat.S_ISREG(entry.status.st_mode):
            path.chmod(0o444)
    sync(copy)


def _publish(copy: Path, target: Path) -> None:
    try:
        copy.rename(target)  # a folder has to be writable to be moved, so it is locked a moment later
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
            raise
        return  # another process published the same bytes first
    target.chmod(0o555)
    sync(target.parent)


def _holds(target: Path, digest: str) -> bool:
    """Whether ``target`` is a folder with exactly these bytes; its mode is mended, should a kill have left it open."""
    if target.is_symlink() or not target.is_dir() or digest_folder(target) != digest:
        return False
    target.chmod(0o555)
    return True
