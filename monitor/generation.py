"""Where the battery's answers come from: this process, or the vLLM server that a policy names."""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import lru_cache, partial
from typing import assert_never

from adapters.adapter import Adapter
from adapters.canary import Canary
from adapters.engine import Engine, EngineError, Generator
from adapters.review_server import ReviewServer
from adapters.vllm_engine import VllmEngine
from guards.canaries import draw_base_canaries, draw_canaries
from guards.errors import Permanent
from guards.suites.suite import Suite
from policies.generation import GenerationSettings, InProcess, OnVllm

_KEPT = 4


def build_generator(settings: GenerationSettings, engine: Engine, suites: Sequence[Suite]) -> Generator:
    """Make what answers the battery's questions; a server is not asked yet.

    Args:
        settings: the policy's.
        engine: the base in this process, which a server's answers are compared with.
        suites: where the questions for that comparison are drawn from.

    Raises:
        Permanent: the environment variable with the server's key is not set.
    """
    match settings:
        case InProcess():
            return engine
        case OnVllm():
            key = read_key(settings)
            server = ReviewServer(
                settings.url,
                timeout_seconds=settings.timeout_seconds,
                token=lambda: key,
                base=settings.model,
                mounts=settings.mounts,
                at_once=settings.concurrency,
            )
            return VllmEngine(
                server,
                base_digest=engine.base_digest,
                sees_pictures=engine.sees_pictures,
                base_canaries=partial(draw_base_canaries, engine, suites),
                # The battery attaches an adapter once a batch, and there is one adapter after the other.
                canaries=lru_cache(_KEPT)(partial(_canaries, engine, suites)),
                patience_seconds=settings.patience_seconds,
            )
        case _:
            assert_never(settings)


def read_key(settings: GenerationSettings) -> str | None:
    """Return the server's bearer token, if it has one.

    Raises:
        Permanent: the policy names an environment variable, and there is no usable key in it.
    """
    if not isinstance(settings, OnVllm) or settings.api_key_env is None:
        return None
    key = os.environ.get(settings.api_key_env, "").strip()
    if not (key and key.isascii() and key.isprintable()):
        raise Permanent(
            f"generation: the environment variable {settings.api_key_env} holds no usable key; "
            "export the vLLM server's there"
        )
    return key


def _canaries(engine: Engine, suites: Sequence[Suite], adapter: Adapter) -> tuple[Canary, ...]:
    try:
        return draw_canaries(engine, adapter, suites)
    except Permanent as error:  # about this adapter, and nothing that the policy could not be used for
        raise EngineError(f"{adapter.name}: {error}") from error
