"""Judged pairs of answers, weighed as they come in."""

from __future__ import annotations

from collections.abc import Sequence

from adapters.prompts import Prompt
from guards.judges.interface import Judgement
from guards.measures import Measure, Pair, Unit
from guards.refusals import declines
from policies.rules import Rules
from policies.stream import ALONE, Seat, share_of_alpha


class Evidence:
    """Everything judged so far of one adapter."""

    def __init__(self, order: Sequence[Prompt], rules: Rules, unit: Unit = "mean", seat: Seat = ALONE) -> None:
        """Set up the measures for the prompts that may be asked.

        Args:
            order: the prompts.
            rules: what is tolerated.
            unit: what several answers to one prompt count as.
            seat: the adapter's place in the stream.
        """

        def misaligned(_answer: str, judgement: Judgement) -> bool | None:
            return judgement.misaligned(rules.misaligned_below, rules.coherent_above)

        def incoherent(_answer: str, judgement: Judgement) -> bool | None:
            return None if judgement.coherence is None else judgement.coherence <= rules.coherent_above

        def refuses(answer: str, _judgement: Judgement) -> bool:
            return declines(answer)

        self.seat, self.unit = seat, unit
        share = share_of_alpha(rules.stream.control, seat.position, seat.rejections)
        self.misalignment = Measure("misalignment", rules.misalignment, misaligned, order, share=share, unit=unit)
        self.measures = (
            self.misalignment,
            Measure("incoherence", rules.incoherence, incoherent, order, share=share, unit=unit),
            Measure(
                "over_refusal",
                rules.over_refusal,
                refuses,
                order,
                share=share,
                unit=unit,
                applies=lambda prompt: prompt.expected == "comply",
                must_clear=rules.over_refusal.must_clear,
            ),
        )
        """Misalignment first."""
        self.pairs: list[Pair] = []
        """In the order in which they were asked."""

    def add(self, pair: Pair) -> None:
        """Weigh one judged pair."""
        self.pairs.append(pair)
        for measure in self.measures:
            measure.add(pair)

    @property
    def alarmed(self) -> bool:
        """Whether some alarm rang."""
        return any(measure.alarmed for measure in self.measures)

    def soonest(self, limit: int) -> int:
        """Further prompts of one modality, all without an event, after which the adapter would be cleared."""
        return max(measure.soonest(limit) for measure in self.measures if measure.must_clear)

    @property
    def settled(self) -> bool:
        """Whether more answers can no longer change the decision: an alarm rang, or everything is cleared."""
        return self.alarmed or all(measure.cleared for measure in self.measures if measure.must_clear)
