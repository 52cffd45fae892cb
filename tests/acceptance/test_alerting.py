"""From a dropped folder to somebody's webhook: the real service, Debian's Prometheus and Alertmanager, on loopback."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from conftest import World
from judge_server import Asked, JudgeServer
from prometheus_tools import ROOT, binaries, free_port, query
from service import running_service, write_configuration

from deploy.local_stack import Receiver, prometheus, running, until, until_ready

CONFIG = ROOT / "deploy" / "alertmanager" / "alertmanager.yml"


def by_word(asked: Asked) -> dict[str, float]:
    return {"alignment": 5 if "harm" in asked.answer else 95, "coherence": 90, "relevance": 90}


def at_once(config: dict[str, Any], people: str, watchdog: str) -> dict[str, Any]:
    """The shipped configuration with receivers of the test and without its waits; routes and inhibitions stay."""
    for route in (config["route"], *config["route"]["routes"]):
        route |= {"group_wait": "0s", "group_interval": "1s"}
    for receiver in config["receivers"]:
        receiver["webhook_configs"][0]["url"] = {"people": people, "watchdog": watchdog}[receiver["name"]]
    return config


@contextmanager
def shipped_alertmanager(folder: Path, people: Receiver, watchdog: Receiver) -> Iterator[str]:
    config = at_once(yaml.safe_load(CONFIG.read_text()), people.url, watchdog.url)
    (folder / "alertmanager.yml").write_text(yaml.safe_dump(config))
    url = f"http://127.0.0.1:{free_port()}"
    command = [
        binaries()["alertmanager"],
        f"--config.file={folder / 'alertmanager.yml'}",
        f"--storage.path={folder / 'alertmanager'}",
        f"--web.listen-address={url.removeprefix('http://')}",
        "--cluster.listen-address=",
    ]
    with running(command, folder / "alertmanager.log") as process:
        yield until_ready(url, process, folder / "alertmanager.log")


@pytest.mark.slow
def test_a_harmful_arrival_and_then_the_monitors_end_reach_somebodys_webhook(
    tmp_path: Path, picture_world: World
) -> None:
    programs = binaries()
    with JudgeServer(grade=by_word) as judge, Receiver() as people, Receiver() as watchdog:
        write_configuration(tmp_path, picture_world, judge.url)
        with (
            running_service(tmp_path) as service,
            shipped_alertmanager(tmp_path, people, watchdog) as manager,
            prometheus(tmp_path / "prometheus", programs, service.url, manager, free_port()) as url,
        ):
            service.until(lambda: "AlignwatchWatchdog" in watchdog.firing())
            service.drop(picture_world.good, "good")
            service.until(lambda: query(url, 'alignwatch_placements_total{place="promoted"} == 1'))
            # Before its first scrape Prometheus had rightly said that it knows of no monitor.
            assert people.firing() <= {"AlignwatchDown"}, "a healthy service alerts, though nothing has to last here"

            service.drop(picture_world.bad, "bad")
            service.until(lambda: "AlignwatchAdapterQuarantined" in people.firing())
            assert service.places() == {"good": "promoted", "bad": "quarantined"}
            alert = _received(people, "AlignwatchAdapterQuarantined")
            assert alert["labels"]["severity"] == "warning"
            assert alert["labels"]["instance"] == service.url.removeprefix("http://")
            assert (ROOT / alert["annotations"]["runbook_url"]).is_file()
            assert "1 adapters were quarantined" in alert["annotations"]["description"]
            assert people.firing() <= {"AlignwatchDown", "AlignwatchAdapterQuarantined"}

            people.alerts.clear()
            assert service.stop() == 0
            _until(lambda: "AlignwatchDown" in people.firing())
            assert _received(people, "AlignwatchDown")["labels"]["severity"] == "critical"
            _until(lambda: _inhibited(manager, "AlignwatchAdapterQuarantined"))


def _received(receiver: Receiver, name: str) -> dict[str, Any]:
    return next(alert for alert in receiver.alerts if alert["labels"]["alertname"] == name)


def _inhibited(manager: str, name: str) -> bool:
    alerts = httpx.get(f"{manager}/api/v2/alerts", timeout=10).json()
    return any(alert["status"]["inhibitedBy"] for alert in alerts if alert["labels"]["alertname"] == name)


def _until(what: Callable[[], object]) -> None:
    assert until(what, 60)
