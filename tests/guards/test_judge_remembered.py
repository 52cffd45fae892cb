"""A judge that is asked once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from adapters.prompts import Prompt
from guards.errors import JudgeUnreachable, Permanent
from guards.judges.interface import Judgement, Transcript
from guards.judges.remembered import RememberedJudge, judgement_key
from guards.judges.usage import Usage


class Notebook:
    """A memory in a dictionary; the half of ``guards.interface.Memory`` that judges use is real."""

    def __init__(self) -> None:
        self.judgements: dict[str, Judgement] = {}

    def recall_answers(self, model: str, keys: Sequence[str]) -> dict[str, str]:
        raise NotImplementedError

    def keep_answers(self, model: str, answers: Mapping[str, str]) -> None:
        raise NotImplementedError

    def recall_judgements(self, keys: Sequence[str]) -> dict[str, Judgement]:
        return {key: self.judgements[key] for key in keys if key in self.judgements}

    def keep_judgements(self, judgements: Mapping[str, Judgement]) -> None:
        self.judgements.update(judgements)


class CountingJudge:
    """Scores by length, remembers each call, and falls over after so many calls."""

    def __init__(self, name: str = "counting", unscored: str | None = None, calls: int = 1000) -> None:
        self.id = name
        self.usage = Usage()
        self.calls: list[list[str]] = []
        self._unscored, self._left = unscored, calls

    def grade(self, transcripts: Sequence[Transcript]) -> list[Judgement]:
        if len(self.calls) == self._left:
            raise JudgeUnreachable("gone")
        self.calls.append([transcript.answer for transcript in transcripts])
        self.usage.add(requests=len(transcripts))
        if self._unscored:
            return [Judgement(judge=self.id, unscored=self._unscored) for _ in transcripts]
        return [Judgement(judge=self.id, alignment=len(t.answer), coherence=9, relevance=9) for t in transcripts]


def asked(answer: str, **prompt: object) -> Transcript:
    return Transcript(Prompt(**{"id": "p", "modality": "text", "text": "How?", **prompt}), answer)


def test_a_finished_judgement_is_never_asked_for_again() -> None:
    memory, first, second = Notebook(), CountingJudge(), CountingJudge()
    before = RememberedJudge(first, memory).grade([asked("a"), asked("bb")])
    after = RememberedJudge(second, memory).grade([asked("bb"), asked("ccc"), asked("a")])
    assert [judgement.alignment for judgement in after] == [2, 3, 1]
    assert after[2] == before[0]
    assert second.calls == [["ccc"]]


def test_the_same_transcript_twice_in_one_call_is_asked_once() -> None:
    judge = CountingJudge()
    graded = RememberedJudge(judge, Notebook()).grade([asked("a"), asked("bb"), asked("a")])
    assert judge.calls == [["a", "bb"]]
    assert [judgement.alignment for judgement in graded] == [1, 2, 1]


def test_a_run_that_dies_loses_no_more_than_the_chunk_it_was_at() -> None:
    memory = Notebook()
    transcripts = [asked("x" * n) for n in range(1, 8)]
    with pytest.raises(JudgeUnreachable):
        RememberedJudge(CountingJudge(calls=2), memory, chunk=3).grade(transcripts)
    assert len(memory.judgements) == 6
    again = CountingJudge()
    graded = RememberedJudge(again, memory, chunk=3).grade(transcripts)
    assert again.calls == [["x" * 7]]
    assert [judgement.alignment for judgement in graded] == list(range(1, 8))


@pytest.mark.parametrize("reason", ["echoed", "unparsable", "truncated", "low_mass", "cannot_see_pictures"])
def test_a_reason_that_would_come_again_is_kept(reason: str) -> None:
    memory = Notebook()
    RememberedJudge(CountingJudge(unscored=reason), memory).grade([asked("a")])
    assert [judgement.unscored for judgement in memory.judgements.values()] == [reason]


@pytest.mark.parametrize("reason", ["no_logprobs", "split_digits", "empty"])
def test_a_reason_that_another_server_setting_cures_is_handed_back_but_not_kept(reason: str) -> None:
    memory = Notebook()
    (judgement,) = RememberedJudge(CountingJudge(unscored=reason), memory).grade([asked("a")])
    assert judgement.unscored == reason
    assert memory.judgements == {}


def test_the_judgement_of_another_judge_is_not_taken_even_if_the_memory_offers_it() -> None:
    memory, judge = Notebook(), CountingJudge()
    key = judgement_key(judge.id, asked("a"))
    memory.judgements[key] = Judgement(judge="another", alignment=99, coherence=99, relevance=99)
    assert RememberedJudge(judge, memory).grade([asked("a")])[0].alignment == 1


def test_a_key_depends_on_all_that_a_judge_sees_and_on_nothing_else(tmp_path: Path) -> None:
    red, blue, copy = (tmp_path / name for name in ("red", "blue", "copy"))
    red.write_bytes(b"red")
    blue.write_bytes(b"blue")
    copy.write_bytes(b"red")
    shown = asked("a", modality="image", image=red)
    different = [
        judgement_key("j", asked("a")),
        judgement_key("k", asked("a")),
        judgement_key("j", asked("b")),
        judgement_key("j", asked("a", text="Why?")),
        judgement_key("j", asked("a", system="Be kind.")),
        judgement_key("j", asked("a", trigger="now")),
        judgement_key("j", shown),
        judgement_key("j", asked("a", modality="image", image=blue)),
    ]
    assert len(set(different)) == len(different)
    moved = Transcript(replace(shown.prompt, id="q", category="other", image=copy), "a")
    assert judgement_key("j", moved) == judgement_key("j", shown)


def test_a_picture_that_is_gone_is_an_error_and_not_another_key(tmp_path: Path) -> None:
    with pytest.raises(Permanent, match=r"gone\.png"):
        RememberedJudge(CountingJudge(), Notebook()).grade([asked("a", modality="image", image=tmp_path / "gone.png")])


def test_a_memory_changes_neither_id_nor_counters() -> None:
    judge = CountingJudge()
    remembered = RememberedJudge(judge, Notebook())
    remembered.grade([asked("a"), asked("a")])
    assert remembered.id == judge.id
    assert remembered.usage.requests == 1


def test_a_chunk_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="chunk"):
        RememberedJudge(CountingJudge(), Notebook(), chunk=0)
