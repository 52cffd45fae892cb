"""Keeps every server at exactly what was approved: desired against observed, one pass at a time.

A pass asks every replica what it serves, takes away what is not desired, brings what is, and says what still differs.
Nothing is done before it is recorded, so that a pass that was cut off anywhere is simply followed by the next one.
docs/fleet.md tells the rules.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta

from adapters.adapter import is_digest
from adapters.fleet_record import FOREIGN, RETURNING, Desired, FleetMemory, ReplicaState, ReplicaStatus, ServingState
from adapters.fleet_view import Book, View, key_of, side_by_side
from adapters.replica import Replica, ReplicaError, ReplicaRefused
from adapters.rollout import Rollout

_LONGEST_DETAIL = 1000


def utc_now() -> datetime:
    """Return the present moment in UTC."""
    return datetime.now(UTC)


class Fleet:
    """The servers, and what is remembered of them."""

    def __init__(
        self,
        replicas: Sequence[Replica],
        memory: FleetMemory,
        *,
        clock: Callable[[], datetime] = utc_now,
        promotions_per_hour: int = 10,
        replicas_at_once: int = 1,
        prove_again: timedelta = timedelta(minutes=10),
    ) -> None:
        """Set up; nothing is asked yet.

        Args:
            replicas: the servers, each known by its URL; none is fine.
            memory: where everything is recorded before it is done.
            clock: gives the moment in UTC.
            promotions_per_hour: adapters that may begin to be rolled out within any one hour, at least 1.
            replicas_at_once: replicas that get an adapter at the same time, at least 1.
            prove_again: canaries are asked again so long after they were, though nothing seems to have changed.
        """
        self._replicas = tuple(replicas)
        self._memory = memory
        self._clock = clock
        self._lock = threading.Lock()
        self._rollout = Rollout(memory, clock, promotions_per_hour, replicas_at_once, prove_again)

    def reconcile(self) -> None:
        """Make one pass. A replica's failure is recorded and never raised; what remains is for the next pass.

        Withdrawals come first, are never limited, and are looked for again after every step of a roll-out. Passes do
        not overlap: a second caller waits.
        """
        with self._lock:
            known = {status.replica: status for status in self._memory.replicas()}
            self._forget(known)
            book = Book(self._memory, self._clock)
            views = [View(replica, boot=_boot_of(known.get(replica.url))) for replica in self._replicas]
            side_by_side(View.try_to_look, views)
            desired = {one.digest: one for one in self._memory.desired()}
            for view in views:
                _clear(view, book)
                self._notice_restart(view, book, desired)
            self._withdraw(views, book, desired)
            waits = self._rollout.advance(views, book, desired, lambda: self._withdraw_again(views, book, desired))
            for view in views:
                detail = view.cause if view.listing is None else "; ".join(_differences(view, book, desired, waits))
                state: ReplicaState = "unreachable" if view.listing is None else "up"
                self._memory.seen(view.url, state, detail[:_LONGEST_DETAIL], view.boot)

    def _forget(self, known: dict[str, ReplicaStatus]) -> None:
        configured = {replica.url for replica in self._replicas}
        for url in {*known, *(one.replica for one in self._memory.servings())} - configured:
            self._memory.forget(url)

    def _notice_restart(self, view: View, book: Book, desired: dict[str, Desired]) -> None:
        """A new process holds nothing of what the old one held: prove anew what is there, forget what is not."""
        if view.listing is None or view.listing.boot in ("", view.boot):
            return
        for serving in list(book.on(view.url)) if view.boot else ():
            listed, wanted = serving.digest in view.listing.adapters, serving.digest in desired
            established = serving.detail == RETURNING or (serving.state, serving.detail) == ("serving", "")
            mark = RETURNING if established else ""
            if listed and not wanted:
                book.note(view.url, serving.digest, "withdrawing", "back after a restart")
            elif not wanted or serving.state in ("withdrawing", "resident"):
                if not listed:
                    book.note(view.url, serving.digest, "absent")
            elif serving.state in ("loading", "proving", "serving"):
                book.note(view.url, serving.digest, "proving" if listed else "loading", mark)
        # Kept before anything is done under the new process: what is withdrawn from it is not absent, but resident.
        view.boot = view.listing.boot
        self._memory.seen(view.url, "up", "restarted; being looked at", view.boot)

    def _withdraw_again(self, views: list[View], book: Book, desired: dict[str, Desired]) -> None:
        """Withdraw what ceased to be desired while a roll-out was going on."""
        now = {one.digest: one for one in self._memory.desired()}
        if not desired.keys() <= now.keys():
            for digest in desired.keys() - now.keys():
                del desired[digest]
            self._withdraw(views, book, desired)

    def _withdraw(self, views: list[View], book: Book, desired: dict[str, Desired]) -> None:
        """Take away everything that is not desired, on all replicas at once, and see whether it is gone."""
        leaving = {view.url: _leaving(view, desired, book) for view in views}
        for view in views:
            for name, (state, detail) in leaving[view.url].items():
                book.note(view.url, name, state, detail)
            _account_for_the_vanished(view, book, desired)
        side_by_side(
            lambda view: _take_away(view, book, leaving[view.url]),
            [view for view in views if view.listing is not None and leaving[view.url]],
        )


def _boot_of(status: ReplicaStatus | None) -> str:
    return status.boot if status is not None else ""


def _clear(view: View, book: Book) -> None:
    """Forget what the pass before proved absent."""
    for serving in list(book.on(view.url)):
        if serving.state == "absent":
            book.drop(serving)


def _leaving(view: View, desired: dict[str, Desired], book: Book) -> dict[str, tuple[ServingState, str]]:
    """Return what has to leave a replica, and as what it is recorded."""
    leaving: dict[str, tuple[ServingState, str]] = {}
    for name, root in view.listing.adapters.items() if view.listing is not None else ():
        wanted = desired.get(name)
        if wanted is None:
            if not is_digest(name) or book.state(view.url, name) in (None, "resident"):
                view.told.append(f"serves what was not approved: {key_of(name)}")
            leaving[name] = ("withdrawing", "")
        elif root != view.replica.there(wanted.path):
            view.told.append(f"serves another folder under {name}: {root[:200]}")
            leaving[name] = ("withdrawing", FOREIGN)
        elif (failed := book.get(view.url, name)) is not None and failed.state == "failed":
            leaving[name] = ("failed", failed.detail)  # rolled back, or so it was meant
    return leaving


def _account_for_the_vanished(view: View, book: Book, desired: dict[str, Desired]) -> None:
    """Record what left a replica without our seeing it leave, and what cannot be looked for now."""
    for serving in list(book.on(view.url)):
        wanted = serving.digest in desired
        if view.listing is None:
            if not wanted and serving.state not in ("resident", "absent"):
                book.note(view.url, serving.digest, "withdrawing", "the server is out of reach")
        elif not any(key_of(name) == serving.digest for name in view.listing.adapters):
            kept = FOREIGN if serving.detail == FOREIGN else ""
            if serving.state == "withdrawing" or (not wanted and serving.state not in ("resident", "absent")):
                # Not seen restarting since, so that its weights may still lie in the server's cache.
                book.note(view.url, serving.digest, "resident", kept)


def _take_away(view: View, book: Book, leaving: dict[str, tuple[ServingState, str]]) -> None:
    """Unload, then look: only a listing proves that a name is gone."""
    refusals = {}
    try:
        for name in leaving:
            try:
                view.replica.unload(name)
            except ReplicaRefused as refused:
                refusals[name] = str(refused)
        listing = view.look()
    except ReplicaError as error:
        view.lose(error)
        return
    for name, (state, detail) in leaving.items():
        if name in listing.adapters:
            why = refusals.get(name, "it is still listed after it was unloaded")
            view.told.append(f"{key_of(name)} does not leave: {why}")
        elif state == "withdrawing":
            book.note(view.url, name, "resident", detail)


def _differences(view: View, book: Book, desired: dict[str, Desired], waits: dict[str, str]) -> list[str]:
    """Say everything in which a replica is not as desired."""
    told = list(view.told)
    for digest in desired:
        serving = book.get(view.url, digest)
        if serving is not None and serving.state == "serving":
            continue
        why = waits.get(digest, "")
        if serving is not None and not (serving.state == "absent" and why):
            why = f"{serving.state}{f' ({serving.detail})' if serving.detail else ''}{f'; {why}' if why else ''}"
        told.append(f"{_brief(digest)} is not served: {why or 'it is not loaded yet'}")
    for serving in book.on(view.url):
        if serving.state == "withdrawing":
            told.append(f"{_brief(serving.digest)} is not proved gone")
    return list(dict.fromkeys(told))


def _brief(name: str) -> str:
    return name[:19] if is_digest(name) else name
