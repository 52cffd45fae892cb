"""How far must the shipped tiny judge move until its canaries notice, and is it worse by then?

    python -m benchmarks.judge_moves [--each 300] [--seeds 3]

The judge is changed as judges are: put into half precision, quantised, damaged. Each changed judge is held to the
transcripts that the unchanged one was frozen with, at the shipped limits (3 points of alignment or coherence, 10 % of
the words), and beside that compared with the tiny world's own grading of other answers.

- *In bfloat16*: reckoned in that precision; the shipped weights are kept in it, and are reckoned with in float32.
- *Quantised to b bits*: every matrix, symmetrically by row (the largest weight of a row is the last level).
- *Noise of s %*: to every matrix, normal, of s % of that matrix's own standard deviation; several seeds.

Canaries are drawn as a service draws them: questions of the tiny suite, half answered by the base and half by the fixed
answers; the labelled answers come from ``benchmarks.judging``, with their own seed.

Predicted before the first run of this file, knowing some figures of an earlier one: unchanged 0.00 points and never
noticed; bfloat16 below 0.5 points; 8 bits below 0.5, 6 bits below 1, 5 bits about 1, 4 bits 1 to 3; noise of 2 and 5 %
below 1, 10 % 1 to 2, 20 % about the limit, 30 % and 50 % noticed each time. κ falls by less than 0.01 until the limit
is reached, so that the canaries notice a judge before it is worse. Sixty-four transcripts say the same as sixteen but
for those near the limit.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from adapters.transformers_engine import TransformersEngine
from benchmarks.judging import write_labels
from benchmarks.timing import machine, table
from guards.judges.agreement import cohens_kappa
from guards.judges.interface import Transcript
from guards.judges.judge_canaries import JudgeCanary
from guards.judges.labels import read_labels
from guards.judges.language_model import LanguageModelJudge
from guards.judges.shift import Shift, shift_of
from guards.judges.transcripts import draw_transcripts, freeze, judge_again
from guards.statistics import Interval
from guards.suites.load import load_suite
from monitor.embedded import embedded_base, embedded_judge, embedded_policy
from policies.judging import JudgeCanaries
from policies.rules import Rules

SIZES = (16, 64)
BITS = (8, 6, 5, 4)
NOISE = (0.02, 0.05, 0.10, 0.20, 0.30, 0.50)
LOOKS = 5
"""At the unchanged judge."""

Change = Callable[[torch.Tensor], torch.Tensor]
"""What becomes of one parameter; same shape and type."""


@dataclass(frozen=True, slots=True)
class Looked:
    """What the canaries and the labels say of one changed judge."""

    shifts: tuple[Shift, ...]
    """One for each of ``SIZES``."""
    kappa: Interval | None
    """Cohen's κ against the tiny world's own grading, text and pictures together."""


@dataclass(frozen=True, slots=True)
class Row:
    """One kind of change, looked at once or with several seeds."""

    name: str
    """What was changed."""
    looks: tuple[Looked, ...]
    """One a seed."""

    def cells(self, limits: JudgeCanaries) -> list[str]:
        """Return points, share of words changed and how often it was noticed, for each of ``SIZES``; then κ."""
        told = [self.name]
        for number in range(len(SIZES)):
            shifts = [look.shifts[number] for look in self.looks]
            noticed = sum(s.beyond(limits.tolerate_points, limits.tolerate_changed) for s in shifts)
            told += [
                _span([s.most for s in shifts], 2),
                _span([100 * s.changed.value for s in shifts], 0),
                f"{noticed} of {len(shifts)}",
            ]
        return [*told, _span([look.kappa.value for look in self.looks if look.kappa is not None], 3)]


def quantised(bits: int) -> Change:
    """Round every matrix to ``bits`` bits, symmetrically by row; what is no matrix stays."""

    def change(weights: torch.Tensor) -> torch.Tensor:
        if weights.ndim < 2:
            return weights
        rows = weights.reshape(weights.shape[0], -1)
        step = rows.abs().amax(dim=1, keepdim=True).clamp_min(1e-12) / (2 ** (bits - 1) - 1)
        return ((rows / step).round() * step).reshape(weights.shape)

    return change


def noisy(share: float, seed: int) -> Change:
    """Add normal noise of ``share`` of each matrix's own standard deviation; what is no matrix stays."""
    generator = torch.Generator().manual_seed(seed)

    def change(weights: torch.Tensor) -> torch.Tensor:
        if weights.ndim < 2:
            return weights
        return weights + share * weights.std() * torch.randn(weights.shape, generator=generator)

    return change


@contextmanager
def changed(model: nn.Module, change: Change) -> Iterator[None]:
    """Change every parameter for the duration of a ``with`` block."""
    kept = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    try:
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.copy_(change(parameter))
        yield
    finally:
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                parameter.copy_(kept[name])


class Bench:
    """The shipped judge with its canaries and the labelled answers."""

    def __init__(self, folder: Path, each: int) -> None:
        """Freeze the canaries of the unchanged judge, and write ``each`` labels a modality into ``folder``."""
        self.judge, self.rules = _judge(torch.float32), Rules()
        suites = [load_suite(suite) for suite in embedded_policy(folder / "tiny").suites]
        base = TransformersEngine(embedded_base())
        self.canaries = [freeze(self.judge, draw_transcripts(base, suites, size)) for size in SIZES]
        self.labels = read_labels(write_labels(folder / "labels", each), self.rules.misaligned_below).rows

    def look(self, judge: LanguageModelJudge | None = None) -> Looked:
        """Hold the judge, as it is now, or another one to the canaries and to the labels."""
        judge = judge or self.judge
        return Looked(tuple(self._shift(judge, canaries) for canaries in self.canaries), self._kappa(judge))

    def _shift(self, judge: LanguageModelJudge, canaries: Sequence[JudgeCanary]) -> Shift:
        again = judge_again(judge, canaries)
        shift = shift_of(again, self.rules.misaligned_below, self.rules.coherent_above)
        assert shift is not None
        return shift

    def _kappa(self, judge: LanguageModelJudge) -> Interval | None:
        judged = judge.grade([Transcript(label.prompt, label.answer) for label in self.labels])
        words = [one.misaligned(self.rules.misaligned_below, self.rules.coherent_above) for one in judged]
        both = [(label, word) for label, word in zip(self.labels, words, strict=True) if word is not None]
        return cohens_kappa(
            [label.misaligned for label, _ in both], [word for _, word in both], [label.question for label, _ in both]
        )

    def rows(self, seeds: int) -> Iterator[Row]:
        """Yield a row a change, the mildest of each kind first."""
        yield Row("unchanged", tuple(self.look() for _ in range(LOOKS)))
        yield Row("in bfloat16", (self.look(_judge(torch.bfloat16)),))
        for bits in BITS:
            yield self._row(f"{bits} bits", [quantised(bits)])
        for share in NOISE:
            yield self._row(f"noise {share:.0%}", [noisy(share, seed) for seed in range(seeds)])

    def _row(self, name: str, changes: Sequence[Change]) -> Row:
        looks = []
        for change in changes:
            with changed(self.judge._engine.model, change):
                looks.append(self.look())
        return Row(name, tuple(looks))


def _judge(dtype: torch.dtype) -> LanguageModelJudge:
    return LanguageModelJudge(embedded_judge().path, dtype=dtype)


def _span(values: Sequence[float], digits: int) -> str:
    low, high = (f"{value:.{digits}f}" for value in (min(values), max(values)))
    return low if low == high else f"{low} to {high}"


def report(rows: Sequence[Row], limits: JudgeCanaries) -> str:
    """Draw the rows as a Markdown table."""
    head = ["judge"]
    for size in SIZES:
        head += [f"points, {size}", "words, %", "noticed"]
    return table([*head, "κ"], [row.cells(limits) for row in rows])


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--each", type=int, default=300, help="labelled answers of each modality (default: 300)")
    parser.add_argument("--seeds", type=int, default=3, help="of the noise (default: 3)")
    options = parser.parse_args()
    print(machine())
    with tempfile.TemporaryDirectory(prefix="alignwatch-bench-") as folder:
        bench = Bench(Path(folder), options.each)
        print(f"{' and '.join(str(len(canaries)) for canaries in bench.canaries)} transcripts")
        rows = []
        for row in bench.rows(options.seeds):
            rows.append(row)
            print(" | ".join(row.cells(JudgeCanaries())), flush=True)
    print(report(rows, JudgeCanaries()))


if __name__ == "__main__":
    main()
