"""The header of a safetensors file, read without trust: every claim is checked against the file's real length."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from adapters.adapter_files import open_regular
from adapters.problems import Problem, shown

MAX_HEADER = 16 * 2**20
"""Longest header read, in bytes. The format allows 100 MB; real adapters stay below 1 MB, and parsed JSON takes
about ten times its length in memory."""

_BITS = {
    **dict.fromkeys(("F64", "I64", "U64", "C64"), 64),
    **dict.fromkeys(("F32", "I32", "U32"), 32),
    **dict.fromkeys(("F16", "BF16", "I16", "U16"), 16),
    **dict.fromkeys(("I8", "U8", "BOOL", "F8_E4M3", "F8_E5M2", "F8_E8M0", "F8_E4M3FNUZ", "F8_E5M2FNUZ"), 8),
    **dict.fromkeys(("F6_E2M3", "F6_E3M2"), 6),
    "F4": 4,
}


@dataclass(frozen=True, slots=True)
class TensorFact:
    """What the header claims, and the file's length bears out, of one tensor."""

    dtype: str
    """As safetensors names it: ``F32``, ``BF16``, …"""
    shape: tuple[int, ...]
    """Every dimension at least 0."""
    begin: int
    """First byte, counted from the end of the header."""
    end: int
    """One past the last byte."""

    @property
    def bytes(self) -> int:
        """Its size in bytes."""
        return self.end - self.begin


class _Lie(Exception):
    """The header claims something that cannot be so. Never leaves this module."""

    def __init__(self, code: str, reason: str, tensor: str = "") -> None:
        super().__init__(reason)
        self.code, self.tensor = code, tensor


def read_header(path: Path) -> tuple[Mapping[str, TensorFact], list[Problem]]:
    """Read the tensors that a safetensors file declares, in the file's order; no weights are read.

    Either every claim holds and there is no problem, or the mapping holds what could be read and a problem says
    what is wrong.

    Raises:
        OSError: the file cannot be read.
    """
    tensors: dict[str, TensorFact] = {}
    try:
        with open_regular(path) as stream:
            size = stream.seek(0, 2)
            stream.seek(0)
            length = _header_length(stream.read(8), size)
            raw = stream.read(length)
        entries = _parse(raw, length)
        for name, entry in entries.items():
            tensors[name] = _tensor(name, entry)
        _check_layout(tensors, size - 8 - length)
    except _Lie as lie:
        return tensors, [Problem(lie.code, str(lie), f"{path.name}: {shown(lie.tensor)}" if lie.tensor else path.name)]
    return tensors, []


def _header_length(prefix: bytes, size: int) -> int:
    if prefix.startswith(b"version "):
        raise _Lie("weights_lfs_pointer", "is a Git LFS pointer, not the weights; run git lfs pull and upload again")
    if len(prefix) < 8:
        raise _Lie("header_truncated", f"is only {size} bytes long, too short for a safetensors file; upload it again")
    length = int.from_bytes(prefix, "little")
    if length > size - 8:
        raise _Lie(
            "header_truncated",
            f"claims a header of {length} bytes in a file of {size}; it is cut off or no safetensors, upload it again",
        )
    if length > MAX_HEADER:
        raise _Lie("header_too_long", f"has a header of {length} bytes; at most {MAX_HEADER} are read")
    return length


def _parse(raw: bytes, length: int) -> dict[str, Any]:
    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        entries = dict(pairs)
        if len(entries) < len(pairs):
            raise _Lie("header_lies", "names a tensor or field twice, so readers could disagree; save it again")
        return entries

    if len(raw) < length:
        raise _Lie("header_truncated", "ends inside its header; upload it again")
    try:
        header = json.loads(raw.decode("utf-8"), object_pairs_hook=unique)
    except (ValueError, RecursionError) as error:
        raise _Lie("header_not_json", f"has a header that is not JSON ({shown(str(error))}); save it again") from None
    if not isinstance(header, dict) or raw[:1] != b"{":
        raise _Lie("header_not_json", "has a header that is not a JSON object; save it again")
    metadata = header.pop("__metadata__", {})
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        raise _Lie("header_lies", "has __metadata__ that does not map text to text; save it again")
    return header


def _tensor(name: str, entry: Any) -> TensorFact:
    if not isinstance(entry, dict) or set(entry) != {"dtype", "shape", "data_offsets"}:
        raise _Lie("header_lies", "is declared without exactly dtype, shape and data_offsets; save it again", name)
    dtype, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    if not isinstance(dtype, str) or dtype not in _BITS:
        raise _Lie("header_lies", f"has the unknown dtype {shown(dtype)}; save it again", name)
    if not _counts(shape) or len(shape) > 8:
        raise _Lie("header_lies", f"has the impossible shape {shown(shape)}; save it again", name)
    if not _counts(offsets) or len(offsets) != 2 or offsets[0] > offsets[1]:
        raise _Lie("header_lies", f"has the impossible offsets {shown(offsets)}; save it again", name)
    needed = math.prod(shape) * _BITS[dtype]
    if needed != (offsets[1] - offsets[0]) * 8:
        raise _Lie(
            "header_lies",
            f"of shape {shown(shape)} and {dtype} needs {shown(needed // 8)} bytes, but its offsets span "
            f"{shown(offsets[1] - offsets[0])}; save it again",
            name,
        )
    return TensorFact(dtype, tuple(shape), offsets[0], offsets[1])


def _counts(value: Any) -> bool:
    return isinstance(value, list) and all(type(number) is int and 0 <= number < 2**63 for number in value)


def _check_layout(tensors: Mapping[str, TensorFact], available: int) -> None:
    """Hold that the tensors lie end to end and fill the file, as the format demands."""
    position = 0
    for name, tensor in sorted(tensors.items(), key=lambda item: (item[1].begin, item[1].end)):
        if tensor.end > available:
            raise _Lie(
                "weights_truncated",
                f"reaches to byte {tensor.end} of {available}; the file is cut off, upload it again",
                name,
            )
        if tensor.begin != position:
            overlap = "overlaps the tensor before it" if tensor.begin < position else "leaves a gap before it"
            raise _Lie("header_lies", f"{overlap} in the file; save it again", name)
        position = tensor.end
    if position != available:
        raise _Lie(
            "header_lies",
            f"holds {available - position} bytes that its header does not mention; save it again",
        )
