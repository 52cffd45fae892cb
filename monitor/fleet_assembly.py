"""The fleet that a configuration names."""

from __future__ import annotations

import os
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

from adapters.fleet import Fleet, utc_now
from adapters.fleet_record import FleetMemory
from adapters.replica import ReplicaUnreachable
from adapters.vllm_replica import VllmReplica
from monitor.configuration import ServiceConfiguration, VllmSettings

_LONGEST_TOKEN = 4096


def build_fleet(
    configuration: ServiceConfiguration, memory: FleetMemory, clock: Callable[[], datetime] = utc_now
) -> Fleet:
    """Make the replicas that the configuration names, and the fleet that keeps them; nothing is asked yet."""
    limits = configuration.limits
    return Fleet(
        [_replica(settings, limits.timeout_seconds) for settings in configuration.fleet],
        memory,
        clock=clock,
        promotions_per_hour=limits.promotions_per_hour,
        replicas_at_once=limits.replicas_at_once,
    )


def _replica(settings: VllmSettings, timeout_seconds: float) -> VllmReplica:
    return VllmReplica(
        settings.url,
        timeout_seconds=timeout_seconds,
        token=lambda: _token(settings.token_env, settings.token_file),
        promoted=settings.promoted,
        base=settings.base,
    )


def _token(variable: str | None, file: Path | None) -> str | None:
    """Read a token anew each time, so that a rotated one is taken; its text is in no message.

    Raises:
        ReplicaUnreachable: it is named and cannot be had.
    """
    if variable is not None:
        token, place = os.environ.get(variable, "").strip(), f"the environment variable {variable}"
    elif file is not None:
        place = f"the file {file}"
        try:
            with file.open(encoding="ascii") as stream:
                token = stream.read(_LONGEST_TOKEN).strip()
        except (OSError, UnicodeDecodeError) as error:
            raise ReplicaUnreachable(f"{place} with its token cannot be read: {type(error).__name__}") from error
    else:
        return None
    if not token or not token.isascii() or not token.isprintable():
        raise ReplicaUnreachable(f"{place} holds no usable token; put it there")
    return token
