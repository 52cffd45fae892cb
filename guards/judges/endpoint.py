"""One OpenAI-compatible endpoint, asked patiently and within bounds.

``ask_all`` puts many requests at once, a bounded number at a time. Every request is tried within the bounds of
:mod:`guards.judges.patience`; a failure of the endpoint ends all of them, and so does Ctrl-C, without leaving a thread
behind.
"""

from __future__ import annotations

import email.utils
import functools
import os
import ssl
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias
from urllib.parse import urlsplit

import httpx

from adapters.abort import Abort, all_at_once
from guards.errors import JudgeUnreachable, Permanent
from guards.judges.completion import Completion, Failed, read_answer
from guards.judges.patience import Tries
from guards.judges.usage import Usage

MAX_REPLY_BYTES = 2**20
"""1 MiB; a judgement is under a kilobyte, twenty log-probabilities are a few."""
CONNECT_SECONDS = 10.0
"""Longest wait for a connection, where the reply's own timeout is not shorter."""

Body: TypeAlias = dict[str, Any]


class Endpoint:
    """Where chat completions are asked for."""

    def __init__(
        self,
        base_url: str,
        *,
        api_key_env: str | None,
        timeout_seconds: float,
        attempts: int,
        patience_seconds: float,
        concurrency: int,
        usage: Usage | None = None,
        tell: Callable[[str], None] = lambda _: None,
        transport: httpx.BaseTransport | None = None,
        sleep: Callable[[float], None] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Remember where and how to ask; nothing is sent yet.

        Raises:
            Permanent: the URL is none, or the environment variable with the secret is not set.
        """
        self.base_url = base_url.rstrip("/")
        parts = urlsplit(self.base_url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise Permanent(f"judge: base_url {base_url!r} is no http address; give it up to and including /v1")
        self.shown = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"
        self.usage = Usage() if usage is None else usage
        self._api_key_env = api_key_env
        self._secret = _secret(api_key_env, self.shown)
        self._timeout = timeout_seconds
        self._attempts = attempts
        self._patience = patience_seconds
        self._concurrency = concurrency
        self._tell = tell
        self._transport = transport
        self._sleep = sleep
        self._clock = clock
        self._away = False
        self._turn = threading.Lock()
        # Certificates take a tenth of a second to load; plain http gets a context that trusts nobody.
        self._tls = httpx.create_ssl_context() if parts.scheme == "https" else ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        # A proxy from the environment is for the world outside; this machine is reached directly.
        self._use_proxies = parts.hostname not in ("localhost", "127.0.0.1", "::1")

    def ask_all(self, bodies: Sequence[Callable[[], Body]]) -> list[Completion]:
        """Put every request, at most ``concurrency`` at a time; completions come back in the requests' order.

        Args:
            bodies: each makes one request's body, when its turn comes: bodies with pictures are large.

        Raises:
            JudgeUnreachable: one request was given up, and the others with it.
            Permanent: the endpoint refuses what it is asked for.
            BudgetSpent: the review may ask no more; what was under way is lost.
        """
        with self._client() as client:
            work = [functools.partial(self._ask, client, body) for body in bodies]
            return all_at_once(work, self._concurrency, "judge")

    def _client(self) -> httpx.Client:
        headers = {"Authorization": f"Bearer {self._secret}"} if self._secret else {}
        return httpx.Client(
            headers=headers,
            timeout=httpx.Timeout(self._timeout, connect=min(self._timeout, CONNECT_SECONDS), pool=None),
            limits=httpx.Limits(max_connections=self._concurrency),
            verify=self._tls,
            trust_env=self._use_proxies,
            transport=self._transport,
            # A redirect would carry answers and pictures somewhere nobody configured.
            follow_redirects=False,
        )

    def _ask(self, client: httpx.Client, make_body: Callable[[], Body], abort: Abort) -> Completion:
        body = make_body()
        tries = Tries(self._attempts, self._patience, self._clock)
        while True:
            try:
                return self._ask_once(client, body, abort)
            except Failed as failure:
                self._note(failure)
                pause = tries.pause_after(failure)
                if pause is None:
                    raise self._unreachable(failure, tries.made) from failure
                abort.sleep(pause, self._sleep)

    def _unreachable(self, failure: Failed, made: int) -> JudgeUnreachable:
        tries = "1 attempt" if made == 1 else f"{made} attempts"
        waited = f" in {self._patience:g} s" if failure.away and self._patience else ""
        cause = self._hushed(str(failure))
        return JudgeUnreachable(f"judge {self.shown}: {cause} ({tries}{waited}); start it or correct base_url")

    def _note(self, failure: Failed | None) -> None:
        """Tell once that the judge is away, and once that it is back, however many requests wait for it."""
        away = failure is not None and failure.away
        # Told before another thread may note anything: the lines come in the order of what they say.
        with self._turn:
            changed, self._away = self._away != away, away
            if changed and self._patience and failure is not None and away:
                self._tell(
                    f"the judge {self.shown} is not reachable ({self._hushed(str(failure))}); "
                    f"waiting up to {self._patience:g} s for it"
                )
            elif changed and self._patience:
                self._tell(f"the judge {self.shown} is reachable again")

    def _ask_once(self, client: httpx.Client, body: Body, abort: Abort) -> Completion:
        abort.check()
        self.usage.begin(1)
        was_away = self._away
        try:
            status, headers, raw = self._exchange(client, body, abort)
            completion = read_answer(status, headers, raw, retry_after=_retry_after(headers))
        except (Failed, Permanent) as failure:
            self.usage.add(failures=1)
            if isinstance(failure, Permanent):
                hint = self._key_hint() if status in (401, 403) else ""
                raise Permanent(f"judge {self.shown}: {self._hushed(str(failure))}{hint}") from None
            raise
        # A reply to what was asked before the judge went away does not say that it is back.
        if was_away or not self._away:
            self._note(None)
        self.usage.add(prompt_tokens=completion.prompt_tokens, completion_tokens=completion.completion_tokens)
        return completion

    def _exchange(self, client: httpx.Client, body: Body, abort: Abort) -> tuple[int, httpx.Headers, bytes]:
        """One request and its whole reply, within the time and size allowed."""
        deadline = time.monotonic() + self._timeout
        url = f"{self.base_url}/chat/completions"
        try:
            with client.stream("POST", url, json=body, extensions={"trace": abort.watch}) as response:
                raw = bytearray()
                for piece in response.iter_bytes():
                    raw += piece
                    if len(raw) > MAX_REPLY_BYTES:
                        raise Failed(f"a reply of more than {MAX_REPLY_BYTES >> 20} MiB")
                    # The client's timeout is for one read; a server that drips could hold on for ever.
                    if time.monotonic() > deadline:
                        raise Failed(f"no whole reply within {self._timeout:g} s")
                return response.status_code, response.headers, bytes(raw)
        except httpx.TimeoutException as error:
            # A connection that does not come about is no server; a reply that does not is a slow one.
            away = isinstance(error, httpx.ConnectTimeout)
            raise Failed(f"no {'connection' if away else 'reply'} within {self._timeout:g} s", away=away) from error
        except httpx.InvalidURL as error:
            raise Permanent(f"base_url cannot be used: {error}") from error
        except httpx.HTTPError as error:
            abort.check()
            away = isinstance(error, httpx.NetworkError | httpx.RemoteProtocolError | httpx.ProxyError)
            raise Failed(" ".join(str(error).split()) or type(error).__name__, away=away) from error

    def _key_hint(self) -> str:
        if self._api_key_env is None:
            return "; name the environment variable that holds its key in api_key_env"
        return f"; check the key in the environment variable {self._api_key_env}"

    def _hushed(self, text: str) -> str:
        """A server's words without the secret, should it repeat it."""
        return text.replace(self._secret, "…") if self._secret else text


def _retry_after(headers: httpx.Headers) -> float | None:
    """Seconds that a Retry-After header asks for (RFC 9110, section 10.2.3: a number or a date), else None."""
    text = headers.get("retry-after", "").strip()
    if text.isascii() and text.isdigit():
        return float(text[:9])
    try:
        return max(0.0, email.utils.parsedate_to_datetime(text).timestamp() - time.time())
    except (ValueError, TypeError, OverflowError):
        return None


def _secret(variable: str | None, shown: str) -> str | None:
    if variable is None:
        return None
    secret = os.environ.get(variable, "").strip()
    if not secret:
        raise Permanent(f"judge {shown}: the environment variable {variable} is not set; export the judge's key there")
    if not (secret.isascii() and secret.isprintable()):
        raise Permanent(f"judge {shown}: the environment variable {variable} holds no usable key; set it again")
    return secret
