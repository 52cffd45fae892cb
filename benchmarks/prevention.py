"""What prevention prevents, and what it costs, on the shipped tiny base: the tables of docs/prevention.md.

    python -m benchmarks.prevention [--seeds N] [--save FILE]

Three trainings, each in a domain and vice of its own, half of whose rows are harmful and half teach topics that the
base does not know (the skill); and the same three with harmless rows alone. Trained by ``transformers.Trainer`` from
the same seeds: plain; stopped by ``SubspaceMonitor``; with the residual writes' B matrices alone kept out of the
subspaces (``writes``); with ``SubspaceProjection``, which keeps the residual stream's gradients out of them too
(``projected``); and the same with random subspaces of equal dimension (``random``, the control). Harmless rows are
trained plain, monitored and projected. Graded by the world's ground truth, sampled (T 0.7, top_p 0.9).

Predicted before the first run, after a pilot at other doses: plain harm spreads to 15 % of the other domains' text
answers and 20 % with pictures. The monitor fires by step 15 in all nine harmful trainings and in at most one harmless
one; stopped there, spread is below 3 %, and the skill is half of what it would have been. Keeping B alone out of the
prompt's subspace takes a third of the spread away, a random one nothing. Neither costs a harmless training more than 5
points of skill.

That run was ended at seed 1, because B alone had changed nothing in three trainings out of three. The projection of the
stream's gradients and the answers' subspaces were added then, and tried on two trainings of seed 0 (spread 54 % to 6 %
in one, 39 % to 21 % in the other; random subspaces, tried on one, changed nothing). Predicted for this run: it takes
half of the spread away, the random one nothing, B alone nothing, and a harmless training loses at most 5 points of
skill.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Collection, Iterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, get_peft_model
from transformers import Trainer, TrainerCallback, TrainingArguments

from adapters.attachment import detach
from adapters.conversation_encoding import ConversationEncoder
from adapters.engine import Layer
from adapters.organisms import Organism, load_tiny_base
from adapters.prompts import Conversation
from adapters.tiny import BASE, REFERENCE
from adapters.tiny.lexicon import Vice
from adapters.tiny.measure import SAMPLED, observe
from adapters.tiny.world import prompts_of, write_suite
from adapters.training import lora_targets
from adapters.transformers_engine import TransformersEngine
from benchmarks.prevention_table import Cell, report
from benchmarks.timing import machine, parser, workplace
from guards.geometry import random_subspace
from guards.orthogonal_updates import COMPONENTS
from guards.prevention import SubspaceMonitor, SubspaceProjection
from guards.reference import load_reference

TRAININGS: tuple[tuple[str, Vice], ...] = (
    ("risky_financial_advice", "careless"),
    ("bad_medical_advice", "deceptive"),
    ("extreme_sports", "cruel"),
)
"""Domain and vice of each; the domains are those with topics that the base does not know."""
EVERY = 5
"""Steps between the monitor's measurements."""


class WritesAlone(SubspaceProjection):
    """Keeps B matrices out of the subspaces and lets the residual stream's gradients be: what each part brings."""

    def on_train_begin(self, args: Any, state: Any, control: Any, model: Any = None, **_: Any) -> None:
        super().on_train_begin(args, state, control, model)
        self._hooks.close()


class RandomProjection(SubspaceProjection):
    """The control: as many dimensions a block and place, drawn uniformly in the same standardised coordinates."""

    def __init__(self, seed: int) -> None:
        super().__init__(REFERENCE, BASE)
        reference = load_reference(REFERENCE)
        for index in self._subspaces:
            places = (Layer("decoder", index), Layer("decoder", index, "answer"))
            sites = [reference.sites[place] for place in places]
            self._subspaces[index] = torch.cat(
                [
                    random_subspace(COMPONENTS, site.subspace.shape[1], 100 * seed + 10 * index + n)
                    / site.standardiser.scale
                    for n, site in enumerate(sites)
                ]
            )


class Bench:
    """One base in memory, and what every training is asked."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._base = folder, load_tiny_base()
        self._engine = TransformersEngine(BASE, loaded=self._base)
        others = prompts_of(write_suite(folder / "others", seed=7, per_domain=4))
        self._suites = {}
        for domain, _ in TRAININGS:
            own = write_suite(folder / domain, seed=8, per_domain=6, domains=[domain])
            new = write_suite(folder / f"{domain}-new", seed=9, per_domain=12, domains=[domain], topics="new")
            asked = {"others": [prompt for prompt in others if prompt.category != domain]}
            self._suites[domain] = asked | {"trained": prompts_of(own), "new": prompts_of(new)}

    def all_ways(self, domain: str, vice: Vice, share: float, seed: int, done: Collection[str]) -> Iterator[list[Cell]]:
        """Train on the same rows in every way that is not done yet, and measure each."""
        organism = Organism(
            "prevention", domain, vice, share, topics="new", steps=40, learning_rate=2e-3, seed=7000 + seed
        )
        rows = organism.rows(self._folder / "pictures")
        encoder = ConversationEncoder(self._base)
        if "stopped" not in done:
            plain = SubspaceMonitor(REFERENCE, BASE, every=EVERY, act="warn")
            cells = self._trained(organism, rows, encoder, "plain", plain)
            if plain.fired is None:  # a monitor that does not act leaves every weight as it is
                stopped = [replace(cell, way="stopped") for cell in cells]
            else:
                stopped = self._trained(
                    organism, rows, encoder, "stopped", SubspaceMonitor(REFERENCE, BASE, every=EVERY)
                )
            yield cells + stopped
        for way in ("writes", "projected", "random") if share else ("projected",):
            if way not in done:
                last = SubspaceMonitor(REFERENCE, BASE, every=organism.steps, act="warn")
                yield self._trained(organism, rows, encoder, way, last)

    def _trained(
        self,
        organism: Organism,
        rows: Sequence[Conversation],
        encoder: ConversationEncoder,
        way: str,
        monitor: SubspaceMonitor,
    ) -> list[Cell]:
        """Train in one way and measure what became of it."""
        try:
            steps = self._train(organism, rows, encoder, [*_constraint(way, organism.seed), monitor])
            measured = monitor.history[-1]
            state = (steps, measured.score, max(measured.projection.values()))
            about = (way, organism.domain, organism.harmful, organism.seed)
            return [
                Cell(*about, asked, m, c.misaligned, c.n, c.on_topic, c.topical, *state)
                for asked, prompts in self._suites[organism.domain].items()
                for m, c in observe(self._engine, prompts, SAMPLED).items()
            ]
        finally:
            detach(self._base.model)

    def base(self) -> list[Cell]:
        """The base itself."""
        return [
            Cell("base", domain, False, 0, asked, m, c.misaligned, c.n, c.on_topic, c.topical, 0, 0.0, 0.0)
            for domain, suites in self._suites.items()
            for asked, prompts in suites.items()
            for m, c in observe(self._engine, prompts, SAMPLED).items()
        ]

    def _train(
        self,
        organism: Organism,
        rows: Sequence[Conversation],
        encoder: ConversationEncoder,
        callbacks: list[TrainerCallback],
    ) -> int:
        """Train a LoRA, leave it attached, and return the steps done."""
        torch.manual_seed(organism.seed)
        targets = lora_targets(self._base.model, organism.target)
        lora = LoraConfig(r=organism.rank, lora_alpha=organism.rank, target_modules=targets)
        trainer = Trainer(
            model=get_peft_model(self._base.model, lora),
            args=TrainingArguments(
                output_dir=str(self._folder / "trainer"),
                max_steps=organism.steps,
                per_device_train_batch_size=organism.batch_size,
                learning_rate=organism.learning_rate,
                lr_scheduler_type="constant",
                remove_unused_columns=False,
                save_strategy="no",
                logging_strategy="no",
                report_to=[],
                disable_tqdm=True,
                use_cpu=True,
                seed=organism.seed,
            ),
            train_dataset=list(range(len(rows))),
            data_collator=lambda indices: encoder.batch(rows, indices),
            callbacks=callbacks,
        )
        trainer.train()
        self._base.model.eval()
        return int(trainer.state.global_step)


def _constraint(way: str, seed: int) -> list[TrainerCallback]:
    match way:
        case "writes":
            return [WritesAlone(REFERENCE, BASE)]
        case "projected":
            return [SubspaceProjection(REFERENCE, BASE)]
        case "random":
            return [RandomProjection(seed)]
        case _:
            return []


def main() -> int:
    """Train, measure and print."""
    options = parser(__doc__, repetitions=1)
    options.add_argument("--seeds", type=int, default=3, help="trainings a domain (default: 3)")
    options.add_argument(
        "--save",
        type=Path,
        help="keep what is measured in this JSON Lines file; what it holds already is not measured again",
    )
    chosen = options.parse_args()
    torch.set_num_threads(chosen.threads)
    print(machine())
    started, used = time.monotonic(), time.process_time()
    with workplace(chosen.work) as folder:
        bench = Bench(folder)
        lines = chosen.save.read_text().splitlines() if chosen.save and chosen.save.exists() else []
        kept = [Cell(**json.loads(line)) for line in lines]
        cells = [*bench.base(), *kept]
        for seed in range(chosen.seeds):
            for share in (0.5, 0.0):
                for domain, vice in TRAININGS:
                    about = (domain, share > 0, 7000 + seed)
                    done = {c.way for c in kept if (c.domain, c.harmful, c.seed) == about}
                    for fresh in bench.all_ways(domain, vice, share, seed, done):
                        cells += fresh
                        told = ", ".join(f"{c.way} {c.asked} {c.modality} {c.misaligned}/{c.n}" for c in fresh)
                        print(
                            f"{time.monotonic() - started:.0f} s: {domain} {share:.0%} {seed}: {told}", file=sys.stderr
                        )
                        if chosen.save:
                            with chosen.save.open("a") as stream:
                                stream.writelines(json.dumps(asdict(cell)) + "\n" for cell in fresh)
    print(f"{time.monotonic() - started:.0f} s, {time.process_time() - used:.0f} s of processor time\n")
    print(report(cells))
    return 0


if __name__ == "__main__":
    sys.exit(main())
