"""The commands around the running service: ``serve``, ``config``, ``queue``, ``token``, and a person's word."""

from __future__ import annotations

import getpass
import json
from pathlib import Path
from typing import Annotated, Literal

import typer
from rich.console import Console

from monitor.cli_options import AsJson

Config = Annotated[Path, typer.Option("--config", help="The service's configuration file.")]
State = Annotated[
    Path | None,
    typer.Option("--state", help="State folder of the service. [default: what ./alignwatch.yaml names, or ./state]"),
]
Reason = Annotated[str, typer.Option("--reason", help="Why; it stays in the audit trail.")]
Digest = Annotated[str, typer.Argument(help="The adapter's digest, or the first characters of it.")]

config = typer.Typer(no_args_is_help=True, help="Look at the service's configuration before it is used.")
audit = typer.Typer(no_args_is_help=True, help="The append-only record of everything that was decided.")


DEFAULT_CONFIG = Path("alignwatch.yaml")


def add_service_commands(app: typer.Typer) -> None:
    """Register everything on the command ``alignwatch``."""
    app.command()(serve)
    app.add_typer(config, name="config")
    app.command()(queue)
    app.command()(lineage)
    app.command()(verify)
    app.command()(release)
    app.command()(block)
    app.add_typer(audit, name="audit")
    app.command()(token)


def serve(configuration: Config = DEFAULT_CONFIG) -> None:
    """Run the monitor: watch for adapters, review them, keep the fleet at what was promoted, export metrics.

    **Signals:** SIGTERM ends it within ten seconds and nothing is lost; SIGHUP reads configuration and policy again.
    **Exit codes:** 0 told to end · 2 configuration · 4 infrastructure.
    """
    from monitor.configuration import ConfigurationError
    from monitor.configuration_check import check_configuration

    problems, _notes = check_configuration(configuration)  # before torch is loaded, which takes seconds
    if problems:
        raise ConfigurationError(configuration, problems)

    from monitor.daemon import serve as run

    raise typer.Exit(run(configuration))


@config.command("check")
def config_check(configuration: Config = DEFAULT_CONFIG) -> None:
    """Read the configuration and everything it names, and list all that is wrong in one go.

    **Exit codes:** 0 the service can start with it · 2 it cannot.
    """
    from monitor.configuration_check import check_configuration

    problems, notes = check_configuration(configuration)
    console = Console(highlight=False, soft_wrap=True)
    for note in notes:
        console.print(f"note: {note}", markup=False)
    for problem in problems:
        console.print(f"problem: {problem}", markup=False)
    if problems:
        raise typer.Exit(2)
    console.print(f"{configuration}: the service can start with this", markup=False)


@audit.command("verify")
def audit_verify(
    state: State = None,
    head: Annotated[str | None, typer.Option(help="A head that was noted earlier: it has to be in the chain.")] = None,
) -> None:
    """Recompute the whole chain, and compare it with the ledger's tables.

    **Exit codes:** 0 whole · 1 broken.
    """
    from monitor.audit_check import check_audit
    from monitor.ledger import Ledger
    from monitor.state import StateFolder
    from monitor.state_finding import find_state

    with Ledger(StateFolder.peek(find_state(state)).ledger_path, read_only=True) as ledger:
        report = check_audit(ledger, head)
    console = Console(highlight=False, soft_wrap=True)
    for problem in report.problems:
        console.print(f"problem: {problem}", markup=False)
    console.print(f"{report.records} records, head {report.head}: {'broken' if report.problems else 'whole'}")
    raise typer.Exit(1 if report.problems else 0)


def release(digest: Digest, reason: Reason, state: State = None) -> None:
    """Promote an adapter whatever was decided about it. Your word is recorded, with your name and the reason.

    A running service follows within seconds; where none runs it is carried out now.
    """
    _override(digest, state, "release", reason)


def block(digest: Digest, reason: Reason, state: State = None) -> None:
    """Keep an adapter away from every server, now and when it arrives again, until somebody releases it.

    A running service follows within seconds; where none runs it is carried out now.
    """
    _override(digest, state, "block", reason)


def lineage(
    name: Annotated[str, typer.Argument(help="An adapter's name or digest.")],
    state: State = None,
    as_json: AsJson = False,
) -> None:
    """Print an adapter's ancestors and descendants with their verdicts."""
    from monitor.ledger import Ledger
    from monitor.lineage import lineage_json, lineage_tree, render_lineage
    from monitor.state import StateFolder
    from monitor.state_finding import find_state

    with Ledger(StateFolder.peek(find_state(state)).ledger_path, read_only=True) as ledger:
        tree = lineage_tree(name, ledger)
    if as_json:
        print(json.dumps(lineage_json(tree), indent=2))
    else:
        Console().print(render_lineage(tree))


def verify(
    folder: Annotated[Path, typer.Argument(help="Folder of an adapter, for instance the one that a server mounts.")],
    state: Annotated[Path | None, typer.Option("--state", help="State folder, to tell by which verdict.")] = None,
    as_json: AsJson = False,
) -> None:
    """Tell whether a folder is what was promoted, and by which verdict.

    **Exit codes:** 0 it is · 1 it is not · 2 no adapter there.
    """
    from monitor.state_finding import state_around
    from monitor.verification import print_verification, verify_folder

    verification = verify_folder(folder, state or state_around(folder))
    if as_json:
        print(json.dumps(verification.as_dict(), indent=2))
    else:
        print_verification(verification, Console())
    raise typer.Exit(0 if verification.holds else 1)


def queue(
    state: State = None,
    revive: Annotated[str | None, typer.Option(help="Digest of a dead letter to try again, or 'all'.")] = None,
    as_json: AsJson = False,
) -> None:
    """List the reviews that are waiting, running or dead, and revive dead ones."""
    from monitor.queue_listing import list_jobs, revive_jobs
    from monitor.state_finding import find_state

    where = find_state(state)
    if revive is not None:
        print(f"{revive_jobs(where, revive)} revived")
    list_jobs(where, as_json, Console())


def token(
    file: Annotated[Path, typer.Argument(help="Token file that the configuration names under http.tokens.")],
    name: Annotated[str, typer.Option(help="Whom the token is for.")],
    scope: Annotated[str, typer.Option(help="read, or write (which includes read).")] = "read",
) -> None:
    """Make a token for the API and print it once; the file keeps only its hash."""
    from monitor.exit_codes import UsageError
    from monitor.web.tokens import create_token

    if scope not in ("read", "write"):
        raise UsageError(f"--scope {scope}: choose read or write")
    print(create_token(file, name, "write" if scope == "write" else "read"))


def _override(digest: str, state: Path | None, action: Literal["release", "block"], reason: str) -> None:
    from monitor.overrides import record_override
    from monitor.state_finding import find_state

    override, applied = record_override(find_state(state), digest, action, reason, getpass.getuser())
    waiting = "recorded; the running service follows within seconds"
    done = "carried out" if applied else override.note or waiting
    print(f"{action} of {override.digest}: {done}")
