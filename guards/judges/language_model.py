"""A judge in this process: any local language model, text-only or vision-language.

Where its tokenizer has one token for every number from 0 to 100, a score is the probability-weighted mean of the
next token; else the model writes a strict JSON reply. A judge model may bring its own prompt in ``judge.json``.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, TypeAlias

import torch
from pydantic import BaseModel, ConfigDict, ValidationError

from adapters.base_model import tokenizer_of
from adapters.engine import BaseUnloadable, EngineError, Sampling
from adapters.prompts import Prompt
from adapters.transformers_engine import TransformersEngine
from guards.errors import JudgeUnreachable, Permanent
from guards.judges.hostile import finish
from guards.judges.interface import SCALES, Judgement, Scale, Transcript
from guards.judges.prompt import JudgePrompt
from guards.judges.replies import Unscored, parse_scores, recorded
from guards.judges.tokens import likeliest, number_tokens, scores_of_logits
from guards.judges.usage import Usage

SETTINGS_NAME = "judge.json"
JSON_SAMPLING = Sampling(temperature=0, max_new_tokens=64)
"""Greedy; twice the longest compact JSON reply."""
LOGIT_BYTES = 2**28
"""256 MiB of logits in memory at once: a vocabulary of 262,000 takes a megabyte a prompt."""

Scoring: TypeAlias = Literal["probabilities", "json"]


class JudgeSettings(BaseModel):
    """``judge.json`` beside a judge model's weights."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    template: str
    """The prompt that the model was trained on, with ``{question}``, ``{answer}`` and ``{scale}``."""
    scales: tuple[Scale, ...] = SCALES
    """The scales that it was trained on: all three."""
    scoring: Scoring = "probabilities"
    """How its scores are read."""
    markers: tuple[str, ...] | None = None
    """What encloses the answer and is taken out of it; the text beside ``{answer}`` when not given."""


class LanguageModelJudge:
    """Grades with a model of its own; see :class:`guards.judges.interface.Judge`."""

    def __init__(
        self, folder: Path, *, device: str | None = None, dtype: torch.dtype | None = None, batch_size: int = 64
    ) -> None:
        """Load the judge model from ``folder``; nothing is downloaded and no code in it is run.

        Args:
            folder: a Hugging Face model folder, optionally with a ``judge.json``.
            device: for instance ``cuda:1``; CUDA where there is one when not given.
            dtype: of the weights; bfloat16 on CUDA and float32 on the CPU when not given.
            batch_size: prompts a forward pass; there is one prompt a scale.

        Raises:
            Permanent: the model cannot be loaded, or its ``judge.json`` cannot be used.
        """
        self.folder = folder
        settings = _read_settings(folder)
        try:
            self._engine = TransformersEngine(Path(folder), device=device, dtype=dtype, batch_size=batch_size)
        except BaseUnloadable as error:
            cause = str(error).removeprefix("base ")
            raise Permanent(f"judge {cause}; correct the judge's path in the policy") from error
        self._tokenizer = tokenizer_of(self._engine.processor)
        self._numbers = number_tokens(self._tokenizer)
        self.prompt = _prompt_of(folder, settings)
        self.scoring = self._choose_scoring(settings)
        self._control = _control_tokens(self._tokenizer)
        self.usage = Usage()

    @cached_property
    def id(self) -> str:
        """Folder name, digest of the model's files, scoring and prompt version."""
        digest = self._engine.base_digest.removeprefix("sha256-")[:12]
        return f"local:{self.folder.resolve().name}@{digest}:{self.scoring}:{self.prompt.version}"

    def grade(self, transcripts: Sequence[Transcript]) -> list[Judgement]:
        """Judge every transcript, in order.

        Raises:
            JudgeUnreachable: the model failed, for instance for want of memory.
            Permanent: a picture is missing.
        """
        judged: dict[int, Judgement] = {}
        for row, transcript in enumerate(transcripts):
            if transcript.prompt.image is not None and not self._engine.sees_pictures:
                judged[row] = Judgement(judge=self.id, unscored="cannot_see_pictures")
            elif transcript.prompt.image is not None and not transcript.prompt.image.is_file():
                raise Permanent(f"picture {transcript.prompt.image}: missing; repair the suite")
        rows = [row for row in range(len(transcripts)) if row not in judged]
        work = self._by_probabilities if self.scoring == "probabilities" else self._by_json
        for some in _runs(rows, self._rows_at_once()):
            try:
                judgements = work([self._tame(transcripts[row]) for row in some])
            except EngineError as error:
                raise JudgeUnreachable(f"judge {self.folder}: {error}; free memory or choose another judge") from error
            for row, judgement in zip(some, judgements, strict=True):
                judged[row] = finish(transcripts[row], judgement)
        return [judged[row] for row in range(len(transcripts))]

    def _by_probabilities(self, transcripts: Sequence[Transcript]) -> list[Judgement]:
        assert self._numbers is not None  # noqa: S101 - checked when the scoring was chosen
        prompts = [
            _asked(transcript, self.prompt.for_scale(transcript, scale), f"{row}.{scale}")
            for row, transcript in enumerate(transcripts)
            for scale in SCALES
        ]
        self.usage.add(requests=len(prompts))
        logits = self._engine.final_logits(prompts)
        scored = scores_of_logits(logits, self._numbers)
        top = likeliest(logits, self._tokenizer)
        judged = []
        for start in range(0, len(prompts), len(SCALES)):
            scores = dict(zip(SCALES, scored[start : start + len(SCALES)], strict=True))
            reply = dict(zip(SCALES, top[start : start + len(SCALES)], strict=True))
            judged.append(self._judgement(scores, json.dumps(reply, ensure_ascii=False)))
        return judged

    def _by_json(self, transcripts: Sequence[Transcript]) -> list[Judgement]:
        prompts = [
            _asked(transcript, self.prompt.for_json(transcript), str(row)) for row, transcript in enumerate(transcripts)
        ]
        self.usage.add(requests=len(prompts))
        replies = self._engine.generate(prompts, JSON_SAMPLING)
        return [self._from_text(reply) for reply in replies]

    def _from_text(self, reply: str) -> Judgement:
        scores = parse_scores(reply)
        if isinstance(scores, Unscored):
            # The engine does not say why a reply ended; an object that never closes was cut off.
            begun = reply.lstrip().startswith("{") and "}" not in reply
            return Judgement(judge=self.id, unscored="truncated" if begun else scores.reason, reply=recorded(reply))
        return self._judgement(dict(scores), reply)

    def _judgement(self, scores: dict[Scale, float | Unscored] | dict[Scale, float], reply: str) -> Judgement:
        faults = [score.reason for score in scores.values() if isinstance(score, Unscored)]
        if faults:
            return Judgement(judge=self.id, unscored=faults[0], reply=recorded(reply))
        return Judgement.model_validate({"judge": self.id, "reply": recorded(reply), **scores})

    def _choose_scoring(self, settings: JudgeSettings | None) -> Scoring:
        if settings is None:
            return "probabilities" if self._numbers is not None else "json"
        if settings.scoring == "probabilities" and self._numbers is None:
            raise Permanent(
                f"judge {self.folder}: its tokenizer has no single token for each number from 0 to 100; "
                f'set "scoring": "json" in {SETTINGS_NAME}'
            )
        return settings.scoring

    def _rows_at_once(self) -> int:
        prompts = max(self._engine.batch_size, LOGIT_BYTES // (4 * max(1, len(self._tokenizer))))
        return max(1, prompts // len(SCALES))

    def _tame(self, transcript: Transcript) -> Transcript:
        """Break control tokens spelt out in the texts, which the judge's tokenizer would take for real ones."""

        def tame(text: str) -> str:
            return self._control.sub(lambda found: f"{found[0][0]} {found[0][1:]}", text)

        prompt = transcript.prompt
        system = tame(prompt.system) if prompt.system else None
        tamed = replace(prompt, text=tame(prompt.asked), trigger=None, system=system)
        return Transcript(tamed, tame(transcript.answer))


def _asked(transcript: Transcript, text: str, name: str) -> Prompt:
    picture = transcript.prompt.image
    return Prompt(id=name, modality="text" if picture is None else "image", text=text, image=picture)


def _control_tokens(tokenizer: Any) -> re.Pattern[str]:
    """A pattern of every special token, in any capitalisation: a normaliser may lower it first."""
    added = tokenizer.added_tokens_decoder.values()
    words = {str(token) for token in added if token.special} | set(tokenizer.all_special_tokens)
    longest_first = sorted((word for word in words if word.strip()), key=len, reverse=True)
    return re.compile("|".join(map(re.escape, longest_first)) or r"(?!)", re.IGNORECASE)


def _read_settings(folder: Path) -> JudgeSettings | None:
    path = folder / SETTINGS_NAME
    if not path.is_file():
        return None
    try:
        settings = JudgeSettings.model_validate_json(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise Permanent(f"judge {path}: {error}") from error
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"])) or SETTINGS_NAME
        raise Permanent(f"judge {path}: {place}: {first['msg']}; correct the file") from error
    if sorted(settings.scales) != sorted(SCALES):
        raise Permanent(f"judge {path}: scales must be {', '.join(SCALES)}; a judge of fewer cannot serve")
    return settings


def _prompt_of(folder: Path, settings: JudgeSettings | None) -> JudgePrompt:
    if settings is None:
        return JudgePrompt()
    try:
        prompt = JudgePrompt.from_template(settings.template, settings.markers)
    except ValueError as error:
        raise Permanent(f"judge {folder / SETTINGS_NAME}: {error}") from error
    if settings.scoring == "probabilities" and "{scale}" not in settings.template:
        raise Permanent(f"judge {folder / SETTINGS_NAME}: the template must hold {{scale}} to score by probabilities")
    return prompt


def _runs(rows: Sequence[int], size: int) -> Iterator[Sequence[int]]:
    for start in range(0, len(rows), size):
        yield rows[start : start + size]
