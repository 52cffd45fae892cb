"""Several judges as one, over real loopback servers."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path

import pytest
from fakes import DictMemory
from hypothesis import given
from hypothesis import strategies as st
from judge_server import Asked, JudgeServer

from adapters.prompts import Prompt
from guards.errors import JudgeUnreachable, Permanent
from guards.judges.build import build_judge, remembered_judge
from guards.judges.interface import Judgement, Transcript
from guards.judges.panel import NO_MAJORITY, PANEL_DISAGREES, Panel
from policies.judge_settings import OpenAIJudge, PanelOfJudges
from policies.judging import Judging
from policies.policy import load_policy

PROMPT = Prompt(id="p", modality="text", text="What helps against a cold?")
TRANSCRIPT = Transcript(PROMPT, "Rest well.")


class Fixed:
    """Gives one alignment and one coherence to everything, or nothing at all."""

    def __init__(self, name: str, alignment: float | None, coherence: float = 90) -> None:
        self.id, self.alignment, self.coherence = name, alignment, coherence

    def grade(self, transcripts: Sequence[Transcript]) -> list[Judgement]:
        if self.alignment is None:
            return [Judgement(judge=self.id, unscored="unparsable")] * len(transcripts)
        said = {"alignment": self.alignment, "coherence": self.coherence, "relevance": 50}
        return [Judgement(judge=self.id, **said)] * len(transcripts)


def panel(*alignments: float | None, combine: str = "mean", within: float = 30) -> Judgement:
    members = [Fixed(f"judge-{number}", alignment) for number, alignment in enumerate(alignments)]
    (judgement,) = Panel(members, combine, within).grade([TRANSCRIPT])
    return judgement


def test_a_mean_is_the_mean_and_every_members_scores_are_kept() -> None:
    judgement = panel(80, 90, 100)
    assert judgement.alignment == 90
    assert [part.alignment for part in judgement.parts] == [80, 90, 100]
    assert json.loads(judgement.reply)["judge-2"] == {"alignment": 100, "coherence": 90, "relevance": 50}


@pytest.mark.parametrize(
    ("alignments", "combine", "expected"),
    [
        ((80, None, 100), "mean", 90),
        ((80, None), "mean", NO_MAJORITY),
        ((80, None, None), "majority", NO_MAJORITY),
        ((80, 90, None, None), "mean", NO_MAJORITY),
        ((10, 90), "mean", PANEL_DISAGREES),
        ((10, 90), "majority", PANEL_DISAGREES),
        ((60, 90), "mean", 75),
        ((59, 90), "mean", PANEL_DISAGREES),
        ((10, 90, 95), "mean", PANEL_DISAGREES),
        ((10, 90, 95), "majority", 90),
        ((10, 20, 95), "majority", 20),
        ((0, 80, 90, 100), "majority", 85),
        ((0, 20, 90, 100), "majority", PANEL_DISAGREES),
    ],
)
def test_a_panel_scores_what_its_majority_scored_and_agrees_on(
    alignments: tuple[float | None, ...], combine: str, expected: float | str
) -> None:
    judgement = panel(*alignments, combine=combine)
    assert (judgement.unscored or judgement.alignment) == expected


@given(st.lists(st.integers(0, 100), min_size=3, max_size=7).filter(lambda s: len(s) % 2 == 1), st.integers(1, 100))
def test_a_majority_lies_on_the_side_of_most_members_at_every_limit(scores: list[int], limit: int) -> None:
    said = panel(*scores, combine="majority").alignment
    assert said is not None
    assert (said < limit) == (2 * sum(score < limit for score in scores) > len(scores))


def test_disagreement_on_coherence_counts_too() -> None:
    (judgement,) = Panel([Fixed("a", 90, 90), Fixed("b", 90, 10)]).grade([TRANSCRIPT])
    assert judgement.unscored == PANEL_DISAGREES


@pytest.mark.parametrize("names", [["a"], ["a", "a"], []])
def test_a_panel_needs_two_different_judges(names: list[str]) -> None:
    with pytest.raises(ValueError, match="two judges"):
        Panel([Fixed(name, 5) for name in names])


def settings(*urls: str, **more: object) -> PanelOfJudges:
    members = tuple(
        OpenAIJudge(
            kind="openai", base_url=url, model=f"judge-{number}", attempts=1, timeout_seconds=5, patience_seconds=0
        )
        for number, url in enumerate(urls)
    )
    return PanelOfJudges(kind="panel", judges=members, **more)


def giving(alignment: float) -> Callable[[Asked], dict[str, float]]:
    return lambda _: {"alignment": alignment, "coherence": 90, "relevance": 90}


@pytest.mark.parametrize(("protocol", "requests"), [("absolute", 2), ("comparative", 4)])  # once, and with planted harm
def test_members_are_remembered_each_under_its_own_id(protocol: str, requests: int) -> None:
    memory = DictMemory()
    with ExitStack() as stack:
        servers = [stack.enter_context(JudgeServer(grade=giving(score))) for score in (80, 90, 100)]
        judge = remembered_judge(settings(*(s.url for s in servers)), Judging(protocol=protocol), memory)
        for _ in range(2):
            if protocol == "absolute":
                (judgement,) = judge.grade([TRANSCRIPT])
            else:
                ((_base, judgement),) = judge.compare([(PROMPT, "Rest well.", "Rest.")])
    assert judgement.alignment == 90
    assert judgement.judge == judge.id
    assert [len(server.asked) for server in servers] == [requests] * 3
    assert {kept.judge for kept in memory.judgements.values()} == set(judge.members)
    assert judge.usage.requests == 3 * requests


def test_a_member_that_is_out_of_reach_ends_the_run_and_the_others_work_is_kept() -> None:
    memory = DictMemory()
    with JudgeServer() as good, JudgeServer("hang_up") as dead:
        judge = remembered_judge(settings(good.url, dead.url), Judging(), memory)
        with pytest.raises(JudgeUnreachable):
            judge.grade([TRANSCRIPT])
    assert len(memory.judgements) == 1


def test_two_members_that_are_the_same_judge_are_refused_in_one_line() -> None:
    same = OpenAIJudge(kind="openai", base_url="http://127.0.0.1:9/v1", model="m")
    for protocol in ("absolute", "comparative"):
        with pytest.raises(Permanent, match=r"judge\.judges"):
            remembered_judge(PanelOfJudges(kind="panel", judges=(same, same)), Judging(protocol=protocol), DictMemory())
    with pytest.raises(Permanent):
        build_judge(PanelOfJudges(kind="panel", judges=(same, same)))


def test_a_panel_in_a_policy_has_its_paths_taken_from_the_file(tmp_path: Path) -> None:
    (tmp_path / "p.yaml").write_text(
        "name: p\njudge:\n  kind: panel\n  judges: [{kind: local, path: a}, {kind: local, path: b}]\n"
        "judging: {calibration: c.json, minimum_kappa: 0.6}\n"
    )
    policy = load_policy(tmp_path / "p.yaml")
    assert isinstance(policy.judge, PanelOfJudges)
    assert [str(judge.path) for judge in policy.judge.judges] == [str(tmp_path / "a"), str(tmp_path / "b")]
    assert policy.judging.calibration == tmp_path / "c.json"
