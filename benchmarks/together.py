"""The battery over eight adapters that wait together, against the battery over one.

    python -m benchmarks.together [--prompts 96] [--repetitions 5] [--work DIR]

Three ways, in turns, each with a fresh ledger and on :class:`guards.battery.BatteryGuard` as a review runs it: **one**
adapter by itself, base included (another adapter each round); **eight together**, which answer in the same batches as
the base; and, as a control, **eight one by one**, which share the base's answers and nothing else.

Not timed: the judge (it gives no score, so that no test stops early and every adapter is asked everything), the loading
of the base, and the training of the adapters. Greedily the answers of both ways are compared as well; drawn ones cannot
be, because company changes the draws.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from unittest import mock

import torch

from adapters.adapter import Adapter
from adapters.encodings import Encodings
from adapters.tiny import BASE
from adapters.tiny.world import write_suite
from adapters.transformers_engine import TransformersEngine
from benchmarks.battery import answer_in_battery, greedy_policy, grown
from benchmarks.timing import machine, median_and_range, parser, ratios, table, workplace
from guards.suites.battery_jsonl import load_suite
from guards.suites.suite import Suite
from policies.policy import Answering, Policy


@dataclass
class Rounds:
    """Seconds of whole batteries, one entry a round."""

    one: list[float] = field(default_factory=list)
    """One adapter and the base."""
    together: list[float] = field(default_factory=list)
    """All adapters and the base, in the same batches."""
    apart: list[float] = field(default_factory=list)
    """All adapters and the base, one adapter after another."""
    agreeing: int = 0
    """Answers of adapters that were the same together and one by one."""
    compared: int = 0
    """Answers compared."""


def compare(
    engine: TransformersEngine, adapters: Sequence[Adapter], suite: Suite, policy: Policy, folder: Path, rounds: int
) -> Rounds:
    """Run the three ways in turns; the first round warms up and is thrown away."""
    timed = Rounds()
    for number in range(-1, rounds):

        def battery(some: Sequence[Adapter], way: str, number: int = number) -> tuple[float, dict[str, list[str]]]:
            ledger = folder / f"{way}-{number}.db"
            with mock.patch.object(engine, "_encodings", Encodings()):  # nothing is left of the way before
                spent, answers = answer_in_battery(engine, some, suite, policy, ledger, together=way == "together")
            return spent, {digest: [answer for _, answer in said] for digest, said in answers.items()}

        one, _ = battery([adapters[number % len(adapters)]], "one")
        together, mixed = battery(adapters, "together")
        apart, alone = battery(adapters, "apart")
        if number < 0:
            continue
        timed.one.append(one)
        timed.together.append(together)
        timed.apart.append(apart)
        for adapter in adapters:
            pairs = list(zip(mixed[adapter.digest], alone[adapter.digest], strict=True))
            timed.agreeing += sum(a == b for a, b in pairs)
            timed.compared += len(pairs)
    return timed


def report(found: dict[str, Rounds], adapters: int, prompts: int) -> str:
    """The results as Markdown, a column a way of answering."""
    rows: list[list[str]] = [
        ["*one adapter, seconds*"],
        [f"**{adapters} together**"],
        [f"control: {adapters} one by one"],
    ]
    for timed in found.values():
        rows[0].append(median_and_range(timed.one))
        rows[1].append(f"**{median_and_range(ratios(timed.together, timed.one))}**")
        rows[2].append(median_and_range(ratios(timed.apart, timed.one)))
    rounds = len(next(iter(found.values())).one)
    said = [f"{name} {t.agreeing} of {t.compared} ({t.agreeing / t.compared:.1%})" for name, t in found.items()]
    return "\n\n".join(
        [
            f"{prompts} prompts an adapter; median (lowest to highest) of {rounds} rounds.",
            table(("times one adapter (target: at most 3)", *found), rows),
            "Answers alike together and one by one: " + "; ".join(said) + ".",
        ]
    )


def main() -> int:
    """Measure on the shipped tiny base and print."""
    options = parser(__doc__, repetitions=5)
    options.add_argument("--prompts", type=int, default=96, help="prompts an adapter, both modalities (default: 96)")
    chosen = options.parse_args()
    torch.set_num_threads(chosen.threads)
    print(machine())
    greedy = greedy_policy(chosen.prompts)
    drawn = greedy.model_copy(update={"answering": Answering(max_new_tokens=greedy.answering.max_new_tokens)})
    found = {}
    with workplace(chosen.work) as folder:
        adapters = grown(folder / "adapters")
        suite = load_suite(write_suite(folder / "suite", seed=1))
        engine = TransformersEngine(BASE)
        for name, policy in (("greedy", greedy), ("drawn", drawn)):
            with workplace(None) as ledgers:
                found[name] = compare(engine, adapters, suite, policy, ledgers, chosen.repetitions)
    print("\n" + report(found, len(adapters), chosen.prompts))
    return 0


if __name__ == "__main__":
    sys.exit(main())
