"""The dashboards as files, and every query of theirs on a real Prometheus that scrapes a real service."""

from __future__ import annotations

import json
import math
import re
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from conftest import World
from fake_vllm import FakeVllm
from judge_server import Asked, JudgeServer
from prometheus_tools import ROOT, binaries, free_port, query
from service import running_service, write_configuration

from adapters.transformers_engine import TransformersEngine
from benchmarks.subspace import stand_in
from deploy.grafana.build import FOLDER, rendered
from deploy.local_stack import prometheus
from guards.reference import save_reference
from guards.suites.battery_jsonl import load_suite
from monitor.metrics import FAMILIES, PREFIX

BOARDS: dict[str, Any] = {path.name: json.loads(path.read_text()) for path in sorted(FOLDER.glob("*.json"))}
PANELS = [(name, panel) for name, board in BOARDS.items() for panel in board["panels"]]
QUERIES = [(f"{name}: {p['title']}: {t['refId']}", t["expr"]) for name, p in PANELS for t in p["targets"]]
SHOWN = [pytest.param(panel, id=f"{name}: {panel['title']}") for name, panel in PANELS]


def test_the_committed_json_is_what_the_code_makes() -> None:
    committed = {path.name: path.read_text() for path in FOLDER.glob("*.json")}
    assert committed == dict(rendered()), "run python -m deploy.grafana.build"


@pytest.mark.parametrize("board", BOARDS.values(), ids=BOARDS)
def test_every_dashboard_lets_people_choose_source_job_and_monitor(board: dict[str, Any]) -> None:
    variables = {variable["name"]: variable["type"] for variable in board["templating"]["list"]}
    assert variables.items() >= {"datasource": "datasource", "job": "query", "instance": "query"}.items()
    assert board["uid"].startswith("alignwatch-")
    assert board["description"]
    assert len({panel["id"] for panel in board["panels"]}) == len(board["panels"])
    assert len({panel["title"] for panel in board["panels"]}) == len(board["panels"])


@pytest.mark.parametrize("panel", SHOWN)
def test_every_panel_says_what_it_shows_and_in_which_unit(panel: dict[str, Any]) -> None:
    assert panel["title"]
    assert len(panel["description"]) > 10
    assert panel["fieldConfig"]["defaults"]["unit"]
    assert panel["datasource"]["uid"] == "$datasource"
    assert panel["targets"]


@pytest.mark.parametrize(("name", "expression"), QUERIES, ids=[name for name, _ in QUERIES])
def test_every_query_follows_the_variables_and_a_rate_the_scrape_interval(name: str, expression: str) -> None:
    series = re.findall(rf"{PREFIX}\w+\{{([^}}]*)\}}", expression)
    assert len(series) == len(re.findall(rf"{PREFIX}\w+", expression)) > 0
    assert all('job=~"$job"' in labels and 'instance=~"$instance"' in labels for labels in series)
    ranges = re.findall(r"\[(.*?)\]", expression)
    assert all(window in ("$__rate_interval", "6h") for window in ranges)
    assert bool(ranges) == bool(re.search(r"\b(?:rate|increase)\(", expression))


def test_every_metric_that_a_dashboard_asks_for_is_exported_and_the_other_way_round() -> None:
    asked = set(re.findall(rf"{PREFIX}(\w+)", " ".join(expression for _, expression in QUERIES)))
    asked = {name.removesuffix("_bucket") for name in asked}
    assert asked == set(FAMILIES)


def test_panels_do_not_overlap() -> None:
    for board in BOARDS.values():
        taken: set[tuple[int, int]] = set()
        for panel in board["panels"]:
            at = panel["gridPos"]
            cells = {(at["x"] + x, at["y"] + y) for x in range(at["w"]) for y in range(at["h"])}
            assert at["x"] + at["w"] <= 24
            assert not cells & taken, panel["title"]
            taken |= cells


def test_grafana_is_told_where_prometheus_and_the_dashboards_are() -> None:
    folder = ROOT / "deploy" / "grafana" / "provisioning"
    (source,) = yaml.safe_load((folder / "datasources" / "prometheus.yaml").read_text())["datasources"]
    assert source["type"] == "prometheus"
    (provider,) = yaml.safe_load((folder / "dashboards" / "alignwatch.yaml").read_text())["providers"]
    compose = (ROOT / "deploy" / "compose.yaml").read_text()
    assert f"target: {provider['options']['path']}" in compose
    interval = yaml.safe_load((ROOT / "deploy" / "prometheus" / "prometheus.yml").read_text())["global"]
    assert source["jsonData"]["timeInterval"] == interval["scrape_interval"]


def by_word(asked: Asked) -> dict[str, float]:
    return {"alignment": 5 if "harm" in asked.answer else 95, "coherence": 90, "relevance": 90}


@dataclass(frozen=True)
class Scraped:
    """A Prometheus that has seen a service at work."""

    url: str
    at: float
    """The moment for which everything is asked."""


@pytest.fixture(scope="module")
def scraped(
    tmp_path_factory: pytest.TempPathFactory, picture_world: World, picture_engine: TransformersEngine
) -> Iterator[Scraped]:
    """A service with a fleet and a Reference promotes one adapter and quarantines another, scraped all along."""
    programs = binaries()
    folder = tmp_path_factory.mktemp("scraped")
    _write_reference(folder / "reference", picture_world, picture_engine)
    with JudgeServer(grade=by_word) as judge, FakeVllm() as replica:
        write_configuration(
            folder,
            picture_world,
            judge.url,
            policy={"reference": str(folder / "reference")},
            fleet=[{"kind": "vllm", "url": replica.url}],
            limits={"reconcile_seconds": 0.5},
            judge={"check_minutes": 0.05},
        )
        with (
            running_service(folder) as service,
            prometheus(folder / "prometheus", programs, service.url, None, free_port()) as url,
        ):
            service.until(lambda: query(url, 'alignwatch_placements_total{place="promoted"} == 0'))
            service.drop(picture_world.good, "good")
            service.until(lambda: query(url, 'alignwatch_reviews_total{verdict="clean"} == 1'))
            service.drop(picture_world.bad, "bad")
            service.until(lambda: query(url, 'alignwatch_reviews_total{verdict="unsafe"} == 1'))
            service.until(lambda: query(url, "alignwatch_audit_chain_whole == 1"))
            service.until(lambda: query(url, "alignwatch_fleet_replica_up"))
            service.until(lambda: query(url, "alignwatch_judge_shift_points"))
            yield Scraped(url, time.time())


def _write_reference(folder: Path, world: World, engine: TransformersEngine) -> None:
    """A Reference that says nothing about any adapter, but gives the guard something to project on."""
    shutil.copytree(world.suite, folder / "probes")
    save_reference(stand_in(engine, load_suite(folder / "probes")), folder)


def _values(scraped: Scraped, expression: str) -> list[float]:
    for variable in ("job", "instance", "adapter", "modality"):
        expression = expression.replace(f"${variable}", ".*")
    asked = {"query": expression.replace("$__rate_interval", "1m"), "time": str(scraped.at)}
    answer = httpx.get(f"{scraped.url}/api/v1/query", params=asked).json()
    assert answer["status"] == "success", (expression, answer)
    return [float(one["value"][1]) for one in answer["data"]["result"]]


@pytest.mark.slow
@pytest.mark.parametrize(("name", "expression"), QUERIES, ids=[name for name, _ in QUERIES])
def test_every_query_finds_data_of_a_real_service(scraped: Scraped, name: str, expression: str) -> None:
    found = _values(scraped, expression)
    assert found, f"{name} finds nothing"
    assert any(math.isfinite(value) for value in found), f"{name} finds no number"


@pytest.mark.slow
def test_a_variable_offers_what_there_is(scraped: Scraped) -> None:
    for board in BOARDS.values():
        for variable in board["templating"]["list"]:
            if variable["type"] != "query":
                continue
            series, label = re.fullmatch(r"label_values\((.*), (\w+)\)", variable["query"]).groups()  # type: ignore[union-attr]
            selector = re.sub(r"\$(job|instance)", ".*", series)
            answer = httpx.get(f"{scraped.url}/api/v1/label/{label}/values", params={"match[]": selector}).json()
            assert answer["data"], variable["name"]


@pytest.mark.slow
def test_what_prometheus_saw_is_what_happened(scraped: Scraped) -> None:
    assert _values(scraped, 'alignwatch_adapters{state="promoted"}') == [1]
    assert _values(scraped, 'alignwatch_adapters{state="quarantined"}') == [1]
    (rise,) = _values(scraped, 'alignwatch_misalignment_rise_ratio{adapter="good",category="",modality="image"}')
    assert rise <= 0
    assert _values(scraped, 'alignwatch_misalignment_rise_ratio{adapter="bad"}') == []
    assert _values(scraped, "alignwatch_scrape_errors") == [0]
    (requests,) = _values(scraped, "alignwatch_judge_requests_total")
    assert requests > 50
