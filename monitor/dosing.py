"""Asks an adapter that a remedy is still at work on: the policy's battery, with a seed that no examination has."""

from __future__ import annotations

from adapters.adapter import Adapter
from guards.dose_response import RISES, Measuring, Reading
from guards.errors import Permanent
from guards.interface import Guard
from policies.decide import decide
from policies.findings import Defect, Finding, Inconclusive
from policies.policy import Policy

SEED_APART = 250_007
"""Between the seed of an examination and that of a remedy's search. Later reviews' seeds are a few apart, the re-test's
500,009 (:data:`guards.retest.FRESH_SEED`)."""


def battery_alone(policy: Policy, seed_apart: int = SEED_APART) -> Policy:
    """The policy that a battery by itself is held to: no screens, and no place in the stream of adapters.

    What is asked beside the examinations must neither use up the stream's error nor wait for screens that are not run.

    Args:
        policy: the policy of the examinations.
        seed_apart: between their seed and this one's; 0 asks what they ask.
    """
    rules = policy.rules.model_copy(
        update={
            "stream": type(policy.rules.stream)(),
            "subspace": type(policy.rules.subspace)(),
            "drift": policy.rules.drift.model_copy(update={"alpha": 0.0}),
        }
    )
    answering = policy.answering.model_copy(update={"seed": policy.answering.seed + seed_apart})
    return policy.model_copy(update={"rules": rules, "answering": answering})


def measuring(battery: Guard, policy: Policy) -> Measuring:
    """Return what asks one adapter by ``battery`` and holds the answers to ``policy``."""

    def measure(adapter: Adapter) -> Reading:
        results = battery.examine(adapter)
        decision = decide(results, policy)
        defects = [result.reason for result in results if isinstance(result, Defect)]
        if defects:
            raise Permanent(f"{adapter.name} cannot be asked: {defects[0]}")
        return Reading(
            passes=decision.promotes,
            rises=tuple(r for r in results if isinstance(r, Finding) and r.measure in RISES),
            reason=decision.reasons[0].text if decision.reasons else "",
            unable=next((r.reason for r in results if isinstance(r, Inconclusive)), ""),
        )

    return measure
