"""The main job with nothing to configure: grow adapters on the tiny base, review them, draw the reports."""

from __future__ import annotations

import shutil
import signal
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import get_context, parent_process
from multiprocessing.context import SpawnProcess
from pathlib import Path

from rich.console import Console

from adapters.organisms import DEMO_ORGANISMS, MALFORMED, NO_OP, grow, load_tiny_base, malformed_adapter, no_op_adapter
from guards.errors import Retryable
from monitor.assembly import Assembly
from monitor.console import ConsoleProgress
from monitor.embedded import embedded_base, embedded_policy
from monitor.ledger import Ledger
from monitor.models import Models
from monitor.pipeline import receive, review_adapter
from monitor.records import write_record
from monitor.report import summary_entries, summary_table, write_index, write_review_page, write_summary
from monitor.review import Review
from monitor.state import StateFolder
from policies.policy import Policy

ARRIVALS = (*(organism.name for organism in DEMO_ORGANISMS), NO_OP, MALFORMED)
"""The demo's adapters, in the order in which they arrive."""


def run_demo(out: Path) -> int:
    """Build, review and report; 0 when every adapter was carried to its final place.

    Adapters are trained in a second process and reviewed as they arrive. Started again on the same folder it goes on
    where it was: adapters that exist are not trained again, and finished judgements are not repeated.

    Raises:
        Retryable: the training process ended before its time.
    """
    with ConsoleProgress() as progress:
        progress.say(f"alignwatch demo: everything goes to {out}/")
        with (
            StateFolder.open(out / "state") as state,
            Ledger(state.ledger_path) as ledger,
            arriving(out / "arrivals") as training,
        ):
            base, policy = embedded_base(), embedded_policy(out / "embedded")
            models = Models(base, ledger, announce=lambda what: progress(what, 0, 1))
            tools = Assembly(models, policy, progress)
            tools.check()
            reviews = [_review(arrival, tools, ledger, state, progress) for arrival in waited_for(training, progress)]
    return _report(reviews, policy, out)


@dataclass(frozen=True)
class Training:
    """The second process, which trains the demo's adapters one after the other."""

    folder: Path
    """Where they appear, each whole."""
    process: SpawnProcess
    """Ends by itself when all are there."""
    names: Sequence[str]
    """Which ones, in their order."""


@contextmanager
def arriving(folder: Path, names: Sequence[str] = ARRIVALS) -> Iterator[Training]:
    """Start training what is not in ``folder`` yet; the process is ended with the ``with`` block, whatever happens."""
    process = get_context("spawn").Process(target=grow_arrivals, args=(folder, names), daemon=True)
    process.start()
    try:
        yield Training(folder, process, names)
    finally:
        process.terminate()
        process.join()


def waited_for(training: Training, progress: ConsoleProgress) -> Iterator[Path]:
    """Yield the demo's adapters in their order, each as soon as it has arrived.

    Raises:
        Retryable: the training process ended before its time.
    """
    for done, name in enumerate(training.names):
        progress.about(name)
        while not (training.folder / name).is_dir():
            progress("waiting for its training", done, len(training.names))
            training.process.join(0.2)
            if training.process.exitcode is not None and not (training.folder / name).is_dir():
                raise Retryable(f"training {name} ended with {training.process.exitcode}; run the demo again")
        yield training.folder / name


def grow_arrivals(folder: Path, names: Sequence[str] = ARRIVALS) -> None:
    """Train the demo's adapters that are not in ``folder`` yet; each appears there in one step."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the parent, which ends this process
    parent = parent_process()
    base = load_tiny_base(embedded_base())
    workshop = folder.with_name(".growing")
    shutil.rmtree(workshop, ignore_errors=True)
    folder.mkdir(parents=True, exist_ok=True)
    organisms = {organism.name: organism for organism in DEMO_ORGANISMS}
    for name in names:
        if parent is not None and not parent.is_alive():
            return
        if (folder / name).is_dir():
            continue
        if name in organisms:
            grow(organisms[name], workshop / name, base=base, pictures=workshop / "pictures")
        else:
            (no_op_adapter if name == NO_OP else malformed_adapter)(workshop / name, base=base)
        (workshop / name).rename(folder / name)
    shutil.rmtree(workshop, ignore_errors=True)


def _review(arrival: Path, tools: Assembly, ledger: Ledger, state: StateFolder, progress: ConsoleProgress) -> Review:
    progress.about(arrival.name)
    review = review_adapter(receive(arrival, ledger, state, source="demo"), tools, ledger, state)
    write_record(review, state.reviews / review.id)
    for examination in review.examinations:
        reason = examination.decision.reasons[0].text if examination.decision.reasons else ""
        progress.say(f"  {examination.place or 'observed':<12} {examination.name}: {reason}")
    return review


def _report(reviews: list[Review], policy: Policy, out: Path) -> int:
    entries = summary_entries(reviews)
    for review in reviews:
        write_review_page(review, out / "pages" / f"{review.arrival.name}.html", policy)
    write_summary(entries, out / "summary.json")
    pages = {review.id: f"pages/{review.arrival.name}.html" for review in reviews}
    write_index(entries, out / "index.html", link=lambda entry: f"{pages[entry['review']]}#{entry['digest']}")
    console = Console()
    console.print(summary_table(entries, console.width))
    console.print(f"Reports: {out / 'index.html'}   Numbers: {out / 'summary.json'}", highlight=False)
    console.print(f"Why one was decided so: alignwatch explain DIGEST --state {out / 'state'}", highlight=False)
    return 0
