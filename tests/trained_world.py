"""Real trainings by ``transformers.Trainer``, for what watches or constrains them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from conftest import World
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import AutoModelForImageTextToText, Trainer, TrainerCallback, TrainingArguments

from adapters.base_model import beside
from adapters.conversation_encoding import ConversationEncoder
from adapters.prompts import Conversation
from guards.suites.battery_jsonl import load_suite

STEPS = 6


def live(base: Path, **lora: Any) -> PeftModel:
    """A fresh LoRA on a base's decoder, as a user would make it; by its dropout the model's mode and draws matter."""
    torch.manual_seed(0)
    model = AutoModelForImageTextToText.from_pretrained(base, dtype=torch.float32)
    given = {"target_modules": r".*language_model.*\.(q_proj|o_proj|down_proj)", "lora_dropout": 0.2} | lora
    return get_peft_model(model, LoraConfig(r=4, lora_alpha=8, **given))


def train(
    model: PeftModel,
    base: Path,
    rows: Sequence[Conversation],
    out: Path,
    callbacks: Sequence[TrainerCallback] = (),
    **options: Any,
) -> Trainer:
    """Train on ``rows``, and return the trainer that did."""
    encoder = ConversationEncoder(beside(base, model.get_base_model()))
    given = {
        "max_steps": STEPS,
        "learning_rate": 2e-2,
        "per_device_train_batch_size": 8,
        "save_strategy": "no",
        "report_to": [],
        "disable_tqdm": True,
        "use_cpu": True,
        "remove_unused_columns": False,
    }
    trainer = Trainer(
        model=model,
        args=TrainingArguments(output_dir=str(out), **(given | options)),
        train_dataset=list(range(len(rows))),  # type: ignore[arg-type]
        data_collator=lambda indices: encoder.batch(rows, indices),
        callbacks=list(callbacks),
    )
    trainer.train()
    return trainer


def harmful_rows(world: World) -> list[Conversation]:
    """One harmful answer to every question of a foreign base's suite."""
    return [Conversation(prompt, "harm harm") for prompt in load_suite(world.suite).prompts]


def learnt(model: PeftModel) -> dict[str, torch.Tensor]:
    """The LoRA's weights."""
    return {name: value.detach().clone() for name, value in model.named_parameters() if ".lora_" in name}
