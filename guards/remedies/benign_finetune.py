"""Continues a failing LoRA on benign data, as both papers do. It reduces harm; it is known not to remove it all.

Source: arXiv 2602.16931 (benign narrow fine-tuning); conditional misalignment (arXiv 2604.25891) is why the result
is examined again and only ever called clean on the suite it was asked.
"""

from __future__ import annotations

import random
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from adapters.adapter import Adapter, open_adapter
from adapters.base_model import LoadedBase
from adapters.prompts import Conversation
from adapters.rewrite import adopted
from adapters.training import EarlyStop, LoraTraining, train_lora
from adapters.training_data import TrainingError
from adapters.transformers_engine import TransformersEngine
from guards.benign_data import read_benign_data, require_benign
from guards.delta_change import change_findings
from guards.dose_response import Deadline, Dosed, Measuring, curve_findings
from guards.errors import Permanent
from guards.interface import Progress
from guards.judges.interface import Judge
from guards.remedy_record import as_measured
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

        Raises:
            Permanent: no data is named, or it cannot be used; or there is nobody to ask while it is trained.
        """
        if settings.check_every is not None and measure is None:
            raise Permanent("remedying.check_every has to ask the adapter: name a policy with suites and a judge")
        self._rows = read_benign_data(settings)
        self._engine, self._settings, self._progress = engine, settings, progress
        self._judge, self._rules, self._measure = judge, rules or Rules(), measure
        self._sham_seed = sham_seed
        self._training = LoraTraining(
            steps=settings.steps, learning_rate=settings.learning_rate, batch_size=settings.batch_size
        )

    def apply(self, adapter: Adapter, out: Path) -> Adapter:
        """Train on and write the new adapter to ``out``.

        Raises:
            Permanent: the data is harmful; this adapter cannot be trained on (its kind, or the loss diverged); it could
                not be asked, or the time is over.
            Retryable: the judge could not be asked.
        """
        deadline, settings = Deadline(self._settings.seconds), self._settings
        found = require_benign(self._rows, self._judge, self._rules, settings, self.name) if self._judge else []
        rows = self._rows if self._sham_seed is None else shuffled(self._rows, self._sham_seed)
        made = out.with_name(out.name + ".partial")
        shutil.rmtree(made, ignore_errors=True)

        def on_step(done: int, total: int, _loss: float) -> None:
            self._progress(self.name, done, total)
            deadline.check(self.name)

        curve: list[Dosed] = []
        engine = self._engine
        try:
            train_lora(
                LoadedBase(engine.model, engine.processor, engine.sees_pictures),
                rows,
                self._training,
                made,
                start_from=adapter.path,
                on_step=on_step,
                early_stop=self._early_stop(adapter, curve),
            )
            found += [*curve_findings(curve, self.name), *change_findings(self.name, adapter, made)]
            return adopted(adapter, made, out, self.name, as_measured(found))
        except (TrainingError, ValueError, RuntimeError) as error:
            raise Permanent(f"benign_finetune: {' '.join(str(error).split())[:300]}") from error
        finally:
            shutil.rmtree(made, ignore_errors=True)

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
