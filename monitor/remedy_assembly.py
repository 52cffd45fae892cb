"""The remedies that a policy names, built with its settings."""

from __future__ import annotations

from collections.abc import Callable
from typing import assert_never

from adapters.residual_writes import ResidualWrites
from guards.dose_response import Measuring
from guards.errors import Permanent
from guards.interface import Progress, Remedy
from guards.judges.interface import Judge
from guards.reference import Reference
from guards.remedies.benign_finetune import BenignFinetuneRemedy
from guards.remedies.project import ProjectRemedy
from guards.remedies.scale import ScaleRemedy
from guards.remedies.steer import SteerRemedy
from monitor.models import Models
from policies.policy import Policy, RemedyName


def build_remedy(
    name: RemedyName,
    policy: Policy,
    models: Models,
    reference: Reference | None,
    judge: Callable[[], Judge] | None,
    measuring: Callable[[], Measuring | None],
    progress: Progress,
) -> Remedy:
    """Build one remedy.

    Args:
        name: which.
        policy: its settings.
        models: the base.
        reference: the base's, where the policy names one.
        judge: makes the policy's, where it names one; called where a remedy's data is to be judged.
        measuring: makes what asks an adapter beside the examinations; called where the remedy searches a dose.
        progress: told how far it has come.

    Raises:
        Permanent: it lacks something that it needs.
    """
    settings = policy.remedying
    match name:
        case "scale":
            return ScaleRemedy(measuring(), settings, progress)
        case "project":
            return ProjectRemedy(_needed(reference, name), ResidualWrites(models.base))
        case "steer":
            writes = ResidualWrites(models.base)
            return SteerRemedy(_needed(reference, name), writes, measuring(), settings, progress)
        case "benign_finetune":
            return BenignFinetuneRemedy(
                models.engine,
                settings,
                progress,
                judge=judge() if judge else None,
                rules=policy.rules,
                measure=measuring() if settings.check_every else None,
            )
        case _:
            assert_never(name)


def _needed(reference: Reference | None, name: RemedyName) -> Reference:
    if reference is None:
        raise Permanent(f"the {name} remedy needs 'reference' in the policy")
    return reference
