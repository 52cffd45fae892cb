"""Brings approved adapters onto replicas, a few replicas at a time, proves each, and takes all back where one fails."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta

from adapters.adapter import digest_adapter
from adapters.canary import cannot_tell, doubt_about_adapter, doubt_about_base, doubt_about_part
from adapters.fleet_record import BEGUN, FOREIGN, RETURNING, ROLLING, Desired, FleetMemory, Serving
from adapters.fleet_view import Book, View, side_by_side
from adapters.replica import ReplicaError, ReplicaRefused, ReplicaUnreachable

FIRST_PAUSE = timedelta(seconds=30)
"""Before what failed is tried again; doubled with every failure."""
LONGEST_PAUSE = timedelta(hours=1)
"""The pause grows no longer than this."""

_LIVE = ("loading", "proving", "serving", "failed")
_HOUR = timedelta(hours=1)


class Rollout:
    """How adapters come into service; one for the fleet's whole life, because it remembers what it has proved."""

    def __init__(
        self,
        memory: FleetMemory,
        clock: Callable[[], datetime],
        promotions_per_hour: int,
        replicas_at_once: int,
        prove_again: timedelta,
    ) -> None:
        """See :class:`adapters.fleet.Fleet`."""
        self._memory = memory
        self._clock = clock
        self._per_hour = promotions_per_hour
        self._at_once = replicas_at_once
        self._prove_again = prove_again
        self._proved: dict[tuple[str, str], datetime] = {}
        """When an adapter was last proved on a replica. Kept in memory alone: after a restart of ours everything is
        proved once more. A server's restart shows in the records: nothing is ``serving`` after it."""

    def advance(
        self, views: Sequence[View], book: Book, desired: dict[str, Desired], withdraw: Callable[[], None]
    ) -> dict[str, str]:
        """Bring every desired adapter onto every replica that can be reached, the longest promoted first.

        Args:
            views: the replicas.
            book: what is recorded.
            desired: what should be served, by digest; ``withdraw`` takes out of it what no longer should.
            withdraw: called after every step.

        Returns:
            By digest, why one waits.
        """
        waits: dict[str, str] = {}
        for wanted in list(desired.values()):
            if wanted.digest not in desired:
                continue
            due = [view for view in views if view.listing is not None and self._is_due(view, wanted, book)]
            established = _established(wanted, book)
            paused = self._paused(wanted, book)
            if paused:
                due = [view for view in due if established and book.state(view.url, wanted.digest) != "failed"]
            new = not any(serving.state in _LIVE for serving in book.of(wanted.digest))
            wait = _unprovable(wanted) or (self._limited() if due and new else "") or paused
            if wait:
                waits[wanted.digest] = wait
            if due and (not wait or wait == paused):
                self._bring(wanted, due, views, book, new, withdraw, desired)
            _finish(wanted, views, book)
        return waits

    def _is_due(self, view: View, wanted: Desired, book: Book) -> bool:
        """Whether there is something to load or to prove."""
        serving = book.get(view.url, wanted.digest)
        if serving is not None and (serving.state, serving.detail) == ("resident", FOREIGN):
            return False
        when = self._proved.get((view.url, wanted.digest))
        fresh = when is not None and timedelta(0) <= self._clock() - when < self._prove_again
        return not (fresh and serving is not None and serving.state == "serving" and view.shows(wanted))

    def _paused(self, wanted: Desired, book: Book) -> str:
        """Say until when what failed is left alone; empty where it may be tried."""
        failed = [serving for serving in book.of(wanted.digest) if serving.state == "failed"]
        if not failed:
            return ""
        attempts = max(serving.attempts for serving in failed)
        pause = min(FIRST_PAUSE * 2 ** min(max(attempts - 1, 0), 16), LONGEST_PAUSE)
        again = max(serving.since for serving in failed) + pause
        return f"tried again at {again:%H:%M:%S} UTC" if self._clock() < again else ""

    def _limited(self) -> str:
        if self._memory.rolled_out_since(self._clock() - _HOUR) < self._per_hour:
            return ""
        return f"it waits, {self._per_hour} roll-outs an hour are the limit"

    def _bring(
        self,
        wanted: Desired,
        due: Sequence[View],
        views: Sequence[View],
        book: Book,
        new: bool,
        withdraw: Callable[[], None],
        desired: dict[str, Desired],
    ) -> None:
        """Load and prove one adapter, a few replicas at a time; where one fails, take it back."""
        for start in range(0, len(due), self._at_once):
            batch = [view for view in due[start : start + self._at_once] if view.listing is not None]
            reasons = side_by_side(lambda view: self._bring_up(view, wanted, book, new), batch)
            failed = {view.url: reason for view, reason in zip(batch, reasons, strict=True) if reason}
            if failed and _established(wanted, book):
                # It serves well elsewhere: what is wrong is this server, and the others keep what they have.
                _take_back(wanted, [view for view in batch if view.url in failed], book, failed)
            elif failed:
                _take_back(wanted, views, book, failed)
            withdraw()
            if wanted.digest not in desired or (failed and not _established(wanted, book)):
                return

    def _bring_up(self, view: View, wanted: Desired, book: Book, new: bool) -> str:
        """Load and prove one adapter on one replica, and say why it failed; empty where it did not."""
        before = book.get(view.url, wanted.digest)
        mark = _mark(before)
        try:
            if new or not view.shows(wanted):
                book.note(view.url, wanted.digest, "loading", BEGUN if new else mark)
            if not view.shows(wanted):
                reason = _load(view, wanted)
                if reason:
                    return reason
            if book.state(view.url, wanted.digest) != "serving":
                book.note(view.url, wanted.digest, "proving", mark)
            doubt = _doubt(view, wanted)
            if doubt:
                return doubt
            view.look()  # proved on a process that is still there
        except ReplicaUnreachable as error:
            view.lose(error)
            return ""
        except ReplicaError as error:
            return str(error)
        if not view.shows(wanted):
            return "it vanished while it was being proved"
        if book.state(view.url, wanted.digest) != "serving":
            book.note(view.url, wanted.digest, "serving", "" if mark == RETURNING else ROLLING)
        self._proved[view.url, wanted.digest] = self._clock()
        return ""


def _load(view: View, wanted: Desired) -> str:
    """Have a replica load an adapter whose bytes are still the approved ones; say why it failed, empty if not."""
    try:
        if digest_adapter(wanted.path) != wanted.digest:
            return f"its files in {wanted.path} are no longer what was approved; restore or block it"
    except Exception as error:  # unreadable, vanished, or no adapter at all
        return f"its files cannot be read: {error}"
    refusal = ""
    try:
        view.replica.load(wanted.digest, wanted.path)
    except ReplicaRefused as refused:
        refusal = str(refused)  # perhaps only because an earlier request, given up here, was done there
    listed = view.look().adapters.get(wanted.digest)
    if view.shows(wanted):
        return ""
    if refusal:
        return refusal
    return "it is not listed after it was loaded" if listed is None else f"it is listed from {listed[:200]!r}"


def _doubt(view: View, wanted: Desired) -> str:
    """Ask the canaries, and say why they do not prove the adapter active and the base unharmed; empty if they do."""
    listing = view.look()
    answers = []
    for canary in wanted.canaries:
        base = view.replica.next_tokens(listing.base, canary)
        answers.append(view.replica.next_tokens(wanted.digest, canary))
        doubt = doubt_about_base(canary, base) or doubt_about_adapter(canary, answers[-1])
        if doubt:
            return doubt
    doubt = doubt_about_part(wanted.canaries, answers)
    if doubt:
        return doubt
    canary = wanted.canaries[0]
    for said in view.replica.base_beside(listing.base, wanted.digest, canary):
        if doubt_about_base(canary, said):
            return (
                "the base answers otherwise while an adapter answers in the same batch: "
                "give the server one --max-loras more than it serves adapters, and restart it"
            )
    return ""


def _take_back(wanted: Desired, views: Sequence[View], book: Book, failed: dict[str, str]) -> None:
    """Record the failure everywhere it concerns, then unload."""
    culprit, reason = next(iter(failed.items()))
    concerned = [view for view in views if book.state(view.url, wanted.digest) in _LIVE or view.shows(wanted)]
    for view in concerned:
        told = failed.get(view.url, f"rolled back, because it failed on {culprit}: {reason}")
        book.note(view.url, wanted.digest, "failed", told)

    def unload(view: View) -> None:
        try:
            view.replica.unload(wanted.digest)
            view.look()
        except ReplicaError as error:  # the next pass sees it listed and unloads it again
            view.lose(error)

    side_by_side(unload, [view for view in concerned if view.listing is not None])


def _unprovable(wanted: Desired) -> str:
    """Say why an adapter is not even begun with; empty where it may be."""
    return cannot_tell(wanted.canaries) if wanted.canaries else "it waits for its canaries"


def _mark(before: Serving | None) -> str:
    """Carry on that an adapter had been in full service on a replica."""
    if before is None:
        return ""
    return RETURNING if before.detail == RETURNING or (before.state, before.detail) == ("serving", "") else ""


def _established(wanted: Desired, book: Book) -> bool:
    """Whether an adapter's roll-out was completed once, so that a failure is the server's rather than its own."""
    return any(
        (serving.state, serving.detail) == ("serving", "") or serving.detail == RETURNING
        for serving in book.of(wanted.digest)
    )


def _finish(wanted: Desired, views: Sequence[View], book: Book) -> None:
    """Note a roll-out as complete once every replica serves."""
    servings = [book.get(view.url, wanted.digest) for view in views]
    if all(serving is not None and serving.state == "serving" for serving in servings):
        for serving in servings:
            if serving is not None and serving.detail:
                book.note(serving.replica, serving.digest, "serving", "")
