"""Looking at a configuration before it is used: everything it names, all problems in one go. No model is loaded."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from guards.errors import GuardError
from guards.suites.load import load_suite
from monitor.configuration import ConfigurationError, ServiceConfiguration, VllmSettings, is_hub_id, load_configuration
from monitor.configuration_reading import ENVIRONMENT_PREFIX, NESTED
from monitor.exit_codes import UsageError
from monitor.state import StateFolder
from policies.generation import OnVllm
from policies.judge_settings import LocalJudge, OpenAIJudge, judges_in
from policies.policy import Policy, PolicyError, load_policy


class _Remarks:
    """What was noticed, by weight."""

    def __init__(self) -> None:
        self.problems: list[str] = []
        self.notes: list[str] = []


def check_configuration(path: Path) -> tuple[list[str], list[str]]:
    """Return the problems, with which the service does not start or never works, and the notes, a line each.

    Reads the configuration, the policy, its suites, and whether what they name is there. Secrets are looked for and
    never shown. Never raises for a mistake of the user's; that is a problem.
    """
    remarks = _Remarks()
    try:
        configuration = load_configuration(path)
    except ConfigurationError as error:
        return [f"{path}: {problem}" for problem in error.problems], []
    _check_base(configuration, remarks)
    policy = _check_policy(configuration, remarks)
    _check_state(configuration, remarks)
    _check_sources(configuration, remarks)
    for number, replica in enumerate(configuration.fleet):
        _check_replica(f"fleet.{number}", replica, configuration, remarks)
    _check_http(configuration, remarks)
    remarks.notes += _idle_variables(configuration, policy)
    return remarks.problems, remarks.notes


def _check_base(configuration: ServiceConfiguration, remarks: _Remarks) -> None:
    base = configuration.base
    folder = Path(base)
    if is_hub_id(base) and not folder.is_dir():
        from huggingface_hub import try_to_load_from_cache  # what it imports takes a while

        if isinstance(try_to_load_from_cache(base, "config.json"), str):
            return
        if os.environ.get("HF_HUB_OFFLINE", "0").upper() in ("1", "ON", "YES", "TRUE"):
            remarks.problems.append(f"base {base}: not in the local cache, and HF_HUB_OFFLINE is set; fetch it first")
        else:
            remarks.notes.append(f"base {base}: not in the local cache; it is fetched when the service starts")
    elif not folder.is_dir():
        remarks.problems.append(f"base {base}: no such folder, and no Hub id (owner/name) either")
    elif not (folder / "config.json").is_file():
        remarks.problems.append(f"base {base}: no config.json there; give the folder of a Hugging Face model")


def _check_policy(configuration: ServiceConfiguration, remarks: _Remarks) -> Policy | None:
    try:
        policy = load_policy(configuration.policy)
    except PolicyError as error:
        remarks.problems.append(str(error))
        return None
    where = f"policy {configuration.policy}"
    if not policy.suites:
        remarks.problems.append(f"{where}: suites: names none, so there is nothing to ask; add a folder")
    for suite in policy.suites:
        try:
            load_suite(suite)
        except GuardError as error:
            remarks.problems.append(f"{where}: {error}")
    if policy.judge is None:
        remarks.problems.append(f"{where}: judge: is missing; add 'judge: {{kind: openai, base_url: …, model: …}}'")
    remarks.problems += [f"{where}: {problem}" for problem in _judge_problems(policy)]
    remarks.problems += [f"{where}: {problem}" for problem in _generation_problems(configuration, policy)]
    for name, path in (
        ("reference", policy.reference),
        ("judging.calibration", policy.judging.calibration),
        ("judging.planted_harm", policy.judging.planted_harm),
        ("remedying.benign_data", policy.remedying.benign_data),
        ("remedying.neutral_data", policy.remedying.neutral_data),
        ("screening.training_data", policy.screening.training_data),
    ):
        if path is not None and not path.exists():
            remarks.problems.append(f"{where}: {name}: {path} is not there; correct the path")
    if policy.mode == "observe":
        remarks.notes.append(f"{where}: mode: observe decides and records, but promotes and quarantines nothing")
    return policy


def _check_state(configuration: ServiceConfiguration, remarks: _Remarks) -> None:
    state = configuration.state
    existing = next(path for path in (state, *state.parents) if path.exists() or path.is_symlink())
    if not existing.is_dir():
        remarks.problems.append(f"state: {existing} is no folder; name another path")
    elif not os.access(existing, os.W_OK | os.X_OK):
        remarks.problems.append(f"state: {existing} cannot be written by this user; change its owner or name another")
    folders = StateFolder(state)
    served = folders.promoted.resolve()
    for hidden in (folders.quarantine, folders.staging, folders.remedied, folders.retired):
        if _within(hidden, served):
            remarks.problems.append(
                f"state: {hidden} leads into the promoted folder, which servers read; undo the link"
            )


def _within(path: Path, folder: Path) -> bool:
    resolved = path.resolve()
    return resolved == folder or folder in resolved.parents


def _check_sources(configuration: ServiceConfiguration, remarks: _Remarks) -> None:
    if not configuration.sources:
        remarks.notes.append("sources: none, so no new adapter is noticed; only what is known is looked at again")
    for number, source in enumerate(configuration.sources):
        place = f"sources.{number}.path: {source.path}"
        if not source.path.exists():
            remarks.notes.append(f"{place} is not there yet; it is waited for")
        elif not source.path.is_dir():
            remarks.problems.append(f"{place} is a file; name the folder that adapters arrive in")
        elif not os.access(source.path, os.R_OK | os.X_OK):
            remarks.problems.append(f"{place} cannot be read by this user; grant it read and search permission")


def _check_replica(place: str, replica: VllmSettings, configuration: ServiceConfiguration, remarks: _Remarks) -> None:
    if replica.token_env and not os.environ.get(replica.token_env):
        remarks.problems.append(
            f"{place}.token_env: the environment has no {replica.token_env}; set it for the service"
        )
    if replica.token_file:
        remarks.problems += _secret_file(f"{place}.token_file", replica.token_file)
    if replica.promoted is None:
        return
    folders = StateFolder(configuration.state)
    seen = replica.promoted.resolve()
    if seen.name == "quarantine" or _within(folders.quarantine, seen) or _within(seen, folders.quarantine):
        remarks.problems.append(
            f"{place}.promoted: {replica.promoted} shows that server the quarantine; mount {folders.promoted} alone"
        )
    elif seen != folders.promoted.resolve() and _within(seen, folders.path.resolve()):
        remarks.problems.append(
            f"{place}.promoted: {replica.promoted} is in the state folder but is not {folders.promoted}; leave it out"
        )


def _secret_file(place: str, path: Path) -> Iterator[str]:
    """Problems with a file that holds a secret; what it holds is not shown."""
    try:
        empty = not path.read_bytes().strip()
    except OSError as error:
        yield f"{place}: {path}: {error.strerror or 'cannot be read'}; let the service's user read it"
    else:
        if empty:
            yield f"{place}: {path} is empty; put the token into it"


def _check_http(configuration: ServiceConfiguration, remarks: _Remarks) -> None:
    from monitor.web.access import open_tokens  # what it imports takes a while

    try:
        open_tokens(configuration.http)
    except UsageError as error:
        remarks.problems.append(f"http.tokens: {error}")
    if not configuration.http.open_metrics and configuration.http.tokens is None:
        remarks.notes.append("http.open_metrics: is off, and http.tokens is not set: no scrape can be let in")


def _judge_problems(policy: Policy) -> Iterator[str]:
    for judge in judges_in(policy.judge):
        if isinstance(judge, LocalJudge):
            if not judge.path.is_dir():
                yield f"judge.path: {judge.path} is no folder; give the judge model's"
        elif judge.api_key_env and not os.environ.get(judge.api_key_env):
            yield f"judge.api_key_env: the environment has no {judge.api_key_env}; set it for the service"


def _generation_problems(configuration: ServiceConfiguration, policy: Policy) -> Iterator[str]:
    key = _generation_key(policy)
    if key and not os.environ.get(key):
        yield f"generation.api_key_env: the environment has no {key}; set it for the service"
    served = {replica.url.rstrip("/") for replica in configuration.fleet}
    if isinstance(policy.generation, OnVllm) and policy.generation.url.rstrip("/") in served:
        yield f"generation.url: {policy.generation.url} is in the fleet, too; reviews need a server that serves nobody"


def _generation_key(policy: Policy | None) -> str | None:
    return policy.generation.api_key_env if policy and isinstance(policy.generation, OnVllm) else None


def _idle_variables(configuration: ServiceConfiguration, policy: Policy | None) -> Iterator[str]:
    """Variables that look like settings and are none; one that holds a secret named elsewhere is in use."""
    used = {replica.token_env for replica in configuration.fleet}
    used |= {j.api_key_env for j in judges_in(policy.judge if policy else None) if isinstance(j, OpenAIJudge)}
    used.add(_generation_key(policy))
    for name in sorted(os.environ):
        setting = name.upper().removeprefix(ENVIRONMENT_PREFIX).lower()
        if not name.upper().startswith(ENVIRONMENT_PREFIX) or NESTED in name or name in used:
            continue
        if setting not in ServiceConfiguration.model_fields:
            yield f"environment variable {name}: is no setting and nothing names it; a typo?"
