"""Who waits for a review: where a job's adapter lies, and which others can be asked together with the one at hand."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime

from adapters.adapter import Adapter, AdapterError
from adapters.intake import home_of, stage
from guards.errors import GuardError, Permanent
from guards.interface import Guard
from monitor.ledger import Ledger
from monitor.ledger.queue import Job
from monitor.logs import logger
from monitor.state import StateFolder
from policies.findings import Defect, Inconclusive

MOST_BYTES = 2**30
"""Of the files of all that are asked beside the one at hand: their weights lie in the device's memory at once. Eight
adapters of rank 16 on a base of four billion parameters fit; the largest ranks are asked one by one."""

_LOOKED_AT = 64
"""Jobs among which company is sought; nobody further behind is reviewed soon."""

log = logger("waiting")


def staged(job: Job, ledger: Ledger, state: StateFolder) -> Adapter:
    """Return a job's adapter, staged; one that is deployed or put away is staged again, from the bytes there.

    Raises:
        Permanent: its files are gone or were changed.
        AdapterError, OSError: it cannot be copied.
    """
    known = ledger.registry.get(job.digest)
    parent = known.parent if known and known.parent_source != "guessed" else None  # a guess is no origin
    for folder in (state.staging, state.promoted, state.quarantine, state.retired):
        path = home_of(job.digest, folder)
        if not path.is_dir():
            continue
        if folder == state.staging:
            return Adapter(path, job.digest, job.name, parent)
        copy = stage(path, state.staging, job.name)
        if copy.digest != job.digest:
            raise Permanent(f"{path} holds {copy.digest}: its bytes were changed; block it and look who did")
        return Adapter(copy.path, job.digest, job.name, parent)
    raise Permanent("its files are gone from the state folder; drop the adapter again")


class Company:
    """The adapters whose reviews come next and will ask the same questions as the one that runs."""

    def __init__(
        self, ledger: Ledger, state: StateFolder, most: int, clock: Callable[[], datetime] = lambda: datetime.now(UTC)
    ) -> None:
        """Name at most ``most - 1`` adapters, so that with the one at hand there are ``most``."""
        self._ledger, self._state, self._most, self._clock = ledger, state, most, clock

    def __call__(self) -> list[Adapter]:
        """Return who is next, in the order of their reviews; nobody where that could harm the review that runs.

        A job that was begun before may have ended with the process, its own or another's fault: it is reviewed alone,
        and is no company. Nor is one whose answers would be drawn with another seed.
        """
        if self._most < 2:
            return []
        jobs = self._ledger.queue.jobs(_LOOKED_AT)
        running = [job for job in jobs if job.state == "running"]
        if len(running) != 1 or running[0].attempts != 1:
            return []
        now, room = self._clock(), MOST_BYTES
        found: list[Adapter] = []
        for job in jobs:
            if len(found) == self._most - 1:
                break
            fresh = job.state == "queued" and job.attempts == 0 and job.error is None and job.not_before <= now
            if not fresh or job.repeat != running[0].repeat:
                continue
            try:
                adapter = staged(job, self._ledger, self._state)
                size = sum(file.stat().st_size for file in adapter.path.rglob("*"))
            except (GuardError, AdapterError, OSError) as error:  # its own review will tell
                log.info("cannot be asked together with others", digest=job.digest, cause=str(error))
                continue
            if size <= room:
                room -= size
                found.append(adapter)
        return found


class Sound:
    """Of some company those whose files are sound: nothing else is ever loaded."""

    def __init__(self, company: Callable[[], list[Adapter]], structure: Guard) -> None:
        """Ask ``structure`` about every adapter once."""
        self._company, self._structure = company, structure
        self._known: dict[str, bool] = {}

    def __call__(self) -> list[Adapter]:
        """Return the sound ones; nobody where even that cannot be found out."""
        try:
            company = self._company()
            for adapter in company:
                if adapter.digest not in self._known:
                    found = self._structure.examine(adapter)
                    self._known[adapter.digest] = not any(isinstance(one, Defect | Inconclusive) for one in found)
        except Exception as error:  # whatever it is, the review at hand goes on by itself
            log.warning("nobody is asked together with others", cause=str(error))
            return []
        self._known = {adapter.digest: self._known[adapter.digest] for adapter in company}
        return [adapter for adapter in company if self._known[adapter.digest]]
