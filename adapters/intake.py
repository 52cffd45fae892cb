"""Bringing adapters in and putting them away, so that a kill at any moment leaves nothing half-written in sight.

Every folder named ``sha256-…`` is complete: it is written under another name first and renamed at the end. All acts
are safe to repeat. What is copied is what the digest covers: documents and other files without effect stay behind.
"""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
import stat
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from adapters.adapter import (
    CONFIG_NAME,
    DIGEST_PREFIX,
    Adapter,
    AdapterError,
    NotAnAdapter,
    StillWritten,
    declared_parent,
    digest_adapter,
    digest_of_lines,
    file_line,
    is_digest,
    link_line,
)
from adapters.adapter_files import MAX_DEPTH, MAX_ENTRIES, Entry, open_regular, walk
from adapters.file_names import is_inert
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

    ``max_bytes`` bounds the size of all files that are copied, ``max_files`` the number of files and folders.
    Symbolic links are kept as links and never followed, so that the structure guard can report them.

    Raises:
        NotAnAdapter: the source is missing or holds no ``adapter_config.json``.
        StillWritten: it changed meanwhile.
        AdapterError: it is too large, nested too deep, or holds a pipe, socket or device, or a name that is not UTF-8.
        OSError: the disk is full, or a file cannot be read or written. Nothing is left behind.
    """
    _require_adapter(source)
    make_folder(staging, PRIVATE)
    sweep_staging(staging)
    try:
        digest = _copy_in(source, staging, staging, max_bytes, max_files)
    except (FileNotFoundError, NotADirectoryError, NotAnAdapter) as error:
        gone = getattr(error, "filename", None) or source
        raise StillWritten(f"{source} is still being written: {gone} vanished; try again later") from error
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
        _require_space(workshop, before)
        copy.mkdir(mode=PRIVATE)
        copied = [_copy_entry(source / entry.path, copy / entry.path, entry) for entry in before]
        digest = digest_of_lines(line for line in copied if line)
        if digest_adapter(source) != digest or _changed(before, _survey(source, max_bytes, max_files)):
            raise StillWritten(f"{source} is still being written; try again when it is complete")
        if expected not in (None, digest):
            raise AdapterError(f"{source} holds {digest} and no longer {expected}; stage the adapter again")
        _freeze(copy, before)
        target = home_of(digest, folder)
        if not _holds(target, digest):
            remove(target)
            _publish(copy, target)
    return digest


def _survey(source: Path, max_bytes: int | None, max_files: int | None) -> list[Entry]:
    """List what is to be copied of a folder and refuse what must not be, before a byte of it is."""
    entries, size = [], 0
    for count, entry in enumerate(walk(source, max_files if max_files is not None else 2**62), 1):
        if max_files is not None and count > max_files:
            raise AdapterError(f"{source} holds more than {max_files} files; give the adapter's own files alone")
        kind = entry.status.st_mode
        if not entry.path.isascii() and entry.path.encode("utf-8", "replace").decode() != entry.path:
            raise AdapterError(f"{source} holds {entry.path!r}, whose name is not UTF-8; rename it")
        if entry.path.count("/") >= MAX_DEPTH:
            raise AdapterError(f"{source} nests folders more than {MAX_DEPTH} deep; give the adapter's folder alone")
        if not (stat.S_ISREG(kind) or stat.S_ISDIR(kind) or stat.S_ISLNK(kind)):
            # It has no content, so no digest can tell a folder with it from one without.
            raise AdapterError(f"{source} holds {entry.path!r}, a named pipe, socket or device; remove it")
        if stat.S_ISREG(kind) and is_inert(entry.path):
            continue
        entries.append(entry)
        size += entry.status.st_size if stat.S_ISREG(kind) else 0
        if max_bytes is not None and size > max_bytes:
            raise AdapterError(f"{source} holds more than {max_bytes} bytes; give the adapter's own files alone")
    inhabited = {str(above) for e in entries if not _is_folder(e) for above in PurePosixPath(e.path).parents}
    return [entry for entry in entries if not _is_folder(entry) or entry.path in inhabited]


def _is_folder(entry: Entry) -> bool:
    return stat.S_ISDIR(entry.status.st_mode)


def _require_space(folder: Path, entries: Sequence[Entry]) -> None:
    """Refuse before the first byte what the disk cannot hold, so that gigabytes are not copied in vain."""
    if sum(e.status.st_size for e in entries if not _is_folder(e)) > shutil.disk_usage(folder).free:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(folder))


def _changed(before: Sequence[Entry], after: Sequence[Entry]) -> bool:
    def seen(entries: Sequence[Entry]) -> list[tuple[object, ...]]:
        files = [(e.path, e.status) for e in entries if not _is_folder(e)]
        return [(path, s.st_ino, s.st_mode, s.st_size, s.st_mtime_ns, s.st_ctime_ns) for path, s in files]

    return seen(before) != seen(after)


def _copy_entry(source: Path, target: Path, entry: Entry) -> bytes:
    """Copy one thing and return its line of the digest; a folder has none."""
    if _is_folder(entry):
        target.mkdir(mode=PRIVATE)
        return b""
    if stat.S_ISLNK(entry.status.st_mode):
        os.symlink(os.readlink(source), target)  # noqa: PTH115, PTH211 - Path would rewrite "./x" to "x"
        return link_line(entry.path, target)
    return file_line(entry.path, *_copy_file(source, target, entry.status.st_size))


def _copy_file(source: Path, target: Path, size: int) -> tuple[int, str]:
    """Copy the first ``size`` bytes, and return how many were there and their SHA-256.

    A file that grows meanwhile is found out by its digest, not copied for ever.
    """
    copied, content = 0, hashlib.sha256()
    with open_regular(source) as reader, target.open("xb") as writer:
        while copied < size and (chunk := reader.read(min(size - copied, _CHUNK))):
            writer.write(chunk)
            content.update(chunk)
            copied += len(chunk)
        writer.flush()
        os.fsync(writer.fileno())
    return copied, content.hexdigest()


def _freeze(copy: Path, entries: Sequence[Entry]) -> None:
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
    if target.is_symlink() or not target.is_dir() or digest_adapter(target) != digest:
        return False
    target.chmod(0o555)
    return True
