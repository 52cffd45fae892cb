"""Prometheus and Alertmanager on loopback around one running service, with a receiver for the alerts.

For the demo and for tests. Rules and expressions are those of ``deploy/prometheus/alerts.yaml``; only their ``for:``
is taken out, so that an alert fires at the next evaluation instead of minutes later.
"""

from __future__ import annotations

import json
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.request import urlopen

import yaml

DEPLOY = Path(__file__).parent
RULES = DEPLOY / "prometheus" / "alerts.yaml"


class StackError(Exception):
    """A program could not be found or started; the message names the cause and the next step."""


def find_binaries() -> dict[str, str]:
    """Return the paths of prometheus, promtool, alertmanager and amtool, fetched where they are not there yet.

    Raises:
        StackError: they cannot be had.
    """
    found = subprocess.run([str(DEPLOY / "prometheus" / "get-binaries")], capture_output=True, text=True)  # noqa: S603
    if found.returncode != 0:
        raise StackError(found.stderr.strip().splitlines()[-1])
    return dict(line.split("=", 1) for line in found.stdout.splitlines())


def hastened(rules: str) -> str:
    """Return alerting rules with every ``for:`` and ``keep_firing_for:`` taken out, and nothing else changed."""
    parsed = yaml.safe_load(rules)
    for group in parsed["groups"]:
        group.pop("interval", None)
        for rule in group["rules"]:
            rule.pop("for", None)
            rule.pop("keep_firing_for", None)
    return yaml.safe_dump(parsed, sort_keys=False)


class Receiver:
    """Keeps every alert that Alertmanager posts."""

    def __init__(self) -> None:
        self.alerts: list[dict[str, Any]] = []
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                receiver.alerts += json.loads(body)["alerts"]
                self.send_response(200)
                self.end_headers()

            def log_message(self, *_arguments: Any) -> None:
                """Say nothing: the alerts themselves are what is told."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05})

    @property
    def url(self) -> str:
        """Where to post."""
        return f"http://127.0.0.1:{self._server.server_port}/"

    def firing(self) -> set[str]:
        """Return the names of the alerts that were received while firing."""
        return {alert["labels"]["alertname"] for alert in self.alerts if alert["status"] == "firing"}

    def __enter__(self) -> Receiver:
        self._thread.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


@contextmanager
def running(
    command: list[str], log: Path, environment: Mapping[str, str] | None = None
) -> Iterator[subprocess.Popen[bytes]]:
    """Run a program for the duration of a ``with`` block: asked to end, then made to."""
    with log.open("ab") as out:
        process = subprocess.Popen(command, stdout=out, stderr=subprocess.STDOUT, env=environment)  # noqa: S603
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(15)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@contextmanager
def alertmanager(folder: Path, binaries: Mapping[str, str], receiver: str, port: int) -> Iterator[str]:
    """Run Alertmanager, sending every alert to ``receiver`` at once, and yield its address."""
    folder.mkdir(parents=True, exist_ok=True)
    config = {
        "route": {"receiver": "here", "group_by": ["..."], "group_wait": "0s", "group_interval": "1s"},
        "receivers": [{"name": "here", "webhook_configs": [{"url": receiver, "send_resolved": True}]}],
    }
    (folder / "alertmanager.yml").write_text(yaml.safe_dump(config))
    command = [
        binaries["alertmanager"],
        f"--config.file={folder / 'alertmanager.yml'}",
        f"--storage.path={folder / 'alertmanager'}",
        f"--web.listen-address=127.0.0.1:{port}",
        "--cluster.listen-address=",
    ]
    with running(command, folder / "alertmanager.log") as process:
        yield until_ready(f"http://127.0.0.1:{port}", process, folder / "alertmanager.log")


@contextmanager
def prometheus(
    folder: Path, binaries: Mapping[str, str], target: str, alerts_to: str | None, port: int
) -> Iterator[str]:
    """Run Prometheus, scraping ``target`` (``http://host:port``) every second, and yield its address."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "alerts.yaml").write_text(hastened(RULES.read_text(encoding="utf-8")))
    config: dict[str, Any] = {
        "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
        "rule_files": ["alerts.yaml"],
        "scrape_configs": [
            {"job_name": "alignwatch", "static_configs": [{"targets": [target.removeprefix("http://")]}]}
        ],
    }
    if alerts_to is not None:
        managers = {"static_configs": [{"targets": [alerts_to.removeprefix("http://")]}]}
        config["alerting"] = {"alertmanagers": [managers]}
    (folder / "prometheus.yml").write_text(yaml.safe_dump(config))
    command = [
        binaries["prometheus"],
        f"--config.file={folder / 'prometheus.yml'}",
        f"--storage.tsdb.path={folder / 'prometheus'}",
        f"--web.listen-address=127.0.0.1:{port}",
        # What fires before Prometheus has looked for its Alertmanager is sent to nobody, and else again in a minute.
        "--rules.alert.resend-delay=5s",
    ]
    with running(command, folder / "prometheus.log") as process:
        yield until_ready(f"http://127.0.0.1:{port}", process, folder / "prometheus.log")


def until_ready(url: str, process: subprocess.Popen[bytes], log: Path, seconds: float = 60) -> str:
    """Wait until a program says that it is ready, and return its address.

    Raises:
        StackError: it ended, or took too long; the message ends with the last line of its log.
    """

    def ready() -> bool:
        with suppress(URLError, OSError), urlopen(f"{url}/-/ready", timeout=2) as reply:  # noqa: S310 - loopback
            return bool(reply.status == 200)
        return False

    if until(lambda: process.poll() is not None or ready(), seconds) and process.poll() is None:
        return url
    last = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()[-1:]
    raise StackError(f"{log.stem} did not start; its log ends with: {' '.join(last)}")


def until(what: Callable[[], object], seconds: float) -> bool:
    """Ask again and again whether something holds, and say whether it came to hold in time."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if what():
            return True
        time.sleep(0.2)
    return False
