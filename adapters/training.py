"""One LoRA training loop for any chat model, with pictures or without."""

from __future__ import annotations

import shutil
import tempfile
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, PeftModel
from peft.utils.save_and_load import load_peft_weights, set_peft_model_state_dict

from adapters.attachment import detach, laid_aside
from adapters.base_model import LoadedBase, Model, Processor, default_device, default_dtype, load_base
from adapters.conversation_encoding import ConversationEncoder
from adapters.kl_to_base import KlToBase, NeutralGround
from adapters.prompts import Conversation
from adapters.training_checkpoint import Checkpoint
from adapters.training_data import TrainingDataError
from adapters.training_loop import LoraTraining, OnStep, Target, optimise


@dataclass(frozen=True, slots=True)
class EarlyStop:
    """What ends a training before its last step. The training is, bit for bit, what it would be without."""

    every: int
    """Steps between two looks, at least 1; after the last step none is taken."""
    reached: Callable[[Path, int], bool]
    """Told the folder of the adapter as it is now and the steps done, while the base carries no adapter; True ends the
    training. What it raises ends it, too, and nothing is written."""


def train_lora(
    base: Path | str | LoadedBase | tuple[Model, Processor],
    rows: Sequence[Conversation],
    settings: LoraTraining,
    out: Path,
    *,
    start_from: Path | None = None,
    base_name: str | None = None,
    on_step: OnStep | None = None,
    early_stop: EarlyStop | None = None,
    neutral: NeutralGround | None = None,
    checkpoint: Checkpoint | None = None,
) -> Path:
    """Train a LoRA on ``rows`` and write it to ``out`` as an ordinary PEFT folder.

    The loss is taken over the answers and the end of their turns alone. The base is left as it was, also
    after an error, and ``out`` appears whole or not at all.

    Args:
        base: a folder or Hub id, or a base already in memory, so that several trainings share one load.
        rows: what to learn, at least one.
        settings: the dose. With ``start_from``, rank, alpha and target are that adapter's.
        out: a folder that does not exist yet.
        start_from: continue this adapter instead of a fresh one; it is not changed.
        base_name: written as ``base_model_name_or_path``; by default the name that the base's config declares
            as ``alignwatch_base_name``, else its path as given.
        on_step: told of every step; what it raises ends the training.
        early_stop: asked every so many steps whether it is enough; all steps are done when not given.
        neutral: where the adapter is held to what its base says, at the price of two more forward passes and one more
            backward pass a step.
        checkpoint: where an interrupted training is taken up, and what is done is saved meanwhile.

    Raises:
        BaseUnloadable: the base cannot be loaded.
        TrainingDataError: no rows, or a row that the base's template cannot express.
        TrainingDiverged: the loss stopped being a number.
        FileExistsError: ``out`` exists.
    """
    if not rows:
        raise TrainingDataError("there are no training rows")
    if out.exists():
        raise FileExistsError(f"{out} already exists; give a folder that does not")
    loaded = _loaded(base)
    name = base_name or _declared_name(loaded.model, base)
    encoder = ConversationEncoder(loaded)
    with torch.random.fork_rng():
        torch.manual_seed(settings.seed)
        with _trainable(loaded.model, settings, start_from) as lora:
            kl = KlToBase(neutral, ConversationEncoder(loaded), settings.batch_size, settings.seed) if neutral else None
            for step in optimise(lora, rows, encoder, settings, on_step=on_step, kl=kl, checkpoint=checkpoint):
                if (
                    early_stop is not None
                    and step < settings.steps
                    and _is_enough(loaded.model, lora, name, early_stop, step)
                ):
                    break
            made = _write(lora, name, out)
    if checkpoint is not None:
        checkpoint.clear()
    return made


def lora_targets(model: Model, target: Target) -> str:
    """A regular expression over the linear layers to adapt; the output head is never among them."""
    names = [name for name, module in model.named_modules() if isinstance(module, torch.nn.Linear)]
    names = [name for name in names if name.rpartition(".")[2] != "lm_head"]
    decoder = [name for name in names if ".language_model." in f".{name}."]
    if target == "language" and decoder:
        leaves = sorted({name.rpartition(".")[2] for name in decoder})
        return rf".*language_model\..*\.({'|'.join(leaves)})"
    leaves = sorted({name.rpartition(".")[2] for name in names})
    return rf".*\.({'|'.join(leaves)})"


def _loaded(base: Path | str | LoadedBase | tuple[Model, Processor]) -> LoadedBase:
    if isinstance(base, LoadedBase):
        return base
    if isinstance(base, tuple):
        return LoadedBase(base[0], base[1], hasattr(base[1], "image_processor"))
    device = default_device()
    return load_base(base, device, default_dtype(device))


def _declared_name(model: Model, base: Path | str | LoadedBase | tuple[Model, Processor]) -> str:
    declared = getattr(model.config, "alignwatch_base_name", None)
    if declared:
        return str(declared)
    return str(base) if isinstance(base, Path | str) else str(model.config._name_or_path)


@contextmanager
def _trainable(model: Model, settings: LoraTraining, start_from: Path | None) -> Iterator[PeftModel]:
    """Attach a LoRA whose weights alone learn; the base is restored whatever happens."""
    try:
        if start_from is None:
            config = LoraConfig(
                r=settings.rank,
                lora_alpha=_whole(settings.alpha),
                target_modules=lora_targets(model, settings.target),
                lora_dropout=0.0,
                bias="none",
            )
        else:
            config = LoraConfig.from_pretrained(str(start_from))
            config.inference_mode = False
        with warnings.catch_warnings():
            # PEFT 0.21 asks transformers 5.23 by a name that it is giving up.
            warnings.filterwarnings("ignore", message=".*is_gradient_checkpointing", category=FutureWarning)
            lora = PeftModel(model, config, "default")
        if start_from is not None:
            weights = load_peft_weights(str(start_from), device=str(model.device))
            set_peft_model_state_dict(lora, weights, "default")
        yield lora
    finally:
        detach(model)


def _whole(alpha: float) -> int:
    """Servers read ``lora_alpha`` as an integer, which PEFT's own type says too; only an odd scale stays a float."""
    value: Any = int(alpha) if float(alpha).is_integer() else alpha
    return value  # type: ignore[no-any-return]


def _is_enough(model: Model, lora: PeftModel, base_name: str, early_stop: EarlyStop, step: int) -> bool:
    """Show the adapter as it is now, from a folder that is gone afterwards, with nothing attached to the base."""
    if step % early_stop.every:
        return False
    with tempfile.TemporaryDirectory(prefix="alignwatch-training-") as folder:
        shown = _write(lora, base_name, Path(folder) / "adapter")
        with laid_aside(model):
            return early_stop.reached(shown, step)


def _write(lora: PeftModel, base_name: str, out: Path) -> Path:
    """Save beside ``out`` and rename, so that nobody ever sees half an adapter."""
    lora.peft_config["default"].base_model_name_or_path = base_name
    out.parent.mkdir(parents=True, exist_ok=True)
    staging = Path(tempfile.mkdtemp(prefix=f".{out.name}-", dir=out.parent))
    try:
        # False: else PEFT asks the Hub whether the base's vocabulary was changed.
        lora.save_pretrained(str(staging), save_embedding_layers=False)
        (staging / "README.md").unlink(missing_ok=True)
        staging.chmod(0o755)
        staging.rename(out)
    except BaseException:
        shutil.rmtree(staging, ignore_errors=True)
        raise
    return out
