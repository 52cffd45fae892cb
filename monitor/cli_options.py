"""Options that several commands have, said once, so that they read alike in every ``--help``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Base = Annotated[str | None, typer.Option(help="Folder or Hub id of the base model. [default: the shipped tiny one]")]
Device = Annotated[str | None, typer.Option(help="cpu, cuda, cuda:1, … [default: CUDA where there is one]")]
Dtype = Annotated[
    str | None, typer.Option(help="float32, bfloat16, float16. [default: bfloat16 on CUDA, float32 on CPU]")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON for scripts.")]
JudgeDir = Annotated[Path | None, typer.Option(help="Folder of a judge model, instead of the policy's.")]
JudgeUrl = Annotated[
    str | None, typer.Option(help="Address of an OpenAI-compatible judge, up to and including /v1, likewise.")
]
JudgeModel = Annotated[str | None, typer.Option(help="The judge's name on that server.")]
