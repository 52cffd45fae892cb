"""How a vLLM server is spoken to: strictly, every request with one time and one size within which it is answered."""

from __future__ import annotations

import base64
import json
import re
import ssl
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, TypeAlias
from urllib.parse import urlsplit

import httpx

from adapters.replica import ReplicaError, ReplicaRefused, ReplicaUnreachable

MAX_REPLY_BYTES = 4 * 2**20
"""Larger replies are given up; a listing of a thousand adapters takes half a megabyte."""
CHAT = "/v1/chat/completions"
DENIED = frozenset({401, 403})
"""Status codes of a token that is missing or wrong."""

Trace: TypeAlias = Callable[[str, dict[str, Any]], None]
"""httpcore's trace hook, told of every connection."""

_WORDS = 300
_NOT_NOW = {408, 425, 429, 502, 503, 504}


class VllmClient:
    """One server's address and token, and requests to it."""

    def __init__(self, url: str, *, timeout_seconds: float, token: Callable[[], str | None]) -> None:
        """Remember where and how to ask; nothing is sent yet.

        Args:
            url: where it listens, without a path.
            timeout_seconds: longest time for one request, its whole reply included.
            token: gives the bearer token, anew for every request, so that a rotated one is taken; raises
                :class:`ReplicaUnreachable` where it cannot.
        """
        self.url = url.rstrip("/")
        self._timeout = timeout_seconds
        self._token = token
        parts = urlsplit(self.url)
        # Certificates take a tenth of a second to load; plain http gets a context that trusts nobody.
        self._tls = httpx.create_ssl_context() if parts.scheme == "https" else ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        # A proxy from the environment is for the world outside; this machine is reached directly.
        self._use_proxies = parts.hostname not in ("localhost", "127.0.0.1", "::1")

    def ask(
        self,
        method: str,
        path: str,
        body: Mapping[str, Any] | None = None,
        *,
        until: re.Pattern[bytes] | None = None,
        trace: Trace | None = None,
    ) -> tuple[int, bytes]:
        """One request and its whole reply, or as much of it as is needed to match ``until``.

        Raises:
            ReplicaUnreachable: no reply, not within the time, or a larger one than is taken.
        """
        with self.exchange(method, path, body, trace=trace) as (status, pieces):
            raw = b""
            for piece in pieces:
                raw += piece
                if until is not None and until.search(raw):
                    break
            return status, raw

    @contextmanager
    def exchange(
        self, method: str, path: str, body: Mapping[str, Any] | None, *, trace: Trace | None = None
    ) -> Iterator[tuple[int, Iterator[bytes]]]:
        """One request as status and pieces, read while the ``with`` block lasts.

        Raises:
            ReplicaUnreachable: as for :meth:`ask`.
        """
        token = self._token()
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        extensions = {} if trace is None else {"trace": trace}
        try:
            with (
                httpx.Client(
                    headers=headers,
                    timeout=self._timeout,
                    verify=self._tls,
                    trust_env=self._use_proxies,
                    follow_redirects=False,  # a redirect would carry the token somewhere that nobody configured
                ) as client,
                client.stream(method, self.url + path, json=body, extensions=extensions) as response,
            ):
                yield response.status_code, self._pieces(response)
        except httpx.TimeoutException as error:
            raise ReplicaUnreachable(f"{path}: no answer within {self._timeout:g} s") from error
        except (httpx.HTTPError, httpx.InvalidURL, ValueError) as error:
            cause = " ".join(str(error).split()) or type(error).__name__
            raise ReplicaUnreachable(f"{path}: {self._hushed(cause)[:_WORDS]}") from error

    def refusal(self, what: str, status: int, raw: bytes) -> ReplicaError:
        """Tell one that may pass from one that is about what was asked."""
        line = f"{what} answered {status}: {self._hushed(words(raw))}"
        if status in DENIED | _NOT_NOW:
            return ReplicaUnreachable(line)
        if status == 404 and b"Not Found" in raw and b"message" not in raw:
            line += "; start it with VLLM_ALLOW_RUNTIME_LORA_UPDATING=1 and --enable-lora"
        return ReplicaRefused(line, status)

    def _pieces(self, response: httpx.Response) -> Iterator[bytes]:
        deadline = time.monotonic() + self._timeout
        size = 0
        for piece in response.iter_bytes():
            size += len(piece)
            if size > MAX_REPLY_BYTES:
                raise ReplicaUnreachable(f"a reply of more than {MAX_REPLY_BYTES >> 20} MiB")
            # The client's timeout is for one read; a server that drips could hold on for ever.
            if time.monotonic() > deadline:
                raise ReplicaUnreachable(f"no whole answer within {self._timeout:g} s")
            yield piece

    def _hushed(self, text: str) -> str:
        """A server's words without the token, should it repeat it."""
        token = self._token()
        return text.replace(token, "…") if token else text


def conversation(
    asked: str, system: str | None, picture: bytes | None, picture_id: str | None = None
) -> list[dict[str, Any]]:
    """Return the messages of one question, its picture (a PNG) before its text.

    Args:
        asked: the user's turn.
        system: the system turn, if any.
        picture: shown before the user's text.
        picture_id: what vLLM keeps the picture's features under, instead of a hash of its pixels.
    """
    content: list[dict[str, Any]] = [{"type": "text", "text": asked}]
    if picture is not None:
        url = "data:image/png;base64," + base64.b64encode(picture).decode("ascii")
        named = {} if picture_id is None else {"uuid": picture_id}
        content.insert(0, {"type": "image_url", "image_url": {"url": url}, **named})
    messages: list[dict[str, Any]] = [{"role": "user", "content": content}]
    if system:
        messages.insert(0, {"role": "system", "content": [{"type": "text", "text": system}]})
    return messages


def words(raw: bytes) -> str:
    """A server's own words, in one bounded line."""
    text = raw[:65536].decode("utf-8", "replace")
    try:
        body = json.loads(text)
        error = body.get("error", body)
        text = str(error.get("message") or error.get("detail") or text)
    except (ValueError, AttributeError, RecursionError):
        pass
    line = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    return line[:_WORDS] + ("…" if len(line) > _WORDS else "") or "nothing"
