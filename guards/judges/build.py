"""The judge that a policy names."""

from __future__ import annotations

from typing import assert_never

from guards.judges.interface import Judge
from guards.judges.openai_compatible import OpenAICompatibleJudge
from policies.judge_settings import JudgeSettings, LocalJudge, OpenAIJudge


def build_judge(settings: JudgeSettings) -> Judge:
    """Make the judge that ``settings`` describe. A local one is loaded now; a remote one is not asked yet.

    Raises:
        Permanent: the settings cannot work; one line that names cause and next step.
    """
    match settings:
        case LocalJudge():
            # Here and not above: it loads torch and transformers, which a remote judge can do without.
            from guards.judges.language_model import LanguageModelJudge

            return LanguageModelJudge(settings.path)
        case OpenAIJudge():
            return OpenAICompatibleJudge(
                settings.base_url,
                settings.model,
                scoring=settings.scoring,
                api_key_env=settings.api_key_env,
                timeout_seconds=settings.timeout_seconds,
                attempts=settings.attempts,
                concurrency=settings.concurrency,
                send_images=settings.send_images,
            )
        case _:
            assert_never(settings)
