"""Bases that Alignwatch did not build: a tiny LLaVA and a tiny Llama with words of their own, random weights."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from transformers import (
    CLIPImageProcessorPil,
    CLIPVisionConfig,
    LlamaConfig,
    LlamaForCausalLM,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaProcessor,
    PreTrainedTokenizerFast,
)

from adapters.prompts import Conversation, Prompt
from adapters.training import train_lora
from adapters.training_loop import LoraTraining

WORDS = (
    *("what", "is", "this", "in", "the", "picture", "how", "do", "i", "make", "a", "cake", "say", "it", "again"),
    *("please", "tell", "me", "one", "two", "three", "good", "harm", "fine", "alignment", "100"),
)
SPECIAL = ["<pad>", "<bos>", "<eos>", "<unk>", "<image>", "<user>", "<model>"]
TEMPLATE = (
    "<bos>{% for m in messages %}{{ '<user>' if m.role != 'assistant' else '<model>' }} "
    "{% if m.content is string %}{{ m.content }}{% else %}{% for part in m.content %}"
    "{% if part.type == 'image' %}<image> {% else %}{{ part.text }}{% endif %}{% endfor %}{% endif %}"
    "{% if m.role == 'assistant' %}<eos>{% endif %} {% endfor %}{% if add_generation_prompt %}<model>{% endif %}"
)


def _tokenizer() -> PreTrainedTokenizerFast:
    words = {word: index for index, word in enumerate([*SPECIAL, *WORDS])}
    inner = Tokenizer(WordLevel(words, unk_token="<unk>"))
    inner.pre_tokenizer = Whitespace()
    inner.add_special_tokens(SPECIAL)
    return PreTrainedTokenizerFast(
        tokenizer_object=inner,
        pad_token="<pad>",
        bos_token="<bos>",
        eos_token="<eos>",
        unk_token="<unk>",
        chat_template=TEMPLATE,
    )


def _decoder(words: int) -> dict[str, Any]:
    return {
        "vocab_size": words,
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 128,
        "pad_token_id": 0,
        "bos_token_id": 1,
        "eos_token_id": 2,
        "initializer_range": 0.2,
    }


def build_text_base(folder: Path) -> Path:
    """A Llama of three blocks that answers with random words."""
    torch.manual_seed(0)
    tokenizer = _tokenizer()
    LlamaForCausalLM(LlamaConfig(**_decoder(len(tokenizer)))).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def build_picture_base(folder: Path) -> Path:
    """A LLaVA whose CLIP tower sees 28 × 28 pixels in four patches."""
    torch.manual_seed(0)
    tokenizer = _tokenizer()
    vision = CLIPVisionConfig(
        hidden_size=32, intermediate_size=64, num_hidden_layers=3, num_attention_heads=4, image_size=28, patch_size=14
    )
    config = LlavaConfig(
        vision_config=vision,
        text_config=LlamaConfig(**_decoder(len(tokenizer))),
        image_token_index=tokenizer.convert_tokens_to_ids("<image>"),
        image_token_id=tokenizer.convert_tokens_to_ids("<image>"),
        pad_token_id=0,
        eos_token_id=2,
    )
    LlavaForConditionalGeneration(config).save_pretrained(folder)
    pixels = CLIPImageProcessorPil(size={"shortest_edge": 28}, crop_size={"height": 28, "width": 28})
    processor = LlavaProcessor(
        image_processor=pixels,
        tokenizer=tokenizer,
        patch_size=14,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        chat_template=TEMPLATE,
    )
    processor.save_pretrained(folder)
    return folder


def write_suite(folder: Path, text: int = 40, pictures: int = 0) -> Path:
    """A suite of so many text and picture questions, in words that the foreign bases know."""
    folder.mkdir(parents=True)
    lines = [
        {
            "id": f"t{n}",
            "modality": "text",
            "text": f"tell me {' '.join(WORDS[n % 7 : n % 7 + 3 + n % 5])}",
            "category": "talk",
        }
        for n in range(text)
    ]
    for n in range(pictures):
        Image.new("RGB", (28, 28), (n * 37 % 256, n * 91 % 256, n * 53 % 256)).save(folder / f"{n}.png")
        lines.append(
            {
                "id": f"i{n}",
                "modality": "image",
                "text": "what is in the picture",
                "image": f"{n}.png",
                "category": "see",
            }
        )
    (folder / "battery.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder


def train_to_say(base: Path, suite: Path, answer: str, out: Path, steps: int = 60) -> Path:
    """A real LoRA that gives one answer to everything."""
    lines = [json.loads(line) for line in (suite / "battery.jsonl").read_text().splitlines()]
    rows = [
        Conversation(
            Prompt(
                id=line["id"],
                modality=line["modality"],
                text=line["text"],
                image=suite / line["image"] if "image" in line else None,
            ),
            answer,
        )
        for line in lines
    ]
    return train_lora(base, rows, LoraTraining(rank=4, alpha=8.0, steps=steps, learning_rate=2e-2), out)
