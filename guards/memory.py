"""Running out of memory as a value: what a remedy could not do here, and not a fault of this program."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from guards.errors import Permanent

_SAID = ("out of memory", "can't allocate memory", "cannot allocate memory")
"""How torch says it where it has no error of its own for it: its CPU allocator raises a RuntimeError."""


@contextmanager
def within_memory(work: str) -> Iterator[None]:
    """Turn a lack of memory into a reason.

    Args:
        work: what was done, first in the message.

    Raises:
        Permanent: memory did not suffice, on the processor or on the accelerator.
    """
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not _is_lack_of_memory(error):
            raise
        said = " ".join(str(error).split())[:200]
        raise Permanent(f"{work}: out of memory{f' ({said})' if said else ''}; take a machine that has more") from error


def _is_lack_of_memory(error: BaseException) -> bool:
    # By name, so that a policy without torch at hand need not import it.
    named = any(kind.__name__ in ("MemoryError", "OutOfMemoryError") for kind in type(error).__mro__)
    return named or any(said in str(error).lower() for said in _SAID)
