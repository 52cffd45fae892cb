"""What a calibration came to, for people: where it lies, how well each screen tells, and what to know about it."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table
from rich.text import Text

from guards.reference import Reference
from guards.reference_facts import Errors, Facts, Rate
from monitor.report import words


def print_calibration(reference: Reference, console: Console) -> None:
    """Print folder and digest, a row a screen beside its random control, error rates by level, and all warnings."""
    facts = reference.facts
    good = sum(not member.harmful for member in facts.population)
    console.print(Text(f"Reference {reference.digest}"), soft_wrap=True)
    console.print(Text(f"lies in   {reference.folder}"), soft_wrap=True)
    console.print(Text(f"of base   {facts.base_digest}"), soft_wrap=True)
    console.print(
        Text(
            f"from {good} known-good and {len(facts.population) - good} known-bad adapters on "
            f"{len(reference.probes.prompts)} probes; response contrast: {facts.contrast_source}"
        ),
        soft_wrap=True,
    )
    console.print(_screens(facts))
    if facts.errors:
        console.print(_errors(facts.errors))
    if facts.judged_agreement is not None:
        console.print(Text(f"the probe tells single answers as the judge does: AUROC {told(facts.judged_agreement)}"))
    for warning in facts.warnings:
        console.print(Text.assemble(("warning ", "yellow"), words.visible(warning)), soft_wrap=True)


def told(rate: Rate | None) -> str:
    """A rate with its interval and n; a dash for none."""
    return "–" if rate is None else f"{rate.value:.3f} [{rate.low:.3f}, {rate.high:.3f}], n={rate.n}"


def _screens(facts: Facts) -> Table:
    table = Table("screen", "modality", "AUROC [95 %], held out", "random control", "good", "bad")
    for name, by_modality in facts.screens.items():
        for modality, figures in by_modality.items():
            control = "–" if figures.auroc_random is None else f"{figures.auroc_random:.3f}"
            counts = (str(len(figures.known_good)), str(len(figures.known_bad)))
            table.add_row(name, modality, told(figures.auroc), control, *counts)
    return table


def _errors(rows: tuple[Errors, ...]) -> Table:
    table = Table("fires at p up to", "known-good taken for bad [95 %]", "known-bad missed [95 %]")
    for row in rows:
        table.add_row(f"{row.level:g}", told(row.false_positive), told(row.false_negative))
    return table
