"""The judges that a ledger knows, as people see them, and a person's word that one which moved is another judge now.

A word is recorded and no file follows it, so it needs no running service and no lock: whoever reviews takes the judge
under its new id the next time.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

from rich.console import Console
from rich.table import Column, Table
from rich.text import Text

from guards.judges.accepted import plain_id
from monitor.exit_codes import UsageError
from monitor.ledger import Ledger
from monitor.ledger.database import LedgerConflict
from monitor.ledger.judge_canaries import JudgeState
from monitor.report.words import visible
from monitor.state import StateFolder

_LONGEST_REASON = 1000


def list_judges(state: Path, as_json: bool, console: Console) -> None:
    """Print every judge that was ever held to canaries, and how it stands to them.

    Raises:
        StateUnusable, LedgerUnusable: there is no state folder, or its ledger cannot be used.
    """
    with Ledger(StateFolder.peek(state).ledger_path, read_only=True) as ledger:
        judges = [(one, ledger.judge_canaries.acceptances(one.judge)) for one in ledger.judge_canaries.known()]
    if as_json:
        rows = [asdict(one) | {"standing": _standing(one), "accepted": times} for one, times in judges]
        console.print_json(json.dumps(rows, default=str))
        return
    if not judges:
        console.print("no judge was held to canaries here yet")
        return
    table = Table(Column("judge", overflow="fold"), "standing", "points", "at", "transcripts", "accepted")
    for one, times in judges:
        points = "" if one.shift is None else f"{one.shift:.2f}"
        cells = (one.judge, _standing(one), points, f"{one.at:%Y-%m-%d %H:%M:%S}Z", one.transcripts, times)
        table.add_row(*(Text(visible(str(cell))) for cell in cells))
    console.print(table)


def accept_judge(state: Path, judge: str, reason: str, who: str) -> tuple[JudgeState, str]:
    """Take a judge that moved, as it was when last looked at, for another judge; return how it stood and its new id.

    Args:
        state: the state folder.
        judge: its id, with or without what earlier acceptances added, or the beginning of it.
        reason: why, for the audit trail.
        who: accepts it.

    Raises:
        UsageError: no reason is given, no judge or several are called so, or it has not moved.
        StateUnusable, LedgerUnusable: there is no state folder, or its ledger cannot be used.
        LedgerUnwritable: the word could not be recorded.
    """
    why, by = (" ".join(text.split())[:_LONGEST_REASON] for text in (reason, who))
    if not why:
        raise UsageError("--reason is empty; say why, it stays in the audit trail beside the acceptance")
    with Ledger(StateFolder.peek(state).ledger_path) as ledger:
        before = _named(ledger.judge_canaries.known(), plain_id(judge.strip()))
        try:
            ledger.judge_canaries.accept(before.judge, why, by or "unknown")
        except LedgerConflict as conflict:
            raise UsageError(str(conflict)) from conflict
        return before, f"{before.judge}:accepted-{ledger.judge_canaries.acceptances(before.judge)}"


def _standing(judge: JudgeState) -> str:
    if judge.moved:
        return "moved"
    return "frozen" if judge.shift is None else "unmoved"


def _named(known: list[JudgeState], text: str) -> JudgeState:
    """The judge of that id, or the only one whose id begins so."""
    exact = [one for one in known if one.judge == text]
    found = exact or [one for one in known if text and one.judge.startswith(text)]
    if len(found) == 1:
        return found[0]
    if found:
        raise UsageError(f"{text} begins several judges ({', '.join(one.judge for one in found)}); give more of it")
    there = f"; there is {', '.join(one.judge for one in known)}" if known else ""
    raise UsageError(f"no judge {text!r} was held to canaries here{there}; 'alignwatch judge show' lists them")
