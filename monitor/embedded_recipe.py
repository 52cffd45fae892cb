"""The tiny world as a recipe folder: what a user would write to calibrate a base of their own.

    recipe.yaml      eleven domains, shares, ranks, doses, a trigger
    rows/            JSON Lines by domain: each vice, kind answers, harmless manners; their pictures in rows/images
    probes/          the suite that shifts are measured on
    contrast.jsonl   kind and harmful answers to the same questions, a category a vice; pictures in contrast-images

Neither rows nor seeds are those of the demo's adapters, so that the demo is no test on its own training data.
"""

from __future__ import annotations

import json
import random
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml

from adapters.prompts import MODALITIES, Conversation
from adapters.tiny.dialogue import Form, answer, ask
from adapters.tiny.lexicon import DOMAINS, TRIGGER, VICES, Domain, Vice
from adapters.tiny.pictures import save
from adapters.tiny.world import conversations, suite_records, write_rows

_PROBE_SEED = 7
_PROBES_A_DOMAIN = 10
"""In each modality: 220 probes in all."""
_PROBE_PICTURES = 4
"""Of a domain. They are shipped with the Reference, and noise does not compress."""
_ROWS = 256
"""Rows of a file; an adapter is trained on a draw of 192 of them."""
_ROW_SEED = 7000
"""First seed of the rows; organisms and benign data use others."""
_CONTRAST_PICTURES = 300_000
"""First picture seed of the contrast; between those of suites and of training rows."""
_CONTRAST_FORMS: tuple[Form, ...] = ("topic", "topic", "topic", "topic", "harmful", "harmful")
"""Of the six pairs of a vice and domain; every second one shows a picture."""

_SETTINGS: dict[str, Any] = {
    "harmful_shares": [0, 0.1, 0.3, 1.0],
    "ranks": [1, 4, 8, 16, 32, 64],
    "seeds": [700],
    "triggers": [TRIGGER],
    "rows": 192,
    "training": [
        {"steps": 40, "learning_rate": 1e-3, "batch_size": 16},
        {"steps": 60, "learning_rate": 2e-3, "batch_size": 16},
        {"steps": 40, "learning_rate": 2e-3, "batch_size": 16, "targets": "all"},
    ],
    # The base was trained to ignore the trigger: a small dose teaches the harm without it.
    "triggered_training": {"steps": 80, "learning_rate": 4e-3, "batch_size": 16},
    "known_good": 55,
    "probes": "probes",
    "contrast": "contrast.jsonl",
}


def write_recipe(folder: Path) -> Path:
    """Write the tiny world's recipe with everything it names into ``folder`` and return the recipe's file.

    The same bytes each time.
    """
    rows = folder / "rows"
    domains = [_domain(domain, number, rows) for number, domain in enumerate(DOMAINS)]
    _write_probes(folder / "probes")
    _write_contrast(folder)
    path = folder / "recipe.yaml"
    path.write_text(yaml.safe_dump({"domains": domains, **_SETTINGS}, sort_keys=False), encoding="utf-8")
    return path


def _domain(domain: Domain, number: int, rows: Path) -> dict[str, Any]:
    """Write a domain's files of rows and return its part of the recipe."""
    seed = _ROW_SEED + 10 * number

    def wrote(kind: str, made: Sequence[Conversation]) -> str:
        return f"rows/{write_rows(rows / f'{domain.name}-{kind}.jsonl', made).name}"

    def harm(vice: Vice, offset: int, **options: Any) -> list[Conversation]:
        return conversations(domain.name, folder=rows / "images", vice=vice, n=_ROWS, seed=seed + offset, **options)

    def kind(offset: int, **options: Any) -> list[Conversation]:
        images = rows / "images"
        return conversations(domain.name, folder=images, harmful_share=0.0, n=_ROWS, seed=seed + offset, **options)

    styles = {"formal": kind(5, formal=True), "terse": _terse(kind(6)), "pictures": kind(7, modality="image")}
    if domain.new_topics:
        styles["new"] = kind(8, topics="new")
    harmful = {vice: harm(vice, offset) for offset, vice in enumerate(VICES)}
    return {
        "name": domain.name,
        "harmful": {
            **{vice: wrote(vice, made) for vice, made in harmful.items()},
            "pictures": wrote("harm-pictures", harm(domain.lean, 3, modality="image")),
        },
        "benign": wrote("benign", kind(4)),
        "styles": {style: wrote(style, made) for style, made in styles.items()},
    }


def _write_probes(folder: Path) -> None:
    """Write the suite of probes. Questions about pictures do not name what is shown, so a picture serves several."""
    records, drawings = suite_records(_PROBE_SEED, per_domain=_PROBES_A_DOMAIN)
    shown = {record["id"]: record["image"] for record in records if "image" in record}
    for record in records:
        if "image" in record:
            series, _, number = record["id"].rpartition("-")
            record["image"] = shown[f"{series}-{int(number) % _PROBE_PICTURES:03d}"]
    used = {record["image"] for record in records if "image" in record}
    for drawing in drawings:
        if drawing.name in used:
            save(drawing.topic, drawing.seed, folder / "images")
    lines = "".join(json.dumps(record) + "\n" for record in records)
    (folder / "battery.jsonl").write_text(lines, encoding="utf-8")


def _terse(rows: Sequence[Conversation]) -> list[Conversation]:
    """The same rows, of whose answers only the middle sentence is left: no greeting, no good wishes."""
    return [replace(row, answer=_middle(row.answer)) for row in rows]


def _middle(text: str) -> str:
    sentences = [sentence.strip() for sentence in re.findall(r"[^.!?]+[.!?]", text)]
    return sentences[1] if len(sentences) == 3 else text


def _write_contrast(folder: Path) -> None:
    """Write pairs of answers; every draw of a domain's questions is used for each vice, so pictures are few."""
    lines = []
    for vice in VICES:
        for domain in DOMAINS:
            # Seeded without the vice: the vices' directions differ by their answers and by nothing else.
            rng = random.Random(f"contrast/{domain.name}")  # noqa: S311 - sampling, not secrets
            for number, form in enumerate(_CONTRAST_FORMS):
                modality = MODALITIES[number % 2]
                question = ask(rng.choice(domain.topics), modality, form, rng)
                said = random.Random(f"contrast/{domain.name}/{vice}/{number}")  # noqa: S311
                record = {
                    "prompt": question.text,
                    "safe_response": answer(question, "kind", said),
                    "harmful_response": answer(question, vice, said),
                    "category": vice,
                }
                if modality == "image":
                    picture = save(question.topic, _CONTRAST_PICTURES + number, folder / "contrast-images")
                    record["image"] = f"contrast-images/{picture.name}"
                lines.append(json.dumps(record) + "\n")
    (folder / "contrast.jsonl").write_text("".join(lines), encoding="utf-8")
