"""A suite while it is read: prompts so far, everything that is wrong, and everything worth knowing."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from adapters.prompts import Modality, Prompt
from guards.suites.data_files import DataFile, Row, Unreadable
from guards.suites.pictures import PictureProblem, Pictures
from guards.suites.suite import Suite, SuiteError


class RowProblem(Exception):
    """A row cannot be asked; the message tells the cause."""


class Layout(Protocol):
    """One kind of folder that is understood; a module of this package each."""

    NAME: str
    """What people call the set."""
    HOLDS: str
    """What the folder must hold, for who has to find it."""

    def fits(self, file: DataFile) -> bool:
        """Whether a data file belongs to the set, by its columns.

        Raises:
            Unreadable: the file cannot be read.
        """
        ...

    def read(self, files: Sequence[DataFile], draft: Draft) -> None:
        """Read every row of the set's files into the draft."""
        ...


@dataclass(frozen=True, slots=True)
class Reading:
    """What came of reading a folder."""

    place: Path
    """The folder, or the one data file that was named."""
    layout: str | None
    """The set that was recognised; None where none was."""
    files: tuple[Path, ...]
    """The data files that were read."""
    suite: Suite | None
    """The suite; None where there are errors."""
    errors: tuple[str, ...]
    """Everything that has to be mended before the suite can be asked."""
    warnings: tuple[str, ...]
    """Everything worth knowing about what became of the files."""

    def __post_init__(self) -> None:
        # Names and values of the files stand in them, and these may hold line breaks.
        for told in ("errors", "warnings"):
            lines = tuple(" ".join(problem.split()) for problem in getattr(self, told))
            object.__setattr__(self, told, lines)

    def required(self) -> Suite:
        """Return the suite.

        Raises:
            SuiteError: there are errors; all of them.
        """
        if self.suite is None:
            raise SuiteError(self.place, self.errors)
        return self.suite


@dataclass(frozen=True, slots=True)
class Record:
    """One row with its place."""

    row: Row
    """Values by column."""
    place: str
    """File and line, for messages."""
    number: int
    """Place in its file, from 1."""

    def text(self, *columns: str) -> str:
        """Return the text of the first of ``columns`` that has some.

        Raises:
            RowProblem: none has, or it is no text.
        """
        for column in columns:
            value = self.row.get(column)
            if isinstance(value, str) and value.strip():
                return sound(value, column)
            if value is not None and not isinstance(value, str):
                raise RowProblem(f"{column!r} is no text but {type(value).__name__}")
        raise RowProblem(f"{' or '.join(map(repr, columns))} is missing or empty")

    def label(self, *columns: str) -> str | None:
        """Return the first of ``columns`` that is a text or a whole number, as text; None where none is."""
        for column in columns:
            value = self.row.get(column)
            if isinstance(value, int | str) and not isinstance(value, bool) and str(value).strip():
                return sound(str(value).strip(), column)
        return None


class Draft:
    """Collects a suite's prompts. A problem is recorded and reading goes on, so that all are told at once."""

    def __init__(self, folder: Path) -> None:
        """Begin a suite of what lies below ``folder``."""
        self.folder = folder
        self.pictures = Pictures(folder)
        self.prompts: list[Prompt] = []
        self.errors: list[str] = []
        self.warnings: list[str] = []
        self._by_id: dict[str, Prompt] = {}
        self._repeated: list[str] = []

    def read(self, file: DataFile, take: Callable[[Record], None]) -> None:
        """Hand every row of a file to ``take``; a row that it refuses becomes an error with its place."""
        name = file.path.relative_to(self.folder).as_posix()
        try:
            for number, (place, row) in enumerate(file.rows(), start=1):
                record = Record(row, f"{name}, {place}", number)
                try:
                    take(record)
                except (RowProblem, PictureProblem) as error:
                    self.errors.append(f"{record.place}: {error}")
        except Unreadable as error:
            self.errors.append(f"{name}: {error}")

    def add(self, place: str, id: str, text: str, image: Path | None = None, **more: Any) -> str | None:  # noqa: A002
        """Add a prompt and return its id; None where it repeats an earlier one word for word.

        Published files do have an id twice. With the same content it is one question, asked once; with another
        content both are asked, the second under a name of its own. Either is told, and nothing is dropped unseen.
        """
        modality: Modality = "text" if image is None else "image"
        prompt = Prompt(id=sound(id, "id"), modality=modality, text=text, image=image, **more)
        number = 1
        while (known := self._by_id.get(prompt.id)) is not None:
            if (known.text, known.system, known.image) == (text, prompt.system, image):
                self._repeated.append(place)
                return None
            number += 1
            prompt = Prompt(id=f"{id}#{number}", modality=modality, text=text, image=image, **more)
        if number > 1:
            self.warnings.append(f"{place}: duplicate id {id!r} with another content; this one is called {prompt.id!r}")
        self._by_id[prompt.id] = prompt
        self.prompts.append(prompt)
        return prompt.id

    def told(self) -> tuple[str, ...]:
        """Every warning, the repeated rows as one."""
        if not self._repeated:
            return tuple(self.warnings)
        rows = "row repeats" if len(self._repeated) == 1 else "rows repeat"
        told = f"{len(self._repeated)} {rows} an earlier id and its content, and is asked once: {self._repeated[0]}"
        return (*self.warnings, told)


def sound(text: str, what: str) -> str:
    """Return a text that every model and file can take.

    Raises:
        RowProblem: it holds half of a surrogate pair, which no UTF-8 can carry.
    """
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise RowProblem(f"{what!r} is no Unicode text (a lone surrogate at {error.start})") from error
    return text
