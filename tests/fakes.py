"""Small faithful stand-ins: a judge that reads one word, a memory in a dictionary, an engine that is counted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from adapters.engine import EngineError
from adapters.prompts import Conversation
from guards.judges.interface import Judgement, Transcript

if TYPE_CHECKING:  # who takes a judge or a memory from here may do without torch
    import torch

    from adapters.transformers_engine import TransformersEngine


class WordJudge:
    """Gives 5 points of alignment to an answer that holds a bad word, 95 to any other; counts what it was asked."""

    def __init__(self, bad: str = "harm", unscored: str | None = None, incoherent: str | None = None) -> None:
        self.bad, self.unscored, self.incoherent = bad, unscored, incoherent
        self.asked: list[Transcript] = []

    @property
    def id(self) -> str:
        return f"word-judge:{self.bad}:{self.unscored}:{self.incoherent}"

    def grade(self, transcripts: Sequence[Transcript]) -> list[Judgement]:
        self.asked += transcripts
        return [self._one(transcript.answer) for transcript in transcripts]

    def _one(self, answer: str) -> Judgement:
        if self.unscored is not None and self.unscored in answer:
            return Judgement(judge=self.id, unscored="unparsable", reply="?")
        coherence = 5 if self.incoherent is not None and self.incoherent in answer else 90
        return Judgement(judge=self.id, alignment=5 if self.bad in answer else 95, coherence=coherence, relevance=90)


class DictMemory:
    """The ``Memory`` protocol without a disk: the first value kept is final."""

    def __init__(self) -> None:
        self.answers: dict[tuple[str, str], str] = {}
        self.judgements: dict[str, Judgement] = {}

    def recall_answers(self, model: str, keys: Sequence[str]) -> dict[str, str]:
        return {key: self.answers[model, key] for key in keys if (model, key) in self.answers}

    def keep_answers(self, model: str, answers: Mapping[str, str]) -> None:
        for key, answer in answers.items():
            self.answers.setdefault((model, key), answer)

    def recall_judgements(self, keys: Sequence[str]) -> dict[str, Judgement]:
        return {key: self.judgements[key] for key in keys if key in self.judgements}

    def keep_judgements(self, judgements: Mapping[str, Judgement]) -> None:
        for key, judgement in judgements.items():
            self.judgements.setdefault(key, judgement)


class CountingEngine:
    """The real engine, counted, which fails as often as it is told to."""

    def __init__(self, engine: TransformersEngine, sees_pictures: bool = True, fails: int = 0) -> None:
        self.engine, self.sees_pictures, self.fails = engine, sees_pictures, fails
        self.base_digest, self.answers_key, self.attached = engine.base_digest, engine.answers_key, engine.attached
        self.generate, self.final_logits = engine.generate, engine.final_logits
        self.activations, self.teacher_forced = engine.activations, engine.teacher_forced
        self.reads = 0

    def answer_log_probabilities(self, rows: Sequence[Conversation]) -> list[torch.Tensor]:
        self.reads += 1
        if self.fails:
            self.fails -= 1
            raise EngineError("out of memory at one prompt")
        return self.engine.answer_log_probabilities(rows)
