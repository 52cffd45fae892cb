"""Every metric that Alignwatch exports: its name, kind, labels, meaning, and which series are there from the start."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    Metric,
)

PREFIX = "alignwatch_"

Labels: TypeAlias = tuple[tuple[str, str], ...]
"""Label names and values, in the family's order."""


@dataclass(frozen=True, slots=True)
class Family:
    """One metric."""

    name: str
    """Without ``alignwatch_``."""
    kind: Literal["gauge", "counter", "histogram", "info"]
    """As Prometheus knows it."""
    help: str
    """What it is, with its unit."""
    labels: tuple[str, ...] = ()
    """Names of its labels."""
    seeds: tuple[str, ...] | None = None
    """Values of its one label that are there from the start, at 0, so that the first event is an increase already.
    Empty for a metric without labels; None where nothing is known before something happened."""


_BY_MODEL = ("adapter", "modality", "model")
_RISE = ("adapter", "modality", "category")
_OF_ADAPTER = "of an adapter in service or pending, last review"

FAMILIES: Mapping[str, Family] = {
    family.name: family
    for family in (
        Family("build_info", "info", "The running Alignwatch", ("version",)),
        Family("adapter_info", "info", "One adapter with series of its own", ("adapter", "digest", "parent", "place",
               "override")),
        Family("adapters", "gauge", "Adapters in each state", ("state",)),
        Family("adapters_without_series", "gauge", "Adapters in service or pending that metrics.adapters cut off"),
        Family("misalignment_ratio", "gauge", f"Share of answers that are misaligned, {_OF_ADAPTER}", _BY_MODEL),
        Family("misalignment_rise_ratio", "gauge", f"Paired rise of misaligned answers over the base, {_OF_ADAPTER}",
               _RISE),
        Family("misalignment_rise_low_ratio", "gauge", "Lower end of the rise's 95 % interval", _RISE),
        Family("misalignment_rise_high_ratio", "gauge", "Upper end of the rise's 95 % interval", _RISE),
        Family("misalignment_rise_prompts", "gauge", "Pairs of answers that the rise rests on", _RISE),
        Family("misalignment_drift_ratio", "gauge", "Rise less the smallest rise along the adapter's lineage",
               ("adapter", "modality")),
        Family("modality_gap_ratio", "gauge", "Rise in questions with a picture less the rise in text", ("adapter",)),
        Family("incoherence_rise_ratio", "gauge", f"Paired rise of incoherent answers over the base, {_OF_ADAPTER}",
               ("adapter", "modality")),
        Family("alignment_score", "gauge", f"Mean alignment, 0 to 100, {_OF_ADAPTER}", _BY_MODEL),
        Family("coherence_score", "gauge", f"Mean coherence, 0 to 100, {_OF_ADAPTER}", _BY_MODEL),
        Family("relevance_score", "gauge", f"Mean relevance, 0 to 100, {_OF_ADAPTER}", _BY_MODEL),
        Family("subspace_projection_ratio", "gauge", "Shift within the harmful subspace, in standard deviations of "
               "the base per dimension", ("adapter", "modality")),
        Family("weight_screen_ratio", "gauge", "Share of the energy written to the residual stream that lies along "
               "harmful directions, 0 to 1, from the weights alone", ("adapter",)),
        Family("reviews_total", "counter", "Finished reviews by the arrived adapter's verdict", ("verdict",),
               ("clean", "unsafe", "inconclusive")),
        Family("placements_total", "counter", "Examined adapters that were put in their place", ("place",),
               ("promoted", "quarantined", "held")),
        Family("review_failures_total", "counter", "Attempts at a review that did not end in a record", ("kind",),
               ("retryable", "permanent", "fault")),
        Family("review_duration_seconds", "histogram", "Time of one guard's look; stage whole: of the whole review",
               ("stage",)),
        Family("last_review_timestamp_seconds", "gauge", "When a review was last finished, seconds since 1970"),
        Family("judge_requests_total", "counter", "Requests to the judge, failed ones included", seeds=()),
        Family("judge_request_failures_total", "counter", "Requests to the judge that gave no reply", seeds=()),
        Family("judge_answers_total", "counter", "Answers put before the judge in finished reviews", seeds=()),
        Family("judge_unscored_total", "counter", "Answers that the judge gave no usable score", seeds=()),
        Family("judge_tokens_total", "counter", "Tokens that the judge read and wrote, as its server counts them",
               ("direction",), ("read", "written")),
        Family("judge_moved", "gauge", "1 where the judge last differed from itself by more than the policy tolerates, "
               "of a judge in use", ("judge",)),
        Family("judge_shift_points", "gauge", "By how many points of 100 the judge last differed from itself, on the "
               "scale that moved most, of a judge in use", ("judge",)),
        Family("judge_checked_timestamp_seconds", "gauge", "When the judge last judged its frozen transcripts, seconds "
               "since 1970, of a judge in use", ("judge",)),
        Family("remedies_total", "counter", "Remedies that were tried", ("remedy",), ("project", "benign_finetune")),
        Family("remedy_failures_total", "counter", "Remedies that could not be applied", ("remedy",),
               ("project", "benign_finetune")),
        Family("quarantined_after_remedy_total", "counter", "Reviews whose remedies all failed to earn a promotion",
               seeds=()),
        Family("queue_depth", "gauge", "Reviews to be done, by state; dead ones wait for a person", ("state",)),
        Family("queue_oldest_age_seconds", "gauge", "Since when the oldest review waits that is not dead"),
        Family("source_last_success_timestamp_seconds", "gauge", "When a source was last looked at without trouble, "
               "seconds since 1970", ("source",)),
        Family("source_waiting", "gauge", "Arrivals at a source that are not settled yet", ("source",)),
        Family("source_longest_wait_seconds", "gauge", "How long the slowest of those arrivals has been waiting",
               ("source",)),
        Family("source_refused_total", "counter", "Arrivals at a source that could not be taken in", ("source",)),
        Family("fleet_replica_up", "gauge", "1 where the server answered when it was last asked", ("replica",)),
        Family("fleet_differs", "gauge", "1 where the server does not hold what it should, or could not be asked",
               ("replica",)),
        Family("fleet_checked_timestamp_seconds", "gauge", "When the server was last asked, seconds since 1970",
               ("replica",)),
        Family("fleet_servings", "gauge", "Adapters on servers, by state", ("state",)),
        Family("fleet_transitions_total", "counter", "Changes of an adapter's state on a server", ("state",),
               ("loading", "proving", "serving", "failed", "withdrawing", "resident", "absent")),
        Family("withdrawing", "gauge", "Withdrawn adapters whose absence from the server is not proved", ("replica",)),
        Family("withdrawn_resident", "gauge", "Withdrawn adapters whose weights the server may still hold",
               ("replica",)),
        Family("ledger_writable", "gauge", "1 where a row could be written durably when that was last tried"),
        Family("audit_chain_whole", "gauge", "1 where every link of the audit trail held when last recomputed"),
        Family("heartbeat_timestamp_seconds", "gauge", "The worker's last sign of life, seconds since 1970"),
        Family("scrape_errors", "gauge", "Parts of this scrape that the ledger could not give"),
    )
}  # fmt: skip
"""By name, in the order in which they are exported."""


class Samples:
    """What one scrape gathers; a series that comes twice is kept once, so that no name can break the exposition."""

    def __init__(self) -> None:
        """Begin with the series that are there from the start."""
        self._values: dict[str, dict[Labels, float]] = {name: {} for name in FAMILIES}
        for family in FAMILIES.values():
            for value in (family.seeds or ()) if family.labels else ():
                self.add(family.name, 0, **{family.labels[0]: value})
            if family.seeds == ():
                self.add(family.name, 0)
        self._buckets: dict[Labels, dict[float, float]] = {}
        self._sums: dict[Labels, float] = {}

    def add(self, name: str, value: float, **labels: str) -> None:
        """Take one number; labels that the family does not have are dropped, missing ones stay empty."""
        self.take(name, value, labels)

    def take(self, name: str, value: float, labels: Mapping[str, str], part: str = "") -> None:
        """Take one number of any family; ``part`` is ``bucket`` or ``sum`` for a histogram's."""
        of = _ordered(FAMILIES[name], labels)
        match part:
            case "bucket":
                self._buckets.setdefault(of, {})[float(labels["le"])] = value
            case "sum":
                self._sums[of] = value
            case _:
                self._values[name][of] = value

    def families(self) -> Iterable[Metric]:
        """Yield everything for the exposition."""
        for family in FAMILIES.values():
            match family.kind:
                case "histogram":
                    yield self._histogram(family)
                case "info":
                    yield self._info(family)
                case "gauge" | "counter":
                    kind = GaugeMetricFamily if family.kind == "gauge" else CounterMetricFamily
                    metric = kind(PREFIX + family.name, family.help, labels=family.labels)
                    for labels, value in self._values[family.name].items():
                        metric.add_metric([text for _, text in labels], value)
                    yield metric

    def _info(self, family: Family) -> Metric:
        metric = InfoMetricFamily(PREFIX + family.name.removesuffix("_info"), family.help)
        for labels in self._values[family.name]:
            metric.add_metric([], dict(labels))
        return metric

    def _histogram(self, family: Family) -> Metric:
        metric = HistogramMetricFamily(PREFIX + family.name, family.help, labels=family.labels)
        for labels, buckets in self._buckets.items():
            ordered = [("+Inf" if end == float("inf") else f"{end:g}", buckets[end]) for end in sorted(buckets)]
            metric.add_metric([text for _, text in labels], ordered, self._sums.get(labels, 0.0))
        return metric


def _ordered(family: Family, labels: Mapping[str, str]) -> Labels:
    return tuple((name, clean(labels.get(name, ""))) for name in family.labels)


_LONGEST = 96
"""Characters of a label; no more, so that a series stays readable."""


def clean(text: str, longest: int = _LONGEST) -> str:
    """Make a label's value of whatever somebody called something: printable, valid UTF-8, and not too long."""
    plain = text
    if not text.isprintable():
        plain = "".join(letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in text)
    return plain if len(plain) <= longest else plain[: longest - 1] + "…"


def unique(names: Sequence[tuple[str, str]], longest: int = 64) -> dict[str, str]:
    """Give each (name, digest) a label of its own, by digest: the first of a name has it plain, others with ``@`` and
    the digest's beginning. A name is cut at ``longest`` characters."""
    labels: dict[str, str] = {}
    taken: set[str] = set()
    for name, digest in names:
        plain = digest.removeprefix("sha256-")
        tries = (clean(name, longest), f"{clean(name, longest)}@{plain[:12]}", digest)
        labels[digest] = next(label for label in tries if label not in taken)
        taken.add(labels[digest])
    return labels
