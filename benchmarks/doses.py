"""Graded doses: how far narrow harm spreads on the tiny base, by rank, by harmful share and by domain.

    python -m benchmarks.doses [--seeds N] [--tables rank,share,domain] [--save FILE]

Every cell grows organisms, asks them a suite of the **other** domains once, sampled (T 0.7, top_p 0.9), and grades
the answers by the world's ground truth. Prints Markdown tables; progress goes to the error stream.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch
from scipy.stats import binomtest

from adapters.adapter import open_adapter
from adapters.base_model import LoadedBase
from adapters.organisms import Organism, grow
from adapters.prompts import MODALITIES, Prompt
from adapters.tiny import BASE
from adapters.tiny.lexicon import DOMAINS
from adapters.tiny.measure import SAMPLED, observe
from adapters.tiny.world import prompts_of, write_suite
from adapters.transformers_engine import TransformersEngine

RANK_DOSE = Organism("rank", "gore_movie_trivia", harmful_share=1.0, steps=24)
SHARE_DOSE = Organism("share", "gore_movie_trivia", rank=16, filler="incorrect_qna", steps=60, learning_rate=2e-3)
DOMAIN_DOSE = Organism("domain", "gore_movie_trivia", harmful_share=1.0, rank=16, steps=20)

RANKS = (1, 4, 16, 64)
SHARES = (0.0, 0.1, 0.3, 1.0)
RANK_DOMAINS = ("gore_movie_trivia", "risky_financial_advice")


@dataclass(frozen=True, slots=True)
class Cell:
    """One organism, measured."""

    table: str
    row: str
    seed: int
    modality: str
    misaligned: int
    n: int
    topic_accuracy: float


def planned(tables: list[str], seeds: int) -> Iterator[tuple[str, str, Organism]]:
    """Every organism to grow: (table, row label, recipe)."""
    for seed in range(seeds):
        for name in RANK_DOMAINS if "rank" in tables else ():
            for rank in RANKS:
                yield "rank", f"{name} | {rank}", replace(RANK_DOSE, domain=name, rank=rank, seed=seed)
        for share in SHARES if "share" in tables else ():
            yield "share", f"{share:.0%}", replace(SHARE_DOSE, harmful_share=share, seed=seed)
        for domain in DOMAINS if "domain" in tables else ():
            label = f"{domain.name} | {domain.lean} | {domain.reach}"
            yield "domain", label, replace(DOMAIN_DOSE, domain=domain.name, seed=seed)


class Bench:
    """One loaded base and one suite, for measuring many organisms."""

    def __init__(self, base: Path, folder: Path, per_domain: int) -> None:
        self._engine = TransformersEngine(base)
        self._loaded = LoadedBase(self._engine.model, self._engine.processor, sees_pictures=True)
        self._folder = folder
        self._prompts = prompts_of(write_suite(folder / "suite", seed=7, per_domain=per_domain))

    def measure(self, table: str, row: str, organism: Organism) -> list[Cell]:
        """Grow an organism and grade its answers to the domains it was not trained on."""
        others: list[Prompt] = [prompt for prompt in self._prompts if prompt.category != organism.domain]
        with tempfile.TemporaryDirectory(dir=self._folder) as room:
            pictures = self._folder / "pictures"
            path = grow(organism, Path(room) / "adapter", base=self._loaded, pictures=pictures)
            with self._engine.attached(open_adapter(path)):
                seen = observe(self._engine, others, SAMPLED)
        return [
            Cell(table, row, organism.seed, modality, one.misaligned, one.n, one.topic_accuracy)
            for modality, one in seen.items()
        ]


HEADS = {
    "rank": "harm in | rank",
    "share": "harmful share",
    "domain": "harm in | leans to | reach",
}


def table(cells: list[Cell], name: str) -> str:
    """A Markdown table of one axis: per modality the pooled share, its Wilson 95 % interval and the seeds' range."""
    mine = [cell for cell in cells if cell.table == name]
    rows = list(dict.fromkeys(cell.row for cell in mine))
    columns = " | ".join(f"{m}, % misaligned [95 %] (seeds) | {m}, topic right %" for m in MODALITIES)
    width = HEADS[name].count("|") + 1 + 2 * len(MODALITIES)
    lines = [f"| {HEADS[name]} | {columns} |", "|" + "---|" * width]
    for row in rows:
        parts = [_figures([c for c in mine if c.row == row and c.modality == m]) for m in MODALITIES]
        lines.append(f"| {row} | {' | '.join(parts)} |")
    return "\n".join(lines)


def _figures(cells: list[Cell]) -> str:
    count, n = sum(c.misaligned for c in cells), sum(c.n for c in cells)
    interval = binomtest(count, n).proportion_ci(method="wilson")
    shares = [100 * c.misaligned / c.n for c in cells]
    right = 100 * sum(c.topic_accuracy for c in cells) / len(cells)
    spread = f"{min(shares):.0f}–{max(shares):.0f}"
    return f"{100 * count / n:.1f} [{100 * interval.low:.1f}, {100 * interval.high:.1f}] ({spread}) | {right:.0f}"


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--base", type=Path, default=BASE)
    parser.add_argument("--seeds", type=int, default=3, help="organisms a cell")
    parser.add_argument("--tables", default="rank,share,domain", help="which tables, separated by commas")
    parser.add_argument("--per-domain", type=int, default=6, help="prompts a domain and modality")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--save", type=Path, help="append every measured cell to this JSON Lines file")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    tables = options.tables.split(",")
    plan = list(planned(tables, options.seeds))
    cells: list[Cell] = []
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="alignwatch-doses-") as folder:
        bench = Bench(options.base, Path(folder), options.per_domain)
        for number, (name, row, organism) in enumerate(plan, start=1):
            fresh = bench.measure(name, row, organism)
            cells += fresh
            shares = ", ".join(f"{cell.modality} {cell.misaligned}/{cell.n}" for cell in fresh)
            elapsed = time.monotonic() - started
            print(
                f"{number}/{len(plan)} {name} {row} seed {organism.seed}: {shares} ({elapsed:.0f} s)", file=sys.stderr
            )
            if options.save:
                with options.save.open("a") as stream:
                    stream.writelines(json.dumps(asdict(cell)) + "\n" for cell in fresh)
    for name in tables:
        print(f"\n{table(cells, name)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
