"""What a user names on the command line is found whole, or refused in one clear line before a model is loaded."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import World
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from adapters.adapter import digest_adapter
from guards.calibration.contrast import load_contrast
from guards.errors import Permanent, Retryable
from guards.structure import StructureGuard
from monitor.calibration import CalibrationRequest, calibrate_base, suite_of_pairs
from monitor.cli_reference import LISTS, spread_lists
from monitor.console import ConsoleProgress
from monitor.exit_codes import UsageError
from monitor.given_adapters import given_adapters, known_adapters, require_sound

VALUES = st.lists(st.text("ab=/. ", min_size=1).filter(lambda text: not text.startswith("-")), max_size=4)


@given(st.lists(st.tuples(st.sampled_from(LISTS), VALUES.filter(bool)), max_size=4), st.booleans())
def test_every_value_after_a_list_gets_its_option_and_nothing_else_changes(
    lists: list[tuple[str, list[str]]], joined: bool
) -> None:
    typed = ["calibrate", "--out", "R"]
    wanted = [("--out", "R")]
    for option, values in lists:
        first, rest = values[0], values[1:]
        typed += [f"{option}={first}", *rest] if joined else [option, first, *rest]
        wanted += [(option, value) for value in values]
    spread = spread_lists([*typed, "--base", "B", "--accept-outliers"])
    parsed = [tuple(a.split("=", 1)) if a.startswith("--") and "=" in a else a for a in spread[1:-3]]
    pairs = [one for one in parsed if isinstance(one, tuple)]
    bare = [one for one in parsed if isinstance(one, str)]
    pairs += list(zip(bare[::2], bare[1::2], strict=True))
    assert sorted(pairs) == sorted(wanted)
    assert spread[-3:] == ["--base", "B", "--accept-outliers"]
    assert spread_lists(spread) == spread


@given(st.lists(st.text("ab-=", max_size=6)))
def test_other_commands_are_left_alone(arguments: list[str]) -> None:
    assert spread_lists(["gate", *arguments]) == ["gate", *arguments]
    assert spread_lists([]) == []


def test_a_list_without_a_value_stays_the_parsers_to_complain_about() -> None:
    assert spread_lists(["calibrate", "--known-good", "--out", "R"]) == ["calibrate", "--known-good", "--out", "R"]


@pytest.fixture
def zoo(text_world: World, tmp_path: Path) -> Path:
    """``zoo/b`` and ``zoo/a`` are adapters, ``zoo/notes`` is none."""
    for name, source in (("b", text_world.bad), ("a", text_world.good)):
        shutil.copytree(source, tmp_path / "zoo" / name)
    (tmp_path / "zoo" / "notes").mkdir()
    return tmp_path / "zoo"


def test_a_folder_of_adapters_is_taken_in_sorted_order_and_a_domain_goes_to_all_of_them(zoo: Path) -> None:
    found = given_adapters([f"law={zoo}", zoo / "b"])
    assert [one.adapter.path.name for one in found] == ["a", "b", "b"]
    assert [one.domain for one in found] == ["law", "law", None]


def test_without_a_domain_each_adapter_is_a_domain_of_its_own(zoo: Path) -> None:
    known = known_adapters([str(zoo / "a")], [str(zoo / "b")])
    assert [(one.domain, one.harmful) for one in known] == [("a", False), ("b", True)]


def test_adapters_of_one_folder_name_are_told_apart(text_world: World, zoo: Path, tmp_path: Path) -> None:
    shutil.copytree(text_world.bad, tmp_path / "other" / "a")
    names = [one.adapter.name for one in given_adapters([zoo / "a", tmp_path / "other" / "a"])]
    assert names == ["zoo/a", "other/a"]


def test_a_path_that_holds_an_equals_sign_is_a_path(text_world: World, tmp_path: Path) -> None:
    shutil.copytree(text_world.good, tmp_path / "lr=1")
    (one,) = given_adapters([tmp_path / "lr=1"])
    assert one.domain is None
    assert one.adapter.digest == digest_adapter(text_world.good)


@pytest.mark.parametrize(
    ("value", "says"),
    [
        ("gone", "no such folder"),
        ("law=gone", "no such folder"),
        ("empty", "holds no adapter"),
        ("a.txt", "no adapter"),
    ],
)
def test_a_path_that_leads_to_no_adapter_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, value: str, says: str
) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "a.txt").write_text("no folder")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match=says) as refused:
        known_adapters([value], [])
    assert f"--known-good {value}" in str(refused.value)


def test_one_adapter_on_both_sides_is_refused_with_both_paths(zoo: Path, tmp_path: Path) -> None:
    shutil.copytree(zoo / "a", tmp_path / "copy")
    with pytest.raises(UsageError, match="same adapter") as refused:
        known_adapters([str(zoo)], [str(tmp_path / "copy")])
    assert str(zoo / "a") in str(refused.value)
    assert str(tmp_path / "copy") in str(refused.value)


def test_an_adapter_in_a_pickle_is_refused_before_its_weights_are_read(text_world: World, zoo: Path) -> None:
    weights = zoo / "a" / "adapter_model.safetensors"
    weights.rename(weights.with_name("adapter_model.bin"))
    known = known_adapters([str(zoo / "a")], [])
    with pytest.raises(UsageError, match="pickle"):
        require_sound(known, StructureGuard(text_world.base))


def _pairs(folder: Path, count: int = 4) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (8, 8)).save(folder / "one.png")
    lines = []
    for n in range(count):
        line = {"prompt": f"tell me {n % 3}", "safe_response": "good", "harmful_response": "harm"}
        lines.append(json.dumps(line | ({"image": "one.png"} if n % 2 else {})))
    (folder / "contrast.jsonl").write_text("\n".join(lines))
    return folder / "contrast.jsonl"


def test_the_prompts_of_a_contrast_make_a_suite_in_which_each_stands_once(tmp_path: Path) -> None:
    suite = suite_of_pairs(load_contrast(_pairs(tmp_path, 12)))
    assert len(suite.prompts) == len({(p.text, p.image) for p in suite.prompts}) == 6
    assert suite.modalities == ("text", "image")
    assert suite.digest.startswith("sha256-")


def _known(world: World, side: str) -> str:
    return str(world.good if side == "good" else world.bad)


Make = Callable[[World, Path], CalibrationRequest]

MISTAKES: dict[str, tuple[Make, str]] = {
    "nothing known": (lambda w, t: CalibrationRequest(str(w.base), t / "R"), "--known-good"),
    "no base": (lambda w, t: CalibrationRequest(str(t / "gone"), t / "R", known_good=[_known(w, "good")]), "--base"),
    "nothing to measure on": (
        lambda w, t: CalibrationRequest(str(w.base), t / "R", known_good=[_known(w, "good")]),
        "--suite",
    ),
    "too few": (
        lambda w, t: CalibrationRequest(str(w.base), t / "R", suite=w.suite, known_good=[_known(w, "good")]),
        "at least 4 known-good",
    ),
    "no recipe": (lambda w, t: CalibrationRequest(str(w.base), t / "R", recipe=t / "r.yaml"), "r.yaml"),
    "no rate": (lambda w, t: CalibrationRequest(str(w.base), t / "R", error_rate=0.0), "--error-rate"),
    "no device": (lambda w, t: CalibrationRequest(str(w.base), t / "R", device="abacus"), "--device abacus"),
    "no dtype": (lambda w, t: CalibrationRequest(str(w.base), t / "R", dtype="float3"), "--dtype float3"),
    "no contrast": (
        lambda w, t: CalibrationRequest(
            str(w.base), t / "R", suite=w.suite, contrast=t / "no.jsonl", known_good=[_known(w, "good")]
        ),
        "no.jsonl",
    ),
    "out is a file": (lambda w, t: CalibrationRequest(str(w.base), w.base / "config.json"), "--out"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_named_in_one_line_before_the_base_is_loaded(
    text_world: World, tmp_path: Path, mistake: str
) -> None:
    make, says = MISTAKES[mistake]
    with pytest.raises((UsageError, Permanent)) as refused, ConsoleProgress() as progress:
        calibrate_base(make(text_world, tmp_path), progress)
    assert says in str(refused.value)
    assert "\n" not in str(refused.value)
    assert not list(tmp_path.iterdir())


def test_two_calibrations_do_not_share_a_work_folder(text_world: World, tmp_path: Path) -> None:
    from filelock import FileLock

    (tmp_path / "R.work").mkdir()
    with (
        FileLock(tmp_path / "R.work" / ".lock"),
        ConsoleProgress() as progress,
        pytest.raises(Retryable, match="in use"),
    ):
        calibrate_base(CalibrationRequest(str(text_world.base), tmp_path / "R"), progress)
