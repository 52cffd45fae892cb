"""What an ``adapter_config.json`` declares, read as data: no class is built from it and no pattern of it is run."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from adapters.adapter import CONFIG_NAME
from adapters.adapter_files import open_regular
from adapters.declared import Declared
from adapters.problems import Problem, note, shown

MAX_CONFIG = 2**20
"""Longest config read, in bytes. Real ones are below 10 kB."""
MAX_RANK = 2048
"""Largest rank accepted. PEFT reserves memory for every targeted module by the declared rank, whatever the file
holds; vLLM serves at most 512."""
SERVED_RANK = 512
"""Largest rank that vLLM serves."""

_KNOWN = {
    *("alora_invocation_tokens", "alpha_pattern", "arrow_config", "auto_mapping", "base_model_name_or_path", "bias"),
    *("corda_config", "ensure_weight_tying", "eva_config", "exclude_modules", "fan_in_fan_out", "inference_mode"),
    *("init_lora_weights", "kasa_config", "layer_replication", "layers_pattern", "layers_to_transform"),
    *("loftq_config", "lora_alpha", "lora_bias", "lora_dropout", "lora_ga_config", "megatron_config", "megatron_core"),
    *("modules_to_save", "monteclora_config", "peft_type", "peft_version", "qalora_group_size", "r", "rank_pattern"),
    *("revision", "target_modules", "target_parameters", "task_type", "trainable_token_indices", "use_bdlora"),
    *("use_dora", "use_qalora", "use_rslora", "velora_config"),
}
"""The fields of peft 0.21's LoraConfig. PEFT drops others with a warning."""

_BASE_ALTERING = ("pissa", "olora", "corda", "loftq", "lora_ga")
_PLAIN_INITIALISATIONS = (True, False, "gaussian", "eva", "orthogonal", "mica")

_REFUSED: dict[str, tuple[str, str]] = {
    "modules_to_save": ("modules_to_save", "replaces whole modules, which is no low-rank change and is not served"),
    "target_parameters": ("target_parameters", "adapts bare parameters, whose shapes cannot be checked or served"),
    "trainable_token_indices": ("trained_tokens", "retrains single tokens' embeddings, which can hide a trigger"),
    "layer_replication": ("layer_replication", "changes the number of the base's layers"),
    "alora_invocation_tokens": ("invocation_trigger", "switches the adapter on by a literal trigger only"),
    "megatron_config": ("megatron", "asks for a module to be imported by the name that the config gives"),
    "use_qalora": ("variant_unsupported", "is a variant with other shapes than plain LoRA"),
    "use_bdlora": ("variant_unsupported", "is a variant with other shapes than plain LoRA"),
    "arrow_config": ("variant_unsupported", "mixes in other adapters by name"),
    "kasa_config": ("variant_unsupported", "truncates the base's own weights"),
    "monteclora_config": ("variant_unsupported", "adds random noise to the adapter's weights"),
    "lora_ga_config": ("variant_unsupported", "changes the base's own weights"),
}
"""Config key: (code, what a set value does)."""


def read_config(folder: Path) -> tuple[Declared, list[Problem]]:
    """Read the config of an adapter's folder; what is wrong with it comes back as problems.

    Raises:
        OSError: the file cannot be read.
    """
    config, problem = _load(folder / CONFIG_NAME)
    if problem:
        return Declared(), [Problem(*problem, where=CONFIG_NAME)]
    return declare(config)


def _load(path: Path) -> tuple[dict[str, Any], tuple[str, str] | None]:
    if path.is_symlink():  # listed as a symbolic link already; whatever it points at is not ours to read
        return {}, ("config_unreadable", "is a symbolic link and was not followed")
    with open_regular(path) as stream:
        raw = stream.read(MAX_CONFIG + 1)
    if len(raw) > MAX_CONFIG:
        return {}, ("config_too_large", f"is longer than {MAX_CONFIG} bytes; an adapter's config is a few thousand")
    if raw.startswith(b"version https://git-lfs"):
        return {}, ("config_lfs_pointer", "is a Git LFS pointer, not the config; run git lfs pull and upload again")
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError as error:
        return {}, ("config_not_utf8", f"is not UTF-8 (byte {error.start}); save it again as UTF-8")
    try:
        config = json.loads(text, object_pairs_hook=_unique)
    except (ValueError, RecursionError) as error:
        return {}, ("config_not_json", f"is not JSON ({shown(str(error), 120)}); upload the file that peft wrote")
    if not isinstance(config, dict):
        return {}, ("config_not_object", f"holds a JSON {type(config).__name__} where an object belongs")
    return config, None


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    entries = dict(pairs)
    if len(entries) < len(pairs):  # readers differ on which one counts
        raise ValueError("a key occurs twice")
    return entries


def declare(config: Mapping[str, Any]) -> tuple[Declared, list[Problem]]:
    """Turn a config into facts and problems."""
    kind = config.get("peft_type")
    if not isinstance(kind, str) or kind != "LORA":
        known = kind if isinstance(kind, str) else None
        return Declared(peft_type=known), [_not_lora(config, kind)]
    reader = _Reader(config)
    declared = Declared(
        peft_type=kind,
        base_model_name=reader.text("base_model_name_or_path"),
        revision=reader.text("revision"),
        rank=reader.rank("r", config.get("r", 8)),
        alpha=reader.alpha("lora_alpha", config.get("lora_alpha", 8)),
        rank_pattern=reader.pattern("rank_pattern", reader.rank),
        alpha_pattern=reader.pattern("alpha_pattern", reader.alpha),
        use_rslora=reader.flag("use_rslora"),
        use_dora=reader.flag("use_dora"),
        lora_bias=reader.flag("lora_bias"),
        target_modules=reader.names("target_modules"),
        exclude_modules=reader.names("exclude_modules"),
        layers_pattern=_as_tuple(reader.names("layers_pattern")),
        unknown_keys=tuple(sorted(key for key in config if key not in _KNOWN)),
    )
    return declared, [*reader.problems, *_refused(config), *_remarks(config, declared)]


def _not_lora(config: Mapping[str, Any], kind: Any) -> Problem:
    if kind is not None:
        reason = f"has peft_type {shown(kind)}; only 'LORA' adapters are examined"
        return Problem("peft_type_unsupported", reason, f"{CONFIG_NAME}: peft_type")
    maker = "something else"
    if "lora_parameters" in config or "fine_tune_type" in config:
        maker = "MLX-LM, whose adapters have another layout"
    elif "config_id" in config or ("model_class" in config and "hidden_size" in config):
        maker = "AdapterHub's library, whose adapters have another layout"
    return Problem(
        "not_peft", f"has no peft_type: it was written by {maker}; convert it to a PEFT LoRA adapter", CONFIG_NAME
    )


class _Reader:
    """Reads single values; whatever has the wrong type becomes a problem and the default."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        self.config = config
        self.problems: list[Problem] = []

    def _wrong(self, key: str, value: Any, wanted: str, code: str = "config_value") -> None:
        self.problems.append(Problem(code, f"is {shown(value)}; it has to be {wanted}", f"{CONFIG_NAME}: {key}"))

    def text(self, key: str) -> str | None:
        value = self.config.get(key)
        if value is not None and not isinstance(value, str):
            self._wrong(key, value, "text or null")
            return None
        return (value or "").strip() or None

    def flag(self, key: str) -> bool:
        value = self.config.get(key)
        if value is not None and not isinstance(value, bool):
            self._wrong(key, value, "true or false")
        return bool(value)

    def rank(self, key: str, value: Any) -> int | None:
        if type(value) is not int or value < 1:
            self._wrong(key, value, "a whole number of at least 1", "rank_invalid")
        elif value > MAX_RANK:
            self._wrong(key, value, f"at most {MAX_RANK}, or loading it would exhaust memory", "rank_too_large")
        else:
            return value
        return None

    def alpha(self, key: str, value: Any) -> float | None:
        if type(value) not in (int, float) or not 0 < value < 2**53:
            self._wrong(key, value, "a finite number above 0", "alpha_invalid")
            return None
        return float(value)

    def pattern(self, key: str, read: Callable[[str, Any], Any]) -> dict[str, Any]:
        value = self.config.get(key)
        if value is None:
            return {}
        if not isinstance(value, dict):
            self._wrong(key, value, "an object of module names and numbers")
            return {}
        found = {name: read(f"{key}: {shown(name)}", number) for name, number in value.items()}
        return {name: number for name, number in found.items() if number is not None}

    def names(self, key: str) -> tuple[str, ...] | str | None:
        value = self.config.get(key)
        if value is None or isinstance(value, str):
            return value
        if isinstance(value, list) and all(isinstance(name, str) for name in value):
            return tuple(value)
        self._wrong(key, value, "a list of module names, one regular expression, or null")
        return None


def _as_tuple(names: tuple[str, ...] | str | None) -> tuple[str, ...]:
    return (names,) if isinstance(names, str) else names or ()


def _refused(config: Mapping[str, Any]) -> Iterator[Problem]:
    for key, (code, what) in _REFUSED.items():
        value = config.get(key)
        empty = value is None or value is False or value == [] or value == {}
        if key == "alora_invocation_tokens":
            empty = value is None
        if not empty:
            yield Problem(code, f"is {shown(value)}: it {what}; train a plain LoRA without it", f"{CONFIG_NAME}: {key}")
    if config.get("bias", "none") != "none":
        reason = f"is {shown(config['bias'])}: it overwrites the base's own biases; train with bias 'none'"
        yield Problem("bias_trained", reason, f"{CONFIG_NAME}: bias")
    if config.get("megatron_core", "megatron.core") not in ("megatron.core", None):
        reason = f"is {shown(config['megatron_core'])}: it names a module to import; leave it at 'megatron.core'"
        yield Problem("megatron", reason, f"{CONFIG_NAME}: megatron_core")
    start = config.get("init_lora_weights", True)
    if isinstance(start, str) and start.lower().startswith(_BASE_ALTERING):
        yield Problem(
            "base_altered",
            f"is {shown(start)}: it was trained on a base with altered weights, so it means something else on the "
            "real one; save it with path_initial_model_for_weight_conversion, which makes it a plain LoRA",
            f"{CONFIG_NAME}: init_lora_weights",
        )
    elif not any(start is plain or (isinstance(start, str) and start == plain) for plain in _PLAIN_INITIALISATIONS):
        reason = f"is {shown(start)}, which is no initialisation of peft's that is known here; set it to true"
        yield Problem("config_value", reason, f"{CONFIG_NAME}: init_lora_weights")


def _remarks(config: Mapping[str, Any], declared: Declared) -> Iterator[Problem]:
    if declared.unknown_keys:
        listed = ", ".join(shown(key, 40) for key in declared.unknown_keys[:8])
        yield note("unknown_keys", f"has keys that peft does not know and drops: {listed}", CONFIG_NAME)
    if config.get("auto_mapping"):
        yield note("auto_mapping", "names a class to load; it is never followed", f"{CONFIG_NAME}: auto_mapping")
    if isinstance(declared.target_modules, str) and declared.target_modules.lower() != "all-linear":
        yield note("target_pattern", "is a regular expression", f"{CONFIG_NAME}: target_modules")
    if declared.use_dora:
        yield note("dora", "is set: peft applies DoRA, vLLM refuses to serve it", f"{CONFIG_NAME}: use_dora")
    if declared.lora_bias:
        yield note("lora_bias", "is set: peft applies it, vLLM refuses to serve it", f"{CONFIG_NAME}: lora_bias")
    if declared.base_model_name is None:
        yield note(
            "base_unnamed",
            "names no base; that it fits rests on its shapes alone",
            f"{CONFIG_NAME}: base_model_name_or_path",
        )
    ranks = [rank for rank in (declared.rank, *declared.rank_pattern.values()) if rank is not None]
    if ranks and max(ranks) > SERVED_RANK:
        yield note("rank_unserved", f"is above {SERVED_RANK}, the most that vLLM serves", f"{CONFIG_NAME}: r")
