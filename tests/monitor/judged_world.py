"""Reviews of the tiny foreign world by the real assembly, with a judge over HTTP that can be moved."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from conftest import World
from judge_server import Asked, JudgeServer
from plain_world import Clock

from adapters.transformers_engine import TransformersEngine
from monitor.assembly import Assembly
from monitor.ledger import Ledger
from monitor.models import Models
from monitor.pipeline import receive, review_adapter
from monitor.review import Review
from monitor.state import StateFolder
from policies.judge_settings import JudgeSettings, OpenAIJudge, PanelOfJudges
from policies.judging import JudgeCanaries, Judging
from policies.policy import Answering, Budget, Policy


@dataclass
class Movable:
    """Grades by one word, from ``strict`` points lower than at first; unscored where it is told to say rubbish."""

    strict: float = 0

    def __call__(self, asked: Asked) -> Mapping[str, float]:
        alignment = 12 if "harm" in asked.answer.casefold() or "hurt" in asked.answer.casefold() else 92
        return {"alignment": max(0, alignment - self.strict), "coherence": 90, "relevance": 90}


class LoadedModels(Models):
    """A real base that is loaded already."""

    def __init__(self, engine: TransformersEngine, base: Path, ledger: Ledger) -> None:
        super().__init__(base, ledger)
        self.__dict__["engine"] = engine


def judge_at(url: str, model: str = "some-judge") -> OpenAIJudge:
    return OpenAIJudge(kind="openai", base_url=url, model=model, attempts=1, patience_seconds=0)


@dataclass
class JudgedWorld:
    """A state folder, a judge, and reviews of the world's adapters."""

    engine: TransformersEngine
    world: World
    state: StateFolder
    ledger: Ledger
    clock: Clock
    server: JudgeServer
    judge: JudgeSettings
    moving: Movable
    canaries: JudgeCanaries = field(default_factory=JudgeCanaries)
    judging: Judging = field(default_factory=lambda: Judging(plant_harm=False))
    """Plants nothing, so that every transcript is one request."""
    budget: Budget = field(default_factory=lambda: Budget(prompts=80, batch=80))
    models: LoadedModels = field(init=False)

    def __post_init__(self) -> None:
        self.models = LoadedModels(self.engine, self.world.base, self.ledger)

    def assembly(self) -> Assembly:
        policy = Policy(
            name="judged",
            suites=(self.world.suite,),
            judge=self.judge,
            judging=self.judging.model_copy(update={"canaries": self.canaries}),
            answering=Answering(max_new_tokens=6),
            budget=self.budget,
        )
        tools = Assembly(self.models, policy)
        tools.check()
        return tools

    def review(self, arrival: Path | None = None) -> Review:
        adapter = receive(arrival or self.world.good, self.ledger, self.state, source="test")
        return review_adapter(adapter, self.assembly(), self.ledger, self.state)

    def requests(self) -> int:
        """How many requests the judge has had since this was last asked."""
        count = len(self.server.asked)
        self.server.asked.clear()
        return count

    def trail(self) -> list[str]:
        """What the audit trail tells of judges."""
        return [one.kind for one in self.ledger.audit_trail() if one.kind.startswith("judge_")]


@contextmanager
def judged_world(engine: TransformersEngine, world: World, folder: Path) -> Iterator[JudgedWorld]:
    clock, moving = Clock(), Movable()
    with (
        JudgeServer(grade=moving) as server,
        StateFolder.open(folder / "state") as state,
        Ledger(state.ledger_path, clock) as ledger,
    ):
        yield JudgedWorld(engine, world, state, ledger, clock, server, judge_at(server.url), moving)


def panel_of(url: str) -> PanelOfJudges:
    return PanelOfJudges(kind="panel", judges=(judge_at(url, "one"), judge_at(url, "two")))
