from __future__ import annotations

import json
import logging
from collections.abc import Iterator

import pytest
import structlog

from monitor.configuration import LogSettings
from monitor.logs import about, logger, set_up_logging


@pytest.fixture(autouse=True)
def as_before() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.reset_defaults()


def _fail() -> None:
    token = "".join(("s3", "cret"))
    raise ValueError(f"refused ({len(token)} characters)")


def _speak() -> None:
    with about(adapter="sha256-1"):
        logger("worker").info("review begins", stage="battery")
        logging.getLogger("some.library").warning("beside it")
        try:
            _fail()
        except ValueError:
            logger("worker").exception("a fault")


def test_json_lines_are_whole_objects_that_name_the_adapter_in_the_libraries_lines_too(
    capsys: pytest.CaptureFixture[str],
) -> None:
    set_up_logging(LogSettings(format="json"))
    _speak()
    lines = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert [line["event"] for line in lines] == ["review begins", "beside it", "a fault"]
    assert {line["adapter"] for line in lines} == {"sha256-1"}
    assert "refused" in lines[-1]["exception"]


@pytest.mark.parametrize("form", ["console", "json"])
def test_a_traceback_shows_no_local_variable(form: str, capsys: pytest.CaptureFixture[str]) -> None:
    set_up_logging(LogSettings.model_validate({"format": form}))
    _speak()
    shown = capsys.readouterr().err
    assert "refused (6 characters)" in shown
    assert "s3cret" not in shown


def test_what_is_less_important_than_the_level_is_not_shown(capsys: pytest.CaptureFixture[str]) -> None:
    set_up_logging(LogSettings(level="warning"))
    _speak()
    shown = capsys.readouterr().err
    assert "review begins" not in shown
    assert "beside it" in shown


def test_what_one_adapter_is_about_ends_with_its_block(capsys: pytest.CaptureFixture[str]) -> None:
    set_up_logging(LogSettings(format="json"))
    with about(adapter="sha256-1"):
        pass
    logger("worker").info("idle")
    assert "adapter" not in json.loads(capsys.readouterr().err)
