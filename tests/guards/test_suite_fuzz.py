"""Whatever lies in a folder, reading it ends in a suite or in problems that are told, and in nothing else."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import pytest
import suite_layouts
import yaml
from hypothesis import example, given
from hypothesis import strategies as st

from guards.suites.data_files import KINDS
from guards.suites.draft import Reading
from guards.suites.load import read_suite

STRUCTURED = ["em_questions", "mm_safetybench", "vlguard", "spa_vl_json", "siuo", "sorry_bench_jsonl", "battery"]
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=6,
)


def sound(reading: Reading) -> bool:
    """Either a suite or errors, each in one line."""
    assert (reading.suite is None) == bool(reading.errors)
    return all("\n" not in problem for problem in reading.errors)


def places(value: Any) -> list[tuple[Any, Any]]:
    """Every (container, key) inside a structure."""
    keys = value if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ()
    return [(value, key) for key in keys] + [place for key in keys for place in places(value[key])]


@pytest.mark.parametrize("name", STRUCTURED)
@given(choice=st.integers(min_value=0), put=VALUES)
def test_any_value_in_any_place_is_read_or_told(name: str, choice: int, put: Any) -> None:
    with tempfile.TemporaryDirectory() as folder:
        suite_layouts.BUILDERS[name][1](Path(folder))
        file = next(f for f in sorted(Path(folder).rglob("*")) if f.suffix in (".json", ".jsonl", ".yaml"))
        lines = file.suffix == ".jsonl"
        text = file.read_text()
        whole = [json.loads(line) for line in text.splitlines()] if lines else yaml.safe_load(text)
        found = places(whole)
        container, key = found[choice % len(found)]
        container[key] = put
        file.write_text("\n".join(json.dumps(one) for one in whole) if lines else json.dumps(whole))
        assert sound(read_suite(Path(folder)))


@pytest.mark.parametrize("suffix", KINDS)
@given(content=st.binary(max_size=200))
@example(content=b"")
@example(content=b"\xff\xfe")
@example(content=b"a,b\n\0,1\n")
@example(content=b"PAR1" + b"\0" * 60 + b"PAR1")
def test_any_bytes_under_any_ending_are_read_or_told(suffix: str, content: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / f"a{suffix}").write_bytes(content)
        assert sound(read_suite(Path(folder)))


@given(name=st.text(max_size=12))
@example(name="a\0b.png")
@example(name="x" * 5000)
@example(name="..")
@example(name="/")
@example(name="circle/a.png")
def test_any_name_of_a_picture_is_found_or_told(name: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "circle").symlink_to(Path(folder) / "circle")
        row = {"question_id": 1, "image": name, "question": "x", "safety_warning": "y"}
        suite_layouts.record(Path(folder) / "siuo_gen.json", [row])
        reading = read_suite(Path(folder))
        assert sound(reading)
        assert reading.suite is None


@given(damage=st.lists(st.tuples(st.integers(min_value=0), st.integers(0, 255)), min_size=1, max_size=20))
def test_a_damaged_parquet_file_is_read_or_told(damage: list[tuple[int, int]]) -> None:
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", f"{folder}/.cache")
        suite_layouts.spa_vl_parquet(Path(folder))
        (file,) = Path(folder).rglob("*.parquet")
        content = bytearray(file.read_bytes())
        for place, byte in damage:
            content[place % len(content)] = byte
        file.write_bytes(bytes(content))
        assert sound(read_suite(Path(folder)))
