"""A service without models whose process is killed again and again. Run as a script; prints what happened as JSON.

    python killed_house.py FOLDER SEED KILLS

One parent, warm and without torch, forks a child for each life. A child does what the daemon does: takes adapters in,
reviews them, follows people's words, retires and removes, and keeps two servers at what is promoted. It dies by
SIGKILL, before or after the n-th durable step (a commit, a rename, an fsync, a removal), or when the parent says so at
a random time. The next child goes on.
"""

from __future__ import annotations

import contextlib
import json
import mmap
import os
import random
import signal
import sqlite3
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any, NoReturn

import structlog
from fake_vllm import FakeVllm, canaries_of
from plain_world import CONTEXT, PlainGuard, PlainRemedy, PlainTools, Says, write_adapter
from sqlalchemy import Engine, event

import monitor.pipeline
from adapters.fleet import Fleet
from adapters.sources.folder import FolderSource
from adapters.vllm_replica import VllmReplica
from monitor.audit_check import note_head
from monitor.configuration import RetentionSettings
from monitor.ledger import Ledger, context_digest, database, utc_now
from monitor.ledger.database import Database
from monitor.overrides import apply_overrides
from monitor.reception import Reception
from monitor.review import Context
from monitor.state import StateFolder
from monitor.upkeep import finish_interrupted, queue_stale, remove_expired, retire_superseded
from monitor.worker import Worker

STAGES = ("start", "settle", "review", "remedy", "promote", "close", "override", "retire", "remove", "fleet", "end")
KINDS: tuple[Says, ...] = ("kind", "harm", "harm, mendable", "vague")
NAMES = ("latest", "nightly", "run/a", "run/b")

_stage = mmap.mmap(-1, 1)
"""Where the living child is; the parent reads it after its death."""


def enter(stage: str) -> None:
    _stage[0] = STAGES.index(stage)


class Death:
    """Counts durable steps, all or those of one stage, and kills this process at one of them."""

    def __init__(self, at: int, within: str | None) -> None:
        self.left = at
        self.within = None if within is None else STAGES.index(within)

    def step(self) -> None:
        self.left -= self.within in (None, _stage[0])
        if self.left == 0:
            os.kill(os.getpid(), signal.SIGKILL)

    def around(self, act: Callable[..., Any]) -> Callable[..., Any]:
        def acted(*arguments: Any, **options: Any) -> Any:
            self.step()
            done = act(*arguments, **options)
            self.step()
            return done

        return acted


def mark_stages() -> None:
    """Let the functions of the pipeline say which stage they are."""

    def told(stage: str, act: Callable[..., Any], then: str) -> Callable[..., Any]:
        def acted(*arguments: Any, **options: Any) -> Any:
            enter(stage)
            done = act(*arguments, **options)
            enter(then)
            return done

        return acted

    monitor.pipeline.settle = told("promote", monitor.pipeline.settle, "close")
    PlainGuard.examine = told("review", PlainGuard.examine, "review")  # type: ignore[method-assign]
    PlainRemedy.apply = told("remedy", PlainRemedy.apply, "review")  # type: ignore[method-assign]


def make_mortal(at: int, within: str | None) -> None:
    """Let this process die at its ``at``-th durable step, of all or of one stage.

    What is flushed is not flushed really: a killed process leaves the kernel's memory of its files behind, whole.
    """
    death = Death(at, within)
    for name in ("rename", "replace", "unlink", "rmdir", "mkdir", "chmod"):
        setattr(os, name, death.around(getattr(os, name)))
    os.fsync = death.around(lambda _descriptor: None)
    event.listen(Engine, "commit", lambda _connection: death.step())
    writing = Database.writing

    @contextlib.contextmanager
    def mortal(self: Database) -> Iterator[Any]:
        with writing(self) as session:
            yield session
        death.step()

    Database.writing = mortal  # type: ignore[method-assign]


def live(root: Path, context: Context, servers: Sequence[str]) -> None:
    """One life of the service: work until nothing is left to do."""
    enter("start")
    under = context_digest(context)
    log = os.open(root / "asked", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    with StateFolder.open(root / "state") as state, Ledger(state.ledger_path) as ledger:
        ledger.fleet.keep_versions = 1
        ledger.queue.reclaim()
        ledger.queue.revive()  # six kills within one review look like its adapter's doing; a person knows better
        finish_interrupted(ledger, state)
        source = FolderSource(root / "inbox", "inbox", quiet_seconds=0, rescan_seconds=1e-9)
        reception = Reception([source], ledger, state, lambda: under)
        reception.tidy()
        tools = PlainTools(ledger, lambda key: _write(log, f"{key}\n"), context=context)
        worker = Worker(ledger, state, lambda _repeat: tools, f"child:{os.getpid()}")
        retention = RetentionSettings(quarantine_days=1000, retired_days=1)
        replicas = [VllmReplica(url, timeout_seconds=10) for url in servers]
        fleet = Fleet(replicas, ledger.fleet, clock=utc_now, promotions_per_hour=10**6)
        idle = 0
        while idle < 3:  # an adapter has settled when it looks the same at two scans
            enter("settle")
            busy = reception.scan(source)
            enter("override")
            busy += len(apply_overrides(ledger, state))
            enter("retire")
            busy += len(retire_superseded(ledger, state))
            enter("remove")
            busy += len(remove_expired(ledger, state, retention, utc_now() + timedelta(days=2)))
            busy += queue_stale(ledger, under, timedelta(days=1))
            enter("review")
            busy += worker.work() is not None
            note_head(ledger)
            enter("fleet")
            for digest in ledger.fleet.without_canaries():
                ledger.fleet.keep_canaries(digest, canaries_of(state.promoted / digest))
            fleet.reconcile()
            idle = 0 if busy else idle + 1
        enter("end")


def _write(descriptor: int, line: str) -> None:
    os.write(descriptor, line.encode())


def flush_nothing() -> None:
    """Let SQLite leave what it wrote to the kernel, which outlives a kill; see :func:`make_mortal`."""
    configure = database._configure

    def quick(connection: Any, record: Any) -> None:
        configure(connection, record)
        connection.execute("PRAGMA synchronous = OFF").close()

    database._configure = quick


def fork(act: Callable[[], None]) -> int:
    """Run ``act`` in a child and return its process id."""
    child = os.fork()
    if child == 0:
        _end(act)
    return child


def _end(act: Callable[[], None]) -> NoReturn:
    try:
        act()
    except BaseException:
        import traceback

        traceback.print_exc()
        os._exit(1)
    os._exit(0)


class World:
    """What the outside does between two lives: trainers drop, people speak, the judge moves."""

    def __init__(self, root: Path, seed: int) -> None:
        self.root = root
        self.random = random.Random(seed)
        self.context = CONTEXT
        self.dropped: dict[str, dict[str, str]] = {}
        self.at: dict[str, str] = {}
        self.kept: set[str] = set()
        self.read = 0
        self.repeated: list[str] = []

    def query(self, statement: str) -> list[Any]:
        if not (self.root / "state" / "ledger.db").exists():
            return []
        connection = sqlite3.connect(self.root / "state" / "ledger.db", timeout=20)
        try:
            return connection.execute(statement).fetchall()
        except sqlite3.OperationalError:  # the first life ended before there were tables
            return []
        finally:
            connection.close()

    def go_on(self, number: int) -> None:
        """Drop new versions of what was taken in, at times say a word, and at times move the judge."""
        from adapters.adapter import digest_adapter

        taken = {digest for (digest,) in self.query("SELECT digest FROM names")}
        for name in NAMES:
            if self.random.random() < 0.5 and self.at.get(name) in {None, *taken}:
                says = self.random.choice(KINDS)
                folder = write_adapter(self.root / "inbox" / name, says, number)
                self.at[name] = digest = digest_adapter(folder)
                self.dropped[digest] = {"name": name, "says": says}
        if self.dropped and self.random.random() < 0.25:
            digest = self.random.choice([*self.dropped, *(d for (d,) in self.query("SELECT digest FROM adapters"))])
            with Ledger(self.root / "state" / "ledger.db") as ledger:
                ledger.overrides.add(digest, self.random.choice(("release", "block")), f"word {number}", "ann")
        if number % 60 == 59:
            self.context = self.context.model_copy(update={"judge": f"judge {number}"})

    def take_stock(self) -> None:
        """Read what the judge was asked in the last life, and see whether it was asked again what was kept."""
        path = self.root / "asked"
        lines = path.read_text().splitlines() if path.exists() else []
        fresh, self.read = lines[self.read :], len(lines)
        self.repeated += [key for key, times in Counter(fresh).items() if key in self.kept or times > 1]
        self.kept = {key for (key,) in self.query("SELECT key FROM judgements")}


def main(root: Path, seed: int, kills: int) -> None:
    with FakeVllm() as one, FakeVllm() as two:
        told = kill_again_and_again(root, seed, kills, (one.url, two.url))
        print(json.dumps({**told, "served": [one.adapters, two.adapters]}))


def kill_again_and_again(root: Path, seed: int, kills: int, servers: Sequence[str]) -> dict[str, Any]:
    """Let lives begin and end until enough were killed, then one that ends by itself; return what happened."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(50))
    flush_nothing()
    (root / "inbox").mkdir()
    mark_stages()
    (root / "state").mkdir()
    Ledger(root / "state" / "ledger.db").close()  # so that no child has to load the migrations
    world = World(root, seed)
    stages: Counter[str] = Counter()
    lives = failures = 0
    while sum(stages.values()) < kills and lives < 5 * kills:
        world.go_on(lives)
        lives += 1
        how = world.random.choice(("stage", "stage", "steps", "time"))
        steps = {"stage": world.random.randint(1, 20), "steps": world.random.randint(1, 250)}.get(how, 10**9)
        within = world.random.choice(STAGES[:-1]) if how == "stage" else None

        def mortal_life(steps: int = steps, within: str | None = within) -> None:
            make_mortal(steps, within)
            live(root, world.context, servers)

        child = fork(mortal_life)
        if how == "time":
            time.sleep(world.random.random() * 0.15)
            os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
        if os.WIFSIGNALED(status):
            stages[STAGES[_stage[0]]] += 1
        failures += os.WIFEXITED(status) and os.WEXITSTATUS(status) != 0
        world.take_stock()
    _, status = os.waitpid(fork(lambda: live(root, world.context, servers)), 0)
    failures += status != 0
    world.take_stock()
    return {
        "lives": lives,
        "kills": stages,
        "failures": failures,
        "repeated": world.repeated,
        "dropped": world.dropped,
        "judgements": len(world.kept),
    }


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
