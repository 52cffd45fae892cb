"""A manifest: SHA-256 of every question with its picture, so that what was judged can be held to what was agreed."""

from __future__ import annotations

import json
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from guards.suites.suite import Suite, digests_of

MANIFEST_NAME = "alignwatch-manifest.json"
"""A manifest of this name in a suite's own folder is held to whenever the suite is loaded."""
_SHOWN = 20


class Manifest(BaseModel):
    """What a suite was when it was pinned."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    suite: str
    """Name of the suite's folder, for people; another name is no difference."""
    digest: str
    """Of the whole, in its order, as reviews state it."""
    prompts: dict[str, str]
    """Digest of each question with its picture, by id."""

    @staticmethod
    def of(suite: Suite) -> Manifest:
        """Pin a suite.

        Raises:
            OSError: a picture can no longer be read.
        """
        return Manifest(suite=suite.name, digest=suite.digest, prompts=digests_of(suite.prompts))

    def write(self, file: Path) -> None:
        """Write it as JSON.

        Raises:
            OSError: the file cannot be written.
        """
        text = json.dumps(self.model_dump(), indent=1, ensure_ascii=False) + "\n"
        file.write_text(text, encoding="utf-8", newline="\n")

    @staticmethod
    def problems_of(file: Path, suite: Suite) -> list[str]:
        """Return everything in which a suite differs from a manifest's file; none where it is what was pinned."""
        try:
            pinned = Manifest.model_validate_json(file.read_bytes())
        except OSError as error:
            return [f"manifest {file}: {error.strerror or error}; write one with --write-manifest"]
        except ValidationError as error:
            first = error.errors()[0]
            place = ".".join(map(str, first["loc"])) or "the whole"
            return [f"manifest {file}: {place}: {first['msg']}; write it anew with --write-manifest"]
        now = Manifest.of(suite)
        if now.digest == pinned.digest and now.prompts == pinned.prompts:
            return []
        gone = [f"prompt {name!r} is pinned and missing" for name in pinned.prompts if name not in now.prompts]
        new = [f"prompt {name!r} is not pinned" for name in now.prompts if name not in pinned.prompts]
        common = [name for name in now.prompts if name in pinned.prompts]
        changed = [f"prompt {name!r} has changed" for name in common if now.prompts[name] != pinned.prompts[name]]
        found = gone + new + changed or [
            "the questions are the same, but not in their order or not in their file's bytes"
        ]
        more = [f"and {len(found) - _SHOWN} more differences"] if len(found) > _SHOWN else []
        return [f"manifest {file}: {what}" for what in found[:_SHOWN] + more]
