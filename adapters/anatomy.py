"""Facts of an adapter from its config and its safetensors header. Loads no weights and runs no code of it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open

from adapters.adapter import CONFIG_NAME, WEIGHTS_NAME, NotAnAdapter
from adapters.adapter_files import FileFact, list_files
from adapters.declared import Declared
from adapters.lora_config import read_config
from adapters.problems import Problem, note, shown
from adapters.safetensors_header import TensorFact, read_header

__all__ = ["Anatomy", "ModulePair", "Problem", "check_finite", "dissect"]

_KEY = re.compile(
    r"(?:base_model\.model\.)?(?P<module>.+)\."
    r"(?:lora_(?P<side>[AB])(?:\.[^.]+)?\.(?P<field>weight|bias)"
    r"|lora_embedding_(?P<embedded>[AB])(?:\.[^.]+)?"
    r"|lora_(?P<magnitude>magnitude_vector)(?:\.[^.]+)?(?:\.weight)?)"
)
_TRAINED_DTYPES = {"F64", "F32", "F16", "BF16"}
_PROJECTOR = re.compile(r"projector|connector|merger|aligner|perceiver|resampler|vision_embed_tokens|embed_vision")
_VISION = re.compile(r"vision|visual|image|(?:^|\.)vit(?:\.|$)|siglip|clip")


@dataclass(frozen=True, slots=True)
class ModulePair:
    """The low-rank pair of one module, as its tensors' shapes tell."""

    rank: int
    """Rows of A, columns of B; at least 1."""
    inputs: int
    """Columns of A; for an embedding the number of its rows."""
    outputs: int
    """Rows of B; for an embedding its width."""
    dtype: str
    """Of A, as safetensors names it."""
    embedding: bool = False
    """Whether it adapts a lookup table."""


@dataclass(frozen=True)
class Anatomy(Declared):
    """Everything known of an adapter before a weight is loaded: what its config declares and its header holds."""

    folder: Path = Path()
    """Where it lies."""
    files: tuple[FileFact, ...] = ()
    """Every regular file with its size, sorted by path."""
    tensors: Mapping[str, TensorFact] = field(default_factory=dict)
    """Every tensor the header declares, by its full key."""
    modules: Mapping[str, ModulePair] = field(default_factory=dict)
    """The complete pairs by module name, PEFT's ``base_model.model.`` left off."""
    other_tensors: tuple[str, ...] = ()
    """Keys that are neither A nor B of a pair: DoRA magnitudes, biases, whole weights."""
    problems: tuple[Problem, ...] = ()
    """All that is wrong or unusual, found in one go."""

    @property
    def total_bytes(self) -> int:
        """Size of all files together."""
        return sum(fact.size for fact in self.files)

    @property
    def dtypes(self) -> frozenset[str]:
        """The dtypes that occur among the tensors."""
        return frozenset(tensor.dtype for tensor in self.tensors.values())

    @property
    def parts(self) -> frozenset[str]:
        """Which parts of a vision-language model it touches: ``vision``, ``projector``, ``decoder``."""
        return frozenset(part_of(module) for module in self.modules)

    @property
    def sound(self) -> bool:
        """Whether no problem is fatal."""
        return not any(problem.fatal for problem in self.problems)


def part_of(module: str) -> str:
    """Name the part of a vision-language model that a module belongs to, by its name: a hint, not a proof."""
    if _PROJECTOR.search(module):
        return "projector"
    return "vision" if _VISION.search(module) else "decoder"


def dissect(folder: Path) -> Anatomy:
    """Take an adapter apart; all its faults come back together as problems.

    Raises:
        NotAnAdapter: the folder is missing or holds no ``adapter_config.json``.
        OSError: a file cannot be read.
    """
    if not folder.is_dir():
        raise NotAnAdapter(f"{folder} is not a folder; give the folder that holds {CONFIG_NAME}")
    config_path = folder / CONFIG_NAME
    if not (config_path.is_symlink() or config_path.is_file()):
        raise NotAnAdapter(f"{folder} holds no {CONFIG_NAME}; give the folder that peft's save_pretrained wrote")
    files, problems = list_files(folder)
    declared, config_problems = read_config(folder)
    tensors, weight_problems = _read_weights(folder, files)
    modules, others, pair_problems = _pair(tensors, declared)
    problems += [*config_problems, *weight_problems]
    if declared.peft_type == "LORA" and not weight_problems:  # else the tensors mean something else, or nothing
        problems += [*pair_problems, *_rank_problems(modules, declared)]
    return Anatomy(
        **vars(declared),
        folder=folder,
        files=files,
        tensors=tensors,
        modules=modules,
        other_tensors=others,
        problems=tuple(problems),
    )


def _read_weights(folder: Path, files: tuple[FileFact, ...]) -> tuple[Mapping[str, TensorFact], list[Problem]]:
    names = {fact.path for fact in files}
    if WEIGHTS_NAME in names:
        tensors, problems = read_header(folder / WEIGHTS_NAME)
        if not tensors and not problems:
            problems = [Problem("weights_missing", "holds no tensors at all; save the adapter again", WEIGHTS_NAME)]
        return tensors, problems
    if (folder / WEIGHTS_NAME).is_symlink():
        reason = "is a symbolic link and was not followed; put the file itself there"
    elif any(re.fullmatch(r"adapter_model-\d+-of-\d+\.safetensors", name) for name in names):
        reason = "is split into shards, which neither peft nor vLLM reads; merge them into one file"
    else:
        others = sorted(name for name in names if name.endswith((".safetensors", ".bin", ".pt", ".npz")))
        found = f" (found {', '.join(shown(name, 60) for name in others[:3])})" if others else ""
        reason = f"is missing{found}; save the adapter with peft's save_pretrained"
    return {}, [Problem("weights_missing", reason, WEIGHTS_NAME)]


def _pair(
    tensors: Mapping[str, TensorFact], declared: Declared
) -> tuple[dict[str, ModulePair], tuple[str, ...], list[Problem]]:
    """Sort tensors into pairs and others."""
    sides: dict[tuple[str, bool], dict[str, TensorFact]] = {}
    others: dict[str, str] = {}
    problems: list[Problem] = []
    for key, tensor in tensors.items():
        if not key.isprintable():
            problems.append(Problem("tensor_name", "has control characters in its name", shown(key)))
            continue
        match = _KEY.fullmatch(key)
        side = match and (match["embedded"] or (match["field"] == "weight" and match["side"]))
        if match and side:
            found = sides.setdefault((match["module"], bool(match["embedded"])), {})
            if side in found:
                problems.append(Problem("tensor_twice", "occurs twice for one module; save it again", shown(key)))
            found[side] = tensor
        else:
            others[key] = match["module"] if match else ""
            magnitude, bias = bool(match and match["magnitude"]), bool(match and match["field"] == "bias")
            if not ((magnitude and declared.use_dora) or (bias and declared.lora_bias)):
                problems.append(_unexpected(key))
    modules: dict[str, ModulePair] = {}
    for (module, embedding), found in sides.items():
        pair = _pair_of(module, found, embedding)
        if isinstance(pair, Problem):
            problems.append(pair)
        elif module in modules:
            problems.append(Problem("tensor_twice", "has two pairs; save it again", shown(module)))
        else:
            modules[module] = pair
    for key, module in others.items():
        if module and module not in modules and not problems:
            problems.append(
                Problem("pair_incomplete", "belongs to a module that has no pair; save it again", shown(key))
            )
    return modules, tuple(sorted(others)), problems


def _unexpected(key: str) -> Problem:
    # Loading a PEFT adapter is a plain load_state_dict, so such a tensor replaces the base's own for good.
    return Problem(
        "tensor_unexpected",
        "is no part of a LoRA pair and could overwrite the base's own weights; save the adapter without it "
        "(peft: save_embedding_layers=False)",
        shown(key, 160),
    )


def _pair_of(module: str, sides: Mapping[str, TensorFact], embedding: bool) -> ModulePair | Problem:
    where = shown(module, 160)
    if set(sides) != {"A", "B"}:
        return Problem("pair_incomplete", f"has lora_{'/'.join(sides)} without its other half; save it again", where)
    a, b = sides["A"], sides["B"]
    for tensor in (a, b):
        if tensor.dtype not in _TRAINED_DTYPES:
            wanted = ", ".join(sorted(_TRAINED_DTYPES))
            return Problem("dtype_unsupported", f"is {tensor.dtype}; convert it to one of {wanted}", where)
    dimensions = {len(a.shape), len(b.shape)}
    if not (dimensions == {2} or (len(dimensions) == 1 and dimensions <= {3, 4, 5} and not embedding)):
        return Problem("shape_invalid", f"has shapes {a.shape} and {b.shape}; a pair has two dimensions each", where)
    if 0 in (*a.shape, *b.shape):
        return Problem("shape_invalid", "is empty: it was saved before its shards were gathered; save it again", where)
    if a.shape[0] != b.shape[1] or any(size != 1 for size in b.shape[2:]):
        reason = f"has A of shape {a.shape} and B of shape {b.shape}, which share no rank; save it again"
        return Problem("rank_disagrees", reason, where)
    return ModulePair(a.shape[0], a.shape[1], b.shape[0], a.dtype, embedding)


def _rank_problems(modules: Mapping[str, ModulePair], declared: Declared) -> Iterator[Problem]:
    wide = [name for name, pair in modules.items() if pair.rank > min(pair.inputs, pair.outputs)]
    if wide:
        yield note("rank_above_width", f"has a rank above the module's own width ({len(wide)} modules)", shown(wide[0]))
    for name, pair in modules.items():
        allowed = declared.ranks_allowed(name)
        if allowed and pair.rank not in allowed:
            said = " or ".join(str(rank) for rank in sorted(allowed)[:5])
            reason = f"has rank {pair.rank} in its shapes, but the config says {said}; save it again"
            yield Problem("rank_disagrees", reason, shown(name, 160))


def check_finite(folder: Path, anatomy: Anatomy) -> list[Problem]:
    """Read every tensor once, one at a time, and report those that hold NaN or infinity.

    An adapter whose every B is zero changes nothing; that is a note here and the activity guard's to judge.

    Raises:
        OSError: the file cannot be read.
    """
    problems: list[Problem] = []
    silent, halves = 0, 0
    try:
        with safe_open(folder / WEIGHTS_NAME, framework="pt", device="cpu") as weights:
            for key in anatomy.tensors:
                tensor = weights.get_tensor(key)
                bad = int((~torch.isfinite(tensor)).sum())
                if bad:
                    reason = f"holds {bad} of {tensor.numel()} values that are NaN or infinite; train it again"
                    problems.append(Problem("not_finite", reason, shown(key, 160)))
                if ".lora_B" in key or ".lora_embedding_B" in key:
                    halves += 1
                    silent += not bool(tensor.any())
    except SafetensorError as error:
        return [
            Problem("weights_unreadable", f"cannot be read ({shown(str(error), 120)}); save it again", WEIGHTS_NAME)
        ]
    if halves and silent == halves:
        problems.append(note("all_zero", "has only zeros in every B: it changes nothing", WEIGHTS_NAME))
    return problems
