"""A Dockerfile read without an engine, and its image's surroundings made without one: for tests."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Instruction:
    """One instruction of a Dockerfile."""

    name: str
    """In capitals."""
    value: str
    """Everything after the name, continued lines joined."""


@dataclass
class Stage:
    """One ``FROM`` and what follows it."""

    base: str
    """An image, or the name of an earlier stage."""
    instructions: list[Instruction] = field(default_factory=list)


def read_dockerfile(text: str) -> tuple[dict[str, str], dict[str, Stage]]:
    """Return the arguments before the first stage, and the stages by name, in order."""
    lines = [line for line in text.splitlines() if not line.lstrip().startswith("#")]
    arguments: dict[str, str] = {}
    stages: dict[str, Stage] = {}
    current: Stage | None = None
    for line in re.sub(r"\\\n", " ", "\n".join(lines)).splitlines():
        if not line.strip():
            continue
        name, _, value = line.strip().partition(" ")
        instruction = Instruction(name.upper(), " ".join(value.split()) if name != "HEALTHCHECK" else value.strip())
        if instruction.name == "FROM":
            base, _, stage = instruction.value.partition(" AS ")
            current = stages[stage] = Stage(base)
        elif current is None:
            key, _, default = instruction.value.partition("=")
            arguments[key] = default
        else:
            current.instructions.append(instruction)
    return arguments, stages


@dataclass
class Image:
    """What a stage tells the engine about running it."""

    environment: dict[str, str] = field(default_factory=dict)
    last: dict[str, str] = field(default_factory=dict)
    """The last value of every instruction that replaces the one before, for instance ``USER``."""

    def array(self, name: str) -> list[str]:
        """An instruction in exec form, as the arguments."""
        value = self.last[name]
        array: list[str] = json.loads(value[value.index("[") :])
        return array


def image_of(stages: Mapping[str, Stage], name: str) -> Image:
    """Follow a stage to its beginning, as an engine does."""
    stage = stages[name]
    image = image_of(stages, stage.base) if stage.base in stages else Image()
    for instruction in stage.instructions:
        image.last[instruction.name] = instruction.value
        if instruction.name == "ENV":
            image.environment |= dict(pair.split("=", 1) for pair in shlex.split(instruction.value))
    return image


def ignored(path: str, patterns: Sequence[str]) -> bool:
    """Whether a .dockerignore hides a path: the last pattern that meets it, or a folder above it, decides."""
    parts = path.split("/")
    above = ["/".join(parts[:length]) for length in range(1, len(parts) + 1)]
    hidden = False
    for pattern in patterns:
        wanted = re.escape(pattern.lstrip("!")).replace(r"\*\*/", "(?:.*/)?").replace(r"\*", "[^/]*")
        if any(re.fullmatch(wanted, one) for one in above):
            hidden = not pattern.startswith("!")
    return hidden


_ENTER = r"""
mount -t tmpfs tmpfs "$SCRATCH"
mkdir "$SCRATCH/upper" "$SCRATCH/work" "$SCRATCH/root"
mount -t overlay overlay -o "lowerdir=/,upperdir=$SCRATCH/upper,workdir=$SCRATCH/work" "$SCRATCH/root"
cd "$SCRATCH/root"
while IFS=$'\t' read -r mode source target; do
  if [ -d "$source" ]; then mkdir -p ".$target"; else mkdir -p ".${target%/*}"; touch ".$target"; fi
  mount --rbind "$source" ".$target"
  if [ "$mode" = ro ]; then mount -o remount,bind,ro ".$target"; fi
done < "$MOUNTS"
for folder in $PASSABLE; do chmod o+x ".$folder"; done
mount --rbind /proc ./proc
mount --rbind /dev ./dev
mount -t tmpfs -o mode=1777,noexec,nosuid,nodev tmpfs ./tmp
mount -o remount,ro "$SCRATCH/root"
exec chroot . setpriv --reuid=10001 --regid=10001 --clear-groups --no-new-privs --bounding-set=-all --inh-caps=-all \
  sh -c 'cd "$0" && exec "$@"' "$WORKDIR" "$@"
"""
"""What ``docker run --read-only --tmpfs /tmp --cap-drop ALL --security-opt no-new-privileges`` does."""


def can_contain() -> bool:
    """Whether this machine lets a test make mounts of its own, and nothing that is needed lies where they come."""
    if any(Path(needed).is_relative_to("/tmp") for needed in (sys.prefix, sys.base_prefix, ROOT)):
        return False  # the container has a /tmp of its own, which would hide this Python or this project
    if os.geteuid() != 0 or not all(map(shutil.which, ("unshare", "setpriv", "chroot"))):
        return False
    probe = ["unshare", "--mount", "sh", "-c", "mount -t tmpfs tmpfs /mnt"]
    return subprocess.run(probe, capture_output=True).returncode == 0


def contained(
    scratch: Path, command: Sequence[str], image: Image, mounts: Sequence[tuple[str, Path, str]], **environment: str
) -> subprocess.Popen[str]:
    """Start a command as the image would run it: its variables, user and folder, a read-only root, /tmp in memory.

    ``mounts`` are (``ro`` or ``rw``, folder here, folder there). This Python's environment stands in for the image's.
    """
    scratch.mkdir(parents=True)
    listed = [("ro", Path(sys.prefix), "/opt/alignwatch"), *mounts]
    (scratch / "mounts").write_text("".join(f"{mode}\t{source}\t{target}\n" for mode, source, target in listed))
    (scratch / "inside").mkdir()
    variables = image.environment | environment
    return subprocess.Popen(
        ["unshare", "--mount", "--propagation=private", "bash", "-euc", _ENTER, "enter", *command],
        env={
            **variables,
            "PATH": variables["PATH"].replace("$PATH", os.defpath + ":/usr/sbin:/sbin"),
            "SCRATCH": str(scratch / "inside"),
            "MOUNTS": str(scratch / "mounts"),
            "WORKDIR": image.last["WORKDIR"],
            # This Python may lie below somebody's home; the layer above hides that from the machine itself.
            "PASSABLE": " ".join(str(folder) for folder in Path(sys.base_prefix).parents),
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
