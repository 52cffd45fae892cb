"""What people write for a base and a dtype, turned into what the engine takes."""

from __future__ import annotations

from pathlib import Path

import torch

from monitor.exit_codes import UsageError


def known_base(base: str) -> Path | str:
    """A folder as a path; anything that looks like a Hub id (``owner/name``) as it is.

    Raises:
        UsageError: it is neither.
    """
    path = Path(base)
    if path.is_dir():
        return path.resolve()
    if base.startswith((".", "/", "~")) or base.count("/") != 1:
        raise UsageError(f"--base {base}: there is no such folder, and it is no Hub id (owner/name) either")
    return base


def dtype_named(name: str | None) -> torch.dtype | None:
    """The torch dtype of that name, None for none.

    Raises:
        UsageError: there is no such dtype among those that models are run in.
    """
    names = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
    if name is None:
        return None
    if name not in names:
        raise UsageError(f"--dtype {name}: choose one of {', '.join(names)}")
    return names[name]
