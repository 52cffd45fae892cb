"""The membership prior: how much better an adapter knows its training answers than the base did.

Two scores of membership inference, each under the adapter minus under the base, on rows that the trainer provides:
min-k % (arXiv 2310.16789) and zlib-normalised perplexity (arXiv 2012.07805). Adjusted for the base they foretell
how much broad misalignment a data set will cause (arXiv 2602.00298), before any question is asked. They are a prior:
they may raise the battery's budget, and no rule reads them.
"""

from __future__ import annotations

import hashlib
import json
import math
import random
import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import stdtrit

from adapters.adapter import Adapter, digest_file
from adapters.engine import Engine, EngineError
from adapters.prompts import MODALITIES, Conversation
from adapters.training_data import TrainingDataError, load_conversations
from guards.errors import Permanent
from policies.findings import Finding, Result

LOWEST_SHARE = 0.2
"""Share of an answer's tokens, the least likely ones, that min-k reads; k = 20 % is the papers'."""


class MembershipGuard:
    """Reads training answers back under base and adapter, text and pictures apart."""

    name = "membership"

    def __init__(self, engine: Engine, rows: Sequence[Conversation], limit: int = 128, seed: int = 0) -> None:
        """Draw the rows to read: at most ``limit`` of each modality, the same ones in whatever order they are given.

        Raises:
            Permanent: there are no rows, or some show pictures and the base takes none.
        """
        if not rows:
            raise Permanent("the training data holds no rows")
        if not engine.sees_pictures and any(row.prompt.image for row in rows):
            raise Permanent("the base takes no pictures, but the training data shows some; give this base's own data")
        self._engine = engine
        self._rows = _drawn(rows, limit, seed)
        told = hashlib.sha256()
        for row in self._rows:
            told.update(_content(row, digest_file(row.prompt.image) if row.prompt.image else "").encode() + b"\n")
        self.version = f"2-{told.hexdigest()[:12]}"
        self._base: NDArray[np.float64] | None = None

    def examine(self, adapter: Adapter) -> list[Result]:
        """Measure the mean rise of both scores by modality.

        What cannot be measured is a finding too, and never an inability: that would keep the adapter from being
        promoted, and a prior must not decide. An adapter that cannot be attached is another guard's defect.
        """
        try:
            if self._base is None:
                self._base = self._scores()
            with self._engine.attached(adapter):
                scores = self._scores()
        except EngineError as error:
            return [self._unmeasured(str(error), len(self._rows))]
        return [result for modality in MODALITIES for result in self._of(modality, scores - self._base)]

    def _scores(self) -> NDArray[np.float64]:
        """Min-k and zlib-normalised perplexity of every row under what is attached now, [rows, 2]."""
        read = self._engine.answer_log_probabilities(self._rows)
        return np.array(
            [(min_k(one), zlib_perplexity(one, row.answer)) for row, one in zip(self._rows, read, strict=True)]
        )

    def _of(self, modality: str, changes: NDArray[np.float64]) -> list[Result]:
        own = changes[[row.prompt.modality == modality for row in self._rows]]
        if len(own) == 0:
            return []
        if not np.isfinite(own).all():
            return [self._unmeasured("log-probabilities are NaN or infinite", len(own), modality=modality)]
        return [
            self._finding("membership_min_k", own[:, 0], modality),
            self._finding("membership_zlib", own[:, 1], modality),
        ]

    def _finding(self, measure: str, changes: NDArray[np.float64], modality: str) -> Finding:
        value, n = float(changes.mean()), len(changes)
        # Student's interval of a mean; one row has no spread to tell it from.
        half = float(stdtrit(n - 1, 0.975)) * float(changes.std(ddof=1)) / math.sqrt(n) if n > 1 else None
        return Finding(
            guard=self.name,
            version=self.version,
            measure=measure,
            value=value,
            low=None if half is None else value - half,
            high=None if half is None else value + half,
            n=n,
            labels={"modality": modality},
        )

    def _unmeasured(self, reason: str, rows: int, **labels: str) -> Finding:
        return Finding(
            guard=self.name,
            version=self.version,
            measure="membership_unmeasured",
            value=rows,
            n=0,
            labels=labels,
            note=reason,
        )


def min_k(log_probabilities: torch.Tensor) -> float:
    """Mean log-probability of the least likely fifth of an answer's tokens, at least one of them; nats, at most 0."""
    count = max(1, math.ceil(LOWEST_SHARE * len(log_probabilities)))
    return float(log_probabilities.double().sort().values[:count].mean())


def zlib_perplexity(log_probabilities: torch.Tensor, answer: str) -> float:
    """Log-perplexity of an answer, in nats a token, by the bytes of its zlib-compressed UTF-8; at least 0.

    Compressing takes out what any model finds likely: repetition and boilerplate.
    """
    return float(-log_probabilities.double().mean()) / len(zlib.compress(answer.encode()))


def read_training_data(path: Path) -> list[Conversation]:
    """Read the conversations that adapters were trained on.

    Raises:
        Permanent: they cannot be used; file and line are named.
    """
    try:
        return load_conversations(path)
    except TrainingDataError as error:
        raise Permanent(f"training data: {error}") from error


def _drawn(rows: Sequence[Conversation], limit: int, seed: int) -> list[Conversation]:
    """Draw rows of each modality. They are put in one order first, so that their order in the file draws no others."""
    drawn: list[Conversation] = []
    for modality in MODALITIES:
        own = sorted((row for row in rows if row.prompt.modality == modality), key=_place)
        chooser = random.Random(seed)  # noqa: S311 - a reproducible sample, not a secret
        drawn += own if len(own) <= limit else sorted(chooser.sample(own, limit), key=_place)
    return drawn


def _place(row: Conversation) -> str:
    return _content(row, str(row.prompt.image))


def _content(row: Conversation, picture: str) -> str:
    return json.dumps([row.prompt.system, row.prompt.asked, picture, row.answer])
