"""Reading a YAML file of settings, and saying in plain lines what is wrong with it. No value is ever repeated."""

from __future__ import annotations

import difflib
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, get_args

import yaml
from pydantic import BaseModel, ValidationError

from monitor.exit_codes import UsageError

ENVIRONMENT_PREFIX = "ALIGNWATCH_"
NESTED = "__"
"""Between the names in ``ALIGNWATCH_HTTP__PORT``."""


class ConfigurationError(UsageError):
    """The configuration cannot be used; the message names file, place, cause and next step."""

    def __init__(self, path: Path, problems: Sequence[str]) -> None:
        self.problems = tuple(problems)
        """One line a problem, without the file's name."""
        super().__init__(f"configuration {path}: {'; '.join(problems)}")


class _OnceLoader(yaml.SafeLoader):
    """Plain data only, and every key once: of two equal keys YAML would silently take the second."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[Any] = set()
        for key, _ in node.value:
            if key.value in seen:
                raise yaml.MarkedYAMLError(problem=f"'{key.value}' stands there twice", problem_mark=key.start_mark)
            seen.add(key.value)
        return super().construct_mapping(node, deep)


def read_settings(path: Path) -> dict[str, Any]:
    """Return what stands in the file, as plain data.

    Raises:
        ConfigurationError: the file is missing, not YAML, or no list of settings.
    """
    try:
        raw = yaml.load(path.read_text(encoding="utf-8"), Loader=_OnceLoader)  # noqa: S506  # a SafeLoader
    except OSError as error:
        cause = error.strerror or str(error)
        raise ConfigurationError(path, [f"{cause}; name a file that can be read with --config"]) from error
    except UnicodeDecodeError as error:
        raise ConfigurationError(path, ["not YAML: it is not written in UTF-8; save it as UTF-8"]) from error
    except yaml.YAMLError as error:
        raise ConfigurationError(path, [f"not YAML: {_yaml_cause(error)}"]) from error
    if not isinstance(raw, dict):
        raise ConfigurationError(path, ["expected settings such as 'state: ./state', a line each"])
    return {str(key): value for key, value in raw.items()}


def _yaml_cause(error: yaml.YAMLError) -> str:
    """Name place and cause, without the line itself, which may hold anything."""
    mark, problem = getattr(error, "problem_mark", None), getattr(error, "problem", None)
    place = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
    return f"{place}{problem or 'it holds a character that YAML does not allow'}"


def unknown_keys(raw: Mapping[str, Any], model: type[BaseModel]) -> list[str]:
    """Name the settings of the first level that do not exist; pydantic-settings would take ``_…`` for its own."""
    return [_unknown((key,), model) for key in raw if key not in model.model_fields]


def problems_in(error: ValidationError, model: type[BaseModel]) -> list[str]:
    """One line a problem: the place (of the file, or the variable that stood above it), the cause and what to do."""
    lines = []
    for item in error.errors(include_url=False, include_context=False, include_input=False):
        place = item["loc"]
        if item["type"] == "extra_forbidden":
            lines.append(_unknown(place, model))
        elif item["type"] == "missing":
            lines.append(f"{_named(place)}: is required; add it")
        else:
            cause = item["msg"].removeprefix("Value error, ")
            lines.append(f"{_named(place)}: {cause}" if place else cause)
    return lines


def _unknown(place: Sequence[int | str], model: type[BaseModel]) -> str:
    known = _settings_at(model, place[:-1])
    near = difflib.get_close_matches(str(place[-1]), known, 1)
    return f"{_named(place)}: unknown setting; " + (f"did you mean '{near[0]}'?" if near else f"known: {_list(known)}")


def _list(words: Iterable[str]) -> str:
    return ", ".join(sorted(words))


def _settings_at(model: type[BaseModel], place: Sequence[int | str]) -> list[str]:
    """Names of the settings below a place such as ``('fleet', 0)``."""
    for part in place:
        if isinstance(part, str) and part in model.model_fields:
            model = next(_models_in(model.model_fields[part].annotation), model)
    return list(model.model_fields)


def _models_in(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for part in get_args(annotation):
        yield from _models_in(part)


def _named(place: Sequence[int | str]) -> str:
    """Call a place ``http.port``, or by the variable that it was read from."""
    given = {name.upper() for name in os.environ}
    for length in range(len(place), 0, -1):
        variable = ENVIRONMENT_PREFIX + NESTED.join(str(part) for part in place[:length]).upper()
        if variable in given and os.environ.get(variable, "set"):
            return f"environment variable {variable}"
    return ".".join(str(part) for part in place)


def unknown_variables(model: type[BaseModel]) -> list[str]:
    """Environment variables that were meant for a setting which does not exist, as lines.

    Only those with two underscores: ``ALIGNWATCH_JUDGE_KEY`` may be anybody's name for a secret.
    """
    meant = [name for name in os.environ if name.upper().startswith(ENVIRONMENT_PREFIX) and NESTED in name]
    lines = []
    for name in sorted(meant):
        first = name[len(ENVIRONMENT_PREFIX) :].split(NESTED)[0].lower()
        if first not in model.model_fields:
            lines.append(f"environment variable {name}: there is no setting '{first}'; unset it, or correct its name")
    return lines
