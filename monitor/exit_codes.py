"""What a process says when it ends: one code a cause, and one line for whatever stopped it."""

from __future__ import annotations

import signal
import sys
import traceback
from collections.abc import Callable
from enum import IntEnum
from types import FrameType

import typer
from rich.console import Console

from adapters.adapter import AdapterError, NotAnAdapter
from adapters.engine import EngineError
from guards.errors import Permanent, Retryable, Untreatable
from policies.policy import PolicyError


class ExitCode(IntEnum):
    """Exit codes of ``alignwatch gate``; people script against them."""

    PROMOTED = 0
    """The adapter that was given may be served."""
    UNSAFE = 1
    """It may not: it is defective, or its rise was proved."""
    USAGE = 2
    """Somebody has to change something first: a path, an option, the policy, a suite, or the judge's settings."""
    INCONCLUSIVE = 3
    """It could not be decided; it is not promoted."""
    INFRASTRUCTURE = 4
    """The surroundings failed, or Alignwatch itself did; nothing was learnt."""


INTERRUPTED = 130
TERMINATED = 143


class UsageError(Exception):
    """A path or option is wrong; the message names it and the next step."""


class Terminated(BaseException):
    """SIGTERM arrived: everything is tidied up as after Ctrl-C, and told apart in the exit code.

    Not a KeyboardInterrupt, which the command-line parser would take for its own.
    """


def end_on_sigterm() -> None:
    """Turn SIGTERM into an exception, so that every ``finally`` runs and the lock is released."""

    def terminate(_signal: int, _frame: FrameType | None) -> None:
        raise Terminated

    signal.signal(signal.SIGTERM, terminate)


def run_and_explain(command: Callable[[], int]) -> int:
    """Run a command and turn whatever ends it into an exit code and one clear line, never a bare traceback."""
    try:
        return command()
    except Terminated:
        return _say(TERMINATED, "terminated; run the same command again to go on where it was")
    except KeyboardInterrupt:
        return _say(INTERRUPTED, "interrupted; run the same command again to go on where it was")
    except Untreatable as error:  # nobody's slip: what was asked for cannot be had of this adapter
        return _say(ExitCode.UNSAFE, str(error))
    except (UsageError, PolicyError, NotAnAdapter, Permanent) as error:
        return _say(ExitCode.USAGE, str(error))
    except (Retryable, EngineError, AdapterError) as error:
        return _say(ExitCode.INFRASTRUCTURE, str(error))
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        line = f"{where}{error.strerror or error}; nothing is lost, run the same command again when it is mended"
        return _say(ExitCode.INFRASTRUCTURE, line)
    except (typer.Exit, SystemExit):
        raise
    except Exception as error:
        traceback.print_exc(file=sys.stderr)
        return _say(ExitCode.INFRASTRUCTURE, f"this is a fault of Alignwatch, please report it: {error!r}")


def _say(code: int, line: str) -> int:
    Console(stderr=True, highlight=False, soft_wrap=True).print(f"alignwatch: {line}", markup=False)
    return int(code)
