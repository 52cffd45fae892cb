"""The tables of ``benchmarks.relearning`` as Markdown, from what its guard found."""

from __future__ import annotations

import gzip
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict

from benchmarks.remedy_population import population
from benchmarks.remedy_results import LADDER, UNTREATED
from benchmarks.timing import median_and_range, table
from policies.findings import Finding, Result
from policies.relearning import RATIO, Against, Relearning, words

CONTROL, REMEDIED = "harmless double", "remedied double"
CONTROLS = (CONTROL, REMEDIED)
WARNED = "ladder with relearning"
"""The ladder under a policy that names the rows, so that a review trains a little before it promotes."""
ARMS = (UNTREATED, "benign_finetune", LADDER, WARNED, *CONTROLS)
Rows = Literal["harmful", "harmless"]
KINDS: tuple[Rows, ...] = ("harmful", "harmless")
AGAINST: tuple[Against, ...] = ("untrained", "beside")
_NAMES: dict[Against, str] = {"untrained": "twin", "beside": "double"}


class Relearnt(BaseModel):
    """What the guard found of one adapter, or of what an arm made of it."""

    model_config = ConfigDict(frozen=True)

    organism: str
    seed: int
    arm: str
    promoted: bool = False
    """By a review; of ladders alone."""
    note: str = ""
    """What became of it."""
    results: tuple[Result, ...]

    def ratio(self, rows: Rows, against: Against) -> Finding | None:
        """How many times as much misalignment; None where it was not measured."""
        return self._found(RATIO, {"rows": rows, "against": against})

    def share(self, rows: Rows, model: str) -> float | None:
        """Misaligned answers over all looks, of ``adapter``, ``untrained`` or ``beside``; None if not measured."""
        found = self._found("relearning_misaligned", {"rows": rows, "model": model})
        return found.value if found else None

    def unsafe(self, against: Against, rows: Sequence[Rows] = KINDS) -> bool:
        """Whether the rule calls it unsafe, by its default limit."""
        beside = Path("double") if against == "beside" else None
        settings = Relearning(**{name: Path(name) for name in rows}, beside=beside)
        return any(verdict == "unsafe" for verdict, _ in words(self.results, settings))

    def _found(self, measure: str, labels: dict[str, str]) -> Finding | None:
        known = (one for one in self.results if isinstance(one, Finding))
        return next((one for one in known if one.measure == measure and one.labels == labels), None)


def kept_in(file: Path) -> list[Relearnt]:
    """What JSON Lines, plain or ``.gz``, hold; nothing where there are none yet."""
    raw = file.read_bytes() if file.exists() else b""
    lines = (gzip.decompress(raw) if file.suffix == ".gz" else raw).decode().splitlines()
    return [Relearnt.model_validate_json(line) for line in lines]


def report(measured: Sequence[Relearnt]) -> str:
    """Markdown: every arm over all adapters, then the ladder by recipe."""
    return "\n\n".join([_arms(measured), _ladder(measured)])


def _arms(measured: Sequence[Relearnt]) -> str:
    head = ["trained a little", "adapters"]
    head += [f"{rows} rows, times its {_NAMES[against]}" for rows in KINDS for against in AGAINST]
    head += [f"misaligned after {rows} rows, % (twin ; double)" for rows in KINDS]
    head += ["unsafe by the rule", "by the twin alone"]
    rows = []
    for arm in ARMS:
        mine = [one for one in measured if one.arm == arm]
        if mine:
            ratios = [[one.ratio(kind, against) for one in mine] for kind in KINDS for against in AGAINST]
            rows.append(
                [
                    arm,
                    str(len(mine)),
                    *(median_and_range([found.value for found in each if found], digits=1) for each in ratios),
                    *(_shares(mine, kind) for kind in KINDS),
                    *(f"{sum(one.unsafe(against) for one in mine)} of {len(mine)}" for against in AGAINST[::-1]),
                ]
            )
    return table(head, rows)


def _shares(mine: Sequence[Relearnt], rows: Rows) -> str:
    means = []
    for model in ("adapter", *AGAINST):
        known = [share for one in mine if (share := one.share(rows, model)) is not None]
        means.append(f"{100 * sum(known) / len(known):.0f}" if known else "not measured")
    return f"{means[0]} ({means[1]} ; {means[2]})"


def _ladder(measured: Sequence[Relearnt]) -> str:
    warned = {(one.organism, one.seed): one.note for one in measured if one.arm == WARNED}
    head = ["organism", "seed", "the ladder's outcome", *(f"{rows} rows, times its double" for rows in KINDS)]
    head += ["misaligned of 48 after 4, 8, 16 harmful steps, it and its double", "by the rule"]
    head += ["outcome with relearning in the policy"] if warned else []
    order = {member.name: number for number, member in enumerate(population(0))}
    rows = []
    for one in sorted(measured, key=lambda one: (order[one.organism], one.seed)):
        if one.arm == LADDER:
            ratios = [one.ratio(kind, "beside") for kind in KINDS]
            counts = ratios[0].note.rpartition(": ")[2] if ratios[0] else "not measured"
            verdict = "unsafe" if one.unsafe("beside") else "clean" if all(ratios) else "inconclusive"
            became = one.note.partition(":")[0]
            rows.append([one.organism, str(one.seed), became, *(_told(found) for found in ratios), counts, verdict])
            if warned:
                rows[-1].append(warned.get((one.organism, one.seed), "not run").partition(":")[0])
    return table(head, rows)


def _told(found: Finding | None) -> str:
    return "not measured" if found is None else f"{found.value:.1f} ({found.low or 0:.1f} to {found.high or 0:.1f})"
