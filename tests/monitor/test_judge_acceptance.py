"""Properties of the judge in the running service, and of a person's word that one which moved is another judge now."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import World
from judged_world import JudgedWorld, judged_world, panel_of
from service import write_configuration

from adapters.transformers_engine import TransformersEngine
from guards.judges.accepted import plain_id
from monitor.cli import main
from monitor.configuration import load_configuration
from monitor.daemon import Daemon, Signals
from policies.findings import Inconclusive
from policies.judging import JudgeCanaries, Judging


@pytest.fixture
def world(picture_engine: TransformersEngine, picture_world: World, tmp_path: Path) -> Iterator[JudgedWorld]:
    with judged_world(picture_engine, picture_world, tmp_path) as made:
        yield made


class Commands:
    """``alignwatch judge …``, as a script sees it."""

    def __init__(self, state: Path, capture: pytest.CaptureFixture[str]) -> None:
        self.state, self.capture = state, capture

    def __call__(self, *arguments: str) -> tuple[int, str, str]:
        handler = signal.getsignal(signal.SIGTERM)
        self.capture.readouterr()
        try:
            with pytest.raises(SystemExit) as ended:
                main(["judge", *arguments, "--state", str(self.state)])
        finally:
            signal.signal(signal.SIGTERM, handler)
        printed = self.capture.readouterr()
        return int(ended.value.code or 0), printed.out, printed.err

    def shown(self) -> list[dict[str, object]]:
        code, out, _ = self("show", "--json")
        assert code == 0
        return list(json.loads(out))


@pytest.fixture
def judge(world: JudgedWorld, capsys: pytest.CaptureFixture[str]) -> Commands:
    return Commands(world.state.path, capsys)


def let_it_move(world: JudgedWorld, points: float = 10) -> str:
    """Review, let the judge become stricter, and review again; return the judge's id."""
    world.review()
    world.clock.pass_time(hours=2)
    world.moving.strict = points
    assert world.review().arrival.decision.verdict == "inconclusive"
    return world.assembly().judge.id


def write_labels(path: Path) -> Path:
    """Twenty answers, of which people call every second one harmful."""
    row = {"modality": "text", "text": "How?"}
    rows = [row | {"id": str(n), "answer": ("harm", "fine")[n % 2], "misaligned": n % 2 == 0} for n in range(20)]
    path.write_text("".join(json.dumps(each) + "\n" for each in rows))
    return path


# What people see and say


def test_every_judge_is_shown_with_how_it_stands(world: JudgedWorld, judge: Commands) -> None:
    assert judge.shown() == []
    assert "no judge" in judge("show")[1]
    world.review()
    (frozen,) = judge.shown()
    assert (frozen["standing"], frozen["shift"], frozen["transcripts"], frozen["accepted"]) == ("frozen", None, 16, 0)
    world.clock.pass_time(hours=2)
    world.review()
    (unmoved,) = judge.shown()
    assert (unmoved["standing"], unmoved["shift"]) == ("unmoved", 0)
    world.clock.pass_time(hours=2)
    world.moving.strict = 10
    world.review()
    (moved,) = judge.shown()
    assert (moved["standing"], moved["shift"]) == ("moved", pytest.approx(10))
    assert moved["judge"] == world.assembly().judge.id
    assert str(moved["at"]).startswith(f"{world.clock.now:%Y-%m-%d %H:%M}")
    printed = judge("show")[1]
    assert "moved" in printed
    assert "10.00" in printed


def test_an_accepted_judge_is_another_one_that_is_held_to_what_it_said_last(
    world: JudgedWorld, judge: Commands
) -> None:
    name = let_it_move(world)
    code, out, _ = judge("accept", name, "--reason", "  the provider   changed its model ")
    assert (code, f"{name}:accepted-1" in out, "10.0 points" in out) == (0, True, True)
    told = next(one for one in world.ledger.audit_trail() if one.kind == "judge_accepted")
    assert told.payload["reason"] == "the provider changed its model"
    assert told.payload["who"]
    assert told.payload["judge"] == name
    assert told.payload["points"] == pytest.approx(10)
    world.clock.pass_time(hours=2)
    again = world.review()
    assert again.context.judge == f"{name}:accepted-1"
    assert again.arrival.decision.promotes
    assert [(one["standing"], one["shift"], one["accepted"]) for one in judge.shown()] == [("unmoved", 0, 1)]
    world.clock.pass_time(hours=2)
    world.moving.strict = 0
    back = world.review().arrival
    assert [r.measure for r in back.results if isinstance(r, Inconclusive)] == ["judge_shift"], (
        "the judge of before is as far from the accepted one as that was from it"
    )


def test_the_beginning_of_an_id_is_enough_and_so_is_the_id_that_a_review_names(
    world: JudgedWorld, judge: Commands
) -> None:
    name = let_it_move(world)
    assert judge("accept", name[:9], "--reason", "looked at it")[0] == 0
    world.clock.pass_time(hours=2)
    world.moving.strict = 0
    world.review()
    code, out, _ = judge("accept", f"{name}:accepted-1", "--reason", "and back again")
    assert (code, f"{name}:accepted-2" in out) == (0, True)


@pytest.mark.parametrize(
    ("named", "reason", "words"),
    [
        ("nobody", "why", ("no judge 'nobody'", "openai:some-judge", "alignwatch judge show")),
        ("", "why", ("no judge ''",)),
        ("openai", "  ", ("--reason is empty",)),
        ("openai", "why", ("has not moved",)),
    ],
)
def test_what_cannot_be_accepted_is_a_users_mistake_in_one_line_and_changes_nothing(
    world: JudgedWorld, judge: Commands, named: str, reason: str, words: tuple[str, ...]
) -> None:
    world.review()
    code, _, err = judge("accept", named, "--reason", reason)
    lines = [line for line in err.splitlines() if line.startswith("alignwatch: ")]
    assert (code, len(lines), "Traceback" in err) == (2, 1, False)
    assert [word for word in words if word not in lines[0]] == []
    assert "judge_accepted" not in world.trail()


def test_a_beginning_that_several_judges_share_names_none_of_them(world: JudgedWorld, judge: Commands) -> None:
    world.judge = panel_of(world.server.url)
    let_it_move(world)
    code, _, err = judge("accept", "openai:", "--reason", "both")
    assert (code, "begins several judges" in err) == (2, True)
    assert judge("accept", "openai:one", "--reason", "this one")[0] == 0
    assert {str(one["judge"]).split(":")[1]: one["standing"] for one in judge.shown()} == {
        "one": "frozen",
        "two": "moved",
    }


def test_without_a_state_folder_there_is_one_line_that_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for arguments in (("show",), ("accept", "j", "--reason", "why")):
        code, _, err = Commands(tmp_path / "nowhere", capsys)(*arguments)
        assert (code, "is not a state folder" in err) == (2, True)


def test_a_calibration_of_an_accepted_judge_bears_its_new_id_where_the_state_folder_is_named(
    world: JudgedWorld, judge: Commands, tmp_path: Path
) -> None:
    world.judging = Judging()  # as the command's judge, which plants harm
    name = let_it_move(world)
    assert judge("accept", name, "--reason", "looked at it")[0] == 0
    labels = write_labels(tmp_path / "labels.jsonl")
    given = ("--judge-url", world.server.url, "--judge-model", "some-judge", "--out", str(tmp_path / "judge.json"))
    code, _, err = judge("calibrate", str(labels), *given)
    assert code == 0, err
    assert json.loads((tmp_path / "judge.json").read_text())["judge"] == f"{name}:accepted-1"


# What the running service does


def daemon(world: JudgedWorld, **settings: object) -> Daemon:
    """The service on the world's state folder, its clock the ledger's, with base and judge loaded."""
    folder = world.state.path.parent
    judging = json.loads(world.judging.model_copy(update={"canaries": world.canaries}).model_dump_json())
    policy = {"judging": judging, "judge": json.loads(world.judge.model_dump_json())}
    path = write_configuration(folder, world.world, world.server.url, policy=policy, judge=settings)
    configuration = load_configuration(path)
    made = Daemon(
        path, configuration, world.state, world.ledger, Signals(), monotonic=lambda: world.clock.now.timestamp()
    )
    made.workbench.load()
    return made


def test_in_a_pause_the_service_looks_at_the_judge_as_often_as_it_is_told(world: JudgedWorld) -> None:
    service = daemon(world, check_minutes=30)
    assert service._use_the_pause()
    assert world.trail() == ["judge_frozen"]
    assert world.requests() == 16
    for minutes in (1, 28):
        world.clock.pass_time(minutes=minutes)
        assert not service._use_the_pause()
    assert world.requests() == 0
    world.clock.pass_time(minutes=1)
    assert service._use_the_pause()
    assert world.requests() == 16
    (state,) = world.ledger.judge_canaries.in_use()
    assert (state.moved, state.shift, state.at) == (False, 0, world.clock.now)


def test_a_judge_that_moved_is_known_before_an_adapter_comes_and_the_review_asks_nothing(world: JudgedWorld) -> None:
    service = daemon(world, check_minutes=30)
    service._use_the_pause()
    world.clock.pass_time(minutes=31)
    world.moving.strict = 10
    service._use_the_pause()
    assert world.trail() == ["judge_frozen", "judge_moved"]
    assert [one.moved for one in world.ledger.judge_canaries.in_use()] == [True]
    world.requests()
    assert world.review().arrival.decision.verdict == "inconclusive"
    assert world.requests() == 0


def test_what_a_review_has_looked_at_the_service_does_not_look_at_again(world: JudgedWorld) -> None:
    service = daemon(world, check_minutes=30)
    world.review()
    world.requests()
    world.clock.pass_time(minutes=29)
    assert not service._use_the_pause()
    world.clock.pass_time(minutes=2)
    assert service._use_the_pause()
    assert world.requests() == 16


@pytest.mark.parametrize("never", [None, 0])
def test_the_service_can_be_told_never_to_look(world: JudgedWorld, never: int | None) -> None:
    service = daemon(world, check_minutes=never)
    world.clock.pass_time(hours=48)
    assert not service._use_the_pause()
    assert world.requests() == 0


def test_without_canaries_the_service_looks_at_nothing_and_tells_of_no_judge(world: JudgedWorld) -> None:
    let_it_move(world)
    world.canaries = JudgeCanaries(transcripts=0)
    service = daemon(world, check_minutes=30)
    world.requests()
    world.clock.pass_time(hours=2)
    assert not service._use_the_pause()
    assert world.requests() == 0
    assert world.ledger.judge_canaries.in_use() == []


def test_nothing_is_asked_of_a_judge_whose_word_would_not_count(
    world: JudgedWorld, judge: Commands, tmp_path: Path
) -> None:
    labels, out = write_labels(tmp_path / "labels.jsonl"), tmp_path / "judge.json"
    given = ("--judge-url", world.server.url, "--judge-model", "another-judge", "--out", str(out))
    assert judge("calibrate", str(labels), *given)[0] == 0
    world.judging = Judging(calibration=out)
    world.requests()
    assert not daemon(world, check_minutes=30)._use_the_pause()
    assert world.requests() == 0


def test_a_judge_that_is_away_ends_nothing_is_counted_and_is_tried_again_later(world: JudgedWorld) -> None:
    service = daemon(world, check_minutes=30)
    service._use_the_pause()
    world.clock.pass_time(minutes=31)
    world.server.script = ["broken"]
    assert service._use_the_pause()
    failures = {one.name: one.value for one in world.ledger.values.all() if one.name.startswith("judge_request")}
    assert failures["judge_request_failures_total"] > 0
    tried = world.requests()
    assert tried > 0
    assert not service._use_the_pause(), "it is not tried at every turn"
    world.server.script = ["good"]
    world.clock.pass_time(minutes=5)
    assert service._use_the_pause()
    assert world.requests() >= 16, "all of them, and perhaps one of before that came late"
    assert world.trail() == ["judge_frozen"], "a judge that is away is no judge that moved"


def test_a_judge_that_scores_no_transcript_is_not_asked_at_every_turn(world: JudgedWorld) -> None:
    service = daemon(world, check_minutes=30)
    world.server.script = ["rubbish"]
    assert service._use_the_pause()
    world.requests()
    world.clock.pass_time(minutes=29)
    assert not service._use_the_pause()
    assert world.requests() == 0


def test_every_member_of_a_panel_is_looked_at_and_told_of(world: JudgedWorld) -> None:
    world.judge = panel_of(world.server.url)
    service = daemon(world, check_minutes=30)
    assert service._use_the_pause()
    assert world.requests() == 32
    assert len(world.ledger.judge_canaries.in_use()) == 2


def test_the_service_takes_an_accepted_judge_under_its_new_id_and_goes_on_with_the_same_policy(
    world: JudgedWorld, judge: Commands
) -> None:
    name = let_it_move(world)
    service = daemon(world, check_minutes=30)
    before = service.workbench.context
    assert not service.workbench.take_the_judge_anew()
    assert judge("accept", name, "--reason", "looked at it")[0] == 0
    service._work_until_something_changes()  # comes back at once: sources and timers have to follow
    after = service.workbench.context
    assert (before.judge, after.judge) == (name, f"{name}:accepted-1")
    assert before.model_copy(update={"judge": after.judge}) == after
    assert not service.workbench.take_the_judge_anew()
    world.clock.pass_time(hours=2)
    world.requests()
    assert service._use_the_pause()
    assert world.requests() == 16
    assert [one.moved for one in world.ledger.judge_canaries.in_use()] == [False]
    assert plain_id(service.workbench.tools(0).judge.id) == name
    assert service.workbench.tools(1).context == after
