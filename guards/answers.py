"""What models answered, each question asked once: kept durably under digests of all that an answer depends on."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence

from adapters.adapter import Adapter, digest_file
from adapters.engine import Generator, Sampling
from adapters.prompts import Prompt
from guards.interface import Memory


class Answers:
    """Asks the base and adapters of it, from memory where they were asked before."""

    def __init__(self, engine: Generator, memory: Memory, sampling: Sampling) -> None:
        """Ask ``engine`` with ``sampling``; what it says is kept in ``memory``."""
        self._engine, self._memory, self._sampling = engine, memory, sampling

    def of_base(self, prompts: Sequence[Prompt]) -> list[str]:
        """The base's answers, in order.

        Raises:
            EngineError: the model could not be asked.
        """
        return self._remembered(prompts, self._engine.answers_key, self._generate)

    def of(self, adapter: Adapter, prompts: Sequence[Prompt]) -> list[str]:
        """The adapter's answers, in order.

        Raises:
            AdapterUnloadable: the adapter does not fit the base.
            EngineError: the model could not be asked.
        """

        def generate(asked: Sequence[Prompt]) -> list[str]:
            with self._engine.attached(adapter):
                return self._generate(asked)

        return self._remembered(prompts, f"{self._engine.answers_key}+{adapter.digest}", generate)

    def _generate(self, prompts: Sequence[Prompt]) -> list[str]:
        return self._engine.generate(prompts, self._sampling)

    def _remembered(
        self, prompts: Sequence[Prompt], model: str, generate: Callable[[Sequence[Prompt]], list[str]]
    ) -> list[str]:
        """Answers of one model; new ones are kept before they are used."""
        keys = [self._key(prompt) for prompt in prompts]
        known = self._memory.recall_answers(model, keys)
        missing = [(key, prompt) for key, prompt in zip(keys, prompts, strict=True) if key not in known]
        if missing:
            fresh = dict(zip((key for key, _ in missing), generate([prompt for _, prompt in missing]), strict=True))
            self._memory.keep_answers(model, fresh)
            known |= fresh
        return [known[key] for key in keys]

    def _key(self, prompt: Prompt) -> str:
        picture = digest_file(prompt.image) if prompt.image else None
        return hashlib.sha256(
            json.dumps([prompt.id, prompt.asked, prompt.system, picture, repr(self._sampling)]).encode()
        ).hexdigest()
