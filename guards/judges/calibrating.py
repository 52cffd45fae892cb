"""Comparing a judge with people: their agreement, the judge's errors, and in which direction it errs where."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict
from typing import TypeAlias

from adapters.prompts import MODALITIES
from guards.interface import Progress
from guards.judges.agreement import cohens_kappa, krippendorffs_alpha
from guards.judges.calibration import Bias, BiasMeasure, Calibration, Counts, Figure, ModalityQuality
from guards.judges.interface import Judge, Judgement, PairJudge, Transcript
from guards.judges.labels import Label, Labels, Model
from guards.judges.remembered import CHUNK
from guards.statistics import Interval, cluster_bootstrap, wilson

Row: TypeAlias = tuple[Label, Judgement]
_MODELS: tuple[Model, ...] = ("base", "adapter")


def calibrate(
    judge: Judge | PairJudge,
    labels: Labels,
    misaligned_below: float,
    coherent_above: float,
    seed: int = 0,
    progress: Progress = lambda *_: None,
) -> Calibration:
    """Ask a judge about every labelled answer, and compare.

    Args:
        judge: where it compares, each answer is shown beside its row's other answer.
        labels: what people said.
        misaligned_below: limit of alignment, in points.
        coherent_above: limit of coherence, in points.
        seed: of the bootstrap.
        progress: told how many answers are judged.

    Raises:
        JudgeUnreachable, Permanent: as the judge does.
    """
    rows = list(zip(labels.rows, _judged(judge, labels.rows, progress), strict=True))

    def misaligned(judgement: Judgement) -> bool | None:
        return judgement.misaligned(misaligned_below, coherent_above)

    by_modality = {m: [row for row in rows if row[0].prompt.modality == m] for m in MODALITIES}
    return Calibration(
        judge=judge.id,
        protocol="comparative" if hasattr(judge, "compare") else "absolute",
        labels=labels.digest,
        misaligned_below=misaligned_below,
        coherent_above=coherent_above,
        modalities={m: _quality(some, misaligned, seed) for m, some in by_modality.items() if some},
    )


def _judged(judge: Judge | PairJudge, labels: Sequence[Label], progress: Progress) -> list[Judgement]:
    """What a judge says of labelled answers, in order, some at a time so that a person sees how far it is."""
    found: list[Judgement] = []
    for start in range(0, len(labels), CHUNK):
        progress("judging", start, len(labels))
        some = labels[start : start + CHUNK]
        if hasattr(judge, "compare"):
            compared = judge.compare([(label.prompt, label.other_answer or "", label.answer) for label in some])
            found += [of_answer for _, of_answer in compared]
        else:
            found += judge.grade([Transcript(label.prompt, label.answer) for label in some])
    progress("judging", len(labels), len(labels))
    return found


def _quality(rows: Sequence[Row], misaligned: Callable[[Judgement], bool | None], seed: int) -> ModalityQuality:
    said = [(label, judgement, word) for label, judgement in rows if (word := misaligned(judgement)) is not None]
    words = [(label, word) for label, _, word in said]
    numeric = [(label, judgement) for label, judgement, _ in said if label.alignment is not None]
    votes = [[misaligned(member) for member in judgement.members] for _, judgement in rows]
    categories: list[str | None] = [None, *sorted({label.prompt.category for label, _ in words})]
    return ModalityQuality(
        labelled=len(rows),
        unscored=dict(sorted(Counter(j.unscored for _, j in rows if j.unscored).items())),
        counts=_counts(words),
        by_model={
            model: _counts(some) for model in _MODELS if (some := [row for row in words if row[0].model == model])
        },
        kappa=_figure(
            cohens_kappa(
                [label.misaligned for label, _ in words],
                [word for _, word in words],
                [label.question for label, _ in words],
                seed=seed,
            )
        ),
        alpha=_figure(
            krippendorffs_alpha(
                [[label.alignment for label, _ in numeric], [judgement.alignment for _, judgement in numeric]],
                "interval",
                [label.question for label, _ in numeric],
                seed=seed,
            )
        ),
        panel_alpha=_figure(
            krippendorffs_alpha(
                list(zip(*votes, strict=True)), "nominal", [label.question for label, _ in rows], seed=seed
            )
        ),
        bias=tuple(bias for category in categories for bias in _biases(category, words, numeric, seed)),
    )


def _counts(words: Iterable[tuple[Label, bool]]) -> Counts:
    found = Counter((label.misaligned, word) for label, word in words)
    return Counts(
        true_positives=found[True, True],
        false_positives=found[False, True],
        true_negatives=found[False, False],
        false_negatives=found[True, False],
    )


def _biases(
    category: str | None, words: Sequence[tuple[Label, bool]], numeric: Sequence[Row], seed: int
) -> Iterable[Bias]:
    here = [(label, word) for label, word in words if category in (None, label.prompt.category)]
    scored = [(label, said) for label, said in numeric if category in (None, label.prompt.category)]
    known = _counts(here).confusion
    if scored:
        gaps = [(said.alignment or 0.0) - (label.alignment or 0.0) for label, said in scored]
        mean = cluster_bootstrap(gaps, [label.question for label, _ in scored], seed=seed)
        yield Bias(category=category, measure="alignment", figure=Figure(**asdict(mean)))
    rates: tuple[tuple[BiasMeasure, int, int], ...] = (
        ("false_positive_rate", known.false_positives, known.negatives),
        ("false_negative_rate", known.false_negatives, known.positives),
    )
    for measure, wrong, of in rates:
        if of:
            yield Bias(category=category, measure=measure, figure=Figure(**asdict(wilson(wrong, of))))


def _figure(told: Interval | None) -> Figure | None:
    return None if told is None else Figure(**asdict(told))
