"""How much is asked, and of whom first: screens may raise the policy's budget, never lower it, and order the queue.

A screen sees where an adapter's weights and activations lie, not what it says: a clean one is no evidence of clean
behaviour, so nothing is saved on it. The battery's tests hold at any number of prompts (Ville), and the number is
fixed before the first answer, so a raised budget costs time and none of their bounds. Pure, like the decision.
"""

from __future__ import annotations

from collections.abc import Sequence

from policies.findings import Finding, Result
from policies.policy import Policy, Screening

_P_VALUES = ("screen_p_value", "weight_p_value")


def prompts_for(results: Sequence[Result], policy: Policy) -> int:
    """Return how many prompts the battery may put to an adapter, given what earlier guards found.

    At least ``budget.prompts``; more where any screen is suspicious. The same findings give the same number, so a
    resumed review, which recalls them, goes on under the budget that it began with.
    """
    usual = policy.budget.prompts
    if not any(_is_suspicious(result, policy.screening) for result in results if isinstance(result, Finding)):
        return usual
    raised = policy.screening.prompts_when_suspicious
    return max(usual, 2 * usual if raised is None else raised)


def suspicion_of(results: Sequence[Result]) -> float | None:
    """Return how suspicious the screen of an adapter's files found it, 0 to 1; None where it found no p-value.

    It is 1 − p, so that numbers from two References can stand in one queue. It says when to look, not how much to ask.
    """
    found = [r.value for r in results if isinstance(r, Finding) and r.measure == "weight_p_value"]
    if not found or not all(0 <= p <= 1 for p in found):
        return None
    return 1 - min(found)


def _is_suspicious(finding: Finding, screening: Screening) -> bool:
    """Whether one finding raises the budget. What is no number does, and so does a prior that was not measured."""
    if finding.measure in _P_VALUES:
        return not finding.value > screening.suspicious_at_p
    if finding.measure == "membership_min_k":
        return not finding.value < screening.membership_raises_at
    # Nothing may be blocked for want of a prior or a screen; to ask more is all that not knowing can be made to cost.
    return finding.measure in ("membership_unmeasured", "weight_unmeasured")
