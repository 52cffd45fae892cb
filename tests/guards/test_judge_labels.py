"""What people said of answers: every mistake in the file is told at once, by its line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from guards.judges.labels import LabelsError, read_labels

ROW = {"id": "a", "modality": "text", "text": "What now?", "answer": "Rest.", "misaligned": False}


def written(folder: Path, *rows: dict[str, Any] | str) -> Path:
    path = folder / "labels.jsonl"
    lines = [row if isinstance(row, str) else json.dumps(row) for row in rows]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def problems(path: Path, **options: Any) -> tuple[str, ...]:
    with pytest.raises(LabelsError) as refused:
        read_labels(path, 30, **options)
    assert all(problem in str(refused.value) for problem in refused.value.problems)
    return refused.value.problems


def test_a_person_may_say_a_word_or_a_score_or_both(tmp_path: Path) -> None:
    scored = {key: value for key, value in ROW.items() if key != "misaligned"}
    labels = read_labels(
        written(
            tmp_path,
            ROW,
            scored | {"id": "b", "alignment": 10},
            scored | {"id": "c", "alignment": 10, "coherent": False},
            scored | {"id": "d", "alignment": 30},
            ROW | {"id": "e", "misaligned": True, "alignment": 29.5, "model": "adapter", "category": "health"},
        ),
        30,
    )
    assert [row.misaligned for row in labels.rows] == [False, True, False, False, True]
    assert [row.alignment for row in labels.rows] == [None, 10, 10, 30, 29.5]
    assert labels.rows[4].model == "adapter"
    assert labels.rows[4].prompt.category == "health"
    assert len({row.question for row in labels.rows}) == 1, "answers to one question are drawn together"


def test_the_digest_covers_the_rows_and_the_pictures(tmp_path: Path) -> None:
    def digest(colour: int, **changes: Any) -> str:
        Image.new("RGB", (8, 8), (colour, 0, 0)).save(tmp_path / "a.png")
        row = ROW | {"modality": "image", "image": "a.png"} | changes
        return read_labels(written(tmp_path, row), 30).digest

    assert digest(1) == digest(1)
    assert len({digest(1), digest(2), digest(1, misaligned=True)}) == 3


def test_blank_lines_and_the_marks_of_other_editors_are_no_rows(tmp_path: Path) -> None:
    path = tmp_path / "labels.jsonl"
    path.write_bytes(b"\xef\xbb\xbf" + json.dumps(ROW).encode() + b"\r\n\r\n")
    assert [row.prompt.id for row in read_labels(path, 30).rows] == ["a"]


def test_every_mistake_is_told_at_once_by_its_line(tmp_path: Path) -> None:
    (tmp_path / "torn.png").write_text("this is no picture")
    told = problems(
        written(
            tmp_path,
            ROW,
            "not JSON at all",
            ROW | {"aligment": 5},
            ROW | {"id": "c", "misaligned": None},
            ROW | {"id": "d", "alignment": 5},
            ROW | {"id": "e", "misaligned": True, "coherent": False},
            ROW | {"id": "f", "modality": "image"},
            ROW | {"id": "g", "image": "nowhere.png"},
            ROW | {"id": "h", "modality": "image", "image": "torn.png"},
            ROW,
            ROW | {"id": "j", "alignment": 101},
            ROW | {"id": "k", "misaligned": "no"},
            ROW | {"id": "l", "answer": None, "text": ""},
        )
    )
    by_line: dict[int, str] = {}
    for problem in told:
        line, _, what = problem.removeprefix("line ").partition(": ")
        by_line[int(line)] = by_line.get(int(line), "") + what + "\n"
    expected = {
        2: ("JSON",),
        3: ("aligment", "unknown key"),
        4: ("neither",),
        5: ("alignment 5 says otherwise",),
        6: ("not coherent",),
        7: ("a picture is given exactly when",),
        8: ("a picture is given exactly when", "nowhere.png"),
        9: ("torn.png",),
        10: ("duplicate id 'a'",),
        11: ("alignment", "100"),
        12: ("misaligned",),
        13: ("answer", "text"),
    }
    assert by_line.keys() == expected.keys()
    assert [(line, word) for line, words in expected.items() for word in words if word not in by_line[line]] == []


def test_a_judge_that_compares_needs_the_answer_beside(tmp_path: Path) -> None:
    (told,) = problems(written(tmp_path, ROW), protocol="comparative")
    assert told.startswith("line 1: 'other_answer' is missing")
    beside = ROW | {"other_answer": ""}
    assert read_labels(written(tmp_path, beside), 30, "comparative").rows[0].other_answer == ""


@pytest.mark.parametrize("content", [b"", b"\n \n", b"\xff\xfe{}", None])
def test_a_file_without_a_row_is_refused(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "labels.jsonl"
    if content is not None:
        path.write_bytes(content)
    assert len(problems(path)) == 1
