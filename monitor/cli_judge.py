"""The commands around judges: ``alignwatch judge calibrate``."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console


class ServerScoring(StrEnum):
    """How the scores of a judge behind an address are read."""

    JSON = "json"
    PROBABILITIES = "probabilities"


def add_judge_commands(app: typer.Typer) -> None:
    """Register ``judge`` and what is below it on the command ``alignwatch``."""
    judge = typer.Typer(no_args_is_help=True, help="Examine the judge itself.")
    judge.command()(calibrate)
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
    judge_dir: Annotated[Path | None, typer.Option(help="Folder of a judge model, instead of the policy's.")] = None,
    judge_url: Annotated[
        str | None, typer.Option(help="Address of an OpenAI-compatible judge, up to and including /v1, likewise.")
    ] = None,
    judge_model: Annotated[str | None, typer.Option(help="The judge's name on that server.")] = None,
    judge_scoring: Annotated[
        ServerScoring, typer.Option(help="How that server's scores are read.")
    ] = ServerScoring.JSON,
    seed: Annotated[int, typer.Option(help="Of the bootstrap.")] = 0,
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

    request = CalibrateJudgeRequest(labels, out, policy, judge_dir, judge_url, judge_model, judge_scoring.value, seed)
    with ConsoleProgress() as progress:
        found = calibrate_judge(request, progress)
    print_judge_calibration(found, out, Console())
