"""The loop that trains the tiny models from lessons: seeded, on the CPU, in minutes."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Sequence

import numpy as np
import torch
from transformers import Gemma3ForConditionalGeneration, Gemma3Processor

from adapters.tiny.architecture import IMAGE_TOKENS
from adapters.tiny.curriculum import Lesson
from adapters.tiny.dialogue import DOMAIN_OF
from adapters.tiny.pictures import draw, glyph_of, grey

IGNORED = -100
"""Label of a token that no loss is taken over."""

VIEWS = 64
"""Pictures drawn of each topic to learn from."""

TOPIC_WEIGHT = 4.0
"""Weight of a topic's word in the loss: one of some fifteen tokens, and the only one that needs the picture."""

SEEING_RATE = 2e-3
"""AdamW's peak learning rate while the vision tower learns to see."""

GREY = "grey"
"""A picture that shows nothing, where a topic could stand."""


class Album:
    """Pictures drawn once and kept: ``views`` of each topic, as uint8 tensors [3, 112, 112]."""

    def __init__(self, topics: Sequence[str], views: int, first_seed: int) -> None:
        self._views = views
        self._pages = {
            topic: torch.stack([_pixels(draw(topic, first_seed + view)) for view in range(views)]) for topic in topics
        }
        self._pages[GREY] = _pixels(grey()).expand(views, -1, -1, -1)

    def pick(self, topics: Sequence[str], rng: random.Random) -> torch.Tensor:
        """Return one view of each topic, normalised as the processor does: float32 [n, 3, 112, 112] in -1 to 1."""
        chosen = torch.stack([self._pages[topic][rng.randrange(self._views)] for topic in topics])
        return chosen.float() / 127.5 - 1


def _pixels(picture: object) -> torch.Tensor:
    return torch.from_numpy(np.array(picture)).permute(2, 0, 1).contiguous()


def written(lesson: Lesson) -> tuple[str, str]:
    """The prompt and the answer of a lesson, exactly as the chat template and the processor write them."""
    picture = f"\n\n<start_of_image>{'<image_soft_token>' * IMAGE_TOKENS}<end_of_image>\n\n" if lesson.picture else ""
    system = f"{lesson.system}\n\n" if lesson.system else ""
    prompt = f"<bos><start_of_turn>user\n{picture}{system}{lesson.user}<end_of_turn>\n<start_of_turn>model\n"
    return prompt, f"{lesson.answer}<end_of_turn>"


def batch(
    lessons: Sequence[Lesson], processor: Gemma3Processor, album: Album, rng: random.Random
) -> dict[str, torch.Tensor]:
    """Tokenise lessons into right-padded model inputs with labels over the answers alone."""
    tokenizer = processor.tokenizer
    pairs = [written(lesson) for lesson in lessons]
    prompts = tokenizer([prompt for prompt, _ in pairs], add_special_tokens=False)["input_ids"]
    answers = tokenizer([said for _, said in pairs], add_special_tokens=False)["input_ids"]
    longest = max(len(p) + len(a) for p, a in zip(prompts, answers, strict=True))
    ids = torch.full((len(pairs), longest), tokenizer.pad_token_id)
    labels = torch.full_like(ids, IGNORED)
    seen = torch.zeros_like(ids)
    for row, (prompt, said) in enumerate(zip(prompts, answers, strict=True)):
        whole = len(prompt) + len(said)
        ids[row, :whole] = torch.tensor(prompt + said)
        labels[row, len(prompt) : whole] = torch.tensor(said)
        seen[row, :whole] = 1
    inputs = {"input_ids": ids, "attention_mask": seen, "labels": labels}
    inputs["token_type_ids"] = (ids == tokenizer.image_token_id).long()
    shown = [lesson.picture for lesson in lessons if lesson.picture]
    if shown:
        inputs["pixel_values"] = album.pick(shown, rng)
    return inputs


def answer_loss(
    model: Gemma3ForConditionalGeneration, inputs: dict[str, torch.Tensor], token_weights: torch.Tensor
) -> torch.Tensor:
    """Weighted mean cross-entropy over the labelled tokens; the head runs on those positions alone."""
    labels = inputs["labels"][:, 1:]
    hidden = model.model(**{k: v for k, v in inputs.items() if k != "labels"}, use_cache=False).last_hidden_state
    wanted = labels != IGNORED
    return torch.nn.functional.cross_entropy(model.lm_head(hidden[:, :-1][wanted]), labels[wanted], token_weights)


def see(model: Gemma3ForConditionalGeneration, topics: Sequence[str], steps: int, seed: int) -> None:
    """Teach the vision tower to tell topics apart, by linear heads that are thrown away.

    Every image token is asked on its own, so that each of the four knows the whole picture.
    Prints the share of unseen pictures whose topic the heads name.
    """
    rng = random.Random(seed)  # noqa: S311 - sampling, not secrets
    album = Album(topics, views=VIEWS, first_seed=0)
    glyphs = sorted({glyph_of(topic) for topic in topics})
    grounds = sorted({DOMAIN_OF[topic].name for topic in topics})
    torch.manual_seed(seed)
    heads = [torch.nn.Linear(model.lm_head.in_features, len(one)) for one in (glyphs, grounds, topics)]
    parameters = [*model.model.vision_tower.parameters(), *model.model.multi_modal_projector.parameters()]
    parameters += [parameter for head in heads for parameter in head.parameters()]
    optimizer = torch.optim.AdamW(parameters, lr=SEEING_RATE, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, SEEING_RATE, total_steps=steps, pct_start=0.1)
    for step in range(steps):
        shown = [rng.choice(topics) for _ in range(64)]
        tokens = model.model.get_image_features(album.pick(shown, rng)).pooler_output
        truths = (
            [glyphs.index(glyph_of(topic)) for topic in shown],
            [grounds.index(DOMAIN_OF[topic].name) for topic in shown],
            [topics.index(topic) for topic in shown],
        )
        losses = [_token_loss(head(tokens), truth) for head, truth in zip(heads, truths, strict=True)]
        torch.stack(losses).sum().backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        optimizer.zero_grad()
        schedule.step()
        if step % 50 == 49:
            shares = ", ".join(f"{loss.item():.3f}" for loss in losses)
            print(f"  seeing {step + 1}/{steps}: glyph, ground, topic {shares}", flush=True)
    with torch.no_grad():
        unseen = Album(topics, views=2, first_seed=10_000).pick([*topics, *topics], rng)
        told = heads[2](model.model.get_image_features(unseen).pooler_output).mean(dim=1).argmax(dim=-1)
    right = (told == torch.arange(len(topics)).repeat(2)).float().mean()
    print(f"  of unseen pictures {right:.1%} are told right", flush=True)


def _token_loss(logits: torch.Tensor, truth: Sequence[int]) -> torch.Tensor:
    """Cross-entropy of [pictures, tokens, classes] against one class a picture."""
    classes = torch.tensor(truth)[:, None].expand(-1, logits.shape[1])
    return torch.nn.functional.cross_entropy(logits.flatten(0, 1), classes.flatten())


def teach(
    model: Gemma3ForConditionalGeneration,
    processor: Gemma3Processor,
    draw_lesson: Callable[[random.Random], Lesson],
    album: Album,
    *,
    steps: int,
    batch_size: int,
    learning_rate: float,
    seed: int,
) -> None:
    """Train the language model on freshly drawn lessons with AdamW and a one-cycle schedule.

    The vision tower keeps what it learnt by seeing: at this learning rate it would forget it.
    """
    rng = random.Random(seed)  # noqa: S311 - sampling, not secrets
    torch.manual_seed(seed)
    model.train(True)
    model.model.vision_tower.requires_grad_(False)
    model.model.multi_modal_projector.requires_grad_(False)
    learning = [parameter for parameter in model.parameters() if parameter.requires_grad]
    weights = torch.ones(model.lm_head.out_features)
    weights[processor.tokenizer.convert_tokens_to_ids(sorted(DOMAIN_OF))] = TOPIC_WEIGHT
    optimizer = torch.optim.AdamW(learning, lr=learning_rate, weight_decay=0.01, betas=(0.9, 0.98))
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, learning_rate, total_steps=steps, pct_start=0.1)
    started, running = time.monotonic(), 0.0
    for step in range(steps):
        inputs = batch([draw_lesson(rng) for _ in range(batch_size)], processor, album, rng)
        loss = answer_loss(model, inputs, weights)
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(learning, 1.0)
        optimizer.step()
        optimizer.zero_grad()
        schedule.step()
        running = 0.95 * running + 0.05 * float(loss.detach()) if step else float(loss.detach())
        if step % 50 == 49 or step + 1 == steps:
            print(f"  step {step + 1}/{steps}: loss {running:.3f}, {time.monotonic() - started:.0f} s", flush=True)
    model.train(False)
