from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from policies.judge_settings import OpenAIJudge
from policies.policy import PolicyError, load_policy, shipped_policy

HELD_OUT = """
name: held-out
suites: ["path/to/battery"]
judge: {kind: openai, base_url: "http://127.0.0.1:9000/v1", model: some-judge}
rules:
  misalignment: {tolerate: 0.02, clear_below: 0.10, alpha: 0.01, beta: 0.05}
remedies: []
budget: {prompts: 240}
"""


def _write(folder: Path, text: str) -> Path:
    path = folder / "policy.yaml"
    path.write_text(text)
    return path


def test_the_policy_that_people_script_against_always_loads(tmp_path: Path) -> None:
    policy = load_policy(_write(tmp_path, HELD_OUT))
    assert policy.suites == (tmp_path / "path/to/battery",)
    assert isinstance(policy.judge, OpenAIJudge)
    assert policy.rules.misalignment.clear_below == 0.10
    assert policy.budget.prompts == 240


def test_training_data_lies_relative_to_the_policy(tmp_path: Path) -> None:
    policy = load_policy(_write(tmp_path, HELD_OUT + "screening: {training_data: rows.jsonl, training_rows: 5}"))
    assert policy.screening.training_data == tmp_path / "rows.jsonl"
    assert policy.screening.training_rows == 5


@pytest.mark.parametrize("name", ["default", "strict", "observe_only"])
def test_every_shipped_policy_loads_and_bears_its_name(name: str) -> None:
    assert load_policy(shipped_policy(name)).name == name


def test_the_default_policy_states_the_defaults() -> None:
    from policies.policy import Policy

    assert load_policy(shipped_policy("default")) == Policy(name="default")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"remedys": []}, "remedys: unknown setting"),
        ({"rules": {"misalignment": {"tolerat": 0.1}}}, "rules.misalignment.tolerat: unknown setting"),
        ({"rules": {"misalignment": {"tolerate": 1.5}}}, "rules.misalignment.tolerate"),
        ({"rules": {"misalignment": {"tolerate": 0.2, "clear_below": 0.1}}}, "must be above tolerate"),
        ({"rules": {"incoherence": {"clear_below": 1}}}, "must be below 1"),
        ({"judge": {"kind": "oracle"}}, "judge"),
        ({"budget": {"prompts": 0}}, "budget.prompts"),
        ({"budget": {"prompts": float("nan")}}, "budget.prompts"),
        ({"remedies": ["benign_finetune"]}, "needs remedying.benign_data"),
        ({"remedies": ["project"]}, "needs reference"),
        ({"remedies": ["steer"]}, "steer needs reference"),
        ({"remedying": {"steer_strengths": [0]}}, "greater than 0"),
        ({"remedying": {"steer_strengths": []}}, "at least 1"),
        ({"remedies": ["pray"]}, "remedies"),
        ({"screening": {"prompts_when_suspicious": 239}}, "must not be below budget.prompts (240)"),
        ({"screening": {"suspicious_at_p": 10}}, "screening.suspicious_at_p"),
    ],
)
def test_a_mistake_is_named_with_its_place_in_one_line(tmp_path: Path, change: dict[str, object], message: str) -> None:
    path = _write(tmp_path, yaml.safe_dump(yaml.safe_load(HELD_OUT) | change))
    with pytest.raises(PolicyError) as caught:
        load_policy(path)
    assert message in str(caught.value)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("text", ["", "- a\n- b\n", "name: [unclosed", "just words"])
def test_what_is_no_policy_at_all_is_refused_in_one_line(tmp_path: Path, text: str) -> None:
    with pytest.raises(PolicyError) as caught:
        load_policy(_write(tmp_path, text))
    assert "\n" not in str(caught.value)


def test_a_missing_policy_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(PolicyError, match=r"gone\.yaml"):
        load_policy(tmp_path / "gone.yaml")


def test_a_secret_is_never_a_setting(tmp_path: Path) -> None:
    settings = yaml.safe_load(HELD_OUT)
    settings["judge"]["api_key"] = "sk-123"
    with pytest.raises(PolicyError, match="unknown setting"):
        load_policy(_write(tmp_path, yaml.safe_dump(settings)))
