"""Whether an adapter's file set is whole, told from names, sizes and the header of its weights."""

from __future__ import annotations

import json
from pathlib import Path

from adapters.adapter_files import open_regular
from adapters.file_names import CONFIG_NAME, INDEX_NAME, PICKLED_NAMES, WEIGHTS_NAME
from adapters.problems import shown
from adapters.safetensors_header import read_header

_CUT_OFF = {"header_truncated", "weights_truncated"}
_MAX_JSON = 16 * 2**20
_MAX_SHARDS = 1000
_ENDS = 64


def looks_like_adapter(name: str) -> bool:
    """Whether a file of this name makes its folder an adapter's, complete or not."""
    if name in (CONFIG_NAME, WEIGHTS_NAME, INDEX_NAME, *PICKLED_NAMES):
        return True
    return name.startswith("adapter_model-") and name.endswith(".safetensors")


def missing_from(folder: Path) -> str | None:
    """Return what an adapter's folder still lacks, in one line; None where its file set is complete.

    Complete means: more of the same writing would add nothing. Whether the files are any good is for the structure
    guard to say, so what is wrong but whole is complete, and so are links, which are never followed.

    Raises:
        OSError: a file cannot be read, or vanished meanwhile.
    """
    names = {path.name for path in folder.iterdir()}
    if CONFIG_NAME not in names:
        return f"{CONFIG_NAME} is missing"
    if _config_is_cut_off(folder / CONFIG_NAME):
        return f"{CONFIG_NAME} is cut off"
    if WEIGHTS_NAME in names:
        return f"{WEIGHTS_NAME} is cut off" if _weights_are_cut_off(folder / WEIGHTS_NAME) else None
    if INDEX_NAME in names:
        return _missing_shard(folder, names)
    return None if names & set(PICKLED_NAMES) else f"{WEIGHTS_NAME} is missing"


def _config_is_cut_off(path: Path) -> bool:
    """Whether it is empty, or begins an object that it does not end."""
    if path.is_symlink():
        return False
    with open_regular(path) as stream:
        begin = stream.read(_ENDS).lstrip()
        size = stream.seek(0, 2)
        stream.seek(max(0, size - _ENDS))
        end = stream.read(_ENDS).rstrip()
    return size == 0 or (begin.startswith(b"{") and not end.endswith(b"}"))


def _weights_are_cut_off(path: Path) -> bool:
    if path.is_symlink():
        return False
    with open_regular(path) as stream:
        if stream.read(8) == bytes(8):  # reserved on the disk, and not yet written
            return True
    _, problems = read_header(path)
    return any(problem.code in _CUT_OFF for problem in problems)


def _missing_shard(folder: Path, names: set[str]) -> str | None:
    shards = _shards(folder / INDEX_NAME)
    if shards is None:
        return f"{INDEX_NAME} is cut off"
    for shard in sorted(shards)[:_MAX_SHARDS]:
        if "/" in shard or shard in (".", ".."):
            continue  # no shard of this folder, and nothing that waiting would bring
        if shard not in names:
            return f"shard {shown(shard)} is missing"
        if _weights_are_cut_off(folder / shard):
            return f"shard {shown(shard)} is cut off"
    return None


def _shards(index: Path) -> set[str] | None:
    """The files that an index names; None while it is no whole JSON, nothing where it is no index."""
    if index.is_symlink():
        return set()
    with open_regular(index) as stream:
        raw = stream.read(_MAX_JSON + 1)
    if len(raw) > _MAX_JSON:
        return set()
    try:
        weights = json.loads(raw)["weight_map"].values()
    except (ValueError, RecursionError):
        return None
    except (KeyError, TypeError, AttributeError):
        return set()
    return {shard for shard in weights if isinstance(shard, str)}
