"""The battery against the plain way of asking, over eight adapters.

    python -m benchmarks.battery [--prompts 96] [--sample 4] [--repetitions 3] [--work DIR]

The *battery* is :class:`guards.battery.BatteryGuard` as a review runs it: batches, an adapter attached once a batch,
the base's answers kept in a ledger and recalled for the next adapter. The *plain way* takes one prompt at a time: it
asks the base, loads the adapter from disk, asks the adapter, and puts it away. Both answer greedily.

Not timed in either: the judge (it gives no score, which also keeps the sequential test from stopping early), the
loading of the base, and the training of the adapters. The plain way answers a random sample of the same prompts each
round and is scaled by the prompt.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from unittest import mock

import torch

from adapters.adapter import Adapter, open_adapter
from adapters.encodings import Encodings
from adapters.engine import Sampling
from adapters.organisms import DEMO_ORGANISMS, Organism, grow, load_tiny_base
from adapters.prompts import MODALITIES, Prompt
from adapters.tiny import BASE
from adapters.tiny.world import write_suite
from adapters.transformers_engine import TransformersEngine
from benchmarks.timing import encoding_anew, machine, median_and_range, parser, ratios, seconds, table, workplace
from guards.battery import BatteryGuard
from guards.judges.interface import Judgement, Transcript
from guards.suites.battery_jsonl import load_suite
from guards.suites.suite import Suite
from monitor.ledger import Ledger
from policies.policy import Answering, Budget, Policy

EIGHTH = Organism("benign-code", "insecure_code", seed=31)
"""The demo trains seven adapters; the target speaks of eight."""
STEPS = 12
"""Optimizer steps: enough that the adapters act, which is all that speed depends on."""


class SilentJudge:
    """Gives no score, at no cost, and keeps what it was shown."""

    id = "silent"

    def __init__(self) -> None:
        self.seen: list[Transcript] = []

    def grade(self, transcripts: Sequence[Transcript]) -> list[Judgement]:
        """Leave every transcript unscored."""
        self.seen += transcripts
        return [Judgement(judge=self.id, unscored="not_asked")] * len(transcripts)


@dataclass
class Timed:
    """Seconds a prompt and an adapter, one entry a round."""

    battery: list[float] = field(default_factory=list)
    """Base and adapter answered, base answers shared over the adapters."""
    plain: list[float] = field(default_factory=list)
    """Base asked, adapter loaded, adapter asked."""
    plain_base: list[float] = field(default_factory=list)
    """Of that: asking the base."""
    plain_load: list[float] = field(default_factory=list)
    """Of that: attaching and detaching the adapter."""
    agreeing: int = 0
    """Answers that both ways gave alike."""
    compared: int = 0
    """Answers compared."""

    @property
    def faster(self) -> list[float]:
        """How many times faster the battery was, by round."""
        return ratios(self.plain, self.battery)


def compare(
    engine: TransformersEngine,
    adapters: Sequence[Adapter],
    suite: Suite,
    policy: Policy,
    folder: Path,
    rounds: int,
    sample: int,
) -> Timed:
    """Run both ways in turns; ``sample`` prompts a modality are put the plain way in each round."""
    answering = policy.answering
    sampling = Sampling(0, answering.top_p, answering.max_new_tokens, answering.seed)
    timed = Timed()
    for number in range(-1, rounds):  # the first round warms up and is thrown away
        if number < 0:
            answer_in_battery(engine, adapters[:1], suite, policy, folder / "warm-up.db")
            continue
        with mock.patch.object(engine, "_encodings", Encodings()):  # nothing is left of the round before
            spent, answers = answer_in_battery(engine, adapters, suite, policy, folder / f"round-{number}.db")
        asked = list(dict.fromkeys(prompt for prompt, _ in answers[adapters[0].digest]))
        timed.battery.append(spent / len(asked) / len(adapters))
        base, load, ask = 0.0, 0.0, 0.0
        chosen = _sample(asked, sample, number)
        for adapter in adapters:
            for prompt in chosen:
                with encoding_anew(engine):
                    one_base, one_load, one_ask, said = _plainly(engine, adapter, prompt, sampling)
                base, load, ask = base + one_base, load + one_load, ask + one_ask
                timed.compared += 2
                timed.agreeing += sum(a == b for a, b in zip(said, _both(answers[adapter.digest], prompt), strict=True))
        share = 1 / len(chosen) / len(adapters)
        timed.plain.append((base + load + ask) * share)
        timed.plain_base.append(base * share)
        timed.plain_load.append(load * share)
    return timed


def answer_in_battery(
    engine: TransformersEngine,
    adapters: Sequence[Adapter],
    suite: Suite,
    policy: Policy,
    ledger: Path,
    together: bool = False,
) -> tuple[float, dict[str, list[tuple[Prompt, str]]]]:
    """Examine every adapter with a fresh ledger: the seconds, and by adapter what base and adapter said.

    ``together``: while one is examined, those after it answer in the same batches.
    """
    answers = {}
    spent = 0.0
    waiting = list(adapters) if together else []
    with Ledger(ledger) as memory:
        judge = SilentJudge()
        battery = BatteryGuard(engine, judge, [suite], policy, memory, company=lambda: waiting)
        for adapter in adapters:
            judge.seen.clear()
            waiting = waiting[1:]
            spent += seconds(lambda examined=adapter: battery.examine(examined))  # type: ignore[misc]
            answers[adapter.digest] = [(one.prompt, one.answer) for one in judge.seen]
    return spent, answers


def _plainly(
    engine: TransformersEngine, adapter: Adapter, prompt: Prompt, sampling: Sampling
) -> tuple[float, float, float, list[str]]:
    said: list[str] = []
    asking = 0.0
    base = seconds(lambda: said.extend(engine.generate([prompt], sampling)))

    def whole() -> None:
        nonlocal asking
        with engine.attached(adapter):
            asking = seconds(lambda: said.extend(engine.generate([prompt], sampling)))

    return base, seconds(whole) - asking, asking, said


def _sample(prompts: Sequence[Prompt], each: int, number: int) -> list[Prompt]:
    """Other prompts every round, as long as there are any; the schedule is in random order already."""
    chosen = []
    for modality in MODALITIES:
        pool = [prompt for prompt in prompts if prompt.modality == modality]
        chosen += [pool[(number * each + place) % len(pool)] for place in range(min(each, len(pool)))]
    return chosen


def _both(answers: Sequence[tuple[Prompt, str]], prompt: Prompt) -> list[str]:
    """What base and adapter said to a prompt in the battery; a batch is judged base first."""
    return [answer for asked, answer in answers if asked == prompt]


def greedy_policy(prompts: int, longest: int = 32) -> Policy:
    """The default policy with greedy answers of at most ``longest`` tokens, and ``prompts`` in all."""
    return Policy(
        name="benchmark", budget=Budget(prompts=prompts), answering=Answering(temperature=0, max_new_tokens=longest)
    )


def grown(folder: Path) -> list[Adapter]:
    """Eight real adapters of the tiny base, trained where they are not there yet."""
    base = load_tiny_base()
    for organism in (*DEMO_ORGANISMS, EIGHTH):
        if not (folder / organism.name).is_dir():
            print(f"training {organism.name}", file=sys.stderr)
            grow(replace(organism, steps=STEPS), folder / organism.name, base=base)
    return [open_adapter(folder / organism.name) for organism in (*DEMO_ORGANISMS, EIGHTH)]


def report(timed: Timed, adapters: int, prompts: int, sample: int) -> str:
    """The result as Markdown."""
    milliseconds = [
        ("battery", timed.battery),
        ("plain way", timed.plain),
        ("… of which asking the base again", timed.plain_base),
        ("… of which loading the adapter", timed.plain_load),
    ]
    once = [whole - load for whole, load in zip(timed.plain, timed.plain_load, strict=True)]
    shared = [whole - base for whole, base in zip(once, timed.plain_base, strict=True)]
    gains = [
        ("against the plain way (target: at least 8)", timed.faster),
        ("against the plain way without reloading", ratios(once, timed.battery)),
        ("against that with the base asked for free", ratios(shared, timed.battery)),
    ]
    return "\n\n".join(
        [
            f"Eight adapters means {adapters} here; {prompts} prompts each, {2 * sample} of them the plain way and "
            f"scaled by the prompt; median (lowest to highest) of {len(timed.battery)} rounds.",
            table(
                ("way", "milliseconds a prompt and adapter"),
                [(name, median_and_range([1000 * t for t in times], digits=1)) for name, times in milliseconds],
            ),
            table(("the battery is faster", "times"), [(name, median_and_range(x, digits=1)) for name, x in gains]),
            f"Greedy answers alike in both ways: {timed.agreeing} of {timed.compared} "
            f"({timed.agreeing / timed.compared:.1%}); half are the base's, asked once for every adapter.",
        ]
    )


def main() -> int:
    """Measure on the shipped tiny base and print."""
    options = parser(__doc__, repetitions=3)
    options.add_argument("--prompts", type=int, default=96, help="prompts an adapter, both modalities (default: 96)")
    options.add_argument("--sample", type=int, default=4, help="prompts a modality the plain way, a round (default: 4)")
    chosen = options.parse_args()
    torch.set_num_threads(chosen.threads)
    print(machine())
    with workplace(chosen.work) as folder:
        adapters = grown(folder / "adapters")
        suite = load_suite(write_suite(folder / "suite", seed=1))
        engine = TransformersEngine(BASE)
        policy = greedy_policy(chosen.prompts)
        with workplace(None) as ledgers:
            timed = compare(engine, adapters, suite, policy, ledgers, chosen.repetitions, chosen.sample)
    print("\n" + report(timed, len(adapters), chosen.prompts, chosen.sample))
    return 0


if __name__ == "__main__":
    sys.exit(main())
