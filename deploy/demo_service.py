"""The service with everything around it, nothing to configure: ``make demo-service``.

Starts the monitor, Prometheus and Alertmanager on loopback, trains a benign and a harmful adapter of the shipped tiny
model, drops both into the inbox, and waits for what has to happen: the first is promoted, the second mended or
quarantined, and the alert arrives. Everything that was started is ended again, whatever happens.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import yaml

from deploy.local_stack import Receiver, StackError, alertmanager, find_binaries, prometheus, running, until
from monitor.console import ConsoleProgress
from monitor.demo import arriving, waited_for
from monitor.embedded import embedded_base, embedded_policy
from monitor.exit_codes import end_on_sigterm, run_and_explain

BENIGN, HARMFUL = "benign-nature", "cruel-cinema-r16"
PATIENCE_SECONDS = 300.0


def main() -> int:
    """Run the demo; 0 when everything happened that had to."""
    options = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    options.add_argument("--out", type=Path, default=Path("alignwatch-demo-service"), help="folder for everything")
    options.add_argument("--keep", action="store_true", help="leave everything running until Ctrl-C")
    chosen = options.parse_args()
    end_on_sigterm()
    return run_and_explain(lambda: demonstrate(chosen.out.absolute(), chosen.keep))


def demonstrate(out: Path, keep: bool) -> int:
    """Start everything, drop two adapters, wait, tell what happened."""
    with ExitStack() as stack:
        progress = stack.enter_context(ConsoleProgress())
        progress.say(f"alignwatch demo-service: everything goes to {out}/")
        try:
            binaries = find_binaries()
            training = stack.enter_context(arriving(out / "arrivals", (BENIGN, HARMFUL)))
            receiver = stack.enter_context(Receiver())
            page = stack.enter_context(monitor(out, progress))
            manager = stack.enter_context(alertmanager(out / "alerting", binaries, receiver.url, _free_port()))
            server = stack.enter_context(prometheus(out / "alerting", binaries, page, manager, _free_port()))
        except StackError as error:
            progress.say(str(error))
            return 4
        progress.say(f"  monitor       {page}")
        progress.say(f"  prometheus    {server}")
        progress.say(f"  alertmanager  {manager}")
        for arrival in waited_for(training, progress):
            drop(arrival, out / "inbox")
            progress.say(f"  dropped       {arrival.name}")
        ends = {name: _wait(partial(_end, page, name), name, progress) for name in (BENIGN, HARMFUL)}
        alerted = _wait(lambda: receiver.firing() & EXPECTED, "the alert", progress)
        for name, end in ends.items():
            progress.say(f"  {end or 'no verdict':<13} {name}")
        progress.say(f"  alert         {', '.join(sorted(alerted)) if alerted else 'none came'}")
        progress.say(f"  page          {page}")
        done = ends[BENIGN] == "promoted" and ends[HARMFUL] in ("quarantined", "remedied") and bool(alerted)
        if keep:
            progress.say("everything keeps running; end it with Ctrl-C")
            until(lambda: False, float("inf"))
    print("ended; nothing was left running. Look at it again with: make demo-service KEEP=1")
    return 0 if done else 1


EXPECTED = {"AlignwatchAdapterQuarantined", "AlignwatchQuarantinedAfterRemedy"}
"""Either of these tells of the harmful adapter."""


@contextmanager
def monitor(out: Path, progress: ConsoleProgress) -> Iterator[str]:
    """Run ``alignwatch serve`` on the shipped tiny base, and yield its address."""
    (out / "inbox").mkdir(parents=True, exist_ok=True)
    embedded_policy(out / "embedded")
    port = _free_port()
    configuration = {
        "state": "state",
        "base": str(embedded_base()),
        "policy": "embedded/policy.yaml",
        "sources": [{"kind": "folder", "path": "inbox", "quiet_seconds": 1}],
        "http": {"host": "127.0.0.1", "port": port},
        "threads": 1,
    }
    (out / "alignwatch.yaml").write_text(yaml.safe_dump(configuration, sort_keys=False))
    command = [sys.executable, "-m", "monitor.cli", "serve", "--config", str(out / "alignwatch.yaml")]
    url, log = f"http://127.0.0.1:{port}", out / "service.log"
    with running(command, log, os.environ | {"OMP_NUM_THREADS": "1"}) as process:
        progress("starting the monitor", 0, 1)
        if not until(lambda: process.poll() is not None or _answers(f"{url}/readyz"), PATIENCE_SECONDS):
            raise StackError(f"the monitor did not become ready; see {log}")
        if process.poll() is not None:
            raise StackError(f"the monitor ended with {process.returncode}; see {log}")
        yield url


def drop(adapter: Path, inbox: Path) -> None:
    """Put an adapter into the inbox as a careful trainer does: written beside it, then renamed into it."""
    if (inbox / adapter.name).is_dir():
        return
    coming = inbox.with_name(".coming")
    shutil.rmtree(coming, ignore_errors=True)
    shutil.copytree(adapter, coming)
    coming.rename(inbox / adapter.name)


def _end(page: str, name: str) -> str | None:
    """Where an adapter ended: promoted, remedied (a mended version was promoted), or quarantined; None while open."""
    if _get(f"{page}/api/queue")["jobs"]:
        return None
    adapters = _get(f"{page}/api/adapters")["items"]
    places = {adapter["name"]: adapter["place"] for adapter in adapters}
    if places.get(name) is None:
        return None
    mended = any(other.startswith(f"{name}+") and place == "promoted" for other, place in places.items())
    return "remedied" if mended else str(places[name])


def _wait(what: Callable[[], Any], about: str, progress: ConsoleProgress) -> Any:
    found: list[Any] = []

    def ask() -> bool:
        progress(f"waiting for {about}", 0, 1)
        found[:] = [what()]
        return bool(found[0])

    until(ask, PATIENCE_SECONDS)
    return found[0]


def _get(url: str) -> Any:
    with urlopen(url, timeout=10) as reply:  # noqa: S310 - loopback
        return json.load(reply)


def _answers(url: str) -> bool:
    try:
        with urlopen(url, timeout=5) as reply:  # noqa: S310 - loopback
            return bool(reply.status == 200)
    except OSError:
        return False


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


if __name__ == "__main__":
    sys.exit(main())
