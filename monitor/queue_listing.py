"""The queue as people see it, and reviving what lies dead in it."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from monitor.exit_codes import UsageError
from monitor.ledger import Ledger
from monitor.state import StateFolder


def list_jobs(state: Path, as_json: bool, console: Console) -> None:
    """Print every open job, those that are worked on first and the dead ones last."""
    with Ledger(StateFolder.peek(state).ledger_path, read_only=True) as ledger:
        jobs = ledger.queue.jobs()
    if as_json:
        console.print_json(json.dumps([asdict(job) for job in jobs], default=str))
        return
    if not jobs:
        console.print("nothing waits")
        return
    table = Table("state", "adapter", "digest", "why", "suspicion", "attempts", "stage", "last error")
    for job in jobs:
        stage = f"{job.stage} {job.done}/{job.total}" if job.stage else ""
        doubt = "unknown" if job.suspicion is None else f"{job.suspicion:.2f}"
        cells = (job.state, job.name, job.digest[7:19], job.reason, doubt, str(job.attempts), stage, job.error or "")
        table.add_row(*(Text(cell) for cell in cells))
    console.print(table)


def revive_jobs(state: Path, which: str) -> int:
    """Queue dead jobs again, ``all`` or one by the beginning of its digest, and return how many.

    Raises:
        UsageError: no dead job begins like that.
    """
    with Ledger(StateFolder.peek(state).ledger_path) as ledger:
        if which == "all":
            return ledger.queue.revive()
        dead = [job.digest for job in ledger.queue.jobs() if job.state == "dead"]
        wanted = which.removeprefix("sha256-")
        matching = [digest for digest in dead if digest.removeprefix("sha256-").startswith(wanted)]
        if len(matching) != 1:
            raise UsageError(f"{len(matching)} dead jobs begin with {which!r}; alignwatch queue lists them")
        return ledger.queue.revive(matching[0])
