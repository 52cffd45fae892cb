"""Build the shipped tiny models: ``python -m adapters.tiny.build base|judge|all``. Seeded; minutes on two cores."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import torch

from adapters.tiny import BASE
from adapters.tiny.architecture import build_model, build_processor, save_base
from adapters.tiny.curriculum import KNOWN, lesson
from adapters.tiny.school import Album, see, teach

THREADS = 2
"""Fixed, because the order of float additions, and so the last bits, depend on it."""


def build_base(folder: Path, *, steps: int = 1300, seed: int = 20260216) -> None:
    """Train the tiny base and write it to ``folder``."""
    torch.set_num_threads(THREADS)
    model, processor = build_model(seed), build_processor()
    see(model, KNOWN, steps=300, seed=seed)
    album = Album(KNOWN, views=32, first_seed=0)
    teach(model, processor, lesson, album, steps=steps, batch_size=48, learning_rate=3e-3, seed=seed)
    save_base(model, processor, folder)


def main(argv: list[str]) -> int:
    """Build what the command line names."""
    wanted = argv[1:] or ["all"]
    started = time.monotonic()
    if wanted[0] in ("base", "all"):
        build_base(BASE)
        print(f"base built in {time.monotonic() - started:.0f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv))
