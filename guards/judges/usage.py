"""What a judge has cost so far, for the metrics and for a review's budget."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field

from guards.judges.meter import Meter


@dataclass(frozen=True, slots=True)
class Prices:
    """What a judge's tokens cost, in whatever unit the policy counts money in."""

    prompt: float = 0.0
    """A million tokens read."""
    completion: float = 0.0
    """A million tokens written."""

    def of(self, prompt_tokens: int, completion_tokens: int) -> float:
        """The price of so many tokens."""
        return (self.prompt * prompt_tokens + self.completion * completion_tokens) / 1e6


@dataclass(slots=True)
class Usage:
    """Counters since the judge was made; they only grow. Safe to add to from several threads."""

    requests: int = 0
    """Attempts, those that failed and those that were repeated included."""
    failures: int = 0
    """Attempts that gave no reply: refused, timed out, cut off, or answered with an error."""
    prompt_tokens: int = 0
    """Tokens read, as the server or the judge's own tokenizer counts them; 0 where a server does not."""
    completion_tokens: int = 0
    """Tokens written, counted likewise."""
    meter: Meter = field(default_factory=Meter, repr=False, compare=False)
    """Of the review that the judge works for; several judges of one review share it."""
    prices: Prices = field(default_factory=Prices, repr=False, compare=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False, compare=False)

    def begin(self, requests: int) -> None:
        """Count requests that are about to be made.

        Raises:
            BudgetSpent: the review may not make them; then they do not count.
        """
        self.meter.take(requests)
        self.add(requests=requests)

    def add(self, *, requests: int = 0, failures: int = 0, prompt_tokens: int = 0, completion_tokens: int = 0) -> None:
        """Count up."""
        with self._lock:
            self.requests += requests
            self.failures += failures
            self.prompt_tokens += prompt_tokens
            self.completion_tokens += completion_tokens
        if prompt_tokens or completion_tokens:
            self.meter.add(prompt_tokens + completion_tokens, self.prices.of(prompt_tokens, completion_tokens))


def usage_of(judge: object) -> Usage:
    """What a judge has cost so far; nothing where it does not count."""
    usage = getattr(judge, "usage", None)
    return usage if isinstance(usage, Usage) else Usage()
