"""Writing a new adapter out of an old one's files: some of them changed, its parent recorded, whole or not at all."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from safetensors.torch import save_file
from torch import Tensor

from adapters.adapter import CONFIG_NAME, MANIFEST_NAME, WEIGHTS_NAME, Adapter, open_adapter

Measured = Sequence[Mapping[str, Any]]
"""What a remedy measured, in plain JSON types."""


def rewritten(parent: Adapter, tensors: Mapping[str, Tensor], out: Path, method: str) -> Adapter:
    """Write ``parent``'s config with other tensors to ``out``, whole or not at all."""
    with workshop(out) as staging:
        written(parent, staging, tensors, None)
        return adopted(parent, staging, out, method)


def written(
    parent: Adapter, folder: Path, tensors: Mapping[str, Tensor] | None, config: Mapping[str, Any] | None
) -> None:
    """Write config and weights into a folder that nobody reads yet; what is None is copied byte for byte."""
    if config is None:
        shutil.copyfile(parent.path / CONFIG_NAME, folder / CONFIG_NAME)
    else:
        write_config(config, folder)
    if tensors is None:
        shutil.copyfile(parent.path / WEIGHTS_NAME, folder / WEIGHTS_NAME)
    else:
        save_file(dict(tensors), folder / WEIGHTS_NAME, metadata={"format": "pt"})


@contextmanager
def workshop(out: Path) -> Iterator[Path]:
    """An empty folder beside ``out`` for what is not whole yet; it is gone after the ``with`` block, come what may."""
    staging = out.with_name(out.name + ".partial")
    shutil.rmtree(staging, ignore_errors=True)
    staging.mkdir(parents=True)
    try:
        yield staging
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def adopted(parent: Adapter, made: Path, out: Path, method: str, measured: Measured = ()) -> Adapter:
    """Record the parent beside freshly written adapter files and move them to ``out`` in one step."""
    lineage: dict[str, Any] = {"parent": parent.digest, "method": method}
    if measured:
        lineage["measured"] = [dict(one) for one in measured]
    (made / MANIFEST_NAME).write_text(json.dumps(lineage, indent=2) + "\n", encoding="utf-8")
    shutil.rmtree(out, ignore_errors=True)
    made.replace(out)
    return open_adapter(out, name=f"{parent.name}+{method}", parent=parent.digest)


def config_of(adapter: Adapter) -> dict[str, Any]:
    """Read an adapter's config as it stands; whether it can be used is for others to say."""
    config: dict[str, Any] = json.loads((adapter.path / CONFIG_NAME).read_text(encoding="utf-8"))
    return config


def write_config(config: Mapping[str, Any], folder: Path) -> None:
    """Write an adapter's config as PEFT lays it out."""
    (folder / CONFIG_NAME).write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
