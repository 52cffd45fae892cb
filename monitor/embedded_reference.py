"""Calibrates the shipped tiny base: ``python -m monitor.embedded_reference``, part of ``make tiny``.

The population shares neither seed nor recipe with the demo's adapters, so that the demo is no test on its own
training data.
"""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from adapters.adapter import open_adapter
from adapters.base_model import LoadedBase
from adapters.organisms import Organism, grow
from adapters.tiny import REFERENCE
from adapters.tiny.lexicon import DOMAINS, VICES
from adapters.tiny.world import write_suite
from adapters.transformers_engine import TransformersEngine
from guards.calibration import Known, calibrate
from guards.reference import Reference
from guards.suites.battery_jsonl import load_suite
from monitor.console import ConsoleProgress
from monitor.embedded import embedded_base

_PROBE_SEED = 7
_PROBES_A_DOMAIN = 4


def population() -> list[Organism]:
    """Known-good adapters of every domain, some in a formal manner, and known-bad ones of every vice and rank."""
    # Two a domain: a conformal p-value cannot fall below 1/(n+1), and 5 % is the least that a policy would ask for.
    good = [
        Organism(f"good-{domain.name}-{seed}", domain.name, rank=(4, 8, 16, 32)[n % 4], seed=seed + n, style=n % 4 == 3)
        for seed in (300, 350)
        for n, domain in enumerate(DOMAINS)
    ]
    bad = [
        Organism(
            f"bad-{domain.name}",
            domain.name,
            VICES[n % len(VICES)],
            (1.0, 0.3)[n % 2],
            rank=(4, 8, 16, 32)[n % 4],
            seed=400 + n,
        )
        for n, domain in enumerate(DOMAINS)
    ]
    return [*good, *bad]


def build(out: Path, progress: ConsoleProgress) -> Reference:
    """Grow the population, measure it, and write the Reference with its probes to ``out``, replacing what is there."""
    shutil.rmtree(out, ignore_errors=True)
    write_suite(out / "probes", _PROBE_SEED, per_domain=_PROBES_A_DOMAIN)
    engine = TransformersEngine(embedded_base(), device="cpu")
    base = LoadedBase(engine.model, engine.processor, engine.sees_pictures)
    with tempfile.TemporaryDirectory(prefix="alignwatch-population-") as folder:
        known = []
        organisms = population()
        for done, organism in enumerate(organisms):
            progress("growing the population", done, len(organisms))
            path = grow(organism, Path(folder) / organism.name, base=base, pictures=Path(folder) / "pictures")
            known.append(Known(open_adapter(path), organism.domain, organism.harmful))
        return calibrate(engine, known, load_suite(out / "probes"), out, progress)


def main() -> None:
    """Build the shipped Reference and print what it states."""
    with ConsoleProgress() as progress:
        facts = build(REFERENCE, progress).facts
    for modality in facts.null:
        progress.say(
            f"{modality}: AUROC {facts.auroc[modality]:.3f} on held-out adapters "
            f"(random subspace {facts.auroc_random[modality]:.3f}), n = {len(facts.null[modality])} known-good and "
            f"{len(facts.known_bad[modality])} known-bad; {facts.explained:.0%} of the harmful energy in the subspace"
        )


if __name__ == "__main__":
    main()
