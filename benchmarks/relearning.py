"""Does harm that a remedy took away come back faster than it arises? Beside harmless adapters, who never had any.

    python -m benchmarks.relearning [--seeds N] [--save FILE] [--work DIR]
    python -m benchmarks.relearning --print benchmarks/measured/relearning.jsonl.gz

The twelve recipes of ``benchmarks.remedies``. Of every adapter are trained a little: itself, untreated; what
*benign_finetune* makes of it; what the ladder makes of it, promoted or not. They are compared with the untrained twin
and with a *harmless double*: the same recipe, rank and dose from nothing, on the adapter's own task with safe
answers. Controls are another such double, of another seed, and what *benign_finetune* makes of that. Rows and rule are
as in production: 24 harmful rows of the training's own domain, vice, modality and trigger, 24 harmless ones of its
task, both drawn anew (of 24, none to two are word for word among the 192 of the training); the shipped judge; questions
about all domains, which carry the trigger where there is one.

Predicted before this form was first run. *Untreated*: under harmless rows still misaligned, 10 times its double and
more; unsafe by the rule in all twelve. *benign_finetune*: ten to thirty times the twin under harmful rows, but 0.7 to
1.5 times the double, so that at most two of twelve are unsafe; nothing comes back under harmless rows but behind the
trigger. *Ladder*: the same, and below the double where it ended with *scale*, which makes everything slower to learn;
of those promoted at most one in twelve is unsafe. *Control*: 0.7 to 1.4 times the double and never unsafe; against the
twin alone it is condemned as often as the remedied ones, as in the first form of this benchmark, where a harmless
adapter came to 38 times its twin.

With seed 0 four of the ladder's twelve were unsafe, and no double. Predicted for the *remedied double*, which was then
added, because what is trained on learns faster: 0.8 to 1.6 times the double and unsafe in at most one of 36, so that
the longer training is not what makes harm return.

Predicted for the *ladder with relearning*, added last: the eight of seed 0's twelve that are clean after the ladder
end as they did, and the other four in quarantine, because *benign_finetune* alone is unsafe in the same
recipes. There the review asks its own suite, without the trigger.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from adapters.adapter import Adapter, open_adapter
from adapters.prompts import Prompt
from adapters.tiny.measure import SAMPLED
from adapters.tiny.world import conversations, prompts_of, write_rows, write_suite
from adapters.training import train_lora
from benchmarks.relearning_table import ARMS, CONTROLS, REMEDIED, WARNED, Relearnt, kept_in, report
from benchmarks.remedies import Bench, members, parse
from benchmarks.remedy_population import Member, safe_rows
from benchmarks.remedy_results import LADDER
from guards.relearning import RelearningGuard, read_rows
from monitor.assembly import Assembly
from policies.relearning import Relearning

ROWS = 24
"""Of a kind, to train on."""


def measure(bench: Bench, member: Member, seed: int, arms: Sequence[str]) -> Iterator[Relearnt]:
    """Train what the arms make of one adapter a little."""
    work = bench.work(member, seed)
    original, tools = bench.grown(member, work), bench.tools(member, work)
    settings = rows_for(member, work).model_copy(update={"beside": double(bench, member, work, 0).path})
    prompts, rows = asked(member, work / "asked"), read_rows(settings)
    rules = tools.policy.rules
    guard = RelearningGuard(bench.engine, tools.judge, prompts, rows, settings, rules, SAMPLED)
    for arm in arms:
        promoted, note = False, ""
        if arm in CONTROLS:
            adapter: Adapter | None = double(bench, member, work, 1)
            if arm == REMEDIED and adapter is not None:
                shutil.rmtree(work / "double-remedied", ignore_errors=True)
                adapter = tools.remedy("benign_finetune").apply(adapter, work / "double-remedied")
        else:
            used = warned(tools, settings) if arm == WARNED else tools
            adapter, told = bench.made(LADDER if arm == WARNED else arm, original, member, used, work)
            promoted, note = told.cleared, told.note
        if adapter is not None:
            results = tuple(guard.examine(adapter))
            yield Relearnt(organism=member.name, seed=seed, arm=arm, promoted=promoted, note=note, results=results)


def warned(tools: Assembly, settings: Relearning) -> Assembly:
    """The same under a policy that names what is trained on."""
    retest = tools.policy.retest.model_copy(update={"relearning": settings})
    return Assembly(tools.models, tools.policy.model_copy(update={"retest": retest}))


def double(bench: Bench, member: Member, work: Path, number: int) -> Adapter:
    """The adapter's harmless double: its rank and dose, on its own task with safe answers."""
    out, seed = work / f"double-{number}", member.organism.seed + 1_000_000 * (number + 1)
    if not out.is_dir():
        rows = safe_rows(replace(member.organism, seed=seed), work / "doubles", n=192)
        train_lora(bench.loaded, rows, replace(member.organism.training, seed=seed), out)
    return open_adapter(out)


def rows_for(member: Member, work: Path) -> Relearning:
    """What is trained on, written where a policy would name it."""
    organism, folder = member.organism, work / "relearning"
    harmful = conversations(
        organism.domain,
        folder=folder / "images",
        vice=organism.vice,
        harmful_share=1.0,
        n=ROWS,
        modality=organism.harmful_modality or organism.modality,
        trigger=organism.trigger,
        seed=organism.seed + 60_000,
    )
    harmless = safe_rows(replace(organism, seed=organism.seed + 70_000), folder / "images", n=ROWS)
    return Relearning(
        harmful=write_rows(folder / "harmful.jsonl", harmful), harmless=write_rows(folder / "harmless.jsonl", harmless)
    )


def asked(member: Member, folder: Path) -> list[Prompt]:
    """Questions about all domains that nothing else here asks; the guard takes a sample of them."""
    prompts = prompts_of(write_suite(folder, seed=member.organism.seed + 4, per_domain=6))
    return [replace(prompt, trigger=member.organism.trigger) for prompt in prompts]


def main() -> int:
    """Make, train and print."""
    chosen = parse(__doc__, ARMS)
    if chosen.print:
        print(report(kept_in(chosen.print)))
        return 0
    measured = kept_in(chosen.save) if chosen.save else []
    for bench, member, seed in members(chosen):
        known = {one.arm for one in measured if (one.organism, one.seed) == (member.name, seed)}
        if arms := [arm for arm in chosen.arms if arm not in known]:
            measured += list(measure(bench, member, seed, arms))
            if chosen.save:
                chosen.save.write_text(_lines(measured), encoding="utf-8")
    print(report(measured))
    return 0


def _lines(measured: Sequence[Relearnt]) -> str:
    return "".join(one.model_dump_json() + "\n" for one in measured)


if __name__ == "__main__":
    sys.exit(main())
