"""What a judge has cost so far, for the metrics."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field


@dataclass(slots=True)
class Usage:
    """Counters since the judge was made; they only grow. Safe to add to from several threads."""

    requests: int = 0
    """Attempts, those that failed and those that were repeated included."""
    failures: int = 0
    """Attempts that gave no reply: refused, timed out, cut off, or answered with an error."""
    prompt_tokens: int = 0
    """Tokens read, as the server counts them; 0 where it does not."""
    completion_tokens: int = 0
    """Tokens written, as the server counts them."""
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False, compare=False)

    def add(self, *, requests: int = 0, failures: int = 0, prompt_tokens: int = 0, completion_tokens: int = 0) -> None:
        """Count up."""
        with self._lock:
            self.requests += requests
            self.failures += failures
            self.prompt_tokens += prompt_tokens
            self.completion_tokens += completion_tokens
