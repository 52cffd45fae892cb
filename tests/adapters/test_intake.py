from __future__ import annotations

import errno
import hashlib
import os
import resource
import signal
import socket
import stat
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import pytest
from adapters_on_disk import CONFIG, WEIGHTS, write_adapter
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from adapters import intake
from adapters.adapter import (
    Adapter,
    AdapterError,
    NotAnAdapter,
    StillWritten,
    digest_adapter,
    digest_folder,
    open_adapter,
)
from adapters.anatomy import dissect
from adapters.intake import PRIVATE, home_of, place, stage, sweep_staging, withdraw


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = write_adapter(tmp_path / "inbox" / "mine")
    (folder / "notes").mkdir()
    (folder / "notes" / "when.txt").write_text("trained on Tuesday")
    return folder


@pytest.fixture
def staging(tmp_path: Path) -> Path:
    return tmp_path / "state" / "staging"


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_staged_adapter_lies_under_its_digest_unchanged_and_read_only(source: Path, staging: Path) -> None:
    adapter = stage(source, staging)
    assert adapter == Adapter(staging / digest_adapter(source), digest_adapter(source), "mine")
    assert digest_adapter(adapter.path) == adapter.digest
    assert mode(staging) == 0o700
    assert {mode(adapter.path), mode(adapter.path / "notes")} == {0o555}
    assert {mode(path) for path in adapter.path.rglob("*") if path.is_file()} == {0o444}
    assert names(staging) == [adapter.digest]


def test_staging_the_same_bytes_again_changes_nothing(source: Path, staging: Path) -> None:
    first = stage(source, staging)
    before = (first.path / WEIGHTS).stat()
    assert stage(source, staging, name="another name").path == first.path
    assert (first.path / WEIGHTS).stat().st_ino == before.st_ino
    assert stage(first.path, staging).path == first.path


def test_a_staged_copy_that_was_tampered_with_is_replaced(source: Path, staging: Path) -> None:
    adapter = stage(source, staging)
    (adapter.path / CONFIG).chmod(0o644)
    (adapter.path / CONFIG).write_text("{}")
    assert digest_adapter(stage(source, staging).path) == adapter.digest


def test_a_name_is_for_display_only(source: Path, staging: Path) -> None:
    assert stage(source, staging, name="../../etc").path.parent == staging


def test_what_is_no_adapter_is_not_staged(tmp_path: Path, staging: Path) -> None:
    with pytest.raises(NotAnAdapter, match="not a folder"):
        stage(tmp_path / "nowhere", staging)
    with pytest.raises(NotAnAdapter, match=CONFIG):
        stage(tmp_path, staging)
    assert not staging.exists()


def test_links_stay_links_for_the_structure_guard_to_report(source: Path, staging: Path, tmp_path: Path) -> None:
    secret = tmp_path / "secret.txt"
    secret.write_text("never copied")
    (source / "secret.md").symlink_to(secret)
    (source / "dangling.md").symlink_to("./nowhere")
    adapter = stage(source, staging)
    assert (adapter.path / "secret.md").is_symlink()
    assert mode(secret) != 0o444
    assert [problem.code for problem in dissect(adapter.path).problems] == ["symlink", "symlink"]


@pytest.mark.parametrize("kind", ["pipe", "socket"])
def test_pipes_and_sockets_are_refused_unopened(
    source: Path, staging: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(source)  # a socket's path has to be short
    if kind == "pipe":
        os.mkfifo("thing")
    else:
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind("thing")
    with pytest.raises(AdapterError, match="named pipe, socket or device"):
        stage(source, staging)
    assert names(staging) == []


def test_limits_are_checked_before_anything_is_copied(source: Path, staging: Path) -> None:
    with pytest.raises(AdapterError, match="more than 100 bytes"):
        stage(source, staging, max_bytes=100)
    with pytest.raises(AdapterError, match="more than 2 files"):
        stage(source, staging, max_files=2)
    (source / "1/2/3/4/5/6/7/8/9").mkdir(parents=True)
    with pytest.raises(AdapterError, match="deep"):
        stage(source, staging)
    assert names(staging) == []


def test_a_file_name_that_is_not_utf8_is_refused(source: Path, staging: Path) -> None:
    Path(os.fsdecode(bytes(source) + b"/\xff.txt")).touch()
    with pytest.raises(AdapterError, match="not UTF-8"):
        stage(source, staging)


@pytest.mark.parametrize("change", ["grows", "rewritten", "appears", "vanishes"])
def test_a_source_that_changes_during_the_copy_is_still_being_written(
    source: Path, staging: Path, monkeypatch: pytest.MonkeyPatch, change: str
) -> None:
    copy_file = intake._copy_file

    def interfere(reads: Path, writes: Path, size: int) -> tuple[int, str]:
        if reads.name == WEIGHTS:
            before = reads.stat()
            match change:
                case "grows":
                    reads.write_bytes(reads.read_bytes() + b"more")
                case "rewritten":  # same size, and the clock put back
                    raw = reads.read_bytes()
                    copied = copy_file(reads, writes, size)
                    reads.write_bytes(raw[:-1] + bytes([raw[-1] ^ 1]))
                    os.utime(reads, ns=(before.st_atime_ns, before.st_mtime_ns))
                    return copied
                case "appears":
                    (source / "more.safetensors").touch()
                case "vanishes":
                    reads.unlink()
        return copy_file(reads, writes, size)

    monkeypatch.setattr(intake, "_copy_file", interfere)
    with pytest.raises(StillWritten, match="still being written"):
        stage(source, staging)
    assert names(staging) == []


@contextmanager
def files_no_larger_than(limit: int) -> Iterator[None]:
    """A disk that is full, as far as this process can tell."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, handler)


def test_a_full_disk_leaves_nothing_behind(source: Path, staging: Path, tmp_path: Path) -> None:
    adapter = stage(source, tmp_path / "elsewhere")
    with files_no_larger_than(600):
        with pytest.raises(OSError, match="too large"):
            stage(source, staging)
        with pytest.raises(OSError, match="too large"):
            place(adapter, tmp_path / "state" / "promoted")
    assert names(staging) == []
    assert names(tmp_path / "state") == ["promoted", "staging"]
    assert names(tmp_path / "state" / "promoted") == []


def run_and_die(code: str, *arguments: Path) -> None:
    program = "import os, sys, signal\nfrom pathlib import Path\nimport adapters.intake as intake\n"
    program += "def die(*_): os.kill(os.getpid(), signal.SIGKILL)\n" + textwrap.dedent(code)
    child = subprocess.run([sys.executable, "-c", program, *map(str, arguments)], check=False, capture_output=True)
    assert child.returncode == -signal.SIGKILL, child.stderr.decode()


@pytest.mark.parametrize("moment", ["_copy_file", "_changed", "_freeze", "_publish"])
def test_a_kill_while_staging_leaves_at_most_an_orphan_that_the_next_run_sweeps(
    source: Path, staging: Path, moment: str
) -> None:
    run_and_die(
        f"intake.{moment} = die\nintake.stage(Path(sys.argv[1]), Path(sys.argv[2]))",
        source,
        staging,
    )
    assert not list(staging.glob("sha256-*"))
    assert len(names(staging)) == 1
    adapter = stage(source, staging)
    assert names(staging) == [adapter.digest]


def test_a_copy_left_open_by_a_kill_is_locked_when_it_is_placed_again(
    source: Path, staging: Path, tmp_path: Path
) -> None:
    adapter = stage(source, staging)
    promoted = place(adapter, tmp_path / "promoted")
    promoted.path.chmod(0o755)
    assert mode(place(adapter, tmp_path / "promoted").path) == 0o555


def test_a_kill_while_placing_or_withdrawing_shows_servers_nothing_half_written(
    source: Path, staging: Path, tmp_path: Path
) -> None:
    adapter, promoted = stage(source, staging), tmp_path / "state" / "promoted"
    act = (
        f"from adapters.adapter import Adapter\na = Adapter(Path({str(adapter.path)!r}), {adapter.digest!r}, 'mine')\n"
    )
    run_and_die(act + "intake._copy_file = die\nintake.place(a, Path(sys.argv[1]))", promoted)
    assert names(promoted) == []
    place(adapter, promoted)
    run_and_die(act + "intake.sync = die\nintake.withdraw(a.digest, Path(sys.argv[1]))", promoted)
    assert names(promoted) == []
    assert withdraw(adapter.digest, promoted) is False
    place(adapter, promoted)
    assert names(tmp_path / "state") == ["promoted", "staging"]


def test_a_sweep_leaves_alone_what_another_process_is_still_writing(source: Path, staging: Path) -> None:
    program = """
        import sys, time
        from pathlib import Path
        import adapters.intake as intake
        copy = intake._copy_file
        def slowly(*arguments):
            print("copying", flush=True)
            sys.stdin.readline()
            return copy(*arguments)
        intake._copy_file = slowly
        print(intake.stage(Path(sys.argv[1]), Path(sys.argv[2])).digest)
    """
    with subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(program), str(source), str(staging)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as child:
        assert child.stdout
        assert child.stdout.readline() == "copying\n"
        assert sweep_staging(staging) == 0
        mine = stage(source, staging)
        output, _ = child.communicate("\n" * 10)
    assert output.split()[-1] == mine.digest
    assert names(staging) == [mine.digest]


def test_a_placed_adapter_is_the_staged_one_and_quarantine_is_private(
    source: Path, staging: Path, tmp_path: Path
) -> None:
    staged = stage(source, staging)
    promoted = place(staged, tmp_path / "promoted")
    kept = place(staged, tmp_path / "quarantine", PRIVATE)
    assert (mode(tmp_path / "promoted"), mode(tmp_path / "quarantine")) == (0o755, 0o700)
    for adapter, folder in ((promoted, "promoted"), (kept, "quarantine")):
        assert adapter == Adapter(tmp_path / folder / staged.digest, staged.digest, "mine")
        assert digest_adapter(adapter.path) == staged.digest
        assert mode(adapter.path) == 0o555
        assert names(tmp_path / folder) == [staged.digest]
    assert place(staged, tmp_path / "promoted") == promoted


def test_bytes_that_changed_since_they_were_examined_are_never_placed(
    source: Path, staging: Path, tmp_path: Path
) -> None:
    staged = stage(source, staging)
    (staged.path / CONFIG).chmod(0o644)
    (staged.path / CONFIG).write_text("{}")
    with pytest.raises(AdapterError, match="stage the adapter again"):
        place(staged, tmp_path / "promoted")
    assert names(tmp_path / "promoted") == []


def test_withdrawing_removes_and_can_be_repeated(source: Path, staging: Path, tmp_path: Path) -> None:
    adapter = place(stage(source, staging), tmp_path / "promoted")
    assert withdraw(adapter.digest, tmp_path / "promoted") is True
    assert withdraw(adapter.digest, tmp_path / "promoted") is False
    assert names(tmp_path / "promoted") == []


@pytest.mark.parametrize("digest", ["../state", "sha256-", "sha256-" + "g" * 64, "sha256-" + "a" * 64 + "/..", ""])
def test_only_a_digest_names_a_place(tmp_path: Path, digest: str) -> None:
    with pytest.raises(AdapterError, match="no digest"):
        home_of(digest, tmp_path)
    with pytest.raises(AdapterError, match="no digest"):
        withdraw(digest, tmp_path)


INERT = (
    "README.md",
    "readme",
    "README_zh.md",
    "LICENSE",
    "LICENSE.txt",
    "NOTICE",
    "license-mit.txt",
    "CITATION.cff",
    "plot.png",
    "docs/model card.md",
    ".gitattributes",
    "alignwatch.json",
)
EFFECTIVE = (
    "merges.txt",
    "vocab.txt",
    "notes.txt",
    "chat_template.md",
    "tokenizer.md",
    "tokenizer_config.json",
    "README.py",
    "license.json",
    "readme.bin",
    ".hidden.md",
    ".git/README.md",
    "sub/.gitattributes",
    "sub/alignwatch.json",
    "optimizer.pt",
    "a\nREADME.md",
)


def put(folder: Path, name: str, content: bytes = b"x") -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


@pytest.mark.parametrize("name", INERT)
def test_a_file_without_effect_is_neither_digested_nor_copied(source: Path, staging: Path, name: str) -> None:
    before = digest_adapter(source)
    put(source, name)
    assert digest_adapter(source) == before
    adapter = stage(source, staging)
    assert adapter.digest == before
    assert not (adapter.path / name).exists()


@pytest.mark.parametrize("name", EFFECTIVE)
def test_every_other_file_is_digested_and_copied(source: Path, staging: Path, name: str) -> None:
    before = digest_adapter(source)
    path = put(source, name)
    assert digest_adapter(source) != before
    assert (stage(source, staging).path / name).read_bytes() == b"x"
    path.unlink()
    assert digest_adapter(source) == before


def test_a_link_is_always_digested_whatever_its_name(source: Path) -> None:
    seen = {digest_adapter(source)}
    (source / "README.md").symlink_to("nowhere")
    seen.add(digest_adapter(source))
    (source / "README.md").unlink()
    (source / "README.md").symlink_to("elsewhere")
    seen.add(digest_adapter(source))
    (source / "README.md").unlink()
    (source / "README.md").symlink_to(source)
    seen.add(digest_adapter(source))
    assert len(seen) == 4


def test_what_is_published_is_exactly_what_the_digest_covers(source: Path, staging: Path, tmp_path: Path) -> None:
    for name in (*INERT, *EFFECTIVE):
        put(source, name)
    (source / "empty" / "folder").mkdir(parents=True)
    promoted = place(stage(source, staging), tmp_path / "promoted").path
    files = {path.relative_to(promoted).as_posix() for path in promoted.rglob("*") if path.is_file()}
    assert files == {CONFIG, WEIGHTS, "notes/when.txt", *EFFECTIVE}
    assert not (promoted / "empty").exists()
    assert not (promoted / "docs").exists()


def test_the_digest_is_what_its_definition_says(source: Path) -> None:
    put(source, "z.json", b"{}")
    put(source, "Z.json", b"[]")
    (source / "link").symlink_to("somewhere")
    lines = []
    for path in source.rglob("*"):
        name = path.relative_to(source).as_posix().encode()
        if path.is_symlink():
            lines.append(name + b"\0link\0" + hashlib.sha256(b"somewhere").hexdigest().encode() + b"\n")
        elif path.is_file():
            content = path.read_bytes()
            lines.append(name + b"\0%d\0" % len(content) + hashlib.sha256(content).hexdigest().encode() + b"\n")
    assert digest_adapter(source) == "sha256-" + hashlib.sha256(b"".join(sorted(lines))).hexdigest()


def test_two_folders_whose_names_were_made_to_read_alike_have_two_digests(tmp_path: Path) -> None:
    """A link's target and a file's name may hold line feeds; neither can pretend to be the other."""
    one, other = write_adapter(tmp_path / "one"), write_adapter(tmp_path / "other")
    (one / "a").symlink_to("t\nX")
    put(one, "Y")
    (other / "a").symlink_to("t")
    put(other, "X\nY")
    assert digest_adapter(one) != digest_adapter(other)


def test_a_folder_that_cannot_be_read_is_an_error_and_never_left_out(source: Path) -> None:
    program = f"""
        import os
        from pathlib import Path
        from adapters.adapter import digest_adapter
        os.setuid(65534)
        try:
            digest_adapter(Path({str(source)!r}))
        except PermissionError:
            print("refused")
    """
    if os.geteuid() != 0:
        pytest.skip("only root can become somebody else")
    for path in (source, *source.parents):
        if path.stat().st_uid == os.geteuid() and path != Path("/"):
            path.chmod(path.stat().st_mode | 0o055)
    (source / "notes").chmod(0o700)
    code = textwrap.dedent(program)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout == "refused\n", done.stderr


def test_a_name_that_is_not_utf8_still_has_a_digest_to_be_inspected_by(source: Path) -> None:
    before = digest_adapter(source)
    Path(os.fsdecode(bytes(source) + b"/\xff.json")).touch()
    assert open_adapter(source).digest != before


def test_a_references_digest_covers_every_file_as_it_always_did(source: Path) -> None:
    before = digest_folder(source)
    put(source, "README.md")
    assert digest_folder(source) != before


_names = st.sampled_from([*INERT, *EFFECTIVE, "a.json", "b.json", "sub/deep.json"])


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    contents=st.dictionaries(_names, st.binary(max_size=8), max_size=6),
    changes=st.dictionaries(_names, st.one_of(st.none(), st.binary(max_size=8)), max_size=3),
)
def test_two_folders_have_one_digest_exactly_when_their_effective_files_agree(
    tmp_path_factory: pytest.TempPathFactory, contents: dict[str, bytes], changes: dict[str, bytes | None]
) -> None:
    changed = {name: content for name, content in (contents | changes).items() if content is not None}

    def written(files: dict[str, bytes]) -> str:
        folder = tmp_path_factory.mktemp("a")
        for name, content in files.items():
            put(folder, name, content)
        return digest_adapter(folder)

    def effective(files: dict[str, bytes]) -> dict[str, bytes]:
        return {name: content for name, content in files.items() if name not in INERT}

    assert (written(contents) == written(changed)) == (effective(contents) == effective(changed))


def test_what_the_disk_cannot_hold_is_refused_before_a_byte_is_copied(
    source: Path, staging: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(intake.shutil, "disk_usage", lambda _path: SimpleNamespace(free=100))
    monkeypatch.setattr(intake, "_copy_file", lambda *_: pytest.fail("copied"))
    with pytest.raises(OSError, match=os.strerror(errno.ENOSPC)):
        stage(source, staging)
    assert names(staging) == []


def test_a_folder_that_is_renamed_during_the_copy_is_still_being_written(
    source: Path, staging: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy_file = intake._copy_file

    def interfere(reads: Path, writes: Path, size: int) -> tuple[int, str]:
        copied = copy_file(reads, writes, size)
        if source.exists():
            source.rename(source.with_name("done"))
        return copied

    monkeypatch.setattr(intake, "_copy_file", interfere)
    with pytest.raises(StillWritten):
        stage(source, staging)
    assert names(staging) == []
