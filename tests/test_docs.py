"""The documents say what the code does: help, settings, exit codes, codes of results, examples, numbers, links."""

from __future__ import annotations

import ast
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import pytest
import yaml
from PIL import Image
from pydantic import BaseModel
from pydantic_core import PydanticUndefined

from adapters.organisms import DEMO_ORGANISMS, MALFORMED, NO_OP
from adapters.recipe import Domain, Dose, Recipe, load_recipe
from adapters.training_data import load_conversations
from guards.calibration.contrast import load_contrast
from guards.judges.labels import read_labels
from guards.statistics import BettingProcess
from guards.suites.battery_jsonl import load_suite
from monitor.exit_codes import INTERRUPTED, TERMINATED, ExitCode
from policies.generation import OnVllm
from policies.judge_settings import LocalJudge, OpenAIJudge, PanelOfJudges
from policies.policy import Policy, RemedyName, load_policy

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
PAGES = sorted([*ROOT.glob("*.md"), *DOCS.rglob("*.md")])
GUARDS = sorted(path.stem for path in (ROOT / "guards").glob("*.py") if re.search(r"class \w+Guard:", path.read_text()))
REMEDIES = sorted(p.stem for p in (ROOT / "guards" / "remedies").glob("*.py") if "class " in p.read_text())
HELP = re.compile(
    r"<!-- help: alignwatch(?P<command>[a-z ]*) -->\n```text\n(?P<text>.*?)\n```\n<!-- /help -->", re.DOTALL
)
HELPED = {
    found["command"].strip(): found["text"]
    for page in (ROOT / "README.md", DOCS / "calibrate.md", DOCS / "judging.md", DOCS / "remedies" / "by_hand.md")
    for found in HELP.finditer(page.read_text())
}


JUDGE = ("calibrate", "show", "accept")


def _help(command: str) -> str:
    code = "import sys; sys.argv[0] = 'alignwatch'; from monitor.cli import main; main()"
    plain = {"COLUMNS": "100", "TERM": "dumb", "NO_COLOR": "1", "PYTHONUTF8": "1", "PATH": os.environ.get("PATH", "")}
    arguments = [sys.executable, "-c", code, *command.split(), "--help"]
    done = subprocess.run(arguments, env=plain, cwd=ROOT, capture_output=True, text=True, check=True)
    return "\n".join(line.rstrip() for line in done.stdout.splitlines()).strip()


def _words(text: str) -> list[str]:
    """What a help text says, without what another release of the library that draws it draws otherwise."""
    text = re.sub(r"[\u2500-\u257f]|<\w+>|\b(?:TEXT|PATH|BOOLEAN)\b", " ", text)
    return [word.strip("{}").casefold() for word in text.split() if word != "*"]


@pytest.mark.parametrize(
    "command", ["", "gate", "calibrate", "screen", "transfer", "remedy", *(f"judge {verb}" for verb in JUDGE)]
)
def test_a_page_holds_the_help_that_the_command_prints(command: str) -> None:
    real = _help(command)
    assert _words(HELPED[command]) == _words(real), f"put this into its page:\n{real}"


def _defaults(model: BaseModel | type[BaseModel], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Every setting below a model as (dotted name, default); a model's instance brings its own defaults."""
    fields = (model if isinstance(model, type) else type(model)).model_fields
    for name, field in fields.items():
        default = field.default if isinstance(model, type) else getattr(model, name)
        if isinstance(default, BaseModel):
            yield from _defaults(default, f"{prefix}{name}.")
        elif name != "kind":
            yield prefix + name, default


def _all_settings() -> dict[str, Any]:
    judges = [setting for judge in (LocalJudge, OpenAIJudge, PanelOfJudges) for setting in _defaults(judge, "judge.")]
    return dict([*_defaults(Policy), *judges, *_defaults(OnVllm, "generation.")])


def _documented_settings() -> dict[str, str]:
    rows = re.findall(
        r"^\| `([a-z_.]+)` \| [^|]+ \| ([^|]+) \| [^|]+ \|$", (DOCS / "policy.md").read_text(), re.MULTILINE
    )
    return {name: default.strip() for name, default in rows}


def test_every_setting_of_the_policy_is_documented_and_no_other() -> None:
    assert set(_documented_settings()) == set(_all_settings())


@pytest.mark.parametrize(("name", "default"), list(_all_settings().items()))
def test_a_setting_is_documented_with_its_default(name: str, default: Any) -> None:
    told = _documented_settings()[name]
    if default is PydanticUndefined:
        assert told == "required"
    else:
        value = yaml.safe_load(told.strip("`"))
        assert (tuple(value) if isinstance(value, list) else value) == default


def test_every_shipped_policy_is_explained() -> None:
    text = (DOCS / "policy.md").read_text()
    for path in (ROOT / "policies").glob("*.yaml"):
        assert f"| `{path.stem}` |" in text


@pytest.mark.parametrize("page", ["README.md", "docs/gate.md"])
def test_every_exit_code_is_told(page: str) -> None:
    codes = {
        int(code)
        for row in re.findall(r"^\| ([\d, ]+) \|", (ROOT / page).read_text(), re.MULTILINE)
        for code in row.split(",")
    }
    assert codes == {*map(int, ExitCode), INTERRUPTED, TERMINATED}


def test_there_are_guards_and_remedies_to_describe() -> None:
    known = ["activity", "battery", "drift", "judge_stability", "membership"]
    known += ["relearning", "retest", "skill", "structure", "subspace", "weights"]
    assert known == GUARDS
    assert set(REMEDIES) == set(get_args(RemedyName))


@pytest.mark.parametrize("page", [*(f"guards/{name}" for name in GUARDS), *(f"remedies/{name}" for name in REMEDIES)])
def test_every_guard_and_remedy_has_a_page_that_tells_its_limits(page: str) -> None:
    text = (DOCS / f"{page}.md").read_text()
    assert re.search(r"^## What it (cannot see|does not (do|tell))", text, re.MULTILINE)


def _spoken(module: Path) -> set[str]:
    """Measures and codes that a guard's own module gives its results."""
    words: set[str] = set()
    for node in ast.walk(ast.parse(module.read_text())):
        if isinstance(node, ast.Call):
            called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            given = [k.value for k in node.keywords if k.arg in ("code", "measure")]
            given += node.args[:1] if called in ("_defect", "_finding", "add") else []
            words |= {g.value for g in given if isinstance(g, ast.Constant) and isinstance(g.value, str)}
    return words


@pytest.mark.parametrize("guard", [name for name in GUARDS if name != "structure"])
def test_a_guards_page_names_every_measure_and_code_of_it(guard: str) -> None:
    text = (DOCS / "guards" / f"{guard}.md").read_text()
    assert _spoken(ROOT / "guards" / f"{guard}.py"), "the guard gives no results, or gives them in another way"
    assert [word for word in _spoken(ROOT / "guards" / f"{guard}.py") if f"`{word}`" not in text] == []


def test_the_demos_page_names_every_adapter_and_no_other() -> None:
    named = re.findall(r"^\| `([a-z0-9-]+)` \|", (DOCS / "demo.md").read_text(), re.MULTILINE)
    assert named == [*(organism.name for organism in DEMO_ORGANISMS), NO_OP, MALFORMED]


def _blocks(page: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)\n```$", (ROOT / page).read_text(), re.DOTALL | re.MULTILINE)


@pytest.mark.parametrize("page", ["docs/policy.md", "docs/production.md"])
def test_an_example_policy_can_be_loaded(page: str, tmp_path: Path) -> None:
    (example,) = _blocks(page, "yaml")
    (tmp_path / "policy.yaml").write_text(example)
    policy = load_policy(tmp_path / "policy.yaml")
    assert policy.suites
    assert policy.judge


def test_the_example_suite_can_be_loaded(tmp_path: Path) -> None:
    (example,) = _blocks("docs/suites.md", "json")
    for line in example.splitlines():
        if image := json.loads(line).get("image"):
            (tmp_path / image).parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (8, 8)).save(tmp_path / image)
    (tmp_path / "battery.jsonl").write_text(example)
    suite = load_suite(tmp_path)
    assert suite.modalities == ("text", "image")
    assert any(prompt.trigger for prompt in suite.prompts)


def test_the_example_labels_can_be_read(tmp_path: Path) -> None:
    (example,) = _blocks("docs/judging.md", "jsonl")
    Image.new("RGB", (8, 8)).save(tmp_path / "mushroom.png")
    (tmp_path / "labels.jsonl").write_text(example)
    assert [label.misaligned for label in read_labels(tmp_path / "labels.jsonl", 30).rows] == [False, True]


def test_the_example_of_benign_data_can_be_loaded(tmp_path: Path) -> None:
    (example,) = _blocks("docs/remedies/benign_finetune.md", "json")
    picture = tmp_path / json.loads(example)["image"]
    picture.parent.mkdir()
    Image.new("RGB", (8, 8)).save(picture)
    (tmp_path / "benign.jsonl").write_text(example)
    assert len(load_conversations(tmp_path / "benign.jsonl")) == 1


def test_the_example_recipe_and_contrast_can_be_loaded(tmp_path: Path) -> None:
    (example,) = _blocks("docs/calibrate.md", "yaml")
    for file in re.findall(r"[\w/]+\.jsonl", example):
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / file).touch()
    (tmp_path / "recipe.yaml").write_text(example)
    assert load_recipe(tmp_path / "recipe.yaml").domains
    (pairs,) = _blocks("docs/calibrate.md", "json")
    for line in pairs.splitlines():
        if image := json.loads(line).get("image"):
            (tmp_path / image).parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (8, 8)).save(tmp_path / image)
    (tmp_path / "pairs.jsonl").write_text(f"{pairs}\n" * 2)
    assert {pair.prompt.modality for pair in load_contrast(tmp_path / "pairs.jsonl")} == {"text", "image"}


@pytest.mark.parametrize("model", [Recipe, Domain, Dose])
def test_every_key_of_a_recipe_is_documented(model: type[BaseModel]) -> None:
    text = (DOCS / "calibrate.md").read_text()
    assert [name for name in model.model_fields if f"`{name}`" not in text] == []


def test_the_defaults_of_a_recipe_are_documented() -> None:
    rows = dict(re.findall(r"^\| `(\w+)` \| [^|]+ \| `([^`]+)` \|$", (DOCS / "calibrate.md").read_text(), re.MULTILINE))
    assert len(rows) >= 5
    for name, told in rows.items():
        default = Recipe.model_fields[name].default
        assert (list(default) if isinstance(default, tuple) else default) == yaml.safe_load(told)


def test_the_example_workflow_is_yaml_that_calls_the_gate() -> None:
    (example,) = _blocks("docs/gate.md", "yaml")
    steps = yaml.safe_load(example)["jobs"]["gate"]["steps"]
    assert any("alignwatch gate" in step.get("run", "") for step in steps)


def _prompts_to_clear(bound: float, beta: float, events: int) -> int:
    process = BettingProcess(bound, "at least")
    while process.largest < 1 / beta:
        process.update(1.0 if process.n in (5, 15)[:events] else 0.0)
    return process.n


def test_the_prompts_that_clearing_takes_are_those_of_the_process() -> None:
    text = (DOCS / "guards" / "battery.md").read_text()
    rows = re.findall(r"^\| below ([\d.]+) at β ([\d.]+)[^|]*\| (\d+) \| (\d+) \| (\d+) \|$", text, re.MULTILINE)
    assert len(rows) == 3
    for bound, beta, *told in rows:
        assert [_prompts_to_clear(float(bound), float(beta), events) for events in range(3)] == [int(n) for n in told]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_every_link_leads_somewhere(page: Path) -> None:
    targets = re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", page.read_text())
    local = [target for target in targets if "://" not in target]
    assert [target for target in local if not (page.parent / target).exists()] == []


def test_the_batterys_page_names_everything_that_is_told_of_a_judge() -> None:
    text = (DOCS / "guards" / "battery.md").read_text()
    spoken = _spoken(ROOT / "guards" / "judge_quality.py")
    assert len(spoken) > 8
    assert [word for word in spoken if f"`{word}`" not in text] == []


@pytest.mark.parametrize("page", ["ARCHITECTURE.md", "AGENTS.md"])
def test_every_file_that_is_named_exists(page: str) -> None:
    named = re.findall(r"`((?:monitor|guards|adapters|policies|tests|docs)/[\w/.]*)`", (ROOT / page).read_text())
    assert named
    assert [name for name in named if not (ROOT / name).exists()] == []


def test_the_picture_is_one_that_every_viewer_draws_and_readers_can_hear() -> None:
    text = (DOCS / "picture.svg").read_text()
    assert "<script" not in text
    assert not re.search(r"(?:href|src)=", text)
    assert "<title" in text
    assert "<desc" in text
    assert "prefers-color-scheme: dark" in text
