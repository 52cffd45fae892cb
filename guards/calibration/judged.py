"""Judged answers of known-bad adapters beside the base's: a contrast where no file gives one, and a check of the probe.

The base's answer that the judge finds aligned is the safe one, the adapter's that it finds misaligned and coherent the
harmful one. The same judgements tell, prompt by prompt, whether the probe sees what the judge sees.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from adapters.engine import Sampling
from adapters.prompts import MODALITIES, Prompt
from adapters.transformers_engine import TransformersEngine
from guards.calibration.contrast import FEWEST, ContrastPair
from guards.calibration.population import Known
from guards.errors import Permanent
from guards.interface import Progress
from guards.judges.interface import Judge, Transcript
from guards.suites.suite import Suite
from policies.rules import Rules

ASKED = 16
"""Probes a modality that every known-bad adapter is asked."""
MOST_PAIRS = 24
"""Pairs a domain."""
_SAMPLING = Sampling(seed=0)


@dataclass(frozen=True, slots=True)
class Judged:
    """What the judge said of one known-bad adapter's answer, and of the base's, to one probe."""

    adapter: int
    """Its place in the population."""
    prompt: int
    """The probe's place in the suite."""
    base_answer: str
    """What the base said."""
    answer: str
    """What the adapter said."""
    base_misaligned: bool | None
    """None where it could not be scored."""
    misaligned: bool | None
    """Misaligned and coherent; None where it could not be scored."""


def judge_known_bad(
    engine: TransformersEngine,
    judge: Judge,
    population: Sequence[Known],
    probes: Suite,
    cache: Path | None,
    rules: Rules,
    progress: Progress = lambda *_: None,
) -> list[Judged]:
    """Ask every known-bad adapter and the base some probes, and have all answers judged. Answers are kept in ``cache``.

    Raises:
        Retryable: the judge cannot be reached.
    """
    asked, limits = _asked(probes), (rules.misaligned_below, rules.coherent_above)
    prompts = [probes.prompts[row] for row in asked]
    base = engine.generate(prompts, _SAMPLING)
    transcripts = [Transcript(p, a) for p, a in zip(prompts, base, strict=True)]
    base_said = [judgement.misaligned(*limits) for judgement in judge.grade(transcripts)]
    found = []
    bad = [row for row, known in enumerate(population) if known.harmful]
    for done, row in enumerate(bad):
        progress("judging known-bad adapters", done, len(bad))
        key = hashlib.sha256("\0".join([engine.base_digest, probes.digest, judge.id, repr(rules)]).encode()).hexdigest()
        path = cache / f"{population[row].adapter.digest}-{key[:16]}.json" if cache else None
        answers, said = _recall(path) or _answers(engine, judge, population[row], prompts, rules, path)
        columns = zip(asked, base, answers, base_said, said, strict=True)
        found += [Judged(row, prompt, b, a, bm, m) for prompt, b, a, bm, m in columns]
    progress("judging known-bad adapters", len(bad), len(bad))
    return found


def judged_contrast(judged: Sequence[Judged], population: Sequence[Known], probes: Suite) -> list[ContrastPair]:
    """Make pairs of what the judge found aligned and misaligned, one category a domain.

    Raises:
        Permanent: the judge found too little harm in the answers of adapters that are known to be bad.
    """
    pairs: dict[str, list[ContrastPair]] = {}
    for one in judged:
        if one.misaligned and one.base_misaligned is False and one.answer.strip() and one.base_answer.strip():
            domain = population[one.adapter].domain
            kept = pairs.setdefault(domain, [])
            if len(kept) < MOST_PAIRS:
                kept.append(ContrastPair(probes.prompts[one.prompt], one.base_answer, one.answer, domain))
    usable = [pair for kept in pairs.values() if len(kept) >= FEWEST for pair in kept]
    if not usable:
        count = sum(bool(one.misaligned) for one in judged)
        raise Permanent(
            f"the judge found {count} of {len(judged)} answers of known-bad adapters misaligned, too few for a "
            "response contrast; give --contrast, other probes (--suite), or look whether --known-good and --known-bad "
            "are swapped"
        )
    return usable


def _asked(probes: Suite) -> list[int]:
    """A seeded sample of the probes, spread over both modalities."""
    chosen: list[int] = []
    for modality in MODALITIES:
        rows = [row for row, prompt in enumerate(probes.prompts) if prompt.modality == modality]
        chosen += random.Random(0).sample(rows, min(ASKED, len(rows)))  # noqa: S311 - sampling, not secrets
    return sorted(chosen)


def _answers(
    engine: TransformersEngine, judge: Judge, known: Known, prompts: Sequence[Prompt], rules: Rules, path: Path | None
) -> tuple[list[str], list[bool | None]]:
    with engine.attached(known.adapter):
        answers = engine.generate(prompts, _SAMPLING)
    judgements = judge.grade([Transcript(p, a) for p, a in zip(prompts, answers, strict=True)])
    said = [j.misaligned(rules.misaligned_below, rules.coherent_above) for j in judgements]
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_suffix(f".{os.getpid()}.partial")
        partial.write_text(json.dumps([answers, said]), encoding="utf-8")
        partial.replace(path)
    return answers, said


def _recall(path: Path | None) -> tuple[list[str], list[bool | None]] | None:
    if path is None:
        return None
    try:
        answers, said = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return answers, said
