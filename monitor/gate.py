"""One adapter, one verdict, one exit code: the gate for CI, and what every other command reviews through."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import assert_never

from adapters.adapter import CONFIG_NAME, NotAnAdapter
from monitor.assembly import Assembly
from monitor.base_names import SHIPPED, device_named, dtype_named, known_base, policy_named
from monitor.console import ConsoleProgress
from monitor.exit_codes import ExitCode, UsageError
from monitor.ledger import Ledger
from monitor.models import Models
from monitor.pipeline import receive, review_adapter
from monitor.records import write_record
from monitor.report import write_review_page
from monitor.review import Review
from monitor.state import StateFolder
from policies.policy import Policy, load_policy


@dataclass(frozen=True, slots=True)
class GateRequest:
    """What ``alignwatch gate`` was asked."""

    adapter: Path
    """Folder of the adapter."""
    base: str | None
    """Folder or Hub id of the base; None for the shipped tiny one."""
    policy: str | None
    """A policy's file, or the name of a shipped one."""
    report_dir: Path
    """Where the reports go."""
    state: Path
    """The state folder."""
    device: str | None = None
    """For instance ``cuda:0``."""
    dtype: str | None = None
    """For instance ``bfloat16``."""
    training_data: Path | None = None
    """JSONL of what the adapter was trained on; None for what the policy names."""
    reference: Path | None = None
    """The base's Reference; None for what the policy names."""


def gate(request: GateRequest, progress: ConsoleProgress) -> Review:
    """Review one adapter and write its reports.

    Raises:
        UsageError, PolicyError, NotAnAdapter, Permanent: something that was given is wrong.
        Retryable, EngineError: the surroundings failed.
    """
    if not (request.adapter / CONFIG_NAME).is_file():
        raise NotAnAdapter(
            f"{request.adapter} is no adapter: there is no {CONFIG_NAME} in it; "
            "give the folder that peft's save_pretrained wrote"
        )
    base, policy = base_and_policy(request.base, request.policy, request.state)
    if request.training_data is not None:
        screening = policy.screening.model_copy(update={"training_data": request.training_data.resolve()})
        policy = policy.model_copy(update={"screening": screening})
    if request.reference is not None:
        policy = policy.model_copy(update={"reference": request.reference.resolve()})
    with StateFolder.open(request.state) as state, Ledger(state.ledger_path) as ledger:
        models = Models(
            base,
            ledger,
            device=device_named(request.device),
            dtype=dtype_named(request.dtype),
            announce=lambda what: progress(what, 0, 1),
            tell=progress.say,
        )
        tools = Assembly(models, policy, progress)
        tools.check()
        progress.about(request.adapter.resolve().name)
        adapter = receive(request.adapter, ledger, state, source="gate")
        review = review_adapter(adapter, tools, ledger, state)
        write_record(review, state.reviews / review.id)
    write_record(review, request.report_dir)
    write_review_page(review, request.report_dir / "index.html", policy)
    return review


def exit_code(review: Review) -> ExitCode:
    """The gate's answer for the bytes that were given. A remedied version that passed is another adapter."""
    verdict = review.arrival.decision.verdict
    match verdict:
        case "clean":
            return ExitCode.PROMOTED
        case "unsafe":
            return ExitCode.UNSAFE
        case "inconclusive":
            return ExitCode.INCONCLUSIVE
        case _:
            assert_never(verdict)


def base_and_policy(base: str | None, policy: str | None, state: Path) -> tuple[Path | str, Policy]:
    """Find the base and the policy that a user named, or the embedded ones where none is named.

    Raises:
        UsageError: the base is a path that does not exist, or a policy is needed and was not given.
        PolicyError: the policy cannot be used.
    """
    if base is None:
        from monitor.embedded import embedded_base, embedded_policy

        if policy is None or policy in SHIPPED:
            return embedded_base(), embedded_policy(state / "embedded", policy or "default")
        return embedded_base(), load_policy(Path(policy))
    if policy is None:
        raise UsageError(
            "--base needs --policy: a file that names the suites to ask and the judge (see docs/policy.md)"
        )
    return known_base(base), policy_named(policy)
