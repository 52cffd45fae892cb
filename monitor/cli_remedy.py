"""The command ``alignwatch remedy``: one remedy by hand."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from monitor.cli_options import AsJson, Base, Device, Dtype, JudgeDir, JudgeModel, JudgeUrl


def add_remedy_commands(app: typer.Typer) -> None:
    """Register ``remedy`` on the command ``alignwatch``."""
    app.command()(remedy)


def remedy(
    adapter: Annotated[Path, typer.Argument(help="Folder of the adapter; it is not changed.")],
    method: Annotated[str, typer.Option(help="scale, project, benign_finetune or steer; see docs/remedies.")],
    out: Annotated[Path, typer.Option(help="Folder for the new adapter; it must not exist.")],
    base: Base = None,
    reference: Annotated[
        Path | None,
        typer.Option(help="The base's Reference, for project and steer. [default: the policy's reference]"),
    ] = None,
    benign_data: Annotated[
        Path | None,
        typer.Option(help="JSONL of benign conversations, for benign_finetune. [default: the policy's]"),
    ] = None,
    neutral_data: Annotated[
        Path | None,
        typer.Option(help="JSONL of everyday conversations, for the two options below. [default: the policy's]"),
    ] = None,
    kl_weight: Annotated[
        float | None,
        typer.Option(help="benign_finetune: weight of KL to the base on them, 0.1 say. [default: the policy's, or 0]"),
    ] = None,
    interleave: Annotated[
        float | None,
        typer.Option(help="benign_finetune: their share of the rows, 0.05 say. [default: the policy's, or 0]"),
    ] = None,
    policy: Annotated[
        str | None,
        typer.Option(
            help="Policy, for its suites, judge and limits, and the remedies' settings. Without one nothing is asked, "
            "and scale and steer have nothing to choose by. [default without --base: the tiny world's]"
        ),
    ] = None,
    judge_dir: JudgeDir = None,
    judge_url: JudgeUrl = None,
    judge_model: JudgeModel = None,
    device: Device = None,
    dtype: Dtype = None,
    as_json: AsJson = False,
) -> None:
    """Apply one remedy to one adapter: an ordinary PEFT folder, and what was measured before and after.

    The new folder has a digest of its own and names its parent in alignwatch.json. **A remedy decides nothing**: have
    the new folder reviewed (alignwatch gate) like any other adapter. In a policy, `remedies:` does both.

        alignwatch remedy bad-adapter --base B --policy policy.yaml --method scale --out milder

    **Exit codes:** 0 written, whatever was measured of it · 1 this remedy cannot mend this adapter, nothing was
    written · 2 something given is wrong · 4 infrastructure.

    Run the same command again after an interruption: what was answered and judged is kept in OUT.work until it is done.
    """
    from monitor.console import ConsoleProgress
    from monitor.remedy_table import print_remedied, remedied_json
    from monitor.remedying import RemedyRequest, remedy_by_hand

    request = RemedyRequest(
        adapter=adapter,
        method=method,
        out=out,
        base=base,
        reference=reference,
        benign_data=benign_data,
        neutral_data=neutral_data,
        kl_weight=kl_weight,
        interleave=interleave,
        policy=policy,
        judge_dir=judge_dir,
        judge_url=judge_url,
        judge_model=judge_model,
        device=device,
        dtype=dtype,
    )
    with ConsoleProgress() as progress:
        found = remedy_by_hand(request, progress)
    if as_json:
        print(json.dumps(remedied_json(found), indent=2, allow_nan=False))
    else:
        print_remedied(found, Console())
