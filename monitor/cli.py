"""The command ``alignwatch``: reads options, calls one function, prints, ends with the right exit code."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markdown import Markdown

from monitor.cli_judge import add_judge_commands
from monitor.cli_options import AsJson, Base, Device, Dtype
from monitor.cli_reference import add_reference_commands, spread_lists
from monitor.cli_remedy import add_remedy_commands
from monitor.cli_service import add_service_commands
from monitor.cli_suites import add_suite_commands
from monitor.exit_codes import INTERRUPTED, ExitCode, end_on_sigterm, run_and_explain

app = typer.Typer(
    name="alignwatch",
    help="Decides whether a freshly trained LoRA adapter may reach a deployed agent. Start with: alignwatch demo",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
)

PolicyFile = Annotated[
    str | None, typer.Option("--policy", help="Policy file, or a shipped one: default, strict, observe_only.")
]
State = Annotated[
    Path | None, typer.Option(help="State folder: ledger, promoted, quarantine. [default: REPORT_DIR/state]")
]
ReportDir = Annotated[Path, typer.Option(help="Where review.json, review.md and index.html go.")]

TrainingData = Annotated[
    Path | None,
    typer.Option(
        help="JSONL of what the adapter was trained on, where you have it: one that knows it by heart is asked more. "
        "It decides nothing else. [default: the policy's screening.training_data]"
    ),
]

Reference = Annotated[
    Path | None,
    typer.Option(help="The base's Reference, as calibrate --out wrote it. [default: the policy's reference]"),
]


@app.command()
def demo(
    out: Annotated[Path, typer.Option(help="Folder for adapters, state, summary.json and the pages.")] = Path(
        "alignwatch-demo"
    ),
) -> None:
    """Do the main job on the shipped tiny model: build nine adapters, review them, print the table.

    Takes about two minutes on two cores. Needs no network, no GPU and no configuration.
    """
    from monitor.demo import run_demo

    raise typer.Exit(run_demo(out))


@app.command()
def gate(
    adapter: Annotated[Path, typer.Argument(help="Folder of the adapter, as peft's save_pretrained wrote it.")],
    base: Base = None,
    policy: PolicyFile = None,
    report_dir: ReportDir = Path("alignwatch-report"),
    state: State = None,
    device: Device = None,
    dtype: Dtype = None,
    training_data: TrainingData = None,
    reference: Reference = None,
) -> None:
    """Review one adapter: one verdict, one exit code.

    **Exit codes:** 0 promoted · 1 unsafe · 2 usage or configuration · 3 inconclusive · 4 infrastructure.
    They answer for the bytes given: where only a remedied version passed, the code is 1 and the report names it.

    Run the same command again after an interruption: it goes on where it was.
    """
    from monitor.console import ConsoleProgress
    from monitor.gate import GateRequest, exit_code
    from monitor.gate import gate as review_one
    from monitor.report import review_markdown

    request = GateRequest(
        adapter, base, policy, report_dir, state or report_dir / "state", device, dtype, training_data, reference
    )
    with ConsoleProgress() as progress:
        review = review_one(request, progress)
    _print_markdown(review_markdown(review))
    raise typer.Exit(exit_code(review))


@app.command()
def inspect(
    adapter: Annotated[Path, typer.Argument(help="Folder of the adapter.")],
    as_json: AsJson = False,
) -> None:
    """Read an adapter's files only: its anatomy and what is wrong with it. Loads no weights into a model.

    **Exit codes:** 0 sound · 1 not sound · 2 no adapter there.
    """
    from monitor.inspection import inspect_adapter, print_inspection

    inspection = inspect_adapter(adapter)
    if as_json:
        print(json.dumps(inspection.as_dict(), indent=2))
    else:
        print_inspection(inspection, Console())
    raise typer.Exit(0 if inspection.sound else 1)


@app.command()
def explain(
    digest: Annotated[str, typer.Argument(help="An adapter's digest, or the first characters of it.")],
    state: Annotated[
        Path | None,
        typer.Option(help="State folder. [default: what ./alignwatch.yaml names, ./state, or a report's or demo's]"),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the whole review as JSON.")] = False,
) -> None:
    """Tell why an adapter was decided so: the rules that spoke and the numbers behind them."""
    from monitor.explanation import find_review
    from monitor.report import review_markdown

    review = find_review(digest, state)
    if as_json:
        print(review.model_dump_json(indent=2))
    else:
        _print_markdown(review_markdown(review))


add_reference_commands(app)
add_remedy_commands(app)
add_suite_commands(app)
add_judge_commands(app)
add_service_commands(app)


def _print_markdown(text: str) -> None:
    console = Console()
    if console.is_terminal:
        console.print(Markdown(text))
    else:
        print(text)


def main(arguments: list[str] | None = None) -> None:
    """Run ``alignwatch`` and end the process with its exit code."""
    end_on_sigterm()
    sys.exit(run_and_explain(lambda: _run(arguments)))


def _run(arguments: list[str] | None) -> int:
    try:
        given = spread_lists(sys.argv[1:] if arguments is None else arguments)
        code = int(app(given, standalone_mode=False) or 0)
        if code == INTERRUPTED:  # what the parser makes of Ctrl-C
            raise KeyboardInterrupt
        return code
    except typer.Exit as end:
        return int(end.exit_code)
    except typer.Abort as abort:
        raise KeyboardInterrupt from abort
    except Exception as error:
        # Typer and its parser show a user's mistake in their own way; everything else goes on.
        if hasattr(error, "show") and hasattr(error, "exit_code"):
            error.show()
            return int(ExitCode.USAGE)
        raise


if __name__ == "__main__":
    main()
