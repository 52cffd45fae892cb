"""A transfer matrix as people see it in a terminal, and as plain JSON types."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import fields, is_dataclass
from typing import Any, Final

from rich.console import Console
from rich.table import Table
from rich.text import Text

from guards.statistics import Interval
from guards.transfer_matrix import ModalityTransfer, ProbeCell, SteeringCell, Subject, TransferMatrix
from monitor.report import words

_LONGEST_NAME: Final = 40
_NOISE: Final = 0.5
"""Split-half cosine below which a direction is called noise."""


def print_transfer(matrix: TransferMatrix, console: Console) -> None:
    """Print one modality after the other: the adapters, then what their directions do as probes and taken out."""
    console.print(
        f"directions at {matrix.layer}; rows: the adapter a direction comes from, columns: the one it is tried on"
    )
    for part in matrix.modalities:
        console.print(_adapters(part))
        names = [f"{place} {_name(subject)}" for place, subject in enumerate(part.subjects, start=1)]
        title = (
            f"{part.modality}: AUROC against the base, n={part.prompts} prompts a side; in brackets random directions"
        )
        console.print(_grid(title, names, part.probe, _probe_words))
        if part.steering is None:
            console.print(Text(f"{part.modality}: nothing was ablated: {words.visible(part.steering_reason or '?')}"))
            continue
        title = (
            f"{part.modality}: share of the rise taken away, up to n={part.pairs} pairs; "
            "in brackets random directions; the same ablation in the base alone"
        )
        console.print(_grid(title, names, part.steering, _steering_words))
        for subject in part.subjects:
            if subject.unsteered:
                console.print(
                    Text(f"not ablated under {_name(subject)}: {words.visible(subject.unsteered, limit=200)}")
                )


def transfer_json(matrix: TransferMatrix) -> dict[str, Any]:
    """The whole matrix as dictionaries, lists, numbers and texts; what is no number becomes None.

    Names are as they were given; whoever prints them escapes them.
    """
    made: dict[str, Any] = _plain(matrix)
    for part, modality in zip(made["modalities"], matrix.modalities, strict=True):
        part["probe"] = [[_with_mean(cell) for cell in row] for row in modality.probe]
        if modality.steering is not None:
            part["steering"] = [[_with_mean(cell) for cell in row] for row in modality.steering]
    return made


def _adapters(part: ModalityTransfer) -> Table:
    unable = any(subject.reason for subject in part.subjects)
    heads = (
        "",
        "adapter",
        "shift",
        "split half",
        "leans to",
        "rise, nats a token",
        *(["no direction because"] * unable),
    )
    table = Table(*heads, title=f"{part.modality}: adapters", title_justify="left")
    for place, subject in enumerate(part.subjects, start=1):
        half = "" if subject.split_half is None else words.number(subject.split_half, 2)
        noise = subject.split_half is not None and subject.split_half < _NOISE
        cells = (
            str(place),
            _name(subject),
            "" if subject.size is None else words.number(subject.size, 2),
            f"{half} (noise)" if noise else half,
            words.visible(subject.category or "", limit=_LONGEST_NAME),
            f"{_interval(subject.rise)}, n={subject.rise.n}" if subject.rise else "",
            words.visible(subject.reason or "", limit=200),
        )
        table.add_row(*(Text(cell) for cell in cells[: len(heads)]))
    return table


def _grid(title: str, names: Sequence[str], rows: Sequence[Sequence[Any]], cell_words: Callable[[Any], str]) -> Table:
    """Columns are told by number, so that many adapters still fit; a row in which nothing was measured is left out."""
    table = Table(
        "direction of", *(f"on {place}" for place in range(1, len(names) + 1)), title=title, title_justify="left"
    )
    for name, row in zip(names, rows, strict=True):
        if any(cell is not None for cell in row):
            table.add_row(Text(name), *(Text("" if cell is None else cell_words(cell)) for cell in row))
    return table


def _probe_words(cell: ProbeCell) -> str:
    return f"{_interval(cell.auroc)}\n({words.number(cell.random_mean, 2)})"


def _steering_words(cell: SteeringCell) -> str:
    if cell.share is None:
        return "no rise"
    base = cell.base_share.value if cell.base_share else None
    return f"{_interval(cell.share)}\n({words.number(cell.random_mean, 2)}; {words.number(base, 2)})"


def _interval(found: Interval) -> str:
    return f"{words.number(found.value, 2)} [{words.number(found.low, 2)}, {words.number(found.high, 2)}]"


def _name(subject: Subject) -> str:
    return words.visible(subject.name, limit=_LONGEST_NAME)


def _with_mean(cell: ProbeCell | SteeringCell | None) -> dict[str, Any] | None:
    """A cell with the mean that tables show beside it."""
    return None if cell is None else {**_plain(cell), "random_mean": _plain(cell.random_mean)}


def _plain(value: Any) -> Any:
    if is_dataclass(value):
        return dict(_members(value))
    if isinstance(value, tuple):
        return [_plain(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _members(value: Any) -> Iterator[tuple[str, Any]]:
    for field in fields(value):
        yield field.name, _plain(getattr(value, field.name))
