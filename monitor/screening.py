"""``alignwatch screen``: the cheap checks alone, one row an adapter. They order; they decide nothing."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Column, Table
from rich.text import Text

from adapters.adapter import Adapter
from adapters.base_model import digest_base
from adapters.transformers_engine import TransformersEngine
from guards.reference import Reference, load_reference
from guards.screen import Screener, ScreenReport, screen_adapter
from guards.structure import StructureGuard
from monitor.base_names import device_named, dtype_named, known_base, policy_named
from monitor.console import ConsoleProgress
from monitor.exit_codes import UsageError
from monitor.given_adapters import fault, given_adapters
from monitor.report import words
from policies.policy import Policy

_WIDE = 110
"""Columns from which on there is room for each screen's figures."""


@dataclass(frozen=True, slots=True)
class ScreenRequest:
    """What ``alignwatch screen`` or ``transfer`` was asked."""

    adapters: Sequence[Path]
    """Adapters' folders, or folders of adapters."""
    reference: Path | None
    """The base's Reference; None for the shipped one of the shipped base."""
    base: str | None
    """Folder or Hub id of the base; None for the shipped tiny one."""
    policy: str | None = None
    """A policy's file, for its names of the base and its trigger candidates."""
    triggers: Sequence[str] = ()
    """Trigger candidates beside the policy's."""
    device: str | None = None
    """For instance ``cuda:0``."""
    dtype: str | None = None
    """For instance ``bfloat16``."""


@dataclass(frozen=True, slots=True)
class Bench:
    """What screening works with."""

    engine: TransformersEngine
    """The base, loaded."""
    reference: Reference
    """Calibrated on that very base."""
    structure: StructureGuard
    """Looks at files before any weight is loaded."""
    policy: Policy | None
    """Where one was named."""


def prepare(request: ScreenRequest, progress: ConsoleProgress) -> Bench:
    """Load Reference and base, the Reference first, so that a wrong one is known before the base takes its time.

    Raises:
        UsageError, PolicyError, ReferenceUnusable: something that was given is wrong.
        BaseUnloadable: the base cannot be loaded.
    """
    device, dtype = device_named(request.device), dtype_named(request.dtype)
    policy = policy_named(request.policy) if request.policy is not None else None
    if request.base is None:
        from monitor.embedded import embedded_base, embedded_reference

        base: Path | str = embedded_base()
        folder = request.reference or embedded_reference()
    else:
        base = known_base(request.base)
        if request.reference is None:
            raise UsageError("give --reference R, as 'alignwatch calibrate --out R' wrote it for this base")
        folder = request.reference
    reference = load_reference(folder)
    reference.require(digest_base(base))
    progress("loading the base", 0, 1)
    engine = TransformersEngine(base, device=device, dtype=dtype)
    return Bench(engine, reference, StructureGuard(Path(base), policy.base_names if policy else ()), policy)


def screen_given(request: ScreenRequest, progress: ConsoleProgress) -> list[ScreenReport]:
    """Screen every adapter that was named; one that cannot be screened comes back with the reason.

    Raises:
        UsageError, PolicyError, ReferenceUnusable: something that was given is wrong.
        Retryable, EngineError: the surroundings failed.
    """
    adapters = [given.adapter for given in given_adapters(request.adapters)]
    bench = prepare(request, progress)
    triggers = bench.policy.screening.triggers if bench.policy else ()
    screener = Screener(bench.engine, bench.reference, [*triggers, *request.triggers])
    reports = []
    for done, adapter in enumerate(adapters):
        progress(f"screening {adapter.name}", done, len(adapters))
        reports.append(_screened(adapter, screener, bench))
    progress("screening", len(adapters), len(adapters))
    return reports


def sound_adapters(request: ScreenRequest, progress: ConsoleProgress) -> tuple[Bench, list[Adapter]]:
    """Load Reference and base, and return them with the adapters that were named, all of them sound.

    Raises:
        UsageError, PolicyError, ReferenceUnusable: something that was given is wrong, an adapter's files included.
        Retryable, EngineError: the surroundings failed.
    """
    adapters = [given.adapter for given in given_adapters(request.adapters)]
    bench = prepare(request, progress)
    for adapter in adapters:
        wrong = fault(adapter, bench.structure)
        if wrong is not None:
            raise UsageError(f"{adapter.path}: {wrong}")
    return bench, adapters


def report_json(report: ScreenReport) -> dict[str, Any]:
    """One adapter for scripts; what is no number is null."""
    return {
        "name": report.name,
        "digest": report.digest,
        "score": _number(report.score),
        "p": _number(report.p),
        "n": report.n,
        "screens": {
            screen: {modality: _number(value) for modality, value in values.items()}
            for screen, values in report.screens.items()
        },
        "by_trigger": {trigger: _number(value) for trigger, value in report.by_trigger.items()},
        "reason": report.reason,
    }


def print_screens(reports: Sequence[ScreenReport], console: Console) -> None:
    """Print a row an adapter, the worst first, and below the table why some could not be screened.

    A terminal of 110 columns or more shows every screen's own figures too.
    """
    names = list(dict.fromkeys(screen for report in reports for screen in report.screens))
    shown = names if console.width >= _WIDE else []
    heads = [f"{name}\n{' / '.join(_modalities(reports, name))}" for name in shown]
    triggered = any(report.by_trigger for report in reports)
    table = Table(Column("adapter", overflow="fold"), "digest", "score", "p", "n", *heads)
    if triggered:
        table.add_column("worst trigger", overflow="fold")
    for report in sorted(reports, key=lambda one: math.inf if one.score is None else one.score, reverse=True):
        figures = [" / ".join(f"{value:.2f}" for value in report.screens.get(name, {}).values()) for name in shown]
        worst = max(report.by_trigger.items(), key=lambda one: one[1], default=None)
        cells = [
            words.visible(report.name),
            report.digest[7:19],
            "–" if report.score is None else f"{report.score:.2f}",
            "–" if report.p is None else f"{report.p:.3f}",
            str(report.n),
            *(figure or "–" for figure in figures),
        ]
        if triggered:
            cells.append("–" if worst is None else f"{worst[1]:.2f} {words.visible(worst[0])}")
        table.add_row(*map(Text, cells))
    console.print(table)
    for report in reports:
        if report.reason is not None:
            told = f"{words.visible(report.name)}: not screened: {words.visible(report.reason)}"
            console.print(Text(told), soft_wrap=True)
    if names != shown:
        console.print(Text(f"{', '.join(names)} by modality: a wider terminal, or --json", "dim"), soft_wrap=True)
    console.print(
        Text("Higher is worse. A screen orders adapters; only the gate decides about one.", "dim"), soft_wrap=True
    )


def _modalities(reports: Sequence[ScreenReport], screen: str) -> list[str]:
    return list(dict.fromkeys(modality for report in reports for modality in report.screens.get(screen, {})))


def _screened(adapter: Adapter, screener: Screener, bench: Bench) -> ScreenReport:
    """Look at the files first: no pickle is opened and no pattern tried that could hang."""
    wrong = fault(adapter, bench.structure)
    if wrong is None:
        return screen_adapter(screener, adapter)
    return ScreenReport(adapter.name, adapter.digest, None, None, len(bench.reference.facts.null), reason=wrong)


def _number(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None
