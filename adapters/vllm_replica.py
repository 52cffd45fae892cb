"""One vLLM server over HTTP, asked strictly: every request has one time and one size within which it is answered.

It needs ``VLLM_ALLOW_RUNTIME_LORA_UPDATING=1``, ``--enable-lora``, and ``--enable-tower-connector-lora`` where
adapters reach the vision tower. Each replica is a server of its own: behind a balancer none can be proved.
"""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from adapters.canary import TOP, Canary, NextTokens
from adapters.replica import Listing, ReplicaRefused, ReplicaUnreachable
from adapters.vllm_client import CHAT, DENIED, VllmClient, conversation, words

_BOOT = re.compile(rb"^process_start_time_seconds (\S+)$", re.MULTILINE)
_BESIDE_TOKENS = 32
_BESIDE_ASKED = 2


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
        self._client = VllmClient(url, timeout_seconds=timeout_seconds, token=token)
        self._promoted = promoted
        self._base = base

    @property
    def url(self) -> str:
        """Where it listens."""
        return self._client.url

    def there(self, path: Path) -> str:
        """Return a promoted folder's path as the server sees it."""
        return str(path if self._promoted is None else self._promoted / path.name)

    def listing(self) -> Listing:
        """Return what it serves, and the identity of its process: the start time that its metrics give.

        ``/v1/models`` would not do: what it calls ``created`` is the time of asking.
        """
        status, raw = self._client.ask("GET", "/v1/models")
        if status != 200:
            hint = "; check its token" if status in DENIED else ""
            raise ReplicaUnreachable(f"/v1/models answered {status}: {words(raw)}{hint}")
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
        with self._client.exchange("POST", CHAT, long) as (status, pieces):
            if status != 200:
                raise self._client.refusal(CHAT, status, b"".join(pieces))
            next(pieces, b"")  # it has begun to answer; dropping the connection afterwards ends it
            return [
                self._next_tokens(base, canary, {"cache_salt": uuid.uuid4().hex}) for _number in range(_BESIDE_ASKED)
            ]

    def _next_tokens(
        self, model: str, canary: Canary, more: Mapping[str, Any], picture_id: str | None = None
    ) -> NextTokens:
        status, raw = self._client.ask("POST", CHAT, {**_question(model, canary, picture_id), **more})
        if status != 200:
            raise self._client.refusal(f"a question to {model}", status, raw)
        return _read_next_tokens(raw)

    def _change(self, path: str, body: Mapping[str, Any], fine: int | None = None) -> None:
        status, raw = self._client.ask("POST", path, body)
        if status not in (200, fine):
            raise self._client.refusal(path, status, raw)

    def _boot(self) -> str:
        status, raw = self._client.ask("GET", "/metrics", until=_BOOT)
        found = _BOOT.search(raw) if status == 200 else None
        return found[1].decode("ascii", "replace")[:64] if found else ""


def _question(model: str, canary: Canary, picture_id: str | None = None) -> dict[str, Any]:
    return {
        "model": model,
        "messages": conversation(canary.asked, canary.system, canary.picture, picture_id),
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
        raise ReplicaUnreachable(f"/v1/models is no list of models: {words(raw)}") from error
    return bases, adapters


def _read_next_tokens(raw: bytes) -> NextTokens:
    try:
        listed = json.loads(raw)["choices"][0]["logprobs"]["content"][0]["top_logprobs"]
        found = {str(one["token"]).removeprefix("token_id:"): float(one["logprob"]) for one in listed}
    except (ValueError, KeyError, TypeError, IndexError, AttributeError, RecursionError) as error:
        raise ReplicaRefused(f"it answered without log-probabilities: {words(raw)}") from error
    if not found or not all(token.isdigit() and value <= 1e-3 for token, value in found.items()):
        raise ReplicaRefused("it answered with log-probabilities that are none, or not by token id")
    return found
