"""The service: notices adapters, reviews them one after the other, and keeps everything else at what was decided.

The main thread reviews, because signals reach it and because models are not shared between threads. Beside it run a
thread per source, the timers and the web server; all of them meet in the ledger.
"""

from __future__ import annotations

import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from guards.errors import GuardError
from monitor.configuration import ConfigurationError, ServiceConfiguration, load_configuration
from monitor.exit_codes import Terminated
from monitor.ledger import Ledger, context_digest
from monitor.logs import logger, set_up_logging
from monitor.metrics import metrics_text
from monitor.state import StateFolder
from monitor.surroundings import surroundings
from monitor.systemd import notify
from monitor.upkeep import finish_interrupted
from monitor.web import create_app, serving
from monitor.workbench import Workbench
from monitor.worker import Worker
from policies.policy import PolicyError

log = logger("daemon")

GRACE_SECONDS = 8.0
"""How long an orderly end may take after SIGTERM; every step is recorded, so that a hard end then loses nothing."""

STALLED_SECONDS = 1800.0
"""Without a sign of life for so long the worker counts as stalled; a batch of a large model takes minutes."""

IDLE_SECONDS = 1.0
AFTER_TROUBLE_SECONDS = 5.0
NEEDS_RESTART = ("state", "base", "http", "device", "dtype", "threads")
"""Settings that a running process does not change."""


def serve(path: Path) -> int:
    """Run the service until it is told to end; 0 after SIGTERM.

    Raises:
        ConfigurationError, PolicyError, Permanent: something that was configured is wrong.
        Retryable, EngineError: the state folder is taken, or the base cannot be loaded.
    """
    configuration = load_configuration(path)
    set_up_logging(configuration.log)
    with (
        StateFolder.open(configuration.state) as state,
        Ledger(state.ledger_path) as ledger,
        _signals() as signals,
    ):
        daemon = Daemon(path, configuration, state, ledger, signals)
        try:
            daemon.run()
        except Terminated:
            log.info("stopped", next_step="start it again: it goes on where it was")
    return 0


class Signals:
    """What was asked of the process from outside."""

    def __init__(self) -> None:
        self.reload = threading.Event()
        self.wake = threading.Event()


@contextmanager
def _signals() -> Iterator[Signals]:
    """SIGTERM ends the work in the main thread as an exception; SIGHUP asks for a reload."""
    signals = Signals()

    def terminate(_signal: int, _frame: FrameType | None) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        notify("STOPPING=1")
        watchdog = threading.Timer(GRACE_SECONDS, _end_hard)
        watchdog.daemon = True
        watchdog.start()
        raise Terminated

    def reload(_signal: int, _frame: FrameType | None) -> None:
        signals.reload.set()
        signals.wake.set()

    before = {
        signal.SIGTERM: signal.signal(signal.SIGTERM, terminate),
        signal.SIGHUP: signal.signal(signal.SIGHUP, reload),
    }
    try:
        yield signals
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _end_hard() -> None:
    log.warning("ending hard: a step did not stop in time; it is repeated at the next start")
    os._exit(0)


class Daemon:
    """One running service."""

    def __init__(
        self,
        path: Path,
        configuration: ServiceConfiguration,
        state: StateFolder,
        ledger: Ledger,
        signals: Signals,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self.configuration = configuration
        self.state = state
        self.ledger = ledger
        self.signals = signals
        self._path = path
        self._ready = "starting"
        self._monotonic = monotonic
        self._alive = monotonic()
        self.workbench = Workbench(configuration, ledger, state, self._progress, self._announce, monotonic)
        self.worker = Worker(
            ledger,
            state,
            self.workbench.tools,
            f"{socket.gethostname()}:{os.getpid()}",
            usage=lambda: self.workbench.usage,
        )

    def run(self) -> None:
        """Start everything, then work until the process is told to end."""
        log.info("starting", state=str(self.state.path), base=self.configuration.base)
        with self._web() as address:
            interrupted = self.ledger.queue.reclaim()
            finish_interrupted(self.ledger, self.state)
            self.workbench.load()
            notify("READY=1", f"STATUS=serving on {address}")
            log.info("ready", page=address, interrupted_reviews=interrupted)
            while True:
                self._ready = ""
                self._note_context()
                with surroundings(
                    self.configuration,
                    self.state,
                    self.ledger,
                    self.workbench.context,
                    self.wake,
                    self._heartbeat,
                    suspicion=self.workbench.suspicion,
                ):
                    self._work_until_something_changes()
                if self.signals.reload.is_set():
                    self._reload()

    def wake(self) -> None:
        """Let the main thread look for work at once."""
        self.signals.wake.set()

    def not_ready(self) -> list[str]:
        """Say why no verdict can be expected now, a line a cause; empty when all is well."""
        causes = [self._ready] if self._ready else []
        silent = self._monotonic() - self._alive
        if silent > STALLED_SECONDS:
            causes.append(f"the worker has given no sign of life for {silent:.0f} seconds")
        return causes

    def submit(self, digest: str) -> bool:
        """Queue a known adapter at a person's request, to be asked with another seed than before."""
        known = self.ledger.registry.get(digest)
        if known is None:
            return False
        repeat = self.ledger.times_reviewed(digest)
        queued = self.ledger.queue.add(digest, known.name, "requested", repeat=repeat)
        self.wake()
        return queued

    def _work_until_something_changes(self) -> None:
        """Work until a reload is asked for, or the judge goes on under another id: sources and timers follow that."""
        while not self.signals.reload.is_set():
            self._alive = self._monotonic()
            try:
                if self.workbench.take_the_judge_anew():
                    log.info("the accepted judge was taken over", judge=self.workbench.context.judge)
                    return
                if self.worker.work() is None and not self._use_the_pause():
                    self._pause(IDLE_SECONDS)
            except (GuardError, OSError) as error:
                log.error("the surroundings fail", cause=str(error), next_attempt_in=AFTER_TROUBLE_SECONDS)
                self._pause(AFTER_TROUBLE_SECONDS)

    def _use_the_pause(self) -> bool:
        """Do one thing that waits for a pause between reviews, and say whether there was one."""
        if self.workbench.draw_a_canary():
            return True
        looked = self.workbench.look_at_the_judge()
        if looked:
            self.worker.count_usage()
        return looked

    def _pause(self, seconds: float) -> None:
        self.signals.wake.wait(seconds)
        self.signals.wake.clear()

    def _reload(self) -> None:
        """Take over what changed in configuration and policy; where that cannot be used, the present ones stay."""
        self.signals.reload.clear()
        notify("RELOADING=1")
        try:
            fresh = load_configuration(self._path)
            fixed = {name: getattr(self.configuration, name) for name in NEEDS_RESTART}
            changed = [name for name in NEEDS_RESTART if getattr(fresh, name) != fixed[name]]
            if changed:
                log.warning("needs a restart to take effect", settings=changed)
            fresh = fresh.model_copy(update=fixed)
            self.workbench.take_over(fresh)
        except (ConfigurationError, PolicyError, GuardError) as error:
            log.error("the new configuration cannot be used; the old one stays", cause=str(error))
        else:
            self.configuration = fresh
            set_up_logging(fresh.log)
            log.info("configuration taken over", policy=self.workbench.context.policy)
        notify("READY=1")

    def _heartbeat(self) -> None:
        self.worker.heartbeat()
        now = time.time() - (self._monotonic() - self._alive)
        self.ledger.values.set("heartbeat_timestamp_seconds", now)

    @contextmanager
    def _web(self) -> Iterator[str]:
        http = self.configuration.http
        app = create_app(
            self.ledger,
            http,
            metrics=lambda: metrics_text(self.ledger, self.configuration.metrics),
            submit=self.submit,
            ready=self.not_ready,
        )
        with serving(app, http.host, http.port) as address:
            yield address

    def _progress(self, stage: str, done: int, total: int) -> None:
        self._alive = self._monotonic()
        self.worker.progress(stage, done, total)

    def _announce(self, what: str) -> None:
        self._ready = what
        notify(f"STATUS={what}")
        log.info(what)

    def _note_context(self) -> None:
        context = self.workbench.context
        self.ledger.note("configured", **context.model_dump(mode="json"), context_digest=context_digest(context))
