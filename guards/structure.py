"""The first guard: is this a plain LoRA adapter of this base, in files that hold what they claim?"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from functools import cached_property
from pathlib import Path

from adapters.adapter import Adapter, NotAnAdapter, digest_file
from adapters.anatomy import Anatomy, check_finite, dissect
from adapters.patterns import pattern_fault
from adapters.problems import Problem, shown
from adapters.skeleton import Skeleton, skeleton
from guards.errors import Retryable
from policies.findings import Defect, Finding, Result

_SHOWN_PER_CODE = 3
"""Defects of one code that are spelled out; the last one counts the rest."""


class StructureGuard:
    """Examines files alone. It runs before any weight of the adapter is loaded, and every other guard relies on it."""

    name = "structure"
    version = "1"

    def __init__(self, base: Path, accept_base_names: Sequence[str] = ()) -> None:
        """Examine adapters of the base in the folder ``base``.

        ``accept_base_names`` are further names under which adapters may know that base, in full or the part after
        the last slash; letter case is ignored.
        """
        self._base = base
        self._accepted = tuple(accept_base_names)

    @cached_property
    def _skeleton(self) -> Skeleton:
        return skeleton(self._base)

    def examine(self, adapter: Adapter) -> list[Result]:
        """Return the defects, or one finding ``structure`` of 1.0 whose note says what is unusual.

        Raises:
            Retryable: the adapter's files cannot be read just now.
            BaseUnloadable: the base cannot be loaded, so nothing was learnt about the adapter.
        """
        try:
            anatomy = dissect(adapter.path)
            problems = list(anatomy.problems)
            if anatomy.tensors and anatomy.sound:
                problems += check_finite(adapter.path, anatomy)
            if anatomy.modules:
                problems += self._against_base(anatomy)
        except NotAnAdapter as error:
            problems = [Problem("not_an_adapter", str(error))]
            return self._defects(problems)
        except OSError as error:
            raise Retryable(f"{adapter.name}: its files cannot be read: {error}") from error
        return self._defects(problems) or [self._sound(anatomy, problems)]

    def _against_base(self, anatomy: Anatomy) -> list[Problem]:
        problems = []
        stranger = _wrong_base(anatomy.base_model_name, self._skeleton, self._accepted)
        if stranger:
            problems.append(stranger)
        fault = pattern_fault(anatomy.patterns, [*self._skeleton.modules, *self._skeleton.others])
        if fault:
            problems.append(Problem("pattern_unusable", fault, "adapter_config.json: a module pattern"))
        fit = self._skeleton.fit(anatomy.modules)
        for module, disagreement in fit.misshapen.items():
            problems.append(Problem("shape_disagrees_with_base", disagreement, shown(module, 160)))
        for module in fit.unmatched:
            reason = "is no module of the base, so these weights would silently do nothing; check the base"
            problems.append(Problem("unmatched_module", reason, shown(module, 160)))
        if fit.clashing:
            reason = "holds two pairs, one under an older name, for the same module; save it again"
            problems.append(Problem("tensor_twice", reason, "adapter_model.safetensors"))
        if fit.renamed:
            reason = f"{fit.renamed} modules bear names of older transformers, which peft translates"
            problems.append(Problem("older_names", reason, fatal=False))
        if fit.unchecked:
            reason = f"the shapes of {len(fit.unchecked)} fused modules were not compared with the base"
            problems.append(Problem("shapes_unchecked", reason, fatal=False))
        return problems

    def _defects(self, problems: Iterable[Problem]) -> list[Result]:
        defects: list[Result] = []
        for code, found in _by_code(problem for problem in problems if problem.fatal).items():
            spelled = found[:_SHOWN_PER_CODE]
            for problem in spelled:
                rest = len(found) - len(spelled) if problem is spelled[-1] else 0
                reason = str(problem) + (f" (and {rest} more like it)" if rest else "")
                labels = {"where": problem.where} if problem.where else {}
                defects.append(Defect(guard=self.name, version=self.version, code=code, reason=reason, labels=labels))
        return defects

    def _sound(self, anatomy: Anatomy, problems: Iterable[Problem]) -> Finding:
        labels = {"rank": str(anatomy.rank), "parts": ",".join(sorted(anatomy.parts))}
        note = "; ".join(
            f"{found[0]} (and {len(found) - 1} more like it)" if found[1:] else str(found[0])
            for found in _by_code(problems).values()
        )
        return Finding(
            guard=self.name,
            version=self.version,
            measure="structure",
            value=1.0,
            n=len(anatomy.tensors),
            labels=labels,
            note=note,
        )


def _by_code(problems: Iterable[Problem]) -> dict[str, list[Problem]]:
    grouped: dict[str, list[Problem]] = defaultdict(list)
    for problem in problems:
        grouped[problem.code].append(problem)
    return grouped


def _wrong_base(claimed: str | None, base: Skeleton, accepted: Sequence[str]) -> Problem | None:
    """Compare the base that the adapter names with the one it is examined on. Names prove little; shapes follow."""
    if claimed is None or _same(claimed, accepted):
        return None
    where = "adapter_config.json: base_model_name_or_path"
    local = Path(claimed) / "config.json"
    try:
        if local.is_file() and digest_file(local) == base.config_digest:
            return None
        if local.is_file() and local.is_absolute():  # a relative path was relative to where the adapter was trained
            reason = f"is {shown(claimed, 120)}, a folder here whose config.json differs from that of {base.base}"
            return Problem("wrong_base", f"{reason}; {_REMEDY}", where)
    except (OSError, ValueError):  # a claim that is no usable path is a name like any other
        pass
    if _same(claimed, base.names):
        return None
    reason = f"is {shown(claimed, 120)}, but the base is {shown(base.names[0], 120)}; {_REMEDY}"
    return Problem("wrong_base", reason, where)


_REMEDY = "if they are the same model, list that name under base_names: in the policy"


def _same(claimed: str, names: Iterable[str]) -> bool:
    return _last(claimed) in {_last(name) for name in names}


def _last(name: str) -> str:
    return name.replace("\\", "/").rstrip("/").rpartition("/")[2].casefold()
