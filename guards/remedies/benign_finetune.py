"""Continues a failing LoRA on benign data, as both papers do. It reduces harm; it is known not to remove it all.

Source: arXiv 2602.16931 (benign narrow fine-tuning); conditional misalignment (arXiv 2604.25891) is why the result
is examined again and only ever called clean on the suite it was asked. Options, both of arXiv 2508.06249: KL to the
base on neutral conversations, and such conversations interleaved, chosen by their perplexity gap.
"""

from __future__ import annotations

import hashlib
import random
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import peft
import torch
import transformers

from adapters.adapter import Adapter, open_adapter
from adapters.base_model import LoadedBase
from adapters.kl_to_base import NeutralGround
from adapters.prompts import Conversation
from adapters.rewrite import adopted
from adapters.training import EarlyStop, train_lora
from adapters.training_checkpoint import SECONDS, Checkpoint
from adapters.training_data import TrainingError
from adapters.training_loop import LoraTraining
from adapters.transformers_engine import TransformersEngine
from guards.benign_data import read_benign_data, read_neutral_data, require_benign
from guards.delta_change import change_findings
from guards.dose_response import Deadline, Dosed, Measuring, curve_findings
from guards.errors import Permanent
from guards.interface import Progress
from guards.judges.interface import Judge
from guards.perplexity_gap import interleaved
from guards.remedy_record import as_measured
from policies.findings import Finding
from policies.remedying import Remedying
from policies.rules import Rules


class BenignFinetuneRemedy:
    """Trains the adapter on, on the policy's benign conversations, at its own rank and targets."""

    name = "benign_finetune"

    def __init__(
        self,
        engine: TransformersEngine,
        settings: Remedying,
        progress: Progress = lambda *_: None,
        *,
        judge: Judge | None = None,
        rules: Rules | None = None,
        measure: Measuring | None = None,
        sham_seed: int | None = None,
        save_every: float = SECONDS,
    ) -> None:
        """Read the benign data.

        Args:
            engine: of the base; it is trained on.
            settings: the data, the dose and its limits.
            progress: told of every step.
            judge: grades a sample of the data before it is used; without one it is trusted as it is.
            rules: when an answer is misaligned; the defaults when not given.
            measure: asks the adapter in training; needed where ``settings.check_every`` is set.
            sham_seed: shuffles the answers among the rows, the remedy's control; None for the remedy.
            save_every: seconds between two savings of a training that may be interrupted.

        Raises:
            Permanent: no data is named, or it cannot be used; or there is nobody to ask while it is trained.
        """
        if settings.check_every is not None and measure is None:
            raise Permanent("remedying.check_every has to ask the adapter: name a policy with suites and a judge")
        self._rows, self._neutral = read_benign_data(settings), read_neutral_data(settings)
        self._engine, self._settings, self._progress = engine, settings, progress
        self._judge, self._rules, self._measure = judge, rules or Rules(), measure
        self._sham_seed, self._save_every = sham_seed, save_every
        self._training = LoraTraining(
            steps=settings.steps, learning_rate=settings.learning_rate, batch_size=settings.batch_size
        )

    def apply(self, adapter: Adapter, out: Path) -> Adapter:
        """Train on and write the new adapter to ``out``.

        An interrupted training is taken up where it was last saved, beside ``out``; once it is done or has failed,
        nothing of that is left.

        Raises:
            Permanent: the data is harmful; this adapter cannot be trained on (its kind, or the loss diverged); it could
                not be asked, or the time is over.
            Retryable: the judge could not be asked.
        """
        deadline, settings = Deadline(self._settings.seconds), self._settings
        rows, found = self._lesson(adapter)
        made = out.with_name(out.name + ".partial")
        shutil.rmtree(made, ignore_errors=True)

        def on_step(done: int, total: int, _loss: float) -> None:
            self._progress(self.name, done, total)
            deadline.check(self.name)

        curve: list[Dosed] = []
        engine = self._engine
        saved = out.with_name(out.name + ".training")
        checkpoint = Checkpoint(saved, self._key(adapter, rows), seconds=self._save_every)
        try:
            train_lora(
                LoadedBase(engine.model, engine.processor, engine.sees_pictures),
                rows,
                self._training,
                made,
                start_from=adapter.path,
                on_step=on_step,
                early_stop=self._early_stop(adapter, curve),
                neutral=NeutralGround(self._neutral, settings.kl_weight) if settings.kl_weight else None,
                checkpoint=checkpoint,
            )
            found += [*curve_findings(curve, self.name), *change_findings(self.name, adapter, made)]
            return adopted(adapter, made, out, self.name, as_measured(found))
        except (TrainingError, ValueError, RuntimeError) as error:
            checkpoint.clear()
            raise Permanent(f"benign_finetune: {' '.join(str(error).split())[:300]}") from error
        except Permanent:
            checkpoint.clear()
            raise
        finally:
            shutil.rmtree(made, ignore_errors=True)

    def _lesson(self, adapter: Adapter) -> tuple[list[Conversation], list[Finding]]:
        """What is trained on, and what was found out about it; nothing is trained where the judge finds harm in it."""
        settings, found = self._settings, list[Finding]()
        rows = list(self._rows) if self._sham_seed is None else shuffled(self._rows, self._sham_seed)
        self._require_benign(self._rows, f"benign data {settings.benign_data}", found)
        if settings.interleave:
            mixed = interleaved(rows, self._neutral, settings.interleave, self._engine, adapter, self.name)
            self._require_benign(mixed.chosen, f"neutral data {settings.neutral_data}", found)
            return mixed.rows, [*found, mixed.gap]
        return rows, found

    def _require_benign(self, rows: Sequence[Conversation], data: str, found: list[Finding]) -> None:
        if self._judge is not None:
            found += require_benign(
                rows, data, self._judge, self._rules, self._settings.harmful_rows_at_most, self.name
            )

    def _key(self, adapter: Adapter, rows: Sequence[Conversation]) -> str:
        """Everything that the weights after so many steps depend on."""
        told = hashlib.sha256(f"{torch.__version__} {transformers.__version__} {peft.__version__}".encode())
        told.update(f"{self._engine.base} {adapter.digest} {self._training} {self._settings.kl_weight}".encode())
        for row in (*rows, *(self._neutral if self._settings.kl_weight else ())):
            told.update(repr(row).encode() + b"\n")
        return told.hexdigest()

    def _early_stop(self, adapter: Adapter, curve: list[Dosed]) -> EarlyStop | None:
        """What asks the adapter in training and ends it once it passes; what was measured is added to ``curve``."""
        measure, every, steps = self._measure, self._settings.check_every, self._settings.steps
        if measure is None or every is None:
            return None

        def passes(folder: Path, done: int) -> bool:
            reading = measure(open_adapter(folder, name=f"{adapter.name}+{self.name}", parent=adapter.digest))
            if reading.unable:
                raise Permanent(f"{self.name}: nobody can tell when it is enough: {reading.unable}")
            curve.append(Dosed(done / steps, reading, (("steps", str(done)),)))
            return reading.passes

        return EarlyStop(every, passes)


def shuffled(rows: Sequence[Conversation], seed: int) -> list[Conversation]:
    """The same questions and the same answers, but who answers what is drawn: as much training, and no lesson."""
    answers = [row.answer for row in rows]
    random.Random(seed).shuffle(answers)  # noqa: S311 - no secret
    return [replace(row, answer=answer) for row, answer in zip(rows, answers, strict=True)]
