"""The service's configuration: one YAML file, read once, unknown keys refused.

Environment variables stand above the file: ``ALIGNWATCH_HTTP__PORT=9999`` is ``http.port``. Secrets are never in the
file: a setting names the environment variable or the file that holds one.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from monitor.exit_codes import UsageError


class ConfigurationError(UsageError):
    """The configuration cannot be used; the message names file, place and cause."""


class _Settings(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class FolderSourceSettings(_Settings):
    """A folder in which trainers drop adapters, each in a folder of its own."""

    kind: Literal["folder"]
    path: Path
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
        return self.name or self.path.name


class VllmSettings(_Settings):
    """One vLLM server with runtime LoRA loading; each replica is its own server."""

    kind: Literal["vllm"]
    url: str = Field(pattern=r"^https?://[^/]+/?$")
    """Where it listens, without a path."""
    token_env: str | None = None
    """Environment variable that holds its bearer token."""
    token_file: Path | None = None
    """File that holds its bearer token; relative to the configuration's file."""
    promoted: Path | None = None
    """Where that server sees the state folder's ``promoted``; the same path as here when not given."""
    base: str | None = None
    """Name under which it serves the base; the first model it lists when not given."""


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

    host: str = "127.0.0.1"
    """Address to listen on; loopback by default. Put a proxy with TLS in front of anything else."""
    port: int = Field(default=9464, ge=0, le=65535)
    """0 takes a free one."""
    tokens: Path | None = None
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
        frozen=True, extra="forbid", env_prefix="ALIGNWATCH_", env_nested_delimiter="__", allow_inf_nan=False
    )

    state: Path
    """The state folder; relative to the configuration's file."""
    base: str
    """Folder (relative to the configuration's file) or Hub id of the base."""
    policy: Path
    """The policy's file; relative to the configuration's file."""
    sources: tuple[FolderSourceSettings, ...] = ()
    """Where adapters arrive."""
    fleet: tuple[VllmSettings, ...] = ()
    """Servers that are kept at what was promoted; the promoted folder is always kept."""
    http: HttpSettings = HttpSettings()
    device: str | None = None
    """For instance ``cuda:1``; CUDA where there is one when not given."""
    dtype: Literal["float32", "bfloat16", "float16"] | None = None
    """Of the base's weights; bfloat16 on CUDA and float32 on the CPU when not given."""
    threads: int | None = Field(default=None, ge=1)
    """Threads of torch on the CPU; torch's own choice when not given."""
    limits: FleetLimits = FleetLimits()
    rereview: RereviewSettings = RereviewSettings()
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
        ConfigurationError: the file is missing, not YAML, or not a configuration; one line that names the place.
    """
    try:
        raw = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigurationError(f"configuration {path}: {error.strerror or error}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"configuration {path}: not YAML: {' '.join(str(error).split())}") from error
    if not isinstance(raw, dict):
        raise ConfigurationError(f"configuration {path}: expected settings such as 'state: ./state'")
    try:
        configuration = ServiceConfiguration(**_plain(raw))
    except ValidationError as error:
        raise ConfigurationError(f"configuration {path}: {_first_problems(error)}") from error
    return _anchored(configuration, path.absolute().parent)


def _plain(raw: dict[Any, Any]) -> dict[str, Any]:
    return {str(key): value for key, value in raw.items()}


def _first_problems(error: ValidationError) -> str:
    problems = []
    for item in error.errors()[:4]:
        place = ".".join(str(part) for part in item["loc"]) or "configuration"
        cause = "unknown setting (a typo?)" if item["type"] == "extra_forbidden" else item["msg"]
        problems.append(f"{place}: {cause}")
    return "; ".join(problems)


def _anchored(configuration: ServiceConfiguration, folder: Path) -> ServiceConfiguration:
    def anchor(path: Path) -> Path:
        return path if path.is_absolute() else Path(os.path.normpath(folder / path))

    changes: dict[str, Any] = {
        "state": anchor(configuration.state),
        "policy": anchor(configuration.policy),
        "sources": tuple(source.model_copy(update={"path": anchor(source.path)}) for source in configuration.sources),
        "fleet": tuple(
            replica.model_copy(update={"token_file": anchor(replica.token_file)}) if replica.token_file else replica
            for replica in configuration.fleet
        ),
    }
    if anchor(Path(configuration.base)).is_dir():
        changes["base"] = str(anchor(Path(configuration.base)))
    if configuration.http.tokens is not None:
        changes["http"] = configuration.http.model_copy(update={"tokens": anchor(configuration.http.tokens)})
    return configuration.model_copy(update=changes)
