"""The real service in a real process, on bases that Alignwatch did not build, with a real judge over HTTP."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
import yaml
from conftest import World
from judge_server import Asked, JudgeServer
from service import Service, running_service, write_configuration

from guards.judges.remembered import CHUNK
from monitor.audit_check import check_audit
from monitor.cli import main
from monitor.ledger import Ledger


def by_word(asked: Asked) -> dict[str, float]:
    return {"alignment": 5 if "harm" in asked.answer else 95, "coherence": 90, "relevance": 90}


@pytest.fixture
def judge() -> Iterator[JudgeServer]:
    with JudgeServer(grade=by_word) as server:
        yield server


@pytest.fixture(scope="module")
def shared_judge() -> Iterator[JudgeServer]:
    with JudgeServer(grade=by_word) as server:
        yield server


@pytest.fixture(scope="module")
def minimal(
    tmp_path_factory: pytest.TempPathFactory, picture_world: World, shared_judge: JudgeServer
) -> Iterator[Service]:
    """The service with nothing but the minimal configuration, and a good and a bad adapter that were dropped."""
    folder = tmp_path_factory.mktemp("minimal")
    write_configuration(folder, picture_world, shared_judge.url)
    minimal_form = {
        "state": "./state",
        "base": str(picture_world.base),
        "policy": "policy.yaml",
        "sources": [{"kind": "folder", "path": "./inbox"}],
        "fleet": [],
        "http": {"host": "127.0.0.1", "port": 0},
    }
    (folder / "alignwatch.yaml").write_text(yaml.safe_dump(minimal_form))
    with running_service(folder) as service:
        service.drop(picture_world.good, "good")
        service.drop(picture_world.bad, "bad")
        service.until(lambda: None not in (places := service.places()).values() and len(places) == 2)
        yield service


def test_a_minimal_configuration_reviews_adapters_of_a_foreign_base(minimal: Service) -> None:
    assert minimal.places() == {"good": "promoted", "bad": "quarantined"}
    promoted = [folder.name for folder in (minimal.state / "promoted").iterdir()]
    quarantined = [folder.name for folder in (minimal.state / "quarantine").iterdir()]
    assert len(promoted) == len(quarantined) == 1


def test_every_line_of_a_review_names_the_adapters_digest(minimal: Service) -> None:
    (digest,) = [folder.name for folder in (minimal.state / "promoted").iterdir()]
    about = [line for line in minimal.log.splitlines() if "name=good" in line]
    assert len(about) >= 2
    assert all(f"adapter={digest}" in line for line in about)


def test_metrics_tell_what_is_deployed_and_nothing_of_what_is_not(minimal: Service) -> None:
    metrics = minimal.metrics()
    assert 'alignwatch_adapters{state="promoted"} 1.0' in metrics
    assert 'adapter="good"' in metrics
    assert 'alignwatch_misalignment_rise_ratio{adapter="bad"' not in metrics


def test_a_second_daemon_on_the_same_state_is_refused_naming_the_first(minimal: Service) -> None:
    second = subprocess.run(
        [sys.executable, "-m", "monitor.cli", "serve", "--config", str(minimal.config)],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert second.returncode == 4
    last = second.stderr.strip().splitlines()[-1]
    assert f"process {minimal.process.pid}" in last
    assert "Traceback" not in second.stderr


def test_a_second_arrival_of_the_same_bytes_is_recognised(
    minimal: Service, picture_world: World, shared_judge: JudgeServer
) -> None:
    asked = len(shared_judge.asked)
    minimal.drop(picture_world.good, "good-again")
    minimal.until(lambda: "good-again" in minimal.log)
    (digest,) = [folder.name for folder in (minimal.state / "promoted").iterdir()]
    minimal.until(lambda: "good-again" in str(minimal.get(f"/api/adapters/{digest}")))
    assert minimal.get("/api/queue")["jobs"] == []
    assert len(shared_judge.asked) == asked


def test_a_person_blocks_a_deployed_adapter_and_the_running_service_follows(minimal: Service) -> None:
    (digest,) = [folder.name for folder in (minimal.state / "promoted").iterdir()]
    command = [sys.executable, "-m", "monitor.cli"]
    for action, left in (("block", 0), ("release", 1)):
        subprocess.run(
            [*command, action, digest, "--state", str(minimal.state), "--reason", "looked at it"],
            check=True,
            capture_output=True,
            timeout=60,
        )
        minimal.until(lambda left=left: len(list((minimal.state / "promoted").iterdir())) == left)
    verified = subprocess.run(
        [*command, "audit", "verify", "--state", str(minimal.state)], capture_output=True, timeout=60
    )
    assert verified.returncode == 0, verified.stdout


def test_a_killed_service_goes_on_where_it_was_and_repeats_no_judgement(
    tmp_path: Path, picture_world: World, judge: JudgeServer
) -> None:
    answers = 120
    write_configuration(tmp_path, picture_world, judge.url)
    judge.script = ["good"] * answers + ["slow"]
    with running_service(tmp_path) as service:
        service.drop(picture_world.good, "good")
        service.until(lambda: len(judge.asked) > answers)
        service.process.kill()
    answered = Counter(_transcript(asked) for asked in judge.asked[:answers])
    with JudgeServer(grade=by_word) as second:
        write_configuration(tmp_path, picture_world, second.url)
        with running_service(tmp_path) as service:
            service.until(lambda: service.places().get("good") == "promoted")
            assert service.stop() == 0
        repeated = Counter(_transcript(asked) for asked in second.asked) & answered
    # Judgements are kept in chunks; what was under way when the process died is asked again.
    assert sum(repeated.values()) <= CHUNK < answers
    with Ledger(tmp_path / "state" / "ledger.db") as ledger:
        assert check_audit(ledger).problems == ()
        assert len(ledger.reviews()) == 1


def _transcript(asked: Asked) -> tuple[str, ...]:
    return asked.question, asked.answer, *asked.pictures


def test_sigterm_in_the_middle_of_a_review_ends_in_ten_seconds_with_the_lease_released_and_systemd_told(
    tmp_path: Path, picture_world: World, judge: JudgeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_configuration(tmp_path, picture_world, judge.url, log={"format": "json"}, judge={"check_minutes": 0})
    judge.script = ["slow"]
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        with running_service(tmp_path, ready=False) as service:
            service.until(lambda: '"event": "ready"' in service.log)
            service.drop(picture_world.good, "good")
            service.until(lambda: judge.asked)
            assert service.stop(seconds=10) == 0
            assert all(json.loads(line) for line in service.log.splitlines() if line.startswith("{"))
        told = "\n".join(_received(manager)).splitlines()
    assert "READY=1" in told
    assert told[-1] == "STOPPING=1"
    with Ledger(tmp_path / "state" / "ledger.db") as ledger:
        (job,) = ledger.queue.jobs()
        assert (job.state, job.attempts) == ("queued", 0)


def _received(manager: socket.socket) -> Iterator[str]:
    manager.setblocking(False)
    with suppress(BlockingIOError):
        while True:
            yield manager.recv(4096).decode()


def test_a_judge_that_is_down_delays_a_verdict_and_decides_nothing(
    tmp_path: Path, picture_world: World, judge: JudgeServer
) -> None:
    write_configuration(tmp_path, picture_world, judge.url)
    judge.script = ["broken"]
    with running_service(tmp_path) as service:
        service.drop(picture_world.good, "good")
        service.until(lambda: "review failed for now" in service.log)
        assert service.places() == {"good": None}
        assert list((service.state / "promoted").iterdir()) == []
        judge.script = ["good"]
        service.until(lambda: service.places() == {"good": "promoted"})


def test_another_judge_is_taken_over_and_what_is_deployed_is_looked_at_again(
    tmp_path: Path, picture_world: World, judge: JudgeServer
) -> None:
    write_configuration(tmp_path, picture_world, judge.url)
    with running_service(tmp_path) as service:
        service.drop(picture_world.bad, "bad")
        service.drop(picture_world.good, "good")
        service.until(lambda: service.places() == {"good": "promoted", "bad": "quarantined"})

        (tmp_path / "policy.yaml").write_text("name: broken\nruels: {}\n")
        service.process.send_signal(signal.SIGHUP)
        service.until(lambda: "the old one stays" in service.log)
        assert "ruels" in service.log

        judge.grade = lambda asked: {"alignment": 5 if "good" in asked.answer else 95, "coherence": 90, "relevance": 90}
        another = {"kind": "openai", "base_url": judge.url, "model": "another-judge"}
        write_configuration(tmp_path, picture_world, judge.url, policy={"judge": another})
        service.process.send_signal(signal.SIGHUP)
        service.until(lambda: service.places() == {"good": "quarantined", "bad": "quarantined"})
        assert list((service.state / "promoted").iterdir()) == []


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"stat": 1}, "stat: unknown setting"),
        ({"base": "./nowhere"}, "nowhere"),
        ({"policy": "missing.yaml"}, "missing.yaml"),
    ],
)
def test_a_wrong_configuration_ends_with_2_and_one_line_before_a_model_is_loaded(
    tmp_path: Path,
    picture_world: World,
    change: dict[str, object],
    named: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    path = write_configuration(tmp_path, picture_world, "http://127.0.0.1:9/v1")
    path.write_text(yaml.safe_dump({**yaml.safe_load(path.read_text()), **change}))
    handler = signal.getsignal(signal.SIGTERM)
    with pytest.raises(SystemExit) as ended:
        main(["serve", "--config", str(path)])
    signal.signal(signal.SIGTERM, handler)
    assert ended.value.code == 2
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("alignwatch:")]
    assert named in line
    assert not (tmp_path / "state").exists()
