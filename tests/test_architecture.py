"""What holds the house together beside the import rules, which ``make check`` asks import-linter about."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import adapters
import guards
import monitor
import policies

ROOT = Path(__file__).parent.parent
PACKAGES = {"adapters": adapters, "guards": guards, "monitor": monitor, "policies": policies}
HEAVY = ("torch", "transformers", "peft", "vllm")
TINY_WORLD = re.compile(r"adapters\.(tiny|organisms)\b")
KNOW_THE_TINY_WORLD = {"embedded.py", "embedded_recipe.py", "embedded_reference.py", "demo.py"}


@pytest.mark.parametrize("name", PACKAGES)
def test_a_package_that_others_also_use_the_name_of_is_ours(name: str) -> None:
    """AdapterHub's library is called ``adapters`` too; in one environment with it, one of the two is shadowed."""
    file = PACKAGES[name].__file__
    assert file is not None
    assert Path(file).resolve() == ROOT / name / "__init__.py"


def _loaded_by(statement: str) -> set[str]:
    """The heavy libraries that a fresh process has loaded after a statement."""
    code = f"{statement}\nimport sys\nprint(*(set({HEAVY!r}) & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def _modules(package: str) -> list[str]:
    return [
        ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        for path in sorted((ROOT / package).rglob("*.py"))
    ]


def test_deciding_needs_no_model_library() -> None:
    assert _loaded_by("\n".join(f"import {module}" for module in _modules("policies"))) == set()


def test_the_command_line_starts_without_a_model_library() -> None:
    assert _loaded_by("import monitor.cli") == set()


def test_naming_the_tiny_world_loads_nothing_heavy() -> None:
    assert _loaded_by("import adapters.tiny") == set()


def _imported(module: Path) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(module.read_text())):
        if isinstance(node, ast.ImportFrom):
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
    return names


def test_few_modules_know_the_tiny_world() -> None:
    modules = [path for room in ("monitor", "guards", "policies") for path in (ROOT / room).rglob("*.py")]
    knowing = {path for path in modules if any(TINY_WORLD.match(name) for name in _imported(path))}
    assert {path.relative_to(ROOT / "monitor").as_posix() for path in knowing} == KNOW_THE_TINY_WORLD


def test_only_one_module_hooks_a_model() -> None:
    modules = [path for room in PACKAGES for path in (ROOT / room).rglob("*.py")]
    hooking = {
        path.relative_to(ROOT).as_posix() for path in modules if re.search(r"register_\w*hook", path.read_text())
    }
    assert hooking == {"adapters/activations.py"}


def test_the_gate_can_be_asked_for_help() -> None:
    code = "from monitor.cli import main; main(['gate', '--help'])"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert "--policy" in done.stdout


def test_continuous_integration_runs_what_a_person_runs() -> None:
    script = ROOT / ".ci" / "run"
    assert os.access(script, os.X_OK)
    lines = script.read_text().splitlines()
    assert lines[0] == "#!/usr/bin/env bash"
    assert "set -euo pipefail" in lines
    assert lines[-1] == "exec make test"
