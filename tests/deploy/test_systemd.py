"""The systemd unit, verified by systemd itself, and its command run as systemd would run it."""

from __future__ import annotations

import configparser
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from conftest import World
from image import ROOT

from monitor import daemon
from monitor.exit_codes import TERMINATED, ExitCode

FOLDER = ROOT / "deploy/systemd"
UNIT = FOLDER / "alignwatch.service"
needs_systemd = pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed")


class _Unit(configparser.RawConfigParser):
    """A unit file; of a setting that stands there twice, both values, a line each."""

    def __init__(self) -> None:
        super().__init__(strict=False, delimiters=("=",), comment_prefixes=("#",), dict_type=_Collecting)

    def optionxform(self, optionstr: str) -> str:
        return optionstr


class _Collecting(dict):  # type: ignore[type-arg]
    def __setitem__(self, key: object, value: object) -> None:
        if isinstance(value, list) and isinstance(self.get(key), list):
            value = self[key] + value
        super().__setitem__(key, value)


def _read(path: Path) -> _Unit:
    unit = _Unit()
    unit.read_string(path.read_text())
    return unit


SERVICE = dict(_read(UNIT)["Service"])


@pytest.fixture
def here(tmp_path: Path) -> Path:
    """The unit with this environment's command in the place of the installed one, and nothing else changed."""
    command = Path(sys.executable).with_name("alignwatch")
    text = UNIT.read_text().replace("/opt/alignwatch/bin/alignwatch", str(command))
    assert text.count(str(command)) == 1
    (tmp_path / UNIT.name).write_text(text)
    return tmp_path / UNIT.name


@needs_systemd
@pytest.mark.parametrize("drop_in", [False, True])
def test_systemd_has_no_complaint(here: Path, drop_in: bool) -> None:
    if drop_in:
        (folder := here.with_name("alignwatch.service.d")).mkdir()
        shutil.copy(FOLDER / "gpu.conf", folder)
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", "--recursive-errors=no", str(here)], capture_output=True, text=True
    )
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


@needs_systemd
def test_systemd_does_complain_about_a_setting_that_does_not_exist(here: Path) -> None:
    here.write_text(here.read_text().replace("WatchdogSec=", "WatchdogSecs="))
    done = subprocess.run(["systemd-analyze", "verify", "--man=no", str(here)], capture_output=True, text=True)
    assert "WatchdogSecs" in done.stdout + done.stderr


def _exposure(unit: Path) -> float:
    done = subprocess.run(
        ["systemd-analyze", "security", "--offline=yes", "--no-pager", str(unit)], capture_output=True, text=True
    )
    (level,) = re.findall(r"exposure level for .*: ([\d.]+)", done.stdout)
    return float(level)


@needs_systemd
def test_the_exposure_is_what_the_document_says(here: Path) -> None:
    (told,) = re.findall(r"exposure (?:level )?of ([\d.]+)", (ROOT / "docs/deploy.md").read_text())
    # Another release of systemd weighs a little differently.
    assert _exposure(here) == pytest.approx(float(told), abs=0.3)


@needs_systemd
def test_the_user_can_be_made_from_the_file(tmp_path: Path) -> None:
    if shutil.which("systemd-sysusers") is None:
        pytest.skip("systemd-sysusers is not installed")
    (tmp_path / "etc").mkdir()
    command = ["systemd-sysusers", f"--root={tmp_path}", str(FOLDER / "alignwatch.sysusers.conf")]
    subprocess.run(command, check=True, capture_output=True)
    assert re.search(
        r"^alignwatch:.*:/var/lib/alignwatch:.*nologin$", (tmp_path / "etc/passwd").read_text(), re.MULTILINE
    )
    assert SERVICE["User"] == "alignwatch"


def test_the_unit_and_the_service_agree_on_how_they_talk() -> None:
    assert SERVICE["Type"] == "notify"
    assert SERVICE["NotifyAccess"] == "main"
    assert SERVICE["ExecReload"] == "/bin/kill -HUP $MAINPID"
    assert int(SERVICE["TimeoutStopSec"]) > daemon.GRACE_SECONDS
    assert SERVICE["Restart"] == "on-failure"
    assert int(SERVICE["RestartPreventExitStatus"]) == ExitCode.USAGE
    assert int(SERVICE["SuccessExitStatus"]) == TERMINATED
    assert SERVICE["WatchdogSec"] == "5min"


def test_all_that_is_written_is_written_to_what_systemd_makes() -> None:
    assert SERVICE["ProtectSystem"] == "strict"
    variables = dict(pair.split("=", 1) for pair in SERVICE["Environment"].split())
    homes = {name: value for name, value in variables.items() if re.search(r"HOME$|DIR$", name)}
    assert {"HOME", "HF_HOME", "XDG_CACHE_HOME", "MPLCONFIGDIR"} == set(homes)
    assert [value for value in homes.values() if not value.startswith("%C/alignwatch")] == []
    assert (SERVICE["StateDirectory"], SERVICE["CacheDirectory"]) == ("alignwatch", "alignwatch")
    assert SERVICE["StateDirectoryMode"] == "0755"  # servers have to reach promoted below it
    assert "DynamicUser" not in SERVICE


def test_no_secret_stands_in_the_unit() -> None:
    names = [pair.split("=", 1)[0] for pair in SERVICE["Environment"].split()]
    assert [name for name in names if re.search(r"TOKEN|KEY|PASSWORD|SECRET", name)] == []
    assert SERVICE["EnvironmentFile"].startswith("-/etc/alignwatch/")
    assert "=" not in SERVICE["LoadCredential"]


def _configure(folder: Path, world: World) -> Path:
    policy = {"name": "unit", "suites": [str(world.suite)]}
    policy["judge"] = {"kind": "openai", "base_url": "http://127.0.0.1:9/v1", "model": "j"}  # type: ignore[assignment]
    (folder / "policy.yaml").write_text(yaml.safe_dump(policy))
    settings = {
        "state": "state",
        "base": str(world.base),
        "policy": "policy.yaml",
        "sources": [{"kind": "folder", "path": "inbox"}],
        "http": {"port": 0},
        "device": "cpu",
        "threads": 1,
        "judge": {"check_minutes": 0},  # nobody is at that address, and a look would wait for it
    }
    (folder / "alignwatch.yaml").write_text(yaml.safe_dump(settings))
    return folder / "alignwatch.yaml"


def _states(channel: socket.socket) -> list[str]:
    return channel.recv(4096).decode().splitlines()


@pytest.mark.slow
def test_its_command_tells_systemd_that_it_is_ready_alive_reloading_and_stopping(
    tmp_path: Path, text_world: World
) -> None:
    """Started with what systemd gives a ``Type=notify`` service with a watchdog, and sent what the unit sends."""
    program, *arguments = SERVICE["ExecStart"].split()
    configuration = _configure(tmp_path, text_world)
    arguments = [str(configuration) if a == "/etc/alignwatch/alignwatch.yaml" else a for a in arguments]
    command = [str(Path(sys.executable).with_name(Path(program).name)), *arguments]
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as channel:
        channel.bind(str(tmp_path / "notify"))
        channel.settimeout(120)
        environment = {
            **os.environ,
            "NOTIFY_SOCKET": str(tmp_path / "notify"),
            "WATCHDOG_USEC": "600000",
            "OMP_NUM_THREADS": "1",
            "CUDA_VISIBLE_DEVICES": "",
        }
        with (tmp_path / "log").open("w") as log, subprocess.Popen(command, env=environment, stderr=log) as process:
            try:
                _until_told(channel, "READY=1")
                _until_told(channel, "WATCHDOG=1")
                process.send_signal(signal.SIGHUP)  # ExecReload
                _until_told(channel, "RELOADING=1")
                _until_told(channel, "READY=1")
                process.terminate()
                _until_told(channel, "STOPPING=1")
                assert process.wait(int(SERVICE["TimeoutStopSec"])) == 0
            finally:
                process.kill()
    assert "Traceback" not in (tmp_path / "log").read_text()


def _until_told(channel: socket.socket, state: str) -> None:
    for _ in range(500):
        if state in _states(channel):
            return
    raise AssertionError(f"{state} was never told")


def test_its_command_ends_with_the_code_that_no_restart_mends_where_the_configuration_is_wrong(tmp_path: Path) -> None:
    (tmp_path / "alignwatch.yaml").write_text("state: s\nbase: o/n\n")
    command = [
        str(Path(sys.executable).with_name("alignwatch")),
        "serve",
        "--config",
        str(tmp_path / "alignwatch.yaml"),
    ]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == int(SERVICE["RestartPreventExitStatus"])
    assert "policy: is required" in done.stderr
