"""``alignwatch remedy``: one remedy on one adapter, by hand, with what it did to it."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

from pydantic import ValidationError

from adapters.adapter import Adapter, open_adapter
from guards.dose_response import Reading
from guards.errors import Permanent
from guards.memory import within_memory
from guards.remedy_record import measured_by
from guards.structure import StructureGuard
from monitor.assembly import Assembly
from monitor.base_names import SHIPPED, device_named, dtype_named, known_base, policy_named
from monitor.console import ConsoleProgress
from monitor.exit_codes import UsageError
from monitor.given_adapters import fault
from monitor.given_judge import given_judge
from monitor.ledger import Ledger
from monitor.models import Models
from policies.findings import Finding
from policies.policy import NEED_REFERENCE, Policy, RemedyName
from policies.remedying import Remedying

METHODS: tuple[RemedyName, ...] = get_args(RemedyName)
"""Every remedy by name."""
_MEMORY = "ledger.db"
"""Within ``OUT.work``: what was answered and judged. A folder without it is somebody else's, and is left alone."""


@dataclass(frozen=True, slots=True)
class RemedyRequest:
    """What ``alignwatch remedy`` was asked."""

    adapter: Path
    """Folder of the adapter; it is not changed."""
    method: str
    """The remedy's name."""
    out: Path
    """Folder of the new adapter; it must not exist."""
    base: str | None = None
    """Folder or Hub id of the base; None for the shipped tiny one."""
    reference: Path | None = None
    """The base's Reference; None for what the policy names."""
    benign_data: Path | None = None
    """JSONL of benign conversations; None for what the policy names."""
    neutral_data: Path | None = None
    """JSONL of everyday conversations; None for what the policy names."""
    kl_weight: float | None = None
    """Weight of KL to the base on them; None for the policy's."""
    interleave: float | None = None
    """Their share of the rows that are trained on, 0 to below 1; None for the policy's."""
    policy: str | None = None
    """A policy's file or a shipped one's name: suites, judge, limits and the remedy's settings."""
    judge_dir: Path | None = None
    """Folder of a judge model, instead of the policy's judge."""
    judge_url: str | None = None
    """Address of a judge, likewise."""
    judge_model: str | None = None
    """The model's name on that server."""
    device: str | None = None
    """For instance ``cuda:0``."""
    dtype: str | None = None
    """For instance ``bfloat16``."""


@dataclass(frozen=True, slots=True)
class Remedied:
    """What became of the adapter."""

    before: Adapter
    """The adapter that was given."""
    after: Adapter
    """The new one, in its folder."""
    measured: tuple[Finding, ...]
    """What the remedy measured: its dose-response curve where it has one, and how much of the adapter it changed."""
    readings: tuple[Reading, Reading] | None
    """Both asked the policy's battery, before and after; None where no suite or no judge is named."""


def remedy_by_hand(request: RemedyRequest, progress: ConsoleProgress) -> Remedied:
    """Apply one remedy and write the new adapter to ``request.out``, whole or not at all.

    Answers and judgements are kept in ``OUT.work`` until it is done, so that the same command goes on after an
    interruption.

    Raises:
        UsageError, PolicyError, NotAnAdapter, Permanent: something that was given is wrong.
        Untreatable: this remedy cannot mend this adapter.
        Retryable, EngineError: the surroundings failed.
    """
    if request.method not in METHODS:
        raise UsageError(f"--method {request.method}: choose one of {', '.join(METHODS)}")
    method: RemedyName = request.method
    adapter = open_adapter(request.adapter)
    if request.out.exists():
        raise UsageError(f"--out {request.out}: is there already; name a folder that is not")
    if not request.out.absolute().parent.is_dir():
        raise UsageError(f"--out {request.out}: {request.out.parent} is no folder")
    with _work(request.out) as work:
        base, policy = _base_and_policy(request, work)
        wrong = fault(adapter, StructureGuard(Path(base), policy.base_names))
        if wrong:
            raise UsageError(f"{request.adapter}: {wrong}")
        with Ledger(work / _MEMORY) as memory:
            models = Models(
                base,
                memory,
                device=device_named(request.device),
                dtype=dtype_named(request.dtype),
                announce=lambda what: progress(what, 0, 1),
                tell=progress.say,
            )
            return _applied(Assembly(models, policy, progress), method, adapter, request.out, work)


def _applied(tools: Assembly, method: RemedyName, adapter: Adapter, out: Path, work: Path) -> Remedied:
    """Ask, mend, ask again; the new folder appears last."""
    remedy, measure = tools.remedy(method), tools.measuring(seed_apart=0)
    before = measure(adapter) if measure else None
    with within_memory(method):
        made = remedy.apply(adapter, work / "made")
    after = measure(made) if measure else None
    measured = tuple(measured_by(made.path, method))
    made.path.replace(out)
    readings = (before, after) if before is not None and after is not None else None
    return Remedied(adapter, Adapter(out, made.digest, out.name, made.parent), measured, readings)


def _base_and_policy(request: RemedyRequest, work: Path) -> tuple[Path | str, Policy]:
    """The base, and what was typed put over the policy that was named."""
    judge = given_judge(request.judge_dir, request.judge_url, request.judge_model)
    if request.base is None:
        from monitor.embedded import embedded_base, embedded_policy

        base: Path | str = embedded_base()
        shipped = request.policy is None or request.policy in SHIPPED
        policy = embedded_policy(work / "embedded", request.policy or "default") if shipped else None
    else:
        base, policy = known_base(request.base), None
    policy = policy or (Policy(name="by hand") if request.policy is None else policy_named(request.policy))
    changes: dict[str, object] = {"remedies": (request.method,), "mode": "enforce"}
    if judge is not None:
        changes["judge"] = judge
    if request.reference is not None:
        changes["reference"] = request.reference.resolve()
    policy = policy.model_copy(update={**changes, "remedying": _settings(request, policy.remedying)})
    if request.method in NEED_REFERENCE and policy.reference is None:
        raise UsageError(
            f"{request.method} needs --reference R, as 'alignwatch calibrate --out R' wrote it for this base"
        )
    if request.method == "benign_finetune" and policy.remedying.benign_data is None:
        raise UsageError("benign_finetune needs --benign-data F, a JSONL of conversations")
    return base, policy


def _settings(request: RemedyRequest, known: Remedying) -> Remedying:
    """The policy's settings of remedies under what was typed."""
    typed: dict[str, object] = {"kl_weight": request.kl_weight, "interleave": request.interleave}
    files = {"benign_data": request.benign_data, "neutral_data": request.neutral_data}
    typed |= {name: file.resolve() for name, file in files.items() if file is not None}
    try:
        return Remedying.model_validate({**known.model_dump(), **{k: v for k, v in typed.items() if v is not None}})
    except ValidationError as error:
        first = error.errors()[0]
        where = "".join(f"--{name}: ".replace("_", "-") for name in first["loc"] if isinstance(name, str))
        raise UsageError(f"{where}{first['msg'].removeprefix('Value error, ')}") from error


@contextmanager
def _work(out: Path) -> Iterator[Path]:
    """A folder for what is in the making; it stays where the same command could go on from it."""
    work = out.with_name(f"{out.name}.work")
    if work.exists() and not (work / _MEMORY).is_file():
        raise UsageError(f"{work}: is there and is not this command's; move it away, or choose another --out")
    work.mkdir(exist_ok=True)
    (work / _MEMORY).touch()
    try:
        yield work
    except (UsageError, Permanent):
        shutil.rmtree(work, ignore_errors=True)
        raise
    shutil.rmtree(work, ignore_errors=True)
