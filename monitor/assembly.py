"""Builds what a review works with: engine, judge, suites, guards and remedies, from a policy and a base."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import assert_never

import torch

from adapters.base_model import digest_base
from adapters.transformers_engine import TransformersEngine
from guards.activity import ActivityGuard
from guards.battery import BatteryGuard
from guards.errors import Permanent
from guards.interface import Guard, Memory, Progress, Remedy
from guards.judges.build import build_judge
from guards.judges.remembered import RememberedJudge
from guards.reference import Reference, load_reference
from guards.remedies.benign_finetune import BenignFinetuneRemedy, read_benign_data
from guards.remedies.project import ProjectRemedy
from guards.structure import StructureGuard
from guards.subspace import SubspaceGuard
from guards.suites.battery_jsonl import load_suite
from guards.suites.suite import Suite
from monitor.review import Context
from policies.policy import JudgeSettings, Policy, RemedyName


@dataclass
class Models:
    """What is loaded once, when first needed, and stays loaded: the base, and the judge last asked for."""

    base: Path | str
    """Folder or Hub id of the base."""
    memory: Memory
    """Finished answers and judgements."""
    device: str | None = None
    """For instance ``cuda:1``; chosen when None."""
    dtype: torch.dtype | None = None
    """Of the base's weights; chosen when None."""
    announce: Callable[[str], None] = field(default=lambda _text: None)
    """Told in a few words what is being loaded."""

    @cached_property
    def base_digest(self) -> str:
        """SHA-256 over the base's files."""
        return digest_base(self.base)

    @cached_property
    def engine(self) -> TransformersEngine:
        """The base, loaded."""
        self.announce("loading the base")
        return TransformersEngine(self.base, device=self.device, dtype=self.dtype)

    def judge(self, settings: JudgeSettings) -> RememberedJudge:
        """The judge with these settings, asked at most once about the same transcript."""
        if self._judge is None or self._judge[0] != settings:
            self.announce("loading the judge")
            self._judge = settings, RememberedJudge(build_judge(settings), self.memory)
        return self._judge[1]

    _judge: tuple[JudgeSettings, RememberedJudge] | None = field(default=None, init=False, repr=False)


@dataclass
class Assembly:
    """Everything for reviewing adapters of one base under one policy."""

    models: Models
    """The base and its judges, shared by the assemblies of several policies."""
    policy: Policy
    """The policy, its paths absolute."""
    progress: Progress = lambda *_: None
    """Told how far long work has come."""
    first: Assembly | None = None
    """What this repeats with another seed; None for a first look."""

    def again(self, repeat: int) -> Assembly:
        """Return the same for a later look at an adapter: another seed draws other answers in another order."""
        if repeat == 0:
            return self
        answering = self.policy.answering
        reseeded = answering.model_copy(update={"seed": answering.seed + repeat})
        first = self.first or self
        return replace(self, policy=self.policy.model_copy(update={"answering": reseeded}), first=first)

    def check(self) -> None:
        """Read everything that a user may have got wrong, before any work is begun.

        Raises:
            Permanent: a suite, the Reference or the benign data cannot be used, or no judge or suite is named.
        """
        if not self.policy.suites:
            raise Permanent("the policy names no suite, so there is nothing to ask; add a folder under 'suites:'")
        if self.policy.judge is None:
            raise Permanent("the policy names no judge; add 'judge: {kind: openai, base_url: …, model: …}'")
        _ = self.suites, self.reference
        if "benign_finetune" in self.policy.remedies:
            read_benign_data(self.policy.remedying)

    @cached_property
    def suites(self) -> tuple[Suite, ...]:
        """The policy's suites, loaded whole."""
        return tuple(load_suite(folder) for folder in self.policy.suites)

    @cached_property
    def reference(self) -> Reference | None:
        """The base's Reference, where the policy names one."""
        if self.policy.reference is None:
            return None
        reference = load_reference(self.policy.reference)
        reference.require(self.models.base_digest)
        return reference

    @cached_property
    def judge(self) -> RememberedJudge:
        """The policy's judge."""
        if self.policy.judge is None:
            raise Permanent("the policy names no judge")
        return self.models.judge(self.policy.judge)

    @cached_property
    def context(self) -> Context:
        """What adapters are examined against. A repeat's is the first look's: the seed makes no other policy of it."""
        if self.first is not None:
            return self.first.context
        policy = self.policy.model_dump_json(exclude={"suites", "judge", "reference"})
        return Context(
            base=str(self.models.base),
            base_digest=self.models.base_digest,
            policy=self.policy.name,
            policy_digest="sha256-" + hashlib.sha256(policy.encode()).hexdigest(),
            suites=_by_name(self.suites),
            judge=self.judge.id,
            reference=self.reference.digest if self.reference else None,
        )

    def guards(self) -> Iterator[Guard]:
        """Every guard, the cheapest first: files, then one forward pass, then many answers."""
        yield self._structure
        yield from self._model_guards

    def remedies(self) -> Iterator[Remedy]:
        """The policy's remedies, in its order, each built when it is reached; none in observe mode."""
        if self.policy.mode == "enforce":
            yield from map(self._remedy, self.policy.remedies)

    @cached_property
    def _structure(self) -> StructureGuard:
        return StructureGuard(Path(self.models.base), self.policy.base_names)

    @cached_property
    def _model_guards(self) -> tuple[Guard, ...]:
        screens = [SubspaceGuard(self.models.engine, self.reference)] if self.reference else []
        battery = BatteryGuard(
            self.models.engine, self.judge, self.suites, self.policy, self.models.memory, self.progress
        )
        return (ActivityGuard(self.models.engine, self.suites), *screens, battery)

    def _remedy(self, name: RemedyName) -> Remedy:
        match name:
            case "project":
                if self.reference is None:
                    raise Permanent("the project remedy needs 'reference' in the policy")
                return ProjectRemedy(self.reference)
            case "benign_finetune":
                return BenignFinetuneRemedy(self.models.engine, self.policy.remedying, self.progress)
            case _:
                assert_never(name)


def _by_name(suites: Sequence[Suite]) -> dict[str, str]:
    """Digest by name; where folders share a name, the second is called ``name (2)``, so that none is hidden."""
    named: dict[str, str] = {}
    for suite in suites:
        name, number = suite.name, 1
        while name in named:
            number += 1
            name = f"{suite.name} ({number})"
        named[name] = suite.digest
    return named
