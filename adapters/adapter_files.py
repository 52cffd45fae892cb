"""Which files an adapter's folder holds, judged by name and kind alone. Nothing is followed, nothing is run."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from adapters.file_names import ATTRIBUTES_NAME, CONFIG_NAME, MANIFEST_NAME, WEIGHTS_NAME, is_inert, is_prompt_path
from adapters.problems import Problem, note, shown

MAX_ENTRIES = 1000
"""Most files and folders an adapter may have. Adapters hold about ten; a training folder some hundred."""
MAX_DEPTH = 8
"""Deepest nesting of folders."""

_PICKLES = {".bin", ".pt", ".pth", ".pkl", ".pickle", ".ckpt", ".joblib", ".npy", ".npz", ".dill", ".h5", ".keras"}
_EXECUTABLES = {
    *(".py", ".pyc", ".pyo", ".pyd", ".pyz", ".pyw", ".ipynb", ".so", ".dll", ".dylib", ".exe", ".com", ".msi"),
    *(".sh", ".bash", ".zsh", ".fish", ".bat", ".cmd", ".ps1", ".vbs", ".js", ".mjs", ".jar", ".class", ".wasm"),
    *(".pl", ".rb", ".php", ".lua", ".r", ".jl", ".whl", ".egg", ".deb", ".rpm", ".appimage"),
    *(".zip", ".tar", ".gz", ".tgz", ".bz2", ".xz", ".zst", ".7z", ".rar"),
}
_EXPECTED = {CONFIG_NAME, WEIGHTS_NAME, MANIFEST_NAME, ATTRIBUTES_NAME}


@dataclass(frozen=True, slots=True)
class FileFact:
    """One regular file of an adapter."""

    path: str
    """Relative to the adapter's folder, with forward slashes."""
    size: int
    """In bytes."""


@dataclass(frozen=True, slots=True)
class Entry:
    """Anything found below a folder, as ``lstat`` sees it."""

    path: str
    """Relative to the folder, with forward slashes."""
    status: os.stat_result
    """Of the thing itself; a link is not followed."""


def walk(folder: Path, max_entries: int = MAX_ENTRIES) -> Iterator[Entry]:
    """Yield everything below a folder in sorted order, following no link, one more than ``max_entries`` at most."""
    waiting = [(folder, 0)]
    found = 0
    while waiting:
        current, depth = waiting.pop()
        with os.scandir(current) as entries:
            for entry in sorted(entries, key=lambda e: e.name):
                status = entry.stat(follow_symlinks=False)
                yield Entry(Path(entry.path).relative_to(folder).as_posix(), status)
                found += 1
                if found > max_entries:
                    return
                if stat.S_ISDIR(status.st_mode) and depth < MAX_DEPTH:
                    waiting.append((Path(entry.path), depth + 1))


def open_regular(path: Path) -> BinaryIO:
    """Open a regular file for reading; never follow a link, never block on a pipe.

    Raises:
        OSError: it is missing, a link, no regular file, or unreadable.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(f"{path} is not a regular file")
    return os.fdopen(descriptor, "rb")


def list_files(folder: Path) -> tuple[tuple[FileFact, ...], list[Problem]]:
    """List an adapter's regular files, and everything that must not be or is unusual among its entries."""
    files: list[FileFact] = []
    problems: list[Problem] = []
    for count, entry in enumerate(walk(folder), 1):
        if count > MAX_ENTRIES:
            problems.append(
                Problem("too_many_files", f"holds more than {MAX_ENTRIES} files; give the adapter's own files alone")
            )
            break
        mode = entry.status.st_mode
        if stat.S_ISREG(mode):
            files.append(FileFact(entry.path, entry.status.st_size))
        problem = _entry_problem(entry.path, mode)
        if problem:
            problems.append(problem)
    return tuple(sorted(files, key=lambda fact: fact.path)), problems


def _entry_problem(path: str, mode: int) -> Problem | None:
    name, where = PurePosixPath(path).name, shown(path)
    if not path.isprintable():  # lone surrogates stand for bytes that are no UTF-8
        return Problem("file_name", "has control characters or is not UTF-8; rename it", where)
    if stat.S_ISLNK(mode):
        return Problem("symlink", "is a symbolic link; put the file itself there", where)
    if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
        return Problem("special_file", "is a named pipe, socket or device; remove it", where)
    if name.startswith(".") and name != ".gitattributes":
        return Problem("hidden_file", "is hidden; remove it (an adapter has no need of hidden files)", where)
    if stat.S_ISDIR(mode):
        if len(PurePosixPath(path).parts) > MAX_DEPTH:
            return Problem("nested_too_deep", f"lies more than {MAX_DEPTH} folders deep; flatten it", where)
        return None
    return _file_problem(path, name.lower(), where)


def _file_problem(path: str, name: str, where: str) -> Problem | None:
    suffix = PurePosixPath(name).suffix
    if suffix in _PICKLES:
        return Problem(
            "pickle",
            "may be a pickle, which runs code when opened, and was not opened; convert the weights to "
            f"{WEIGHTS_NAME} (peft: save_pretrained with safe_serialization=True) and remove it",
            where,
        )
    if suffix in _EXECUTABLES:
        return Problem("executable_file", "is code or an archive; an adapter is data only, remove it", where)
    if path in _EXPECTED or is_inert(path) or (suffix == ".txt" and not is_prompt_path(name)):
        return None
    if suffix in {".safetensors", ".gguf", ".onnx"} or name.endswith(".safetensors.index.json"):
        # A server's resolver can be asked for any folder below the promoted one, so nothing rides along unexamined.
        return Problem(
            "weights_unexamined",
            f"holds weights that are no part of {WEIGHTS_NAME}; move it out of the adapter's folder",
            where,
        )
    if PurePosixPath(name).name == CONFIG_NAME:
        return Problem("adapter_inside", "is a second adapter inside this one; give each a folder of its own", where)
    if is_prompt_path(name):
        return _prompt_note(where)
    return note("file_unusual", "is no part of an adapter and is not read", where)


def _prompt_note(where: str) -> Problem:
    return note(
        "prompt_files",
        "can change how prompts are written or cut (a prompt-injection path); it is never used here, the base's own is",
        where,
    )
