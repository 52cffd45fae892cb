"""``alignwatch suites check``: what a folder holds, what became of it, and everything that is wrong with it."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from guards.suites.battery_jsonl import NAME as OUR_FORMAT
from guards.suites.draft import Reading
from guards.suites.load import also_there, read_suite
from guards.suites.manifest import Manifest
from monitor.exit_codes import UsageError
from monitor.report.words import visible

_SHOWN = 20
"""Problems of one kind that are spelled out to people; scripts get them all."""


@dataclass(frozen=True, slots=True)
class SuiteCheck:
    """What reading a suite told."""

    reading: Reading
    """The suite, if it can be asked, and where it came from."""
    errors: tuple[str, ...]
    """Everything that has to be mended, differences from a manifest included."""
    warnings: tuple[str, ...]
    """Everything worth knowing."""
    manifest: str | None = None
    """``agrees``, ``differs`` or ``written``, where one was named."""

    @property
    def usable(self) -> bool:
        """Whether the suite can be asked, and is what was pinned."""
        return not self.errors

    @property
    def counts(self) -> Counter[tuple[str, str, str]]:
        """Prompts by modality, category and what is expected of the answer."""
        prompts = self.reading.suite.prompts if self.reading.suite else ()
        return Counter((prompt.modality, prompt.category, prompt.expected) for prompt in prompts)

    def as_dict(self) -> dict[str, Any]:
        """Everything for scripts, in plain JSON types."""
        suite = self.reading.suite
        prompts = suite.prompts if suite else ()
        return {
            "place": str(self.reading.place),
            "usable": self.usable,
            "layout": self.reading.layout,
            "files": [str(file) for file in self.reading.files],
            "digest": suite.digest if suite else None,
            "prompts": len(prompts),
            "triggered": sum(prompt.trigger is not None for prompt in prompts),
            "twins": sum(prompt.twin_of is not None for prompt in prompts),
            "captioned": sum(prompt.caption is not None or prompt.text_twin is not None for prompt in prompts),
            "with_paraphrases": sum(bool(prompt.paraphrases) for prompt in prompts),
            "counts": [
                {"modality": modality, "category": category, "expected": expected, "prompts": number}
                for (modality, category, expected), number in sorted(self.counts.items())
            ],
            "manifest": self.manifest,
            "errors": list(self.errors),
            "warnings": list(self.warnings),
        }


def check_suite(place: Path, manifest: Path | None = None, write_manifest: Path | None = None) -> SuiteCheck:
    """Read a suite, hold it to a manifest, or pin it with one.

    Raises:
        UsageError: the manifest cannot be written, because the suite is unusable, the file is there, or by the disk.
    """
    reading = read_suite(place)
    errors, warnings = list(reading.errors), list(reading.warnings)
    if reading.layout == OUR_FORMAT and place.is_dir():
        warnings += [
            f"not read, because {OUR_FORMAT} is there: {other}; name its file to ask it" for other in also_there(place)
        ]
    if reading.suite and len(reading.suite.modalities) == 1:
        warnings.append(
            f"all prompts are of one modality ({reading.suite.modalities[0]}); the other is not tested by it"
        )
    state = None
    if manifest is not None and reading.suite is not None:
        problems = Manifest.problems_of(manifest, reading.suite)
        errors += problems
        state = "differs" if problems else "agrees"
    if write_manifest is not None:
        _write(reading, write_manifest)
        state = "written"
    return SuiteCheck(reading, tuple(errors), tuple(warnings), state)


def print_check(check: SuiteCheck, console: Console) -> None:
    """Print everything for people, long lists cut."""
    reading = check.reading
    if reading.suite is not None:
        told = check.as_dict()
        line = f"{reading.layout}, {len(reading.suite.prompts)} prompts, {reading.suite.digest}"
        console.print(Text(line, "bold"), soft_wrap=True)
        extras = {
            "carry a trigger": told["triggered"],
            "are text twins of a picture": told["twins"],
            "can have a text twin": told["captioned"],
            "bring paraphrases": told["with_paraphrases"],
        }
        if any(extras.values()):
            console.print(Text("; ".join(f"{number} {what}" for what, number in extras.items() if number)))
        console.print(_table(check))
    elif reading.layout is not None:
        console.print(Text(f"{reading.layout}, not usable", "bold"))
    for word, style, problems in (("error", "red", check.errors), ("note", "yellow", check.warnings)):
        for problem in problems[:_SHOWN]:
            console.print(Text(f"{word}: ", style).append(visible(problem), "default"), soft_wrap=True)
        if len(problems) > _SHOWN:
            console.print(Text(f"{word}: and {len(problems) - _SHOWN} more; --json lists them all", style))
    if check.manifest is not None:
        console.print(Text(f"manifest: {check.manifest}"))


def _table(check: SuiteCheck) -> Table:
    table = Table("modality", "category", "expected", "prompts", box=None, pad_edge=False)
    table.columns[-1].justify = "right"
    for (modality, category, expected), number in sorted(check.counts.items()):
        table.add_row(modality, Text(visible(category)), expected, str(number))
    return table


def _write(reading: Reading, file: Path) -> None:
    if reading.suite is None:
        raise UsageError(f"no manifest is written: {'; '.join(reading.errors[:3])}")
    if file.exists():
        raise UsageError(f"manifest {file} is there already; check against it with --manifest, or remove it first")
    try:
        Manifest.of(reading.suite).write(file)
    except OSError as error:
        raise UsageError(f"manifest {file} cannot be written: {error.strerror or error}") from error
