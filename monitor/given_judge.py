"""A judge that people name on the command line, instead of a policy's."""

from __future__ import annotations

from pathlib import Path

from monitor.exit_codes import UsageError
from policies.judge_settings import JudgeSettings, LocalJudge, OpenAIJudge


def given_judge(folder: Path | None, url: str | None, model: str | None, scoring: str = "json") -> JudgeSettings | None:
    """Return the judge that the options name by themselves; None where they name none.

    Args:
        folder: of a judge model (``--judge-dir``).
        url: of an OpenAI-compatible server, up to and including ``/v1`` (``--judge-url``).
        model: the judge's name on that server (``--judge-model``).
        scoring: how that server's scores are read.

    Raises:
        UsageError: they name two judges, half of one, or one that cannot be.
    """
    if folder is not None and url is not None:
        raise UsageError("--judge-dir and --judge-url name two judges; give one")
    if (url is None) != (model is None):
        raise UsageError("--judge-url and --judge-model go together: an address, and the model's name there")
    if folder is not None:
        if not folder.is_dir():
            raise UsageError(f"--judge-dir {folder}: there is no such folder")
        return LocalJudge(kind="local", path=folder)
    if url is not None:
        if not url.startswith(("http://", "https://")):
            raise UsageError(f"--judge-url {url}: is no http address; give it up to and including /v1")
        return OpenAIJudge.model_validate({"kind": "openai", "base_url": url, "model": model, "scoring": scoring})
    return None
