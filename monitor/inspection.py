"""``alignwatch inspect``: an adapter's anatomy and faults from its files alone."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from adapters.adapter import Adapter, open_adapter
from adapters.anatomy import Anatomy, check_finite, dissect
from adapters.problems import Problem, shown

_SHOWN_PER_CODE = 3
"""Problems of one code that are spelled out to people; scripts get them all."""


@dataclass(frozen=True, slots=True)
class Inspection:
    """What reading the files told."""

    adapter: Adapter
    """The folder and its digest."""
    anatomy: Anatomy
    """Facts from config and header."""
    problems: tuple[Problem, ...]
    """All that is wrong or unusual, values of the weights included."""

    @property
    def sound(self) -> bool:
        """Whether nothing found forbids using the adapter."""
        return not any(problem.fatal for problem in self.problems)

    def as_dict(self) -> dict[str, Any]:
        """Everything for scripts, in plain JSON types."""
        anatomy = self.anatomy
        return {
            "name": self.adapter.name,
            "digest": self.adapter.digest,
            "sound": self.sound,
            "peft_type": anatomy.peft_type,
            "base": anatomy.base_model_name,
            "revision": anatomy.revision,
            "rank": anatomy.rank,
            "ranks": dict(sorted(Counter(str(pair.rank) for pair in anatomy.modules.values()).items())),
            "alpha": anatomy.alpha,
            "use_rslora": anatomy.use_rslora,
            "target_modules": anatomy.target_modules,
            "modules": len(anatomy.modules),
            "parts": sorted(anatomy.parts),
            "tensors": len(anatomy.tensors),
            "dtypes": sorted(anatomy.dtypes),
            "bytes": anatomy.total_bytes,
            "files": {fact.path: fact.size for fact in anatomy.files},
            "problems": [
                {"code": p.code, "reason": p.reason, "where": p.where, "fatal": p.fatal} for p in self.problems
            ],
        }


def inspect_adapter(folder: Path) -> Inspection:
    """Read an adapter's files: config, header, and every value for NaN and infinity. No model is built.

    Raises:
        NotAnAdapter: there is no adapter in ``folder``.
    """
    adapter = open_adapter(folder)
    anatomy = dissect(folder)
    problems = anatomy.problems
    if anatomy.tensors and anatomy.sound:
        problems = (*problems, *check_finite(folder, anatomy))
    return Inspection(adapter, anatomy, problems)


def print_inspection(inspection: Inspection, console: Console) -> None:
    """Print the facts as a table and every problem on a line of its own; what is fatal comes first."""
    facts = inspection.as_dict()
    table = Table(show_header=False, box=None, pad_edge=False)
    for key in ("name", "digest", "peft_type", "base", "rank", "alpha", "target_modules", "modules", "parts", "bytes"):
        value = facts[key]
        table.add_row(Text(key, style="dim"), Text(shown(value, 100) if value is not None else "—"))
    console.print(table)
    told: Counter[str] = Counter()
    for problem in sorted(inspection.problems, key=lambda problem: not problem.fatal):
        told[problem.code] += 1
        if told[problem.code] > _SHOWN_PER_CODE:
            continue
        colour, word = ("red", "fault") if problem.fatal else ("yellow", "note")
        console.print(Text.assemble((f"{word} ", colour), f"{problem.code}: {problem}"), soft_wrap=True)
    for code, count in told.items():
        if count > _SHOWN_PER_CODE:
            console.print(Text(f"      {code}: {count - _SHOWN_PER_CODE} more like it (--json lists all)", "dim"))
    verdict = Text("sound", "green") if inspection.sound else Text("not sound", "red")
    console.print(verdict)
