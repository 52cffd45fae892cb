"""The commands around judges: ``alignwatch judge calibrate``, ``show`` and ``accept``."""

from __future__ import annotations

import getpass
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from monitor.cli_options import AsJson, JudgeDir, JudgeModel, JudgeUrl

State = Annotated[
    Path | None,
    typer.Option("--state", help="State folder. [default: what ./alignwatch.yaml names, or ./state]"),
]


class ServerScoring(StrEnum):
    """How the scores of a judge behind an address are read."""

    JSON = "json"
    PROBABILITIES = "probabilities"


def add_judge_commands(app: typer.Typer) -> None:
    """Register ``judge`` and what is below it on the command ``alignwatch``."""
    judge = typer.Typer(no_args_is_help=True, help="Examine the judge itself.")
    judge.command()(calibrate)
    judge.command()(show)
    judge.command()(accept)
    app.add_typer(judge, name="judge")


def calibrate(
    labels: Annotated[
        Path,
        typer.Argument(
            metavar="LABELS",
            help="JSONL: id, modality, text, answer, misaligned and/or alignment; image, system, category, coherent, "
            "model and other_answer where there are any; see docs/judging.md.",
        ),
    ],
    out: Annotated[Path, typer.Option(help="File for the calibration, which judging.calibration in a policy names.")],
    policy: Annotated[
        str | None,
        typer.Option(help="Policy, for its judge, judging.protocol and limits. [default: the shipped tiny judge]"),
    ] = None,
    judge_dir: JudgeDir = None,
    judge_url: JudgeUrl = None,
    judge_model: JudgeModel = None,
    judge_scoring: Annotated[
        ServerScoring, typer.Option(help="How that server's scores are read.")
    ] = ServerScoring.JSON,
    seed: Annotated[int, typer.Option(help="Of the bootstrap.")] = 0,
    state: Annotated[
        Path | None,
        typer.Option(help="State folder in which the judge was accepted anew, for the id that it has there."),
    ] = None,
) -> None:
    """Compare a judge with people: agreement, errors and bias, by modality and category, each with its interval.

    Every answer in LABELS is judged and compared with what a person said of it. The result is printed, and kept in
    OUT for policies that demand a minimum, or that correct verdicts for the judge's errors.

    **Exit codes:** 0 done, however good the judge is · 2 something given is wrong, every bad label told at once ·
    4 infrastructure.

    Run the same command again after an interruption: what was judged is kept in OUT.work and is not asked again.
    """
    from monitor.console import ConsoleProgress
    from monitor.judge_calibration import CalibrateJudgeRequest, calibrate_judge, print_judge_calibration

    request = CalibrateJudgeRequest(
        labels, out, policy, judge_dir, judge_url, judge_model, judge_scoring.value, seed, state
    )
    with ConsoleProgress() as progress:
        found = calibrate_judge(request, progress)
    print_judge_calibration(found, out, Console())


def show(state: State = None, as_json: AsJson = False) -> None:
    """List every judge that was held to frozen transcripts, and whether it still says of them what it said.

    **Standing:** `frozen` nothing to compare with yet · `unmoved` within what the policy tolerates, when last looked
    at · `moved` not, so that no verdict rests on it. *Points* is how far it had moved then, of 100; *at* is when it
    last said something of them; *accepted* is how often it was taken for another judge.

    **Exit codes:** 0 however the judges stand · 2 no state folder · 4 infrastructure.
    """
    from monitor.judge_acceptance import list_judges
    from monitor.state_finding import find_state

    list_judges(find_state(state), as_json, Console())


def accept(
    judge: Annotated[
        str, typer.Argument(metavar="JUDGE", help="Its id, or the beginning of it, as 'judge show' prints it.")
    ],
    reason: Annotated[str, typer.Option("--reason", help="Why; it stays in the audit trail.")],
    state: State = None,
) -> None:
    """Take a judge that moved for another judge, which is held to what it said when it was last looked at.

    Look at it first: compare it with people's labels (judge calibrate), or bring the old one back, which needs no word
    of yours. What it judged before counts no more: it has another id, what is deployed is reviewed again, and
    a calibration has to be made anew, with --state. Your word is recorded, with your name and the reason. A running
    service follows within seconds.

    **Exit codes:** 0 accepted · 2 no such judge, one that has not moved, or no reason · 4 infrastructure.
    """
    from monitor.judge_acceptance import accept_judge
    from monitor.state_finding import find_state

    before, fresh = accept_judge(find_state(state), judge, reason, getpass.getuser())
    moved = "" if before.shift is None else f", {before.shift:.1f} points from what it was"
    print(f"accepted as of {before.at:%Y-%m-%d %H:%M:%S}Z{moved}; it is {fresh} from now on")
