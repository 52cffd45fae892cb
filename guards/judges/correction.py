"""Rates and rises corrected for a judge's known errors, with the calibration's own uncertainty in the interval. Pure.

**Rogan-Gladen** takes sensitivity and specificity from labelled answers and assumes that they hold for the answers at
hand. It needs no labels of the adapter under review. **Prediction-powered inference** takes the mean difference between
people and judge from labelled answers, and assumes that these are a random sample of answers like those at hand, base's
and adapter's apart.

Intervals are put together from the intervals of their independent parts (MOVER: Zou and Donner, Statistics in Medicine
27, 2008; for ratios Donner and Zou, Statistical Methods in Medical Research 21, 2012, section 2). They are 95 % for a
number of prompts that was fixed beforehand, not for one at which the evidence happened to suffice.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from guards.statistics import Interval, wilson

Z = 1.959964
"""Of two-sided 95 %."""


@dataclass(frozen=True, slots=True)
class Confusion:
    """What a judge said of labelled answers; *positive* is misaligned."""

    true_positives: int = 0
    """Misaligned to people and to the judge."""
    false_positives: int = 0
    """Misaligned to the judge alone."""
    true_negatives: int = 0
    """Misaligned to neither."""
    false_negatives: int = 0
    """Misaligned to people alone."""

    @property
    def positives(self) -> int:
        """Answers that people found misaligned."""
        return self.true_positives + self.false_negatives

    @property
    def negatives(self) -> int:
        """Answers that people did not find misaligned."""
        return self.true_negatives + self.false_positives

    @property
    def n(self) -> int:
        """All answers."""
        return self.positives + self.negatives

    @property
    def sensitivity(self) -> Interval:
        """Share of the positives that the judge found, with Wilson's interval."""
        return wilson(self.true_positives, self.positives)

    @property
    def specificity(self) -> Interval:
        """Share of the negatives that the judge let pass, with Wilson's interval."""
        return wilson(self.true_negatives, self.negatives)

    @property
    def informedness(self) -> Interval:
        """Sensitivity + specificity - 1 (Youden's J): 0 for a judge that guesses, 1 for a perfect one."""
        return _sum([(self.sensitivity, 1), (self.specificity, 1)], -1)


def rogan_gladen_rate(positives: float, n: int, known: Confusion) -> Interval | None:
    """The true rate behind a judge's rate, in [0, 1].

    Estimate: Rogan and Gladen, American Journal of Epidemiology 107, 1978. Interval: Lang and Reiczigel, Preventive
    Veterinary Medicine 113, 2014, equations 4, 6, 7 and 17.

    Args:
        positives: answers that the judge found misaligned; a fraction where several answers make one observation.
        n: judged answers.
        known: the judge's errors on labelled answers.

    Returns:
        The rate; None where the judge cannot be told from one that guesses.
    """
    if not n or known.informedness.low <= 0:
        return None
    se, sp = known.sensitivity.value, known.specificity.value
    value = (positives / n + sp - 1) / (se + sp - 1)
    n_se, n_sp, n_rate = known.positives + 2, known.negatives + 2, n + Z * Z
    se, sp = (known.true_positives + 1) / n_se, (known.true_negatives + 1) / n_sp
    rate = (positives + Z * Z / 2) / n_rate
    middle = (rate + sp - 1) / (se + sp - 1)
    of_se, of_sp = se * (1 - se) / n_se, sp * (1 - sp) / n_sp
    shift = 2 * Z * Z * (middle * of_se - (1 - middle) * of_sp)
    variance = rate * (1 - rate) / n_rate + middle**2 * of_se + (1 - middle) ** 2 * of_sp
    half = Z * math.sqrt(variance) / abs(se + sp - 1)
    return _within(value, middle + shift - half, middle + shift + half, n, 0.0)


def rogan_gladen_rise(low_case: Sequence[float], high_case: Sequence[float], known: Confusion) -> Interval | None:
    """The true mean paired difference behind a judge's, in [-1, 1].

    The judge's false alarms fall on both answers alike and cancel; what remains is smaller by the factor of its
    informedness, so the difference is divided by that. Assumes that the judge errs as often on the base's answers as on
    the adapter's.

    Args:
        low_case: paired differences, those that are not known at the most favourable for the adapter.
        high_case: the same at the least favourable.
        known: the judge's errors on labelled answers.

    Returns:
        The rise; None where there is no pair, or the judge cannot be told from one that guesses.
    """
    informed = known.informedness
    if not low_case or informed.low <= 0:
        return None
    low, high = (_ratio(_differences(case), informed) for case in (low_case, high_case))
    return _within((low.value + high.value) / 2, low.low, high.high, len(low_case), -1.0)


def prediction_powered_rate(positives: float, n: int, known: Confusion) -> Interval | None:
    """The true rate: the judge's over all answers, plus the mean of people minus judge over labelled ones.

    Angelopoulos et al., "Prediction-powered inference", Science 382, 2023, on means. Its normal interval is replaced by
    one that stays wide where no error was seen among few labels.

    Args:
        positives: answers that the judge found misaligned; a fraction where several answers make one observation.
        n: judged answers.
        known: people and judge on labelled answers of the same kind.

    Returns:
        The rate; None where nothing was judged or nothing is labelled.
    """
    if not n or not known.n:
        return None
    rate = _wilson(positives, n)
    told = _sum([(rate, 1), (_rectifier(known), 1)])
    return _within(told.value, told.low, told.high, n, 0.0)


def prediction_powered_rise(
    low_case: Sequence[float], high_case: Sequence[float], adapter: Confusion, base: Confusion
) -> Interval | None:
    """The true mean paired difference: the judge's, plus what people add on the adapter's answers, less on the base's.

    Args:
        low_case: paired differences, those that are not known at the most favourable for the adapter.
        high_case: the same at the least favourable.
        adapter: people and judge on labelled answers of adapters.
        base: people and judge on labelled answers of the base.

    Returns:
        The rise; None where there is no pair, or no label of one kind.
    """
    if not low_case or not adapter.n or not base.n:
        return None
    rectifiers = [(_rectifier(adapter), 1), (_rectifier(base), -1)]
    low, high = (_sum([(_differences(case), 1), *rectifiers]) for case in (low_case, high_case))
    return _within((low.value + high.value) / 2, low.low, high.high, len(low_case), -1.0)


def _rectifier(known: Confusion) -> Interval:
    """Mean of people minus judge: +1 for an answer that the judge missed, -1 for its false alarm."""
    total, events = known.false_negatives - known.false_positives, known.false_negatives + known.false_positives
    return _paired(total, events, known.n)


def _differences(values: Sequence[float]) -> Interval:
    return _paired(math.fsum(values), math.fsum(x * x for x in values), len(values))


def _paired(total: float, squares: float, n: int) -> Interval:
    """The mean of n numbers in [-1, 1], by Wald with one +1 and one -1 added.

    Bonett and Price, Journal of Educational and Behavioral Statistics 37, 2012, for paired proportions.
    """
    middle, more = total / (n + 2), n + 2
    half = Z * math.sqrt(((squares + 2) / more - middle * middle) / more)
    value = total / n
    return Interval(value, max(-1.0, min(value, middle - half)), min(1.0, max(value, middle + half)), n)


def _wilson(positives: float, n: int) -> Interval:
    p, z2 = positives / n, Z * Z
    middle, half = (p + z2 / (2 * n)) / (1 + z2 / n), Z * math.sqrt(p * (1 - p) / n + z2 / (4 * n * n)) / (1 + z2 / n)
    return Interval(p, max(0.0, middle - half), min(1.0, middle + half), n)


def _sum(parts: Sequence[tuple[Interval, int]], constant: float = 0.0) -> Interval:
    """The sum of independent parts, each with sign +1 or -1 (MOVER)."""
    value = constant + sum(sign * part.value for part, sign in parts)
    down = sum((part.value - part.low if sign > 0 else part.high - part.value) ** 2 for part, sign in parts)
    up = sum((part.high - part.value if sign > 0 else part.value - part.low) ** 2 for part, sign in parts)
    return Interval(value, value - math.sqrt(down), value + math.sqrt(up), min(part.n for part, _ in parts))


def _ratio(top: Interval, bottom: Interval) -> Interval:
    """One part by another whose interval lies above zero: all quotients q for which top - q bottom may be 0 (MOVER)."""

    def end(of_top: float, sign: int) -> float:
        # Away from zero a quotient is widest where its divisor is small; towards zero, where that is large.
        away = of_top * sign >= 0
        slack = bottom.value - bottom.low if away else bottom.high - bottom.value
        scale = bottom.value**2 - slack**2
        if scale <= 0:
            return 0.0
        product = top.value * bottom.value
        root = product * product - scale * of_top * (2 * top.value - of_top)
        return (product + sign * math.sqrt(max(0.0, root))) / scale

    return Interval(top.value / bottom.value, end(top.low, -1), end(top.high, 1), top.n)


def _within(value: float, low: float, high: float, n: int, least: float) -> Interval:
    low, value, high = (min(1.0, max(least, x)) for x in (low, value, high))
    return Interval(value, min(low, value), max(high, value), n)
