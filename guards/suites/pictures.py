"""The pictures of a suite: found below its folder, opened once, and never dropped."""

from __future__ import annotations

import hashlib
import io
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from PIL import Image, UnidentifiedImageError

SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff"})
"""What a picture's file may end with, in small letters."""
UNREADABLE = (OSError, UnidentifiedImageError, Image.DecompressionBombError, ValueError, SyntaxError)
"""What opening a file that is no sound picture may raise."""


class PictureProblem(Exception):
    """A picture cannot be shown; the message names it and the cause."""


class Pictures:
    """The picture files below one folder."""

    def __init__(self, folder: Path) -> None:
        """Look below ``folder``; it is walked when a name is first asked for that is not a path from there."""
        self._folder, self._root = folder, folder.resolve()
        self._by_name: dict[str, list[PurePosixPath]] | None = None
        self._known: dict[Path, str | None] = {}

    def find(self, *names: str) -> Path:
        """Return the first of ``names`` that is there and can be shown.

        A name is a path from the folder, or the end of one: archives bring folders of their own around what a
        set's tables name.

        Raises:
            PictureProblem: none is there, several are, or it is outside the folder or no picture.
        """
        for name in names:
            place = self._folder / name
            if self._is_file(place):
                return self.checked(place)
        for name in names:
            ends = [path for path in self._named(PurePosixPath(name).name) if _ends_with(path, PurePosixPath(name))]
            if len(ends) > 1:
                raise PictureProblem(f"picture {name} is there {len(ends)} times: {ends[0]}, {ends[1]}; keep one")
            if ends:
                return self.checked(self._folder / ends[0])
        raise PictureProblem(f"picture {self._folder / names[0]} is missing")

    def checked(self, place: Path) -> Path:
        """Return ``place`` if it is a picture below the folder; each file is opened once.

        Raises:
            PictureProblem: it is outside, missing, or no picture.
        """
        if place not in self._known:
            self._known[place] = self._problem(place)
        problem = self._known[place]
        if problem is not None:
            raise PictureProblem(problem)
        return place

    def has_folder(self, name: str) -> bool:
        """Whether pictures lie in some folder of that name, at any depth."""
        return any(name in path.parts[:-1] for paths in self._index.values() for path in paths)

    def _is_file(self, place: Path) -> bool:
        """Whether a file is there, below the folder."""
        try:
            outside = not place.resolve().is_relative_to(self._root)
            there = place.is_file()
        except (OSError, ValueError, RuntimeError) as error:  # too long, a null character, links in a circle
            raise PictureProblem(f"picture {str(place)[:200]!r}: {' '.join(str(error).split())[:80]}") from error
        if outside:
            raise PictureProblem(f"picture {place} lies outside the suite's folder; copy it in")
        return there

    def _problem(self, place: Path) -> str | None:
        try:
            if not self._is_file(place):
                return f"picture {place} is missing"
            with Image.open(place) as picture:
                picture.load()
        except PictureProblem as problem:
            return str(problem)
        except UNREADABLE as error:
            return f"picture {place} is no picture that can be read ({' '.join(str(error).split())[:80]})"
        return None

    def _named(self, name: str) -> list[PurePosixPath]:
        return self._index.get(name, [])

    @property
    def _index(self) -> dict[str, list[PurePosixPath]]:
        if self._by_name is None:
            self._by_name = {}
            for path in sorted(files_below(self._folder)):
                if path.suffix.lower() in SUFFIXES:
                    self._by_name.setdefault(path.name, []).append(path)
        return self._by_name


def files_below(folder: Path) -> Iterator[PurePosixPath]:
    """Every file below a folder, relative to it; hidden ones and what archives of macOS leave behind are left out."""
    for place, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith(".") and name != "__MACOSX")
        relative = Path(place).relative_to(folder).as_posix()
        for name in sorted(files):
            if not name.startswith("."):
                yield PurePosixPath(relative) / name


def keep_picture(data: bytes, suffix: str | None = None) -> Path:
    """Keep a picture that came inside another file, under its SHA-256, where later runs and reports find it.

    Raises:
        PictureProblem: the bytes are no picture, or the cache cannot be written.
    """
    try:
        with Image.open(io.BytesIO(data)) as picture:
            picture.load()
            ending = suffix or f".{(picture.format or 'png').lower()}"
    except UNREADABLE as error:
        raise PictureProblem(f"no picture that can be read ({' '.join(str(error).split())[:80]})") from error
    place = picture_cache() / f"{hashlib.sha256(data).hexdigest()}{ending}"
    try:
        if place.is_file() and place.read_bytes() == data:
            return place
        place.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=place.parent, prefix=".", delete=False) as unfinished:
            unfinished.write(data)
        Path(unfinished.name).replace(place)
    except OSError as error:
        raise PictureProblem(
            f"cannot keep pictures in {place.parent} ({error.strerror}); name a folder in XDG_CACHE_HOME"
        ) from error
    return place


def picture_cache() -> Path:
    """Where pictures are kept that no suite's folder holds as files: drawn ones, and those inside Parquet."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "alignwatch" / "pictures"


def _ends_with(path: PurePosixPath, end: PurePosixPath) -> bool:
    parts = [part for part in end.parts if part not in ("/", ".")]
    return path.parts[-len(parts) :] == tuple(parts)
