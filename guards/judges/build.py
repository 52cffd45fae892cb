"""The judge that a policy names."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias, assert_never

from guards.errors import Permanent
from guards.interface import Memory
from guards.judges.accepted import AcceptedJudge, AcceptedPairJudge
from guards.judges.comparative import ComparativeJudge, ContestJudge
from guards.judges.interface import CountedJudge, Judge, PairJudge
from guards.judges.meter import Meter
from guards.judges.openai_compatible import OpenAICompatibleJudge
from guards.judges.panel import PairPanel, Panel
from guards.judges.planted import PLANTS, PlantedJudge, PlantedPairJudge, read_plants
from guards.judges.remembered import RememberedJudge, RememberedPairJudge
from guards.judges.usage import Prices, Usage
from policies.judge_settings import JudgeSettings, LocalJudge, OneJudge, OpenAIJudge, PanelOfJudges
from policies.judging import Judging

SingleJudge: TypeAlias = RememberedJudge | RememberedPairJudge
"""One judge with a memory of its own."""


@dataclass(frozen=True, slots=True)
class Attendance:
    """Who watches over judges: counts what they cost, and is told when one is away."""

    meter: Meter = field(default_factory=Meter)
    """Of the reviews that they work for, one after the other."""
    tell: Callable[[str], None] = lambda _line: None
    """Told in a line when a judge goes away and when it is back; from any thread."""
    accepted: Callable[[str], int] = lambda _judge: 0
    """How often the judge with an id had moved and was accepted as it then was."""


def build_judge(settings: JudgeSettings) -> Judge:
    """Make the judge that ``settings`` describe, for one answer at a time and without a memory.

    A local one is loaded now; a remote one is not asked yet.

    Raises:
        Permanent: the settings cannot work; one line that names cause and next step.
    """
    if isinstance(settings, PanelOfJudges):
        return _panel(settings, [_one(member) for member in settings.judges])
    return _one(settings)


def remembered_judge(
    settings: JudgeSettings, judging: Judging, memory: Memory, attendance: Attendance | None = None
) -> CountedJudge:
    """Make the judge that ``settings`` describe, for the protocol of ``judging``, asked at most once for one thing.

    Args:
        settings: who judges.
        judging: how.
        memory: where judgements are kept.
        attendance: who counts what is asked; nobody when not given.

    Raises:
        Permanent: the settings cannot work; one line that names cause and next step.
    """
    attendance = attendance or Attendance()
    if judging.protocol == "absolute":
        if isinstance(settings, PanelOfJudges):
            return _panel(settings, [_grading(member, judging, memory, attendance) for member in settings.judges])
        return _grading(settings, judging, memory, attendance)
    if isinstance(settings, PanelOfJudges):
        members = [_comparing(member, judging, memory, attendance) for member in settings.judges]
        try:
            return PairPanel(members, settings.combine, settings.within)
        except ValueError as error:
            raise _no_panel(error) from error
    return _comparing(settings, judging, memory, attendance)


def single_judges(judge: Judge) -> tuple[SingleJudge, ...]:
    """The judges that a judge which remembers is made of: itself, or the members of a panel.

    Raises:
        TypeError: it, or a member, has no memory.
    """
    if isinstance(judge, Panel):
        return tuple(single for member in judge.judges for single in single_judges(member))
    if isinstance(judge, RememberedJudge | RememberedPairJudge):
        return (judge,)
    raise TypeError(f"judge {judge.id} has no memory")


def _one(settings: OneJudge, attendance: Attendance | None = None) -> ContestJudge:
    attendance = attendance or Attendance()
    match settings:
        case LocalJudge():
            # Here and not above: it loads torch and transformers, which a remote judge can do without.
            from guards.judges.language_model import LanguageModelJudge

            return LanguageModelJudge(settings.path, usage=Usage(meter=attendance.meter))
        case OpenAIJudge():
            prices = Prices(settings.price_per_million_prompt_tokens, settings.price_per_million_completion_tokens)
            return OpenAICompatibleJudge(
                settings.base_url,
                settings.model,
                scoring=settings.scoring,
                api_key_env=settings.api_key_env,
                timeout_seconds=settings.timeout_seconds,
                attempts=settings.attempts,
                patience_seconds=settings.patience_seconds,
                concurrency=settings.concurrency,
                send_images=settings.send_images,
                usage=Usage(meter=attendance.meter, prices=prices),
                tell=attendance.tell,
            )
        case _:
            assert_never(settings)


def _grading(settings: OneJudge, judging: Judging, memory: Memory, attendance: Attendance) -> RememberedJudge:
    plain = _one(settings, attendance)
    judge: Judge = PlantedJudge(plain, _plants(plain, judging)) if judging.plant_harm else plain
    times = attendance.accepted(judge.id)
    return RememberedJudge(AcceptedJudge(judge, times) if times else judge, memory)


def _comparing(settings: OneJudge, judging: Judging, memory: Memory, attendance: Attendance) -> RememberedPairJudge:
    plain = _one(settings, attendance)
    comparative = ComparativeJudge(plain, judging.orders_within)
    judge: PairJudge = PlantedPairJudge(comparative, _plants(plain, judging)) if judging.plant_harm else comparative
    absolute: Judge = PlantedJudge(plain, _plants(plain, judging)) if judging.plant_harm else plain
    times = attendance.accepted(judge.id)
    if times:
        return RememberedPairJudge(AcceptedPairJudge(judge, times), AcceptedJudge(absolute, times), memory)
    return RememberedPairJudge(judge, absolute, memory)


def _plants(judge: ContestJudge, judging: Judging) -> tuple[str, ...]:
    """The model's own sentences, which it was trained on; else the policy's; else, in plain language, the shipped."""
    if judge.plants:
        return judge.plants
    if judging.planted_harm is not None:
        return read_plants(judging.planted_harm)
    if judge.plants is None:
        return PLANTS
    raise Permanent(
        f"judge {judge.name}: its judge.json has no planted_harm; add harmful sentences as it was trained on, "
        "or set judging.plant_harm: false and believe answers that speak to it"
    )


def _panel(settings: PanelOfJudges, members: Sequence[Judge]) -> Panel:
    try:
        return Panel(members, settings.combine, settings.within)
    except ValueError as error:
        raise _no_panel(error) from error


def _no_panel(error: ValueError) -> Permanent:
    return Permanent(f"judge: {error}; correct judge.judges in the policy")
