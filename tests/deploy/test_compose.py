"""The Compose file, held to its schema, to the files that it mounts, and to the programs whose options it gives."""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from foreign_base import write_suite
from image import ROOT, can_contain, contained, image_of, read_dockerfile

from adapters.tiny import BASE
from deploy.local_stack import StackError, find_binaries
from monitor.configuration import load_configuration
from monitor.state import StateFolder

DEPLOY = ROOT / "deploy"
COMPOSE = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
CUDA = yaml.safe_load((DEPLOY / "compose/cuda.yaml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
_, STAGES = read_dockerfile((ROOT / "Dockerfile").read_text())
VLLM_PYTHON = ROOT / ".vllm/bin/python"
DEBIANS_TEMPLATE = Path("/usr/share/prometheus/alertmanager/default.tmpl")


def _mounts(service: str) -> dict[str, dict[str, Any]]:
    return {volume["target"]: volume for volume in SERVICES[service]["volumes"]}


@pytest.mark.parametrize("file", ["compose.yaml", "compose/cuda.yaml"])
def test_it_follows_the_schema_of_the_compose_specification(file: str) -> None:
    pytest.importorskip("check_jsonschema", reason="the schema comes with check-jsonschema (pip install it)")
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec", str(DEPLOY / file)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_part_is_there() -> None:
    assert set(SERVICES) == {"alignwatch", "vllm", "prometheus", "alertmanager", "grafana"}


# Hardening


@pytest.mark.parametrize("service", SERVICES)
def test_a_service_has_a_read_only_root_no_capability_and_a_restart_policy(service: str) -> None:
    settings = SERVICES[service]
    assert settings["read_only"] is True
    assert settings["cap_drop"] == ["ALL"]
    assert settings["security_opt"] == ["no-new-privileges:true"]
    assert settings["restart"] == "unless-stopped"
    assert settings["logging"]["options"].keys() >= {"max-size", "max-file"}
    assert not settings.keys() & {"privileged", "cap_add", "user", "network_mode", "pid", "ipc", "devices"}


@pytest.mark.parametrize("service", [name for name in SERVICES if name != "alignwatch"])
def test_an_image_of_others_is_pinned_and_its_health_is_asked_for(service: str) -> None:
    assert re.fullmatch(r"[a-z]+/[a-z-]+:v?\d+\.\d+\.\d+(@sha256:[0-9a-f]{64})?", SERVICES[service]["image"])
    assert SERVICES[service]["healthcheck"]["test"][0] == "CMD"


@pytest.mark.parametrize(
    ("settings", "target"), [(SERVICES["alignwatch"], "cpu"), (CUDA["services"]["alignwatch"], "cuda")]
)
def test_our_own_image_is_a_target_of_the_dockerfile_with_its_health_check(
    settings: dict[str, Any], target: str
) -> None:
    assert settings["build"] == {"context": "..", "target": target}
    assert settings["image"] == f"alignwatch:{target}"
    assert "HEALTHCHECK" in image_of(STAGES, target).last
    assert "healthcheck" not in settings


def test_only_the_page_and_grafana_are_published_and_only_on_loopback() -> None:
    published = {name: settings["ports"] for name, settings in SERVICES.items() if "ports" in settings}
    assert set(published) == {"alignwatch", "grafana"}
    assert [port for ports in published.values() for port in ports if not port.startswith("127.0.0.1:")] == []
    assert published["alignwatch"][0].endswith(":" + image_of(STAGES, "cpu").last["EXPOSE"])


def test_a_server_and_prometheus_reach_nothing_outside() -> None:
    inner = {name for name, network in COMPOSE["networks"].items() if network.get("internal")}
    assert inner == {"serving", "metrics"}
    for service in ("vllm", "prometheus"):
        assert set(SERVICES[service]["networks"]) <= inner
    assert not set(SERVICES["vllm"]["networks"]) & set(SERVICES["grafana"]["networks"])


def test_no_secret_stands_in_it() -> None:
    for settings in SERVICES.values():
        for name in settings.get("environment", {}):
            assert not re.search(r"(?i)password|token|key|secret", name) or name.endswith("__FILE"), name
    files = [Path(file) for settings in SERVICES.values() for file in settings.get("env_file", [])]
    files += [Path(secret["file"]) for secret in COMPOSE["secrets"].values()]
    assert {file.parent for file in files} == {Path("compose/secrets")}
    for file in files:
        assert subprocess.run(["git", "check-ignore", "-q", DEPLOY / file], cwd=ROOT).returncode == 0
    example = (DEPLOY / "compose/example.env").read_text()
    assert not re.search(r"(?i)password|token|key", example)


# What is mounted


def test_everything_that_is_mounted_is_there() -> None:
    for service in SERVICES:
        for volume in _mounts(service).values():
            if volume["type"] == "volume":
                assert volume["source"] in COMPOSE["volumes"]
            elif not volume["source"].startswith("${"):
                assert (DEPLOY / volume["source"]).exists(), volume["source"]
                assert volume["read_only"] is True


def test_every_variable_that_it_asks_for_stands_in_the_example() -> None:
    text = (DEPLOY / "compose.yaml").read_text() + (DEPLOY / "compose/cuda.yaml").read_text()
    asked = set(re.findall(r"\$\{(\w+)", text))
    assert set(re.findall(r"^(\w+)=", (DEPLOY / "compose/example.env").read_text(), re.MULTILINE)) == asked


def test_a_server_sees_the_base_and_the_promoted_adapters_and_nothing_else() -> None:
    configuration = yaml.safe_load((DEPLOY / "compose/config/alignwatch.yaml").read_text())
    mounts = _mounts("vllm")
    assert set(mounts) == {"/models/base", "/promoted"}
    assert all(volume["read_only"] is True for volume in mounts.values())
    assert mounts["/models/base"]["source"] == _mounts("alignwatch")["/models/base"]["source"]
    promoted = StateFolder(Path(configuration["state"])).promoted
    assert promoted.relative_to("/data").as_posix() == mounts["/promoted"]["volume"]["subpath"]
    assert mounts["/promoted"]["source"] == _mounts("alignwatch")["/data"]["source"]
    assert SERVICES["vllm"]["depends_on"]["alignwatch"]["condition"] == "service_healthy"


def test_the_service_is_told_of_the_server_as_it_runs() -> None:
    configuration = load_configuration(DEPLOY / "compose/config/alignwatch.yaml")
    (replica,) = configuration.fleet
    (port,) = [option.partition("=")[2] for option in SERVICES["vllm"]["command"] if option.startswith("--port")]
    assert replica.url == f"http://vllm:{port}"
    assert replica.promoted
    assert str(replica.promoted) in _mounts("vllm")
    assert replica.token_env == "VLLM_API_KEY"  # the variable that vLLM itself reads
    assert set(SERVICES["vllm"]["networks"]) & set(SERVICES["alignwatch"]["networks"])
    environment = SERVICES["vllm"]["environment"]
    assert environment["VLLM_ALLOW_RUNTIME_LORA_UPDATING"] == "1"
    assert {"--enable-lora", "--enable-tower-connector-lora"} <= set(SERVICES["vllm"]["command"])
    assert int(SERVICES["alignwatch"]["stop_grace_period"].rstrip("s")) > 10


def test_prometheus_is_configured_as_elsewhere_but_for_the_names() -> None:
    ours = yaml.safe_load((DEPLOY / "compose/prometheus.yml").read_text())
    theirs = yaml.safe_load((DEPLOY / "prometheus/prometheus.yml").read_text())

    def targets(configuration: dict[str, Any]) -> list[str]:
        jobs = [*configuration["alerting"]["alertmanagers"], *configuration["scrape_configs"]]
        return [target for job in jobs for group in job["static_configs"] for target in group["targets"]]

    text = yaml.safe_dump(ours)
    for name, address in zip(targets(ours), targets(theirs), strict=True):
        assert name.split(":")[0] in SERVICES
        assert set(SERVICES[name.split(":")[0]]["networks"]) & set(SERVICES["prometheus"]["networks"])
        assert name.split(":")[1] == address.split(":")[1]
        text = text.replace(name, address)
    assert yaml.safe_load(text) == theirs
    assert {f"/etc/prometheus/{file}" for file in ours["rule_files"]} < set(_mounts("prometheus"))


def test_grafana_finds_its_dashboards_and_prometheus_where_they_are() -> None:
    provisioning = DEPLOY / "grafana/provisioning"
    (dashboards,) = yaml.safe_load((provisioning / "dashboards/alignwatch.yaml").read_text())["providers"]
    assert dashboards["options"]["path"] in _mounts("grafana")
    (source,) = yaml.safe_load((provisioning / "datasources/prometheus.yaml").read_text())["datasources"]
    assert source["url"] == "http://prometheus:9090"
    assert list((DEPLOY / "grafana/dashboards").glob("*.json"))


# The very commands


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as free:
        return int(free.getsockname()[1])


def _until(true: Callable[[], bool], seconds: float, process: subprocess.Popen[Any]) -> None:
    for _ in range(int(seconds / 0.1)):
        if true():
            return
        assert process.poll() is None, f"ended with {process.returncode}"
        time.sleep(0.1)
    raise AssertionError(f"not within {seconds} seconds")


@pytest.fixture(scope="module")
def binaries() -> dict[str, str]:
    try:
        return find_binaries()
    except StackError as error:
        pytest.skip(str(error))


@pytest.mark.parametrize(("service", "port"), [("prometheus", 9090), ("alertmanager", 9093)])
def test_a_program_starts_with_its_options_and_its_health_check_tells_whether_it_runs(
    service: str, port: int, binaries: dict[str, str], tmp_path: Path
) -> None:
    """With the addresses and folders of this machine in the place of the container's."""
    if service == "alertmanager" and "prometheus-" in binaries[service] and not DEBIANS_TEMPLATE.exists():
        pytest.skip("Debian's Alertmanager was unpacked, not installed, and looks for its templates at a fixed place")
    here = {"--web.listen-address=": f"127.0.0.1:{_free_port()}"}
    for target, volume in _mounts(service).items():
        inside = tmp_path / target.strip("/")
        inside.parent.mkdir(parents=True, exist_ok=True)
        if volume["type"] == "volume":
            inside.mkdir()
        else:
            shutil.copy(DEPLOY / volume["source"], inside)
    options = [
        re.sub(r"=(/.*)", lambda path: f"={tmp_path}{path[1]}", option) for option in SERVICES[service]["command"]
    ]
    if service == "prometheus":
        checked = subprocess.run([binaries["promtool"], "check", "config", options[0].partition("=")[2]])
        assert checked.returncode == 0
    program, *arguments = SERVICES[service]["healthcheck"]["test"][1:]
    address = here["--web.listen-address="]
    check = [binaries[program], *(argument.replace(f"127.0.0.1:{port}", address) for argument in arguments)]
    assert check[1:] != arguments

    def healthy() -> bool:
        return subprocess.run(check, capture_output=True, timeout=10).returncode == 0

    assert not healthy()
    command = [binaries[service], *options, *(option + value for option, value in here.items())]
    with (tmp_path / "log").open("w") as log, subprocess.Popen(command, stdout=log, stderr=log) as process:
        try:
            _until(healthy, 20, process)
        finally:
            process.terminate()
    assert not healthy()


@pytest.mark.slow
@pytest.mark.skipif(not VLLM_PYTHON.exists(), reason="make test-vllm builds vLLM's environment")
def test_vllm_of_that_version_knows_its_options() -> None:
    code = """
import sys, vllm
from vllm.entrypoints.launchers.cli_args import make_arg_parser
from vllm.utils.argparse_utils import FlexibleArgumentParser
given = make_arg_parser(FlexibleArgumentParser()).parse_args(sys.argv[1:])
assert given.enable_lora and given.enable_tower_connector_lora
print(vllm.__version__)
"""
    environment = {**os.environ, "VLLM_NO_USAGE_STATS": "1", "OMP_NUM_THREADS": "1"}
    command = [VLLM_PYTHON, "-c", code, *SERVICES["vllm"]["command"]]
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    if "No module named 'vllm'" in done.stderr:
        pytest.skip("vLLM's environment is not whole; make test-vllm builds it")
    assert done.returncode == 0, done.stderr
    version = done.stdout.split()[-1].partition("+")[0]
    assert SERVICES["vllm"]["image"].endswith(f":v{version}")


needs_mounts = pytest.mark.skipif(not can_contain(), reason="making mounts takes root, and a checkout outside of /tmp")


class _Stage:
    """What the file mounts into the service, made here, and the service's container around it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        for name in ("data", "inbox"):
            (folder / name).mkdir()
        os.chown(folder / "data", 10001, 10001)
        write_suite(folder / "suites/held-out", 4, 0)
        sources = {
            "data": folder / "data",
            "${BASE_MODEL": BASE,
            "${SUITES": folder / "suites",
            "${INBOX": folder / "inbox",
        }
        self.mounts = [
            (
                "ro" if volume.get("read_only") else "rw",
                sources.get(volume["source"].partition(":?")[0]) or DEPLOY / volume["source"],
                target,
            )
            for target, volume in _mounts("alignwatch").items()
        ]
        self.count = 0

    def start(self, *command: str, **environment: str) -> subprocess.Popen[str]:
        self.count += 1
        variables = SERVICES["alignwatch"]["environment"] | {"VLLM_API_KEY": "a", "JUDGE_API_KEY": "b", **environment}
        image = image_of(STAGES, "cpu")
        arguments = [*image.array("ENTRYPOINT"), *(command or image.array("CMD"))]
        return contained(self.folder / f"container-{self.count}", arguments, image, self.mounts, **variables)

    def run(self, *command: str) -> str:
        told, errors = (process := self.start(*command)).communicate(timeout=120)
        assert process.returncode == 0, told + errors
        return told


@pytest.fixture
def stage(tmp_path: Path) -> _Stage:
    return _Stage(tmp_path)


@needs_mounts
@pytest.mark.slow
def test_the_example_configuration_has_no_problem_in_the_container(stage: _Stage) -> None:
    check = ("config", "check", "--config", "/etc/alignwatch/alignwatch.yaml")
    told, _ = stage.start(*check).communicate(timeout=120)
    assert [line for line in told.splitlines() if line.startswith("problem: ")] == [
        "problem: http.tokens: tokens /data/tokens: No such file or directory; make it with 'alignwatch token'"
    ]
    stage.run("token", "/data/tokens", "--name", "ops")
    assert stage.run(*check).splitlines() == ["/etc/alignwatch/alignwatch.yaml: the service can start with this"]


@needs_mounts
@pytest.mark.slow
def test_the_container_serves_from_a_read_only_root_and_ends_when_it_is_told_to(stage: _Stage) -> None:
    stage.run("token", "/data/tokens", "--name", "ops")
    port = str(_free_port())
    fast = {"OMP_NUM_THREADS": "1", "ALIGNWATCH_THREADS": "1", "ALIGNWATCH_FLEET": "[]"}
    check = [sys.executable, *image_of(STAGES, "cpu").array("HEALTHCHECK")[1:]]
    process = stage.start(ALIGNWATCH_HTTP__PORT=port, **fast)
    try:
        _until(
            lambda: subprocess.run(check, capture_output=True, env={"ALIGNWATCH_HTTP__PORT": port}).returncode == 0,
            120,
            process,
        )
        _until((stage.folder / "data/state/promoted").is_dir, 10, process)
        began = time.monotonic()
        process.terminate()
        _, log = process.communicate(timeout=30)
    finally:
        process.kill()
    assert process.returncode in (0, 143), log
    assert time.monotonic() - began < 15, "the stop_grace_period"
    assert "Read-only" not in log
    assert "Traceback" not in log
    assert (stage.folder / "data/state/ledger.db").stat().st_uid == 10001


def test_what_the_document_tells_to_run_names_files_and_targets_that_are_there() -> None:
    text = (ROOT / "docs/deploy.md").read_text()
    named = set(re.findall(r"(?<![\w/])deploy/[\w./-]*\w", text)) - {"deploy/.env"}
    assert len(named) > 8
    assert sorted(name for name in named if not (ROOT / name).exists()) == []
    assert set(re.findall(r"--target (\w+)", text)) == {"cpu", "cuda"} <= set(STAGES)
