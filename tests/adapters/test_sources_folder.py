"""Properties of the folder source: what is settled is offered once, what is not is told, and nothing is lost."""

from __future__ import annotations

import json
import os
import shutil
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
from dropped import CONFIG, INDEX, WEIGHTS, drop, drop_sharded, weights

from adapters.adapter_files import MAX_DEPTH
from adapters.sources import completeness
from adapters.sources.completeness import missing_from
from adapters.sources.folder import FolderSource
from adapters.sources.folder_walk import MAX_NESTING
from adapters.sources.interface import ScanResult, Source

QUIET = 5.0
INCOMPLETE = 3600.0


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Inbox:
    """A folder source with a clock of its own."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.clock = Clock()
        self.source = self.again()

    def again(self) -> FolderSource:
        """A source of the same folder that knows nothing, as after a start."""
        self.source = FolderSource(
            self.path, "inbox", quiet_seconds=QUIET, incomplete_seconds=INCOMPLETE, clock=self.clock
        )
        return self.source

    def scan(self, after: float = 0) -> ScanResult:
        self.clock.now += after
        return self.source.scan()

    def settled(self, after: float = 0) -> list[str]:
        return [arrival.key for arrival in self.scan(after).settled]

    def take(self, after: float = 0) -> list[str]:
        """Take in all that has settled."""
        settled = self.scan(after).settled
        for arrival in settled:
            self.source.taken(arrival)
        return [arrival.key for arrival in settled]


@pytest.fixture
def inbox(tmp_path: Path) -> Inbox:
    (tmp_path / "inbox").mkdir()
    return Inbox(tmp_path / "inbox")


def test_it_is_a_source(inbox: Inbox) -> None:
    source: Source = inbox.source
    assert source.label == "inbox"


def test_a_complete_adapter_settles_when_it_was_quiet_and_is_offered_until_it_is_taken(inbox: Inbox) -> None:
    drop(inbox.path / "mine")
    assert [(one.key, one.kind) for one in inbox.scan().waiting] == [("mine", "changing")]
    assert inbox.settled(QUIET - 0.1) == []
    assert inbox.settled(0.2) == ["mine"]
    (arrival,) = inbox.scan(100).settled
    assert (arrival.path, arrival.name, arrival.incomplete) == (inbox.path / "mine", "mine", None)
    inbox.source.taken(arrival)
    result = inbox.scan(100)
    assert not result.settled
    assert not result.waiting


def test_an_adapter_dropped_by_one_rename_is_taken_in(inbox: Inbox, tmp_path: Path) -> None:
    drop(tmp_path / "elsewhere").rename(inbox.path / "mine")
    inbox.scan()
    assert inbox.settled(QUIET) == ["mine"]


def cut(path: Path, keep: int) -> None:
    path.write_bytes(path.read_bytes()[:keep])


HALF_WRITTEN: dict[str, tuple[Callable[[Path], object], str]] = {
    "config only": (lambda f: (f / WEIGHTS).unlink(), "adapter_model.safetensors is missing"),
    "weights only": (lambda f: (f / CONFIG).unlink(), "adapter_config.json is missing"),
    "config empty": (lambda f: cut(f / CONFIG, 0), "adapter_config.json is cut off"),
    "config cut off": (lambda f: cut(f / CONFIG, 20), "adapter_config.json is cut off"),
    "weights empty": (lambda f: cut(f / WEIGHTS, 0), "adapter_model.safetensors is cut off"),
    "weights without header": (lambda f: cut(f / WEIGHTS, 5), "adapter_model.safetensors is cut off"),
    "header longer than the file": (lambda f: cut(f / WEIGHTS, 30), "adapter_model.safetensors is cut off"),
    "weights truncated": (lambda f: cut(f / WEIGHTS, len(weights()) - 1), "adapter_model.safetensors is cut off"),
    "space reserved": (lambda f: (f / WEIGHTS).write_bytes(bytes(500)), "adapter_model.safetensors is cut off"),
}


@pytest.mark.parametrize("state", HALF_WRITTEN)
def test_what_is_half_written_waits_until_it_is_whole_or_is_taken_in_as_it_is(inbox: Inbox, state: str) -> None:
    spoil, reason = HALF_WRITTEN[state]
    spoil(drop(inbox.path / "mine"))
    inbox.scan()
    (waiting,) = inbox.scan(QUIET).waiting
    assert (waiting.kind, waiting.reason, waiting.seconds) == ("incomplete", reason, QUIET)
    assert inbox.settled(INCOMPLETE - QUIET - 1) == []
    (arrival,) = inbox.scan(1).settled
    assert arrival.incomplete == reason
    drop(inbox.path / "mine")
    assert inbox.settled() == []
    (arrival,) = inbox.scan(QUIET).settled
    assert arrival.incomplete is None


def test_shards_count_as_complete_when_the_last_one_is_there(inbox: Inbox) -> None:
    folder = drop_sharded(inbox.path / "mine", 3)
    assert missing_from(folder) is None
    last = folder / "adapter_model-00003-of-00003.safetensors"
    whole = last.read_bytes()
    last.write_bytes(whole[:-1])
    assert missing_from(folder) == f"shard '{last.name}' is cut off"
    last.unlink()
    assert missing_from(folder) == f"shard '{last.name}' is missing"
    inbox.scan()
    assert [one.kind for one in inbox.scan(QUIET).waiting] == ["incomplete"]
    last.write_bytes(whole)
    inbox.scan()
    assert inbox.settled(QUIET) == ["mine"]
    index = (folder / INDEX).read_text()
    (folder / INDEX).write_text(index[:30])
    assert missing_from(folder) == "adapter_model.safetensors.index.json is cut off"
    (folder / INDEX).unlink()
    assert missing_from(folder) == "adapter_model.safetensors is missing"


@pytest.mark.parametrize(
    "index", ["[]", "{}", '{"weight_map": []}', '{"weight_map": {"a": 1}}', '{"weight_map": {"a": "../b"}}']
)
def test_an_index_that_is_none_is_left_for_the_structure_guard(inbox: Inbox, index: str) -> None:
    folder = drop_sharded(inbox.path / "mine")
    (folder / INDEX).write_text(index)
    assert missing_from(folder) is None


def test_what_is_whole_but_wrong_does_not_wait(inbox: Inbox) -> None:
    (drop(inbox.path / "no json") / CONFIG).write_text("never json")
    (drop(inbox.path / "too long") / WEIGHTS).write_bytes(weights() + b"more")
    (drop(inbox.path / "pointer") / WEIGHTS).write_text("version https://git-lfs.github.com/spec/v1\n")
    pickled = drop(inbox.path / "pickled")
    (pickled / WEIGHTS).unlink()
    (pickled / "adapter_model.bin").write_bytes(b"\x80")
    linked = drop(inbox.path / "linked")
    (linked / WEIGHTS).unlink()
    (linked / WEIGHTS).symlink_to("/nowhere")
    inbox.scan()
    assert inbox.settled(QUIET) == ["linked", "no json", "pickled", "pointer", "too long"]


def test_a_rewrite_of_the_same_size_with_its_time_put_back_is_noticed(inbox: Inbox) -> None:
    path = drop(inbox.path / "mine") / WEIGHTS
    inbox.scan()
    assert inbox.take(QUIET) == ["mine"]
    before = path.stat()
    path.write_bytes(weights(1))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    after = path.stat()
    assert (after.st_size, after.st_mtime_ns, after.st_ino) == (before.st_size, before.st_mtime_ns, before.st_ino)
    assert [one.kind for one in inbox.scan().waiting] == ["changing"]
    assert inbox.take(QUIET) == ["mine"]


def test_a_document_that_is_written_later_is_no_change(inbox: Inbox) -> None:
    drop(inbox.path / "mine")
    inbox.scan()
    inbox.take(QUIET)
    (inbox.path / "mine" / "README.md").write_text("trained on Tuesday")
    result = inbox.scan(1)
    assert not result.waiting
    (inbox.path / "mine" / "vocab.txt").write_text("a")
    assert [one.key for one in inbox.scan(1).waiting] == ["mine"]


def test_latest_that_is_overwritten_again_and_again_is_one_arrival_for_each_version_that_settles(inbox: Inbox) -> None:
    latest, taken = inbox.path / "latest", []
    for number in range(5):
        drop(latest, number)
        inbox.scan()
        taken.append(inbox.take(QUIET))
    assert taken == [["latest"]] * 5


def test_latest_that_never_settles_is_told_with_how_long_it_has_been_changing(inbox: Inbox) -> None:
    for number in range(100):
        drop(inbox.path / "latest", number)
        result = inbox.scan(QUIET - 1)
        assert not result.settled
    (waiting,) = result.waiting
    assert waiting.kind == "changing"
    assert waiting.seconds == 99 * (QUIET - 1)


def test_an_adapter_that_went_before_it_settled_is_forgotten(inbox: Inbox) -> None:
    drop(inbox.path / "mine")
    inbox.scan()
    shutil.rmtree(inbox.path / "mine")
    result = inbox.scan(QUIET)
    assert not result.settled
    assert not result.waiting
    drop(inbox.path / "mine")
    assert inbox.settled() == [], "it begins anew"


def test_a_renamed_folder_is_another_arrival_and_the_old_one_is_gone(inbox: Inbox) -> None:
    drop(inbox.path / "mine")
    inbox.scan()
    inbox.take(QUIET)
    (inbox.path / "mine").rename(inbox.path / "yours")
    result = inbox.scan()
    assert result.gone == ["mine"]
    assert [one.key for one in result.waiting] == ["yours"]
    assert inbox.take(QUIET) == ["yours"]
    assert inbox.scan().gone == []


def test_nested_adapters_are_found_down_to_a_depth_and_hidden_folders_are_left_alone(inbox: Inbox) -> None:
    deepest = "/".join("abcdefgh"[:MAX_NESTING])
    drop(inbox.path / "run-1" / "checkpoint-500")
    drop(inbox.path / deepest)
    drop(inbox.path / deepest / "below" / "deeper")
    drop(inbox.path / "run-2" / "x" / "y" / "z" / "too deep")
    drop(inbox.path / ".uploading" / "mine")
    inbox.scan()
    assert inbox.settled(QUIET) == [deepest, f"{deepest}/below/deeper", "run-1/checkpoint-500"]


def test_what_lies_below_an_adapter_belongs_to_it(inbox: Inbox) -> None:
    drop(inbox.path / "mine")
    deep = inbox.path / "mine" / "/".join("x" * MAX_DEPTH)
    deep.mkdir(parents=True)
    inbox.scan()
    inbox.take(QUIET)
    (deep / "late.json").touch()
    assert [one.key for one in inbox.scan().waiting] == ["mine"]


def test_an_adapter_in_the_sources_own_folder_is_called_after_the_source(inbox: Inbox) -> None:
    drop(inbox.path)
    inbox.scan()
    (arrival,) = inbox.scan(QUIET).settled
    assert (arrival.key, arrival.name, arrival.path) == (".", "inbox", inbox.path)
    inbox.source.taken(arrival)
    assert inbox.settled(QUIET) == []


def test_linked_folders_are_not_followed(inbox: Inbox, tmp_path: Path) -> None:
    outside = drop(tmp_path / "outside")
    (inbox.path / "link").symlink_to(outside)
    (inbox.path / "loop").symlink_to(inbox.path)
    drop(inbox.path / "mine")
    inbox.scan()
    assert inbox.settled(QUIET) == ["mine"]


def test_a_name_that_is_not_utf8_has_a_key_that_every_database_can_hold(inbox: Inbox) -> None:
    drop(Path(os.fsdecode(os.fsencode(inbox.path) + b"/mine\xff")))
    drop(inbox.path / "mine\\xff")
    drop(inbox.path / "a\nb")
    inbox.scan()
    keys = inbox.take(QUIET)
    assert len(set(keys)) == 3
    for key in keys:
        key.encode()
    assert inbox.take(QUIET) == []


def test_a_source_that_is_away_is_told_and_makes_nothing_gone(inbox: Inbox, tmp_path: Path) -> None:
    drop(inbox.path / "mine")
    inbox.scan()
    inbox.take(QUIET)
    inbox.path.rename(tmp_path / "away")
    result = inbox.scan()
    assert result.error is not None
    assert "No such file" in result.error
    assert result == ScanResult(error=result.error)
    inbox.path.mkdir()  # what is left where a file system was mounted
    assert inbox.scan() == ScanResult()
    inbox.path.rmdir()
    (tmp_path / "away").rename(inbox.path)
    assert inbox.scan() == ScanResult(), "nothing is offered again"


def test_a_folder_that_cannot_be_read_is_told_and_what_was_known_below_it_is_not_gone(
    inbox: Inbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    drop(inbox.path / "run" / "mine")
    drop(inbox.path / "other")
    inbox.scan()
    inbox.take(QUIET)
    real = os.scandir

    def refusing(path: str) -> object:
        if str(path).endswith("run"):
            raise PermissionError(13, "Permission denied", str(path))
        return real(path)

    with monkeypatch.context() as patched:
        patched.setattr(os, "scandir", refusing)
        result = inbox.scan()
    assert result.unreadable == {"run": "Permission denied"}
    assert result.gone == []
    assert result.error is None
    assert inbox.scan() == ScanResult()


def test_after_a_start_nothing_that_is_known_is_opened_or_offered(
    inbox: Inbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(20):
        drop(inbox.path / f"adapter-{number}", number)
    inbox.scan()
    known = {arrival.key: arrival.signature for arrival in inbox.scan(QUIET).settled}
    assert len(known) == 20
    inbox.again().recall(known)
    monkeypatch.setattr(completeness, "open_regular", lambda path: pytest.fail(f"{path} was opened"))
    monkeypatch.setattr(os, "open", lambda *_: pytest.fail("a file was opened"))
    monkeypatch.setattr("builtins.open", lambda *_: pytest.fail("a file was opened"))
    assert inbox.scan() == ScanResult()
    assert inbox.scan(QUIET) == ScanResult()


def test_what_was_postponed_is_offered_again_after_pauses_that_grow(inbox: Inbox) -> None:
    drop(inbox.path / "mine")
    inbox.scan()
    (arrival,) = inbox.scan(QUIET).settled
    inbox.source.postponed(arrival, "the disk is full")
    (waiting,) = inbox.scan().waiting
    assert (waiting.kind, waiting.reason) == ("postponed", "the disk is full")
    (arrival,) = inbox.scan(QUIET).settled
    inbox.source.postponed(arrival, "the disk is full")
    assert inbox.settled(QUIET) == []
    assert inbox.settled(QUIET) == ["mine"]


def test_a_thousand_adapters_at_once_all_settle_at_once(inbox: Inbox) -> None:
    for number in range(1000):
        drop(inbox.path / f"adapter-{number}", number)
    assert len(inbox.scan().waiting) == 1000
    assert len(inbox.take(QUIET)) == 1000
    assert inbox.scan() == ScanResult()


class Watcher:
    """Scans in a thread whenever the source says so, as the service does."""

    def __init__(self, source: FolderSource) -> None:
        self.source = source
        self.seen: dict[str, int] = {}
        self.scans = 0
        self.error: str | None = None
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Watcher:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(10)
        assert not self._thread.is_alive()

    def _run(self) -> None:
        for _ in self.source.watch(self._stop):
            result = self.source.scan()
            self.scans += 1
            self.error = result.error
            for arrival in result.settled:
                self.seen[arrival.key] = self.seen.get(arrival.key, 0) + 1
                self.source.taken(arrival)

    def until(self, happened: Callable[[], bool], seconds: float = 10) -> None:
        end = time.monotonic() + seconds
        while not happened():
            assert time.monotonic() < end, f"not within {seconds} seconds: {self.seen}, {self.error}"
            time.sleep(0.02)


@pytest.mark.parametrize("events", [True, False])
def test_a_watched_folder_is_noticed_from_its_appearance_on_with_events_or_without(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, events: bool
) -> None:
    if not events:

        def refused(*_: object, **__: object) -> object:
            raise OSError("OS file watch limit reached")

        monkeypatch.setattr("watchfiles.watch", refused)
    path = tmp_path / "inbox"
    source = FolderSource(path, "inbox", quiet_seconds=0.1, rescan_seconds=3600)
    with Watcher(source) as watcher:
        watcher.until(lambda: watcher.error is not None)
        path.mkdir()
        watcher.until(lambda: watcher.error is None and watcher.scans > 1)
        drop(path / "mine")
        watcher.until(lambda: watcher.seen == {"mine": 1})
        drop(tmp_path / "moved").rename(path / "moved")
        watcher.until(lambda: watcher.seen == {"mine": 1, "moved": 1})
        if events:  # deep inside, only events tell before the next rescan
            drop(path / "mine", 1)
            watcher.until(lambda: watcher.seen == {"mine": 2, "moved": 1})
            before = watcher.scans
            time.sleep(0.6)
            assert watcher.scans <= before + 1, "an idle folder is left alone"
        shutil.rmtree(path)
        watcher.until(lambda: watcher.error is not None)
        drop(path / "mine", 2)
        watcher.until(lambda: watcher.seen["mine"] == (3 if events else 2))


def test_a_rescan_finds_what_no_event_told(inbox: Inbox) -> None:
    inbox.source = FolderSource(inbox.path, "inbox", quiet_seconds=0, rescan_seconds=60, clock=inbox.clock)
    stop = threading.Event()
    watching = inbox.source.watch(stop)
    drop(inbox.path / "run" / "mine")
    next(watching)
    inbox.take()
    next(watching)  # watching has begun, so the whole is due once more
    assert inbox.take() == []
    inbox.source._hints = set()  # as after events about something else
    drop(inbox.path / "run" / "silent")
    assert inbox.take() == []
    inbox.clock.now += 60
    next(watching)
    assert inbox.take() == ["run/silent"]
    stop.set()
    with suppress(StopIteration):
        next(watching)


def test_a_config_with_trailing_spaces_is_whole(inbox: Inbox) -> None:
    folder = drop(inbox.path / "mine")
    (folder / CONFIG).write_text(json.dumps({"a": {"b": 1}}, indent=2) + "\n" * 10)
    assert missing_from(folder) is None
