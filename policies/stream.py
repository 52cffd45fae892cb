"""The error over an endless stream of adapters: at which level the next one is tested. Pure."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, TypeAlias, assert_never

from policies.settings import Settings

Control: TypeAlias = Literal["fixed", "family_wise", "e_lond"]


class StreamRule(Settings):
    """What ``alpha`` bounds when adapters keep coming. The level that an alarm needs is ``alpha`` times a share."""

    control: Control = "fixed"
    """``fixed``: every adapter at ``alpha``, so that N tolerable adapters give up to N times ``alpha`` false alarms;
    ``family_wise``: the chance of ever a false alarm, over all adapters to come, is at most ``alpha``; ``e_lond``: of
    the alarms at most a share of ``alpha`` is expected to be false, however much adapters share prompts and judge."""


@dataclass(frozen=True, slots=True)
class Seat:
    """An adapter's place in the stream of all that are tested."""

    position: int
    """1 for the first adapter that was ever tested under these rules."""
    rejections: int
    """Alarms among the earlier ones."""


ALONE = Seat(1, 0)
"""Where the stream is not kept: the first and only one."""


def share_of_alpha(control: Control, position: int, rejections: int) -> float:
    """Return the share of alpha at which the adapter at ``position`` is tested, in (0, 1].

    The shares 6 / (π² j²) add up to 1 over all positions j. ``family_wise`` spends them (alpha spending); ``e_lond``
    multiplies the share by one more than the alarms so far (e-LOND: Xu and Ramdas, "Online multiple testing with
    e-values", AISTATS 2024, section 3), which holds under arbitrary dependence.

    Args:
        control: how the stream is controlled.
        position: 1 for the first adapter that was ever tested, and so on.
        rejections: alarms among the earlier positions, below ``position``.

    Raises:
        ValueError: a number is out of its range.
    """
    if position < 1 or not 0 <= rejections < position:
        raise ValueError(f"position {position} and {rejections} earlier alarms do not go together")
    spent = 6 / (math.pi * position) ** 2
    match control:
        case "fixed":
            return 1.0
        case "family_wise":
            return spent
        case "e_lond":
            return spent * (rejections + 1)
        case _:
            assert_never(control)
