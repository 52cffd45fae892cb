"""An HTTP answer read as a chat completion, or as the reason why it is none."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from guards.errors import Permanent
from guards.judges.replies import Unscored

_TOO_LONG = re.compile(r"context_length_exceeded|context length|context window|max_model_len|too many tokens", re.I)
_FILTERED = re.compile(r"content_filter|content_policy|content management policy", re.I)
_RETRIED = {408, 409, 425, 429}
_AWAY = {502, 503, 504}
"""What stands before a server says while the server is away."""
_NEXT_STEP = {
    400: "; check model, and that the server supports this scoring",
    404: "; base_url must end in /v1, and the model must be one that it serves",
    413: "; send smaller pictures or set send_images: false",
    422: "; check model, and that the server supports this scoring",
}


class Failed(Exception):
    """One attempt gave no reply; another may. The message names the cause."""

    def __init__(self, cause: str, retry_after: float | None = None, *, away: bool = False) -> None:
        super().__init__(cause)
        self.retry_after = retry_after
        """Seconds after which the server wants to be asked again, where it says so."""
        self.away = away
        """Whether there was nobody to reply, rather than a reply that failed."""


@dataclass(frozen=True, slots=True)
class Completion:
    """What came back for one request."""

    content: object = None
    """The message's text, as the server sent it."""
    logprobs: object = None
    """``choices[0].logprobs``, as the server sent it."""
    cut_off: bool = False
    """Whether the reply ended for its length."""
    fault: Unscored | None = None
    """Why the request could not be answered, where that lies in its text: ``refused`` or ``too_long``."""
    prompt_tokens: int = 0
    """As the server counts them."""
    completion_tokens: int = 0
    """As the server counts them."""


def read_answer(status: int, headers: Mapping[str, str], raw: bytes, retry_after: float | None = None) -> Completion:
    """Make a completion of a status and a body.

    Raises:
        Failed: another attempt may succeed (429, 5xx, no chat completion inside).
        Permanent: another attempt cannot (redirects and the other 4xx); the message lacks the URL.
    """
    if status == 200:
        return _read_completion(raw)
    detail = _detail(raw)
    if status in _RETRIED or status >= 500:
        raise Failed(f"answered {status}{detail}", retry_after, away=status in _AWAY)
    if 300 <= status < 400:
        target = headers.get("location", "another address")[:200]
        raise Permanent(f"answered {status}, a redirect to {target!r}, which is not followed; give the final base_url")
    if status in (400, 413, 422):
        # These two are about this one text, not about the configuration: the other answers can still be judged.
        if _TOO_LONG.search(detail):
            return Completion(content=detail, fault=Unscored("too_long"))
        if _FILTERED.search(detail):
            return Completion(content=detail, fault=Unscored("refused"))
    raise Permanent(f"answered {status}{detail}{_NEXT_STEP.get(status, '')}")


def _read_completion(raw: bytes) -> Completion:
    try:
        body = json.loads(raw)
        choice = body["choices"][0]
        message = choice["message"]
        finish, refusal = choice.get("finish_reason"), message.get("refusal")
        content, logprobs = message.get("content"), choice.get("logprobs")
    except (ValueError, RecursionError, KeyError, IndexError, TypeError, AttributeError) as error:
        raise Failed(f"answered 200 without a chat completion{_detail(raw)}") from error
    refused = bool(refusal) or finish == "content_filter"
    return Completion(
        content=refusal if refused and not content else content,
        logprobs=logprobs,
        cut_off=finish == "length",
        fault=Unscored("refused") if refused else None,
        prompt_tokens=_tokens(body, "prompt_tokens"),
        completion_tokens=_tokens(body, "completion_tokens"),
    )


def _tokens(body: dict[str, Any], name: str) -> int:
    usage = body.get("usage")
    count = usage.get(name) if isinstance(usage, dict) else None
    return count if type(count) is int and 0 <= count < 2**40 else 0


def _detail(raw: bytes) -> str:
    """The server's own words, printable, on one line, after a colon; empty where it said nothing."""
    text = raw[:4_000].decode("utf-8", "replace")
    try:
        body = json.loads(raw)
        error = body.get("error", body)
        if isinstance(error, dict):
            text = " ".join(str(error[key]) for key in ("code", "message") if error.get(key)) or text
        else:
            text = str(error)
    except (ValueError, RecursionError, AttributeError):
        pass
    line = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    return f": {line[:200]}" if line else ""
