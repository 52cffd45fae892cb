"""Benign data is judged before it is trained on: rows that are harmful would teach what they are to mend.

A seeded random sample of the rows goes to the policy's judge. The data is refused where the share of misaligned answers
is above the policy's limit beyond doubt, so that one row that a judge misreads refuses nothing.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence

from adapters.prompts import Conversation
from adapters.training_data import TrainingDataError, load_conversations
from guards.errors import Permanent
from guards.judges.interface import Judge, Judgement, Transcript
from guards.statistics import wilson
from policies.findings import Finding
from policies.remedying import Remedying
from policies.rules import Rules

VERSION = "1"
"""Of the finding made here."""
ROWS = 64
"""Rows that are judged. At a limit of 2 % four misaligned ones among them refuse the data, the lower bound of 3 being
1.6 %; data of which a tenth is harmful has so many with probability 0.89."""
_NAMED = 5


def read_benign_data(settings: Remedying) -> list[Conversation]:
    """Read the policy's benign conversations.

    Raises:
        Permanent: no data is named, or it cannot be used; file and line are named.
    """
    if settings.benign_data is None:
        raise Permanent("benign_finetune needs remedying.benign_data in the policy")
    try:
        return load_conversations(settings.benign_data)
    except TrainingDataError as error:
        raise Permanent(f"benign data: {error}") from error


def read_neutral_data(settings: Remedying) -> list[Conversation]:
    """Read the policy's neutral conversations; nothing where it names none.

    Raises:
        Permanent: they cannot be used; file and line are named.
    """
    if settings.neutral_data is None:
        return []
    try:
        return load_conversations(settings.neutral_data)
    except TrainingDataError as error:
        raise Permanent(f"neutral data: {error}") from error


def require_benign(
    rows: Sequence[Conversation], data: str, judge: Judge, rules: Rules, limit: float, remedy: str
) -> list[Finding]:
    """Have a sample of rows judged; return the share of misaligned ones with its 95 % Wilson interval.

    Args:
        rows: what would be trained on, named ``row-LINE``.
        data: what they are, for messages: ``benign data FILE``.
        judge: grades the answers.
        rules: when an answer is misaligned.
        limit: how large a share is too much; at 1 nothing is judged and nothing returned.
        remedy: whose finding it is.

    Raises:
        Permanent: too many rows are harmful, the worst of them named by their lines; or fewer than half are scored.
        Retryable: the judge could not be asked.
    """
    if limit >= 1:
        return []
    sample = random.Random(0).sample(list(rows), min(ROWS, len(rows)))  # noqa: S311 - no secret
    judged = judge.grade([Transcript(row.prompt, row.answer) for row in sample])
    words = [one.misaligned(rules.misaligned_below, rules.coherent_above) for one in judged]
    scored = sum(word is not None for word in words)
    if 2 * scored < len(sample):
        raise Permanent(f"{data}: {_why_unscored(judged, len(sample) - scored)}; it is not trained on")
    share = wilson(sum(word is True for word in words), scored)
    if share.low > limit:
        bad = [(row, one) for row, one, word in zip(sample, judged, words, strict=True) if word]
        raise Permanent(_refusal(data, limit, scored, bad))
    return [
        Finding(
            guard=remedy,
            version=VERSION,
            measure="harmful_rows",
            value=share.value,
            low=share.low,
            high=share.high,
            n=scored,
            labels={"data": data.split()[0]},
        )
    ]


def _why_unscored(judged: Sequence[Judgement], unscored: int) -> str:
    reasons = Counter(one.unscored or "without a score" for one in judged if not one.scored)
    told = ", ".join(f"{reason} {count}" for reason, count in reasons.most_common(3))
    return f"the judge could not score {unscored} of {len(judged)} rows ({told}), so whether it is benign is not known"


def _refusal(data: str, limit: float, scored: int, bad: Sequence[tuple[Conversation, Judgement]]) -> str:
    worst = sorted(bad, key=lambda pair: pair[1].alignment or 0.0)[:_NAMED]
    lines = ", ".join(row.prompt.id.removeprefix("row-") for row, _ in worst)
    more = f" and {len(bad) - len(worst)} more" if len(bad) > len(worst) else ""
    return (
        f"{data}: the judge finds {len(bad)} of {scored} rows harmful, credibly more than {limit:g} "
        f"(remedying.harmful_rows_at_most); the worst are in lines {lines}{more}; take such rows out"
    )
