"""How the service tells what it does: structured lines on standard error, each with the digest it is about."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import structlog
from structlog.typing import Processor

from monitor.configuration import LogSettings

_QUIET = (
    "apscheduler",
    "httpx",
    "httpcore",
    "urllib3",
    "watchfiles",
    "uvicorn",
    "alembic",
    "PIL",
    "filelock",
    "asyncio",
)
"""Libraries that speak of every step they take; of them only warnings are shown."""


def set_up_logging(settings: LogSettings) -> None:
    """Send every line, our own and the libraries', through one formatter to standard error."""
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.PositionalArgumentsFormatter(),
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.StackInfoRenderer(),
        structlog.processors.UnicodeDecoder(),
    ]
    last: list[Processor]
    if settings.format == "json":
        last = [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
    else:
        # A traceback with local variables would show the tokens in them.
        plain = structlog.dev.plain_traceback
        last = [structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty(), exception_formatter=plain)]
    formatter = structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=shared, processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *last]
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(formatter)
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(settings.level.upper())
    for name in _QUIET:
        logging.getLogger(name).setLevel(logging.WARNING)
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        wrapper_class=structlog.stdlib.BoundLogger,
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=False,
    )


def logger(name: str) -> Any:
    """Return the logger of one room, for instance ``worker``."""
    return structlog.stdlib.get_logger(name)


@contextmanager
def about(**what: str) -> Iterator[None]:
    """Put these keys, for instance the adapter's digest, into every line that this thread writes meanwhile."""
    with structlog.contextvars.bound_contextvars(**what):
        yield
