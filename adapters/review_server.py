"""A vLLM server that answers for reviews alone: it serves no users, and nobody else may ask it.

What vLLM keeps between requests (prefix blocks, pictures' features) is kept under keys of our own that are used for one
phase of questions and never again, so that nothing is answered out of what other weights or a shared batch left there.
"""

from __future__ import annotations

import hashlib
import io
import json
import re
import uuid
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from adapters.abort import Abort, all_at_once
from adapters.canary import Canary, NextTokens
from adapters.engine import Sampling
from adapters.prompts import Prompt
from adapters.replica import ReplicaRefused, ReplicaUnreachable
from adapters.transformers_engine import open_picture
from adapters.vllm_client import CHAT, conversation, words
from adapters.vllm_replica import VllmReplica

_SAMPLE = re.compile(
    rb"^(?:vllm:(num_requests_running|num_requests_waiting|request_success_total)\{[^}\n]*\}"
    rb"|(process_start_time_seconds)) (\S+)$",
    re.MULTILINE,
)


@dataclass(frozen=True, slots=True)
class Traffic:
    """What a server's ``/metrics`` say of everybody's requests."""

    boot: str
    """Start time of its process; another one means that it restarted."""
    unfinished: int
    """Requests that run or wait now."""
    finished: int
    """Requests that were answered since it started."""


class ReviewServer(VllmReplica):
    """A vLLM server to which prompts are put, many at a time."""

    def __init__(
        self,
        url: str,
        *,
        timeout_seconds: float = 120.0,
        token: Callable[[], str | None] = lambda: None,
        base: str | None = None,
        mounts: Mapping[Path, Path] | None = None,
        at_once: int = 8,
    ) -> None:
        """Remember where and how to ask; nothing is sent yet.

        Args:
            url: where it listens, without a path.
            timeout_seconds: longest time for one request, its whole answer included.
            token: gives the bearer token, as for :class:`VllmReplica`.
            base: name under which it serves the base; the first that it lists when not given.
            mounts: folders here, and where the server sees each; whatever lies elsewhere it sees where we do.
            at_once: requests in flight.
        """
        super().__init__(url, timeout_seconds=timeout_seconds, token=token, base=base)
        self._mounts = dict(mounts or {})
        self._at_once = at_once
        self._salt = ""
        self.renew()

    def renew(self) -> None:
        """Answer from now on without anything that was kept until now."""
        self._salt = uuid.uuid4().hex

    def there(self, path: Path) -> str:
        """Return a folder's path as the server sees it."""
        path = path.absolute()
        for here in sorted(self._mounts, key=lambda one: -len(one.parts)):
            if path.is_relative_to(here):
                return str(self._mounts[here] / path.relative_to(here))
        return str(path)

    def traffic(self) -> Traffic:
        """Return how much it has answered so far, for whomever.

        Raises:
            ReplicaUnreachable: it does not say.
        """
        status, raw = self._client.ask("GET", "/metrics")
        if status != 200:
            raise ReplicaUnreachable(f"/metrics answered {status}: {words(raw)}")
        counts = {b"num_requests_running": 0.0, b"num_requests_waiting": 0.0}
        boot = ""
        try:
            for metric, start, value in _SAMPLE.findall(raw):
                if start:
                    boot = value.decode("ascii")
                else:
                    counts[metric] = counts.get(metric, 0.0) + float(value)
            unfinished = int(counts[b"num_requests_running"] + counts[b"num_requests_waiting"])
            finished = int(counts[b"request_success_total"])
        except (ValueError, KeyError, OverflowError) as error:
            raise ReplicaUnreachable("/metrics do not say how many requests it has answered") from error
        if not boot:
            raise ReplicaUnreachable("/metrics do not say when it started")
        return Traffic(boot, unfinished, finished)

    def next_tokens(self, model: str, canary: Canary) -> NextTokens:
        """Ask a canary's question under a model's name, and nothing beside it; see :meth:`renew`."""
        picture_id = None if canary.picture is None else self._picture_id(canary.picture)
        return self._next_tokens(model, canary, {"cache_salt": self._salt}, picture_id)

    def answers(self, model: str, prompts: Sequence[Prompt], sampling: Sampling) -> list[str]:
        """Return the answers to all prompts under a model's name, in order.

        Raises:
            ReplicaUnreachable: one was not answered; the others were given up.
            ReplicaRefused: it does not answer one, for instance because it is too long.
            EngineError: a picture cannot be read.
        """
        times: Counter[str] = Counter()
        work = []
        for prompt in prompts:
            # A prompt that is asked twice is answered twice, each time by a draw of its own.
            work.append(partial(self._answer, model, prompt, sampling, times[prompt.id]))
            times[prompt.id] += 1
        return all_at_once(work, self._at_once, "vllm")

    def _answer(self, model: str, prompt: Prompt, sampling: Sampling, nth: int, abort: Abort) -> str:
        abort.check()
        body = self._body(model, prompt, sampling, nth)
        try:
            status, raw = self._client.ask("POST", CHAT, body, trace=abort.watch)
        except ReplicaUnreachable:
            abort.check()
            raise
        if status != 200:
            raise self._client.refusal(f"prompt {prompt.id!r}", status, raw)
        return _read_answer(raw)

    def _body(self, model: str, prompt: Prompt, sampling: Sampling, nth: int) -> dict[str, Any]:
        # Decoded here and sent without loss, so that both engines see the same pixels.
        picture = None if prompt.image is None else _as_png(prompt.image)
        picture_id = None if picture is None else self._picture_id(picture)
        return {
            "model": model,
            "messages": conversation(prompt.asked, prompt.system, picture, picture_id),
            "temperature": sampling.temperature,
            "top_p": sampling.top_p if sampling.temperature > 0 else 1.0,
            "top_k": 0,  # a base's own generation_config would limit it
            "max_tokens": sampling.max_new_tokens,
            "seed": _seed(sampling.seed, prompt, nth),
            "cache_salt": self._salt,
        }

    def _picture_id(self, picture: bytes) -> str:
        return f"{self._salt}-{hashlib.sha256(picture).hexdigest()}"


def _as_png(path: Path) -> bytes:
    out = io.BytesIO()
    open_picture(path).save(out, format="PNG")
    return out.getvalue()


def _seed(seed: int, prompt: Prompt, nth: int) -> int:
    return int.from_bytes(hashlib.sha256(f"{seed}\0{prompt.id}\0{nth}".encode()).digest()[:4], "big")


def _read_answer(raw: bytes) -> str:
    try:
        choice = json.loads(raw)["choices"][0]
        text, ended = choice["message"]["content"], choice["finish_reason"]
    except (ValueError, KeyError, IndexError, TypeError, RecursionError) as error:
        raise ReplicaUnreachable(f"it answered without a chat completion: {words(raw)}") from error
    if ended not in ("stop", "length"):
        raise ReplicaUnreachable(f"an answer ended early ({str(ended)[:40]})")
    if text is not None and not isinstance(text, str):
        raise ReplicaRefused("it answered with something that is no text")
    return (text or "").strip()
