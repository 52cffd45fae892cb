"""Keeps the prompts of several suites apart, whose authors number them alike."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from guards.suites.suite import Suite


def told_apart(suites: Sequence[Suite]) -> tuple[Suite, ...]:
    """Return the suites with ids that are unique over all of them, for a battery that asks them as one pool.

    A suite that shares an id with one before it has its own name put before all of its ids; others stay as they are,
    and so do the answers that are remembered under their prompts. No digest changes.
    """
    taken: set[str] = set()
    apart: list[Suite] = []
    for suite in suites:
        ids = {prompt.id for prompt in suite.prompts}
        prefix, number = "", 1
        while any(prefix + one in taken for one in ids):
            prefix = f"{suite.name}/" if number == 1 else f"{suite.name} ({number})/"
            number += 1
        taken |= {prefix + one for one in ids}
        apart.append(_prefixed(suite, prefix) if prefix else suite)
    return tuple(apart)


def _prefixed(suite: Suite, prefix: str) -> Suite:
    return replace(
        suite,
        prompts=tuple(
            replace(prompt, id=prefix + prompt.id, twin_of=prefix + prompt.twin_of if prompt.twin_of else None)
            for prompt in suite.prompts
        ),
    )
