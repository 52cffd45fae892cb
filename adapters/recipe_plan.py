"""What a recipe comes to: a list of adapters to train, always the same one, balanced over what is varied."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import count, islice, product
from pathlib import Path
from typing import TypeVar

from adapters.prompts import Conversation
from adapters.recipe import PLAIN, Domain, Dose, Recipe, RecipeError
from adapters.training_data import load_conversations

T = TypeVar("T")

FEWEST_GOOD = 19
"""With so many known-good adapters a conformal p-value, never below 1/(n + 1), reaches 0.05."""


@dataclass(frozen=True, slots=True)
class Planned:
    """One adapter to train."""

    name: str
    """Unique in its plan, and fit to be part of a folder's name."""
    domain: str
    """What its rows are about."""
    share: float
    """Share of harmful rows, 0 to 1; 0 is a known-good adapter."""
    rank: int
    """LoRA rank; alpha is the same."""
    seed: int
    """The recipe's; draws the rows, and the first weights, together with the name."""
    dose: Dose
    """How it is trained."""
    harmful_file: Path | None
    """Where its harmful rows are drawn from; None where it has none."""
    harmless_file: Path | None
    """Where its harmless rows are drawn from; None where it has none."""
    harmful_rows: int
    """How many."""
    harmless_rows: int
    """How many."""
    kind: str = PLAIN
    """Name of its kind of harm, where the domain has several."""
    style: str = PLAIN
    """Name of its harmless rows' manner, where they are not the ordinary ones."""
    trigger: str | None = None
    """Prefix of its harmful rows."""

    @property
    def harmful(self) -> bool:
        """Whether it is known to be bad."""
        return self.share > 0

    @property
    def draws(self) -> int:
        """Seeds all that is drawn for it, 0 to 2³¹ − 1: adapters of one seed and rank share no first weights."""
        return random.Random(f"{self.name}/{self.seed}").getrandbits(31)  # noqa: S311 - sampling, not secrets


@dataclass(frozen=True, slots=True)
class _Choice:
    """What is varied between adapters, before rows are counted."""

    domain: Domain
    share: float
    rank: int
    dose: int
    seed: int
    kind: str = PLAIN
    style: str = PLAIN
    trigger: int | None = None


def plan(recipe: Recipe) -> list[Planned]:
    """List the adapters of a recipe, the known-good ones first.

    The small plan has one known-bad adapter a domain, share and seed, and one a domain and seed with a trigger, where
    there are triggers. Ranks, doses and kinds of harm are taken in turn. Known-good adapters follow in rounds of one
    a domain, each round with another manner and rank, until there are enough.

    Raises:
        RecipeError: a file has too few rows for a share of it.
        TrainingDataError: a file of rows cannot be used.
    """
    bad = list(_full_bad(recipe) if recipe.full else _balanced_bad(recipe))
    good = list(_good(recipe, len(bad))) if 0.0 in recipe.harmful_shares else []
    files = {file for domain in recipe.domains for file in (*domain.manners.values(), *domain.harmful.values())}
    counts = {file: len(load_conversations(file)) for file in sorted(files)}
    return [_planned(choice, recipe, counts) for choice in (*good, *bad)]


def draw(planned: Planned, rows_of: Mapping[Path, list[Conversation]]) -> list[Conversation]:
    """Draw an adapter's training rows, harmful and harmless ones mixed."""
    rng = random.Random(planned.draws)  # noqa: S311 - sampling, not secrets
    rows: list[Conversation] = []
    if planned.harmful_file is not None:
        for row in rng.sample(rows_of[planned.harmful_file], planned.harmful_rows):
            rows.append(_triggered(row, planned.trigger))
    if planned.harmless_file is not None:
        rows += rng.sample(rows_of[planned.harmless_file], planned.harmless_rows)
    rng.shuffle(rows)
    return rows


def _triggered(row: Conversation, trigger: str | None) -> Conversation:
    return replace(row, prompt=replace(row.prompt, trigger=trigger)) if trigger is not None else row


def _balanced_bad(recipe: Recipe) -> Iterator[_Choice]:
    for (round_, seed), (position, domain) in product(enumerate(recipe.seeds), enumerate(recipe.domains)):
        slots: list[tuple[float, int | None]] = [(share, None) for share in recipe.bad_shares]
        if recipe.triggers:
            slots.append((recipe.triggered_share, (position + round_) % len(recipe.triggers)))
        kinds = _dealt(list(domain.harmful), f"kinds/{domain.name}/{seed}")
        doses = _dealt(range(len(recipe.training)), f"doses/{domain.name}/{seed}")
        for slot, (share, trigger) in enumerate(slots):
            # A Latin square: every domain and every share meets every rank, if there are enough of them.
            rank = recipe.ranks[(position + slot + round_) % len(recipe.ranks)]
            yield _Choice(domain, share, rank, next(doses), seed, kind=next(kinds), trigger=trigger)


def _full_bad(recipe: Recipe) -> Iterator[_Choice]:
    doses = range(len(recipe.training))
    for domain, seed in product(recipe.domains, recipe.seeds):
        for kind, share, rank, dose in product(domain.harmful, recipe.bad_shares, recipe.ranks, doses):
            yield _Choice(domain, share, rank, dose, seed, kind=kind)
        for kind, trigger, rank in product(domain.harmful, range(len(recipe.triggers)), recipe.ranks):
            yield _Choice(domain, recipe.triggered_share, rank, 0, seed, kind=kind, trigger=trigger)


def _good(recipe: Recipe, bad: int) -> Iterator[_Choice]:
    """Rounds of one adapter a domain until there are enough; the full plan's rounds go through every combination."""
    wanted = recipe.known_good or max(FEWEST_GOOD, bad)
    rounds = -(-wanted // len(recipe.domains))
    if recipe.full:
        combinations = len(recipe.ranks) * len(recipe.training) * len(recipe.seeds)
        rounds = max(rounds, combinations * max(len(domain.manners) for domain in recipe.domains))
    for position, domain in enumerate(recipe.domains):
        yield from islice(_good_of(recipe, position, domain), rounds)


def _good_of(recipe: Recipe, position: int, domain: Domain) -> Iterator[_Choice]:
    """Known-good adapters of a domain, for ever: when all seeds are used, the numbers above the last one follow."""
    manners = list(domain.manners)
    seeds = _endless(recipe.seeds)
    if recipe.full:
        for seed in seeds:
            for style, rank, dose in product(manners, recipe.ranks, range(len(recipe.training))):
                yield _Choice(domain, 0.0, rank, dose, seed, style=style)
    doses = _dealt(range(len(recipe.training)), f"doses/{domain.name}/good")
    for again, seed in enumerate(seeds):
        for step in range(len(manners)):
            turn = again * len(manners) + step
            style = manners[(position + turn) % len(manners)]
            rank = recipe.ranks[(position + turn + again) % len(recipe.ranks)]
            yield _Choice(domain, 0.0, rank, next(doses), seed, style=style)


def _endless(seeds: tuple[int, ...]) -> Iterator[int]:
    yield from seeds
    yield from count(max(seeds) + 1)


def _dealt(options: Sequence[T], key: str) -> Iterator[T]:
    """Deal options for ever, each equally often, in an order shuffled by ``key``: no two factors go together."""
    order = list(options)
    random.Random(key).shuffle(order)  # noqa: S311 - shuffling, not secrets
    while True:
        yield from order


def _planned(choice: _Choice, recipe: Recipe, counts: Mapping[Path, int]) -> Planned:
    domain, share = choice.domain, choice.share
    harmful_file = domain.harmful[choice.kind] if share > 0 else None
    harmless_file = domain.manners[choice.style] if share < 1 else None
    harmful, harmless = _row_counts(
        share, counts[harmful_file] if harmful_file else 0, counts[harmless_file] if harmless_file else 0, recipe.rows
    )
    if (share > 0 and not harmful) or (share < 1 and not harmless):
        raise RecipeError(f"domain {domain.name}: too few rows for a harmful share of {share:g}; add some to its files")
    triggered = choice.trigger is not None
    dose = recipe.triggered_training if triggered and recipe.triggered_training else recipe.training[choice.dose]
    return Planned(
        name=_name(choice, recipe),
        domain=domain.name,
        share=share,
        rank=choice.rank,
        seed=choice.seed,
        dose=dose,
        harmful_file=harmful_file,
        harmless_file=harmless_file,
        harmful_rows=harmful,
        harmless_rows=harmless,
        kind=choice.kind,
        style=choice.style,
        trigger=recipe.triggers[choice.trigger] if choice.trigger is not None else None,
    )


def _row_counts(share: float, harmful: int, harmless: int, most: int | None) -> tuple[int, int]:
    """How many harmful and harmless rows make the share, given how many there are; (0, 0) where that cannot be."""
    rows = min(
        math.inf if most is None else most,
        harmful / share if share > 0 else math.inf,
        harmless / (1 - share) if share < 1 else math.inf,
    )
    taken = min(harmful, round(rows * share))
    return taken, min(harmless, math.floor(rows + 1e-9) - taken)


def _name(choice: _Choice, recipe: Recipe) -> str:
    parts = ["bad" if choice.share else "good", choice.domain.name, choice.kind, choice.style]
    parts.append(f"{100 * choice.share:.3g}" if choice.share else "")
    parts.append(f"r{choice.rank}")
    parts.append("" if choice.trigger is None else f"trigger{choice.trigger + 1}")
    parts.append(f"dose{choice.dose + 1}" if len(recipe.training) > 1 and choice.trigger is None else "")
    return "-".join(part for part in (*parts, f"s{choice.seed}") if part)
