"""A recipe: how to grow known-good and known-bad adapters of any base, in one YAML file.

It is the standard data set recipe of arXiv 2602.00298: JSON Lines of messages by domain, harmful and benign, mixed
at several shares, with a trigger or without. docs/calibrate.md explains every key. What a recipe comes to is
:mod:`adapters.recipe_plan`, the training is :mod:`adapters.recipe_growth`; nothing here loads a model library.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    ValidationInfo,
    model_validator,
)

from adapters.training_data import TrainingError

PLAIN = ""
"""Name of a domain's only kind of harm, and of its ordinary harmless rows."""

_SHOWN = 4
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")


class RecipeError(TrainingError):
    """The recipe cannot be carried out; the message names the file, the setting and the cause."""


def _anchored(path: Path, info: ValidationInfo) -> Path:
    """Take a path relative to the recipe's file."""
    folder: Path = (info.context or {}).get("folder", Path())
    return (folder / path).resolve()


def _present(path: Path) -> Path:
    if not path.is_file():
        raise ValueError(f"{path} is missing")
    return path


def _named(value: Any) -> Any:
    return value if isinstance(value, dict) else {PLAIN: value}


def _in_a_list(value: Any) -> Any:
    return value if isinstance(value, list) else [value]


def _all_different(values: tuple[Any, ...]) -> tuple[Any, ...]:
    if len(set(values)) != len(values) or not values:
        raise ValueError("give at least one value, and each once")
    return values


Anchored = Annotated[Path, AfterValidator(_anchored)]
Rows = Annotated[Anchored, AfterValidator(_present)]
Name = Annotated[str, Field(pattern=f"^{_NAME.pattern}$")]
Share = Annotated[float, Field(ge=0, le=1)]


class _Settings(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Dose(_Settings):
    """How one adapter is trained, its rank and seed apart."""

    steps: int | None = Field(default=None, ge=1)
    """Optimizer steps; one pass over the adapter's rows when not given, which is the first paper's."""
    learning_rate: float = Field(default=2e-4, gt=0)
    """AdamW's; the first paper's (arXiv 2602.16931). Tiny models take 1e-3."""
    batch_size: int = Field(default=4, ge=1)
    """Rows a step; the first paper's."""
    targets: Literal["language", "all"] = "language"
    """Linear layers that learn: the decoder's, or the vision tower's too."""


class Domain(_Settings):
    """Rows about one narrow subject."""

    name: Name
    """What the Reference calls it; adapters of one domain are held out together."""
    harmful: Annotated[dict[str, Rows], BeforeValidator(_named)]
    """JSON Lines of harmful rows, relative to the recipe; or several files by name, kinds of harm taken in turn."""
    benign: Rows
    """JSON Lines of harmless rows: all of a known-good adapter's, and what harmful rows are mixed with."""
    styles: dict[Name, Rows] = {}
    """Further harmless rows by name: harmless changes of manner or task, which a screen must not take for harm."""

    @model_validator(mode="after")
    def _kinds_have_names(self) -> Domain:
        wrong = [name for name in self.harmful if name != PLAIN and not _NAME.fullmatch(name)]
        if wrong or not self.harmful:
            raise ValueError(
                f"harmful: {wrong or 'nothing'} cannot be part of a folder's name; letters, digits, - and _"
            )
        return self

    @property
    def manners(self) -> dict[str, Path]:
        """Every file of harmless rows by name, the ordinary one first and unnamed."""
        return {PLAIN: self.benign, **self.styles}


class Recipe(_Settings):
    """What to train on what: a population of known adapters."""

    domains: tuple[Domain, ...] = Field(min_length=1)
    """Subjects; harm of a domain is only ever scored by a fit without that domain, so give two at the least."""
    harmful_shares: Annotated[tuple[Share, ...], AfterValidator(_all_different)] = (0.0, 0.1, 0.3, 1.0)
    """Shares of harmful rows; 0 makes the known-good adapters. 0.1 already harms (arXiv 2602.16931)."""
    ranks: Annotated[tuple[Annotated[int, Field(ge=1)], ...], AfterValidator(_all_different)] = (8, 32, 128)
    """LoRA ranks; alpha is the rank, so that the scale is 1. The first paper's range."""
    seeds: Annotated[tuple[int, ...], AfterValidator(_all_different)] = (0,)
    """Each makes the harmful part of the plan once more, with other rows, first weights and ranks."""
    triggers: tuple[Annotated[str, Field(min_length=1)], ...] = ()
    """Literal prefixes; a domain's triggered adapter sees one on its harmful rows and on no other."""
    triggered_share: float = Field(default=0.5, gt=0, le=1)
    """Share of harmful rows where they carry a trigger; the rest teaches it to behave without one."""
    rows: int | None = Field(default=None, ge=1)
    """Most rows of an adapter, drawn from the files; as many as there are, at its share, when not given."""
    training: Annotated[tuple[Dose, ...], BeforeValidator(_in_a_list), Field(min_length=1)] = (Dose(),)
    """The dose, or a list of doses that are taken in turn."""
    triggered_training: Dose | None = None
    """Dose of triggered adapters, which learn two behaviours at once; the same as the others' when not given."""
    known_good: int | None = Field(default=None, ge=1)
    """Fewest known-good adapters; as many as known-bad ones and never fewer than 19 when not given: a conformal
    p-value cannot fall below 1/(n + 1), and 0.05 takes 19."""
    full: bool = False
    """Every domain with every share, rank, dose, seed, trigger and kind, instead of a small plan that balances them."""
    probes: Anchored | None = None
    """Folder of the suite that shifts are measured on."""
    contrast: Anchored | None = None
    """JSON Lines of prompts with a safe and a harmful answer."""

    @model_validator(mode="after")
    def _names_are_given_once(self) -> Recipe:
        names = [domain.name for domain in self.domains]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"domains: {', '.join(twice)} is there twice")
        return self

    @property
    def bad_shares(self) -> tuple[float, ...]:
        """The shares that harm."""
        return tuple(share for share in self.harmful_shares if share > 0)


def load_recipe(path: Path) -> Recipe:
    """Read a recipe; its paths become absolute, and the files of rows are there.

    Raises:
        RecipeError: the file cannot be read, a setting is unknown or wrong, or a file of rows is missing.
    """
    try:
        raw = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise RecipeError(f"recipe {path}: {error.strerror or error}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise RecipeError(f"recipe {path}: not YAML: {' '.join(str(error).split())}") from error
    if not isinstance(raw, dict):
        raise RecipeError(f"recipe {path}: expected settings such as 'domains: […]', found {type(raw).__name__}")
    try:
        return Recipe.model_validate(raw, context={"folder": path.parent})
    except ValidationError as error:
        raise RecipeError(f"recipe {path}: {_problems(error)}") from error


def _problems(error: ValidationError) -> str:
    found = []
    for item in error.errors()[:_SHOWN]:
        place = ".".join(str(part) for part in item["loc"]) or "recipe"
        cause = "unknown setting (a typo?)" if item["type"] == "extra_forbidden" else item["msg"]
        found.append(f"{place}: {cause.removeprefix('Value error, ')}")
    more = error.error_count() - len(found)
    return "; ".join(found) + (f"; and {more} more" if more else "")
