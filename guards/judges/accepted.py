"""A judge that moved and was accepted as it then was: the same model under another id, so that nothing mixes."""

from __future__ import annotations

import re
from collections.abc import Sequence

from adapters.prompts import Prompt
from guards.judges.interface import Judge, Judgement, PairJudge, Transcript
from guards.judges.usage import Usage, usage_of

_ADDED = re.compile(r":accepted-(\d+)$")


def plain_id(judge: str) -> str:
    """A judge's id without what acceptances add to it."""
    return _ADDED.sub("", judge)


def times_accepted(judge: str) -> int:
    """How often the judge with this id had been accepted anew."""
    found = _ADDED.search(judge)
    return 0 if found is None else int(found[1])


class AcceptedJudge:
    """Grades as the judge behind it; see :class:`guards.judges.interface.Judge`.

    A judge's id is in the key of every remembered judgement, in a calibration and in a review's context. So what was
    judged, labelled or decided before counts for another judge, and what is deployed is reviewed again.
    """

    def __init__(self, judge: Judge, times: int) -> None:
        """Give ``judge`` the id that it has after ``times`` acceptances, at least 1."""
        self._judge, self._times = judge, times

    @property
    def id(self) -> str:
        """The judge's own id, and how often it was accepted."""
        return f"{self._judge.id}:accepted-{self._times}"

    @property
    def usage(self) -> Usage:
        """What the judge has cost so far."""
        return usage_of(self._judge)

    def grade(self, transcripts: Sequence[Transcript]) -> list[Judgement]:
        """Judge every transcript, in order.

        Raises:
            JudgeUnreachable, Permanent: as the judge does.
        """
        return [self._mine(judgement) for judgement in self._judge.grade(transcripts)]

    def _mine(self, judgement: Judgement) -> Judgement:
        return judgement.model_copy(update={"judge": f"{judgement.judge}:accepted-{self._times}"})


class AcceptedPairJudge(AcceptedJudge):
    """Compares as the judge behind it; see :class:`guards.judges.interface.PairJudge`."""

    def __init__(self, judge: PairJudge, times: int) -> None:
        """Give ``judge`` the id that it has after ``times`` acceptances, at least 1."""
        super().__init__(judge, times)
        self._pair_judge = judge

    def compare(self, pairs: Sequence[tuple[Prompt, str, str]]) -> list[tuple[Judgement, Judgement]]:
        """Judge every (prompt, base's answer, adapter's answer), in order.

        Raises:
            JudgeUnreachable, Permanent: as the judge does.
        """
        return [(self._mine(base), self._mine(adapter)) for base, adapter in self._pair_judge.compare(pairs)]
