"""What a policy names, read from its files: suites, Reference, training data, questions, calibration."""

from __future__ import annotations

from functools import cached_property

from adapters.prompts import Conversation, Prompt
from guards.benign_data import read_benign_data, read_neutral_data
from guards.judges.calibration import Calibration, load_calibration
from guards.judges.planted import read_plants
from guards.judges.transcripts import read_transcripts
from guards.membership import read_training_data
from guards.reference import Reference, load_reference
from guards.relearning import read_rows
from guards.retest import refuse_hopeless
from guards.skill import read_questions
from guards.suites.apart import told_apart
from guards.suites.load import load_suite
from guards.suites.suite import Suite
from guards.suites.variants import expanded
from monitor.models import Models
from policies.policy import Policy


class Materials:
    """Each is read when it is first asked for, and once."""

    def __init__(self, policy: Policy, models: Models) -> None:
        """Take a policy, its paths absolute, and the base that its Reference has to be of."""
        self._policy, self._models = policy, models

    def check(self) -> None:
        """Read everything.

        Raises:
            Permanent: something of it cannot be used; file and place are named.
        """
        _ = self.suites, self.reference, self.training_data, self.calibration
        if self._policy.judging.planted_harm is not None:
            read_plants(self._policy.judging.planted_harm)
        if self._policy.judging.canaries.file is not None:
            read_transcripts(self._policy.judging.canaries.file)
        refuse_hopeless(self._policy, self.suites)
        read_rows(self._policy.retest.relearning)
        _ = self.skill_questions
        if "benign_finetune" in self._policy.remedies:
            read_benign_data(self._policy.remedying)
            read_neutral_data(self._policy.remedying)

    @cached_property
    def suites(self) -> tuple[Suite, ...]:
        """The policy's suites, loaded whole, with the variants of their questions that the policy asks for."""
        return told_apart([expanded(load_suite(folder), self._policy.variants) for folder in self._policy.suites])

    @cached_property
    def reference(self) -> Reference | None:
        """The base's Reference, where the policy names one."""
        if self._policy.reference is None:
            return None
        reference = load_reference(self._policy.reference)
        reference.require(self._models.base_digest)
        return reference

    @cached_property
    def training_data(self) -> list[Conversation]:
        """What adapters are trained on, where the policy names it; else no rows."""
        path = self._policy.screening.training_data
        return [] if path is None else read_training_data(path)

    @cached_property
    def skill_questions(self) -> list[Prompt]:
        """What is asked of the adapter's own task, where the policy names suites of it; else nothing."""
        return read_questions(self._policy.retest.skill)

    @cached_property
    def calibration(self) -> Calibration | None:
        """How good the judge is, where the policy says where that is kept."""
        path = self._policy.judging.calibration
        return None if path is None else load_calibration(path)

    @cached_property
    def suite_digests(self) -> dict[str, str]:
        """By name; where folders share a name, the second is called ``name (2)``, so that none is hidden."""
        named: dict[str, str] = {}
        for suite in self.suites:
            name, number = suite.name, 1
            while name in named:
                number += 1
                name = f"{suite.name} ({number})"
            named[name] = suite.digest
        return named
