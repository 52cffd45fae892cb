"""What the service reviews with: the models, loaded once, and the tools of the present policy."""

from __future__ import annotations

import time
from collections.abc import Callable

import torch

from adapters.adapter import Adapter
from adapters.intake import home_of
from guards.canaries import draw_canaries
from guards.interface import Progress
from guards.judges.usage import Usage
from monitor.assembly import Assembly, Models
from monitor.base_names import dtype_named, known_base
from monitor.configuration import ServiceConfiguration
from monitor.ledger import Ledger
from monitor.logs import logger
from monitor.review import Context
from monitor.state import StateFolder
from monitor.waiting import Company
from policies.policy import load_policy

log = logger("workbench")

_CANARY_PAUSE = 60.0


class Workbench:
    """The models of one base, and the tools of the present policy."""

    def __init__(
        self,
        configuration: ServiceConfiguration,
        ledger: Ledger,
        state: StateFolder,
        progress: Progress,
        announce: Callable[[str], None],
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
        self._canaries_after = float("-inf")

    def load(self) -> None:
        """Load base and judge, which stay loaded.

        Raises:
            BaseUnloadable: the base cannot be loaded.
            Permanent: the judge cannot.
        """
        _ = self._models.engine, self._assembly.judge

    def take_over(self, configuration: ServiceConfiguration) -> None:
        """Go on with another policy; where it cannot be used, the present one stays.

        Raises:
            PolicyError, Permanent: the policy, or something that it names, cannot be used.
        """
        assembly = self._assemble(configuration)
        _ = assembly.judge
        self._assembly = assembly
        self._proves = bool(configuration.fleet)

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
        if not self._proves or time.monotonic() < self._canaries_after:
            return False
        for digest in self._ledger.fleet.without_canaries():
            adapter = Adapter(home_of(digest, self._state.promoted), digest, digest)
            try:
                canaries = draw_canaries(self._models.engine, adapter, self._assembly.suites)
            except Exception as error:  # whatever it is, it must stop neither reviews nor the other adapters
                log.warning("no canary could be drawn", adapter=digest, cause=str(error))
                continue
            self._ledger.fleet.keep_canaries(digest, canaries)
            return True
        self._canaries_after = time.monotonic() + _CANARY_PAUSE if self._ledger.fleet.without_canaries() else 0.0
        return False

    def _assemble(self, configuration: ServiceConfiguration) -> Assembly:
        company = Company(self._ledger, self._state, configuration.asked_together)
        assembly = Assembly(self._models, load_policy(configuration.policy), self._progress, company=company)
        assembly.check()
        return assembly
