"""What the daemon costs beside the reviews it runs, and what a full ledger costs at the start.

    python -m benchmarks.service [--repetitions 4] [--adapters 4] [--known 10000] [--work DIR]

*Bare* stages adapters of the shipped tiny base and reviews them one after the other, with the ledger but without
queue, sources, timers and web server. *Service* drops the same number of adapters (equal work, other digests) into a
folder, with everything running that ``alignwatch serve`` runs: a source thread, the timers, and a web server whose
``/metrics`` is scraped every second. It is timed from the first lease to the last verdict. Both run in turns in one
process, on state folders of their own, with the same loaded models.

*Start* opens a state folder and does everything that the service does before it is ready, but for loading models: it
opens the ledger, takes back interrupted jobs, and starts and ends sources, timers and web server after their first
round. It is done on an empty ledger and on one with many reviewed adapters, in turns. The full ledger is filled by
direct inserts and has no audit trail, whose check runs beside the start and says so.
"""

from __future__ import annotations

import shutil
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import torch

from adapters.organisms import DEMO_ORGANISMS, grow, load_tiny_base
from adapters.tiny import BASE
from adapters.transformers_engine import TransformersEngine
from benchmarks.metrics import Size, fill
from benchmarks.timing import copies, interleaved, machine, median_and_range, parser, ratios, table, workplace
from monitor.assembly import Assembly
from monitor.configuration import LogSettings, ServiceConfiguration
from monitor.embedded import embedded_policy
from monitor.ledger import Ledger
from monitor.logs import set_up_logging
from monitor.metrics import metrics_text
from monitor.models import Models
from monitor.pipeline import receive, review_adapter
from monitor.review import Context
from monitor.state import StateFolder
from monitor.surroundings import surroundings
from monitor.web import create_app, serving
from monitor.worker import Worker
from policies.policy import load_policy

MOST_OVERHEAD = 1.10
MOST_START = 5.0
BARE, SERVICE = "bare reviews", "the service (at most 1.10)"
EMPTY, FULL = "start on an empty ledger", "start on a full one (at most 5)"


@dataclass
class Shop:
    """One state folder with everything around it."""

    configuration: ServiceConfiguration
    state: StateFolder
    ledger: Ledger

    @property
    def inbox(self) -> Path:
        """Where its source looks."""
        return self.configuration.sources[0].path


@contextmanager
def opened(folder: Path, policy: Path) -> Iterator[Shop]:
    """A state folder of its own below ``folder``."""
    (folder / "inbox").mkdir(parents=True, exist_ok=True)
    configuration = ServiceConfiguration.model_validate(
        {
            "state": folder / "state",
            "base": str(BASE),
            "policy": policy,
            "sources": [{"kind": "folder", "path": folder / "inbox", "quiet_seconds": 0}],
            "http": {"port": 0},
        }
    )
    with StateFolder.open(configuration.state) as state, Ledger(state.ledger_path) as ledger:
        yield Shop(configuration, state, ledger)


@contextmanager
def running(shop: Shop, context: Context, wake: Callable[[], None]) -> Iterator[str]:
    """Everything that runs beside the reviews."""
    ledger, configuration = shop.ledger, shop.configuration
    app = create_app(
        ledger,
        configuration.http,
        metrics=lambda: metrics_text(ledger, configuration.metrics),
        submit=lambda _digest: False,
        ready=list,
    )
    with (
        serving(app, configuration.http.host, configuration.http.port) as address,
        surroundings(configuration, shop.state, ledger, context, wake, lambda: None),
    ):
        yield address


def tools(engine: TransformersEngine, ledger: Ledger, policy: Path) -> Assembly:
    """What reviews work with, loaded, on a memory of its own."""
    models = Models(BASE, ledger)
    models.engine = engine
    assembly = Assembly(models, load_policy(policy))
    _ = assembly.context
    return assembly


def overhead(
    engine: TransformersEngine, policy: Path, adapter: Path, folder: Path, count: int, rounds: int
) -> dict[str, list[float]]:
    """Seconds of each round, bare and as a service."""
    number = iter(range(10**6))

    def fresh() -> list[Path]:
        return [made.path for made in copies(adapter, count, folder / f"round-{next(number)}")]

    def bare() -> float:
        arrivals = fresh()
        with opened(folder / f"bare-{next(number)}", policy) as shop:
            assembly = tools(engine, shop.ledger, policy)
            start = time.perf_counter()
            for arrival in arrivals:
                staged = receive(arrival, shop.ledger, shop.state, source="bench")
                review_adapter(staged, assembly, shop.ledger, shop.state)
            return time.perf_counter() - start

    def service() -> float:
        arrivals = fresh()
        with opened(folder / f"service-{next(number)}", policy) as shop, ExitStack() as stack:
            assembly = tools(engine, shop.ledger, policy)
            woken = threading.Event()
            worker = Worker(shop.ledger, shop.state, assembly.again, "bench")
            address = stack.enter_context(running(shop, assembly.context, woken.set))
            stack.enter_context(scraping(address))
            for arrival in arrivals:
                shutil.move(arrival, shop.inbox / arrival.name)
            done, start = 0, None
            while done < count:
                began = time.perf_counter()
                if worker.work() is None:
                    woken.wait(0.05)
                    woken.clear()
                    continue
                start = began if start is None else start
                done += 1
            assert start is not None
            return time.perf_counter() - start

    times: dict[str, list[float]] = {BARE: [], SERVICE: []}
    for repetition in range(-1, rounds):
        ways = ((BARE, bare), (SERVICE, service))
        for name, way in ways if repetition % 2 else ways[::-1]:
            spent = way()
            if repetition >= 0:
                times[name].append(spent)
    return times


@contextmanager
def scraping(address: str, seconds: float = 1.0) -> Iterator[None]:
    """Scrape ``/metrics`` as Prometheus would, only more often."""
    stop = threading.Event()

    def scrape() -> None:
        while not stop.wait(seconds):
            httpx.get(f"{address}/metrics").raise_for_status()

    thread = threading.Thread(target=scrape)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def starts(context: Context, policy: Path, folder: Path, known: int, rounds: int) -> dict[str, list[float]]:
    """Seconds of each start, on an empty ledger and on a full one."""
    with opened(folder / "full", policy) as shop:
        fill(shop.ledger, Size(known, live=10))
    with opened(folder / "empty", policy):
        pass

    def start(name: str) -> Callable[[], None]:
        def run() -> None:
            with opened(folder / name, policy) as shop:
                shop.ledger.queue.reclaim()
                with running(shop, context, lambda: None) as address:
                    httpx.get(f"{address}/readyz").raise_for_status()

        return run

    return interleaved({EMPTY: start("empty"), FULL: start("full")}, rounds)


def main() -> int:
    """Measure, print; 0 when both are within their limits."""
    options = parser(__doc__, repetitions=4)
    options.add_argument("--adapters", type=int, default=4, help="reviewed in each round (default: 4)")
    options.add_argument("--known", type=int, default=10_000, help="adapters in the full ledger (default: 10000)")
    chosen = options.parse_args()
    torch.set_num_threads(chosen.threads)
    set_up_logging(LogSettings(level="error"))
    print(machine(), flush=True)
    with workplace(chosen.work) as folder:
        embedded_policy(folder / "embedded")
        policy = folder / "embedded" / "policy.yaml"
        adapter = folder / "grown"
        if not adapter.is_dir():
            grow(DEMO_ORGANISMS[0], adapter, base=load_tiny_base())
        runs = folder / "runs"
        shutil.rmtree(runs, ignore_errors=True)
        engine = TransformersEngine(BASE)
        reviews = overhead(engine, policy, adapter, runs, chosen.adapters, chosen.repetitions)
        with opened(runs / "context", policy) as shop:
            context = tools(engine, shop.ledger, policy).context
        begun = starts(context, policy, runs, chosen.known, chosen.repetitions)
    rows = []
    worst = 0.0
    for times, limit in ((reviews, MOST_OVERHEAD), (begun, MOST_START)):
        (below, base), (above, more) = times.items()
        ratio = ratios(more, base)
        rows.append((below, median_and_range(base, " s"), ""))
        rows.append((above, median_and_range(more, " s"), median_and_range(ratio)))
        worst = max(worst, sorted(ratio)[len(ratio) // 2] / limit)
    print("\n" + table(("what", "a round", "ratio"), rows))
    return 0 if worst <= 1 else 1


if __name__ == "__main__":
    sys.exit(main())
