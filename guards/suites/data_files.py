"""The data files of a suite, read as rows: CSV, JSON, JSON Lines, YAML and Parquet. Nothing in them is executed."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from pathlib import Path
from types import ModuleType
from typing import Any, TypeAlias

import yaml

KINDS = {
    ".csv": "csv",
    ".json": "json",
    ".jsonl": "jsonl",
    ".yaml": "yaml",
    ".yml": "yaml",
    ".parquet": "parquet",
}
"""Kinds of data file that are looked at, by the file's ending in small letters."""
LARGEST_BYTES = 1 << 30
"""Larger text files are refused: the known sets stay below a tenth of it, and a file is read whole."""
LONGEST_FIELD = 1 << 24
"""Characters of one CSV field; Python's own limit of 131,072 would end a long prompt in an error."""
_ROWS_FOR_KEYS = 50
PARQUET_ROWS_AT_ONCE = 32
"""Rows of a Parquet file in memory at once, since each brings its picture."""

Row: TypeAlias = Mapping[str, Any]


class Unreadable(Exception):
    """A data file cannot be read as what its ending says; the message tells the cause, without the file's name."""


@dataclass(frozen=True)
class DataFile:
    """One data file of a suite."""

    path: Path
    """Where it is."""
    kind: str
    """``csv``, ``json``, ``jsonl``, ``yaml`` or ``parquet``."""

    @property
    def stem(self) -> str:
        """Its name without the ending."""
        return self.path.stem

    @cached_property
    def columns(self) -> frozenset[str]:
        """Names of the columns, or keys of the first rows; stripped of the blanks that some headers carry.

        Raises:
            Unreadable: see :meth:`rows`.
        """
        if self.kind == "parquet":
            return frozenset(_parquet_file(self.path).schema_arrow.names)
        if self.kind == "csv":
            return frozenset(self._table[0])
        # Of several rows, so that one that lacks something does not hide which set it belongs to.
        return frozenset(key for _, row in islice(self.rows(), _ROWS_FOR_KEYS) for key in row)

    @property
    def keyed(self) -> bool:
        """Whether a JSON file holds its rows by their ids, not as a list.

        Raises:
            Unreadable: see :meth:`rows`.
        """
        return self.kind == "json" and isinstance(self._parsed, dict)

    def rows(self) -> Iterator[tuple[str, Row]]:
        """Yield every row with its place in the file, such as ``line 12``.

        What is no row with the header's fields is yielded as an empty one, whose place says so. Rows that a JSON
        file holds by their ids have them under the key ``""``.

        Raises:
            Unreadable: not in UTF-8, not what the ending says, or too large.
        """
        if self.kind == "csv":
            yield from self._table[1]
        elif self.kind == "parquet":
            yield from self._parquet_rows()
        elif self.keyed:
            yield from ((f"entry {key!r}", {**_as_row(row), "": key}) for key, row in self._parsed.items())
        elif isinstance(self._parsed, list):
            word = "line" if self.kind == "jsonl" else "entry"
            yield from ((f"{word} {number}", _as_row(row)) for number, row in enumerate(self._parsed, start=1))

    @cached_property
    def _table(self) -> tuple[list[str], list[tuple[str, Row]]]:
        before = csv.field_size_limit(LONGEST_FIELD)
        try:
            reader = csv.reader(io.StringIO(self._text, newline=""), strict=True)
            header = [name.strip() for name in next(reader, [])]
            rows: list[tuple[str, Row]] = []
            line = reader.line_num + 1
            for fields in reader:
                if fields:
                    wrong = (
                        f" ({len(fields)} fields, the header has {len(header)})" if len(fields) != len(header) else ""
                    )
                    rows.append((f"line {line}{wrong}", {} if wrong else dict(zip(header, fields, strict=True))))
                line = reader.line_num + 1
        except csv.Error as error:
            raise Unreadable(f"no CSV: {error}") from error
        finally:
            csv.field_size_limit(before)
        return header, rows

    def _parquet_rows(self) -> Iterator[tuple[str, Row]]:
        batches = _parquet_file(self.path).iter_batches(batch_size=PARQUET_ROWS_AT_ONCE)
        number = 0
        while True:
            with _parquet_errors(f" after row {number}"):
                batch = next(batches, None)
                rows = None if batch is None else batch.to_pylist()
            if rows is None:
                return
            for row in rows:
                number += 1
                yield f"row {number}", row

    @cached_property
    def _parsed(self) -> Any:
        try:
            if self.kind == "yaml":
                return yaml.safe_load(self._text)
            if self.kind == "jsonl":
                lines = [line for line in self._text.split("\n") if line.strip()]
                return [json.loads(line, object_pairs_hook=_object) for line in lines]
            return json.loads(self._text, object_pairs_hook=_object)
        except (yaml.YAMLError, json.JSONDecodeError, RecursionError) as error:
            raise Unreadable(f"no {self.kind.upper()}: {' '.join(str(error).split())[:160]}") from error

    @cached_property
    def _text(self) -> str:
        try:
            if self.path.stat().st_size > LARGEST_BYTES:
                raise Unreadable(f"larger than {LARGEST_BYTES >> 20} MiB; split it")
            return self.path.read_text(encoding="utf-8-sig")
        except UnicodeDecodeError as error:
            raise Unreadable(f"not UTF-8 at byte {error.start}; convert it") from error
        except OSError as error:
            raise Unreadable(f"cannot be read: {error.strerror or error}") from error


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Make an object whose keys are told apart; of a key that is there twice, one value would be lost in silence."""
    made = dict(pairs)
    if len(made) < len(pairs):
        twice = next(key for number, (key, _) in enumerate(pairs) if any(key == k for k, _ in pairs[:number]))
        raise Unreadable(f"key {twice!r} is there twice in one object, so that one of both would be lost")
    return made


def _as_row(row: Any) -> Row:
    return {str(key).strip(): value for key, value in row.items()} if isinstance(row, dict) else {}


def _parquet_file(path: Path) -> Any:
    parquet = _pyarrow_parquet()
    with _parquet_errors():
        return parquet.ParquetFile(path)


@contextmanager
def _parquet_errors(where: str = "") -> Iterator[None]:
    """Turn everything that a damaged file may raise into one error."""
    from pyarrow import ArrowException

    try:
        yield
    except (ArrowException, OSError, ValueError, MemoryError) as error:
        raise Unreadable(f"no Parquet{where}: {' '.join(str(error).split())[:160]}") from error


def _pyarrow_parquet() -> ModuleType:
    try:
        import pyarrow.parquet
    except ImportError as error:
        raise Unreadable("reading Parquet needs pyarrow; install alignwatch[suites]") from error
    parquet: ModuleType = pyarrow.parquet
    return parquet
