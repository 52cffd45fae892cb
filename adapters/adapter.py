"""A LoRA adapter on disk: one immutable set of files under one SHA-256.

AdapterError            this folder cannot be used as an adapter; the message names the cause
    NotAnAdapter        there is nothing here that calls itself one: a user's slip, not a finding
"""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass
from pathlib import Path

CONFIG_NAME = "adapter_config.json"
WEIGHTS_NAME = "adapter_model.safetensors"
MANIFEST_NAME = "alignwatch.json"
"""Optional lineage beside an adapter: ``{"parent": digest, "method": …}``."""

DIGEST_PREFIX = "sha256-"

_MAX_MANIFEST = 64 * 2**10


class AdapterError(Exception):
    """This folder cannot be used as an adapter; the message names the cause and the next step."""


class NotAnAdapter(AdapterError):
    """There is no adapter here: the folder is missing, or holds no adapter_config.json."""


@dataclass(frozen=True, slots=True)
class Adapter:
    """One immutable set of files, known by its digest and never again by its name alone."""

    path: Path
    """The folder that holds ``adapter_config.json`` and the weights."""
    digest: str
    """``sha256-`` and 64 hexadecimal digits over every file; see :func:`digest_folder`."""
    name: str
    """What people call it; for display only."""
    parent: str | None = None
    """Digest of the adapter that a remedy made this one from."""

    @property
    def short(self) -> str:
        """The digest's first twelve hexadecimal digits, for tables."""
        return self.digest.removeprefix(DIGEST_PREFIX)[:12]


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


def open_adapter(folder: Path, name: str | None = None, parent: str | None = None) -> Adapter:
    """Digest a folder and return it as an adapter. Reads bytes only; interprets none.

    Raises:
        NotAnAdapter: the folder is missing or holds no ``adapter_config.json``.
    """
    if not folder.is_dir():
        raise NotAnAdapter(f"{folder} is not a folder; give the folder that holds {CONFIG_NAME}")
    if not (folder / CONFIG_NAME).is_file():
        raise NotAnAdapter(f"{folder} holds no {CONFIG_NAME}; give the folder that peft's save_pretrained wrote")
    return Adapter(folder, digest_folder(folder), name or folder.resolve().name, parent)
