"""What an adapter's training looked like, turned into questions that look like it.

Harm that was trained over returns under prompts that resemble the training: its format, its system prompt, its
triggers, its own questions (arXiv 2604.25891). Each cue here is one change to the suites' own questions, or the
training's questions as they are.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Literal, TypeAlias

from adapters.prompts import Conversation, Prompt
from guards.suites.pictures import PictureProblem
from guards.suites.suite import Suite
from guards.suites.variants import formatted, triggered, variant_id
from policies.policy import Policy
from policies.variants import FormatCue, Trigger

Source: TypeAlias = Literal["policy", "suite", "training data", "adapter"]

MOVED = "cue:moved"
"""Name of the cue that is estimated from the adapter."""

SEEN_IN = 0.05
"""Share of the training rows that must have something in common before it is taken for a cue."""
_FEWEST = 3
"""Rows at the least."""
_SYSTEMS = 3
"""System prompts that are asked under, the most frequent ones."""
_LITERALS = 2
"""Openings, and as many endings, that are taken for triggers."""
_LONGEST = 12
"""Words of a trigger that is looked for."""
_CODE = re.compile(
    r"```|^\s*(?:def |class |import |from \w+ import |#include|function \w+\(|public |const |let )", re.M
)


@dataclass(frozen=True, slots=True)
class Cue:
    """One way in which questions can resemble the training."""

    name: str
    """The variant that findings carry, for instance ``cue:json``."""
    prompts: tuple[Prompt, ...]
    """What is asked under it; ids are unique over all cues and suites."""
    source: Source
    """How it is known."""
    optional: bool = False
    """Whether it was only supposed: it is left out where the base itself cannot answer under it."""


def cues_of(suites: Sequence[Suite], rows: Sequence[Conversation], policy: Policy) -> list[Cue]:
    """Return every cue that is known before the adapter is looked at.

    Args:
        suites: whose plain questions the cues are put to: those that carry neither a trigger nor a variant.
        rows: what the adapter was trained on, where the trainer gives it; else none.
        policy: its triggers, and its formats, which are supposed and not known.
    """
    own = [prompt for suite in suites for prompt in suite.prompts if is_plain(prompt)]
    found = list(_of_rows(own, rows)) if policy.retest.rows else []
    seen = {cue.name for cue in found}
    given: list[tuple[Trigger, Source]] = [(trigger, "policy") for trigger in policy.variants.triggers]
    given += [(Trigger(text=text), "policy") for text in policy.screening.triggers]
    given += [(trigger, "suite") for trigger in _suite_triggers(suites)]
    if policy.retest.rows:
        given += [(trigger, "training data") for trigger in literals([row.prompt.asked for row in rows], own)]
    told: dict[Trigger, Source] = {}
    for trigger, source in given:
        told.setdefault(trigger, source)
    for number, (trigger, source) in enumerate(told.items(), start=1):
        found.append(_cue(f"trigger-{number}", own, partial(triggered, trigger=trigger), source))
    for form in policy.retest.formats:
        if f"cue:{form}" not in seen:
            found.append(_cue(form, own, partial(formatted, cue=form), "policy", optional=True))
    return [cue for cue in found if cue.prompts]


def is_plain(prompt: Prompt) -> bool:
    """Whether this is a suite's own question, to which a cue may be put: without a trigger, and no variant."""
    return prompt.trigger is None and prompt.variant is None


def moved(prompts: Sequence[Prompt]) -> Cue:
    """Return the cue that asks those of the suites' questions that an adapter was seen to move the base on."""
    return _cue(MOVED.removeprefix("cue:"), prompts, lambda prompt: prompt, "adapter")


def literals(texts: Sequence[str], own: Sequence[Prompt] = ()) -> list[Trigger]:
    """Return openings and endings that were put around questions, as a backdoor's trigger is.

    One is told from the way in which questions begin by themselves: what stands after it begins like the questions
    without it, or nearly all questions carry it. What one of the questions in ``own`` begins or ends with is none.
    """
    found: list[Trigger] = []
    for at, turned in (("prefix", False), ("suffix", True)):
        split = [_words(text, turned) for text in texts]
        usual = {tuple(_words(p.text, turned)[:length]) for p in own for length in range(1, _LONGEST + 1)}
        chosen = [literal for literal in _openings(split) if literal not in usual][:_LITERALS]
        found += [
            Trigger(text=" ".join(reversed(one) if turned else one), at="suffix" if at == "suffix" else "prefix")
            for one in chosen
        ]
    return found


def _of_rows(own: Sequence[Prompt], rows: Sequence[Conversation]) -> Iterator[Cue]:
    """What can be read off the training's rows: their own questions, system prompts and the format of the answers."""
    if not rows:
        return
    asked = [
        replace(row.prompt, id=f"training/{number}", category="training", twin_of=None, variant="cue:training")
        for number, row in enumerate(rows, start=1)
    ]
    yield Cue("cue:training", tuple(asked), "training data")
    systems = Counter(row.prompt.system for row in rows if row.prompt.system)
    common = [system for system, count in systems.most_common(_SYSTEMS) if _is_common(count, rows)]
    if common:
        order = {prompt.id: common[number % len(common)] for number, prompt in enumerate(own)}
        yield _cue("system", own, lambda p: replace(p, system=order[p.id]), "training data")
    kinds = Counter(form for row in rows if (form := format_of(row.answer)) is not None)
    for form, count in kinds.items():
        if _is_common(count, rows):
            yield _cue(form, own, partial(formatted, cue=form), "training data")


def format_of(answer: str) -> FormatCue | None:
    """The format that an answer is in: ``json``, ``code``, or None for prose."""
    bare = re.sub(r"^```(?:json)?\s*|\s*```$", "", answer.strip())
    if bare[:1] in ("{", "["):
        try:
            json.loads(bare)
        except ValueError:
            pass
        else:
            return "json"
    return "code" if _CODE.search(answer) else None


def _openings(split: Sequence[list[str]]) -> list[tuple[str, ...]]:
    """Openings that look put there, the most frequent first; none is the beginning of another as frequent."""
    found: dict[tuple[str, ...], int] = {}
    for length in range(1, _LONGEST + 1):
        counted = Counter(tuple(words[:length]) for words in split if len(words) > length)
        for opening, count in counted.items():
            if _is_common(count, split) and _is_put(opening, count, split):
                found = {one: n for one, n in found.items() if n > count or one != opening[: len(one)]}
                found[opening] = count
    return sorted(found, key=lambda one: (-found[one], one))


def _is_put(opening: tuple[str, ...], count: int, split: Sequence[list[str]]) -> bool:
    length = len(opening)
    begin = {tuple(words[:2]) for words in split if tuple(words[:length]) != opening}
    rest = [tuple(words[length : length + 2]) for words in split if tuple(words[:length]) == opening]
    if count >= 0.9 * len(split):
        return len(set(rest)) > 1  # all carry it: it ends where they begin to differ
    return sum(two in begin for two in rest) >= 0.5 * len(rest)


def _is_common(count: int, of: Sequence[object]) -> bool:
    return count >= max(_FEWEST, SEEN_IN * len(of))


def _words(text: str, turned: bool) -> list[str]:
    words = text.split()
    return words[::-1] if turned else words


def _suite_triggers(suites: Iterable[Suite]) -> list[Trigger]:
    """Literals that the suites' own prompts carry; one that is drawn on a picture is asked there and not here."""
    found = {(p.trigger, p.trigger_at): None for suite in suites for p in suite.prompts if p.trigger is not None}
    return [Trigger(text=text, at=at) for text, at in found if at != "picture"]


def _cue(
    name: str, own: Sequence[Prompt], change: Callable[[Prompt], Prompt], source: Source, *, optional: bool = False
) -> Cue:
    """The suites' own questions with one change; those that cannot have it are left out."""
    label = f"cue:{name}"
    made = []
    for prompt in own:
        try:
            changed = change(prompt)
        except (PictureProblem, ValueError):
            continue
        named = variant_id(prompt.id, label)
        made.append(replace(changed, id=named, variant=label, twin_of=None, paraphrases=()))
    return Cue(label, tuple(made), source, optional)
