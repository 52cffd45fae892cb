"""What models answered, each question asked once: kept durably under digests of all that an answer depends on."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Callable, Mapping, Sequence

from adapters.adapter import Adapter, digest_file
from adapters.engine import Generator, Mixing, Sampling
from adapters.prompts import Prompt
from guards.interface import Memory

log = logging.getLogger("answers")


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
        return self._remembered(prompts, self._model(None), self._generate)

    def of(self, adapter: Adapter, prompts: Sequence[Prompt]) -> list[str]:
        """The adapter's answers, in order.

        Raises:
            AdapterUnloadable: the adapter does not fit the base.
            EngineError: the model could not be asked.
        """

        def generate(asked: Sequence[Prompt]) -> list[str]:
            with self._engine.attached(adapter):
                return self._generate(asked)

        return self._remembered(prompts, self._model(adapter), generate)

    def kept_of(self, adapter: Adapter, prompts: Sequence[Prompt]) -> list[str] | None:
        """What an adapter answered earlier, in order, if it answered all; its files may be gone."""
        keys = [self._key(prompt) for prompt in prompts]
        known = self._memory.recall_answers(self._model(adapter), keys)
        return [known[key] for key in keys] if known.keys() >= set(keys) else None

    def ahead(self, adapters: Sequence[Adapter], prompts: Sequence[Prompt]) -> None:
        """Ask the base and several adapters in batches that they share, and keep the answers until they are wanted.

        Where the engine cannot do that, or fewer than two adapters have anything to answer, nothing is done: each is
        asked when its turn comes. The same goes for whatever fails here, because not all of them are wanted now.
        """
        if not isinstance(self._engine, Mixing) or len(adapters) < 2:
            return
        try:
            self._ask_together(self._engine, {self._model(one): one for one in (None, *adapters)}, prompts)
        except Exception as error:
            log.warning("%d adapters could not be asked together, and are asked one by one: %s", len(adapters), error)

    def _ask_together(self, engine: Mixing, models: Mapping[str, Adapter | None], prompts: Sequence[Prompt]) -> None:
        keys = {self._key(prompt): prompt for prompt in prompts}
        known = {model: self._memory.recall_answers(model, list(keys)) for model in models}
        missing = [(model, key) for key in keys for model in models if key not in known[model]]
        if len({models[model] for model, _ in missing} - {None}) < 2:
            return
        said = engine.generate_mixed([(models[model], keys[key]) for model, key in missing], self._sampling)
        for model in models:
            answers = [(key, answer) for (who, key), answer in zip(missing, said, strict=True) if who == model]
            self._memory.keep_answers(model, {key: answer for key, answer in answers if isinstance(answer, str)})

    def _model(self, adapter: Adapter | None) -> str:
        """Under what the answers of the base or an adapter are kept."""
        return self._engine.answers_key + (f"+{adapter.digest}" if adapter else "")

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
