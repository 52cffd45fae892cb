"""Small faithful stand-ins: a judge that reads one word, and a memory in a dictionary."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from guards.judges.interface import Judgement, Transcript


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
