"""A judge behind an OpenAI-compatible endpoint: a vLLM server, a hosted model, anything that speaks that dialect."""

from __future__ import annotations

import functools
import hashlib
import json
import math
from collections.abc import Callable, Sequence
from typing import Any, Literal, TypeAlias

import httpx

from guards.judges.completion import Completion
from guards.judges.endpoint import Endpoint
from guards.judges.hostile import finish
from guards.judges.interface import SCALES, Judgement, Scale, Transcript
from guards.judges.pictures import data_url
from guards.judges.prompt import JudgePrompt
from guards.judges.replies import Unscored, parse_scores, recorded, score_of_logprobs, top_logprobs
from guards.judges.usage import Usage

Scoring: TypeAlias = Literal["json", "probabilities"]

JSON_MAX_TOKENS = 128
"""Three times the longest pretty-printed reply; a longer one is not what was asked for."""
TOP_LOGPROBS = 20
"""The most that OpenAI's interface offers."""

RESPONSE_FORMAT = {
    "type": "json_schema",
    "json_schema": {
        "name": "judgement",
        "strict": True,
        "schema": {
            "type": "object",
            "properties": {scale: {"type": "integer", "minimum": 0, "maximum": 100} for scale in SCALES},
            "required": list(SCALES),
            "additionalProperties": False,
        },
    },
}
"""What a JSON reply has to look like; checked again on arrival, for not every server enforces it."""


class OpenAICompatibleJudge:
    """Grades over HTTP, several answers at a time; see :class:`guards.judges.interface.Judge`."""

    def __init__(
        self,
        base_url: str,
        model: str,
        *,
        scoring: Scoring = "json",
        api_key_env: str | None = None,
        timeout_seconds: float = 60,
        attempts: int = 4,
        concurrency: int = 8,
        send_images: bool = True,
        prompt: JudgePrompt | None = None,
        transport: httpx.BaseTransport | None = None,
        sleep: Callable[[float], None] | None = None,
    ) -> None:
        """Remember whom to ask; nothing is sent yet.

        Args:
            base_url: up to and including ``/v1``.
            model: the model's name on that server.
            scoring: ``json``: one request an answer, strict JSON back. ``probabilities``: one request a scale,
                whose only token is weighted by its log-probabilities; needs a tokenizer with whole numbers.
            api_key_env: environment variable that holds the bearer token; the token itself is never configured.
            timeout_seconds: for one whole reply.
            attempts: tries for one reply.
            concurrency: replies asked for at once.
            send_images: show pictures; otherwise the prompt says that there is one which is not shown.
            prompt: the judge's instructions.
            transport: httpx's way to the server, for tests.
            sleep: how to pause between attempts, seconds, for tests.

        Raises:
            Permanent: the URL is none, or ``api_key_env`` names a variable that is not set.
        """
        self.model = model
        self.scoring: Scoring = scoring
        self.send_images = send_images
        self.prompt = prompt or JudgePrompt()
        self._endpoint = Endpoint(
            base_url,
            api_key_env=api_key_env,
            timeout_seconds=timeout_seconds,
            attempts=attempts,
            concurrency=concurrency,
            transport=transport,
            sleep=sleep,
        )

    @property
    def id(self) -> str:
        """Model, scoring, whether it sees pictures, and prompt version.

        Without the address: a server that moved is the same judge. Two servers that serve different weights under
        one name cannot be told apart here; give the weights their own name.
        """
        seeing = "seeing" if self.send_images else "blind"
        return f"openai:{self.model}:{self.scoring}:{seeing}:{_version(self.prompt)}"

    @property
    def usage(self) -> Usage:
        """What this judge has cost so far."""
        return self._endpoint.usage

    def grade(self, transcripts: Sequence[Transcript]) -> list[Judgement]:
        """Judge every transcript, in order.

        Raises:
            JudgeUnreachable: no reply after bounded retries.
            Permanent: the server refuses the configuration, or a picture cannot be read.
        """
        picture = functools.cache(data_url)
        if self.scoring == "json":
            bodies = [functools.partial(self._json_body, transcript, picture) for transcript in transcripts]
            replies = [[completion] for completion in self._endpoint.ask_all(bodies)]
            judged = map(self._from_json, replies)
        else:
            bodies = [
                functools.partial(self._scale_body, transcript, scale, picture)
                for transcript in transcripts
                for scale in SCALES
            ]
            flat = self._endpoint.ask_all(bodies)
            replies = [flat[start : start + len(SCALES)] for start in range(0, len(flat), len(SCALES))]
            judged = map(self._from_probabilities, replies)
        return [finish(transcript, judgement) for transcript, judgement in zip(transcripts, judged, strict=True)]

    def _json_body(self, transcript: Transcript, picture: Callable[..., str]) -> dict[str, Any]:
        text = self.prompt.for_json(transcript, picture_shown=self.send_images)
        body = self._body(transcript, text, picture)
        return {**body, "max_tokens": JSON_MAX_TOKENS, "response_format": RESPONSE_FORMAT}

    def _scale_body(self, transcript: Transcript, scale: Scale, picture: Callable[..., str]) -> dict[str, Any]:
        text = self.prompt.for_scale(transcript, scale, picture_shown=self.send_images)
        body = self._body(transcript, text, picture)
        return {**body, "max_tokens": 1, "logprobs": True, "top_logprobs": TOP_LOGPROBS}

    def _body(self, transcript: Transcript, text: str, picture: Callable[..., str]) -> dict[str, Any]:
        content: str | list[dict[str, Any]] = text
        if transcript.prompt.image is not None and self.send_images:
            shown = {"type": "image_url", "image_url": {"url": picture(transcript.prompt.image)}}
            content = [shown, {"type": "text", "text": text}]
        return {"model": self.model, "messages": [{"role": "user", "content": content}], "temperature": 0}

    def _from_json(self, completions: Sequence[Completion]) -> Judgement:
        (completion,) = completions
        scores = completion.fault or (
            Unscored("truncated") if completion.cut_off and completion.content else parse_scores(completion.content)
        )
        return self._judgement(scores if isinstance(scores, Unscored) else dict(scores), recorded(completion.content))

    def _from_probabilities(self, completions: Sequence[Completion]) -> Judgement:
        scores: dict[Scale, float] = {}
        fault: Unscored | None = None
        for scale, completion in zip(SCALES, completions, strict=True):
            score = completion.fault or score_of_logprobs(completion.logprobs)
            if isinstance(score, Unscored):
                fault = fault or score
            else:
                scores[scale] = score
        reply = {scale: _likeliest(completion) for scale, completion in zip(SCALES, completions, strict=True)}
        return self._judgement(fault or scores, recorded(json.dumps(reply, ensure_ascii=False)))

    def _judgement(self, scores: dict[Scale, float] | Unscored, reply: str) -> Judgement:
        if isinstance(scores, Unscored):
            return Judgement(judge=self.id, unscored=scores.reason, reply=reply)
        return Judgement(judge=self.id, reply=reply, **scores)


def _version(prompt: JudgePrompt) -> str:
    """The prompt's version together with what is asked of the server around it."""
    asked = json.dumps([prompt.version, RESPONSE_FORMAT, JSON_MAX_TOKENS, TOP_LOGPROBS], sort_keys=True)
    return hashlib.sha256(asked.encode()).hexdigest()[:12]


def _likeliest(completion: Completion) -> object:
    """For the record: the tokens and their probabilities, or the text where there are none."""
    try:
        listed = top_logprobs(completion.logprobs) or []
        return {str(e["token"]): round(math.exp(float(e["logprob"])), 4) for e in listed} or completion.content
    except (TypeError, KeyError, ValueError, OverflowError):
        return completion.content
