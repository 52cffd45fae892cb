"""The service's configuration: what is refused, what stands above what, and that no secret has a place in it."""

from __future__ import annotations

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
from foreign_base import write_suite
from pydantic import BaseModel
from pydantic_core import PydanticUndefined

from monitor.configuration import ConfigurationError, ServiceConfiguration, load_configuration
from monitor.configuration_check import check_configuration
from monitor.web.tokens import create_token

DOCS = Path(__file__).parents[2] / "docs"
MINIMAL = """
state: ./state
base: ./base
policy: policy.yaml
sources: [{kind: folder, path: ./inbox}]
fleet: []
http: {host: 127.0.0.1, port: 9464}
"""


@pytest.fixture(autouse=True)
def _bare_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.upper().startswith("ALIGNWATCH_"):
            monkeypatch.delenv(name)


def _write(folder: Path, text: str) -> Path:
    (folder / "alignwatch.yaml").write_text(text)
    return folder / "alignwatch.yaml"


def _load(folder: Path, text: str) -> ServiceConfiguration:
    return load_configuration(_write(folder, text))


def _refusal(folder: Path, text: str) -> str:
    with pytest.raises(ConfigurationError) as refused:
        _load(folder, text)
    line = str(refused.value)
    assert "\n" not in line
    assert str(folder / "alignwatch.yaml") in line
    return line


@pytest.fixture
def sound(tmp_path: Path) -> Path:
    """A folder with everything that the minimal configuration names."""
    (tmp_path / "base").mkdir()
    (tmp_path / "base" / "config.json").write_text("{}")
    (tmp_path / "inbox").mkdir()
    write_suite(tmp_path / "suite", 4, 0)
    (tmp_path / "policy.yaml").write_text(
        'name: p\nsuites: [suite]\njudge: {kind: openai, base_url: "http://127.0.0.1:9000/v1", model: j}\n'
    )
    _write(tmp_path, MINIMAL)
    return tmp_path


# What is read


def test_the_minimal_form_is_enough_and_its_paths_are_relative_to_the_file(
    sound: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (sound / "elsewhere").mkdir()
    monkeypatch.chdir(sound / "elsewhere")
    configuration = load_configuration(Path("../alignwatch.yaml"))
    assert configuration.state == sound / "state"
    assert configuration.base == str(sound / "base")
    assert configuration.policy == sound / "policy.yaml"
    assert configuration.sources[0].path == sound / "inbox"
    assert configuration.limits.promotions_per_hour == 10


def test_a_hub_id_stays_one_and_a_longer_path_does_not(tmp_path: Path) -> None:
    assert _load(tmp_path, "{state: s, base: owner/name, policy: p}").base == "owner/name"
    assert _load(tmp_path, "{state: s, base: to/a/base, policy: p}").base == str(tmp_path / "to/a/base")
    assert _load(tmp_path, "{state: s, base: ./base, policy: p}").base == str(tmp_path / "base")


def test_the_home_folder_is_understood(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert _load(tmp_path, "{state: '~/state', base: o/n, policy: p}").state == tmp_path / "home" / "state"


def test_the_environment_stands_above_the_file_and_leaves_its_neighbours(
    sound: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ALIGNWATCH_HTTP__PORT", "9999")
    monkeypatch.setenv("ALIGNWATCH_STATE", "other")
    monkeypatch.setenv("ALIGNWATCH_FLEET", json.dumps([{"kind": "vllm", "url": "http://127.0.0.1:1"}]))
    monkeypatch.setenv("ALIGNWATCH_LOG__LEVEL", "")
    configuration = _load(sound, MINIMAL.replace("127.0.0.1", "127.0.0.2"))
    assert (configuration.http.port, configuration.http.host) == (9999, "127.0.0.2")
    assert configuration.state == sound / "other"
    assert [replica.url for replica in configuration.fleet] == ["http://127.0.0.1:1"]
    assert configuration.log.level == "info"


def test_a_file_can_be_left_as_good_as_empty_where_the_environment_says_it_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {"STATE": "s", "BASE": "o/n", "POLICY": "p"}.items():
        monkeypatch.setenv(f"ALIGNWATCH_{name}", value)
    assert _load(tmp_path, "{}").base == "o/n"


# What is refused


@pytest.mark.parametrize(
    ("change", "place", "cause"),
    [
        ("htpp: {port: 1}", "htpp", "did you mean 'http'?"),
        ("http: {prot: 1}", "http.prot", "did you mean 'port'?"),
        ("zzz: 1", "zzz", "known: asked_together, base"),
        ("_env_prefix: ''", "_env_prefix", "unknown setting"),
        ("http: {port: 70000}", "http.port", "less than or equal to 65535"),
        ("sources: [{kind: s3, path: a}]", "sources.0.kind", "'folder'"),
        ("sources: [{kind: folder, path: a, quit_seconds: 1}]", "sources.0.quit_seconds", "'quiet_seconds'"),
        ("fleet: [{kind: vllm}]", "fleet.0.url", "is required"),
        ("fleet: [{kind: vllm, url: 'ftp://a'}]", "fleet.0.url", "pattern"),
        ("fleet: [{kind: vllm, url: 'http://a/v1'}]", "fleet.0.url", "pattern"),
        ("fleet: [{kind: vllm, url: 'http://a', promoted: ./p}]", "fleet.0.promoted", "absolute path"),
        ("fleet: [{kind: vllm, url: 'http://a', promoted: /p/../q}]", "fleet.0.promoted", "absolute path"),
        ("fleet: [{kind: vllm, url: 'http://a', token_env: A, token_file: b}]", "fleet.0", "not both"),
        ("fleet: [{kind: vllm, url: 'http://a'}, {kind: vllm, url: 'http://a/'}]", "fleet", "twice"),
        ("sources: [{kind: folder, path: a/x}, {kind: folder, path: b/x}]", "sources", "'name'"),
        ("sources: [{kind: folder, path: a}, {kind: folder, path: a/b}]", "sources.1.path", "one of its own"),
        ("sources: [{kind: folder, path: ./state}]", "sources.0.path", "lies in state's folder"),
        ("sources: [{kind: folder, path: state/staging}]", "sources.0.path", "lies in state's folder"),
        ("sources: [{kind: folder, path: .}]", "sources.0.path", "or holds it"),
        ("sources: [{kind: folder, path: ''}]", "sources.0.path", "is empty"),
        ("state: ''", "state", "is empty"),
        ("rereview: {after_days: .inf}", "rereview.after_days", "finite"),
        ("retention: {quarantine_days: 0}", "retention.quarantine_days", "greater than 0"),
        ("dtype: int8", "dtype", "'float32'"),
        ("device: 'cuda 1'", "device", "pattern"),
    ],
)
def test_a_mistake_is_refused_in_one_line_that_names_place_and_cause(
    tmp_path: Path, change: str, place: str, cause: str
) -> None:
    raw = yaml.safe_load(MINIMAL) | yaml.safe_load(change)
    line = _refusal(tmp_path, yaml.safe_dump(raw))
    assert f" {place}: " in line
    assert cause in line


def test_all_mistakes_are_named_at_once(tmp_path: Path) -> None:
    line = _refusal(tmp_path, "{base: o/n, htpp: {}, http: {port: x, prot: 1}, log: {level: loud}, threads: 0}")
    for place in ("state", "policy", "htpp", "http.port", "http.prot", "log.level", "threads"):
        assert f" {place}: " in line


@pytest.mark.parametrize(
    ("text", "cause"),
    [
        ("state: [", "line 1, column 9"),
        ("state: a\nbase: b\nstate: c\n", "line 3, column 1: 'state' stands there twice"),
        ("http: {port: 1, port: 2}", "'port' stands there twice"),
        ("state: !!python/object:os.system x", "not YAML"),
        ("- state", "expected settings"),
        ("", "expected settings"),
        ("state: \x07", "not YAML"),
    ],
)
def test_what_is_no_list_of_settings_is_refused(tmp_path: Path, text: str, cause: str) -> None:
    assert cause in _refusal(tmp_path, text)


def test_a_file_that_is_missing_or_in_another_encoding_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"No such file.*--config"):
        load_configuration(tmp_path / "none.yaml")
    (tmp_path / "latin.yaml").write_bytes("state: Prüfung".encode("latin-1"))
    with pytest.raises(ConfigurationError, match="save it as UTF-8"):
        load_configuration(tmp_path / "latin.yaml")


@pytest.mark.parametrize(
    ("variable", "value", "told"),
    [
        ("ALIGNWATCH_HTTP__PORT", "many", "environment variable ALIGNWATCH_HTTP__PORT: "),
        (
            "ALIGNWATCH_HTTP__PROT",
            "1",
            "environment variable ALIGNWATCH_HTTP__PROT: unknown setting; did you mean 'port'?",
        ),
        ("ALIGNWATCH_HTPP__PORT", "1", "environment variable ALIGNWATCH_HTPP__PORT: there is no setting 'htpp'"),
        ("ALIGNWATCH_FLEET", "http://a", "given as JSON"),
        ("ALIGNWATCH_SOURCES", '[{"kind": "folder"}]', "environment variable ALIGNWATCH_SOURCES: is required"),
    ],
)
def test_a_mistake_in_the_environment_is_called_by_the_variables_name(
    sound: Path, monkeypatch: pytest.MonkeyPatch, variable: str, value: str, told: str
) -> None:
    monkeypatch.setenv(variable, value)
    assert told in _refusal(sound, MINIMAL)


# Secrets


def _leaves(model: type[BaseModel], prefix: str = "") -> Iterator[tuple[str, Any, Any]]:
    """Every setting as (dotted name, annotation, default)."""
    for name, field in model.model_fields.items():
        below = [part for part in [field.annotation, *_parts(field.annotation)] if _is_model(part)]
        if below:
            if prefix == "" and not isinstance(field.default, BaseModel):  # a list of groups
                yield name, field.annotation, field.default
            for part in below:
                yield from _leaves(part, f"{prefix}{name}.")
        elif name != "kind":
            yield f"{prefix}{name}", field.annotation, field.default


def _parts(annotation: Any) -> Iterator[Any]:
    for part in get_args(annotation):
        yield part
        yield from _parts(part)


def _is_model(annotation: Any) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, BaseModel)


LEAVES = {name: (annotation, default) for name, annotation, default in _leaves(ServiceConfiguration)}
FREE_TEXT = {"base", "device", "sources.name", "fleet.url", "fleet.token_env", "fleet.base", "http.host"}
"""Every setting that holds text of the operator's choosing; each of them was looked at: none is a secret."""


def test_no_setting_can_hold_a_secret() -> None:
    texts = {name for name, (annotation, _) in LEAVES.items() if annotation is str or str in _parts(annotation)}
    assert texts == FREE_TEXT
    secretive = {name for name in LEAVES if re.search(r"token|key|secret|password|credential|auth", name)}
    assert {n for n in secretive if not n.endswith("_env")} == {"fleet.token_file", "http.tokens"}
    for name in ("fleet.token_file", "http.tokens"):
        assert Path in _parts(LEAVES[name][0])


SECRET = "hunter2secret"


@pytest.mark.parametrize(
    "change",
    [
        {"fleet": [{"kind": "vllm", "url": f"http://user:{SECRET}@host:1"}]},
        {"fleet": [{"kind": "vllm", "url": f"http://host?token={SECRET}"}]},
        {"fleet": [{"kind": "vllm", "url": "http://host", "token_env": SECRET}]},
        {"fleet": [{"kind": "vllm", "url": "http://host", "token": SECRET}]},
        {"http": {"tokens": [SECRET]}},
        {"http": {"password": SECRET}},
        {"http": {"port": SECRET}},
        {"api_key": SECRET},
        {"device": f"{SECRET}!"},
    ],
)
def test_a_secret_that_was_put_into_the_file_is_refused_and_not_repeated(
    tmp_path: Path, change: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    text = yaml.safe_dump(yaml.safe_load(MINIMAL) | change)
    assert SECRET not in _refusal(tmp_path, text)
    problems, notes = check_configuration(tmp_path / "alignwatch.yaml")
    assert problems
    assert SECRET not in "".join([*problems, *notes, *capsys.readouterr()])


def test_a_broken_line_of_the_file_is_not_repeated(tmp_path: Path) -> None:
    assert SECRET not in _refusal(tmp_path, f"state: a\nfleet: [token: {SECRET}\nbase: b")
    assert SECRET not in _refusal(tmp_path, f"state: a\ntoken: {SECRET}: x\n")


# Looking before it is used


def test_a_sound_configuration_has_no_problem_and_no_note(sound: Path) -> None:
    assert check_configuration(sound / "alignwatch.yaml") == ([], [])
    assert not (sound / "state").exists(), "a check makes nothing"


def test_everything_that_is_missing_is_listed_in_one_go(sound: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_SUCH_TOKEN", raising=False)
    (sound / "empty").write_text("\n")
    (sound / "file").write_text("")
    (sound / "blocked").write_text("")
    (sound / "policy.yaml").write_text(
        "{name: p, suites: [none], reference: ref, screening: {training_data: rows.jsonl}, judge: "
        '{kind: openai, base_url: "http://127.0.0.1:1/v1", model: j, api_key_env: NO_SUCH_KEY}, '
        'generation: {kind: vllm, url: "http://127.0.0.1:2/", api_key_env: NO_REVIEW_KEY}}'
    )
    text = """
state: blocked/state
base: ./nowhere
policy: policy.yaml
sources: [{kind: folder, path: later}, {kind: folder, path: file}]
fleet:
  - {kind: vllm, url: "http://127.0.0.1:1", token_env: NO_SUCH_TOKEN}
  - {kind: vllm, url: "http://127.0.0.1:2", token_file: empty}
  - {kind: vllm, url: "http://127.0.0.1:3", token_file: none}
http: {host: 0.0.0.0, tokens: none}
"""
    problems, notes = check_configuration(_write(sound, text))
    for start in (
        "base ",
        f"policy {sound}/policy.yaml: suite {sound}/none",
        f"policy {sound}/policy.yaml: judge.api_key_env: the environment has no NO_SUCH_KEY",
        f"policy {sound}/policy.yaml: generation.api_key_env: the environment has no NO_REVIEW_KEY",
        f"policy {sound}/policy.yaml: generation.url: http://127.0.0.1:2/ is in the fleet, too",
        f"policy {sound}/policy.yaml: reference: ",
        f"policy {sound}/policy.yaml: screening.training_data: ",
        "state: ",
        "sources.1.path: ",
        "fleet.0.token_env: the environment has no NO_SUCH_TOKEN",
        "fleet.1.token_file: ",
        "fleet.2.token_file: ",
        "http.tokens: ",
    ):
        assert [line for line in problems if line.startswith(start)], start
    assert len(problems) == 13
    assert [note.split(":")[0] for note in notes] == ["sources.0.path"]


@pytest.mark.parametrize(
    ("policy", "told"),
    [
        ("name: p\nrulez: {}", "rulez: unknown setting"),
        ('{name: p, judge: {kind: openai, base_url: "http://a/v1", model: j}}', "suites: names none"),
        ("{name: p, suites: [suite]}", "judge: is missing"),
        ("{name: p, suites: [suite], judge: {kind: local, path: none}}", "judge.path: "),
        (
            "{name: p, suites: [suite], judge: {kind: local, path: base}, remedies: [project]}",
            "project needs reference",
        ),
    ],
)
def test_a_policy_that_cannot_be_used_is_a_problem(sound: Path, policy: str, told: str) -> None:
    (sound / "policy.yaml").write_text(policy)
    problems, _ = check_configuration(sound / "alignwatch.yaml")
    assert len(problems) == 1
    assert problems[0].startswith(f"policy {sound}/policy.yaml: ")
    assert told in problems[0]


def test_a_policy_that_only_observes_is_a_note(sound: Path) -> None:
    (sound / "policy.yaml").write_text((sound / "policy.yaml").read_text() + "mode: observe\n")
    problems, notes = check_configuration(sound / "alignwatch.yaml")
    assert problems == []
    assert "promotes and quarantines nothing" in notes[0]


def _seen_as(folder: Path, promoted: Path) -> list[str]:
    replica = {"kind": "vllm", "url": "http://127.0.0.1:1", "promoted": str(promoted)}
    return check_configuration(_write(folder, yaml.safe_dump(yaml.safe_load(MINIMAL) | {"fleet": [replica]})))[0]


def test_a_server_that_would_see_the_quarantine_is_a_problem(sound: Path) -> None:
    (sound / "state" / "quarantine").mkdir(parents=True)
    (sound / "link").symlink_to(sound / "state")
    for view in (sound / "state", sound, sound / "link", sound / "state/quarantine", Path("/elsewhere/quarantine")):
        (problem,) = _seen_as(sound, view)
        assert problem.startswith("fleet.0.promoted: ")
        assert "quarantine" in problem
    (problem,) = _seen_as(sound, sound / "state" / "reviews")
    assert "leave it out" in problem
    for view in (sound / "state/promoted", sound / "link/promoted", Path("/models/promoted"), Path("/adapters")):
        assert _seen_as(sound, view) == []


def test_a_quarantine_that_leads_into_the_promoted_folder_is_a_problem(sound: Path) -> None:
    (sound / "state" / "promoted" / "q").mkdir(parents=True)
    (sound / "state" / "quarantine").symlink_to(sound / "state/promoted/q")
    (problem,) = check_configuration(sound / "alignwatch.yaml")[0]
    assert "undo the link" in problem


def test_what_secrets_are_named_is_looked_for_and_never_shown(
    sound: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("ALIGNWATCH_VLLM_TOKEN", SECRET)
    monkeypatch.setenv("ALIGNWATCH_TYPPO", SECRET)
    (sound / "token").write_text(SECRET)
    fleet = [
        {"kind": "vllm", "url": "http://127.0.0.1:1", "token_env": "ALIGNWATCH_VLLM_TOKEN"},
        {"kind": "vllm", "url": "http://127.0.0.1:2", "token_file": "token"},
    ]
    problems, notes = check_configuration(_write(sound, yaml.safe_dump(yaml.safe_load(MINIMAL) | {"fleet": fleet})))
    assert problems == []
    assert [note for note in notes if "ALIGNWATCH_TYPPO" in note] == notes
    assert SECRET not in "".join([*notes, *capsys.readouterr()])


@pytest.mark.parametrize(("offline", "weight"), [("1", 0), ("0", 1)])
def test_a_hub_id_that_is_not_cached_is_a_problem_only_where_it_cannot_be_fetched(
    sound: Path, monkeypatch: pytest.MonkeyPatch, offline: str, weight: int
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", offline)
    text = MINIMAL.replace("./base", "nobody/has-this-model")
    remarks = check_configuration(_write(sound, text))
    assert "nobody/has-this-model" in remarks[weight][0]
    assert remarks[1 - weight] == []


def test_listening_for_everybody_takes_tokens_that_can_be_used(sound: Path) -> None:
    text = MINIMAL.replace("127.0.0.1, port", "0.0.0.0, port")
    (problem,) = check_configuration(_write(sound, text))[0]
    assert problem.startswith("http.tokens: ")
    text = text.replace("port: 9464", "port: 9464, tokens: tokens")
    assert len(check_configuration(_write(sound, text))[0]) == 1
    token = create_token(sound / "tokens", "me", "read")
    assert check_configuration(_write(sound, text)) == ([], [])
    (sound / "tokens").chmod(0o666)
    (problem,) = check_configuration(_write(sound, text))[0]
    assert "chmod 600" in problem
    assert token not in problem


def test_the_check_and_the_settings_load_no_model_library() -> None:
    code = "import sys, monitor.configuration_check; sys.exit('torch' in sys.modules or 'transformers' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=DOCS.parent)


# The document


def _documented() -> dict[str, str]:
    rows = re.findall(
        r"^\| `([a-z_.]+)` \| [^|]+ \| ([^|]+) \| [^|]{12,} \|$", (DOCS / "configuration.md").read_text(), re.MULTILINE
    )
    assert len(rows) == len(dict(rows)), "a setting is documented twice"
    return {name: default.strip() for name, default in rows}


def test_every_setting_is_documented_and_no_other() -> None:
    assert set(_documented()) == set(LEAVES)


@pytest.mark.parametrize("name", sorted(LEAVES))
def test_a_setting_is_documented_with_its_default(name: str) -> None:
    default, told = LEAVES[name][1], _documented()[name]
    if default is PydanticUndefined:
        assert told == "required"
    else:
        value = yaml.safe_load(told.strip("`"))
        assert (tuple(value) if isinstance(value, list) else value) == default


def test_the_documents_example_can_be_loaded(tmp_path: Path) -> None:
    (example,) = re.findall(r"^```yaml\n(.*?)\n```$", (DOCS / "configuration.md").read_text(), re.DOTALL | re.MULTILINE)
    assert _load(tmp_path, example).http.port == 9464
