"""When a request to a judge is tried again, how soon, and when it is given up.

Two things go wrong, and each has its own bound:

- The judge replied, but with no judgement (429, an error 500, no chat completion), or took too long over its reply.
  So many ``attempts`` are made: a server that cannot serve a request today will not by being asked for an hour.
- The judge is away: nothing listens, the connection breaks, or what stands before it says so (502, 503, 504). Servers
  are restarted, and a model takes a minute to load, so that is waited for, ``patience_seconds`` long.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable

from guards.judges.completion import Failed

MAX_WAIT_SECONDS = 30.0
"""Longest pause between two attempts, whatever Retry-After asks for: a judge must not park a review for hours."""
MAX_WAIT_AWAY_SECONDS = 15.0
"""Longest pause while the judge is away: soon after it is back, the review goes on."""


class Tries:
    """The attempts at one request."""

    def __init__(self, attempts: int, patience_seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        """Begin.

        Args:
            attempts: replies that may fail; also the fewest tries before a judge that is away is given up.
            patience_seconds: how long it may be away.
            clock: gives seconds.
        """
        self._attempts, self._patience, self._clock = attempts, patience_seconds, clock
        self.made = 0
        """Attempts that failed."""
        self._failed = self._away = 0
        self._since = 0.0

    def pause_after(self, failure: Failed) -> float | None:
        """Return how many seconds to pause before the next attempt; None where there is none."""
        self.made += 1
        if not failure.away:
            self._failed, self._away = self._failed + 1, 0
            return None if self._failed >= self._attempts else self._pause(failure, self._failed, MAX_WAIT_SECONDS)
        if self._away == 0:
            self._since = self._clock()
        self._away += 1
        left = self._patience - (self._clock() - self._since)
        if left <= 0:
            over = self._away + self._failed >= self._attempts
            return None if over else self._pause(failure, self._away, MAX_WAIT_SECONDS)
        return min(max(left, 0.1), self._pause(failure, self._away, MAX_WAIT_AWAY_SECONDS))

    @staticmethod
    def _pause(failure: Failed, number: int, longest: float) -> float:
        """What the server asked for, or twice as long as before, with jitter."""
        if failure.retry_after is not None:
            return min(longest, failure.retry_after)
        return min(longest, 0.5 * 2.0 ** min(number - 1, 20)) + random.uniform(0, 0.5)  # noqa: S311 - no secret
