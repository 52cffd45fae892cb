"""One look at a folder in which adapters are dropped: which folders hold one, and the signature of each."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Collection
from functools import lru_cache

from adapters.adapter_files import MAX_DEPTH
from adapters.file_names import is_inert
from adapters.sources.completeness import looks_like_adapter

MAX_NESTING = 4
"""An adapter is found down to this depth below the source's folder: ``a/b/c/d/adapter_config.json``."""

_File = tuple[str, int, int, int, int, int]
"""Relative path, mode, size, inode, mtime and ctime in nanoseconds. The ctime cannot be set back, so it tells of a
rewrite of the same size whose mtime was."""

_has_no_effect = lru_cache(maxsize=4096)(is_inert)
_makes_an_adapter = lru_cache(maxsize=4096)(looks_like_adapter)


class FolderWalk:
    """What one look found. Nothing is read but names and what ``lstat`` tells; no link is followed."""

    def __init__(self, root: str) -> None:
        self.root = root
        self.signatures: dict[str, str] = {}
        """Of every adapter's folder, by its path relative to the root; the root itself is the empty path."""
        self.unreadable: dict[str, str] = {}
        """Folders that could not be listed, by relative path, with the cause."""

    def look(self, tops: Collection[str] | None = None) -> set[str]:
        """Look at everything, or at these entries of the root alone; return the names of what was looked at.

        Raises:
            OSError: the root itself cannot be listed.
        """
        if tops is None:
            with os.scandir(self.root) as entries:
                listed = list(entries)
            self._folder("", listed, 0, None)
            return {entry.name for entry in listed}
        for top in tops:
            if not top.startswith(".") and self._is_folder(top):
                self._below(top, 1, None)
        return set(tops)

    def _is_folder(self, folder: str) -> bool:
        try:
            return stat.S_ISDIR(os.lstat(os.path.join(self.root, folder)).st_mode)  # noqa: PTH118
        except OSError:
            return False

    def _below(self, folder: str, depth: int, inside: int | None) -> list[_File]:
        try:
            with os.scandir(os.path.join(self.root, folder)) as entries:  # noqa: PTH118 - thrice as fast as Path
                listed = list(entries)
        except (FileNotFoundError, NotADirectoryError):
            return []  # it went meanwhile
        except OSError as error:
            self.unreadable[folder] = error.strerror or str(error)
            return []
        return self._folder(folder, listed, depth, inside)

    def _folder(self, folder: str, entries: list[os.DirEntry[str]], depth: int, inside: int | None) -> list[_File]:
        """Return the files of a folder and all below it, their paths relative to it.

        ``inside`` counts the folders between this one and the adapter around it; None where there is none.
        """
        files: list[_File] = []
        folders: list[str] = []
        is_adapter = False
        for entry in entries:
            name = entry.name
            if entry.is_dir(follow_symlinks=False):
                folders.append(name)
                continue
            if _makes_an_adapter(name):
                is_adapter = True
            try:
                seen = entry.stat(follow_symlinks=False)
            except OSError:
                continue  # it went meanwhile, and the next look sees another set of files
            mode = stat.S_IFMT(seen.st_mode)
            files.append((name, mode, seen.st_size, seen.st_ino, seen.st_mtime_ns, seen.st_ctime_ns))
        if is_adapter:
            inside = 0
        if folders and (depth < MAX_NESTING if inside is None else inside <= MAX_DEPTH):
            for name in folders:
                if inside is None and name.startswith("."):
                    continue  # where uploaders and version control keep what is not yet, or not at all, for others
                path = f"{folder}/{name}" if folder else name
                below = self._below(path, depth + 1, None if inside is None else inside + 1)
                if inside is not None:
                    files += [(f"{name}/{file[0]}", *file[1:]) for file in below]
        if is_adapter:
            self.signatures[folder] = _signature(files)
        return files


def _signature(files: list[_File]) -> str:
    effective = sorted(file for file in files if stat.S_ISLNK(file[1]) or not _has_no_effect(file[0]))
    return hashlib.sha256(repr(effective).encode("utf-8", "surrogateescape")).hexdigest()
