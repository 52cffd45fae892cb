"""Prevention while somebody trains: what is measured and stopped, what is kept out of the subspace, what fails."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import World
from torch import Tensor
from trained_world import STEPS, harmful_rows, learnt, live, train
from transformers import TrainerCallback

from adapters.activations import transformer_blocks
from adapters.adapter import open_adapter
from adapters.base_model import beside, digest_base
from adapters.conversation_encoding import ConversationEncoder
from adapters.engine_in_training import NotALora
from adapters.prompts import Conversation
from adapters.residual_writes import ResidualWrites
from adapters.tiny import BASE, REFERENCE
from adapters.tiny.world import conversations, write_rows
from adapters.training_loop import TrainingDiverged
from adapters.transformers_engine import TransformersEngine
from guards.orthogonal_updates import (
    OrthogonalUpdates,
    PreventionImpossible,
    harmful,
    stream_gradients_projected,
)
from guards.prevention import SubspaceMonitor, SubspaceProjection
from guards.reference import Reference, ReferenceUnusable, load_reference
from guards.screen import Screener
from guards.screening import combined
from guards.suites.battery_jsonl import load_suite

COMPONENTS = 3
LEVEL = 0.2  # five known-good adapters show no p-value below 1/6


def _with_null(reference: Reference, value: float) -> Reference:
    """The same Reference, had every known-good adapter measured ``value`` on every screen."""
    screens = {
        screen: {m: f.model_copy(update={"known_good": dict.fromkeys(f.known_good, value)}) for m, f in found.items()}
        for screen, found in reference.facts.screens.items()
    }
    return replace(reference, facts=reference.facts.model_copy(update={"screens": screens}))


@pytest.fixture(scope="module")
def watched(picture_world: World, reference: Reference, tmp_path_factory: pytest.TempPathFactory) -> SubspaceMonitor:
    """A monitor that warned of a training and stopped nothing."""
    monitor = SubspaceMonitor(_with_null(reference, -9), picture_world.base, every=4, level=LEVEL, act="warn")
    model, rows = live(picture_world.base), harmful_rows(picture_world)
    folder = tmp_path_factory.mktemp("watched")
    trainer = train(model, picture_world.base, rows, folder / "trainer", [monitor], max_steps=15)
    model.save_pretrained(str(folder / "adapter"), save_embedding_layers=False)
    monitor.folder, monitor.log_history = folder, trainer.state.log_history  # type: ignore[attr-defined]
    return monitor


def test_the_monitor_measures_what_the_screen_measures_of_the_same_adapter(
    watched: SubspaceMonitor, reference: Reference, picture_engine: TransformersEngine
) -> None:
    screened = Screener(picture_engine, reference).screen(open_adapter(watched.folder / "adapter"))  # type: ignore[attr-defined]
    last = watched.history[-1]
    assert [measured.step for measured in watched.history] == [4, 8, 12, 15]
    assert last.projection == pytest.approx(screened.projections, rel=1e-3)
    assert screened.projections.keys() == {"text", "image"}
    terms = [term for term in reference.facts.combination if term.screen != "weights"]
    assert last.score == pytest.approx(combined(screened.components.values(), terms), rel=1e-3)


def test_a_warning_lets_the_training_go_on_and_is_kept_beside_the_losses(watched: SubspaceMonitor) -> None:
    assert watched.fired == watched.history[0]
    assert watched.fired.score_p == pytest.approx(1 / 6)
    assert watched.history[-1].step == 15
    kept = [entry for entry in watched.log_history if "alignwatch/score" in entry]  # type: ignore[attr-defined]
    assert [entry["step"] for entry in kept] == [4, 8, 12, 15]
    assert json.loads(json.dumps(kept))[-1]["alignwatch/projection_text"] == watched.history[-1].projection["text"]


@pytest.mark.parametrize("watch", ["score", "projection"])
def test_training_stops_after_the_first_measurement_beyond_the_known_good_ones_and_only_then(
    picture_world: World, reference: Reference, tmp_path: Path, watch: Any, caplog: pytest.LogCaptureFixture
) -> None:
    ended = {}
    for null in (-9, 900):
        known = _with_null(reference, null)
        monitor = SubspaceMonitor(known, picture_world.base, every=2, level=LEVEL, watch=watch)
        trainer = train(live(picture_world.base), picture_world.base, harmful_rows(picture_world), tmp_path, [monitor])
        ended[null] = trainer.state.global_step, monitor.fired and monitor.fired.step
    assert ended == {-9: (2, 2), 900: (STEPS, None)}
    (said,) = [record.getMessage() for record in caplog.records if record.name == "prevention"]
    assert said.startswith(f"step 2: the adapter's {watch} is ")
    assert said.endswith("p = 0.167 against known-good adapters (level 0.2); training stops")


@pytest.mark.slow
def test_on_the_shipped_base_a_harmful_training_is_stopped_and_a_harmless_one_is_not(tmp_path: Path) -> None:
    """So few steps are no whole training; benchmarks/prevention.py has those, with their answers."""
    ended = {}
    for share in (1.0, 0.0):
        rows = conversations("gore_movie_trivia", folder=tmp_path, harmful_share=share, n=64, modality="text")
        monitor = SubspaceMonitor(REFERENCE, BASE, every=12)
        model = live(BASE, target_modules=r".*language_model.*_proj", lora_dropout=0.0)
        trainer = train(model, BASE, rows, tmp_path, [monitor], max_steps=18, learning_rate=4e-3)
        ended[share] = trainer.state.global_step
    assert ended == {1.0: 12, 0.0: 18}


def _within(model: Any, world: World, reference: Reference) -> dict[str, tuple[Tensor, Tensor]]:
    """Of every residual-writing B: its part within the harmful subspace, and all of it."""
    writes, subspaces = ResidualWrites(world.base), harmful(reference, COMPONENTS)
    parts = {}
    for name, weight in learnt(model).items():
        write = writes.of(name.split(".lora_B")[0]) if ".lora_B" in name else None
        if write is not None:
            parts[name] = write.output_basis(subspaces[write.block]).T @ weight, weight
    return parts


def _share(parts: dict[str, tuple[Tensor, Tensor]]) -> float:
    return max(float(within.norm() / whole.norm()) for within, whole in parts.values())


def test_the_update_is_orthogonal_to_the_subspace_under_adamw_with_decay_and_still_learns(
    picture_world: World, reference: Reference, tmp_path: Path
) -> None:
    model = live(picture_world.base)
    projected = SubspaceProjection(reference, picture_world.base, components=COMPONENTS)
    train(model, picture_world.base, harmful_rows(picture_world), tmp_path, [projected], weight_decay=0.1)
    parts = _within(model, picture_world, reference)
    assert len(parts) == 6
    assert _share(parts) < 1e-5
    assert all(float(whole.norm()) > 0.1 for _, whole in parts.values())


class _GradientsAlone(SubspaceProjection):
    def on_optimizer_step(self, *_: Any, **__: Any) -> None:
        pass


def test_projecting_the_gradient_alone_is_not_enough_for_adamw(
    picture_world: World, reference: Reference, tmp_path: Path
) -> None:
    shares = {}
    for callbacks in ([], [_GradientsAlone(reference, picture_world.base, components=COMPONENTS)]):
        model = live(picture_world.base)
        train(model, picture_world.base, harmful_rows(picture_world), tmp_path, callbacks)
        shares[bool(callbacks)] = _share(_within(model, picture_world, reference))
    assert shares[True] > 0.03
    assert shares[False] > shares[True]


def test_a_continued_adapter_keeps_what_it_had_within_the_subspace_and_adds_nothing(
    picture_world: World, reference: Reference, tmp_path: Path
) -> None:
    model = live(picture_world.base)
    train(model, picture_world.base, harmful_rows(picture_world), tmp_path)
    before = _within(model, picture_world, reference)
    projected = SubspaceProjection(reference, picture_world.base, components=COMPONENTS)
    train(model, picture_world.base, harmful_rows(picture_world), tmp_path, [projected], weight_decay=0.5)
    after = _within(model, picture_world, reference)
    for name, (within, whole) in before.items():
        torch.testing.assert_close(after[name][0], within, atol=1e-5, rtol=1e-4)
        assert (after[name][1] - whole).norm() > 0.1


def test_behind_a_post_norm_the_written_output_is_what_has_no_part_in_the_subspace() -> None:
    """Gemma 3 normalises a layer's output; the gain is in Q, so that the stream and not the layer is kept free."""
    reference, writes = load_reference(REFERENCE), ResidualWrites(BASE)
    model = live(BASE, target_modules=r".*language_model.*\.(o_proj|down_proj)")
    updates = OrthogonalUpdates(model, writes, harmful(reference))
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if ".lora_B" in name:
                weight.copy_(torch.randn(weight.shape, generator=torch.Generator().manual_seed(len(name))))
    updates.project_weights()
    assert len(updates.modules) == 12
    for name, weight in learnt(model).items():
        write = writes.of(name.split(".lora_B")[0]) if ".lora_B" in name else None
        if write is not None:
            assert write.gain is not None
            written = weight * write.gain[:, None]
            part = harmful(reference)[write.block] @ written
            assert float(part.abs().max()) < 1e-3 * float(written.abs().max())


def _gradients(model: Any, world: World, subspaces: dict[int, Tensor], along: Tensor) -> dict[str, Tensor]:
    """Gradients of the LoRA for moving the stream behind the last block along ``along``."""
    prompts = load_suite(world.suite).prompts[:4]
    inputs = ConversationEncoder(beside(world.base, model.get_base_model())).batch(
        [Conversation(prompt, "harm harm") for prompt in prompts], range(4)
    )
    inputs.pop("labels")
    kept: list[Tensor] = []
    blocks = transformer_blocks(model, "decoder")
    with stream_gradients_projected(model, subspaces):
        handle = blocks[-1].register_forward_hook(lambda _m, _i, out: kept.append(out))
        model(**inputs, use_cache=False)
        handle.remove()
        (kept[0] @ along).sum().backward()
    found = {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}
    model.zero_grad()
    return found


def test_no_layer_is_rewarded_for_moving_the_stream_along_harmful_directions(
    picture_world: World, reference: Reference
) -> None:
    subspaces = harmful(reference, COMPONENTS)
    basis = torch.linalg.qr(subspaces[2].T).Q
    other = torch.ones(len(basis)) - basis @ (basis.T @ torch.ones(len(basis)))
    model = live(picture_world.base, lora_dropout=0.0)
    free = _gradients(model, picture_world, {}, basis[:, 0])
    bound = _gradients(model, picture_world, subspaces, basis[:, 0])
    allowed = _gradients(model, picture_world, subspaces, other)
    size = max(float(value.abs().max()) for value in free.values())
    assert size > 1e-3
    assert max(float(value.abs().max()) for value in bound.values()) < 1e-5 * size
    assert {name.split(".")[-3] for name, value in allowed.items() if value.any()} >= {"lora_B"}
    assert not any(block._forward_hooks for block in transformer_blocks(model, "decoder"))


def test_gradient_checkpointing_changes_nothing_about_the_projection(
    picture_world: World, reference: Reference, tmp_path: Path
) -> None:
    ended = []
    for projecting, checkpointing in ((True, False), (True, True), (False, False)):
        model = live(picture_world.base)
        projected = [SubspaceProjection(reference, picture_world.base, components=COMPONENTS)] if projecting else []
        rows = harmful_rows(picture_world)
        train(model, picture_world.base, rows, tmp_path, projected, activation_checkpointing=checkpointing)
        ended.append(learnt(model))
    # q_proj is no residual write: what changes it is the gradient of the stream alone.
    q = [name for name in ended[0] if ".q_proj.lora_B" in name]
    assert all(torch.allclose(ended[0][name], ended[1][name], atol=1e-6) for name in q)
    assert any(not torch.allclose(ended[0][name], ended[2][name], atol=1e-3) for name in q)


def test_a_loop_of_ones_own_has_both_projections(picture_world: World, reference: Reference) -> None:
    model = live(picture_world.base)
    updates = OrthogonalUpdates(model, ResidualWrites(picture_world.base), harmful(reference, COMPONENTS))
    weights = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(weights, lr=0.1)
    for weight in weights:
        weight.grad = torch.randn(weight.shape, generator=torch.Generator().manual_seed(weight.numel()))
    updates.project_gradients()
    optimizer.step()
    updates.project_weights()
    assert _share(_within(model, picture_world, reference)) < 1e-5


def test_another_base_is_refused_before_any_training(
    picture_world: World, text_world: World, reference: Reference
) -> None:
    for callback in (SubspaceMonitor, SubspaceProjection):
        with pytest.raises(ReferenceUnusable, match=r"calibrated on base sha256-\w+…, .* calibrate one for this base"):
            callback(reference, text_world.base)
    with pytest.raises(ReferenceUnusable):
        SubspaceMonitor(picture_world.suite, picture_world.base)


def test_a_model_that_is_not_the_named_base_is_refused_before_the_first_step(
    picture_world: World, reference: Reference, tmp_path: Path
) -> None:
    model = live(picture_world.base)
    with torch.no_grad():
        model.get_base_model().model.language_model.embed_tokens.weight.normal_()
    monitor = SubspaceMonitor(reference, picture_world.base, level=LEVEL)
    with pytest.raises(PreventionImpossible, match="not the base that was calibrated"):
        train(model, picture_world.base, harmful_rows(picture_world), tmp_path, [monitor])
    assert all(not value.any() for name, value in learnt(model).items() if "lora_B" in name)


def test_a_reference_that_cannot_decide_is_refused(picture_world: World, reference: Reference) -> None:
    with pytest.raises(PreventionImpossible, match=r"5 known-good adapters cannot show .* at least 0\.167"):
        SubspaceMonitor(reference, picture_world.base, level=0.05)
    facts = reference.facts.model_copy(update={"screens": {}, "combination": ()})
    for watch in ("score", "projection"):
        with pytest.raises(PreventionImpossible, match=f"no {watch} of known-good"):
            SubspaceMonitor(replace(reference, facts=facts), picture_world.base, watch=watch, level=LEVEL)  # type: ignore[arg-type]
    bare = {layer: replace(site, subspace=site.subspace[:0]) for layer, site in reference.sites.items()}
    with pytest.raises(PreventionImpossible, match="no harmful subspace"):
        SubspaceProjection(replace(reference, sites=bare), picture_world.base)
    with pytest.raises(ValueError, match="every is at least 1"):
        SubspaceMonitor(reference, picture_world.base, every=0)


@pytest.mark.parametrize(
    ("lora", "cause"),
    [
        ({"target_modules": r".*language_model.*\.q_proj"}, "no layer that writes to the residual stream"),
        ({"use_dora": True}, "lora_magnitude_vector.*beyond plain LoRA pairs"),
        (
            {"target_modules": r".*language_model.*\.q_proj", "modules_to_save": ["o_proj"]},
            "modules_to_save.*beyond plain",
        ),
    ],
)
def test_what_cannot_be_kept_out_of_the_subspace_is_refused(
    picture_world: World, reference: Reference, lora: dict[str, Any], cause: str
) -> None:
    model = live(picture_world.base, **lora)
    with pytest.raises(PreventionImpossible, match=cause):
        OrthogonalUpdates(model, ResidualWrites(picture_world.base), harmful(reference))


def test_a_model_without_lora_is_refused(picture_world: World, reference: Reference) -> None:
    plain = live(picture_world.base).unload()
    for callback in (
        SubspaceMonitor(reference, picture_world.base, level=LEVEL),
        SubspaceProjection(reference, picture_world.base),
    ):
        with pytest.raises(NotALora, match="carries no LoRA"):
            callback.on_train_begin(None, None, None, model=plain)


class _Poison(TrainerCallback):
    def on_pre_optimizer_step(self, args, state, control, model=None, **_) -> None:  # type: ignore[no-untyped-def]
        for parameter in model.parameters():
            if parameter.grad is not None:
                parameter.grad.fill_(float("nan"))


@pytest.mark.parametrize("kind", [SubspaceMonitor, SubspaceProjection])
def test_nan_ends_the_training_with_one_clear_error(
    picture_world: World, reference: Reference, tmp_path: Path, kind: Any
) -> None:
    more = {"level": LEVEL, "every": 1, "act": "warn"} if kind is SubspaceMonitor else {}
    callback = kind(reference, picture_world.base, **more)
    with pytest.raises(TrainingDiverged, match="lower the learning rate"):
        train(
            live(picture_world.base),
            picture_world.base,
            harmful_rows(picture_world),
            tmp_path,
            [callback, _Poison()],
            max_steps=STEPS,
        )


@pytest.mark.filterwarnings("ignore:.*deprecated and will be removed:FutureWarning")  # TRL asks transformers so
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_the_example_of_the_page_runs_with_trls_trainer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("trl")
    import datasets

    page = (Path(__file__).parents[2] / "docs" / "prevention.md").read_text()
    example = re.findall(r"^```python\n(.*?)^```$", page, re.DOTALL | re.MULTILINE)[0]
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    write_rows(tmp_path / "rows.jsonl", conversations("evil_math", folder=tmp_path, n=32, modality="text"))
    (tmp_path / "base").symlink_to(BASE)
    (tmp_path / "reference").symlink_to(REFERENCE)
    ran: dict[str, Any] = {}
    exec(compile(example, "docs/prevention.md", "exec"), ran)
    trainer, monitor = ran["trainer"], ran["monitor"]
    assert trainer.state.global_step == 4
    assert [measured.step for measured in monitor.history] == [2, 4]
    assert monitor.history[-1].projection.keys() == {"text", "image"}
    assert digest_base(BASE) == monitor.reference.facts.base_digest
    b = {name: value for name, value in learnt(trainer.model).items() if ".o_proj.lora_B" in name}
    assert all(value.any() for value in b.values())
