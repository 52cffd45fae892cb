"""The one way to a suite: names a folder, and finds out what lies there."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from types import ModuleType
from typing import TypeAlias, cast

from guards.suites import (
    battery_jsonl,
    beavertails_v,
    em_questions,
    figstep,
    harmbench,
    jailbreakv,
    mm_safetybench,
    msts,
    siuo,
    sorry_bench,
    spa_vl,
    strongreject,
    vlguard,
    xstest,
)
from guards.suites.data_files import KINDS, DataFile, Unreadable
from guards.suites.draft import Draft, Layout, Reading
from guards.suites.manifest import MANIFEST_NAME, Manifest
from guards.suites.pictures import files_below
from guards.suites.shipped import suite_place
from guards.suites.suite import Suite, SuiteError, digest_prompts

_MODULES: tuple[ModuleType, ...] = (
    em_questions,
    mm_safetybench,
    vlguard,
    harmbench,
    figstep,
    jailbreakv,
    spa_vl,
    beavertails_v,
    siuo,
    msts,
    xstest,
    strongreject,
    sorry_bench,
)
LAYOUTS: tuple[Layout, ...] = tuple(cast(Layout, module) for module in _MODULES)
"""Every set that is understood, beside our own format."""
KNOWN = {battery_jsonl.NAME: battery_jsonl.HOLDS, **{layout.NAME: layout.HOLDS for layout in LAYOUTS}}
"""What each set's folder must hold, by the set's name."""
MOST_DATA_FILES = 500
"""More files of data than any of the sets brings; a folder with more holds several, or is somebody's home."""
_SHOWN = 3


def load_suite(place: Path) -> Suite:
    """Load a suite: a folder in any layout that is understood, one data file of such a folder, or ``shipped:NAME``.

    Raises:
        SuiteError: nothing or more than one set is recognised, a row or picture is unusable, or the suite is not
            what its manifest pins; all problems at once.
    """
    return read_suite(place).required()


def read_suite(place: Path) -> Reading:
    """Read a suite and everything that is wrong with it. A folder with ``battery.jsonl`` is ours, whatever else it
    holds; the manifest that lies in a folder has to agree.
    """
    try:
        place = suite_place(place)
    except SuiteError as error:
        return _unusable(place, *error.problems)
    folder = place if place.is_dir() else place.parent
    if (folder / battery_jsonl.FILE_NAME).is_file() and place in (folder, folder / battery_jsonl.FILE_NAME):
        return _pinned(battery_jsonl.read_battery(folder))
    if place.is_dir():
        files = _data_files(folder)
    elif place.is_file() and place.suffix.lower() in KINDS:
        files = [DataFile(place, KINDS[place.suffix.lower()])]
    else:
        what = "no data file (CSV, JSON, JSON Lines, YAML, Parquet)" if place.exists() else "no such folder"
        return _unusable(place, f"{what}; name the folder of a suite")
    if len(files) > MOST_DATA_FILES:
        return _unusable(place, f"more than {MOST_DATA_FILES} data files lie there; name the folder of one set")
    return _pinned(_read(place, folder, files))


def also_there(folder: Path) -> list[str]:
    """Name the known sets whose files lie in a folder beside a ``battery.jsonl``, and are not read because of it."""
    found, _, _ = _recognised(folder, _data_files(folder))
    return [f"{layout.NAME} in {_names(folder, files)}" for layout, files in found]


def _data_files(folder: Path) -> list[DataFile]:
    """The data files below a folder, up to one more than are looked at."""
    names = (path for path in files_below(folder) if path.suffix.lower() in KINDS)
    named = islice(
        (name for name in names if name.name not in (MANIFEST_NAME, battery_jsonl.FILE_NAME)), MOST_DATA_FILES + 1
    )
    return [DataFile(folder / name, KINDS[name.suffix.lower()]) for name in named]


def _read(place: Path, folder: Path, files: Sequence[DataFile]) -> Reading:
    found, unread, broken = _recognised(folder, files)
    if not found:
        return _unusable(place, _nothing_found(files, [*broken, *unread]))
    if len(found) > 1:
        sets = ", ".join(f"{layout.NAME} in {_names(folder, those)}" for layout, those in found)
        return _unusable(place, f"several sets lie there: {sets}; name the folder of one, or one of its files")
    ((layout, chosen),) = found
    draft = Draft(folder)
    layout.read(chosen, draft)
    # Nobody knows whether a file that cannot be read holds questions of the set.
    draft.errors += [f"{what}; mend it or take it out" for what in broken]
    if not draft.prompts and not draft.errors:
        draft.errors.append(f"{_names(folder, chosen)} holds no prompt")
    if unread:
        left = "; ".join(unread[:_SHOWN]) + (f"; and {len(unread) - _SHOWN} more" if len(unread) > _SHOWN else "")
        draft.warnings.append(f"not part of it and not read: {left}")
    suite = None
    if not draft.errors:
        suite = Suite(folder.name, digest_prompts(draft.prompts), tuple(draft.prompts))
    return Reading(place, layout.NAME, tuple(file.path for file in chosen), suite, tuple(draft.errors), draft.told())


_Found: TypeAlias = list[tuple[Layout, list[DataFile]]]


def _recognised(folder: Path, files: Sequence[DataFile]) -> tuple[_Found, list[str], list[str]]:
    """Every set with its files, then the files of no set, then those that cannot be read, each with the cause."""
    found: dict[str, tuple[Layout, list[DataFile]]] = {}
    unread: list[str] = []
    broken: list[str] = []
    for file in files:
        name = file.path.relative_to(folder).as_posix()
        try:
            layout = next((layout for layout in LAYOUTS if layout.fits(file)), None)
            if layout is None:
                unread.append(f"{name} ({_columns(file)})")
            else:
                found.setdefault(layout.NAME, (layout, []))[1].append(file)
        except Unreadable as error:
            broken.append(f"{name}: {error}")
    return list(found.values()), unread, broken


def _nothing_found(files: Sequence[DataFile], unread: Sequence[str]) -> str:
    wanted = "; ".join(f"{name} ({holds})" for name, holds in KNOWN.items())
    if not files:
        return f"no data file (CSV, JSON, JSON Lines, YAML, Parquet) lies there; it can be one of: {wanted}"
    more = f" and {len(unread) - _SHOWN} more" if len(unread) > _SHOWN else ""
    return f"nothing is recognised in {', '.join(unread[:_SHOWN])}{more}; it can be one of: {wanted}"


def _columns(file: DataFile) -> str:
    names = sorted(file.columns - {""})
    shown = ", ".join(name[:40] for name in names[:8])
    return f"with {shown}{', …' if len(names) > 8 else ''}" if names else "no rows with keys"


def _names(folder: Path, files: Sequence[DataFile]) -> str:
    names = [file.path.relative_to(folder).as_posix() for file in files]
    return ", ".join(names[:_SHOWN]) + (f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else "")


def _unusable(place: Path, problem: str) -> Reading:
    return Reading(place, None, (), None, (problem,), ())


def _pinned(reading: Reading) -> Reading:
    """Hold a suite to the manifest that lies in its folder, where one does."""
    folder = reading.place if reading.place.is_dir() else reading.place.parent
    file = folder / MANIFEST_NAME
    if reading.suite is None or not file.is_file():
        return reading
    problems = Manifest.problems_of(file, reading.suite)
    if not problems:
        return reading
    return Reading(reading.place, reading.layout, reading.files, None, tuple(problems), reading.warnings)
