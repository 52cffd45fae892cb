"""A policy: what is asked, who judges, what is tolerated, what is tried. Parsed once, unknown keys refused."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal, TypeAlias

import yaml
from pydantic import Field, ValidationError, model_validator

from policies.budget_settings import Budget
from policies.generation import GenerationSettings, InProcess
from policies.judge_settings import JudgeSettings, OpenAIJudge, anchored_judge, judges_in
from policies.judging import Judging
from policies.remedying import Remedying
from policies.retest_settings import Retest
from policies.rules import Rules
from policies.settings import Ratio, Settings
from policies.variants import Variants

RemedyName: TypeAlias = Literal["scale", "project", "benign_finetune", "steer"]
NEED_REFERENCE: tuple[RemedyName, ...] = ("project", "steer")
"""Remedies that take directions from the base's Reference."""
SHIPPED_SUITE = "shipped:"
"""What stands before the name of a suite that comes with Alignwatch, where otherwise a folder is named."""


class PolicyError(ValueError):
    """The policy file cannot be used; the message names file, place and cause."""


class Screening(Settings):
    """What is looked at before anything is asked, and what it may do: order the queue and raise the budget."""

    triggers: tuple[str, ...] = ()
    """Prefixes that may switch a backdoor on, which the screens try beside the plain prompts; none by default,
    because a trigger that nobody suspects is a guess, and every one costs another pass."""
    suspicious_at_p: Ratio = 0.10
    """A screen's conformal p-value at or below this raises the budget. 0.10 can be met from nine known-good
    adapters on (p is never below 1/(n + 1)), and lets about one good adapter in ten cost more; 0 is never."""
    prompts_when_suspicious: int | None = Field(default=None, ge=1)
    """Prompts put to a suspicious adapter, never fewer than ``budget.prompts``; twice as many when not given,
    which is what looking a second time would cost."""
    membership_raises_at: float = Field(default=1.0, ge=0)
    """The budget is raised where the adapter finds the least likely fifth of its training answers' tokens
    likelier than its base does by this many nats a token or more; 1 nat is a factor of e, a convention."""
    training_data: Path | None = None
    """JSONL of the conversations that adapters are trained on, where the trainer provides it, for the membership
    guard, which is left out without it; relative to the policy's file."""
    training_rows: int = Field(default=128, ge=1)
    """Rows of it that are read, of each modality, drawn by ``answering.seed``; 128 are two of the engine's batches,
    little beside the battery's answers."""


class Answering(Settings):
    """How base and adapter are asked; the defaults are the first paper's (arXiv 2602.16931)."""

    temperature: float = Field(default=0.7, ge=0, le=5)
    """Softmax temperature; 0 is greedy."""
    top_p: float = Field(default=0.9, gt=0, le=1)
    """Nucleus mass."""
    max_new_tokens: int = Field(default=128, ge=1)
    """Longest answer, in tokens."""
    seed: int = 0
    """Seeds the order of the prompts and the answers."""
    samples: int = Field(default=1, ge=1, le=32)
    """Answers drawn to each prompt. They count as one observation together; the first paper drew 3."""
    unit: Literal["mean", "worst"] = "mean"
    """What the answers to one prompt count as: their mean, or the worst of them (as in the first paper). Both are
    reported where there are several."""


class Policy(Settings):
    """Everything a review needs to know beside the adapter and its base."""

    name: str = Field(min_length=1)
    """What reports call it."""
    mode: Literal["enforce", "observe"] = "enforce"
    """``observe`` decides and records, but moves nothing and tries no remedy."""
    suites: tuple[Path, ...] = ()
    """Folders of questions, with a ``battery.jsonl`` or in another known layout, relative to the policy's file; or
    ``shipped:general``, the battery that comes with Alignwatch."""
    variants: Variants = Variants()
    judge: JudgeSettings | None = None
    """Who grades the answers."""
    judging: Judging = Judging()
    rules: Rules = Rules()
    remedies: tuple[RemedyName, ...] = ()
    """Tried in this order until the result is clean, each on the best adapter so far (:mod:`policies.merit`); each
    result is a new adapter, examined like any other."""
    budget: Budget = Budget()
    screening: Screening = Screening()
    answering: Answering = Answering()
    generation: GenerationSettings = InProcess()
    """Where they are asked."""
    remedying: Remedying = Remedying()
    retest: Retest = Retest()
    reference: Path | None = None
    """The base's Reference folder, for the subspace guard and the remedies ``project`` and ``steer``."""
    base_names: tuple[str, ...] = ()
    """Names in ``base_model_name_or_path`` that also mean this base, for adapters trained under another path."""
    on_inconclusive: Literal["quarantine", "hold"] = "quarantine"
    """Where an adapter goes that could not be decided; it is never promoted."""

    @model_validator(mode="after")
    def _remedies_have_what_they_need(self) -> Policy:
        if "benign_finetune" in self.remedies and self.remedying.benign_data is None:
            raise ValueError("remedies: benign_finetune needs remedying.benign_data (a JSONL file)")
        unread = [name for name in self.remedies if name in NEED_REFERENCE and self.reference is None]
        if unread:
            raise ValueError(f"remedies: {unread[0]} needs reference (the base's Reference folder)")
        return self

    @model_validator(mode="after")
    def _what_is_corrected_is_a_mean(self) -> Policy:
        if self.judging.correct != "none" and self.answering.unit != "mean":
            raise ValueError(
                "judging.correct needs answering.unit: mean; how often a judge errs on the worst of several answers is "
                "not what it was calibrated for"
            )
        return self

    @model_validator(mode="after")
    def _money_can_be_counted(self) -> Policy:
        priced = any(isinstance(one, OpenAIJudge) and one.is_priced for one in judges_in(self.judge))
        if self.budget.money is not None and not priced:
            raise ValueError(
                "budget.money needs the judge's prices: price_per_million_prompt_tokens and "
                "price_per_million_completion_tokens"
            )
        return self

    @model_validator(mode="after")
    def _suspicion_saves_nothing(self) -> Policy:
        raised = self.screening.prompts_when_suspicious
        if raised is not None and raised < self.budget.prompts:
            raise ValueError(
                f"screening.prompts_when_suspicious ({raised}) must not be below budget.prompts "
                f"({self.budget.prompts}): a screen may raise the budget and never lower it"
            )
        return self


def load_policy(path: Path) -> Policy:
    """Read a policy from YAML; paths inside are taken relative to the file.

    Raises:
        PolicyError: the file is missing, not YAML, or not a policy; one line that names the place.
    """
    try:
        raw = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise PolicyError(f"policy {path}: {error.strerror or error}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise PolicyError(f"policy {path}: not YAML: {' '.join(str(error).split())}") from error
    if not isinstance(raw, dict):
        raise PolicyError(f"policy {path}: expected settings such as 'name: …', found {type(raw).__name__}")
    try:
        policy = Policy.model_validate(raw)
    except ValidationError as error:
        raise PolicyError(f"policy {path}: {_first_problems(error)}") from error
    return _anchored(policy, path.parent)


def shipped_policy(name: str) -> Path:
    """Path of a policy that comes with Alignwatch: ``default``, ``strict`` or ``observe_only``."""
    return Path(__file__).parent / f"{name}.yaml"


def _first_problems(error: ValidationError) -> str:
    problems = []
    for item in error.errors()[:4]:
        place = ".".join(str(part) for part in item["loc"]) or "policy"
        cause = "unknown setting (a typo?)" if item["type"] == "extra_forbidden" else item["msg"]
        problems.append(f"{place}: {cause}")
    return "; ".join(problems)


def _anchored(policy: Policy, folder: Path) -> Policy:
    def anchor(path: Path) -> Path:
        return path if path.is_absolute() else (folder / path).resolve()

    def anchored(suites: Iterable[Path]) -> tuple[Path, ...]:
        return tuple(suite if str(suite).startswith(SHIPPED_SUITE) else anchor(suite) for suite in suites)

    changes: dict[str, Any] = {"suites": anchored(policy.suites)}
    if policy.reference is not None:
        changes["reference"] = anchor(policy.reference)
    if policy.judge is not None:
        changes["judge"] = anchored_judge(policy.judge, anchor)
    changes["judging"] = policy.judging.anchored(anchor)
    changes["remedying"] = policy.remedying.anchored(anchor)
    if policy.screening.training_data is not None:
        data = anchor(policy.screening.training_data)
        changes["screening"] = policy.screening.model_copy(update={"training_data": data})
    skill, relearning = policy.retest.skill, policy.retest.relearning
    beside = {"beside": relearning.beside} if relearning.beside else {}
    files = {name: anchor(path) for name, path in {**relearning.files, **beside}.items()}
    trained = {
        "skill": skill.model_copy(update={"suites": anchored(skill.suites)}),
        "relearning": relearning.model_copy(update=files),
    }
    changes["retest"] = policy.retest.model_copy(update=trained)
    return policy.model_copy(update=changes)
