"""Properties of the state folder: one holder at a time, and no trace of a dead one."""

import errno
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from guards.errors import Permanent, Retryable
from monitor.ledger import Ledger
from monitor.state import StateBusy, StateFolder, StateFull, StateUnusable

HOLD = """
import sys, time
from pathlib import Path
from monitor.state import StateFolder
try:
    with StateFolder.open(Path(sys.argv[1])):
        print("held", flush=True)
        time.sleep(60)
except KeyboardInterrupt:
    print("interrupted")
"""


def hold(path: Path) -> None:
    with StateFolder.open(path):
        pass


@contextmanager
def another_process_in(path: Path) -> Iterator["subprocess.Popen[str]"]:
    with subprocess.Popen([sys.executable, "-c", HOLD, str(path)], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        try:
            yield process
        finally:
            process.kill()


def test_a_new_folder_is_laid_out_and_guarded(tmp_path: Path) -> None:
    with StateFolder.open(tmp_path / "deep" / "state") as state:
        modes = {
            folder.name: oct(folder.stat().st_mode & 0o777)
            for folder in (state.staging, state.promoted, state.quarantine, state.remedied, state.reviews)
        }
        assert state.path == tmp_path / "deep" / "state"
        assert state.ledger_path == state.path / "ledger.db"
    assert modes == {
        "staging": "0o700",
        "promoted": "0o755",
        "quarantine": "0o700",
        "remedied": "0o700",
        "reviews": "0o755",
    }


def test_opening_again_keeps_what_is_there_and_closes_what_was_opened_up(tmp_path: Path) -> None:
    with StateFolder.open(tmp_path) as state:
        (state.quarantine / "sha256-x").mkdir()
        state.quarantine.chmod(0o777)
    with StateFolder.open(tmp_path) as state:
        assert state.quarantine.stat().st_mode & 0o777 == 0o700
        assert (state.quarantine / "sha256-x").is_dir()


def test_a_second_process_is_told_who_holds_the_folder(tmp_path: Path) -> None:
    with another_process_in(tmp_path) as holder, pytest.raises(StateBusy) as refused:
        hold(tmp_path)
    message = str(refused.value)
    assert str(tmp_path) in message
    assert f"process {holder.pid}" in message
    assert "\n" not in message


def test_a_second_opening_in_this_process_is_refused_too(tmp_path: Path) -> None:
    with StateFolder.open(tmp_path), pytest.raises(StateBusy):
        hold(tmp_path)
    hold(tmp_path)


def test_a_holder_that_has_not_told_its_number_is_still_a_holder(tmp_path: Path) -> None:
    with StateFolder.open(tmp_path) as state:
        (state.path / ".holder").unlink()
        with pytest.raises(StateBusy, match="another process"):
            hold(tmp_path)


def test_a_killed_holder_leaves_no_stale_lock(tmp_path: Path) -> None:
    with another_process_in(tmp_path) as holder:
        holder.kill()
        holder.wait()
        hold(tmp_path)


def test_an_interrupted_holder_releases_the_folder(tmp_path: Path) -> None:
    with another_process_in(tmp_path) as holder:
        holder.send_signal(signal.SIGINT)
        out, _ = holder.communicate(timeout=10)
        assert out == "interrupted\n"
        assert not (tmp_path / ".holder").exists()
        hold(tmp_path)


def test_a_failure_inside_releases_the_folder(tmp_path: Path) -> None:
    def fail() -> None:
        with StateFolder.open(tmp_path):
            raise RuntimeError("inside")

    with pytest.raises(RuntimeError, match="inside"):
        fail()
    hold(tmp_path)


def test_a_path_that_is_a_file_is_unusable(tmp_path: Path) -> None:
    (tmp_path / "state").write_text("a file")
    for path in (tmp_path / "state", tmp_path / "state" / "below"):
        with pytest.raises(StateUnusable) as refused:
            hold(path)
        assert str(path) in str(refused.value)
        assert "\n" not in str(refused.value)


def test_a_file_in_a_folders_place_is_unusable_and_releases_the_lock(tmp_path: Path) -> None:
    (tmp_path / "staging").write_text("a file")
    for _ in range(2):
        with pytest.raises(StateUnusable):
            hold(tmp_path)


def test_a_folder_nobody_can_write_is_unusable() -> None:
    with pytest.raises(StateUnusable, match="give a folder that you can write"):
        hold(Path("/proc/alignwatch-state"))


def test_a_full_disk_may_be_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(self: Path, *arguments: object, **options: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_text", full)
        with pytest.raises(StateFull, match=r"No space left.*free space"):
            hold(tmp_path)
    hold(tmp_path)


def test_peeking_needs_no_lock_and_makes_nothing(tmp_path: Path) -> None:
    with pytest.raises(StateUnusable, match="not a state folder"):
        StateFolder.peek(tmp_path / "missing")
    assert list(tmp_path.iterdir()) == []
    with StateFolder.open(tmp_path) as state, Ledger(state.ledger_path):
        with Ledger(StateFolder.peek(tmp_path).ledger_path, read_only=True) as reader:
            assert reader.reviews() == []
        assert StateFolder.peek(tmp_path) == state


def test_errors_tell_what_happens_next() -> None:
    assert issubclass(StateBusy, Retryable)
    assert issubclass(StateFull, Retryable)
    assert issubclass(StateUnusable, Permanent)
