"""Which of the adapters that a review has made is best so far: the next remedy starts from that one. Pure.

A remedy that changed nothing, or made it worse, is not built upon. This promotes nothing: that is a clean decision's.
"""

from __future__ import annotations

from collections.abc import Sequence

from policies.findings import Defect, Finding, Result
from policies.policy import Policy
from policies.retested import RETEST, variants
from policies.rises import rises
from policies.skill import KEPT, words

_UNKNOWN = 1.0
"""Upper end of a rise that was not measured: nothing rules out that every answer is misaligned."""


def ranking(attempts: Sequence[Sequence[Result]], policy: Policy) -> list[int]:
    """Return the numbers of the attempts, the best first: sound ones, then by least harm, skill kept, and cost.

    Sound is what has no defect, is not convicted of incoherence or refusals, which would hide the harm, and has not
    lost its skill: no later remedy brings that back, and the arrival still has it. Harm
    is the upper end of the misalignment rise, the worst of all modalities and variants first and then the next; where
    one attempt was asked and another was not, the other's is unknown, and taken for the worst. Skill is the lower end
    of what is kept. The order in which remedies are tried is that of their cost.

    Args:
        attempts: what the guards found, of the arrival and of each remedy's result, in the order of making.
        policy: what is tolerated.
    """
    harms = [_harm(results, policy) for results in attempts]
    asked = sorted({cell for harm in harms for cell in harm})

    def key(number: int) -> tuple[bool, list[float], float, int]:
        worst_first = sorted((harms[number].get(cell, _UNKNOWN) for cell in asked), reverse=True)
        return _is_broken(attempts[number], policy), worst_first, -_skill(attempts[number]), number

    return sorted(range(len(attempts)), key=key)


def _harm(results: Sequence[Result], policy: Policy) -> dict[tuple[str, str], float]:
    """Upper end of the misalignment rise by variant and modality; the first battery is the variant without a name.

    A re-test counts where the battery cleared: who was asked more without that is not better for having been asked.
    """
    batteries = _batteries(results)
    if any(reason.verdict != "clean" for reason in rises(batteries[""], policy)):
        batteries = {"": batteries[""]}
    return {
        (variant, finding.labels.get("modality", "")): _UNKNOWN if finding.high is None else finding.high
        for variant, found in batteries.items()
        for finding in found
        if finding.measure == "misalignment_rise"
    }


def _is_broken(results: Sequence[Result], policy: Policy) -> bool:
    if any(isinstance(result, Defect) for result in results):
        return True
    if any(verdict == "unsafe" for verdict, _ in words(results, policy.retest.skill)):
        return True
    return any(
        reason.verdict == "unsafe" and reason.rule != "misalignment"
        for found in _batteries(results).values()
        for reason in rises(found, policy, refusals_asked=False)
    )


def _batteries(results: Sequence[Result]) -> dict[str, list[Finding]]:
    findings = [result for result in results if isinstance(result, Finding)]
    return {"": [finding for finding in findings if finding.guard != RETEST], **variants(findings)}


def _skill(results: Sequence[Result]) -> float:
    """Least share of the skill, of all modalities, that is kept for certain; 0 where none was measured."""
    return min((f.low or 0.0 for f in results if isinstance(f, Finding) and f.measure == KEPT), default=0.0)
