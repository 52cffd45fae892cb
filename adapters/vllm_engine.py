"""The engine on a vLLM server: answers come over HTTP, and nothing that the server says of itself is believed.

Four things go wrong there without an error (docs/fleet.md shows each). Here:

- **The base beside an adapter** gets an adapter's delta. Base and adapters are asked in phases that never overlap, and
  a phase counts only if the server answered exactly the requests of this phase while it lasted.
- **Pictures are attended otherwise** than in this process. Base and adapter are both asked on the server, so that a
  pair of answers comes from one implementation; and answers are kept apart from those made in process.
- **Pairs of the vision tower are dropped.** Every time that an adapter is attached, it has to say what it says in this
  process, on canaries that tell it from the base and from itself without that part.
- **Features under a name that was used before** are of other weights. A name is a digest, and every phase has features
  of its own.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cached_property, partial
from typing import TypeVar

from adapters.adapter import Adapter, AdapterError, digest_adapter
from adapters.canary import (
    FARTHEST,
    Canary,
    NextTokens,
    cannot_tell,
    doubt_about_adapter,
    doubt_about_base,
    doubt_about_part,
)
from adapters.engine import AdapterUnloadable, EngineError, EngineUnavailable, Sampling
from adapters.prompts import Prompt
from adapters.replica import Listing, ReplicaError, ReplicaRefused, ReplicaUnreachable
from adapters.review_server import ReviewServer, Traffic

T = TypeVar("T")

FIRST_PAUSE_SECONDS = 0.5
"""Before a server is asked again that could not be asked; doubled every time."""
LONGEST_PAUSE_SECONDS = 10.0
"""The pause grows no longer than this."""
LOOKS = 3
"""Times that a server's count of its answers is read until it has come up with them."""
_NOT_FOUND = 404


@dataclass
class _Attached:
    adapter: Adapter
    canaries: Sequence[Canary]
    boot: str = ""
    """Start time of the server's process on which it was proved."""


class VllmEngine:
    """A base and its adapters on one vLLM server that nobody else asks; see :class:`adapters.engine.Generator`."""

    def __init__(
        self,
        server: ReviewServer,
        *,
        base_digest: str,
        sees_pictures: bool,
        base_canaries: Callable[[], Sequence[Canary]],
        canaries: Callable[[Adapter], Sequence[Canary]],
        patience_seconds: float = 120.0,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        """Remember whom to ask; nothing is asked yet.

        Args:
            server: where the model runs.
            base_digest: of the base in this process, which the server's base has to be.
            sees_pictures: whether the base takes pictures.
            base_canaries: what the base says in this process.
            canaries: what an adapter says in this process; may raise what attaching it raises.
            patience_seconds: how long a server that cannot be asked is waited for.
            clock: monotonic seconds.
            sleep: pauses for so many seconds.
        """
        self._server = server
        self.base_digest = base_digest
        self.answers_key = f"{base_digest}@vllm"
        self.sees_pictures = sees_pictures
        self._draw_base_canaries, self._canaries = base_canaries, canaries
        self._patience, self._clock, self._sleep = patience_seconds, clock, sleep
        self._attached: _Attached | None = None
        self._base_proved = ""
        """Start time of the server's process on which the base was proved."""

    @contextmanager
    def attached(self, adapter: Adapter) -> Iterator[None]:
        """Load ``adapter`` on the server for the duration of a ``with`` block, and prove it active there."""
        canaries = self._canaries(adapter)
        unprovable = cannot_tell(canaries)
        if unprovable:
            raise EngineError(f"{adapter.name} cannot be proved active on {self._server.url}: {unprovable}")
        attached = _Attached(adapter, canaries)
        try:
            self._patiently(partial(self._prove, attached))
            self._attached = attached
            yield
        finally:
            self._attached = None
            # What stays listed where this fails is never asked, and its name means the same bytes for ever.
            with suppress(ReplicaError):
                self._server.unload(adapter.digest)

    def generate(self, prompts: Sequence[Prompt], sampling: Sampling) -> list[str]:
        """Answer every prompt, in order; all of them together are one phase."""
        return self._patiently(partial(self._answers, prompts, sampling)) if prompts else []

    def _answers(self, prompts: Sequence[Prompt], sampling: Sampling) -> list[str]:
        if self._attached is None:
            listing = self._prove_base()
            model = listing.base
        else:
            listing = self._prove(self._attached)
            model = self._attached.adapter.digest
        return self._alone(listing.boot, lambda: self._server.answers(model, prompts, sampling), len(prompts))

    @cached_property
    def _base_canaries(self) -> Sequence[Canary]:
        return self._draw_base_canaries()

    def _prove_base(self) -> Listing:
        """Prove once a process of the server that its base is the one in this process."""
        listing = self._server.listing()
        if listing.boot == self._base_proved != "":
            return listing
        asked = [partial(self._server.next_tokens, listing.base, canary) for canary in self._base_canaries]
        said = self._alone(listing.boot, lambda: [ask() for ask in asked], len(asked))
        for canary, answer in zip(self._base_canaries, said, strict=True):
            doubt = doubt_about_base(canary, answer, FARTHEST)
            if doubt:
                raise EngineUnavailable(f"{self._server.url}: {doubt}; serve the very base that is reviewed")
        self._base_proved = listing.boot
        return listing

    def _prove(self, attached: _Attached) -> Listing:
        """Have the server hold an adapter from its own folder, and prove it active where that is not done yet."""
        self._prove_base()
        name, folder = attached.adapter.digest, self._server.there(attached.adapter.path)
        listing = self._server.listing()
        if listing.boot == attached.boot and listing.adapters.get(name) == folder:
            return listing
        listing = self._load(attached.adapter, listing)
        ask = partial(self._in_turns, listing.base, name, attached.canaries)
        doubt = _doubt(attached.canaries, self._alone(listing.boot, ask, 2 * len(attached.canaries)))
        if doubt:
            raise EngineError(f"{attached.adapter.name} is not served by {self._server.url} as it is here: {doubt}")
        attached.boot = listing.boot
        return listing

    def _load(self, adapter: Adapter, listing: Listing) -> Listing:
        name, folder = adapter.digest, self._server.there(adapter.path)
        if name in listing.adapters and listing.adapters[name] != folder:
            self._server.unload(name)
        if listing.adapters.get(name) != folder:
            _unchanged(adapter)
            try:
                self._server.load(name, adapter.path)
            except ReplicaRefused as refused:
                self._explain(adapter, refused)
        listing = self._server.listing()
        if listing.adapters.get(name) != folder:
            held = listing.adapters.get(name)
            shown = "not listed" if held is None else f"listed from {held[:200]!r}"
            raise ReplicaUnreachable(f"{adapter.name} is {shown} after it was loaded from {folder!r}")
        return listing

    def _explain(self, adapter: Adapter, refused: ReplicaRefused) -> None:
        """Say whose fault it is that an adapter was not loaded; nobody's where it is loaded all the same."""
        if adapter.digest in self._server.listing().adapters:
            return
        if refused.status == _NOT_FOUND:
            raise EngineUnavailable(
                f"{self._server.url}: {refused}; it has to see {self._server.there(adapter.path)} (generation.mounts)"
            ) from refused
        self._base_proved = ""
        self._prove_base()  # a server that is broken refuses everything
        raise AdapterUnloadable(f"{adapter.name}: {self._server.url} refuses it: {refused}") from refused

    def _in_turns(self, base: str, name: str, canaries: Sequence[Canary]) -> list[tuple[NextTokens, NextTokens]]:
        """Ask base and adapter every canary, one request after the other."""
        return [(self._server.next_tokens(base, one), self._server.next_tokens(name, one)) for one in canaries]

    def _alone(self, boot: str, ask: Callable[[], T], requests: int) -> T:
        """Ask while the server answers nobody else, and throw the answers away where that did not hold."""
        before = self._idle(boot)
        self._server.renew()
        result = ask()
        answered = 0
        for _look in range(LOOKS):
            answered = self._idle(boot).finished - before.finished
            if answered >= requests:
                break
            self._sleep(FIRST_PAUSE_SECONDS)
        if answered != requests:
            raise ReplicaUnreachable(f"it answered {answered} requests where {requests} were ours; keep it for reviews")
        return result

    def _idle(self, boot: str) -> Traffic:
        traffic = self._server.traffic()
        if traffic.boot != boot:
            raise ReplicaUnreachable("it restarted")
        if traffic.unfinished:
            raise ReplicaUnreachable(f"it answers {traffic.unfinished} requests of somebody else; keep it for reviews")
        return traffic

    def _patiently(self, work: Callable[[], T]) -> T:
        """Do what may fail for reasons that pass, again and again until the patience ends."""
        until, pause = self._clock() + self._patience, FIRST_PAUSE_SECONDS
        while True:
            try:
                return work()
            except ReplicaError as error:
                # 404: it restarted and forgot the name. 500 and above: it is broken. Else it is about the question.
                status = error.status if isinstance(error, ReplicaRefused) else None
                if status is not None and status < 500 and status != _NOT_FOUND:
                    raise EngineError(f"{self._server.url}: {error}") from error
                if self._clock() + pause > until:
                    waited = f"waited {self._patience:g} s for it"
                    raise EngineUnavailable(f"{self._server.url}: {error} ({waited})") from error
            self._sleep(pause)
            pause = min(2 * pause, LONGEST_PAUSE_SECONDS)


def _doubt(canaries: Sequence[Canary], said: Sequence[tuple[NextTokens, NextTokens]]) -> str:
    """Say why a server's answers, of base and adapter, do not prove the adapter active; empty where they do."""
    for canary, (of_base, of_adapter) in zip(canaries, said, strict=True):
        doubt = doubt_about_base(canary, of_base) or doubt_about_adapter(canary, of_adapter)
        if doubt:
            return doubt
    return doubt_about_part(canaries, [of_adapter for _, of_adapter in said])


def _unchanged(adapter: Adapter) -> None:
    """Raise where an adapter's files are no longer those that its digest names: the server reads them anew."""
    try:
        found = digest_adapter(adapter.path)
    except (AdapterError, OSError) as error:
        raise EngineError(f"{adapter.name}: its files cannot be read: {error}") from error
    if found != adapter.digest:
        raise EngineError(f"{adapter.name}: its files in {adapter.path} have changed since it was taken in")
