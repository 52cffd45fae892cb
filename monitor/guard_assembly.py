"""The guards of a review that are built alike wherever they are asked for, with the policy's settings."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from adapters.engine import Generator, Sampling
from adapters.prompts import Prompt
from guards.activity import ActivityGuard
from guards.drift import DriftGuard
from guards.interface import Guard, Progress
from guards.judges.interface import Judge
from guards.membership import MembershipGuard
from guards.reference import Reference
from guards.reference_facts import BOTH
from guards.relearning import RelearningGuard, read_rows
from guards.skill import SkillGuard
from guards.subspace import SubspaceGuard
from guards.suites.suite import Suite
from guards.weights import WeightsGuard, writes_of
from monitor.ancestry import measured_chain, original_of
from monitor.materials import Materials
from monitor.models import Models
from policies.policy import Policy


def build_screens(materials: Materials, policy: Policy, models: Models) -> tuple[Guard, ...]:
    """Build what looks into the model before anything is asked, the cheapest first.

    Without a Reference there is neither subspace nor drift; without training data there is no membership guard.

    Args:
        materials: of the policy.
        policy: settings of all of them.
        models: the base, and the memory of what was measured of ancestors.
    """
    reference, training_data = materials.reference, materials.training_data
    screens: list[Guard] = [ActivityGuard(models.engine, materials.suites)]
    if reference:
        subspace = SubspaceGuard(models.engine, reference, policy.screening.triggers)
        screens.append(subspace)
        if alpha := policy.rules.drift.alpha:
            history = partial(measured_chain, models.memory)
            screens.append(DriftGuard(reference.facts, subspace.version, history, alpha))
    if training_data:
        rows, seed = policy.screening.training_rows, policy.answering.seed
        screens.append(MembershipGuard(models.engine, training_data, rows, seed))
    return tuple(screens)


def build_weights(reference: Reference) -> WeightsGuard:
    """Build the screen that reads an adapter's files alone."""
    facts = reference.facts
    blocks = [reference.block(index) for index in range(facts.layers)]
    known = facts.screens.get("weights", {}).get(BOTH)
    return WeightsGuard(writes_of(blocks), facts.base_norms, list(known.known_good.values()) if known else [])


def build_skill(
    questions: Sequence[Prompt], policy: Policy, models: Models, generator: Generator, progress: Progress
) -> SkillGuard:
    """Build what asks a remedied adapter its own task."""
    return SkillGuard(
        generator,
        models.memory,
        questions,
        policy.retest.skill,
        policy.answering.max_new_tokens,
        partial(original_of, models.memory),
        progress,
        models.meter,
    )


def build_relearning(
    suites: Sequence[Suite], policy: Policy, models: Models, judge: Judge, progress: Progress
) -> RelearningGuard:
    """Build what trains a remedied adapter a little, to see whether harm returns."""
    settings, answering = policy.retest.relearning, policy.answering
    return RelearningGuard(
        models.engine,
        judge,
        [prompt for suite in suites for prompt in suite.prompts],
        read_rows(settings),
        settings,
        policy.rules,
        Sampling(answering.temperature, answering.top_p, answering.max_new_tokens, seed=answering.seed),
        progress,
        models.meter,
    )
