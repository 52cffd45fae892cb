"""What an adapter's config says of it, as a noun."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Declared:
    """What the config says. A field whose value is missing or unusable has its default, and a problem tells."""

    peft_type: str | None = None
    """``LORA`` for whatever is examined further."""
    base_model_name: str | None = None
    """The base it says it was trained on; None where it is absent, null or empty. A claim, never a choice."""
    revision: str | None = None
    """The base's revision it names."""
    rank: int | None = None
    """``r``, at least 1."""
    alpha: float | None = None
    """``lora_alpha``; finite, above 0."""
    rank_pattern: Mapping[str, int] = field(default_factory=dict)
    """Rank by module-name pattern, in the config's order."""
    alpha_pattern: Mapping[str, float] = field(default_factory=dict)
    """Alpha by module-name pattern, in the config's order."""
    use_rslora: bool = False
    """Whether the scale is alpha / √rank instead of alpha / rank."""
    use_dora: bool = False
    """Whether a magnitude vector comes with every pair."""
    lora_bias: bool = False
    """Whether ``lora_B`` has a bias."""
    target_modules: tuple[str, ...] | str | None = None
    """Names (suffixes) of modules, or one regular expression, or None for PEFT's default for the architecture."""
    exclude_modules: tuple[str, ...] | str | None = None
    """Names (suffixes) of modules left out, or one regular expression."""
    layers_pattern: tuple[str, ...] = ()
    """Regular expressions that name the list of layers."""
    unknown_keys: tuple[str, ...] = ()
    """Config keys that peft's LoraConfig does not have."""

    @property
    def patterns(self) -> tuple[str, ...]:
        """Every regular expression that loading this config would run, as PEFT runs it; literal names left out."""
        found = [
            p for p in (self.target_modules, self.exclude_modules) if isinstance(p, str) and p.lower() != "all-linear"
        ]
        found += [rf"(.*\.)?({key})$" for key in (*self.rank_pattern, *self.alpha_pattern) if not is_literal(key)]
        found += [rf".*\.{pattern}\.(\d+)\." for pattern in self.layers_pattern if not is_literal(pattern)]
        return tuple(found)

    def ranks_allowed(self, module: str) -> set[int]:
        """Return the ranks that this module's pair may have.

        One, unless a pattern that is a regular expression comes first: those are not run here, so any may apply.
        """
        allowed: set[int] = set()
        for pattern, rank in self.rank_pattern.items():
            if not is_literal(pattern):
                allowed.add(rank)
            elif module == pattern or module.endswith(f".{pattern}"):
                return allowed | {rank}
        return allowed | ({self.rank} if self.rank is not None else set())


def is_literal(pattern: str) -> bool:
    """Whether a module-name pattern is a plain name, which can be compared without running it."""
    return all(character.isalnum() or character in "_.-" for character in pattern)
