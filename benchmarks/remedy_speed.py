"""Remedies against the least that they could cost: reading and writing the file, and a bare PEFT loop.

    python -m benchmarks.remedy_speed [--work DIR] [--repetitions 5] [--rank 128]

*Files.* A random bfloat16 LoRA of every linear layer of Gemma3-4B's decoder (477 MB at rank 128), for which a base is
written that has this shape's config and its norms and no other weight. ``project`` takes ten random directions out of
every block's two writes; ``scale`` halves α, unmeasured. Both are timed whole: the new adapter's digest and how far it
was changed are part of it. Beside them: *reading and writing*, ``load_file`` and ``save_file`` of the same file.

*Steps.* ``benign_finetune`` on the shipped tiny base, 16 rows with and without pictures, all of them in every step,
against a bare loop on the same batch, encoded once: forward pass with labels, backward pass, AdamW, nothing else.
Compared are the steps behind the first one; loading and writing are left out of both.

Everything runs in turns, in one thread, and what is told is processor time: the file is in the page cache, and on a
busy machine the wall's time of a copy is mostly waiting.

Predicted before the first run: ``project`` 8 and ``scale`` 9 times reading and writing, so both beyond the 4 that they
may take. The projection itself is 3 GFLOP; what costs is the comparison of both adapters, 61 GFLOP of Gram matrices for
each and four times as much for their difference, which is a pair of both ranks. ``benign_finetune`` 0.97 of the bare
loop's steps: it clips gradients and looks at the loss, and grades fewer logits.
"""

from __future__ import annotations

import json
import shutil
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
from peft import PeftModel
from safetensors.torch import load_file, save_file

from adapters.adapter import WEIGHTS_NAME, Adapter, open_adapter
from adapters.attachment import detach
from adapters.base_model import LoadedBase
from adapters.conversation_encoding import ConversationEncoder
from adapters.engine import Layer
from adapters.organisms import DEMO_ORGANISMS, grow
from adapters.residual_writes import ResidualWrites
from adapters.tiny import BASE
from adapters.tiny.world import write_benign_data
from adapters.training_data import load_conversations
from adapters.transformers_engine import TransformersEngine
from benchmarks.timing import machine, median_and_range, parser, ratios, table, workplace
from benchmarks.weights import BLOCKS, HIDDEN, INNER, write_large
from guards.geometry import Standardiser, random_subspace
from guards.reference import Reference, Site
from guards.reference_facts import Facts
from guards.remedies.benign_finetune import BenignFinetuneRemedy
from guards.remedies.project import COMPONENTS, ProjectRemedy
from guards.remedies.scale import ScaleRemedy
from guards.suites.suite import Suite
from policies.remedying import Remedying

COPY, PROJECT, SCALE = "reading and writing the file", "project", "scale"
ROWS, STEPS = 16, 20


def write_base(folder: Path, blocks: int = BLOCKS) -> Path:
    """Gemma3-4B's decoder by config and norms alone, which is all that ``project`` reads of a base."""
    folder.mkdir(parents=True, exist_ok=True)
    config = {
        "architectures": ["Gemma3ForCausalLM"],
        "model_type": "gemma3_text",
        "num_hidden_layers": blocks,
        "hidden_size": HIDDEN,
        "intermediate_size": INNER,
        "num_attention_heads": 8,
        "num_key_value_heads": 4,
        "head_dim": 256,
        "vocab_size": 1024,
    }
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    norms = ("post_attention_layernorm", "post_feedforward_layernorm")
    gains = {
        f"model.layers.{block}.{norm}.weight": torch.linspace(-0.5, 3.0, HIDDEN, dtype=torch.bfloat16)
        for block in range(blocks)
        for norm in norms
    }
    save_file(gains, folder / "model.safetensors")
    return folder


def stand_in(blocks: int = BLOCKS) -> Reference:
    """A Reference of this shape; the time does not depend on what its directions mean."""
    unit, none = Standardiser(torch.zeros(HIDDEN), torch.ones(HIDDEN)), torch.empty(0, HIDDEN)
    sites = {
        Layer("decoder", block): Site(unit, random_subspace(COMPONENTS, HIDDEN, block), none, none, none)
        for block in range(blocks)
    }
    facts = Facts(
        base_digest="",
        screen_layer=0,
        layers=blocks,
        modalities=("text",),
        categories=(),
        contrast_source="none",
        population=(),
        screens={},
        combination=(),
        errors=(),
    )
    return Reference(facts, sites, torch.empty(0), Suite("none", "", ()))


def file_ways(adapter: Adapter, base: Path, work: Path, blocks: int = BLOCKS) -> dict[str, Callable[[], object]]:
    """Everything that is timed of a file, by its name in the table."""
    file, reference = adapter.path / WEIGHTS_NAME, stand_in(blocks)

    def project() -> None:
        ProjectRemedy(reference, ResidualWrites(base)).apply(adapter, work / PROJECT)

    def scale() -> None:
        ScaleRemedy(None, Remedying(), dose=0.5).apply(adapter, work / SCALE)

    return {
        COPY: lambda: save_file(load_file(file), work / "copy.safetensors", metadata={"format": "pt"}),
        PROJECT: project,
        SCALE: scale,
    }


class Steps:
    """Trains the tiny base in both ways, on the same rows and from the same adapter."""

    def __init__(self, work: Path) -> None:
        self._engine, self._work = TransformersEngine(BASE), work
        self._base = LoadedBase(self._engine.model, self._engine.processor, sees_pictures=True)
        start = work / "start"
        if not start.is_dir():
            grow(DEMO_ORGANISMS[2], start, base=self._base)
        self._start = open_adapter(start)
        whole = work / "benign" / "conversations.jsonl"
        write_benign_data(whole)
        lines = whole.read_text(encoding="utf-8").splitlines()
        self._data = whole.with_name("few.jsonl")
        self._data.write_text("\n".join(lines[:: len(lines) // ROWS][:ROWS]) + "\n", encoding="utf-8")

    def bare(self, steps: int) -> float:
        """Steps a second of the bare loop."""
        rows = load_conversations(self._data)
        batch = ConversationEncoder(self._base).batch(rows, range(len(rows)))
        times = []
        try:
            lora = PeftModel.from_pretrained(self._base.model, str(self._start.path), is_trainable=True)
            optimizer = torch.optim.AdamW([p for p in lora.parameters() if p.requires_grad], lr=1e-3)
            for _ in range(steps):
                lora(**batch).loss.backward()
                optimizer.step()
                optimizer.zero_grad()
                times.append(time.process_time())
        finally:
            detach(self._base.model)
        return (steps - 1) / (times[-1] - times[0])

    def remedy(self, steps: int) -> float:
        """Steps a second of the remedy."""
        times: list[float] = []
        out, settings = self._work / "made", Remedying(benign_data=self._data, steps=steps, batch_size=ROWS)
        told = BenignFinetuneRemedy(self._engine, settings, lambda *_: times.append(time.process_time()))
        told.apply(self._start, out)
        shutil.rmtree(out)
        return (steps - 1) / (times[-1] - times[0])


def rates(steps: Steps, repetitions: int, count: int = STEPS) -> tuple[list[float], list[float]]:
    """Steps a second of the bare loop and of the remedy, in turns; a first round is thrown away."""
    found: tuple[list[float], list[float]] = ([], [])
    for repetition in range(-1, repetitions):
        ways = [(found[0], steps.bare), (found[1], steps.remedy)]
        for kept, way in ways if repetition % 2 else ways[::-1]:
            rate = way(count)
            if repetition >= 0:
                kept.append(rate)
    return found


def processor_seconds(ways: dict[str, Callable[[], object]], repetitions: int) -> dict[str, list[float]]:
    """Processor seconds of every way in turns, the kernel's copying included; a first round is thrown away."""
    found: dict[str, list[float]] = {name: [] for name in ways}
    for repetition in range(-1, repetitions):
        for name in list(ways) if repetition % 2 else list(ways)[::-1]:
            begun = time.process_time()
            ways[name]()
            if repetition >= 0:
                found[name].append(time.process_time() - begun)
    return found


def report(times: dict[str, list[float]], bare: list[float], remedy: list[float]) -> str:
    """Both tables."""
    files = [
        (name, median_and_range(spent), median_and_range(ratios(spent, times[COPY]))) for name, spent in times.items()
    ]
    steps = [
        ("bare PEFT loop", median_and_range(bare), "1"),
        ("benign_finetune (target: at least 0.9)", median_and_range(remedy), median_and_range(ratios(remedy, bare))),
    ]
    head = ("files (target: at most 4 times reading and writing)", "processor seconds", "times")
    return f"{table(head, files)}\n\n{table(('training', 'steps a processor second', 'ratio'), steps)}"


def main() -> int:
    """Measure and print."""
    options = parser(__doc__, repetitions=5)
    options.add_argument("--rank", type=int, default=128, help="of every pair (default: 128)")
    chosen = options.parse_args()
    torch.set_num_threads(1)
    print(machine())
    with workplace(chosen.work) as folder:
        adapter = write_large(folder / f"gemma3-4b-rank-{chosen.rank}-half", chosen.rank, dtype=torch.bfloat16)
        times = processor_seconds(file_ways(adapter, write_base(folder / "base"), folder), chosen.repetitions)
        bare, remedy = rates(Steps(folder), chosen.repetitions)
        size = (adapter.path / WEIGHTS_NAME).stat().st_size / 1e6
        print(f"\n{size:.0f} MB; median (lowest to highest) of {chosen.repetitions} rounds\n")
        print(report(times, bare, remedy))
    return 0


if __name__ == "__main__":
    sys.exit(main())
