"""The subspace check of one adapter against one bare forward pass over the same probes.

    python -m benchmarks.subspace [--repetitions 15] [--probes 48,96,192] [--work DIR]

The *check* is :meth:`guards.subspace.SubspaceGuard.examine`: attach the adapter, encode the probes, run the decoder
up to the screened block, detach, project. In a review the activity guard has attached the same adapter just before,
and its layers are kept; a check by itself, which builds them anew, is shown apart. The *bare pass* encodes the same
probes in the same batches (tokenising, opening the pictures) and runs the base through all its blocks and the head
(``logits_to_keep=1``, no cache: the cheapest whole pass that transformers offers). From the second adapter on the
check has the base's own activations and the encoded probes at hand; the first adapter's figure, which pays for both,
is shown apart, and so is a bare pass over probes that were encoded before.

What runs is counted by hooks. The control makes the same check with the early stop switched off.

Since the check weighs the adapter and reads every block up to the screened one, it is also compared with the truncated
pass alone that it needs. Predicted before the first run of that row: 1.05 at 220 probes, 1.2 at 48.
"""

from __future__ import annotations

import itertools
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

import torch

from adapters.activations import recorded, transformer_blocks
from adapters.adapter import WEIGHTS_NAME, Adapter
from adapters.engine import Layer
from adapters.prompts import MODALITIES
from adapters.tiny import BASE, REFERENCE
from adapters.tiny.world import write_suite
from adapters.transformers_engine import TransformersEngine
from benchmarks.battery import grown
from benchmarks.timing import encoding_anew, interleaved, machine, median_and_range, parser, ratios, table, workplace
from guards.drift import LINEAR
from guards.geometry import Standardiser, random_subspace
from guards.reference import Reference, Site, load_reference
from guards.reference_facts import BOTH, Facts, Figures, Term
from guards.subspace import SubspaceGuard
from guards.suites.battery_jsonl import load_suite
from guards.suites.suite import Suite
from guards.weights import base_norms

BARE, ENCODED, NEEDED, CHECK, ALONE, FIRST, WHOLE, LOAD = (
    "bare forward pass of the base",
    "the same over probes encoded before",
    "the truncated pass that the check needs, adapter attached before",
    "check in a review, from the second adapter on (target: at most 1.3 of that)",
    "the same by itself, the adapter built anew",
    "check of the first adapter",
    "control: check without the early stop",
    "building, attaching and detaching an adapter alone",
)


def ways(engine: TransformersEngine, reference: Reference, adapter: Adapter) -> dict[str, Callable[[], object]]:
    """Everything that is timed, by its name in the table."""
    probes = reference.probes.prompts
    guard = SubspaceGuard(engine, reference)
    guard.examine(adapter)  # keeps the base's activations from here on

    # An engine of its own, so that building adapters there does not push out the one that a review keeps.
    other = TransformersEngine(engine.base, device=str(engine.device), dtype=engine.dtype)
    alone = SubspaceGuard(other, reference)
    alone.examine(adapter)
    number = itertools.count()

    # The adapter stays attached to this one for good: what is left is the forward pass to the screened block.
    standing = TransformersEngine(engine.base, device=str(engine.device), dtype=engine.dtype)
    standing.attached(adapter).__enter__()

    def another() -> Adapter:
        """The same files under another name, which no engine has kept."""
        return replace(adapter, name=f"{adapter.name}-{next(number)}")

    def load() -> None:
        with other.attached(another()):
            pass

    def bare() -> None:
        with encoding_anew(engine):
            engine.final_logits(probes)

    def first() -> None:
        with encoding_anew(engine):
            SubspaceGuard(engine, reference).examine(adapter)

    def whole() -> None:
        with without_early_stop():
            guard.examine(adapter)

    return {
        BARE: bare,
        ENCODED: lambda: engine.final_logits(probes),
        NEEDED: lambda: standing.activations(probes, [reference.screen_layer]),
        CHECK: lambda: guard.examine(adapter),
        ALONE: lambda: alone.examine(another()),
        FIRST: first,
        WHOLE: whole,
        LOAD: load,
    }


@contextmanager
def without_early_stop() -> Iterator[None]:
    """Let a pass that reads activations run to its end."""
    with mock.patch("adapters.transformers_engine.recorded", partial(recorded, stop=False)):
        yield


def counted(engine: TransformersEngine, work: Callable[[], object]) -> Counter[str]:
    """How often each decoder block and the language-model head ran during ``work``."""
    ran: Counter[str] = Counter()
    watched = {f"block {index}": block for index, block in enumerate(transformer_blocks(engine.model, "decoder"))}
    watched["head"] = engine.model.get_output_embeddings()
    handles = [
        module.register_forward_pre_hook(lambda *_, name=name: ran.update([name])) for name, module in watched.items()
    ]
    try:
        work()
    finally:
        for handle in handles:
            handle.remove()
    return Counter({name: ran[name] for name in watched})


def stand_in(engine: TransformersEngine, probes: Suite) -> Reference:
    """A Reference whose directions are random: it takes the same time, and says nothing about any adapter."""
    blocks = len(transformer_blocks(engine.model, "decoder"))
    layers = [Layer("decoder", index) for index in range(blocks)]
    base = engine.activations(probes.prompts, layers)
    width = base[layers[0]].shape[1]
    directions = random_subspace(10, width, 0)
    known = Figures(known_good={f"good-{n}": 0.1 * n for n in range(8)}, known_bad={})
    centred: dict[str, Any] = {"centre": dict.fromkeys(MODALITIES, 0.0), "spread": dict.fromkeys(MODALITIES, 1.0)}
    facts = Facts(
        base_digest=engine.base_digest,
        screen_layer=blocks // 2,
        layers=blocks,
        modalities=probes.modalities,
        categories=("a", "b", "c"),
        contrast_source="none",
        population=(),
        screens={"combined": {BOTH: known}, **dict.fromkeys(LINEAR, dict.fromkeys(MODALITIES, known))},
        combination=tuple(Term(screen=name, weight=1.0, **centred) for name in LINEAR),
        errors=(),
        base_norms=base_norms(engine.model),
    )
    sites = {
        layer: Site(Standardiser.fit(base[layer]), directions, directions[:3], directions[:3], directions[:2])
        for layer in layers
    }
    return Reference(facts, sites, directions[0], probes)


def report(times: dict[str, list[float]]) -> str:
    """Milliseconds, and the ratios to the bare and to the truncated pass of the same round."""
    rows = []
    for name, spent in times.items():
        bare, needed = ("1" if name == to else median_and_range(ratios(spent, times[to])) for to in (BARE, NEEDED))
        rows.append((name, median_and_range([1000 * t for t in spent], digits=0), bare, needed))
    return table(("what", "milliseconds", "times the bare pass", "times the truncated pass"), rows)


def report_counts(engine: TransformersEngine, reference: Reference, adapter: Adapter) -> str:
    """What ran during one check, one check without early stop and one bare pass, as counted by hooks."""
    work = ways(engine, reference, adapter)
    ran = {name: counted(engine, work[name]) for name in (CHECK, WHOLE, BARE)}
    places = list(ran[BARE])
    rows = [(name.split(" (")[0], *(str(counts[place]) for place in places)) for name, counts in ran.items()]
    return f"Block {reference.facts.screen_layer} is read.\n\n" + table(("times it ran", *places), rows)


def references(engine: TransformersEngine, folder: Path, sizes: list[int]) -> Iterator[tuple[str, Reference]]:
    """The shipped Reference, where there is one, and stand-ins with other numbers of probes."""
    if REFERENCE.is_dir():
        shipped = load_reference(REFERENCE)
        if shipped.facts.base_digest == engine.base_digest:
            yield f"the shipped Reference, {len(shipped.probes.prompts)} probes", shipped
    suite = load_suite(write_suite(folder / "suite", seed=1))
    for size in sizes:
        each = [[p for p in suite.prompts if p.modality == modality][: size // 2] for modality in suite.modalities]
        probes = Suite(suite.name, suite.digest, tuple(prompt for part in each for prompt in part))
        yield f"a random subspace, {len(probes.prompts)} probes", stand_in(engine, probes)


def main() -> int:
    """Measure on the shipped tiny base and print."""
    options = parser(__doc__, repetitions=15)
    options.add_argument("--probes", default="48,96,192", help="numbers of probes, beside the shipped Reference's own")
    chosen = options.parse_args()
    torch.set_num_threads(chosen.threads)
    print(machine())
    with workplace(chosen.work) as folder:
        adapter = max(grown(folder / "adapters"), key=lambda one: (one.path / WEIGHTS_NAME).stat().st_size)
        engine = TransformersEngine(BASE)
        for title, reference in references(engine, folder, [int(size) for size in chosen.probes.split(",")]):
            times = interleaved(ways(engine, reference, adapter), chosen.repetitions)
            print(f"\n{title}; median (lowest to highest) of {chosen.repetitions} rounds\n\n{report(times)}")
        print("\n" + report_counts(engine, reference, adapter))
    return 0


if __name__ == "__main__":
    sys.exit(main())
