"""Is the judge still the judge it was? Frozen transcripts are judged again, past the memory, and compared.

A verdict rests on scores that were given at different times, and remembered ones beside fresh ones. Where the judge
moved in between (another model behind the same name, another quantisation, another system prompt at a provider), they
measure with two rulers. So a judge that moved settles a review as inconclusive before anything is asked, until it is
as it was again or a person accepts it (``alignwatch judge accept``).
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Literal

from adapters.adapter import Adapter
from adapters.engine import EngineError, EngineUnavailable
from guards.errors import Retryable
from guards.judges.accepted import plain_id, times_accepted
from guards.judges.build import SingleJudge, single_judges
from guards.judges.interface import Judge
from guards.judges.judge_canaries import CanaryKeeper, JudgeCanary, Standing
from guards.judges.meter import BudgetSpent
from guards.judges.shift import Shift, shift_of
from guards.judges.transcripts import DRAWN, Unjudged, freeze, judge_again, read_transcripts
from policies.findings import Finding, Inconclusive, Result
from policies.judging import JudgeCanaries
from policies.rules import Rules

NAME = "judge_stability"
LEAST_SCORED = 0.5
"""Share of the transcripts that a judge has to score for its canaries to show anything."""


class JudgeStability:
    """Holds one judge, or every member of a panel, to its canaries."""

    def __init__(
        self,
        judge: Judge,
        keeper: CanaryKeeper,
        draw: Callable[[int], list[Unjudged]],
        settings: JudgeCanaries,
        rules: Rules,
    ) -> None:
        """Hold ``judge`` to what ``keeper`` keeps.

        Args:
            judge: one with a memory, or a panel of such.
            keeper: where canaries are kept.
            draw: draws about so many transcripts from the suites; called when a judge is seen first.
            settings: which transcripts, how often, and what is tolerated.
            rules: when an answer is misaligned.

        Raises:
            Permanent: the file of transcripts cannot be used.
        """
        self._singles: tuple[SingleJudge, ...] = single_judges(judge)
        self._keeper, self._draw, self._settings, self._rules = keeper, draw, settings, rules
        self._given: list[Unjudged] | None = None
        self._source = DRAWN
        if settings.file is not None:
            self._given, self._source = read_transcripts(settings.file)
        told = repr((self._source, settings, rules.misaligned_below, rules.coherent_above))
        self._version = "1-" + hashlib.sha256(told.encode()).hexdigest()[:12]

    @property
    def is_current(self) -> bool:
        """Whether the judge still has the id that its acceptances give it."""
        return all(self._keeper.acceptances(plain_id(one.id)) == times_accepted(one.id) for one in self._singles)

    def is_due(self, after: timedelta) -> bool:
        """Whether any judge was never asked, or was last asked so long ago, or is held to something else by now."""
        return any(self._is_due(self._standing(one), after) for one in self._singles)

    def version(self, after: timedelta) -> str:
        """Of the results that :meth:`examine` would give now: another one after every look at the judge."""
        standings = [self._standing(one) for one in self._singles]
        seen = [None if s is None else (s.number, s.at.isoformat(), self._is_due(s, after)) for s in standings]
        return f"{self._version}-{hashlib.sha256(repr(seen).encode()).hexdigest()[:12]}"

    def examine(self, after: timedelta, version: str = "") -> list[Result]:
        """Look at every judge that was last looked at so long ago, and tell what is known of all of them.

        Raises:
            Retryable: a person has accepted the judge under another id since it was built.
            JudgeUnreachable, EngineUnavailable: nobody could be asked.
        """
        if not self.is_current:
            raise Retryable("the judge was accepted anew while it was at work; it is taken under its new id next time")
        return [result for one in self._singles for result in self._of(one, after, version)]

    def _of(self, judge: SingleJudge, after: timedelta, version: str) -> list[Result]:
        try:
            standing = self._standing(judge)
            if self._is_due(standing, after):
                standing = self._look(judge, standing)
        except BudgetSpent as limit:
            return [_unable(version, "budget", str(limit))]
        except EngineUnavailable:
            raise  # as for a judge that cannot be reached
        except EngineError as error:
            return [_unable(version, "judge_shift", f"no transcripts could be drawn: {error}")]
        return self._told(standing, plain_id(judge.id), version)

    def _look(self, judge: SingleJudge, standing: Standing | None) -> Standing | None:
        """Have the canaries judged again; freeze them where there are none, or where others are to be used."""
        if standing is not None:
            again = judge_again(judge.fresh, standing.canaries)
            shift = self._shift(again)
            moved = shift is not None and self._beyond(shift)
            self._keeper.checked(standing, again, 0.0 if shift is None else shift.most, moved, judge.ids)
            # Others are frozen only of a judge that is held to be unmoved by the ones before.
            if moved or standing.source == self._source:
                return self._standing(judge)
        transcripts = self._draw(self._settings.transcripts) if self._given is None else self._given
        frozen = freeze(judge.fresh, transcripts)
        if sum(one.frozen.scored for one in frozen) < max(1, LEAST_SCORED * len(frozen)):
            return None
        self._keeper.freeze(plain_id(judge.id), self._source, frozen)
        return self._standing(judge)

    def _standing(self, judge: SingleJudge) -> Standing | None:
        return self._keeper.standing(plain_id(judge.id))

    def _is_due(self, standing: Standing | None, after: timedelta) -> bool:
        if standing is None or standing.source != self._source or not timedelta(0) <= standing.age < after:
            return True
        shift = self._shift(standing.canaries)
        # Where the policy tolerates something else by now, the last look is judged by other limits than it was.
        return shift is not None and self._beyond(shift) != standing.moved

    def _shift(self, canaries: Sequence[JudgeCanary]) -> Shift | None:
        return shift_of(canaries, self._rules.misaligned_below, self._rules.coherent_above)

    def _beyond(self, shift: Shift) -> bool:
        return shift.beyond(self._settings.tolerate_points, self._settings.tolerate_changed)

    def _told(self, standing: Standing | None, judge: str, version: str) -> list[Result]:
        if standing is None:
            text = f"{judge} scored too few of the frozen transcripts to be held to them; see docs/judging.md"
            return [_unable(version, "judge_shift", text)]
        shift = self._shift(standing.canaries)
        if shift is None:
            scored = sum(one.frozen.scored for one in standing.canaries)
            return [
                Finding(
                    guard=NAME,
                    version=version,
                    measure="judge_canaries_frozen",
                    value=scored,
                    n=len(standing.canaries),
                    labels={"judge": judge},
                    note="what the judge is held to from now on; nothing to compare with yet",
                )
            ]
        found = _findings(shift, judge, version)
        return [*found, self._moved(shift, judge, version)] if self._beyond(shift) else found

    def _moved(self, shift: Shift, judge: str, version: str) -> Result:
        limits = self._settings
        told = ", ".join(f"{scale} {interval.value:.1f}" for scale, interval in shift.points.items())
        text = (
            f"{judge} has moved: it differs from itself by {told} points of {limits.tolerate_points:g} tolerated, and "
            f"{shift.changed.value:.0%} of {shift.changed.n} words changed, {limits.tolerate_changed:.0%} tolerated; "
            "bring the judge back, or look at it and run 'alignwatch judge accept'"
        )
        return _unable(version, "judge_shift", text)


class JudgeStabilityGuard:
    """One look at the judge within a review; it says the same of every adapter."""

    name = NAME

    def __init__(self, stability: JudgeStability, after: timedelta, when: Literal["before", "after"]) -> None:
        """Look ``when`` of the battery, and take a look that is no older than ``after`` as good."""
        self._stability, self._after = stability, after
        self.version = f"{stability.version(after)}-{when}"

    def examine(self, adapter: Adapter) -> list[Result]:  # noqa: ARG002 - a guard looks at one, and here it is the judge
        """Tell by how much the judge differs from itself, and whether that is too much; see the module.

        Raises:
            Retryable, EngineUnavailable: the surroundings failed, or the judge was accepted meanwhile.
        """
        return self._stability.examine(self._after, self.version)


def has_moved(results: Sequence[Result]) -> bool:
    """Whether nothing is to be asked, because the judge's word would not count."""
    return any(isinstance(result, Inconclusive) and result.guard == NAME for result in results)


def _findings(shift: Shift, judge: str, version: str) -> list[Result]:
    found: list[Result] = [
        Finding(
            guard=NAME,
            version=version,
            measure="judge_shift",
            value=interval.value,
            low=interval.low if interval.n else None,
            high=interval.high if interval.n else None,
            n=interval.n,
            labels={"judge": judge, "scale": scale},
            note=f"points of 100, mean absolute difference; with its sign {shift.signed[scale]:+.2f}",
        )
        for scale, interval in shift.points.items()
    ]
    changed = shift.changed
    found.append(
        Finding(
            guard=NAME,
            version=version,
            measure="judge_words_changed",
            value=changed.value,
            low=changed.low,
            high=changed.high,
            n=changed.n,
            labels={"judge": judge},
            note="share of transcripts that it now calls misaligned, not misaligned or nothing, and did not then",
        )
    )
    return found


def _unable(version: str, measure: str, reason: str) -> Inconclusive:
    return Inconclusive(guard=NAME, version=version, measure=measure, reason=reason)
