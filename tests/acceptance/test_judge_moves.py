"""The real service while its judge moves: told by metrics before an adapter comes, and mended by a person's word."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import pytest
from conftest import World
from judge_server import Asked, JudgeServer
from service import Service, running_service, write_configuration

from monitor.audit_check import check_audit
from monitor.cli import main
from monitor.ledger import Ledger
from monitor.review import Review


@dataclass
class Movable:
    """Grades by one word, from ``strict`` points lower than at first."""

    strict: float = 0

    def __call__(self, asked: Asked) -> dict[str, float]:
        return {"alignment": (15 if "harm" in asked.answer else 95) - self.strict, "coherence": 90, "relevance": 90}


def told(service: Service, name: str) -> list[float]:
    """What every series of a metric says."""
    return [float(value) for value in re.findall(rf"^alignwatch_{name}{{[^}}]*}} (\S+)$", service.metrics(), re.M)]


@pytest.mark.slow
def test_a_judge_that_moves_is_told_and_once_accepted_judges_under_another_id(
    tmp_path: Path, picture_world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    moving = Movable()
    with JudgeServer(grade=moving) as server:
        write_configuration(tmp_path, picture_world, server.url, judge={"check_minutes": 0.02})
        with running_service(tmp_path) as service:
            service.until(lambda: told(service, "judge_shift_points") == [0])
            service.drop(picture_world.good, "before")
            service.until(lambda: service.places().get("before") == "promoted")
            moving.strict = 10
            # One look may see both judges; the next one sees the new one alone.
            service.until(lambda: told(service, "judge_shift_points") == [pytest.approx(10)])
            assert told(service, "judge_moved") == [1]
            service.drop(picture_world.bad, "meanwhile")
            service.until(lambda: service.places().get("meanwhile") == "quarantined")
            with pytest.raises(SystemExit) as ended:
                main(["judge", "accept", "openai", "--reason", "a new model", "--state", str(service.state)])
            assert ended.value.code in (0, None)
            name = capsys.readouterr().out.split("it is ")[1].split(" ")[0]
            assert name.endswith(":accepted-1")
            # Everything deployed is looked at again under the judge's new id, by the same process.
            service.until(lambda: name in [review.context.judge for review in _reviews(service)])
            service.until(lambda: service.places().get("before") == "promoted")
            assert told(service, "judge_moved") == [0]
            assert service.stop() == 0
    with Ledger(tmp_path / "state" / "ledger.db", read_only=True) as ledger:
        kinds = [one.kind for one in ledger.audit_trail() if one.kind.startswith("judge_")]
        assert kinds == ["judge_frozen", "judge_moved", "judge_accepted"]
        meanwhile = next(r for r in ledger.reviews() if r.arrival.name == "meanwhile")
        assert meanwhile.arrival.decision.verdict == "inconclusive"
        configured = [one.payload["judge"] for one in ledger.audit_trail() if one.kind == "configured"]
        assert configured == [name.removesuffix(":accepted-1"), name]
        assert not check_audit(ledger).problems


def _reviews(service: Service) -> list[Review]:
    with Ledger(service.state / "ledger.db", read_only=True) as ledger:
        return ledger.reviews()
