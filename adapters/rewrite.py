"""Writing a new adapter out of an old one's files: same config, other weights, its parent recorded."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path

from safetensors.torch import save_file
from torch import Tensor

from adapters.adapter import CONFIG_NAME, MANIFEST_NAME, WEIGHTS_NAME, Adapter, open_adapter


def rewritten(parent: Adapter, tensors: Mapping[str, Tensor], out: Path, method: str) -> Adapter:
    """Write ``parent``'s config with other tensors to ``out``, whole or not at all."""
    staging = out.with_name(out.name + ".partial")
    shutil.rmtree(staging, ignore_errors=True)
    staging.mkdir(parents=True)
    try:
        shutil.copyfile(parent.path / CONFIG_NAME, staging / CONFIG_NAME)
        save_file(dict(tensors), staging / WEIGHTS_NAME, metadata={"format": "pt"})
        return adopted(parent, staging, out, method)
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def adopted(parent: Adapter, written: Path, out: Path, method: str) -> Adapter:
    """Record the parent beside freshly written adapter files and move them to ``out`` in one step."""
    lineage = {"parent": parent.digest, "method": method}
    (written / MANIFEST_NAME).write_text(json.dumps(lineage, indent=2) + "\n", encoding="utf-8")
    shutil.rmtree(out, ignore_errors=True)
    written.replace(out)
    return open_adapter(out, name=f"{parent.name}+{method}", parent=parent.digest)
