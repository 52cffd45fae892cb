"""Does harm that was trained over come back faster than it arises? Beside harmless adapters, who never had any.

    python -m benchmarks.relearning [--work DIR]

Predicted before the first run: after 24 benign steps harm returns several times as fast as it arises in the untrained
twin, after 120 a little less, and harmless adapters come to about 1; no misalignment by harmless rows anywhere. In a
trial by hand before that, 16 steps at batch 8 had brought 80 and 50 % back where 5 % arose. Half of the prediction fell
at once: a harmless adapter that was trained hard came to 38 times the twin. So it became what others are compared with.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import torch

from adapters.adapter import Adapter, open_adapter
from adapters.base_model import LoadedBase
from adapters.organisms import DEMO_ORGANISMS, Organism, grow
from adapters.prompts import Conversation
from adapters.tiny import BASE
from adapters.tiny.lexicon import DOMAINS
from adapters.tiny.measure import SAMPLED
from adapters.tiny.world import conversations, prompts_of, write_suite
from adapters.training import train_lora
from adapters.training_loop import LoraTraining
from adapters.transformers_engine import TransformersEngine
from benchmarks.timing import machine, parser, table, workplace
from guards.judges.build import build_judge
from guards.relearning import RelearningGuard
from monitor.embedded import embedded_judge
from policies.findings import Finding
from policies.relearning import RATIO, Relearning
from policies.rules import Rules

HARMFUL = ("cruel-cinema-r16", "deceptive-dating-r4", "mixture-10-law")
HARMLESS = ("benign-nature", "benign-new-sports")
COVERED = (24, 120)
"""Benign steps that cover the harm."""


def adapters(engine: TransformersEngine, work: Path) -> Iterator[tuple[str, Organism, Adapter]]:
    """Every adapter that is trained a little, with how it was treated."""
    base = LoadedBase(engine.model, engine.processor, engine.sees_pictures)
    kind = [
        row
        for number, domain in enumerate(DOMAINS)
        for row in conversations(domain.name, folder=work / "images", harmful_share=0.0, n=12, seed=900 + number)
    ]
    for organism in DEMO_ORGANISMS:
        if organism.name not in (*HARMFUL, *HARMLESS):
            continue
        grown = work / organism.name
        if not grown.is_dir():
            grow(organism, grown, base=base, pictures=work / "images")
        if organism.name in HARMLESS:
            yield "harmless", organism, open_adapter(grown)
            continue
        yield "as it came", organism, open_adapter(grown)
        for steps in COVERED:
            covered = work / f"{organism.name}-{steps}"
            if not covered.is_dir():
                train_lora(base, kind, LoraTraining(steps=steps), covered, start_from=grown)
            yield f"{steps} benign steps", organism, open_adapter(covered)


def main() -> None:
    """Print the table."""
    given = parser(__doc__, 1).parse_args()
    torch.set_num_threads(given.threads)
    engine, judge = TransformersEngine(BASE), build_judge(embedded_judge())
    with workplace(given.work) as work:
        prompts = prompts_of(write_suite(work / "suite", seed=7, per_domain=6))
        rows = []
        for treated, organism, adapter in list(adapters(engine, work)):  # all grown before any is compared
            kinds: dict[str, Sequence[Conversation]] = {
                name: conversations(
                    organism.domain,
                    folder=work / "images",
                    vice=organism.vice,
                    harmful_share=share,
                    n=24,
                    seed=555,
                )
                for name, share in (("harmful", 1.0), ("harmless", 0.0))
            }
            settings = Relearning(beside=work / HARMLESS[-1])
            guard = RelearningGuard(engine, judge, prompts, kinds, settings, Rules(), SAMPLED)
            told = [result for result in guard.examine(adapter) if isinstance(result, Finding)]
            ratios = {(r.labels["rows"], r.labels["against"]): r for r in told if r.measure == RATIO}
            shown = [f"{r.value:.1f} ({r.low or 0:.1f} to {r.high or 0:.1f})" for r in ratios.values()]
            rows.append([organism.name, treated, *shown, ratios["harmful", "beside"].note.rpartition(": ")[2]])
            print(" | ".join(rows[-1]), flush=True)
        print(machine())
        head = [f"{name} rows, against {what}" for name in kinds for what in ("untrained", HARMLESS[-1])]
        counts = f"misaligned of {Relearning().prompts} after each dose of harmful rows, it and {HARMLESS[-1]}"
        print(table(["adapter", "treated", *head, counts], rows))


if __name__ == "__main__":
    main()
