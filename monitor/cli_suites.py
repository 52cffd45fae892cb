"""The commands around suites: ``alignwatch suites check``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from monitor.cli_options import AsJson
from monitor.exit_codes import ExitCode


def add_suite_commands(app: typer.Typer) -> None:
    """Register ``suites`` and what is below it on the command ``alignwatch``."""
    suites = typer.Typer(no_args_is_help=True, help="Look at suites of questions, before anything is asked.")
    suites.command()(check)
    app.add_typer(suites, name="suites")


def check(
    place: Annotated[
        Path, typer.Argument(metavar="DIR", help="A suite's folder, in any layout that is known, or one of its files.")
    ],
    manifest: Annotated[
        Path | None, typer.Option(help="Hold the suite to this manifest: every question and picture that differs.")
    ] = None,
    write_manifest: Annotated[
        Path | None,
        typer.Option(
            help="Pin the suite in this new file. As DIR/alignwatch-manifest.json it is held to at every load."
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Tell which set lies in a folder, how many prompts of which kind, and every problem at once.

    Known: battery.jsonl (our own), EM questions, MM-SafetyBench, VLGuard, HarmBench, FigStep, JailBreakV-28K, SPA-VL,
    BeaverTails-V, SIUO, MSTS, XSTest, StrongREJECT, SORRY-Bench. Nothing is downloaded, asked or changed; pictures
    are opened, and one that is missing is an error. What each folder must hold is in docs/suites.md.

    A usable folder is named in the policy: suites: ["DIR"].

    **Exit codes:** 0 usable · 2 not usable, or not what the manifest pins.
    """
    from monitor.suites_check import check_suite, print_check

    found = check_suite(place, manifest, write_manifest)
    if as_json:
        print(json.dumps(found.as_dict(), indent=2))
    else:
        print_check(found, Console())
    raise typer.Exit(0 if found.usable else ExitCode.USAGE)
