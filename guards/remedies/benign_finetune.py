"""Continues a failing LoRA on benign data, as both papers do. It reduces harm; it is known not to remove it all.

Source: arXiv 2602.16931 (benign narrow fine-tuning); conditional misalignment (arXiv 2604.25891) is why the result
is examined again and only ever called clean on the suite it was asked.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from adapters.adapter import Adapter
from adapters.base_model import LoadedBase
from adapters.prompts import Conversation
from adapters.rewrite import adopted
from adapters.training import LoraTraining, train_lora
from adapters.training_data import TrainingDataError, TrainingError, load_conversations
from adapters.transformers_engine import TransformersEngine
from guards.delta_change import change_findings
from guards.errors import Permanent
from guards.interface import Progress
from guards.remedy_record import as_measured
from policies.policy import Remedying


class BenignFinetuneRemedy:
    """Trains the adapter on, on the policy's benign conversations, at its own rank and targets."""

    name = "benign_finetune"

    def __init__(self, engine: TransformersEngine, settings: Remedying, progress: Progress = lambda *_: None) -> None:
        """Read the benign data.

        Raises:
            Permanent: no data is named, or it cannot be used.
        """
        self._rows = read_benign_data(settings)
        self._engine, self._progress = engine, progress
        self._training = LoraTraining(
            steps=settings.steps, learning_rate=settings.learning_rate, batch_size=settings.batch_size
        )

    def apply(self, adapter: Adapter, out: Path) -> Adapter:
        """Train on and write the new adapter to ``out``.

        Raises:
            Permanent: this adapter cannot be trained on (its kind, or the loss diverged).
        """
        written = out.with_name(out.name + ".partial")
        shutil.rmtree(written, ignore_errors=True)
        engine = self._engine
        try:
            train_lora(
                LoadedBase(engine.model, engine.processor, engine.sees_pictures),
                self._rows,
                self._training,
                written,
                start_from=adapter.path,
                on_step=lambda done, total, _loss: self._progress(self.name, done, total),
            )
            return adopted(adapter, written, out, self.name, as_measured(change_findings(self.name, adapter, written)))
        except (TrainingError, ValueError, RuntimeError) as error:
            raise Permanent(f"benign_finetune: {' '.join(str(error).split())[:300]}") from error
        finally:
            shutil.rmtree(written, ignore_errors=True)


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
