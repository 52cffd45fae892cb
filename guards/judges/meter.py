"""What one review has spent at its judges and in time, held to what the policy allows.

Calls are asked for before they are made, so that their limit is never passed. Tokens and money are known when a reply
is there, and time passes meanwhile: of these a review may pass the limit by the replies that are under way. What is
remembered is not asked, and costs nothing.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

from guards.errors import Permanent
from policies.budget_settings import Budget

_KEPT_EVERY_SECONDS = 1.0
"""How long what was spent may lie unrecorded; a run that is killed forgets no more."""


class BudgetSpent(Permanent):
    """The review has spent what its policy allows; what it has judged so far stands. The message names the limit."""


@dataclass(frozen=True, slots=True)
class Spent:
    """What a review has spent so far, over all its runs."""

    judge_calls: int = 0
    """Requests, those that failed included."""
    judge_tokens: int = 0
    """Read and written."""
    money: float = 0.0
    """In the unit of the policy's prices."""
    seconds: float = 0.0
    """Wall time of its runs together."""


class Meter:
    """Counts what one review after the other spends. Safe to use from several threads.

    Between two reviews it counts nothing and forbids nothing.
    """

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        """Begin with no review; ``monotonic`` gives seconds."""
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._limits: Budget | None = None
        self._keep: Callable[[Spent], None] = lambda _: None
        self._spent = Spent()
        self._begun = self._kept = 0.0

    def begin(self, limits: Budget, spent: Spent | None = None, keep: Callable[[Spent], None] = lambda _: None) -> None:
        """Count for one review from now on.

        Args:
            limits: what it may spend.
            spent: what its earlier runs spent.
            keep: told what it has spent, at most about once a second.
        """
        with self._lock:
            self._limits, self._spent, self._keep = limits, spent or Spent(), keep
            self._begun = self._kept = self._monotonic()

    def end(self) -> None:
        """The review is over, or was interrupted."""
        with self._lock:
            if self._limits is not None:
                self._keep(self._now())
            self._limits, self._keep = None, lambda _: None

    @property
    def spent(self) -> Spent:
        """What the present review has spent."""
        with self._lock:
            return self._now()

    def take(self, calls: int) -> None:
        """Ask for leave to make so many calls, which count from now on.

        Raises:
            BudgetSpent: they are not allowed any more, and none of them is counted.
        """
        with self._lock:
            if self._limits is None:
                return
            self._check(calls)
            self._spent = replace(self._spent, judge_calls=self._spent.judge_calls + calls)

    def add(self, tokens: int, money: float) -> None:
        """Count what a reply cost."""
        with self._lock:
            if self._limits is None:
                return
            before = self._spent
            self._spent = replace(before, judge_tokens=before.judge_tokens + tokens, money=before.money + money)
            now = self._monotonic()
            if now - self._kept >= _KEPT_EVERY_SECONDS:
                self._kept = now
                self._keep(self._now())

    def check(self) -> None:
        """Look whether the review may go on with what costs no call, for it may be remembered.

        Raises:
            BudgetSpent: the limit on tokens, money or time is reached; the message names it and the next step.
        """
        with self._lock:
            if self._limits is not None:
                self._check(0)

    @property
    def is_spent(self) -> bool:
        """Whether nothing more may be spent."""
        with self._lock:
            try:
                self._check(1)
            except BudgetSpent:
                return True
            return False

    def _now(self) -> Spent:
        return replace(self._spent, seconds=self._spent.seconds + self._monotonic() - self._begun)

    def _check(self, calls: int) -> None:
        limits, spent = self._limits or Budget(), self._now()
        if limits.judge_calls is not None and spent.judge_calls + calls > limits.judge_calls:
            raise _spent(f"{spent.judge_calls} of {limits.judge_calls} judge calls are spent", "judge_calls")
        if limits.judge_tokens is not None and spent.judge_tokens >= limits.judge_tokens:
            raise _spent(f"{spent.judge_tokens} of {limits.judge_tokens} judge tokens are spent", "judge_tokens")
        if limits.money is not None and spent.money >= limits.money:
            raise _spent(f"{spent.money:.4g} of {limits.money:g} are spent", "money")
        if limits.seconds is not None and spent.seconds >= limits.seconds:
            raise _spent(f"{spent.seconds:.0f} of {limits.seconds:g} seconds are over", "seconds")


def _spent(what: str, setting: str) -> BudgetSpent:
    return BudgetSpent(
        f"{what}; raise budget.{setting} and review again: what was judged is remembered and costs nothing"
    )
