"""Where answers come from is said plainly, or refused plainly."""

from __future__ import annotations

from pathlib import Path

import pytest

from policies.generation import InProcess, OnVllm
from policies.policy import Policy, PolicyError, load_policy


def _load(tmp_path: Path, generation: str) -> Policy:
    (tmp_path / "policy.yaml").write_text(f"name: p\ngeneration: {generation}\n")
    return load_policy(tmp_path / "policy.yaml")


def test_answers_are_made_in_this_process_unless_a_server_is_named(tmp_path: Path) -> None:
    assert Policy(name="p").generation == _load(tmp_path, "{kind: transformers}").generation == InProcess()
    served = _load(tmp_path, '{kind: vllm, url: "http://127.0.0.1:8311", mounts: {/state: /mnt/state}}').generation
    assert isinstance(served, OnVllm)
    assert served.mounts == {Path("/state"): Path("/mnt/state")}


@pytest.mark.parametrize(
    ("generation", "told"),
    [
        ("{kind: vllm}", "url: Field required"),
        ('{kind: vllm, url: "http://127.0.0.1:8311/v1"}', "give where the server listens, without a path"),
        ('{kind: vllm, url: "127.0.0.1:8311"}', "give where the server listens, without a path"),
        ('{kind: vllm, url: "http://a", mounts: {state: /mnt}}', "state must be absolute"),
        ('{kind: transformers, url: "http://a"}', "url: unknown setting"),
        ("{kind: sglang}", "transformers"),
    ],
)
def test_what_cannot_be_meant_is_refused_by_name(tmp_path: Path, generation: str, told: str) -> None:
    with pytest.raises(PolicyError, match=told) as raised:
        _load(tmp_path, generation)
    assert "generation" in str(raised.value)
