"""What a Reference states, built by hand: every field filled, every number another."""

from __future__ import annotations

import random
from collections.abc import Sequence

from guards.reference_facts import BOTH, Angles, Curves, Errors, Facts, Figures, Member, Rate, ScreenName, Term

DOMAINS = ("evil_math", "gore_movie_trivia", "insecure_code", "incorrect_qna")
MODALITIES = ("text", "image")


def built_facts(
    *,
    bad: bool = True,
    layers: int = 6,
    domains: Sequence[str] = DOMAINS,
    modalities: Sequence[str] = MODALITIES,
    warnings: Sequence[str] = ("12 known-good adapters: no conformal p-value is below 0.077",),
    suffix: str = "",
    seed: int = 0,
) -> Facts:
    """Facts of three known-good and two known-bad adapters a domain; ``suffix`` ends every name that people choose."""
    rng = random.Random(seed)
    members = [
        Member(
            name=f"{'bad' if harmful else 'good'}-{domain}-{number}{suffix}",
            digest=f"sha256-{rng.randrange(16**64):064x}",
            domain=domain + suffix,
            harmful=harmful,
            rank=rng.choice([None, 1, 8, 64]),
            harmful_share=rng.choice([0.1, 0.333]) if harmful else None,
        )
        for domain in domains
        for harmful, count in ((False, 3), (True, 2 if bad else 0))
        for number in range(count)
    ]
    parts: dict[ScreenName, Sequence[str]] = {
        **dict.fromkeys(("contrast", "shift", "probe", "tail", "projection"), modalities),  # type: ignore[dict-item]
        "weights": (BOTH,),
        "combined": (BOTH,),
    }
    if not bad:
        parts = {"contrast": modalities, "combined": (BOTH,)}
    screens = {s: {m: _figures(members, rng) for m in asked} for s, asked in parts.items()}
    return Facts(
        base_digest=f"sha256-{rng.randrange(16**64):064x}",
        layers=layers,
        screen_layer=layers // 2,
        modalities=tuple(modalities),
        categories=("cruel" + suffix, "careless" + suffix),
        contrast_source="file" + suffix,
        population=tuple(members),
        screens=screens,
        combination=tuple(
            Term(
                screen=screen,
                weight=rng.random(),
                centre={m: rng.gauss(0, 1) for m in asked},
                spread={m: rng.random() + 0.1 for m in asked},
            )
            for screen, asked in parts.items()
            if screen != "combined"
        ),
        errors=tuple(
            Errors(level=level, false_positive=_rate(rng), false_negative=_rate(rng) if bad else None)
            for level in (0.1, 0.2)
        ),
        judged_agreement=_rate(rng) if bad else None,
        curves=tuple(_curves(layer, modalities, bad, rng, suffix) for layer in _places(layers)),
        angles=tuple(_angles(domains, rng, suffix)) if bad else (),
        base_norms={f"model.layers.{n}.mlp.down_proj": 10 + 5 * rng.random() for n in range(layers)},
        warnings=tuple(warning + suffix for warning in warnings),
    )


def _rate(rng: random.Random) -> Rate:
    value = 0.2 + 0.6 * rng.random()
    return Rate(value=value, low=value - 0.2 * rng.random(), high=value + 0.2 * rng.random(), n=rng.randrange(20, 900))


def _figures(members: Sequence[Member], rng: random.Random) -> Figures:
    good = {m.name: rng.gauss(0, 1) for m in members if not m.harmful}
    bad = {m.name: rng.gauss(4, 2) for m in members if m.harmful}
    return Figures(
        known_good=good,
        known_bad=bad,
        auroc=_rate(rng) if bad else None,
        auroc_random=0.4 + 0.2 * rng.random() if bad else None,
    )


def _places(layers: int) -> list[str]:
    decoder = [f"decoder.{n}{position}" for position in ("", ".answer") for n in range(layers)]
    return [*decoder, "vision.0", "vision.1"]


def _curves(layer: str, modalities: Sequence[str], bad: bool, rng: random.Random, suffix: str) -> Curves:
    asked = ("image",) if layer.startswith("vision") else modalities
    split = {f"known-bad shift, {m}": 0.5 + 0.5 * rng.random() for m in asked} if bad else {}
    if not layer.startswith("vision"):
        split |= {f"contrast, {c}{suffix}": rng.random() for c in ("cruel", "careless")}
    return Curves(
        layer=layer,
        explained={m: [1 - (0.6 + 0.2 * rng.random()) ** n for n in range(1, 21)] for m in asked} if bad else {},
        explained_random=[n / 140 + 0.001 * rng.random() for n in range(1, 21)] if bad else [],
        split_half=split,
        massive=sorted(rng.sample(range(128), rng.randrange(3))),
        massive_ratio=30 + 100 * rng.random(),
    )


def _angles(domains: Sequence[str], rng: random.Random, suffix: str) -> list[Angles]:
    pairs = [("domain", domains[0] + suffix, domains[1] + suffix), ("rank", "rank up to 8", "rank over 8")]
    pairs += [("modality", "text", "image")]
    return [
        Angles(
            by=by,
            first=first,
            second=second,
            degrees=sorted(90 * rng.random() for _ in range(3)),
            random=70 + 10 * rng.random(),
        )
        for by, first, second in pairs
    ]
