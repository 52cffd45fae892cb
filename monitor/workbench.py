"""What the service reviews with: the models, loaded once, and the tools of the present policy."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import torch

from adapters.adapter import Adapter
from adapters.intake import home_of
from guards.canaries import draw_canaries
from guards.interface import Progress
from guards.judges.accepted import plain_id
from guards.judges.build import single_judges
from guards.judges.usage import Usage
from monitor.assembly import Assembly
from monitor.base_names import dtype_named, known_base
from monitor.configuration import ServiceConfiguration
from monitor.ledger import Ledger
from monitor.logs import logger
from monitor.models import Models
from monitor.review import Context
from monitor.state import StateFolder
from monitor.waiting import Company
from policies.findings import Finding, Inconclusive, Result
from policies.policy import load_policy

log = logger("workbench")

_CANARY_PAUSE = _JUDGE_PAUSE = 60.0
"""Seconds between two looks at whether there is something to be done."""
_AFTER_TROUBLE = 300.0
"""Seconds until a judge that could not be looked at is tried again."""


class Workbench:
    """The models of one base, and the tools of the present policy."""

    def __init__(
        self,
        configuration: ServiceConfiguration,
        ledger: Ledger,
        state: StateFolder,
        progress: Progress,
        announce: Callable[[str], None],
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """Read and check what the configuration names; nothing is loaded yet.

        Raises:
            UsageError: the base is no folder and no Hub id.
            PolicyError, Permanent: the policy, or something that it names, cannot be used.
        """
        if configuration.threads is not None:
            torch.set_num_threads(configuration.threads)
        self._ledger = ledger
        self._state = state
        self._progress = progress
        self._monotonic = monotonic
        self._models = Models(
            known_base(configuration.base),
            ledger,
            device=configuration.device,
            dtype=dtype_named(configuration.dtype),
            announce=announce,
            tell=log.warning,
        )
        self._assembly = self._assemble(configuration)
        self._proves = bool(configuration.fleet)
        self._judge_every = configuration.judge.every
        self._canaries_after = self._judge_after = float("-inf")

    def load(self) -> None:
        """Load base and judge, which stay loaded.

        Raises:
            BaseUnloadable: the base cannot be loaded.
            Permanent: the judge cannot.
        """
        _ = self._models.engine
        self._note_judges(self._assembly)

    def take_over(self, configuration: ServiceConfiguration) -> None:
        """Go on with another policy; where it cannot be used, the present one stays.

        Raises:
            PolicyError, Permanent: the policy, or something that it names, cannot be used.
        """
        assembly = self._assemble(configuration)
        self._note_judges(assembly)
        self._assembly = assembly
        self._proves = bool(configuration.fleet)
        self._judge_every, self._judge_after = configuration.judge.every, float("-inf")

    def take_the_judge_anew(self) -> bool:
        """Go on with a judge that a person has accepted meanwhile, and say whether there was one; see the context.

        Raises:
            Permanent: it cannot be loaded any more; nothing is changed.
        """
        if not self._models.was_accepted(self._assembly.judge):
            return False
        self._assembly.take_the_judge_anew()
        self._judge_after = float("-inf")
        return True

    def tools(self, repeat: int) -> Assembly:
        """Return what the ``repeat``-th review of an adapter works with."""
        return self._assembly.again(repeat)

    def suspicion(self, adapter: Adapter) -> float | None:
        """Return how suspicious an arrival's files alone make it, 0 to 1; None where nothing tells."""
        return self._assembly.suspicion(adapter)

    @property
    def context(self) -> Context:
        """What a first review is done under."""
        return self._assembly.context

    @property
    def usage(self) -> Usage:
        """What the judge has cost since it was loaded."""
        return self._assembly.judge.usage

    def draw_a_canary(self) -> bool:
        """Draw what one promoted adapter is proved with on its servers, and say whether there was one to draw."""
        if not self._proves or self._monotonic() < self._canaries_after:
            return False
        for digest in self._ledger.fleet.without_canaries():
            adapter = Adapter(home_of(digest, self._state.promoted), digest, digest)
            try:
                canaries = draw_canaries(self._models.engine, adapter, self._assembly.materials.suites)
            except Exception as error:  # whatever it is, it must stop neither reviews nor the other adapters
                log.warning("no canary could be drawn", adapter=digest, cause=str(error))
                continue
            self._ledger.fleet.keep_canaries(digest, canaries)
            return True
        self._canaries_after = self._monotonic() + _CANARY_PAUSE if self._ledger.fleet.without_canaries() else 0.0
        return False

    def look_at_the_judge(self) -> bool:
        """Hold the judge to its canaries where nobody has for too long, and say whether it was asked."""
        every, now = self._judge_every, self._monotonic()
        if every is None or now < self._judge_after:
            return False
        self._judge_after = now + min(_JUDGE_PAUSE, every.total_seconds())
        try:
            stability = self._assembly.judge_stability
            if stability is None or not self._assembly.judge_counts or not stability.is_due(every):
                return False
            found = stability.examine(every)
        except Exception as error:  # whatever it is, reviews go on: they look for themselves, and fail for themselves
            self._judge_after = self._monotonic() + _AFTER_TROUBLE
            log.warning("the judge could not be looked at", cause=str(error), next_attempt_in=_AFTER_TROUBLE)
            return True
        # Counted from here and not asked of the ledger: of a judge that scores no transcript nothing is kept there.
        self._judge_after = self._monotonic() + every.total_seconds()
        _tell(found)
        return True

    def _note_judges(self, assembly: Assembly) -> None:
        """Load the judge, and note which ones the metrics tell of: those that are held to something."""
        singles = single_judges(assembly.judge) if assembly.policy.judging.canaries.kept else ()
        self._ledger.judge_canaries.use([plain_id(one.id) for one in singles])

    def _assemble(self, configuration: ServiceConfiguration) -> Assembly:
        company = Company(self._ledger, self._state, configuration.asked_together)
        assembly = Assembly(self._models, load_policy(configuration.policy), self._progress, company=company)
        assembly.check()
        return assembly


def _tell(found: Sequence[Result]) -> None:
    """Log what a look at the judge has found."""
    troubles = [result.reason for result in found if isinstance(result, Inconclusive)]
    for reason in troubles:
        log.error("the judge cannot be relied on, and nothing is promoted", cause=reason)
    if not troubles:
        shifts = [result.value for result in found if isinstance(result, Finding) and result.measure == "judge_shift"]
        log.info("the judge was looked at", points=max(shifts, default=None))
