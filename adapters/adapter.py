"""A LoRA adapter on disk: one immutable set of files under one SHA-256.

AdapterError            this folder cannot be used as an adapter; the message names the cause
    NotAnAdapter        there is nothing here that calls itself one: a user's slip, not a finding
    StillWritten        it changed while it was read; it may be whole a moment later
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from adapters.adapter_files import open_regular
from adapters.file_names import CONFIG_NAME as CONFIG_NAME
from adapters.file_names import MANIFEST_NAME as MANIFEST_NAME
from adapters.file_names import WEIGHTS_NAME as WEIGHTS_NAME
from adapters.file_names import is_inert

DIGEST_PREFIX = "sha256-"

_MAX_MANIFEST = 64 * 2**10
_CHUNK = 2**20


class AdapterError(Exception):
    """This folder cannot be used as an adapter; the message names the cause and the next step."""


class NotAnAdapter(AdapterError):
    """There is no adapter here: the folder is missing, or holds no adapter_config.json."""


class StillWritten(AdapterError):
    """The folder changed while it was read; trying again when it is quiet can succeed."""


@dataclass(frozen=True, slots=True)
class Adapter:
    """One immutable set of files, known by its digest and never again by its name alone."""

    path: Path
    """The folder that holds ``adapter_config.json`` and the weights."""
    digest: str
    """``sha256-`` and 64 hexadecimal digits over every file that has an effect; see :func:`digest_adapter`."""
    name: str
    """What people call it; for display only."""
    parent: str | None = None
    """Digest of the adapter that a remedy made this one from, or that the adapter itself declares."""

    @property
    def short(self) -> str:
        """The digest's first twelve hexadecimal digits, for tables."""
        return self.digest.removeprefix(DIGEST_PREFIX)[:12]


def digest_adapter(folder: Path) -> str:
    """Digest every file of an adapter that has an effect; docs/arrival.md defines it.

    Raises:
        NotAnAdapter: the folder does not exist.
        OSError: something in it cannot be read; nothing is left out because of that.
    """
    if not folder.is_dir():
        raise NotAnAdapter(f"{folder} is not a folder")
    lines = []
    for relative, is_link in effective_files(folder):
        path = folder / relative
        lines.append(link_line(relative, path) if is_link else file_line(relative, *size_and_sha256(path)))
    return digest_of_lines(lines)


def effective_files(folder: Path) -> Iterator[tuple[str, bool]]:
    """Yield the path below an adapter's folder of everything that its digest covers, and whether that is a link.

    Folders alone have no effect, nor has what :func:`adapters.file_names.is_inert` names. Links are never followed.
    """
    waiting = [""]
    while waiting:
        below = waiting.pop()
        with os.scandir(folder / below) as entries:
            for entry in entries:
                relative = below + entry.name
                if entry.is_symlink():
                    yield relative, True
                elif entry.is_dir():
                    waiting.append(relative + "/")
                elif entry.is_file() and not is_inert(relative):
                    yield relative, False


def file_line(relative: str, size: int, sha256: str) -> bytes:
    """Return what a file adds to an adapter's digest: path, size in decimal digits and content, parted by NUL."""
    return b"%s\0%d\0%s\n" % (os.fsencode(relative), size, sha256.encode())


def link_line(relative: str, path: Path) -> bytes:
    """Return what a symbolic link adds: ``link`` stands for the size, the target's path for the content."""
    raw = os.readlink(os.fsencode(path))  # noqa: PTH115 - Path would take "./x" and "x" for the same
    target = hashlib.sha256(raw).hexdigest()
    return b"%s\0link\0%s\n" % (os.fsencode(relative), target.encode())


def digest_of_lines(lines: Iterable[bytes]) -> str:
    """Return the digest that sums up these lines, whatever their order."""
    whole = hashlib.sha256()
    for line in sorted(lines, key=lambda line: line.split(b"\0", 1)[0]):
        whole.update(line)
    return DIGEST_PREFIX + whole.hexdigest()


def size_and_sha256(path: Path) -> tuple[int, str]:
    """Read one regular file once and return its length in bytes and its SHA-256; a link or a pipe is not opened.

    Raises:
        OSError: it is missing, no regular file, or cannot be read.
    """
    size, content = 0, hashlib.sha256()
    with open_regular(path) as stream:
        while chunk := stream.read(_CHUNK):
            size += len(chunk)
            content.update(chunk)
    return size, content.hexdigest()


def digest_folder(folder: Path) -> str:
    """Digest every regular file below ``folder``: SHA-256 over its sorted (relative path, size, SHA-256) lines.

    Symbolic links are digested as links (their target's text), never followed.

    Raises:
        NotAnAdapter: the folder does not exist.
    """
    if not folder.is_dir():
        raise NotAnAdapter(f"{folder} is not a folder")
    whole = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        relative = path.relative_to(folder).as_posix()
        if path.is_symlink():
            whole.update(f"{relative}\0link\0{path.readlink()}\n".encode())
        elif path.is_file():
            whole.update(f"{relative}\0{path.stat().st_size}\0{digest_file(path)}\n".encode())
    return DIGEST_PREFIX + whole.hexdigest()


def digest_file(path: Path) -> str:
    """Return the SHA-256 of one file's bytes as 64 hexadecimal digits."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def declared_parent(folder: Path) -> str | None:
    """Return the parent's digest that ``alignwatch.json`` declares; None where there is none or it cannot be read.

    It is a claim, shown as such, and no decision rests on it.
    """
    try:
        path = folder / MANIFEST_NAME
        if path.is_symlink() or path.stat().st_size > _MAX_MANIFEST:
            return None
        parent = json.loads(path.read_bytes())["parent"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None
    return parent if isinstance(parent, str) and is_digest(parent) else None


def is_digest(text: str) -> bool:
    """Whether this is a whole digest: the prefix and 64 hexadecimal digits."""
    return re.fullmatch(DIGEST_PREFIX + "[0-9a-f]{64}", text) is not None


def reopened(adapter: Adapter) -> Adapter:
    """Open the folder of a known adapter again, and prove that the same files lie there.

    Raises:
        AdapterError: they are gone, or no longer those of its digest; the message says which.
    """
    try:
        there = open_adapter(adapter.path, adapter.name, adapter.parent)
    except (AdapterError, OSError) as error:
        raise AdapterError("its files are gone") from error
    if there.digest != adapter.digest:
        raise AdapterError("its files are no longer those of its digest")
    return there


def open_adapter(folder: Path, name: str | None = None, parent: str | None = None) -> Adapter:
    """Digest a folder and return it as an adapter. Reads bytes only; interprets none.

    Raises:
        NotAnAdapter: the folder is missing or holds no ``adapter_config.json``.
    """
    if not folder.is_dir():
        raise NotAnAdapter(f"{folder} is not a folder; give the folder that holds {CONFIG_NAME}")
    if not (folder / CONFIG_NAME).is_file():
        raise NotAnAdapter(f"{folder} holds no {CONFIG_NAME}; give the folder that peft's save_pretrained wrote")
    return Adapter(folder, digest_adapter(folder), name or folder.resolve().name, parent)
