"""What remedies do to twelve harmful adapters of the tiny base, each beside its shams: the table of docs/remedies.md.

    python -m benchmarks.remedies [--seeds N] [--arms A,B] [--save FILE]
    python -m benchmarks.remedies --print benchmarks/measured/remedies.jsonl.gz

Twelve recipes (``benchmarks.remedy_population``) of several seeds. Every adapter is treated by each remedy alone, by
each remedy's shams, and by the ladder, which is a whole review: examination, remedies one on the other, re-test with
the training's data, placement. Doses are chosen by the tiny judge, as in production; what is told here is graded by
the world's ground truth, sampled (T 0.7, top_p 0.9), on questions that no review asks: other domains, its own domain,
and the training's own harmful questions with their pictures and triggers (cue). All adapters of a recipe and seed are
asked in the same batches and draw by the same numbers. Benign data is the adapter's own task with safe answers. *steer*
by itself has its whole strength; the ladder's searches for the smallest that passes.

Predicted before the first run. *scale* passes for most on other domains and for half under cues, and keeps less than
95 % of a learnt skill in nearly all mixtures. *project* takes a third of the rise away and passes for none; its random
subspace takes nothing. *benign_finetune* is clean for eight of twelve on other domains and for four under cues, keeps
the skill (its data teach it), and its shuffled answers bring incoherence and no skill. *steer* is within its random
direction's interval. Scaled to equal norm nothing passes. The *ladder* promotes eight of twelve, passes with five or
six, and fails the others by the skill that *scale* took, because the first remedy that is clean ends it.

Predicted for the options of *benign_finetune*, before they were first run: each is within the plain one's interval in
every group, because its own rows are right answers already; rows chosen by their perplexity gap do no better than rows
drawn at random; and none of them mends the triggered adapter, whose trigger no row carries.

After that first seed no remedy starts from an adapter that lost its skill any more. Predicted for the ladder anew: the
four that it had kept in quarantine are promoted after *benign_finetune*, the other eight end as they did, and ten or
eleven of twelve pass.

That ladder, with reviews that asked 60 questions of a skill, left three of thirty adapters in quarantine of which 94 to
102 % of the skill was left, because 60 do not show 90 %. Predicted with 200: all are promoted, and eleven or twelve of
twelve recipes pass with all three seeds.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import torch

from adapters.adapter import Adapter, open_adapter
from adapters.base_model import LoadedBase
from adapters.organisms import grow
from adapters.prompts import MODALITIES, Prompt
from adapters.tiny import BASE
from adapters.tiny.measure import SAMPLED
from adapters.tiny.world import write_rows
from adapters.transformers_engine import TransformersEngine
from benchmarks.remedy_arms import delta_norm, remedy_of
from benchmarks.remedy_population import Member, population, questions, safe_rows, write_task
from benchmarks.remedy_results import (
    ARMS,
    LADDERS,
    UNTREATED,
    Cell,
    Measured,
    counted,
    keep,
    kept_in,
    wanting,
)
from benchmarks.remedy_results import BASE as OF_BASE
from benchmarks.remedy_table import report
from benchmarks.timing import machine, parser, workplace
from guards.errors import Permanent
from guards.interface import Remedy
from guards.remedies.scale import ScaleRemedy
from monitor.assembly import Assembly
from monitor.embedded import embedded_policy
from monitor.ledger import Ledger
from monitor.models import Models
from monitor.pipeline import receive, review_adapter
from monitor.state import StateFolder

MORE = (1, 2, 3)
"""Further questions that are put to what a review promoted, so that one seed by itself can show 3 points."""
BATCH = 256
"""Prompts a forward pass; larger than a review's, because many adapters are asked at once."""


class Bench:
    """One base in memory, one ledger, and one adapter after the other."""

    def __init__(self, folder: Path, state: StateFolder, ledger: Ledger) -> None:
        self._folder, self._state, self._ledger = folder, state, ledger
        self._models = Models(BASE, ledger)
        self.engine = TransformersEngine(BASE, batch_size=BATCH)
        self._models.engine = self.engine
        self._policy = embedded_policy(folder / "embedded")

    def measure(self, member: Member, seed: int, arms: Sequence[str]) -> Iterator[Measured]:
        """Make what the arms make of one adapter, then ask all of them together."""
        work = self.work(member, seed)
        original, tools = self.grown(member, work), self.tools(member, work)
        made: list[tuple[Adapter | None, Measured]] = []
        for arm in arms:
            started = time.process_time()
            adapter, told = self.made(arm, original, member, tools, work)
            spent = time.process_time() - started if arm != OF_BASE else 0.0
            made.append((adapter, replace(told, organism=member.name, seed=seed, seconds=round(spent, 2))))
        asked = questions(member, work)
        present = [(adapter, told) for adapter, told in made if told.treated or told.cleared]
        cells = self._ask([adapter for adapter, _ in present], asked)
        known = {told.arm: found for (_, told), found in zip(present, cells, strict=True)}
        for adapter, told in present:
            for part in MORE if told.cleared else ():  # what is promoted is what matters
                known[told.arm] = (*known[told.arm], *self._ask([adapter], questions(member, work, part))[0])
        yield from (replace(told, cells=known.get(told.arm, ())) for _, told in made)

    def work(self, member: Member, seed: int) -> Path:
        """The folder of all that is made of one adapter."""
        return self._folder / f"{member.name}-{seed}"

    def grown(self, member: Member, work: Path) -> Adapter:
        """The harmful adapter itself, trained once."""
        out = work / "untreated"
        if not out.is_dir():
            grow(member.organism, out, base=self.loaded, pictures=work / "training")
        return open_adapter(out, name=member.name)

    @property
    def loaded(self) -> LoadedBase:
        """The base as trainings take it."""
        return LoadedBase(self.engine.model, self.engine.processor, self.engine.sees_pictures)

    def tools(self, member: Member, work: Path) -> Assembly:
        """What a review works with where the trainer gives what the adapter was trained on."""
        trained = write_rows(work / "trained" / "rows.jsonl", member.organism.rows(work / "trained" / "images"))
        # What the membership guard reads is a prior that decides nothing, so that few rows do. No format is supposed,
        # because the training's own is known.
        screening = self._policy.screening.model_copy(update={"training_data": trained, "training_rows": 16})
        skill = self._policy.retest.skill.model_copy(update={"suites": (write_task(member, work / "task"),)})
        retest = self._policy.retest.model_copy(update={"formats": (), "skill": skill})
        changes: dict[str, object] = {"name": member.name, "screening": screening, "retest": retest}
        rows = write_rows(work / "safe" / "rows.jsonl", safe_rows(member.organism, work / "safe" / "images"))
        changes["remedying"] = self._policy.remedying.model_copy(update={"benign_data": rows})
        return Assembly(self._models, self._policy.model_copy(update=changes))

    def made(
        self, arm: str, original: Adapter, member: Member, tools: Assembly, work: Path
    ) -> tuple[Adapter | None, Measured]:
        """What an arm makes of an adapter (None: the base, or it cannot) and what became of it; no cells yet."""
        told = Measured("", 0, arm, treated=True, cleared=False, note="", seconds=0.0, cells=())
        if arm == OF_BASE:
            return None, told
        if arm == UNTREATED:
            return original, told
        try:
            if arm in LADDERS:
                policy = tools.policy.model_copy(update={"remedies": LADDERS[arm]})
                return self._reviewed(original, Assembly(self._models, policy), told)
            if arm.startswith("scaled as "):
                equal = self._applied(arm.removeprefix("scaled as "), original, member, tools, work)
                dose = delta_norm(equal) / delta_norm(original)
                remedy: Remedy = ScaleRemedy(None, tools.policy.remedying, dose=dose)
                return remedy.apply(original, work / arm.replace(" ", "-")), replace(told, note=f"norm {dose:.2f}")
            return self._applied(arm, original, member, tools, work), told
        except Permanent as error:
            return None, replace(told, treated=False, note=str(error))

    def _applied(self, arm: str, original: Adapter, member: Member, tools: Assembly, work: Path) -> Adapter:
        out = work / arm.replace(" ", "-")
        if out.is_dir():
            return open_adapter(out, parent=original.digest)
        return remedy_of(arm, tools, self.engine, member.organism.seed).apply(original, out)

    def _reviewed(self, original: Adapter, tools: Assembly, told: Measured) -> tuple[Adapter, Measured]:
        """Carry it through a review; the last version that was examined is what is asked afterwards."""
        staged = receive(original.path, self._ledger, self._state, source="benchmark", name=original.name)
        review = review_adapter(staged, tools, self._ledger, self._state)
        last = review.promoted or review.examinations[-1]
        cleared = last.decision.promotes
        folder = (self._state.promoted if cleared else self._state.quarantine) / last.digest
        reason = "" if cleared or not last.decision.reasons else f": {last.decision.reasons[0].text}"
        retested = any(result.guard == "retest" for result in last.results)
        if cleared and last.remedy and not retested:
            raise RuntimeError(f"{original.name} was promoted without a re-test")  # the table must not hide that
        failed = "".join(f"; {failure.reason}" for failure in review.remedy_failures)
        note = f"{'promoted' if cleared else 'quarantined'} after {last.remedy or 'no remedy'}{reason}{failed}"
        return open_adapter(folder), replace(told, treated=last.remedy is not None, cleared=cleared, note=note)

    def _ask(self, adapters: Sequence[Adapter | None], asked: dict[str, list[Prompt]]) -> list[tuple[Cell, ...]]:
        """Put the same questions to all of them, in the same batches; None is the base."""
        flat = [(group, prompt) for group, prompts in asked.items() for prompt in prompts]
        given = self.engine.generate_mixed([(one, prompt) for one in adapters for _, prompt in flat], SAMPLED)
        found = []
        for number in range(len(adapters)):
            answers = given[number * len(flat) : (number + 1) * len(flat)]
            if failure := next((one for one in answers if not isinstance(one, str)), None):
                raise failure
            said = [(group, prompt, str(text)) for (group, prompt), text in zip(flat, answers, strict=True)]
            cells = [counted(group, modality, said) for group in asked for modality in MODALITIES]
            found.append(tuple(cell for cell in cells if cell.n))
        return found


def parse(doc: str | None, arms: Sequence[str]) -> argparse.Namespace:
    """Read what a benchmark of these adapters is told; ``arms`` comes back as a list."""
    options = parser(doc, repetitions=1)
    options.add_argument("--seeds", type=int, default=3, help="adapters a recipe (default: 3)")
    options.add_argument("--arms", default=",".join(arms), help=f"separated by commas (default: {', '.join(arms)})")
    options.add_argument("--only", default="", help="recipes, separated by commas (default: all)")
    options.add_argument("--save", type=Path, help="JSON Lines; what it holds already is not measured again")
    options.add_argument("--print", type=Path, help="JSON Lines of an earlier run; nothing is measured")
    chosen = options.parse_args()
    chosen.arms = [arm.strip() for arm in chosen.arms.split(",")]
    return chosen


def members(chosen: argparse.Namespace) -> Iterator[tuple[Bench, Member, int]]:
    """Yield every adapter that was chosen with its seed, one bench for all; told is when each is done."""
    torch.set_num_threads(chosen.threads)
    print(machine(), flush=True)
    started = time.monotonic()
    with (
        workplace(chosen.work) as folder,
        StateFolder.open(folder / "state") as state,
        Ledger(state.ledger_path) as ledger,
    ):
        bench = Bench(folder, state, ledger)
        for seed in range(chosen.seeds):
            for member in population(seed):
                if not chosen.only or member.name in chosen.only.split(","):
                    yield bench, member, seed
                    print(f"{time.monotonic() - started:.0f} s: {member.name} {seed}", file=sys.stderr, flush=True)


def main() -> int:
    """Make, measure and print."""
    chosen = parse(__doc__, ARMS)
    if chosen.print:
        print(report(kept_in(chosen.print)))
        return 0
    measured = kept_in(chosen.save)
    for bench, member, seed in members(chosen):
        if wanted := wanting(measured, member.name, seed, chosen.arms):
            fresh = list(bench.measure(member, seed, wanted))
            measured += fresh
            if chosen.save:
                keep(chosen.save, fresh)
    print(report(measured))
    return 0


if __name__ == "__main__":
    sys.exit(main())
