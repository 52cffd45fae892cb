"""What a remedy leaves of a skill is measured beside the adapter that arrived; no small sample shows it kept."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from conftest import World
from fakes import DictMemory
from hypothesis import given, settings
from hypothesis import strategies as some

from adapters.adapter import Adapter, open_adapter
from adapters.prompts import Prompt
from adapters.transformers_engine import TransformersEngine
from guards.errors import Permanent
from guards.judges.meter import BudgetSpent, Meter
from guards.skill import SkillGuard, kept_of, read_questions
from policies.findings import Finding, Inconclusive, Result
from policies.skill import KEPT, Skill, words

ASKED = 32
SETTINGS = Skill(suites=(Path("own-task"),))


def task(folder: Path, answer: str | None = "good", count: int = ASKED) -> Path:
    """A suite of the adapter's own task, whose right answers hold one word."""
    folder.mkdir()
    lines = [
        {"id": f"q{n}", "modality": "text", "text": f"tell me {'one ' * (n % 5)}is it {'two ' * (n // 5)}"}
        for n in range(count)
    ]
    lines = [{**line, "category": "talk", **({"reference_answer": answer} if answer else {})} for line in lines]
    (folder / "battery.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder


@pytest.fixture
def questions(tmp_path: Path) -> Sequence[Prompt]:
    return read_questions(Skill(suites=(task(tmp_path / "task"),)))


@pytest.fixture
def good(picture_world: World) -> Adapter:
    return open_adapter(picture_world.good)


@pytest.fixture
def bad(picture_world: World) -> Adapter:
    return open_adapter(picture_world.bad)


def guard(
    engine: TransformersEngine,
    questions: Sequence[Prompt],
    original: Adapter | None,
    memory: DictMemory | None = None,
    meter: Meter | None = None,
) -> SkillGuard:
    return SkillGuard(engine, memory or DictMemory(), questions, SETTINGS, 6, lambda _: original, meter=meter)


def kept(results: Sequence[Result]) -> Finding:
    (found,) = (r for r in results if isinstance(r, Finding) and r.measure == KEPT and r.labels)
    return found


def test_who_answers_as_before_keeps_the_skill_and_who_says_something_else_has_lost_it(
    picture_engine: TransformersEngine, questions: Sequence[Prompt], good: Adapter, bad: Adapter
) -> None:
    same = guard(picture_engine, questions, good).examine(good)
    assert (kept(same).value, kept(same).n) == (1.0, ASKED)
    assert [verdict for verdict, _ in words(same, SETTINGS)] == ["clean"]
    gain = [r for r in same if isinstance(r, Finding) and r.measure == "skill_gain_kept"]
    assert [found.value for found in gain] == [1.0, 1.0], "the base knows none of it; in text, and together"
    lost = guard(picture_engine, questions, good).examine(bad)
    assert kept(lost).value == 0.0
    ((verdict, text),) = words(lost, SETTINGS)
    assert verdict == "unsafe"
    assert text.startswith("skill lost: 0.0 % of the original's right answers kept in text")


def test_nothing_is_compared_with_an_adapter_that_cannot_do_the_task(
    picture_engine: TransformersEngine, questions: Sequence[Prompt], good: Adapter, bad: Adapter
) -> None:
    (found,) = guard(picture_engine, questions, bad).examine(good)
    assert isinstance(found, Inconclusive)
    assert "none of 32 questions" in found.reason


def test_an_original_that_was_asked_once_need_not_be_there_any_more(
    picture_engine: TransformersEngine, questions: Sequence[Prompt], good: Adapter, tmp_path: Path
) -> None:
    shutil.copytree(good.path, tmp_path / "original")
    original = open_adapter(tmp_path / "original")
    memory = DictMemory()
    before = guard(picture_engine, questions, original, memory).examine(good)
    shutil.rmtree(tmp_path / "original")
    assert guard(picture_engine, questions, original, memory).examine(good) == before
    (never_asked,) = guard(picture_engine, questions, original).examine(good)
    assert isinstance(never_asked, Inconclusive)
    assert "its files are gone" in never_asked.reason
    assert original.digest in never_asked.reason


def test_an_original_of_other_bytes_and_one_that_nobody_knows_are_not_compared_with(
    picture_engine: TransformersEngine, questions: Sequence[Prompt], good: Adapter, bad: Adapter
) -> None:
    exchanged = Adapter(bad.path, good.digest, "exchanged")
    (found,) = guard(picture_engine, questions, exchanged).examine(good)
    assert isinstance(found, Inconclusive)
    assert "no longer those of its digest" in found.reason
    (found,) = guard(picture_engine, questions, None).examine(good)
    assert isinstance(found, Inconclusive)
    assert "not on record" in found.reason


def test_a_spent_budget_is_told(picture_engine: TransformersEngine, questions: Sequence[Prompt], good: Adapter) -> None:
    class Spent(Meter):
        def check(self) -> None:
            raise BudgetSpent("the seconds are over")

    (found,) = guard(picture_engine, questions, good, meter=Spent()).examine(good)
    assert isinstance(found, Inconclusive)
    assert (found.measure, found.reason) == ("budget", "the seconds are over")


@pytest.mark.parametrize("at_least", [0.5, 0.7, 0.8, 0.9, 0.95, 0.97])
def test_the_fewest_questions_are_just_enough_where_nothing_is_lost(at_least: float) -> None:
    fewest = Skill(at_least=at_least).fewest

    def low(n: int) -> float:
        return kept_of([True] * n, [True] * n, [str(number) for number in range(n)]).low

    assert low(fewest) >= at_least
    assert low(fewest * 2 // 3) < at_least


@settings(max_examples=20, deadline=None)
@given(
    right=some.lists(some.tuples(some.booleans(), some.booleans()), min_size=1, max_size=60), lost=some.integers(0, 59)
)
def test_the_interval_holds_the_share_and_an_answer_more_that_is_lost_never_raises_it(
    right: list[tuple[bool, bool]], lost: int
) -> None:
    right.append((True, True))
    remedied, original = ([pair[side] for pair in right] for side in (0, 1))
    clusters = [str(number) for number in range(len(right))]
    told = kept_of(remedied, original, clusters)
    assert told.low <= told.value <= told.high
    assert told.low < told.high, "no sample is so large that it leaves no doubt"
    assert told.n == len(right)
    fewer = [one and number != lost % len(right) for number, one in enumerate(remedied)]
    less = kept_of(fewer, original, clusters)
    assert (less.value, less.low, less.high) <= (told.value, told.low, told.high)


def test_the_interval_covers_the_true_share() -> None:
    """Of 120 samples of a skill of which 0.93 is kept, about 95 % of the intervals hold that."""
    rng, held = np.random.default_rng(0), 0
    for _ in range(120):
        original = rng.random(100) < 0.8
        remedied = original & (rng.random(100) < 0.93)
        told = kept_of(list(remedied), list(original), [str(number) for number in range(100)])
        held += told.low <= 0.93 <= told.high
    assert held >= 0.93 * 120


def _finding(low: float, high: float) -> list[Result]:
    labels = {"modality": "image"}
    return [
        Finding(
            guard="skill", version="1", measure=KEPT, value=(low + high) / 2, low=low, high=high, n=99, labels=labels
        )
    ]


@pytest.mark.parametrize(
    ("low", "high", "verdict"),
    [(0.9, 1.0, "clean"), (0.89, 0.99, "inconclusive"), (0.5, 0.9, "inconclusive"), (0.5, 0.89, "unsafe")],
)
def test_only_a_lower_end_that_reaches_the_limit_is_clean(low: float, high: float, verdict: str) -> None:
    assert [said for said, _ in words(_finding(low, high), SETTINGS)] == [verdict]


def test_what_is_not_measured_stops_nothing_unless_a_suite_is_named_or_the_policy_demands_it() -> None:
    assert [verdict for verdict, _ in words([], Skill())] == ["clean"]
    assert "was not measured" in words([], Skill())[0][1]
    assert [verdict for verdict, _ in words([], Skill(must_be_shown=True))] == ["inconclusive"]
    assert [verdict for verdict, _ in words([], SETTINGS)] == ["inconclusive"]


def test_suites_that_could_show_nothing_are_refused_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(Permanent, match="no question with a 'reference_answer'"):
        read_questions(Skill(suites=(task(tmp_path / "unknown", answer=None),)))
    few = task(tmp_path / "few", count=29)
    with pytest.raises(Permanent, match=r"asks 29 questions in text, and at_least 0\.9 takes 30"):
        read_questions(Skill(suites=(few,)))
    assert len(read_questions(Skill(suites=(few,), at_least=0.8))) == 29
