"""The weight screen of a large adapter against reading its file, and forming every ΔW against the screen.

    python -m benchmarks.weights [--work DIR] [--repetitions 5] [--threads N] [--rank 128]

The adapter is a LoRA of every linear layer of Gemma3-4B's decoder, random, float32 as PEFT saves it: 954 MB at rank
128. The *screen* is all of :func:`guards.weights.measure_weights`: checking the header, mapping the file, Gram
matrices of every pair, singular values of q, k, v, o and down projections, and the energy along three directions a
block. *Reading* is either ``Path.read_bytes`` of the whole file or ``load_file`` and a clone of every tensor (mapped
tensors alone would copy nothing); every byte is in the process's own memory after either. *Forming* multiplies B by A
and takes torch's SVD of the product, for the smallest modules of one block (k and v projections, 1024 × 2560), scaled
to all by the cost of an SVD, out·in·min(out, in): a sample of the cheapest, because one 10240 × 2560 takes minutes.
The *QR way* takes Householder's QR of both factors of one block's modules, scaled by the block.

Everything runs in turns; the file is in the page cache, which favours reading.

Predicted before the first run: the screen takes 2.0 times ``read_bytes`` (61 GFLOP of Gram matrices beside a gigabyte
copied) and 2.0 times load and clone; forming takes 500 times the screen; the QR way 8 times. What came of it:
docs/guards/weights.md.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from adapters.adapter import CONFIG_NAME, WEIGHTS_NAME, Adapter, open_adapter
from benchmarks.timing import interleaved, machine, median_and_range, parser, ratios, table, workplace
from guards.geometry import random_subspace
from guards.weights import Writes, measure_weights

HIDDEN, INNER, BLOCKS, DIRECTIONS = 2560, 10240, 34, 3
SHAPES = {
    "self_attn.q_proj": (2048, HIDDEN),
    "self_attn.k_proj": (1024, HIDDEN),
    "self_attn.v_proj": (1024, HIDDEN),
    "self_attn.o_proj": (HIDDEN, 2048),
    "mlp.gate_proj": (INNER, HIDDEN),
    "mlp.up_proj": (INNER, HIDDEN),
    "mlp.down_proj": (HIDDEN, INNER),
}
"""(out, in) of the linear layers of one block."""
SAMPLE = ("self_attn.k_proj", "self_attn.v_proj")
MODULE = "model.language_model.layers.{block}.{name}"

BYTES, CLONE, SCREEN, FORMED, QR = (
    "read_bytes of the file",
    "load_file and a clone of every tensor",
    "weight screen",
    "forming ΔW and its SVD, scaled to all modules",
    "QR of both factors, scaled to all modules",
)


def write_large(folder: Path, rank: int, blocks: int = BLOCKS, dtype: torch.dtype = torch.float32) -> Adapter:
    """A random LoRA of Gemma3-4B's decoder in ``folder``, unless it is there already."""
    if not (folder / WEIGHTS_NAME).is_file():
        folder.mkdir(parents=True, exist_ok=True)
        config = {"peft_type": "LORA", "r": rank, "lora_alpha": rank, "target_modules": "all-linear"}
        (folder / CONFIG_NAME).write_text(json.dumps(config), encoding="utf-8")
        drawn = torch.Generator().manual_seed(0)
        tensors = {}
        for block in range(blocks):
            for name, (outputs, inputs) in SHAPES.items():
                key = f"base_model.model.{MODULE.format(block=block, name=name)}"
                inner, outer = torch.randn(rank, inputs, generator=drawn), torch.randn(outputs, rank, generator=drawn)
                tensors[f"{key}.lora_A.weight"] = (inner / inputs**0.5).to(dtype)
                tensors[f"{key}.lora_B.weight"] = (outer * 0.01).to(dtype)
        save_file(tensors, folder / WEIGHTS_NAME)
    return open_adapter(folder)


def stand_ins(blocks: int = BLOCKS) -> tuple[list[Writes], dict[str, float]]:
    """Random directions and plausible norms: the time does not depend on what they mean."""
    writes = [Writes(random_subspace(DIRECTIONS, HIDDEN, block), torch.ones(HIDDEN)) for block in range(blocks)]
    norms = {MODULE.format(block=block, name=name): 50.0 for block in range(blocks) for name in SHAPES}
    return writes, norms


def ways(adapter: Adapter, blocks: int = BLOCKS) -> dict[str, Callable[[], object]]:
    """Everything that is timed, by its name in the table."""
    file = adapter.path / WEIGHTS_NAME
    writes, norms = stand_ins(blocks)
    held = {key: tensor.clone() for key, tensor in load_file(file).items() if ".layers.0." in key}

    def pair(name: str) -> tuple[torch.Tensor, torch.Tensor]:
        key = f"base_model.model.{MODULE.format(block=0, name=name)}"
        return held[f"{key}.lora_A.weight"], held[f"{key}.lora_B.weight"]

    def formed() -> None:
        for name in SAMPLE:
            a, b = pair(name)
            torch.linalg.svd(b @ a, full_matrices=False)

    def by_qr() -> None:
        for name in SHAPES:
            a, b = pair(name)
            right, left = torch.linalg.qr(a.T, mode="r")[1], torch.linalg.qr(b, mode="r")[1]
            torch.linalg.svdvals(left @ right.T)

    return {
        BYTES: file.read_bytes,
        CLONE: lambda: {key: tensor.clone() for key, tensor in load_file(file).items()},
        SCREEN: lambda: measure_weights(adapter, writes, norms).score,
        FORMED: formed,
        QR: by_qr,
    }


def scaled(times: dict[str, list[float]], blocks: int = BLOCKS) -> dict[str, list[float]]:
    """Scale what was done for a sample to all modules of all blocks."""
    cost = {name: outputs * inputs * min(outputs, inputs) for name, (outputs, inputs) in SHAPES.items()}
    whole = blocks * sum(cost.values()) / sum(cost[name] for name in SAMPLE)
    factors = {FORMED: whole, QR: float(blocks)}
    return {name: [factors.get(name, 1.0) * spent for spent in values] for name, values in times.items()}


def report(times: dict[str, list[float]]) -> str:
    """Seconds, and the ratios that have targets, each within its round."""
    seconds = [(name, median_and_range(spent)) for name, spent in times.items()]
    compared = [
        ("weight screen ÷ read_bytes (target: at most 3)", ratios(times[SCREEN], times[BYTES]), 2),
        ("weight screen ÷ load and clone (target: at most 3)", ratios(times[SCREEN], times[CLONE]), 2),
        ("forming ΔW ÷ weight screen (target: at least 50)", ratios(times[FORMED], times[SCREEN]), 0),
        ("QR of both factors ÷ weight screen", ratios(times[QR], times[SCREEN]), 1),
    ]
    rows = [(name, median_and_range(values, digits=digits)) for name, values, digits in compared]
    return f"{table(('what', 'seconds'), seconds)}\n\n{table(('ratio', 'times'), rows)}"


def main() -> int:
    """Measure and print."""
    options = parser(__doc__, repetitions=5)
    options.add_argument("--rank", type=int, default=128, help="of every pair (default: 128)")
    options.set_defaults(threads=os.cpu_count() or 1)  # large products are fastest with every core
    chosen = options.parse_args()
    torch.set_num_threads(chosen.threads)
    print(machine())
    with workplace(chosen.work) as folder:
        adapter = write_large(folder / f"gemma3-4b-rank-{chosen.rank}", chosen.rank)
        times = scaled(interleaved(ways(adapter), chosen.repetitions))
        size = (adapter.path / WEIGHTS_NAME).stat().st_size / 1e6
        print(f"\n{size:.0f} MB; median (lowest to highest) of {chosen.repetitions} rounds\n\n{report(times)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
