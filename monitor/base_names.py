"""What people write for a base, a device, a dtype and a policy, turned into what the rest takes."""

from __future__ import annotations

from pathlib import Path

import torch

from monitor.exit_codes import UsageError
from policies.policy import Policy, load_policy, shipped_policy

SHIPPED = ("default", "strict", "observe_only")
"""Names of the policies that come with Alignwatch."""


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


def device_named(name: str | None) -> str | None:
    """The same name, if torch knows the device and this machine has it.

    Raises:
        UsageError: it does not.
    """
    if name is None:
        return None
    try:
        torch.empty(0, device=name)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        cause = (str(error).splitlines() or ["torch does not know it"])[0]
        raise UsageError(f"--device {name}: {cause}") from error
    return name


def policy_named(name: str) -> Policy:
    """A policy from its file, or one of the shipped ones.

    Raises:
        PolicyError: it cannot be used.
    """
    return load_policy(shipped_policy(name) if name in SHIPPED else Path(name))
