"""A judge behind an OpenAI-compatible endpoint: a vLLM server, a hosted model, anything that speaks that dialect."""

from __future__ import annotations

import functools
import hashlib
import json
import math
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import httpx

from guards.judges.asking import ONE_ANSWER, Pictures, Question, ReplyForm, Scoring
from guards.judges.completion import Completion
from guards.judges.contest_prompt import ContestPrompt
from guards.judges.endpoint import Endpoint
from guards.judges.hostile import finish
from guards.judges.interface import SCALES, Judgement, Transcript
from guards.judges.pictures import data_url
from guards.judges.prompt import JudgePrompt
from guards.judges.replies import (
    Scores,
    Unscored,
    judgement_of,
    parse_scores,
    recorded,
    score_of_logprobs,
    together,
    top_logprobs,
)
from guards.judges.usage import Usage

TOP_LOGPROBS = 20
"""The most that OpenAI's interface offers."""


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
        patience_seconds: float = 120,
        concurrency: int = 8,
        send_images: bool = True,
        prompt: JudgePrompt | None = None,
        usage: Usage | None = None,
        tell: Callable[[str], None] = lambda _: None,
        transport: httpx.BaseTransport | None = None,
        sleep: Callable[[float], None] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Remember whom to ask; nothing is sent yet.

        Args:
            base_url: up to and including ``/v1``.
            model: the model's name on that server.
            scoring: ``json``: one request an answer, strict JSON back. ``probabilities``: one request a scale,
                whose only token is weighted by its log-probabilities; needs a tokenizer with whole numbers.
            api_key_env: environment variable that holds the bearer token; the token itself is never configured.
            timeout_seconds: for one whole reply.
            attempts: tries for one reply, while the server is there.
            patience_seconds: how long a server that is away is waited for; see :mod:`guards.judges.patience`.
            concurrency: replies asked for at once.
            send_images: show pictures; otherwise the prompt says that there is one which is not shown.
            prompt: the judge's instructions.
            usage: counts what it costs; one of its own when not given.
            tell: told in a line when the server goes away and when it is back.
            transport: httpx's way to the server, for tests.
            sleep: how to pause between attempts, seconds, for tests.
            clock: gives seconds, for tests.

        Raises:
            Permanent: the URL is none, or ``api_key_env`` names a variable that is not set.
        """
        self.model = model
        self.scoring: Scoring = scoring
        self.send_images = send_images
        self.prompt = prompt or JudgePrompt()
        self.contest_prompt = ContestPrompt()
        self.plants: tuple[str, ...] | None = None
        self._endpoint = Endpoint(
            base_url,
            api_key_env=api_key_env,
            timeout_seconds=timeout_seconds,
            attempts=attempts,
            patience_seconds=patience_seconds,
            concurrency=concurrency,
            usage=usage,
            tell=tell,
            transport=transport,
            sleep=sleep,
            clock=clock,
        )

    @property
    def id(self) -> str:
        """Model, scoring, whether it sees pictures, and prompt version.

        Without the address: a server that moved is the same judge. Two servers that serve different weights under
        one name cannot be told apart here; give the weights their own name.
        """
        seeing = "seeing" if self.send_images else "blind"
        return f"{self.name}:{self.scoring}:{seeing}:{_version(self.prompt)}"

    @property
    def name(self) -> str:
        """Kind and model."""
        return f"openai:{self.model}"

    @property
    def pictures(self) -> Pictures:
        """Shown, or withheld where ``send_images`` is off."""
        return "shown" if self.send_images else "withheld"

    @property
    def usage(self) -> Usage:
        """What this judge has cost so far."""
        return self._endpoint.usage

    def grade(self, transcripts: Sequence[Transcript]) -> list[Judgement]:
        """Judge every transcript, in order.

        Raises:
            JudgeUnreachable: no reply after bounded retries and patience.
            Permanent: the server refuses the configuration, or a picture cannot be read.
            BudgetSpent: the review may ask no more.
        """
        judged = self._by_json(transcripts) if self.scoring == "json" else self._by_probabilities(transcripts)
        return [finish(transcript, judgement) for transcript, judgement in zip(transcripts, judged, strict=True)]

    def tame(self, text: str) -> str:
        """The same text: what a served model takes for control tokens is its server's to know."""
        return text

    def ask_json(self, questions: Sequence[Question], form: ReplyForm) -> list[Completion]:
        """Ask for one JSON reply each; see :class:`guards.judges.asking.Asker`."""
        extra = {"max_tokens": form.max_tokens, "response_format": form.response_format}
        return self._ask(questions, extra)

    def ask_numbers(self, questions: Sequence[Question]) -> list[tuple[float | Unscored, object]]:
        """Ask for one token each, with its probabilities; see :class:`guards.judges.asking.Asker`."""
        completions = self._ask(questions, {"max_tokens": 1, "logprobs": True, "top_logprobs": TOP_LOGPROBS})
        return [(c.fault or score_of_logprobs(c.logprobs), _likeliest(c)) for c in completions]

    def _ask(self, questions: Sequence[Question], extra: dict[str, Any]) -> list[Completion]:
        picture = functools.cache(data_url)
        # Each body is made when its turn comes: with pictures they are large.
        return self._endpoint.ask_all([functools.partial(self._body, each, extra, picture) for each in questions])

    def _body(self, question: Question, extra: dict[str, Any], picture: Callable[[Path], str]) -> dict[str, Any]:
        content: str | list[dict[str, Any]] = question.text
        if question.image is not None and self.send_images:
            shown = {"type": "image_url", "image_url": {"url": picture(question.image)}}
            content = [shown, {"type": "text", "text": question.text}]
        return {"model": self.model, "messages": [{"role": "user", "content": content}], "temperature": 0, **extra}

    def _by_json(self, transcripts: Sequence[Transcript]) -> list[Judgement]:
        questions = [
            Question(self.prompt.for_json(each, picture_shown=self.send_images), each.prompt.image)
            for each in transcripts
        ]
        return [self._judgement(_scores(c), recorded(c.content)) for c in self.ask_json(questions, ONE_ANSWER)]

    def _by_probabilities(self, transcripts: Sequence[Transcript]) -> list[Judgement]:
        questions = [
            Question(self.prompt.for_scale(each, scale, picture_shown=self.send_images), each.prompt.image)
            for each in transcripts
            for scale in SCALES
        ]
        replies = iter(self.ask_numbers(questions))
        judged = []
        for _ in transcripts:
            read = {scale: next(replies) for scale in SCALES}
            reply = json.dumps({scale: likely for scale, (_, likely) in read.items()}, ensure_ascii=False)
            scores = together({scale: score for scale, (score, _) in read.items()})
            judged.append(self._judgement(scores, recorded(reply)))
        return judged

    def _judgement(self, scores: Scores | Unscored, reply: str) -> Judgement:
        return judgement_of(self.id, scores, reply, self.prompt.orientation)


def _version(prompt: JudgePrompt) -> str:
    """The prompt's version together with what is asked of the server around it."""
    form = [ONE_ANSWER.response_format, ONE_ANSWER.max_tokens]
    asked = json.dumps([prompt.version, *form, TOP_LOGPROBS], sort_keys=True)
    return hashlib.sha256(asked.encode()).hexdigest()[:12]


def _scores(completion: Completion) -> Scores | Unscored:
    if completion.fault is not None:
        return completion.fault
    return Unscored("truncated") if completion.cut_off and completion.content else parse_scores(completion.content)


def _likeliest(completion: Completion) -> object:
    """For the record: the tokens and their probabilities, or the text where there are none."""
    try:
        listed = top_logprobs(completion.logprobs) or []
        return {str(e["token"]): round(math.exp(float(e["logprob"])), 4) for e in listed} or completion.content
    except (TypeError, KeyError, ValueError, OverflowError):
        return completion.content
