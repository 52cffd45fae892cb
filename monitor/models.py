"""The models that reviews work with: the base, and the judge."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import torch

from adapters.base_model import digest_base
from adapters.transformers_engine import TransformersEngine
from guards.judges.accepted import plain_id, times_accepted
from guards.judges.build import Attendance, remembered_judge, single_judges
from guards.judges.interface import CountedJudge
from guards.judges.meter import Meter
from guards.judges.planted import read_plants
from monitor.ledger import Ledger
from policies.judge_settings import JudgeSettings
from policies.judging import Judging


@dataclass
class Models:
    """What is loaded once, when first needed, and stays loaded: the base, and the judge last asked for."""

    base: Path | str
    """Folder or Hub id of the base."""
    memory: Ledger
    """Finished answers and judgements, and what was measured of earlier adapters."""
    device: str | None = None
    """For instance ``cuda:1``; chosen when None."""
    dtype: torch.dtype | None = None
    """Of the base's weights; chosen when None."""
    announce: Callable[[str], None] = field(default=lambda _text: None)
    """Told in a few words what is being loaded."""
    tell: Callable[[str], None] = field(default=lambda _line: None)
    """Told in a line when a judge goes away and when it is back; from any thread."""
    meter: Meter = field(default_factory=Meter)
    """Counts what the review that is worked on spends."""

    @cached_property
    def base_digest(self) -> str:
        """SHA-256 over the base's files."""
        return digest_base(self.base)

    @cached_property
    def engine(self) -> TransformersEngine:
        """The base, loaded."""
        self.announce("loading the base")
        return TransformersEngine(self.base, device=self.device, dtype=self.dtype)

    def judge(self, settings: JudgeSettings, judging: Judging) -> CountedJudge:
        """The judge with these settings, asked at most once about the same transcript or pair.

        Where it moved and was accepted since it was loaded, it is loaded anew, under its new id.
        """
        plants = read_plants(judging.planted_harm) if judging.planted_harm else ()
        wanted = settings, judging.protocol, judging.orders_within, judging.plant_harm, plants
        if self._judge is None or self._judge[0] != wanted or self.was_accepted(self._judge[1]):
            self.announce("loading the judge")
            attendance = Attendance(self.meter, self.tell, self.memory.judge_canaries.acceptances)
            self._judge = wanted, remembered_judge(settings, judging, self.memory, attendance)
        return self._judge[1]

    def was_accepted(self, judge: CountedJudge) -> bool:
        """Whether a person has accepted it, or a member of it, under another id since it was loaded."""
        accepted = self.memory.judge_canaries.acceptances
        return any(accepted(plain_id(one.id)) != times_accepted(one.id) for one in single_judges(judge))

    _judge: tuple[tuple[JudgeSettings, str, float, bool, tuple[str, ...]], CountedJudge] | None = field(
        default=None, init=False, repr=False
    )
