"""The script that finds Prometheus and Alertmanager, or unpacks Debian's packages."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest
from prometheus_tools import ROOT, binaries

SCRIPT = ROOT / "deploy" / "prometheus" / "get-binaries"
PROGRAMS = ("prometheus", "promtool", "alertmanager", "amtool")


def called(tools: Path, path: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [SCRIPT, tools], capture_output=True, text=True, timeout=120, env={**os.environ, "PATH": path}
    )


@pytest.fixture
def no_debian(tmp_path: Path) -> str:
    """A PATH on which nothing of Debian's package tools lies."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name in ("bash", "env", "sh"):
        (folder / name).symlink_to(str(shutil.which(name)))
    return str(folder)


def test_it_prints_where_each_program_is_and_each_can_be_run() -> None:
    found = binaries()
    assert tuple(found) == PROGRAMS
    for path in found.values():
        done = subprocess.run([path, "--version"], capture_output=True, text=True, timeout=30)
        assert done.returncode == 0
        assert "version" in done.stdout + done.stderr


def test_what_is_there_is_not_fetched_again(tmp_path: Path, no_debian: str) -> None:
    for name in PROGRAMS:
        _program(tmp_path / "tools" / "usr" / "bin" / name)
    done = called(tmp_path / "tools", no_debian)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [f"{name}={tmp_path}/tools/usr/bin/{name}" for name in PROGRAMS]


def test_programs_in_the_path_come_first_under_debians_name_too(tmp_path: Path, no_debian: str) -> None:
    for name in PROGRAMS:
        _program(tmp_path / "tools" / "usr" / "bin" / name)
    _program(Path(no_debian) / "prometheus-alertmanager")
    done = called(tmp_path / "tools", no_debian)
    assert f"alertmanager={no_debian}/prometheus-alertmanager" in done.stdout.splitlines()


def test_elsewhere_than_on_debian_it_says_what_to_do(tmp_path: Path, no_debian: str) -> None:
    done = called(tmp_path / "tools", no_debian)
    assert done.returncode == 1
    assert done.stdout == ""
    (line,) = done.stderr.splitlines()
    assert "no Debian" in line
    assert "install prometheus and alertmanager" in line


def test_where_nothing_can_be_fetched_the_cause_is_one_line_and_nothing_is_left(tmp_path: Path, no_debian: str) -> None:
    apt = Path(no_debian) / "apt-get"
    apt.write_text("#!/bin/sh\necho 'E: Unable to fetch some archives'\nexit 100\n")
    apt.chmod(0o755)
    for name in ("dpkg-deb", "mkdir", "mktemp", "rm", "grep", "tail", "flock"):
        (Path(no_debian) / name).symlink_to(str(shutil.which(name) or "/bin/true"))
    done = called(tmp_path / "tools", no_debian)
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert "E: Unable to fetch some archives" in line
    assert [path.name for path in (tmp_path / "tools").iterdir()] == [".lock"]


def _program(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("#!/bin/sh\n")
    path.chmod(0o755)
