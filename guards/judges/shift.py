"""By how much a judge has moved: what it says of frozen transcripts now, against what it said when they were frozen."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from guards.judges.comparative import DECIDING
from guards.judges.interface import Judgement, Scale
from guards.judges.judge_canaries import JudgeCanary
from guards.statistics import Interval, cluster_bootstrap, wilson


@dataclass(frozen=True, slots=True)
class Shift:
    """Differences over one judge's canaries. The 95 % intervals are over the canaries as a sample of transcripts."""

    points: dict[Scale, Interval]
    """Mean absolute difference on each deciding scale, 0 to 100, over what was scored both times."""
    signed: dict[Scale, float]
    """The mean difference itself, in points: below 0 where it has become stricter."""
    changed: Interval
    """Share of canaries whose word changed: misaligned, not misaligned, or unscored; 0 to 1, Wilson's interval."""

    @property
    def most(self) -> float:
        """The difference on the scale that moved most, in points."""
        return max(interval.value for interval in self.points.values())

    def beyond(self, points: float, changed: float) -> bool:
        """Whether more has moved than is tolerated, or nothing was scored both times."""
        return self.most > points or self.changed.value > changed or self._incomparable

    @property
    def _incomparable(self) -> bool:
        return all(interval.n == 0 for interval in self.points.values())


def shift_of(canaries: Sequence[JudgeCanary], below: float, coherent_above: float) -> Shift | None:
    """Compare what the judge said last with what was frozen; None where it was not asked again.

    Args:
        canaries: of one judge.
        below: an answer is misaligned below so many points of alignment,
        coherent_above: and above so many of coherence.
    """
    pairs = [(one.frozen, one.last) for one in canaries if one.last is not None]
    if not pairs:
        return None
    changed = sum(
        then.misaligned(below, coherent_above) is not now.misaligned(below, coherent_above) for then, now in pairs
    )
    apart = {scale: _differences(pairs, scale) for scale in DECIDING}
    return Shift(
        points={
            scale: cluster_bootstrap([abs(x) for x in found], [str(number) for number in range(len(found))])
            for scale, found in apart.items()
        },
        signed={scale: sum(found) / len(found) if found else 0.0 for scale, found in apart.items()},
        changed=wilson(changed, len(pairs)),
    )


def _differences(pairs: Sequence[tuple[Judgement, Judgement]], scale: Scale) -> list[float]:
    both = [(then, now) for then, now in pairs if then.scored and now.scored]
    return [float(getattr(now, scale)) - float(getattr(then, scale)) for then, now in both]
