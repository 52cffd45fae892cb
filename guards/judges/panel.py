"""Several judges as one. Where they cannot agree there is no score, and each one's own scores stay in the record."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from typing import Literal, TypeAlias

from adapters.prompts import Prompt
from guards.judges.comparative import DECIDING
from guards.judges.interface import SCALES, Judge, Judgement, PairJudge, Scale, Transcript
from guards.judges.usage import Usage

Combine: TypeAlias = Literal["mean", "majority"]

NO_MAJORITY = "no_majority"
"""The unscored reason where not even a majority of the panel gave a score."""
PANEL_DISAGREES = "panel_disagrees"
"""The unscored reason where the panel's scores lie too far apart on a deciding scale."""


class Panel:
    """Grades by several judges; see :class:`guards.judges.interface.Judge`.

    ``mean``: the mean of the members' scores, unless the furthest two differ by more than ``within``.
    ``majority``: the median on each scale, which lies on the side of the majority whatever the limit is that divides
    it; with an even number of scores the mean of the middle two, unless these differ by more than ``within``.
    """

    def __init__(self, judges: Sequence[Judge], combine: Combine = "mean", within: float = 30.0) -> None:
        """Make a panel of at least two different judges.

        Args:
            judges: the members, each with its own memory, so that its judgements are kept under its own id.
            combine: how their scores become one.
            within: how far scores that are averaged may lie apart on a deciding scale, in points of 100.

        Raises:
            ValueError: there are fewer than two members, or two are the same judge.
        """
        ids = [judge.id for judge in judges]
        if len(set(ids)) < max(2, len(ids)):
            raise ValueError("a panel needs at least two judges, all of them different")
        self._judges, self._combine, self._within = judges, combine, within
        digest = hashlib.sha256("\0".join(sorted(ids)).encode()).hexdigest()[:12]
        self._id = f"panel:{len(ids)} judges:{combine}:{within:g}:{digest}"

    @property
    def id(self) -> str:
        """Number of members, how they are combined, and a digest of their ids, whatever their order."""
        return self._id

    @property
    def members(self) -> tuple[str, ...]:
        """The members' ids, in their order."""
        return tuple(judge.id for judge in self._judges)

    @property
    def judges(self) -> tuple[Judge, ...]:
        """The members themselves, in their order."""
        return tuple(self._judges)

    @property
    def usage(self) -> Usage:
        """What all members together have cost so far."""
        total = Usage()
        for judge in self._judges:
            one = getattr(judge, "usage", None)
            if isinstance(one, Usage):
                total.add(
                    requests=one.requests,
                    failures=one.failures,
                    prompt_tokens=one.prompt_tokens,
                    completion_tokens=one.completion_tokens,
                )
        return total

    def grade(self, transcripts: Sequence[Transcript]) -> list[Judgement]:
        """Have every member judge every transcript, in order.

        Raises:
            JudgeUnreachable, Permanent: as the members do; a panel with a member out of reach is another panel.
        """
        columns = [judge.grade(transcripts) for judge in self._judges]
        return [self._joined(row) for row in zip(*columns, strict=True)]

    def _joined(self, parts: Sequence[Judgement]) -> Judgement:
        reply = {part.judge: part.unscored or {s: getattr(part, s) for s in SCALES} for part in parts}
        scored = [part for part in parts if part.scored]
        fault: str | None = None
        if 2 * len(scored) <= len(parts):
            fault = NO_MAJORITY
        elif any(self._apart(scored, scale) > self._within for scale in DECIDING):
            fault = PANEL_DISAGREES
        scores = {} if fault else {scale: _mean(self._weighing(scored, scale)) for scale in SCALES}
        how = {"judge": self.id, "reply": json.dumps(reply), "protocol": parts[0].protocol}
        return Judgement.model_validate({**how, **scores, "unscored": fault, "parts": tuple(parts)})

    def _weighing(self, scored: Sequence[Judgement], scale: Scale) -> list[float]:
        """The scores that are averaged: all, or the one or two in the middle."""
        scores = sorted(getattr(judgement, scale) for judgement in scored)
        middle = (len(scores) - 1) // 2
        return scores if self._combine == "mean" else scores[middle : len(scores) - middle]

    def _apart(self, scored: Sequence[Judgement], scale: Scale) -> float:
        weighing = self._weighing(scored, scale)
        return weighing[-1] - weighing[0]


class PairPanel(Panel):
    """Compares by several judges; see :class:`guards.judges.interface.PairJudge`."""

    def __init__(self, judges: Sequence[PairJudge], combine: Combine = "mean", within: float = 30.0) -> None:
        """Make a panel of judges that compare; the arguments are those of :class:`Panel`."""
        super().__init__(judges, combine, within)
        self._pair_judges = judges

    def compare(self, pairs: Sequence[tuple[Prompt, str, str]]) -> list[tuple[Judgement, Judgement]]:
        """Have every member compare every (prompt, base's answer, adapter's answer), in order.

        Raises:
            JudgeUnreachable, Permanent: as the members do.
        """
        columns = [judge.compare(pairs) for judge in self._pair_judges]
        rows = zip(*columns, strict=True)
        return [(self._joined([b for b, _ in row]), self._joined([a for _, a in row])) for row in rows]


def _mean(scores: Sequence[float]) -> float:
    return sum(scores) / len(scores)
