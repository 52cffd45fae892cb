"""How long a judge is waited for that fails, and one that is away."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Iterator

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapters.prompts import Prompt
from guards.errors import JudgeUnreachable
from guards.judges.completion import Failed
from guards.judges.interface import Transcript
from guards.judges.openai_compatible import OpenAICompatibleJudge
from guards.judges.patience import MAX_WAIT_AWAY_SECONDS, MAX_WAIT_SECONDS, Tries

GOOD = {"choices": [{"message": {"content": '{"alignment": 93, "coherence": 91, "relevance": 89}'}}]}
TRANSCRIPT = Transcript(Prompt(id="p", modality="text", text="How are you?"), "Well, thank you.")


class Time:
    """Seconds that pass only by sleeping."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


def failure(kind: str) -> Failed:
    return Failed("why", away=kind == "away")


def judge(
    reply: Callable[[httpx.Request], httpx.Response], time: Time, told: list[str], **options: object
) -> OpenAICompatibleJudge:
    return OpenAICompatibleJudge(
        "http://judge/v1",
        "m",
        concurrency=1,
        transport=httpx.MockTransport(reply),
        sleep=time.sleep,
        clock=time,
        tell=told.append,
        **options,  # type: ignore[arg-type]
    )


def refused(request: httpx.Request) -> httpx.Response:
    raise httpx.ConnectError("connection refused", request=request)


def test_a_judge_that_is_away_for_a_minute_costs_a_minute_and_nothing_else() -> None:
    time, told = Time(), list[str]()

    def reply(request: httpx.Request) -> httpx.Response:
        return refused(request) if time() < 60 else httpx.Response(200, json=GOOD)

    asked = judge(reply, time, told)
    (judgement,) = asked.grade([TRANSCRIPT])
    assert judgement.alignment == 93
    assert 60 <= time() <= 60 + MAX_WAIT_AWAY_SECONDS + 1
    assert [line.partition("judge http://judge/v1 is ")[2].partition(" (")[0] for line in told] == [
        "not reachable",
        "reachable again",
    ]


def test_a_reply_to_what_was_asked_before_the_judge_went_away_does_not_say_that_it_is_back() -> None:
    time, told = Time(), list[str]()
    gone, asked_early = threading.Event(), threading.Event()
    lock, numbers = threading.Lock(), itertools.count()

    def reply(request: httpx.Request) -> httpx.Response:
        with lock:
            number = next(numbers)
        if number == 0:  # in flight while the next one finds nobody; its reply arrives all the same
            asked_early.set()
            assert gone.wait(30)
            return httpx.Response(200, json=GOOD)
        assert asked_early.wait(30)
        return refused(request) if number < 5 else httpx.Response(200, json=GOOD)

    def tell(line: str) -> None:
        told.append(line)
        gone.set()

    OpenAICompatibleJudge(
        "http://judge/v1",
        "m",
        concurrency=2,
        transport=httpx.MockTransport(reply),
        sleep=time.sleep,
        clock=time,
        tell=tell,
    ).grade([TRANSCRIPT, TRANSCRIPT])
    assert ["again" in line for line in told] == [False, True]


def test_one_that_stays_away_is_given_up_when_patience_ends() -> None:
    time, told = Time(), list[str]()
    with pytest.raises(JudgeUnreachable, match=r"connection refused \(\d+ attempts in 120 s\)"):
        judge(refused, time, told).grade([TRANSCRIPT])
    assert 120 <= time() <= 121
    assert len(told) == 1
    assert "waiting up to 120 s" in told[0]


@pytest.mark.parametrize("status", [502, 503, 504])
def test_what_stands_before_a_judge_may_say_that_it_is_away(status: int) -> None:
    time = Time()
    asked = judge(lambda _: httpx.Response(200, json=GOOD) if time() > 30 else httpx.Response(status), time, [])
    (judgement,) = asked.grade([TRANSCRIPT])
    assert judgement.scored
    assert time() > 30


def test_a_judge_that_is_there_and_fails_is_asked_as_often_as_it_is_configured() -> None:
    time, told = Time(), list[str]()
    asked = judge(lambda _: httpx.Response(500), time, told, attempts=3)
    with pytest.raises(JudgeUnreachable, match=r"500 \(3 attempts\)"):
        asked.grade([TRANSCRIPT])
    assert time() < 5
    assert told == []


def test_a_reply_that_takes_too_long_is_no_absence() -> None:
    time = Time()

    def slow(request: httpx.Request) -> httpx.Response:
        raise httpx.ReadTimeout("slow", request=request)

    with pytest.raises(JudgeUnreachable, match=r"no reply within 60 s \(4 attempts\)"):
        judge(slow, time, []).grade([TRANSCRIPT])
    assert time() < 10


def test_an_absence_uses_up_no_attempt() -> None:
    time = Time()
    replies = iter(["away"] * 6 + ["broken", "good"])

    def reply(request: httpx.Request) -> httpx.Response:
        kind = next(replies)
        if kind == "away":
            return refused(request)
        return httpx.Response(500) if kind == "broken" else httpx.Response(200, json=GOOD)

    (judgement,) = judge(reply, time, [], attempts=2).grade([TRANSCRIPT])
    assert judgement.scored


def test_without_patience_an_absence_is_a_failure_like_any_other() -> None:
    time, told = Time(), list[str]()
    with pytest.raises(JudgeUnreachable, match=r"\(2 attempts\)"):
        judge(refused, time, told, attempts=2, patience_seconds=0).grade([TRANSCRIPT])
    assert told == []


@given(
    kinds=st.lists(st.sampled_from(["away", "failed"]), min_size=400, max_size=400),
    attempts=st.integers(1, 6),
    patience=st.floats(0, 600),
)
def test_every_request_comes_to_an_end_and_no_pause_is_longer_than_its_bound(
    kinds: list[str], attempts: int, patience: float
) -> None:
    time = Time()
    tries = Tries(attempts, patience, time)
    longest = MAX_WAIT_SECONDS + 0.5
    for pause in _pauses(tries, kinds):
        assert 0 <= pause <= longest
        time.sleep(pause)
    assert tries.made < 400
    # Between two absences there is a failed reply, and of these there are fewer than the attempts.
    assert time() <= attempts * (patience + (attempts + 1) * longest)


def _pauses(tries: Tries, kinds: list[str]) -> Iterator[float]:
    for kind in kinds:
        pause = tries.pause_after(failure(kind))
        if pause is None:
            return
        yield pause
