"""The service's configuration: one YAML file, read once, unknown keys refused.

Environment variables stand above the file: ``ALIGNWATCH_HTTP__PORT=9999`` is ``http.port``. Secrets are never in the
file: a setting names the environment variable or the file that holds one.
"""

from __future__ import annotations

import os
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict, SettingsError

from monitor.configuration_reading import (
    ENVIRONMENT_PREFIX,
    NESTED,
    ConfigurationError,
    problems_in,
    read_settings,
    unknown_keys,
    unknown_variables,
)

__all__ = ["ConfigurationError", "ServiceConfiguration", "VllmSettings", "load_configuration"]


def _not_empty(value: Any) -> Any:
    if isinstance(value, str) and not value.strip():
        raise ValueError("is empty; name a path, or leave the setting out")
    return value


AnyPath: TypeAlias = Annotated[Path, BeforeValidator(_not_empty)]
"""An empty text would mean the configuration's own folder, which nobody means."""

VariableName: TypeAlias = Annotated[str, Field(pattern=r"^[A-Z][A-Z0-9_]*$")]
"""Capitals alone, so that a token that was pasted here by mistake is refused."""


class _Settings(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class FolderSourceSettings(_Settings):
    """A folder in which trainers drop adapters, each in a folder of its own."""

    kind: Literal["folder"]
    path: AnyPath
    """The folder; relative to the configuration's file."""
    name: str | None = Field(default=None, pattern=r"^[A-Za-z0-9._-]+$")
    """What logs and metrics call it; the folder's own name when not given."""
    quiet_seconds: float = Field(default=5, ge=0)
    """An adapter is taken in when nothing in its folder changed for so long. Longer than any pause of the trainer's."""
    rescan_seconds: float = Field(default=60, gt=0)
    """A whole look at the folder, in case the file system told of nothing, this often."""
    incomplete_seconds: float = Field(default=3600, ge=0)
    """An adapter whose files stay incomplete is taken in as it is after so long, and refused with the reason."""

    @property
    def label(self) -> str:
        """What logs and metrics call it."""
        return self.name or self.path.name or "folder"


class VllmSettings(_Settings):
    """One vLLM server with runtime LoRA loading; each replica is its own server."""

    kind: Literal["vllm"]
    url: str = Field(pattern=r"^https?://[^/@?#\s]+/?$")
    """Where it listens: scheme, host and port; no path, and no user or password, for which there are tokens."""
    token_env: VariableName | None = None
    """Environment variable that holds its bearer token."""
    token_file: AnyPath | None = None
    """File that holds its bearer token; relative to the configuration's file."""
    promoted: AnyPath | None = None
    """Where that server sees the state folder's ``promoted``, absolute; the same path as here when not given."""
    base: str | None = None
    """Name under which it serves the base; the first model it lists when not given."""

    @field_validator("promoted")
    @classmethod
    def _elsewhere(cls, path: Path | None) -> Path | None:
        if path is not None and (not path.is_absolute() or ".." in path.parts or len(path.parts) < 2):
            raise ValueError("has to be the absolute path of the promoted folder as that server sees it")
        return path

    @model_validator(mode="after")
    def _one_token(self) -> VllmSettings:
        if self.token_env and self.token_file:
            raise ValueError("name token_env or token_file, not both")
        return self


class FleetLimits(_Settings):
    """How fast and how far the fleet may change."""

    promotions_per_hour: int = Field(default=10, ge=1)
    """Adapters that may begin to be rolled out within one hour; a bad day must not reach everything at once."""
    replicas_at_once: int = Field(default=1, ge=1)
    """Replicas that get a new adapter at the same time."""
    keep_versions: int = Field(default=2, ge=1)
    """Newest promoted adapters of one name that stay in service; older ones are retired."""
    reconcile_seconds: float = Field(default=10, gt=0)
    """The servers are compared with what is desired this often."""
    timeout_seconds: float = Field(default=10, gt=0)
    """A server that does not answer one request for so long counts as unreachable."""


class HttpSettings(_Settings):
    """The API, the page and ``/metrics``."""

    host: str = Field(default="127.0.0.1", pattern=r"^[A-Za-z0-9.:_-]+$")
    """Address to listen on; loopback by default. Put a proxy with TLS in front of anything else."""
    port: int = Field(default=9464, ge=0, le=65535)
    """0 takes a free one."""
    tokens: AnyPath | None = None
    """File with hashed tokens, made by ``alignwatch token``; relative to the configuration's file. Without it nobody
    may write, and reading is open on loopback alone."""
    open_metrics: bool = True
    """Whether ``/metrics``, ``/healthz`` and ``/readyz`` need no token."""
    max_body_bytes: int = Field(default=65536, ge=1)
    """Largest request body."""
    requests_per_minute: int = Field(default=600, ge=1)
    """Of one client."""


class RereviewSettings(_Settings):
    """When what is deployed is looked at again, beside a change of policy, suite or judge."""

    after_days: float = Field(default=7, gt=0)
    """This long after its last review; the same questions are then drawn in another order with another seed."""
    check_seconds: float = Field(default=300, gt=0)
    """It is checked this often."""


class JudgeCheckSettings(_Settings):
    """When the judge is held to its canaries, beside the looks that reviews take themselves."""

    check_minutes: float | None = Field(default=60, ge=0)
    """In a pause between reviews, where nobody has looked for so long: a judge that moved is then known before the
    next adapter arrives. None or 0: never."""

    @property
    def every(self) -> timedelta | None:
        """The same as a duration; None for never."""
        return timedelta(minutes=self.check_minutes) if self.check_minutes else None


class RetentionSettings(_Settings):
    """How long files are kept; records are kept for ever."""

    quarantine_days: float = Field(default=90, gt=0)
    """Quarantined and held adapters."""
    retired_days: float = Field(default=30, gt=0)
    """Adapters that a newer version of the same name replaced."""


class MetricsSettings(_Settings):
    """Bounds of what Prometheus gets."""

    adapters: int = Field(default=100, ge=1)
    """Most adapters with series of their own: those in service first, the newest first."""
    categories: bool = True
    """Whether rises are also given by category."""


class LogSettings(_Settings):
    """How the service tells what it does, on standard error."""

    format: Literal["console", "json"] = "console"
    """``json``: one object a line, for machines."""
    level: Literal["debug", "info", "warning", "error"] = "info"
    """The least important that is shown."""


class ServiceConfiguration(BaseSettings):
    """Everything that ``alignwatch serve`` needs to know."""

    model_config = SettingsConfigDict(
        frozen=True,
        extra="forbid",
        env_prefix=ENVIRONMENT_PREFIX,
        env_nested_delimiter=NESTED,
        env_ignore_empty=True,  # what a container's unset variable becomes
        allow_inf_nan=False,
    )

    state: AnyPath
    """The state folder; relative to the configuration's file."""
    base: str = Field(pattern=r"^\S(.*\S)?$")
    """Folder (relative to the configuration's file) or Hub id of the base."""
    policy: AnyPath
    """The policy's file; relative to the configuration's file."""
    sources: tuple[FolderSourceSettings, ...] = ()
    """Where adapters arrive."""
    fleet: tuple[VllmSettings, ...] = ()
    """Servers that are kept at what was promoted; the promoted folder is always kept."""
    http: HttpSettings = HttpSettings()
    device: str | None = Field(default=None, pattern=r"^[a-z]+(:\d+)?$")
    """For instance ``cuda:1``; CUDA where there is one when not given."""
    dtype: Literal["float32", "bfloat16", "float16"] | None = None
    """Of the base's weights; bfloat16 on CUDA and float32 on the CPU when not given."""
    threads: int | None = Field(default=None, ge=1)
    """Threads of torch on the CPU; torch's own choice when not given."""
    asked_together: int = Field(default=8, ge=1)
    """Adapters, the one under review included, that answer in the same batches where several wait; 1 is each alone."""
    limits: FleetLimits = FleetLimits()
    rereview: RereviewSettings = RereviewSettings()
    judge: JudgeCheckSettings = JudgeCheckSettings()
    retention: RetentionSettings = RetentionSettings()
    metrics: MetricsSettings = MetricsSettings()
    log: LogSettings = LogSettings()

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],  # noqa: ARG003
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Let the environment stand above the file; no other file is read."""
        return env_settings, init_settings

    @model_validator(mode="after")
    def _distinct(self) -> ServiceConfiguration:
        labels = [source.label for source in self.sources]
        if len(set(labels)) != len(labels):
            raise ValueError(f"sources: two are called the same ({', '.join(sorted(labels))}); give each a 'name'")
        urls = [replica.url.rstrip("/") for replica in self.fleet]
        if len(set(urls)) != len(urls):
            raise ValueError("fleet: the same url stands there twice")
        return self


def load_configuration(path: Path) -> ServiceConfiguration:
    """Read the service's configuration; paths inside are taken relative to the file.

    Raises:
        ConfigurationError: the file is missing, not YAML, or not a configuration; every problem, with its place.
    """
    raw = read_settings(path)
    problems = [*unknown_keys(raw, ServiceConfiguration), *unknown_variables(ServiceConfiguration)]
    known = {key: value for key, value in raw.items() if key in ServiceConfiguration.model_fields}
    try:
        configuration = ServiceConfiguration(**known)
    except SettingsError as error:
        problems.append(f"environment: {' '.join(str(error).split())}; lists and groups are given as JSON")
        raise ConfigurationError(path, problems) from error
    except ValidationError as error:
        raise ConfigurationError(path, problems + problems_in(error, ServiceConfiguration)) from error
    configuration = _anchored(configuration, path.absolute().parent)
    problems += _overlaps(configuration)
    if problems:
        raise ConfigurationError(path, problems)
    return configuration


def is_hub_id(base: str) -> bool:
    """Whether a base is written as ``owner/name``; everything else is a folder."""
    return base.count("/") == 1 and not base.startswith((".", "/", "~")) and not base.endswith("/")


def _anchored(configuration: ServiceConfiguration, folder: Path) -> ServiceConfiguration:
    def anchor(path: Path) -> Path:
        return Path(os.path.normpath(folder / Path(os.path.expanduser(path))))  # noqa: PTH111  # leaves an unknown ~user

    changes: dict[str, Any] = {
        "state": anchor(configuration.state),
        "policy": anchor(configuration.policy),
        "sources": tuple(source.model_copy(update={"path": anchor(source.path)}) for source in configuration.sources),
        "fleet": tuple(
            replica.model_copy(update={"token_file": anchor(replica.token_file)}) if replica.token_file else replica
            for replica in configuration.fleet
        ),
    }
    base = anchor(Path(configuration.base))
    if base.is_dir() or not is_hub_id(configuration.base):
        changes["base"] = str(base)
    if configuration.http.tokens is not None:
        changes["http"] = configuration.http.model_copy(update={"tokens": anchor(configuration.http.tokens)})
    return configuration.model_copy(update=changes)


def _overlaps(configuration: ServiceConfiguration) -> list[str]:
    """A source in the state folder would take in what was just decided, and one in another source would do it twice."""
    taken = [("state", configuration.state)]
    problems = []
    for number, source in enumerate(configuration.sources):
        for other, path in taken:
            if source.path == path or path in source.path.parents or source.path in path.parents:
                problems.append(f"sources.{number}.path: lies in {other}'s folder or holds it; give it one of its own")
        taken.append((f"sources.{number}", source.path))
    return problems
