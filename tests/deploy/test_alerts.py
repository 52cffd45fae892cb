"""The alerts as files: valid, tried by fixtures in both directions, and each with a page that tells what to do."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_tools import ROOT, run

from monitor.metrics import FAMILIES, PREFIX

PROMETHEUS = ROOT / "deploy" / "prometheus"
RUNBOOKS = ROOT / "docs" / "runbooks"
RULES: list[dict[str, Any]] = [
    rule for group in yaml.safe_load((PROMETHEUS / "alerts.yaml").read_text())["groups"] for rule in group["rules"]
]
FIXTURES: list[dict[str, Any]] = yaml.safe_load((PROMETHEUS / "alerts.test.yaml").read_text())["tests"]
NAMES = [rule["alert"] for rule in RULES]
ALWAYS = "AlignwatchWatchdog"


def exported() -> set[str]:
    """Every name that can stand in a query, by what the collector declares."""
    names = set()
    for family in FAMILIES.values():
        endings = ("_bucket", "_sum", "_count") if family.kind == "histogram" else ("",)
        names |= {f"{PREFIX}{family.name}{ending}" for ending in endings}
    return names


def asked_for(text: str) -> set[str]:
    return set(re.findall(rf"\b{PREFIX}\w+", text))


def test_promtool_finds_nothing_wrong_with_the_rules() -> None:
    done = run("promtool", "check", "rules", "--lint=all", "--lint-fatal", PROMETHEUS / "alerts.yaml")
    assert done.returncode == 0, done.stderr
    assert f"SUCCESS: {len(RULES)} rules found" in done.stdout


def test_every_fixture_comes_out_as_it_says() -> None:
    done = run("promtool", "test", "rules", PROMETHEUS / "alerts.test.yaml")
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("broken", ["vector(0) > 1", "vector(1)"], ids=["never fires", "fires always"])
def test_the_fixtures_notice_a_rule_that(broken: str, tmp_path: Path) -> None:
    """Each rule is broken in turn."""
    rules = yaml.safe_load((PROMETHEUS / "alerts.yaml").read_text())
    for rule in (rule for group in rules["groups"] for rule in group["rules"]):
        if rule["expr"] == broken:
            continue  # the watchdog
        kept = rule.pop("for", None), rule["expr"]
        rule["expr"] = broken
        (tmp_path / "alerts.yaml").write_text(yaml.safe_dump(rules))
        only = [test for test in FIXTURES if test["alert_rule_test"][0]["alertname"] == rule["alert"]]
        fixtures = {"rule_files": ["alerts.yaml"], "evaluation_interval": "1m", "tests": only}
        (tmp_path / "tests.yaml").write_text(yaml.safe_dump(fixtures))
        done = run("promtool", "test", "rules", tmp_path / "tests.yaml")
        assert done.returncode != 0, rule["alert"]
        rule["expr"] = kept[1]


@pytest.mark.parametrize("name", NAMES)
def test_every_alert_fires_in_a_fixture_and_stays_quiet_in_another(name: str) -> None:
    cases = [case for test in FIXTURES for case in test["alert_rule_test"] if case["alertname"] == name]
    assert any(case["exp_alerts"] for case in cases)
    assert name == ALWAYS or any(not case["exp_alerts"] for case in cases)


@pytest.mark.parametrize("rule", RULES, ids=NAMES)
def test_every_alert_tells_how_bad_what_and_where_to_read_on(rule: dict[str, Any]) -> None:
    severities = ("none",) if rule["alert"] == ALWAYS else ("critical", "warning")
    assert rule["labels"]["severity"] in severities
    assert set(rule["annotations"]) == {"summary", "description", "runbook_url"}
    assert rule["annotations"]["runbook_url"].endswith(f"/{rule['alert']}.md")
    assert "docs/runbooks" in rule["annotations"]["runbook_url"]
    assert rule["alert"].startswith("Alignwatch")


@pytest.mark.parametrize("name", NAMES)
def test_every_alert_has_a_page_that_tells_what_to_do(name: str) -> None:
    text = (RUNBOOKS / f"{name}.md").read_text()
    assert text.startswith(f"# {name}\n")
    for head in ("What it means", "What to look at", "What to do", "How to silence"):
        assert f"\n## {head}\n\n" in text
    assert asked_for(text) <= exported() | {PREFIX + name for name in FAMILIES}
    assert set(re.findall(r"`(Alignwatch\w+)`", text)) <= set(NAMES)


def test_there_is_no_page_without_an_alert() -> None:
    assert {page.stem for page in RUNBOOKS.glob("*.md")} == set(NAMES)


def test_every_metric_that_an_alert_asks_for_is_exported() -> None:
    wanted = asked_for(" ".join(rule["expr"] for rule in RULES))
    assert len(wanted) > 15
    assert wanted - exported() == set()


def test_the_fixtures_use_labels_that_the_series_have() -> None:
    for test in FIXTURES:
        for series in test["input_series"]:
            name, labels = re.fullmatch(r"(\w+)\{(.*)\}", series["series"]).groups()  # type: ignore[union-attr]
            if not name.startswith(PREFIX):
                continue
            given = set(re.findall(r"(\w+)=", labels)) - {"job", "instance"}
            assert given == set(FAMILIES[name.removeprefix(PREFIX)].labels), series["series"]


def test_prometheus_takes_its_configuration() -> None:
    done = run("promtool", "check", "config", PROMETHEUS / "prometheus.yml")
    assert done.returncode == 0, done.stderr
    (scrape,) = yaml.safe_load((PROMETHEUS / "prometheus.yml").read_text())["scrape_configs"]
    assert f'up{{job="{scrape["job_name"]}"}}' in " ".join(rule["expr"] for rule in RULES)


def test_alertmanager_takes_its_configuration_and_names_only_alerts_that_exist() -> None:
    path = ROOT / "deploy" / "alertmanager" / "alertmanager.yml"
    done = run("amtool", "check-config", path)
    assert done.returncode == 0, done.stderr
    named = set(re.findall(r"Alignwatch[A-Z]\w+", path.read_text()))
    assert named
    assert named <= set(NAMES)


def test_the_runbooks_commands_are_those_that_there_are() -> None:
    told = {
        command
        for page in RUNBOOKS.glob("*.md")
        for command in re.findall(r"`alignwatch ((?:audit )?[a-z]+)", page.read_text())
    }
    code = "import sys; sys.argv = ['alignwatch', '--help']; from monitor.cli import main; main()"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert told
    assert {command.split()[0] for command in told} <= set(re.findall(r"[a-z]+", done.stdout))


def test_the_page_on_metrics_names_every_metric_alert_and_label_and_no_other() -> None:
    text = (ROOT / "docs" / "metrics.md").read_text()
    rows = {found[1]: found for found in re.finditer(r"^\| `(\w+)` \| (\w+) \| (.*?) \| (.*) \|$", text, re.MULTILINE)}
    assert set(rows) == set(FAMILIES)
    for name, family in FAMILIES.items():
        assert rows[name][2] == family.kind
        assert re.findall(r"`(\w+)`", rows[name][3]) == list(family.labels)
        assert rows[name][4] == family.help
    alerts = dict(re.findall(r"^\| \[(\w+)\]\(runbooks/\1\.md\) \| (\w+) \|", text, re.MULTILINE))
    assert alerts == {rule["alert"]: rule["labels"]["severity"] for rule in RULES}
    for rule in RULES:
        assert " ".join(rule["expr"].split()).replace("|", "\\|") in text
