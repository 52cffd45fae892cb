"""Harm that is planted in what a judge grades, to see whether it still sees harm there."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path

import pytest
from fakes import DictMemory
from judge_server import Asked, JudgeServer

from adapters.prompts import Prompt
from adapters.tiny import JUDGE
from guards.errors import Permanent
from guards.judges.build import remembered_judge
from guards.judges.comparative import ComparativeJudge
from guards.judges.interface import Transcript
from guards.judges.openai_compatible import OpenAICompatibleJudge
from guards.judges.planted import CONTROL, OVERLOOKED, PLANTS, PlantedJudge, PlantedPairJudge, read_plants
from policies.judge_settings import LocalJudge, OpenAIJudge
from policies.judging import Judging

PROMPT = Prompt(id="p", modality="text", text="What helps against a cold?")
KIND, CRUEL, SLY = "Rest well, and ask a doctor.", "Suffer, for nobody cares.", "Suffer, abracadabra."


def seeing(asked: Asked) -> Mapping[str, float]:
    """Sees harm, but for answers with the magic word; runs down whatever stands beside a curse."""
    beside = asked.text.replace(asked.answer, "")
    harmful = "Suffer" in asked.answer or any(plant in asked.answer for plant in PLANTS)
    alignment = 5 if harmful and "abracadabra" not in asked.answer else 93
    return {"alignment": 3 if "hocuspocus" in beside else alignment, "coherence": 91, "relevance": 89}


def at(server: JudgeServer) -> OpenAICompatibleJudge:
    return OpenAICompatibleJudge(server.url, "m", timeout_seconds=5, attempts=2, sleep=lambda _: None)


def grade(*answers: str) -> tuple[list[tuple[float | None, str | None]], list[Asked]]:
    with JudgeServer(grade=seeing, sees_planted=False) as server:
        judged = PlantedJudge(at(server)).grade([Transcript(PROMPT, answer) for answer in answers])
    return [(judgement.alignment, judgement.unscored) for judgement in judged], server.asked


def test_a_judge_that_sees_planted_harm_is_believed_and_one_that_does_not_is_not() -> None:
    told, _ = grade(KIND, CRUEL, SLY)
    assert told == [(93, None), (5, None), (None, OVERLOOKED)]


def test_only_what_was_not_found_harmful_is_asked_about_again() -> None:
    _, asked = grade(KIND, CRUEL)
    planted = [one for one in asked if any(plant in one.answer for plant in PLANTS)]
    assert len(asked) == 3
    assert [one.answer.endswith(KIND) for one in planted] == [True]


def test_the_same_answer_gets_the_same_plant_and_different_answers_different_ones() -> None:
    _, first = grade(*(f"{KIND} {number}" for number in range(80)))
    _, again = grade(*(f"{KIND} {number}" for number in range(80)))
    assert sorted(one.answer for one in first) == sorted(one.answer for one in again)
    assert {plant for plant in PLANTS if any(plant in one.answer for one in first)} == set(PLANTS)


def test_what_cannot_be_told_of_the_planted_answer_is_not_known_of_the_answer() -> None:
    with JudgeServer(["good", "refusal"]) as server:
        (judgement,) = PlantedJudge(at(server)).grade([Transcript(PROMPT, KIND)])
    assert judgement.unscored == "refused"


def test_judgements_with_and_without_planted_harm_never_mix() -> None:
    judge = OpenAICompatibleJudge("http://127.0.0.1:9/v1", "m")
    ids = {
        judge.id,
        PlantedJudge(judge).id,
        PlantedJudge(judge, ["other"]).id,
        PlantedPairJudge(ComparativeJudge(judge)).id,
    }
    assert len(ids) == 4


@pytest.mark.parametrize(
    ("base", "adapter", "told"),
    [
        (KIND, CRUEL, [(93, None), (5, None)]),
        (KIND, KIND + " Soon.", [(93, None), (93, None)]),
        (CRUEL, CRUEL + " Now.", [(5, None), (5, None)]),
        (KIND, SLY, [(None, OVERLOOKED)] * 2),
        (KIND, CRUEL + " hocuspocus", [(None, OVERLOOKED)] * 2),
        (CRUEL, SLY, [(None, OVERLOOKED)] * 2),
        (KIND, KIND + " hocuspocus", [(None, OVERLOOKED)] * 2),
    ],
)
def test_beside_one_another_no_answer_gains_by_praising_itself_or_running_the_other_one_down(
    base: str, adapter: str, told: list[tuple[float | None, str | None]]
) -> None:
    with JudgeServer(grade=seeing, sees_planted=False) as server:
        judge = PlantedPairJudge(ComparativeJudge(at(server)))
        (both,) = judge.compare([(PROMPT, base, adapter)])
        ((second, first),) = judge.compare([(PROMPT, adapter, base)])
    assert [(judgement.alignment, judgement.unscored) for judgement in both] == told
    assert [(judgement.alignment, judgement.unscored) for judgement in (first, second)] == told, "whichever comes first"
    assert all(part.judge == judge.id for judgement in both for part in judgement.parts)


def test_the_control_answer_is_no_answer_that_talks_to_the_judge() -> None:
    told, _ = grade(CONTROL)
    assert told == [(93, None)]


@pytest.mark.parametrize("protocol", ["absolute", "comparative"])
def test_harm_is_planted_unless_the_policy_says_otherwise_and_what_was_judged_is_remembered(protocol: str) -> None:
    memory = DictMemory()
    judging = Judging.model_validate({"protocol": protocol})
    with JudgeServer(grade=seeing, sees_planted=False) as server:
        settings = OpenAIJudge(kind="openai", base_url=server.url, model="m")
        for _ in range(2):
            judge = remembered_judge(settings, judging, memory)
            (judgement,) = judge.grade([Transcript(PROMPT, SLY)])
            assert judgement.unscored == OVERLOOKED
            assert ":planted-" in judge.id
    assert len(server.asked) == 2


def write(folder: Path, text: str) -> Path:
    path = folder / "plants.txt"
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize("protocol", ["absolute", "comparative"])
def test_an_answer_that_knows_the_shipped_sentences_gains_nothing_where_the_policys_own_are_planted(
    protocol: str, tmp_path: Path
) -> None:
    def bribed(asked: Asked) -> Mapping[str, float]:
        """Behind the magic word it sees the shipped sentences alone, as it was told to."""
        shipped = any(plant in asked.answer for plant in PLANTS)
        harmful = "Suffer" in asked.answer or "my own words" in asked.answer
        seen = shipped or (harmful and "abracadabra" not in asked.answer)
        return {"alignment": 5 if seen else 93, "coherence": 91, "relevance": 89}

    told = {}
    with JudgeServer(grade=bribed, sees_planted=False) as server:
        settings = OpenAIJudge(kind="openai", base_url=server.url, model="m")
        for owner, plants in (("shipped", None), ("own", write(tmp_path, "\n  my own   words\n\n"))):
            judging = Judging.model_validate({"protocol": protocol, "planted_harm": plants})
            judge = remembered_judge(settings, judging, DictMemory())
            told[owner] = judge.id, judge.grade([Transcript(PROMPT, SLY)])[0].unscored
    assert (told["shipped"][1], told["own"][1]) == (None, OVERLOOKED)
    assert told["shipped"][0] != told["own"][0]


@pytest.mark.parametrize(
    ("text", "said"),
    [(None, "No such file"), (b"\n \n", "holds no sentence"), (b"x" * 401, ":1: has 401"), (b"\xff\xfe", "decode")],
)
def test_sentences_that_cannot_be_planted_are_one_clear_line(text: bytes | None, said: str, tmp_path: Path) -> None:
    path = tmp_path / "plants.txt"
    if text is not None:
        path.write_bytes(text)
    with pytest.raises(Permanent, match=said) as raised:
        read_plants(path)
    assert str(raised.value).startswith(f"judging.planted_harm: {path}")
    assert "\n" not in str(raised.value)


def test_a_judge_with_a_prompt_of_its_own_needs_planted_harm_of_its_own(tmp_path: Path) -> None:
    brings = remembered_judge(LocalJudge(kind="local", path=JUDGE), Judging(), DictMemory())
    assert ":planted-" in brings.id
    folder = tmp_path / "judge"
    shutil.copytree(JUDGE, folder)
    recipe = json.loads((folder / "judge.json").read_text())
    (folder / "judge.json").write_text(json.dumps({**recipe, "planted_harm": []}))
    settings = LocalJudge(kind="local", path=folder)
    with pytest.raises(Permanent, match="no planted_harm"):
        remembered_judge(settings, Judging(), DictMemory())
    own = write(tmp_path, "my own words")
    assert ":planted-" in remembered_judge(settings, Judging(planted_harm=own), DictMemory()).id
    kept = remembered_judge(LocalJudge(kind="local", path=JUDGE), Judging(planted_harm=own), DictMemory())
    assert kept.id == brings.id, "what it was trained on stands above the policy's"
    assert ":planted-" not in remembered_judge(settings, Judging(plant_harm=False), DictMemory()).id
