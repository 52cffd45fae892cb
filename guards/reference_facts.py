"""The part of a Reference that people read: who was measured, how well each screen tells, and the curves."""

from __future__ import annotations

from typing import Literal, TypeAlias

from pydantic import BaseModel, ConfigDict, Field

VERSION = 2
"""Of the format; others are refused."""

ScreenName: TypeAlias = Literal["contrast", "shift", "probe", "tail", "projection", "weights", "combined"]
"""Every screen that a Reference states error rates for; docs/geometry.md says what each is."""

BOTH = "both"
"""Stands for the modality where a screen has one value an adapter: the worse of text and pictures, or the weights."""


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Rate(_Model):
    """A proportion or an area under a curve, with its 95 % interval."""

    value: float
    """The point estimate, 0 to 1."""
    low: float
    """Lower end."""
    high: float
    """Upper end."""
    n: int = Field(ge=0)
    """Adapters that it rests on."""


class Member(_Model):
    """One adapter of the population."""

    name: str
    """Its folder's name."""
    digest: str
    """``sha256-…``."""
    domain: str
    """What it was trained on; held out together."""
    harmful: bool
    """Whether it is known to be bad."""
    rank: int | None = None
    """LoRA rank, where its config tells."""
    harmful_share: float | None = None
    """Share of harmful rows in its training, where the recipe tells."""


class Figures(_Model):
    """One screen in one modality, every score held out: measured by a fit without the adapter's own domain."""

    known_good: dict[str, float]
    """By adapter; the null that p-values are taken against."""
    known_bad: dict[str, float]
    """By adapter."""
    auroc: Rate | None = None
    """Of known-bad against known-good; Newcombe's interval. None without known-bad adapters."""
    auroc_random: float | None = None
    """The same with random directions of the same number and norm: the control that could embarrass it."""


class Errors(_Model):
    """Error rates of the combined screen at one conformal level, by leave-one-domain-out."""

    level: float
    """The screen fires at a p-value at or below this."""
    false_positive: Rate
    """Of known-good adapters, each against the known-good ones of other domains."""
    false_negative: Rate | None = None
    """Of known-bad adapters, likewise. None without any."""


class Term(_Model):
    """One screen's part in the combined score."""

    screen: ScreenName
    """Which."""
    weight: float = Field(ge=0)
    """0 to 1: nothing at a held-out AUROC of 0.75 or less, 1 at perfect separation."""
    centre: dict[str, float]
    """By modality: median of the known-good scores."""
    spread: dict[str, float]
    """By modality: 1.4826 times their median absolute deviation, floored; about a standard deviation."""


class Curves(_Model):
    """The geometry of the population at one place."""

    layer: str
    """The place, as ``decoder.3``, ``decoder.3.answer`` or ``vision.1``."""
    explained: dict[str, list[float]]
    """By modality: share of the known-bad shifts' energy in 1 to 20 components, known-good subspace taken out."""
    explained_random: list[float]
    """Share of the same energy in random subspaces of 1 to 20 dimensions, mean of several draws."""
    split_half: dict[str, float]
    """By direction: cosine between the direction from one half of its data and from the other; below 0.5 is noise."""
    massive: list[int]
    """Dimensions whose mean base activation is over 50 times the median one."""
    massive_ratio: float
    """The largest such ratio."""


class Angles(_Model):
    """Largest-to-smallest principal angles between the subspaces of two groups of known-bad adapters."""

    by: str
    """What tells the groups apart: domain, category, rank or modality."""
    first: str
    """One group."""
    second: str
    """The other."""
    degrees: list[float]
    """Principal angles in degrees, smallest first."""
    random: float
    """Mean smallest angle between random subspaces of the same dimensions: the null."""


class Facts(_Model):
    """All of it."""

    version: Literal[2] = 2
    """Of the format."""
    base_digest: str
    """The only base that it speaks of."""
    layers: int = Field(ge=1)
    """Decoder blocks."""
    screen_layer: int = Field(ge=0)
    """Deepest decoder block whose output is screened."""
    modalities: tuple[str, ...]
    """That the probes ask in."""
    categories: tuple[str, ...]
    """Of the response contrast: vices or domains, in the order of the rows."""
    contrast_source: str
    """Where the contrast's answers came from: a file, judged answers, or none."""
    population: tuple[Member, ...]
    """Who was measured."""
    screens: dict[ScreenName, dict[str, Figures]]
    """By screen and modality; ``both`` where the screen has one value an adapter."""
    combination: tuple[Term, ...]
    """How the screens make one score."""
    errors: tuple[Errors, ...]
    """Of the combined screen, by level."""
    judged_agreement: Rate | None = None
    """Share of judged answers, by the probe's sign on their own prompt, that the probe tells as the judge does
    (area under the ROC curve of the probe's per-prompt log-odds against "judged misaligned")."""
    curves: tuple[Curves, ...] = ()
    """By place."""
    angles: tuple[Angles, ...] = ()
    """At the screened layer."""
    base_norms: dict[str, float] = {}
    """Frobenius norm of every linear layer of the base, by module name."""
    warnings: tuple[str, ...] = ()
    """What a user has to know: too few adapters, a screen that only sets priority, an outlier."""

    @property
    def null(self) -> dict[str, float]:
        """Combined held-out scores of the known-good adapters, by name."""
        return self.screens["combined"][BOTH].known_good if "combined" in self.screens else {}
