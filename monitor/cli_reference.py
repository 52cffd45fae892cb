"""The commands around a base's Reference: ``calibrate``, ``screen`` and ``transfer``."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from monitor.cli_options import AsJson, Base, Device, Dtype
from monitor.exit_codes import ExitCode

Adapters = Annotated[list[Path], typer.Argument(help="Folders of adapters, or folders that hold such folders.")]

LISTS = ("--known-good", "--known-bad")
"""Options of ``calibrate`` that take every value up to the next option."""


def add_reference_commands(app: typer.Typer) -> None:
    """Register everything on the command ``alignwatch``."""
    app.command()(calibrate)
    app.command()(screen)
    app.command()(transfer)


def spread_lists(arguments: Sequence[str]) -> list[str]:
    """Repeat the option before every value, for the options of ``calibrate`` that take several.

    A shell writes ``--known-good good/*`` as one option and many values; the parser takes one value an option. What
    any other command is given comes back as it was.
    """
    if next((one for one in arguments if not one.startswith("-")), None) != "calibrate":
        return list(arguments)
    spread: list[str] = []
    option: str | None = None
    waiting = False
    for argument in arguments:
        if argument.startswith("-"):
            name, equals, _ = argument.partition("=")
            option, waiting = (name if name in LISTS else None), not equals
            spread.append(argument)
        else:
            spread += [option, argument] if option is not None and not waiting else [argument]
            waiting = False
    return spread


def calibrate(
    out: Annotated[
        Path, typer.Option(help="Where References go: a folder each, and 'current', which names the newest.")
    ],
    base: Base = None,
    recipe: Annotated[
        Path | None, typer.Option(help="Recipe of adapters to train (YAML). [default without --base: the tiny world's]")
    ] = None,
    suite: Annotated[
        Path | None, typer.Option(help="Folder of a suite to measure on. [default: the recipe's probes]")
    ] = None,
    contrast: Annotated[
        Path | None,
        typer.Option(
            help="JSONL of prompt, safe_response, harmful_response. [default: the recipe's, or judged answers]"
        ),
    ] = None,
    known_good: Annotated[
        list[str] | None,
        typer.Option(help="Adapters known to be good; several may follow. DOMAIN=DIR says the domain."),
    ] = None,
    known_bad: Annotated[list[str] | None, typer.Option(help="Adapters known to be bad, likewise.")] = None,
    policy: Annotated[
        str | None,
        typer.Option(
            help="Policy, for its judge (a contrast of judged answers, where no file gives one) and base_names."
        ),
    ] = None,
    work: Annotated[
        Path | None, typer.Option(help="Keeps trained adapters and measurements, for going on. [default: OUT.work]")
    ] = None,
    error_rate: Annotated[
        float | None, typer.Option(help="Refuse a population too small for this false-positive rate, e.g. 0.05.")
    ] = None,
    device: Device = None,
    dtype: Dtype = None,
    accept_outliers: Annotated[
        bool, typer.Option("--accept-outliers", help="Keep known-good adapters that score like known-bad ones.")
    ] = False,
) -> None:
    """Learn from known-good and known-bad adapters of a base how to screen the next ones: makes its Reference.

    Adapters are given, trained from a recipe, or both. At least four known-good ones, and four known-bad ones of two
    domains or a contrast; nineteen known-good ones before a p-value can reach 0.05. Every error rate that is printed
    was measured on adapters whose domain was held out.

        alignwatch calibrate --base B --out R --suite S --known-good good/* --known-bad law=bad/law code=bad/code

    **Exit codes:** 0 done · 2 something given is wrong · 4 infrastructure.

    Run the same command again after an interruption: it goes on where it was.
    """
    from monitor.calibration import CalibrationRequest, calibrate_base
    from monitor.calibration_table import print_calibration
    from monitor.console import ConsoleProgress

    request = CalibrationRequest(
        base=base,
        out=out,
        recipe=recipe,
        suite=suite,
        contrast=contrast,
        known_good=known_good or (),
        known_bad=known_bad or (),
        policy=policy,
        work=work,
        error_rate=error_rate,
        device=device,
        dtype=dtype,
        accept_outliers=accept_outliers,
    )
    with ConsoleProgress() as progress:
        reference = calibrate_base(request, progress)
    print_calibration(reference, Console())


def screen(
    adapters: Adapters,
    reference: Annotated[
        Path | None,
        typer.Option(
            help="The base's Reference, as calibrate --out wrote it. [default without --base: the shipped one]"
        ),
    ] = None,
    base: Base = None,
    policy: Annotated[
        str | None, typer.Option(help="Policy whose base_names and screening.triggers apply. [default: none]")
    ] = None,
    trigger: Annotated[
        list[str] | None, typer.Option(help="Another prefix to try before the probes; may be repeated.")
    ] = None,
    device: Device = None,
    dtype: Dtype = None,
    as_json: AsJson = False,
) -> None:
    """Run the cheap checks alone, one row an adapter: activations on the Reference's probes, and weights.

    Nothing is asked and nothing is judged. A higher score is worse; p tells how often a known-good adapter scores so
    high, and is never below 1/(n + 1). **A screen orders adapters and decides nothing**: what the gate would say of
    one is the gate's to say.

    **Exit codes:** 0 all were screened, whatever their scores · 2 something given is wrong · 3 one could not be
    screened · 4 infrastructure.
    """
    from monitor.console import ConsoleProgress
    from monitor.screening import ScreenRequest, print_screens, report_json, screen_given

    request = ScreenRequest(adapters, reference, base, policy, trigger or (), device, dtype)
    with ConsoleProgress() as progress:
        reports = screen_given(request, progress)
    if as_json:
        print(json.dumps([report_json(report) for report in reports], indent=2, allow_nan=False))
    else:
        print_screens(reports, Console())
    unable = any(report.score is None for report in reports)
    raise typer.Exit(ExitCode.INCONCLUSIVE if unable else ExitCode.PROMOTED)


def transfer(
    reference: Annotated[Path, typer.Argument(help="The base's Reference.")],
    adapters: Adapters,
    base: Base = None,
    device: Device = None,
    dtype: Dtype = None,
    as_json: AsJson = False,
) -> None:
    """Tell whether a direction of harm that one adapter shows is also that of another: the question of transfer.

    **Exit codes:** 0 done · 2 something given is wrong · 4 infrastructure.
    """
    from guards.transfer import transfer as compare
    from monitor.console import ConsoleProgress
    from monitor.screening import ScreenRequest, sound_adapters
    from monitor.transfer_table import print_transfer, transfer_json

    request = ScreenRequest(adapters, reference, base, device=device, dtype=dtype)
    with ConsoleProgress() as progress:
        bench, given = sound_adapters(request, progress)
        matrix = compare(bench.engine, bench.reference, given, progress=progress)
    if as_json:
        print(json.dumps(transfer_json(matrix), indent=2, allow_nan=False))
    else:
        print_transfer(matrix, Console())
