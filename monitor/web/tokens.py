"""Bearer tokens: made once, kept as hashes, compared in constant time.

A token is 256 random bits, so it cannot be guessed and needs no slow hash, which protects words that people think up;
one HMAC-SHA-256 under a salt of its own is enough, and cheap for every request. The file holds one line a token: name,
scope, ``salt:hash``. Who can write the file can enter, so a file that others may write is refused.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import re
import secrets
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal, TypeAlias, get_args

from monitor.exit_codes import UsageError
from monitor.logs import logger

Scope: TypeAlias = Literal["read", "write"]
"""``write`` includes ``read``."""

_NAME: Final = r"[A-Za-z0-9._@-]{1,64}"
_LINE: Final = re.compile(rf"({_NAME}) (read|write) ([0-9a-f]{{32}}):([0-9a-f]{{64}})")
_LARGEST_FILE: Final = 2**20

log = logger("web")


@dataclass(frozen=True, slots=True)
class Grant:
    """What one token allows."""

    name: str
    """Whom the token is for."""
    scope: Scope
    """What it may do."""
    salt: str
    """32 hexadecimal digits."""
    hashed: str
    """HMAC-SHA-256 of the token under the salt, 64 hexadecimal digits."""


class Tokens:
    """All tokens of one file, read again whenever the file changes."""

    def __init__(self, path: Path) -> None:
        """Read the file.

        Raises:
            UsageError: it is missing, may be written by others, or a line of it is none of ours.
        """
        self._path = path
        self._lock = threading.Lock()
        self._seen = _signature(path)
        self._grants = _read(path)

    def identify(self, token: str) -> Grant | None:
        """Return what a token allows; None where it is none of ours. Takes as long whichever it is."""
        found = None
        for grant in self._present():
            if hmac.compare_digest(_hash(grant.salt, token), grant.hashed):
                found = grant
        return found

    def stands(self, grant: Grant) -> bool:
        """Whether a grant is still in the file."""
        return grant in self._present()

    def reload(self) -> None:
        """Read the file again. Where it cannot be used nobody enters until it can: a token may have been withdrawn."""
        with self._lock:
            self._seen = _signature(self._path)
            try:
                self._grants = _read(self._path)
            except UsageError as error:
                self._grants = ()
                log.error("nobody may enter: the tokens cannot be read", cause=str(error))

    def _present(self) -> tuple[Grant, ...]:
        if _signature(self._path) != self._seen:
            self.reload()
        return self._grants


def create_token(path: Path, name: str, scope: Scope) -> str:
    """Make a token, add its hash to the file (made with mode 0600 where there is none), and return the token.

    This is the only time that it can be seen.

    Raises:
        UsageError: the name is taken or unfit, or the file cannot be used.
    """
    if re.fullmatch(_NAME, name) is None:
        raise UsageError(f"{name!r} cannot name a token; use 1 to 64 letters, digits and . _ @ -")
    if scope not in get_args(Scope):
        raise UsageError(f"{scope!r} is no scope; give 'read' or 'write'")
    if path.exists() and any(grant.name == name for grant in _read(path)):
        raise UsageError(f"{path} has a token for {name} already; delete its line first, or give another name")
    token, salt = f"aw_{secrets.token_urlsafe(32)}", secrets.token_hex(16)
    line = f"{name} {scope} {salt}:{_hash(salt, token)}\n"
    try:
        whole = not path.exists() or path.read_bytes()[-1:] in (b"", b"\n")
        handle = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        with os.fdopen(handle, "ab") as stream:
            stream.write((line if whole else f"\n{line}").encode())
            stream.flush()
            os.fsync(stream.fileno())
    except OSError as error:
        raise UsageError(f"{path} cannot be written ({error.strerror}); give a file in a folder of yours") from error
    return token


def _hash(salt: str, token: str) -> str:
    return hmac.new(bytes.fromhex(salt), token.encode(errors="replace"), hashlib.sha256).hexdigest()


def _signature(path: Path) -> tuple[int, ...] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns


def _read(path: Path) -> tuple[Grant, ...]:
    """Read the file. No message repeats what a line holds: it might be a token that somebody put there by mistake."""
    try:
        found = path.stat()
        if found.st_mode & 0o022:
            raise UsageError(f"tokens {path}: others may write it, so they could let themselves in; chmod 600 it")
        if found.st_size > _LARGEST_FILE:
            raise UsageError(f"tokens {path}: larger than a file of tokens can be; make one with 'alignwatch token'")
        text = path.read_text(encoding="ascii")
    except OSError as error:
        raise UsageError(f"tokens {path}: {error.strerror}; make it with 'alignwatch token'") from error
    except UnicodeDecodeError:
        raise UsageError(f"tokens {path}: not plain text; make it with 'alignwatch token'") from None
    grants: list[Grant] = []
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip() or line.startswith("#"):
            continue
        match = _LINE.fullmatch(line.strip())
        if match is None:
            raise UsageError(
                f"tokens {path}: line {number} is not 'name scope salt:hash'; make it with 'alignwatch token'"
            )
        name, scope, salt, hashed = match.groups()
        if any(grant.name == name for grant in grants):
            raise UsageError(f"tokens {path}: line {number} repeats the name of another; delete one of them")
        grants.append(Grant(name, "write" if scope == "write" else "read", salt, hashed))
    return tuple(grants)
