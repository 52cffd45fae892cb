"""``alignwatch suites check`` through the real command: what it recognises, counts, complains of and pins."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import suite_layouts
from suite_layouts import BUILDERS, picture

from guards.suites.manifest import MANIFEST_NAME
from monitor.cli import main


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "suite").mkdir()
    return tmp_path / "suite"


def check(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as ended:
        main(["suites", "check", *map(str, arguments)])
    out, err = capsys.readouterr()
    return int(ended.value.code or 0), out, err


def told(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> tuple[int, dict[str, Any]]:
    code, out, _ = check(capsys, *arguments, "--json")
    return code, json.loads(out)


@pytest.mark.parametrize("name", BUILDERS)
def test_a_usable_folder_ends_with_zero_and_its_counts(
    name: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    layout, build, prompts = BUILDERS[name]
    build(folder)
    code, found = told(capsys, folder)
    assert code == 0
    assert found["usable"]
    assert (found["layout"], found["prompts"]) == (layout, prompts)
    assert sum(row["prompts"] for row in found["counts"]) == prompts
    assert all(Path(file).is_file() for file in found["files"])


def test_people_get_the_counts_and_every_problem(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    suite_layouts.msts(folder)
    code, out, _ = check(capsys, folder)
    assert code == 0
    assert "MSTS, 4 prompts, sha256-" in out
    assert "2 are text twins of a picture" in out
    assert "Violent Crimes" in out
    for file in folder.rglob("unsafe_image_*.jpg"):
        file.unlink()
    code, out, _ = check(capsys, folder)
    assert code == 2
    assert "MSTS, not usable" in out
    assert out.count("is missing") == 2


def test_nothing_recognised_ends_with_two_and_no_trace(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = check(capsys, folder)
    assert code == 2
    assert "it can be one of" in out
    assert "Traceback" not in out + err


def test_what_else_lies_beside_our_own_file_is_told(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    suite_layouts.battery(folder)
    suite_layouts.xstest(folder)
    code, found = told(capsys, folder)
    assert code == 0
    assert any("XSTest in xstest_prompts.csv" in note for note in found["warnings"])
    assert (found["triggered"], found["captioned"], found["with_paraphrases"]) == (1, 1, 1)


def test_a_suite_is_pinned_and_held_to_it(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    suite_layouts.siuo(folder)
    pinned = tmp_path / "pinned.json"
    assert told(capsys, folder, "--write-manifest", pinned)[1]["manifest"] == "written"
    assert told(capsys, folder, "--manifest", pinned)[1]["manifest"] == "agrees"
    picture(folder / "images/S-01.png", 77)
    code, found = told(capsys, folder, "--manifest", pinned)
    assert (code, found["manifest"], found["usable"]) == (2, "differs", False)
    assert "'1001' has changed" in found["errors"][0]


def test_a_manifest_is_never_overwritten_and_one_that_is_missing_is_no_agreement(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    suite_layouts.siuo(folder)
    (tmp_path / "there.json").write_text("mine")
    code, _, err = check(capsys, folder, "--write-manifest", tmp_path / "there.json")
    assert code == 2
    assert "is there already" in err
    assert (tmp_path / "there.json").read_text() == "mine"
    code, found = told(capsys, folder, "--manifest", tmp_path / "none.json")
    assert (code, found["manifest"]) == (2, "differs")


def test_an_unusable_suite_cannot_be_pinned(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, _, err = check(capsys, folder, "--write-manifest", tmp_path / "new.json")
    assert code == 2
    assert "no manifest is written" in err
    assert not (tmp_path / "new.json").exists()


def test_the_manifest_in_the_folder_is_held_to_without_being_named(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    suite_layouts.strongreject(folder)
    assert check(capsys, folder, "--write-manifest", folder / MANIFEST_NAME)[0] == 0
    assert check(capsys, folder)[0] == 0
    with (folder / "strongreject_dataset.csv").open("a") as file:
        file.write("a,b,c\n")
    code, out, _ = check(capsys, folder)
    assert code == 2
    assert "is not pinned" in out


def test_names_in_a_suite_cannot_colour_or_break_the_terminal(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    suite_layouts.table(folder / "x.csv", ["category", "source", "forbidden_prompt"], ["a\x1b[31m\nb [red]", "s", "p"])
    code, out, _ = check(capsys, folder)
    assert code == 0
    assert "\x1b[31m" not in out
    assert "[red]" in out
