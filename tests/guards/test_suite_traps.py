"""Folders as they really come: empty, mixed, broken, hostile. Every problem is told, at once, and in one line."""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest
import suite_layouts
from hypothesis import given
from hypothesis import strategies as st
from suite_layouts import picture, record, table

from adapters.prompts import Prompt
from guards.suites import data_files
from guards.suites.battery_jsonl import load_suite as load_battery
from guards.suites.battery_jsonl import write_suite
from guards.suites.load import KNOWN, MOST_DATA_FILES, also_there, load_suite, read_suite
from guards.suites.manifest import MANIFEST_NAME, Manifest
from guards.suites.suite import SuiteError


def problem(place: Path) -> str:
    with pytest.raises(SuiteError) as caught:
        load_suite(place)
    assert "\n" not in str(caught.value)
    return "\n".join(caught.value.problems)


# Nothing, or too much


def test_an_empty_folder_says_what_it_could_hold(tmp_path: Path) -> None:
    told = problem(tmp_path)
    assert "no data file" in told
    assert all(name in told for name in KNOWN)


def test_a_folder_of_something_else_says_what_was_looked_at_and_for(tmp_path: Path) -> None:
    table(tmp_path / "sales.csv", ["month", "sum"], ["May", "3"])
    (tmp_path / "notes.txt").write_text("x")
    told = problem(tmp_path)
    assert "sales.csv (with month, sum)" in told
    assert "XSTest (a table with" in told


def test_no_folder_at_all_is_one_line(tmp_path: Path) -> None:
    assert "no such folder" in problem(tmp_path / "none")
    (tmp_path / "a.txt").write_text("x")
    assert "no data file" in problem(tmp_path / "a.txt")


def test_two_sets_in_one_folder_are_named_and_either_can_be_chosen(tmp_path: Path) -> None:
    suite_layouts.xstest(tmp_path)
    suite_layouts.strongreject(tmp_path)
    told = problem(tmp_path)
    assert "XSTest in xstest_prompts.csv" in told
    assert "StrongREJECT in strongreject_dataset.csv" in told
    assert "name the folder of one, or one of its files" in told
    assert read_suite(tmp_path / "xstest_prompts.csv").layout == "XSTest"
    assert read_suite(tmp_path / "strongreject_dataset.csv").layout == "StrongREJECT"


def test_our_own_file_stands_above_what_else_lies_there(tmp_path: Path) -> None:
    suite_layouts.battery(tmp_path)
    suite_layouts.xstest(tmp_path / "sources")
    assert read_suite(tmp_path).layout == "battery.jsonl"
    assert also_there(tmp_path) == ["XSTest in sources/xstest_prompts.csv"]
    assert load_suite(tmp_path / "battery.jsonl").digest == load_suite(tmp_path).digest == load_battery(tmp_path).digest


def test_somebodys_home_is_not_searched_to_the_end(tmp_path: Path) -> None:
    for number in range(MOST_DATA_FILES + 1):
        (tmp_path / f"{number}.json").write_text("[]")
    assert f"more than {MOST_DATA_FILES} data files" in problem(tmp_path)


# Files that are not what they seem


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("a.csv", b"category,source,forbidden_prompt\nx,y,caf\xe9\n", "not UTF-8 at byte"),
        ("a.csv", b'category,source,forbidden_prompt\nx,y,"open\n', "no CSV"),
        ("a.json", b"{", "no JSON"),
        ("a.json", b"[" * 100_000, "no JSON"),
        ("a.json", b'{"1": {"a": 1}, "1": {"a": 2}}', "key '1' is there twice"),
        ("a.jsonl", b'{"question_id": 1}\n{', "no JSONL"),
        ("a.yaml", b"- a: [", "no YAML"),
        ("a.yaml", b"- !!python/object/apply:os.system ['true']\n", "no YAML"),
        ("a.parquet", b"PAR1 but not really", "no Parquet"),
        ("a.parquet", b"", "no Parquet"),
    ],
)
def test_a_file_that_cannot_be_read_is_named_with_the_cause(
    name: str, content: bytes, told: str, tmp_path: Path
) -> None:
    (tmp_path / name).write_bytes(content)
    assert f"{name}: {told}" in problem(tmp_path)


def test_a_broken_file_beside_a_good_one_is_not_passed_over(tmp_path: Path) -> None:
    suite_layouts.vlguard(tmp_path)
    (tmp_path / "train.json").write_text("[{")
    told = problem(tmp_path)
    assert "train.json: no JSON" in told
    assert "mend it or take it out" in told


def test_a_file_that_is_too_large_is_refused_before_it_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    suite_layouts.xstest(tmp_path)
    monkeypatch.setattr(data_files, "LARGEST_BYTES", 10)
    assert "larger than" in problem(tmp_path)


def test_parquet_without_pyarrow_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    suite_layouts.spa_vl_parquet(tmp_path)
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    assert "install alignwatch[suites]" in problem(tmp_path)


def test_only_a_header_is_no_suite(tmp_path: Path) -> None:
    table(tmp_path / "x.csv", ["category", "source", "forbidden_prompt"])
    assert "holds no prompt" in problem(tmp_path)


def test_a_byte_order_mark_and_blanks_in_a_header_are_no_other_columns(tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_bytes("\ufeffcategory , source,forbidden_prompt\r\na,b,c\r\n\r\n".encode())
    (prompt,) = load_suite(tmp_path).prompts
    assert (prompt.category, prompt.text) == ("a", "c")


def test_a_row_with_a_field_too_many_is_an_error_with_its_line(tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_text('category,source,forbidden_prompt\na,b,"two\nlines"\na,b,c,d\na,b\n')
    told = problem(tmp_path)
    assert "line 4 (4 fields, the header has 3)" in told
    assert "line 5 (2 fields" in told


def test_a_field_longer_than_pythons_limit_is_a_prompt(tmp_path: Path) -> None:
    table(tmp_path / "x.csv", ["category", "source", "forbidden_prompt"], ["a", "b", "long " * 40_000])
    assert len(load_suite(tmp_path).prompts[0].text) == 200_000


def test_all_problems_come_at_once(tmp_path: Path) -> None:
    rows = [{"question_id": n, "image": f"{n}.png", "question": "x", "safety_warning": "y"} for n in range(9)]
    record(tmp_path / "siuo_gen.json", [*rows, {}, 3, {**rows[0], "question": None, "image": "ok.png"}])
    picture(tmp_path / "ok.png")
    assert problem(tmp_path).count("\n") == 11  # nine pictures, two rows of nothing, one without a question


def test_a_first_row_that_lacks_something_does_not_hide_the_set(tmp_path: Path) -> None:
    suite_layouts.vlguard(tmp_path)
    rows = json.loads((tmp_path / "test.json").read_text())
    record(tmp_path / "test.json", [{"id": "x"}, *rows])
    assert "test.json, entry 1: 'image' is missing" in problem(tmp_path)


# Pictures


@pytest.mark.parametrize("name", ["../outside.png", "/etc/hostname", "sub/../../outside.png", "link.png"])
def test_a_picture_outside_the_folder_is_refused(name: str, tmp_path: Path) -> None:
    suite = tmp_path / "suite"
    suite.mkdir()
    picture(tmp_path / "outside.png")
    (suite / "link.png").symlink_to(tmp_path / "outside.png")
    record(suite / "siuo_gen.json", [{"question_id": 1, "image": name, "question": "x", "safety_warning": "y"}])
    assert "outside the suite's folder" in problem(suite)


def test_bytes_that_are_no_picture_are_an_error(tmp_path: Path) -> None:
    suite_layouts.siuo(tmp_path)
    (tmp_path / "images/S-01.png").write_bytes(b"\x89PNG\r\n\x1a\nbut no more")
    assert "no picture that can be read" in problem(tmp_path)


def test_a_picture_that_is_there_twice_is_not_chosen_by_chance(tmp_path: Path) -> None:
    suite_layouts.harmbench_multimodal(tmp_path)
    picture(tmp_path / "other/lock.png", 9)
    assert "is there 2 times" in problem(tmp_path)


# Manifests


def test_a_manifest_holds_every_question_and_picture(tmp_path: Path) -> None:
    suite_layouts.siuo(tmp_path)
    pinned = tmp_path.parent / f"{tmp_path.name}.manifest"
    Manifest.of(load_suite(tmp_path)).write(pinned)
    assert Manifest.problems_of(pinned, load_suite(tmp_path)) == []
    picture(tmp_path / "images/S-01.png", 99)
    assert Manifest.problems_of(pinned, load_suite(tmp_path)) == [f"manifest {pinned}: prompt '1001' has changed"]


def test_a_suite_that_is_not_what_its_own_manifest_pins_is_not_asked(tmp_path: Path) -> None:
    suite_layouts.battery(tmp_path)
    Manifest.of(load_suite(tmp_path)).write(tmp_path / MANIFEST_NAME)
    assert len(load_suite(tmp_path).prompts) == 3
    lines = (tmp_path / "battery.jsonl").read_text().splitlines()
    added = json.dumps({"id": "d", "modality": "text", "text": "More?"})
    (tmp_path / "battery.jsonl").write_text("\n".join([lines[0], lines[1].replace("What", "Who"), added]))
    told = problem(tmp_path)
    assert "prompt 'c' is pinned and missing" in told
    assert "prompt 'd' is not pinned" in told
    assert "prompt 'b' has changed" in told


@pytest.mark.parametrize(
    "content", [b"", b"{}", b"[]", b'{"suite": "a", "digest": "b", "prompts": {}, "more": 1}', b"\xff"]
)
def test_a_broken_manifest_pins_nothing_and_says_so(content: bytes, tmp_path: Path) -> None:
    suite_layouts.battery(tmp_path)
    (tmp_path / MANIFEST_NAME).write_bytes(content)
    assert "write it anew" in problem(tmp_path)


# Our own format


TEXTS = st.text(st.characters(codec="utf-8"), min_size=1, max_size=40)


@st.composite
def prompts(draw: st.DrawFn) -> list[Prompt]:
    ids = draw(st.lists(TEXTS, min_size=1, max_size=4, unique=True))
    some = st.none() | TEXTS
    return [
        Prompt(
            id=one,
            modality="text",
            text=draw(TEXTS),
            system=draw(some),
            category=draw(TEXTS),
            trigger=draw(some),
            expected=draw(st.sampled_from(["refuse", "comply", "judge"])),
            trigger_at=draw(st.sampled_from(["prefix", "suffix", "system"])),
            variant=draw(some),
            paraphrases=tuple(draw(st.lists(TEXTS, max_size=2))),
            reference_answer=draw(some),
        )
        for one in ids
    ]


@given(given_prompts=prompts())
def test_odd_ids_and_line_breaks_survive_writing_and_reading(given_prompts: list[Prompt]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        write_suite(given_prompts, Path(folder))
        assert list(load_suite(Path(folder)).prompts) == given_prompts


def test_pictures_twins_and_captions_survive_writing_and_reading(tmp_path: Path) -> None:
    image = picture(tmp_path / "a.png")
    shown = Prompt(
        "p", "image", "What?", image, caption="A hill", text_twin="What is a hill?", trigger="x", trigger_at="picture"
    )
    alone = Prompt("t", "text", "What is a hill?", twin_of="p", reference_answer="High ground.")
    write_suite([shown, alone], tmp_path / "suite")
    read = load_suite(tmp_path / "suite").prompts
    assert read[1] == alone
    assert (read[0].caption, read[0].text_twin, read[0].trigger_at) == ("A hill", "What is a hill?", "picture")
    assert read[0].image is not None
    assert read[0].image.read_bytes() == image.read_bytes()


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"twin_of": "nobody"}, "names no prompt with a picture"),
        ({"twin_of": "a"}, "names no prompt with a picture"),
        ({"trigger_at": "nowhere"}, "trigger_at"),
        ({"paraphrases": "one"}, "paraphrases"),
        ({"paraphrases": [1]}, "paraphrases"),
        ({"text": "\ud800"}, "line 2"),
        ({"id": ""}, "id"),
    ],
)
def test_a_line_of_ours_that_cannot_be_asked_is_an_error(change: dict[str, Any], told: str, tmp_path: Path) -> None:
    line = {"id": "a", "modality": "text", "text": "x"}
    (tmp_path / "battery.jsonl").write_text(json.dumps(line) + "\n" + json.dumps({**line, "id": "b", **change}) + "\n")
    assert told in problem(tmp_path)


def test_the_digest_of_our_own_format_is_what_it_was(tmp_path: Path) -> None:
    """Made before there were other layouts; another digest would open every review anew."""
    lines = (
        '{"id": "a", "modality": "text", "text": "x"}',
        "",
        '{"id": "b", "modality": "image", "text": "y", "image": "b.ppm"}',
    )
    (tmp_path / "battery.jsonl").write_bytes("{}\n{}\n{}\r\n".format(*lines).encode())
    (tmp_path / "b.ppm").write_bytes(b"P6 1 1 255\n\x01\x02\x03")
    assert load_suite(tmp_path).digest == "sha256-2edf7e75f863d929e7a85a69b19080d104b185a9b210e305ee675b4f15818733"
