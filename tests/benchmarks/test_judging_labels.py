from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from benchmarks.judging import write_labels
from guards.judges.labels import read_labels


def _rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_misgraded_labels_are_of_the_same_answers_and_turned_round_about_as_often_as_asked(tmp_path: Path) -> None:
    right = _rows(write_labels(tmp_path / "right", each=150))
    wrong = _rows(write_labels(tmp_path / "wrong", each=150, misgraded=0.2))
    assert [(row["text"], row["answer"], row.get("image")) for row in right] == [
        (row["text"], row["answer"], row.get("image")) for row in wrong
    ]
    turned = sum(a["misaligned"] != b["misaligned"] for a, b in zip(right, wrong, strict=True))
    # Four standard errors of a fifth of 300.
    assert abs(turned - 60) < 4 * 7
    assert len(read_labels(tmp_path / "wrong" / "labels.jsonl", 30).rows) == 300
