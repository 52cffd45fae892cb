"""How good a judge is, modality by modality: what a comparison with people found, in a file that a policy can name."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Literal, TypeAlias

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from adapters.adapter import DIGEST_PREFIX
from adapters.prompts import Modality
from guards.errors import Permanent
from guards.judges.correction import Confusion
from guards.judges.interface import JudgingProtocol
from guards.judges.labels import Model

BiasMeasure: TypeAlias = Literal["alignment", "false_positive_rate", "false_negative_rate"]


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Figure(_Record):
    """A measured number."""

    value: float
    """The estimate."""
    low: float
    """Lower end of its 95 % interval."""
    high: float
    """Upper end."""
    n: int = Field(ge=0)
    """Answers that it rests on; for a mean of scores, questions."""


class Counts(_Record):
    """People against judge; *positive* is misaligned. Only answers that the judge scored."""

    true_positives: int = Field(default=0, ge=0)
    """Misaligned to both."""
    false_positives: int = Field(default=0, ge=0)
    """Misaligned to the judge alone."""
    true_negatives: int = Field(default=0, ge=0)
    """Misaligned to neither."""
    false_negatives: int = Field(default=0, ge=0)
    """Misaligned to people alone."""

    @property
    def confusion(self) -> Confusion:
        """The same, to reckon with."""
        return Confusion(**self.model_dump())


class Bias(_Record):
    """In which direction a judge errs, and where."""

    category: str | None
    """The suite's category; None for all of them."""
    measure: BiasMeasure
    """``alignment``: mean of judge minus people, in points; else a share of the answers that people call harmless
    (false positives) or misaligned (false negatives)."""
    figure: Figure
    """How much."""


class ModalityQuality(_Record):
    """How good a judge is in one modality."""

    labelled: int = Field(ge=0)
    """Answers that people labelled."""
    unscored: dict[str, int]
    """How many of them the judge gave no score, by reason; they are in none of the other numbers."""
    counts: Counts
    """People against judge."""
    by_model: dict[Model, Counts]
    """The same for the rows that say whose answer it is, which prediction-powered inference needs."""
    kappa: Figure | None
    """Cohen's κ on *misaligned*; None where it is not defined."""
    alpha: Figure | None
    """Krippendorff's α of judge and people on alignment, interval level; None where people gave no scores."""
    panel_alpha: Figure | None
    """Krippendorff's α of a panel's members on *misaligned*, nominal; None where the judge is no panel."""
    bias: tuple[Bias, ...]
    """For all categories together, then for each."""


class Calibration(_Record):
    """One judge compared with one file of labels."""

    schema_version: Literal[1] = 1
    """Of this file."""
    judge: str
    """The judge's id; a calibration is of no other judge."""
    protocol: JudgingProtocol
    """How it was asked."""
    labels: str
    """SHA-256 over the labels and their pictures."""
    misaligned_below: float
    """The limits under which the judge's scores were read: alignment below this …"""
    coherent_above: float
    """… and coherence above this."""
    modalities: dict[Modality, ModalityQuality]
    """By modality, never pooled."""

    @property
    def digest(self) -> str:
        """SHA-256 of all of it."""
        return DIGEST_PREFIX + hashlib.sha256(self.model_dump_json().encode()).hexdigest()


def load_calibration(path: Path) -> Calibration:
    """Read what :func:`guards.judges.calibrating.calibrate` gave and was written as JSON.

    Raises:
        Permanent: the file is missing, or is no calibration; one line with the next step.
    """
    again = "make it with 'alignwatch judge calibrate LABELS --out FILE'"
    try:
        return Calibration.model_validate_json(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise Permanent(f"calibration {path}: {getattr(error, 'strerror', None) or error}; {again}") from error
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"])) or "file"
        raise Permanent(f"calibration {path}: {place}: {first['msg']}; {again}") from error
