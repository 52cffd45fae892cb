"""Pictures that lie inside a Parquet file's rows, as the ``datasets`` library writes them."""

from __future__ import annotations

from pathlib import Path, PurePosixPath

from guards.suites.draft import Record, RowProblem
from guards.suites.pictures import SUFFIXES, keep_picture


def embedded_picture(row: Record, column: str = "image") -> Path:
    """Return a row's picture as a file: the bytes of ``{"bytes": …, "path": …}``, or bare bytes.

    Raises:
        RowProblem: there are no bytes, for instance only a path to somebody's own disk.
        PictureProblem: the bytes are no picture, or cannot be kept.
    """
    value = row.row.get(column)
    data = value.get("bytes") if isinstance(value, dict) else value
    if not isinstance(data, bytes) or not data:
        raise RowProblem(f"{column!r} holds no picture's bytes; take the set's Parquet with its pictures inside")
    name = value.get("path") if isinstance(value, dict) else None
    suffix = PurePosixPath(name).suffix.lower() if isinstance(name, str) else ""
    return keep_picture(data, suffix if suffix in SUFFIXES else None)
