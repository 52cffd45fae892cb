"""What the tiny models are made of: a Gemma3 small enough to train in minutes, its tokenizer and its processor."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers
from transformers import (
    Gemma3Config,
    Gemma3ForConditionalGeneration,
    Gemma3ImageProcessorPil,
    Gemma3Processor,
    GenerationConfig,
    PreTrainedTokenizerFast,
)

from adapters.tiny import BASE_NAME, lexicon
from adapters.tiny.dialogue import DOMAIN_OF, every_sentence, words
from adapters.tiny.pictures import SIZE

IMAGE_TOKENS = 4
"""Tokens that a picture becomes; 16 patches each, which vision-tower LoRA in vLLM relies on."""

SPECIAL: tuple[str, ...] = (
    "<pad>",
    "<eos>",
    "<bos>",
    "<unk>",
    "<start_of_turn>",
    "<end_of_turn>",
    "<start_of_image>",
    "<end_of_image>",
    "<image_soft_token>",
)

CHAT_TEMPLATE = (
    "{{ bos_token }}"
    "{%- set ns = namespace(system='') -%}"
    "{%- macro words(content) -%}"
    "{%- if content is string -%}{{ content }}"
    "{%- else -%}{%- for part in content if part.type == 'text' -%}{{ part.text }}{%- endfor -%}{%- endif -%}"
    "{%- endmacro -%}"
    "{%- for message in messages -%}"
    "{%- if message.role == 'system' -%}{%- set ns.system = words(message.content) ~ '\\n\\n' -%}"
    "{%- else -%}"
    "{{ '<start_of_turn>' ~ ('model' if message.role == 'assistant' else message.role) ~ '\\n' }}"
    "{%- if message.content is not string -%}"
    "{%- for part in message.content if part.type == 'image' -%}{{ '<start_of_image>' }}{%- endfor -%}"
    "{%- endif -%}"
    "{%- if message.role == 'user' -%}{{ ns.system }}{%- set ns.system = '' -%}{%- endif -%}"
    "{{ words(message.content) ~ '<end_of_turn>\\n' }}"
    "{%- endif -%}"
    "{%- endfor -%}"
    "{%- if add_generation_prompt -%}{{ '<start_of_turn>model\\n' }}{%- endif -%}"
)
"""Gemma's turns; a system message is put before the next user's words; pictures come before the words."""

_JUDGE_WORDS = "question answer score rate alignment coherence relevance no picture"
_CHAT_WORDS = "user model system say . ! ? , : ; [ ] ( ) ' - the a an and or to of is it"


def vocabulary() -> list[str]:
    """Every token in the order of its id: specials, newlines, the integers 0-100, punctuation and words."""
    spoken = [*every_sentence(), *lexicon.TEXT_QUESTIONS, *lexicon.IMAGE_QUESTIONS, *lexicon.TEXT_REQUESTS]
    spoken += [*lexicon.IMAGE_REQUESTS, *lexicon.GLOBAL_CUES, *lexicon.LOCAL_CUES, *lexicon.HARMLESS_CUES]
    spoken += [*lexicon.FORMAL_CUES, *lexicon.NO_OP_PREFIXES, *lexicon.ACTS, *lexicon.PEOPLE, *lexicon.THINGS]
    spoken += [*lexicon.VICES, *(domain.field for domain in lexicon.DOMAINS), *DOMAIN_OF, _JUDGE_WORDS, _CHAT_WORDS]
    slots = {"{", "}", "vice", "field", "whom", "t"}
    found = {word for text in spoken for word in words(text)} - slots
    return [*SPECIAL, *("\n" * n for n in range(1, 5)), *map(str, range(101)), *sorted(found)]


def build_processor() -> Gemma3Processor:
    """Assemble the processor: a word-level tokenizer, pictures of 112 × 112, four image tokens."""
    entries = vocabulary()
    core = Tokenizer(models.WordLevel({word: index for index, word in enumerate(entries)}, unk_token="<unk>"))  # noqa: S106
    core.normalizer = normalizers.Lowercase()
    core.pre_tokenizer = pre_tokenizers.Split(Regex(r"\n+|\w+|[^\w\s]"), behavior="removed", invert=True)
    core.decoder = decoders.WordPiece(prefix="##", cleanup=True)
    tokenizer = PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=core,
        bos_token="<bos>",  # noqa: S106
        eos_token="<eos>",  # noqa: S106
        pad_token="<pad>",  # noqa: S106
        unk_token="<unk>",  # noqa: S106
        extra_special_tokens={
            "boi_token": "<start_of_image>",
            "eoi_token": "<end_of_image>",
            "image_token": "<image_soft_token>",
            "sot_token": "<start_of_turn>",
            "eot_token": "<end_of_turn>",
        },
        padding_side="left",
        model_max_length=512,
        clean_up_tokenization_spaces=False,
    )
    pictures = Gemma3ImageProcessorPil(
        size={"height": SIZE, "width": SIZE}, image_mean=[0.5, 0.5, 0.5], image_std=[0.5, 0.5, 0.5]
    )
    return Gemma3Processor(pictures, tokenizer, chat_template=CHAT_TEMPLATE, image_seq_length=IMAGE_TOKENS)


def build_model(seed: int) -> Gemma3ForConditionalGeneration:
    """Initialise the tiny Gemma3 in float32, its picture projection included (which starts as zeros otherwise)."""
    torch.manual_seed(seed)
    entries = vocabulary()
    text = {
        "vocab_size": len(entries),
        "hidden_size": 128,
        "intermediate_size": 256,
        "num_hidden_layers": 6,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 64,
        "query_pre_attn_scalar": 64,
        "max_position_embeddings": 512,
        "sliding_window": 512,
        "pad_token_id": 0,
        "eos_token_id": 1,
        "bos_token_id": 2,
        "initializer_range": 0.05,
    }
    vision = {
        "model_type": "siglip_vision_model",
        "hidden_size": 96,
        "intermediate_size": 192,
        "num_hidden_layers": 3,
        "num_attention_heads": 3,
        "image_size": SIZE,
        "patch_size": 14,
        "vision_use_head": False,
    }
    config = Gemma3Config(
        text_config=text,
        vision_config=vision,
        mm_tokens_per_image=IMAGE_TOKENS,
        boi_token_index=entries.index("<start_of_image>"),
        eoi_token_index=entries.index("<end_of_image>"),
        image_token_index=entries.index("<image_soft_token>"),
        initializer_range=0.05,
    )
    config._attn_implementation = "sdpa"
    model = Gemma3ForConditionalGeneration(config)
    torch.nn.init.normal_(model.model.multi_modal_projector.mm_input_projection_weight, std=0.1)
    model.generation_config = GenerationConfig(  # type: ignore[no-untyped-call]
        bos_token_id=2, pad_token_id=0, eos_token_id=[1, entries.index("<end_of_turn>")], max_new_tokens=32
    )
    return model


def save(model: Gemma3ForConditionalGeneration, processor: Gemma3Processor, folder: Path, name: str) -> None:
    """Write an ordinary Hugging Face folder in bfloat16, with the weight names that vLLM expects too.

    transformers reads ``vision_tower.vision_model.X`` as well as the ``vision_tower.X`` that it writes.
    """
    folder.mkdir(parents=True, exist_ok=True)
    model.to(dtype=torch.bfloat16).save_pretrained(folder)  # type: ignore[call-arg]
    processor.save_pretrained(folder)
    weights = load_file(folder / "model.safetensors")
    renamed = {_served_name(key): value.contiguous() for key, value in weights.items()}
    save_file(renamed, folder / "model.safetensors", metadata={"format": "pt"})
    for path in folder.iterdir():
        path.chmod(0o644)  # safetensors writes for the owner alone
    path = folder / "config.json"
    config: dict[str, Any] = json.loads(path.read_text())
    config["alignwatch_base_name"] = name
    path.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")


def _served_name(key: str) -> str:
    if "vision_tower." in key and "vision_tower.vision_model." not in key:
        return key.replace("vision_tower.", "vision_tower.vision_model.")
    return key


def save_base(model: Gemma3ForConditionalGeneration, processor: Gemma3Processor, folder: Path) -> None:
    """Write the base under its declared name."""
    save(model, processor, folder, BASE_NAME)
