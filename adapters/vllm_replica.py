"""One vLLM server over HTTP, asked strictly: every request has one time and one size within which it is answered.

It needs ``VLLM_ALLOW_RUNTIME_LORA_UPDATING=1``, ``--enable-lora``, and ``--enable-tower-connector-lora`` where
adapters reach the vision tower. Each replica is a server of its own: behind a balancer none can be proved.
"""

from __future__ import annotations

import base64
import json
import re
import ssl
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx

from adapters.canary import TOP, Canary, NextTokens
from adapters.replica import Listing, ReplicaError, ReplicaRefused, ReplicaUnreachable

MAX_REPLY_BYTES = 4 * 2**20
"""Larger replies are given up; a listing of a thousand adapters takes half a megabyte."""

_WORDS = 300
_BOOT = re.compile(rb"^process_start_time_seconds (\S+)$", re.MULTILINE)
_BESIDE_TOKENS = 32
_BESIDE_ASKED = 2
_NOT_NOW = {408, 425, 429, 502, 503, 504}
_DENIED = {401, 403}


class VllmReplica:
    """A vLLM server as :class:`adapters.replica.Replica`."""

    def __init__(
        self,
        url: str,
        *,
        timeout_seconds: float = 10.0,
        token: Callable[[], str | None] = lambda: None,
        promoted: Path | None = None,
        base: str | None = None,
    ) -> None:
        """Remember where and how to ask; nothing is sent yet.

        Args:
            url: where it listens, without a path.
            timeout_seconds: longest time for one request, its whole reply included.
            token: gives the bearer token, anew for every request, so that a rotated one is taken; raises
                :class:`ReplicaUnreachable` where it cannot.
            promoted: where the server sees the folder of promoted adapters; where we see it when not given.
            base: name under which it serves the base; the first that it lists when not given.
        """
        self._url = url.rstrip("/")
        self._timeout = timeout_seconds
        self._token = token
        self._promoted = promoted
        self._base = base
        parts = urlsplit(self._url)
        # Certificates take a tenth of a second to load; plain http gets a context that trusts nobody.
        self._tls = httpx.create_ssl_context() if parts.scheme == "https" else ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        # A proxy from the environment is for the world outside; this machine is reached directly.
        self._use_proxies = parts.hostname not in ("localhost", "127.0.0.1", "::1")

    @property
    def url(self) -> str:
        """Where it listens."""
        return self._url

    def there(self, path: Path) -> str:
        """Return a promoted folder's path as the server sees it."""
        return str(path if self._promoted is None else self._promoted / path.name)

    def listing(self) -> Listing:
        """Return what it serves, and the identity of its process: the start time that its metrics give.

        ``/v1/models`` would not do: what it calls ``created`` is the time of asking.
        """
        status, raw = self._ask("GET", "/v1/models")
        if status != 200:
            hint = "; check its token" if status in _DENIED else ""
            raise ReplicaUnreachable(f"/v1/models answered {status}: {_words(raw)}{hint}")
        bases, adapters = _read_models(raw)
        base = self._base or next(iter(bases), "")
        if base not in bases:
            raise ReplicaUnreachable(f"it serves no base called {base!r}" if base else "it lists no base")
        return Listing(self._boot(), base, adapters)

    def load(self, name: str, path: Path) -> None:
        """Have it load an adapter under a name; vLLM puts it on the device at once."""
        self._change("/v1/load_lora_adapter", {"lora_name": name, "lora_path": self.there(path)})

    def unload(self, name: str) -> None:
        """Have it drop a name. vLLM forgets the name only; the weights stay cached until they are evicted."""
        self._change("/v1/unload_lora_adapter", {"lora_name": name}, fine=404)

    def next_tokens(self, model: str, canary: Canary) -> NextTokens:
        """Ask a canary's question under a model's name, and nothing beside it."""
        return self._next_tokens(model, canary, {})

    def base_beside(self, base: str, name: str, canary: Canary) -> Sequence[NextTokens]:
        """Ask the base while an adapter is in the middle of an answer.

        Prefix caches are kept out of it by a salt, so that the base's whole prompt is computed in that company.
        """
        salt = {"cache_salt": uuid.uuid4().hex}
        long = {**_question(name, canary), **salt, "max_tokens": _BESIDE_TOKENS, "ignore_eos": True, "stream": True}
        with self._exchange("POST", "/v1/chat/completions", long) as (status, pieces):
            if status != 200:
                raise self._refusal("/v1/chat/completions", status, b"".join(pieces))
            next(pieces, b"")  # it has begun to answer; dropping the connection afterwards ends it
            return [
                self._next_tokens(base, canary, {"cache_salt": uuid.uuid4().hex}) for _number in range(_BESIDE_ASKED)
            ]

    def _next_tokens(self, model: str, canary: Canary, more: Mapping[str, Any]) -> NextTokens:
        status, raw = self._ask("POST", "/v1/chat/completions", {**_question(model, canary), **more})
        if status != 200:
            raise self._refusal(f"a question to {model}", status, raw)
        return _read_next_tokens(raw)

    def _change(self, path: str, body: Mapping[str, Any], fine: int | None = None) -> None:
        status, raw = self._ask("POST", path, body)
        if status not in (200, fine):
            raise self._refusal(path, status, raw)

    def _refusal(self, what: str, status: int, raw: bytes) -> ReplicaError:
        """Tell one that may pass from one that is about what was asked."""
        line = f"{what} answered {status}: {self._hushed(_words(raw))}"
        if status in _DENIED | _NOT_NOW:
            return ReplicaUnreachable(line)
        if status == 404 and b"Not Found" in raw and b"message" not in raw:
            line += "; start it with VLLM_ALLOW_RUNTIME_LORA_UPDATING=1 and --enable-lora"
        return ReplicaRefused(line)

    def _boot(self) -> str:
        status, raw = self._ask("GET", "/metrics", until=_BOOT)
        found = _BOOT.search(raw) if status == 200 else None
        return found[1].decode("ascii", "replace")[:64] if found else ""

    def _ask(
        self, method: str, path: str, body: Mapping[str, Any] | None = None, until: re.Pattern[bytes] | None = None
    ) -> tuple[int, bytes]:
        """One request and its whole reply, or as much of it as is needed to match ``until``."""
        with self._exchange(method, path, body) as (status, pieces):
            raw = b""
            for piece in pieces:
                raw += piece
                if until is not None and until.search(raw):
                    break
            return status, raw

    @contextmanager
    def _exchange(
        self, method: str, path: str, body: Mapping[str, Any] | None
    ) -> Iterator[tuple[int, Iterator[bytes]]]:
        token = self._token()
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        try:
            with (
                httpx.Client(
                    headers=headers,
                    timeout=self._timeout,
                    verify=self._tls,
                    trust_env=self._use_proxies,
                    follow_redirects=False,  # a redirect would carry the token somewhere that nobody configured
                ) as client,
                client.stream(method, self._url + path, json=body) as response,
            ):
                yield response.status_code, self._pieces(response)
        except httpx.TimeoutException as error:
            raise ReplicaUnreachable(f"{path}: no answer within {self._timeout:g} s") from error
        except (httpx.HTTPError, httpx.InvalidURL, ValueError) as error:
            cause = " ".join(str(error).split()) or type(error).__name__
            raise ReplicaUnreachable(f"{path}: {self._hushed(cause)[:_WORDS]}") from error

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


def _question(model: str, canary: Canary) -> dict[str, Any]:
    content: list[dict[str, Any]] = [{"type": "text", "text": canary.asked}]
    if canary.picture is not None:
        url = "data:image/png;base64," + base64.b64encode(canary.picture).decode("ascii")
        content.insert(0, {"type": "image_url", "image_url": {"url": url}})
    messages: list[dict[str, Any]] = [{"role": "user", "content": content}]
    if canary.system:
        messages.insert(0, {"role": "system", "content": [{"type": "text", "text": canary.system}]})
    return {
        "model": model,
        "messages": messages,
        "temperature": 0,
        "max_tokens": 1,
        "logprobs": True,
        "top_logprobs": TOP,
        "return_tokens_as_token_ids": True,
    }


def _read_models(raw: bytes) -> tuple[list[str], dict[str, str]]:
    """Return the bases' names, and the adapters' folders by name. What has a parent is an adapter."""
    try:
        cards = json.loads(raw)["data"]
        bases = [str(card["id"]) for card in cards if not card.get("parent")]
        adapters = {str(card["id"]): str(card.get("root") or "") for card in cards if card.get("parent")}
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ReplicaUnreachable(f"/v1/models is no list of models: {_words(raw)}") from error
    return bases, adapters


def _read_next_tokens(raw: bytes) -> NextTokens:
    try:
        listed = json.loads(raw)["choices"][0]["logprobs"]["content"][0]["top_logprobs"]
        found = {str(one["token"]).removeprefix("token_id:"): float(one["logprob"]) for one in listed}
    except (ValueError, KeyError, TypeError, IndexError, AttributeError, RecursionError) as error:
        raise ReplicaRefused(f"it answered without log-probabilities: {_words(raw)}") from error
    if not found or not all(token.isdigit() and value <= 1e-3 for token, value in found.items()):
        raise ReplicaRefused("it answered with log-probabilities that are none, or not by token id")
    return found


def _words(raw: bytes) -> str:
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
