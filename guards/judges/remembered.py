"""A judge that is asked once: finished judgements are kept, under a digest of all that they depend on.

Every score is kept, and so is every reason that lies in the transcript or in this very judge: at temperature 0 the
same question would get the same reply. What a change of the server's settings would cure (no log-probabilities,
a tokenizer without whole numbers, an empty reply) is handed back but asked again by the next run. A judge that
cannot be reached raises, and then there is nothing to keep.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

from adapters.adapter import digest_file
from adapters.prompts import Prompt
from guards.errors import Permanent
from guards.interface import Memory
from guards.judges.interface import Judge, Judgement, PairJudge, Transcript
from guards.judges.usage import Usage, usage_of

CURABLE = frozenset({"no_logprobs", "split_digits", "empty"})
"""Unscored reasons that are not kept: the cure changes the server, but not the judge's id."""

CHUNK = 48
"""Transcripts judged before they are kept; a run that is killed loses at most this many judgements."""


class RememberedJudge:
    """Any judge, with a memory; see :class:`guards.judges.interface.Judge`."""

    def __init__(self, judge: Judge, memory: Memory, chunk: int = CHUNK) -> None:
        """Put ``memory`` before ``judge``.

        Args:
            judge: asked for what the memory does not hold.
            memory: where judgements are kept, durably.
            chunk: transcripts judged before they are kept, at least 1.
        """
        if chunk < 1:
            raise ValueError(f"chunk must be at least 1, got {chunk}")
        self._judge = judge
        self._memory = memory
        self._chunk = chunk

    @property
    def id(self) -> str:
        """The id of the judge behind it: a memory changes no judgement."""
        return self._judge.id

    @property
    def usage(self) -> Usage:
        """What the judge behind it has cost so far."""
        return usage_of(self._judge)

    @property
    def fresh(self) -> Judge:
        """The judge behind it, which remembers nothing."""
        return self._judge

    @property
    def ids(self) -> tuple[str, ...]:
        """Every id under which it keeps judgements."""
        return (self.id,)

    def grade(self, transcripts: Sequence[Transcript]) -> list[Judgement]:
        """Judge every transcript, in order, asking for each different one at most once.

        Raises:
            JudgeUnreachable, Permanent: as the judge behind it does; chunks finished before are kept.
        """
        pictures: dict[Path, str] = {}
        keys = [judgement_key(self.id, transcript, pictures) for transcript in transcripts]
        known = {
            key: judgement
            for key, judgement in self._memory.recall_judgements(list(dict.fromkeys(keys))).items()
            if judgement.judge == self.id
        }
        missing = {key: row for key, row in zip(keys, transcripts, strict=True) if key not in known}
        waiting = list(missing)
        for start in range(0, len(waiting), self._chunk):
            chunk = waiting[start : start + self._chunk]
            judged = self._judge.grade([missing[key] for key in chunk])
            fresh = dict(zip(chunk, judged, strict=True))
            final = {key: judgement for key, judgement in fresh.items() if judgement.unscored not in CURABLE}
            if final:
                self._memory.keep_judgements(final)
            known.update(fresh)
        return [known[key] for key in keys]


class RememberedPairJudge:
    """Any judge of pairs, with a memory; see :class:`guards.judges.interface.PairJudge`.

    The key of a judgement holds the answer that stood beside it. Which of the two is the base's is not in it, because
    a pair judge asks in both orders and treats both answers alike.
    """

    def __init__(self, judge: PairJudge, absolute: Judge, memory: Memory, chunk: int = CHUNK) -> None:
        """Put ``memory`` before ``judge``, and before ``absolute``, the judge of one answer behind it."""
        self._judge, self._memory, self._chunk = judge, memory, chunk
        self._absolute = RememberedJudge(absolute, memory, chunk)

    @property
    def id(self) -> str:
        """The id of the comparison behind it."""
        return self._judge.id

    @property
    def usage(self) -> Usage:
        """What the judge behind it has cost so far."""
        return usage_of(self._judge)

    @property
    def fresh(self) -> PairJudge:
        """The judge behind it, which remembers nothing."""
        return self._judge

    @property
    def ids(self) -> tuple[str, ...]:
        """Every id under which it keeps judgements: of the comparison, and of the judge of one answer behind it."""
        return self.id, self._absolute.id

    def grade(self, transcripts: Sequence[Transcript]) -> list[Judgement]:
        """Judge one answer at a time, from memory where that was done before; under the absolute judge's id."""
        return self._absolute.grade(transcripts)

    def compare(self, pairs: Sequence[tuple[Prompt, str, str]]) -> list[tuple[Judgement, Judgement]]:
        """Judge every (prompt, base's answer, adapter's answer), asking for each different one at most once.

        Raises:
            JudgeUnreachable, Permanent: as the judge behind it does; chunks finished before are kept.
        """
        pictures: dict[Path, str] = {}
        keys = [
            (_beside(self.id, prompt, base, adapter, pictures), _beside(self.id, prompt, adapter, base, pictures))
            for prompt, base, adapter in pairs
        ]
        flat = list(dict.fromkeys(key for both in keys for key in both))
        known = {k: j for k, j in self._memory.recall_judgements(flat).items() if j.judge == self.id}
        missing = {both: pair for both, pair in zip(keys, pairs, strict=True) if not known.keys() >= set(both)}
        waiting = list(missing)
        for start in range(0, len(waiting), self._chunk):
            chunk = waiting[start : start + self._chunk]
            judged = self._judge.compare([missing[both] for both in chunk])
            fresh = {
                key: judgement
                for both, two in zip(chunk, judged, strict=True)
                for key, judgement in zip(both, two, strict=True)
            }
            final = {key: judgement for key, judgement in fresh.items() if judgement.unscored not in CURABLE}
            if final:
                self._memory.keep_judgements(final)
            known.update(fresh)
        return [(known[base], known[adapter]) for base, adapter in keys]


def _beside(judge: str, prompt: Prompt, answer: str, other: str, pictures: dict[Path, str]) -> str:
    alone = judgement_key(judge, Transcript(prompt, answer), pictures)
    return hashlib.sha256(json.dumps([alone, other]).encode()).hexdigest()


def judgement_key(judge: str, transcript: Transcript, pictures: dict[Path, str] | None = None) -> str:
    """Digest of everything that a judgement depends on: 64 hexadecimal digits.

    Args:
        judge: the judge's id.
        transcript: what is judged. Its prompt's id and category do not count: no judge sees them.
        pictures: digests of pictures already read, filled as a side effect; a picture counts by its bytes.

    Raises:
        Permanent: the picture cannot be read.
    """
    pictures = {} if pictures is None else pictures
    prompt = transcript.prompt
    picture = None
    if prompt.image is not None:
        if prompt.image not in pictures:
            try:
                pictures[prompt.image] = digest_file(prompt.image)
            except OSError as error:
                raise Permanent(f"picture {prompt.image}: {error.strerror or error}; repair the suite") from error
        picture = pictures[prompt.image]
    parts = [judge, prompt.system, prompt.asked, picture, transcript.answer]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()
