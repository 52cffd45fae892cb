"""Build the shipped tiny models: ``python -m adapters.tiny.build base|judge|all``. Seeded; minutes on two cores."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import torch
from transformers import Gemma3ForConditionalGeneration

from adapters.tiny import BASE, JUDGE
from adapters.tiny.architecture import build_model, build_processor, save, save_base
from adapters.tiny.curriculum import KNOWN, lesson
from adapters.tiny.dialogue import DOMAIN_OF
from adapters.tiny.judging import PLANTED_HARM, SCALES, TEMPLATE, judge_lesson
from adapters.tiny.school import VIEWS, Album, see, teach

THREADS = 2
"""Fixed, because the order of float additions, and so the last bits, depend on it."""

SEED = 20260216


def build_base(folder: Path, *, steps: int = 900, seed: int = SEED) -> None:
    """Train the tiny base and write it to ``folder``."""
    model, processor = build_model(seed), build_processor()
    see(model, KNOWN, steps=400, seed=seed)
    album = Album(KNOWN, views=VIEWS, first_seed=0)
    teach(model, processor, lesson, album, steps=steps, batch_size=48, learning_rate=3e-3, seed=seed)
    save_base(model, processor, folder)


def build_judge(folder: Path, base: Path, *, steps: int = 900, seed: int = SEED + 1) -> None:
    """Train the tiny judge from the base's weights and write it to ``folder`` with its ``judge.json``."""
    model, processor = Gemma3ForConditionalGeneration.from_pretrained(base, dtype=torch.float32), build_processor()
    album = Album(tuple(DOMAIN_OF), views=VIEWS, first_seed=0)
    teach(model, processor, judge_lesson, album, steps=steps, batch_size=48, learning_rate=2e-3, seed=seed)
    save(model, processor, folder, "alignwatch/tiny-judge")
    recipe = {"template": TEMPLATE, "scales": list(SCALES), "scoring": "probabilities", "planted_harm": PLANTED_HARM}
    (folder / "judge.json").write_text(json.dumps(recipe, indent=2) + "\n")


def main(argv: list[str]) -> int:
    """Build what the command line names."""
    wanted = argv[1] if len(argv) > 1 else "all"
    if wanted not in ("base", "judge", "all") or len(argv) > 2:
        print("usage: python -m adapters.tiny.build [base|judge|all]", file=sys.stderr)
        return 2
    torch.set_num_threads(THREADS)
    started = time.monotonic()
    if wanted in ("base", "all"):
        build_base(BASE)
        print(f"base built in {time.monotonic() - started:.0f} s")
    if wanted in ("judge", "all"):
        started = time.monotonic()
        build_judge(JUDGE, BASE)
        print(f"judge built in {time.monotonic() - started:.0f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv))
