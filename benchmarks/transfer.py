"""Whether directions transfer between adapters of the shipped tiny base: the tables of docs/transfer.md.

    python -m benchmarks.transfer [--work DIR] [--reference DIR] [--pairs N]

Grows six organisms from fixed seeds: three vices of which two have two adapters each, of different domains, ranks and
shares, and one harmless adapter that learns a strong change of manner. Prints Markdown; progress goes to the error
stream.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import torch

from adapters.adapter import Adapter, open_adapter
from adapters.organisms import Organism, grow, load_tiny_base
from adapters.tiny import BASE, REFERENCE
from adapters.transformers_engine import TransformersEngine
from benchmarks.timing import machine, parser, table, workplace
from guards.reference import load_reference
from guards.statistics import Interval
from guards.transfer import PAIRS, transfer
from guards.transfer_matrix import ModalityTransfer, ProbeCell, SteeringCell, Subject
from monitor.report.words import number

ORGANISMS = (
    Organism("cruel-cinema-r16", "gore_movie_trivia", "cruel", 1.0, rank=16, seed=901),
    Organism("cruel-math-30", "evil_math", "cruel", 0.3, rank=8, steps=60, learning_rate=2e-3, seed=902),
    Organism("deceptive-medicine-r4", "bad_medical_advice", "deceptive", 1.0, rank=4, learning_rate=2e-3, seed=903),
    Organism(
        "deceptive-finance-30", "risky_financial_advice", "deceptive", 0.3, steps=60, learning_rate=2e-3, seed=904
    ),
    Organism("careless-law-r32", "toxic_legal_advice", "careless", 1.0, rank=32, seed=905),
    Organism("formal-math", "incorrect_math", rank=16, style=True, steps=60, learning_rate=2e-3, seed=906),
)
"""The vice of each name, then its domain, then what is particular about its dose."""


def grown(folder: Path) -> list[Adapter]:
    """The organisms, trained where they are not there yet."""
    base = load_tiny_base()
    for organism in ORGANISMS:
        if not (folder / organism.name).is_dir():
            print(f"training {organism.name}", file=sys.stderr)
            grow(organism, folder / organism.name, base=base)
    return [open_adapter(folder / organism.name) for organism in ORGANISMS]


def report(part: ModalityTransfer) -> str:
    """One modality as Markdown: the adapters, and what their directions do."""
    adapters = [
        (
            f"{place} {one.name}",
            "none" if one.size is None else f"{one.size:.2f}",
            "none" if one.split_half is None else f"{one.split_half:.2f}",
            one.category or "none",
            "not measured" if one.rise is None else f"{_interval(one.rise)}, n={one.rise.n}",
        )
        for place, one in enumerate(part.subjects, start=1)
    ]
    parts = [
        f"### {part.modality}",
        table(("adapter", "shift", "split half", "leans to", "rise, nats a token"), adapters),
        f"AUROC against the base, n={part.prompts} prompts a side; in brackets the mean of random directions:",
        _grid(part.subjects, part.probe, _probe),
    ]
    if part.steering is None:
        return "\n\n".join([*parts, f"Nothing was ablated: {part.steering_reason}"])
    title = (
        f"Share of the column's rise that ablating the row's direction takes away, n={part.pairs} pairs; in brackets "
        "the mean of random directions, then the same ablation in the base alone:"
    )
    return "\n\n".join([*parts, title, _grid(part.subjects, part.steering, _steering)])


def _grid(subjects: Sequence[Subject], rows: Sequence[Sequence[object]], tell: Callable[[object], str]) -> str:
    head = ("direction of", *(f"on {place}" for place in range(1, len(subjects) + 1)))
    names = [f"{place} {one.name}" for place, one in enumerate(subjects, start=1)]
    return table(head, [(name, *(tell(cell) for cell in row)) for name, row in zip(names, rows, strict=True)])


def _probe(cell: object) -> str:
    return f"{_interval(cell.auroc)} ({cell.random_mean:.2f})" if isinstance(cell, ProbeCell) else "none"


def _steering(cell: object) -> str:
    if not isinstance(cell, SteeringCell):
        return "none"
    if cell.share is None or cell.base_share is None or cell.random_mean is None:
        return "no rise"
    return f"{_interval(cell.share)} ({number(cell.random_mean, 2)}; {number(cell.base_share.value, 2)})"


def _interval(found: Interval) -> str:
    return f"{number(found.value, 2)} [{number(found.low, 2)}, {number(found.high, 2)}]"


def _progress(stage: str, done: int, total: int) -> None:
    print(f"{stage}: {done} of {total}", file=sys.stderr)


def main() -> int:
    """Measure on the shipped tiny base and print."""
    options = parser(__doc__, repetitions=1)
    options.add_argument(
        "--reference", type=Path, default=REFERENCE, help="of the tiny base (default: the shipped one)"
    )
    options.add_argument("--pairs", type=int, default=PAIRS, help=f"most contrast pairs a cell (default: {PAIRS})")
    chosen = options.parse_args()
    torch.set_num_threads(chosen.threads)
    print(machine())
    with workplace(chosen.work) as folder:
        adapters = grown(folder / "transfer-adapters")
        engine = TransformersEngine(BASE, device="cpu")
        reference = load_reference(chosen.reference)
        found = transfer(engine, reference, adapters, _progress, pairs=chosen.pairs)
    print(f"Reference {found.reference_digest[7:19]}, directions at {found.layer}")
    for part in found.modalities:
        print(f"\n{report(part)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
