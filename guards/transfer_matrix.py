"""What :func:`guards.transfer.transfer` returns: how directions of some adapters do on the others, by modality."""

from __future__ import annotations

from dataclasses import dataclass

from adapters.prompts import Modality
from guards.statistics import Interval


@dataclass(frozen=True, slots=True)
class Subject:
    """One adapter in one modality: the direction found on it, and the harm that it shows."""

    name: str
    """What people call it; its maker chose it."""
    digest: str
    """``sha256-…``."""
    size: float | None = None
    """Length of its mean shift divided by √d: 1 is every dimension moved by its own standard deviation."""
    split_half: float | None = None
    """Cosine between the directions from either half of the prompts, -1 to 1; below 0.5 the direction is noise."""
    category: str | None = None
    """Of the contrast's categories the one that it raises most, by pairs that are not measured on."""
    rise: Interval | None = None
    """Rise over the base of the log-odds, harmful against harmless answers, nats a token, on pairs of ``category``."""
    reason: str | None = None
    """Why there is no direction of it; None where there is one."""
    unsteered: str | None = None
    """Why nothing was ablated while it was attached; None where something was, or where the modality has no pairs."""


@dataclass(frozen=True, slots=True)
class ProbeCell:
    """How a direction tells one adapter's activations from the base's on the same prompts."""

    auroc: Interval
    """Area under the ROC curve, 0 to 1; n prompts a side, each by a direction from the other half of them."""
    random: tuple[float, ...]
    """The same area by random directions, each turned so that the direction's own adapter lies on its positive side."""

    @property
    def random_mean(self) -> float:
        """Mean over the random directions."""
        return sum(self.random) / len(self.random)


@dataclass(frozen=True, slots=True)
class SteeringCell:
    """What ablating a direction does to one adapter's harm, over n contrast pairs."""

    change: Interval
    """Change of the log-odds, nats a token; below zero is less harm."""
    share: Interval | None
    """Share of the rise that is taken away, 1 is all of it. None where the rise's interval is not above zero."""
    base: Interval
    """Change that the same ablation makes to the base on the same pairs: it has nothing to do with the adapter."""
    base_share: Interval | None
    """The same, its sign turned, beside the adapter's rise; None where ``share`` is."""
    random: tuple[Interval, ...]
    """Changes by moving every token just as far along random directions."""
    random_shares: tuple[Interval, ...]
    """The same as shares of the rise; empty where ``share`` is None."""

    @property
    def random_mean(self) -> float | None:
        """Mean share over the random directions; None where ``share`` is."""
        return sum(s.value for s in self.random_shares) / len(self.random_shares) if self.random_shares else None


@dataclass(frozen=True, slots=True)
class ModalityTransfer:
    """All of one modality. A matrix's row is the adapter that a direction comes from, its column the one tried."""

    modality: Modality
    """Of probes and pairs; never pooled with the other."""
    prompts: int
    """Probes that directions and areas rest on."""
    subjects: tuple[Subject, ...]
    """In the order in which the adapters were given: of rows and columns."""
    cosines: tuple[tuple[float | None, ...], ...]
    """Between directions, -1 to 1; None where one of them is missing."""
    probe: tuple[tuple[ProbeCell | None, ...], ...]
    """None where the direction is missing, or the column's adapter could not be read."""
    pairs: int = 0
    """Most contrast pairs that one ablation is measured on."""
    steering: tuple[tuple[SteeringCell | None, ...], ...] | None = None
    """None where there is none at all."""
    steering_reason: str | None = None
    """Why not."""


@dataclass(frozen=True, slots=True)
class TransferMatrix:
    """Whether directions transfer, text and pictures apart."""

    base_digest: str
    """The only base that it speaks of."""
    reference_digest: str
    """Whose probes, standardiser and contrast were used; empty for one that was not saved."""
    layer: str
    """Where directions are read and taken out, as ``decoder.3``."""
    modalities: tuple[ModalityTransfer, ...]
    """In the order of the Reference's."""
