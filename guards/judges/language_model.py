"""A judge in this process: any local language model, text-only or vision-language.

Where its tokenizer has one token for every number from 0 to 100, a score is the probability-weighted mean of the
next token; else the model writes a strict JSON reply. A judge model may bring its own prompt in ``judge.json``.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any, TypeVar

import torch

from adapters.base_model import tokenizer_of
from adapters.engine import BaseUnloadable, EngineError, Sampling
from adapters.prompts import Prompt
from adapters.transformers_engine import TransformersEngine
from guards.errors import JudgeUnreachable, Permanent
from guards.judges.asking import ONE_ANSWER, Pictures, Question, ReplyForm, Scoring
from guards.judges.completion import Completion
from guards.judges.hostile import finish
from guards.judges.interface import SCALES, Judgement, Transcript
from guards.judges.judge_json import SETTINGS_NAME, JudgeJson, prompts_of, read_judge_json
from guards.judges.replies import Unscored, judgement_of, parse_scores, recorded, together
from guards.judges.tokens import likeliest, number_tokens, scores_of_logits
from guards.judges.usage import Usage

LOGIT_BYTES = 2**28
"""256 MiB of logits in memory at once: a vocabulary of 262,000 takes a megabyte a prompt."""

_Replies = TypeVar("_Replies")


class LanguageModelJudge:
    """Grades with a model of its own; see :class:`guards.judges.interface.Judge`."""

    def __init__(
        self,
        folder: Path,
        *,
        device: str | None = None,
        dtype: torch.dtype | None = None,
        batch_size: int = 64,
        usage: Usage | None = None,
    ) -> None:
        """Load the judge model from ``folder``; nothing is downloaded and no code in it is run.

        Args:
            folder: a Hugging Face model folder, optionally with a ``judge.json``.
            device: for instance ``cuda:1``; CUDA where there is one when not given.
            dtype: of the weights; bfloat16 on CUDA and float32 on the CPU when not given.
            batch_size: prompts a forward pass; there is one prompt a scale.
            usage: counts what it costs; one of its own when not given.

        Raises:
            Permanent: the model cannot be loaded, or its ``judge.json`` cannot be used.
        """
        self.folder = folder
        settings = read_judge_json(folder)
        try:
            self._engine = TransformersEngine(Path(folder), device=device, dtype=dtype, batch_size=batch_size)
        except BaseUnloadable as error:
            cause = str(error).removeprefix("base ")
            raise Permanent(f"judge {cause}; correct the judge's path in the policy") from error
        self._tokenizer = tokenizer_of(self._engine.processor)
        self._numbers = number_tokens(self._tokenizer)
        self.prompt, self.contest_prompt = prompts_of(folder, settings)
        self.plants = None if settings is None else settings.planted_harm
        self.scoring: Scoring = self._choose_scoring(settings)
        self._control = _control_tokens(self._tokenizer)
        self.usage = Usage() if usage is None else usage

    @cached_property
    def id(self) -> str:
        """Folder name, digest of the model's files, scoring and prompt version."""
        return f"{self.name}:{self.scoring}:{self.prompt.version}"

    @cached_property
    def name(self) -> str:
        """Kind, folder name, and digest of the model's files."""
        digest = self._engine.base_digest.removeprefix("sha256-")[:12]
        return f"local:{self.folder.resolve().name}@{digest}"

    @property
    def pictures(self) -> Pictures:
        """Shown, or refused by a text-only model."""
        return "shown" if self._engine.sees_pictures else "refused"

    def grade(self, transcripts: Sequence[Transcript]) -> list[Judgement]:
        """Judge every transcript, in order.

        Raises:
            JudgeUnreachable: the model failed, for instance for want of memory.
            Permanent: a picture is missing.
            BudgetSpent: the review may ask no more.
        """
        blind = self.pictures == "refused"
        rows = [row for row, each in enumerate(transcripts) if not (blind and each.prompt.image is not None)]
        tamed = [self._tame(transcripts[row]) for row in rows]
        work = self._by_probabilities if self.scoring == "probabilities" else self._by_json
        judged = dict(zip(rows, work(tamed), strict=True))
        unseen = judgement_of(self.id, Unscored("cannot_see_pictures"), "", self.prompt.orientation)
        return [finish(each, judged.get(row, unseen)) for row, each in enumerate(transcripts)]

    def tame(self, text: str) -> str:
        """Break control tokens spelt out in a text, which the judge's tokenizer would take for real ones."""
        return self._control.sub(lambda found: f"{found[0][0]} {found[0][1:]}", text)

    def ask_json(self, questions: Sequence[Question], form: ReplyForm) -> list[Completion]:
        """Ask for one JSON reply each; see :class:`guards.judges.asking.Asker`."""
        sampling = Sampling(temperature=0, max_new_tokens=form.max_tokens)
        generate = partial(self._engine.generate, sampling=sampling)
        replies = [reply for some in self._runs(questions) for reply in self._replies(some, generate)]
        written = self._tokenizer(replies, add_special_tokens=False)["input_ids"] if replies else []
        self.usage.add(completion_tokens=sum(map(len, written)))
        # The engine does not say why a reply ended; an object that never closes was cut off.
        return [
            Completion(content=r, cut_off=r.lstrip().startswith("{") and r.count("{") > r.count("}")) for r in replies
        ]

    def ask_numbers(self, questions: Sequence[Question]) -> list[tuple[float | Unscored, object]]:
        """Read one number each from the next token; see :class:`guards.judges.asking.Asker`."""
        numbers = self._numbers
        assert numbers is not None  # noqa: S101 - checked when the scoring was chosen
        read: list[tuple[float | Unscored, object]] = []
        for some in self._runs(questions):
            logits = self._replies(some, self._engine.final_logits)
            read += zip(scores_of_logits(logits, numbers), likeliest(logits, self._tokenizer), strict=True)
        return read

    def _by_probabilities(self, transcripts: Sequence[Transcript]) -> list[Judgement]:
        questions = [
            Question(self.prompt.for_scale(each, scale), each.prompt.image) for each in transcripts for scale in SCALES
        ]
        replies = iter(self.ask_numbers(questions))
        judged = []
        for _ in transcripts:
            read = {scale: next(replies) for scale in SCALES}
            reply = json.dumps({scale: likely for scale, (_, likely) in read.items()}, ensure_ascii=False)
            scores = together({scale: score for scale, (score, _) in read.items()})
            judged.append(judgement_of(self.id, scores, recorded(reply), self.prompt.orientation))
        return judged

    def _by_json(self, transcripts: Sequence[Transcript]) -> list[Judgement]:
        questions = [Question(self.prompt.for_json(each), each.prompt.image) for each in transcripts]
        judged = []
        for completion in self.ask_json(questions, ONE_ANSWER):
            scores = Unscored("truncated") if completion.cut_off else parse_scores(completion.content)
            judged.append(judgement_of(self.id, scores, recorded(completion.content), self.prompt.orientation))
        return judged

    def _replies(self, questions: Sequence[Question], ask: Callable[[list[Prompt]], _Replies]) -> _Replies:
        """Put questions to the model, all at once."""
        for question in questions:
            if question.image is not None and not question.image.is_file():
                raise Permanent(f"picture {question.image}: missing; repair the suite")
        prompts = [
            Prompt(id=str(row), modality="text" if each.image is None else "image", text=each.text, image=each.image)
            for row, each in enumerate(questions)
        ]
        self.usage.begin(len(prompts))
        before = self._engine.tokens_read
        try:
            return ask(prompts)
        except EngineError as error:
            self.usage.add(failures=len(prompts))
            raise JudgeUnreachable(f"judge {self.folder}: {error}; free memory or choose another judge") from error
        finally:
            self.usage.add(prompt_tokens=self._engine.tokens_read - before)

    def _runs(self, questions: Sequence[Question]) -> Iterator[Sequence[Question]]:
        """As many questions at once as memory has room for."""
        size = max(self._engine.batch_size, LOGIT_BYTES // (4 * max(1, len(self._tokenizer))))
        for start in range(0, len(questions), size):
            yield questions[start : start + size]

    def _choose_scoring(self, settings: JudgeJson | None) -> Scoring:
        if settings is None:
            return "probabilities" if self._numbers is not None else "json"
        if settings.scoring == "probabilities" and self._numbers is None:
            raise Permanent(
                f"judge {self.folder}: its tokenizer has no single token for each number from 0 to 100; "
                f'set "scoring": "json" in {SETTINGS_NAME}'
            )
        return settings.scoring

    def _tame(self, transcript: Transcript) -> Transcript:
        prompt = transcript.prompt
        system = self.tame(prompt.system) if prompt.system else None
        tamed = replace(prompt, text=self.tame(prompt.asked), trigger=None, system=system)
        return Transcript(tamed, self.tame(transcript.answer))


def _control_tokens(tokenizer: Any) -> re.Pattern[str]:
    """A pattern of every special token, in any capitalisation: a normaliser may lower it first."""
    added = tokenizer.added_tokens_decoder.values()
    words = {str(token) for token in added if token.special} | set(tokenizer.all_special_tokens)
    longest_first = sorted((word for word in words if word.strip()), key=len, reverse=True)
    return re.compile("|".join(map(re.escape, longest_first)) or r"(?!)", re.IGNORECASE)
