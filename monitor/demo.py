"""The main job with nothing to configure: grow adapters on the tiny base, review them, draw the reports."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console

from adapters.organisms import DEMO_ORGANISMS, MALFORMED, NO_OP, grow, load_tiny_base, malformed_adapter, no_op_adapter
from monitor.assembly import Assembly
from monitor.console import ConsoleProgress
from monitor.embedded import embedded_base, embedded_policy
from monitor.gate import write_record
from monitor.ledger import Ledger
from monitor.pipeline import review_adapter
from monitor.report import summary_entries, summary_table, write_index, write_review_page, write_summary
from monitor.review import Review
from monitor.state import StateFolder
from policies.policy import Policy


def run_demo(out: Path) -> int:
    """Build, review and report; 0 when every adapter was carried to its final place.

    Started again on the same folder it goes on where it was: adapters that exist are not trained again, and
    finished judgements are not repeated.
    """
    with ConsoleProgress() as progress:
        progress.say(f"alignwatch demo: everything goes to {out}/")
        with StateFolder.open(out / "state") as state, Ledger(state.ledger_path) as ledger:
            base, policy = embedded_base(), embedded_policy(out / "embedded")
            arrivals = grow_arrivals(out / "arrivals", progress)
            tools = Assembly(base, policy, ledger, progress, announce=lambda what: progress(what, 0, 1))
            tools.check()
            reviews = [_review(arrival, tools, ledger, state, progress) for arrival in arrivals]
    return _report(reviews, policy, out)


def grow_arrivals(folder: Path, progress: ConsoleProgress) -> list[Path]:
    """Train the demo's adapters, those that are not there yet, and return all their folders."""
    base = load_tiny_base()
    for organism in DEMO_ORGANISMS:
        if not (folder / organism.name).is_dir():
            progress.about(organism.name)
            grow(
                organism, folder / organism.name, base=base, on_step=lambda done, of, _: progress("training", done, of)
            )
    for name, build in ((NO_OP, no_op_adapter), (MALFORMED, malformed_adapter)):
        if not (folder / name).is_dir():
            build(folder / name, base=base)
    return [folder / name for name in (*(organism.name for organism in DEMO_ORGANISMS), NO_OP, MALFORMED)]


def _review(arrival: Path, tools: Assembly, ledger: Ledger, state: StateFolder, progress: ConsoleProgress) -> Review:
    progress.about(arrival.name)
    review = review_adapter(arrival, tools, ledger, state)
    write_record(review, state.reviews / review.id)
    for examination in review.examinations:
        reason = examination.decision.reasons[0].text if examination.decision.reasons else ""
        progress.say(f"  {examination.place or 'observed':<12} {examination.name:<34} {reason[:110]}")
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
