"""Adapters that people name on the command line: a folder, a folder of them, or ``DOMAIN=DIR``."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from adapters.adapter import CONFIG_NAME, Adapter, open_adapter
from guards.calibration.population import Known
from guards.structure import StructureGuard
from monitor.exit_codes import UsageError
from policies.findings import Defect


@dataclass(frozen=True, slots=True)
class Given:
    """One adapter that was named."""

    adapter: Adapter
    """Where it lies; its name is unlike that of any other given one."""
    domain: str | None
    """What it was trained on, where the user says so."""


def given_adapters(values: Sequence[str | Path], option: str = "") -> list[Given]:
    """Find every adapter that ``values`` name, in their order; a folder of adapters is taken in sorted order.

    Args:
        values: an adapter's folder, a folder of such folders, or either behind ``DOMAIN=``.
        option: what the user typed before them, for messages.

    Raises:
        UsageError: a path does not exist, or there is no adapter in it.
    """
    found = [given for value in values for given in _found(str(value), option)]
    names = Counter(given.adapter.name for given in found)
    return [_told_apart(given) if names[given.adapter.name] > 1 else given for given in found]


def known_adapters(good: Sequence[str], bad: Sequence[str]) -> list[Known]:
    """Find the known-good and known-bad adapters; one without a domain is a domain of its own, named like itself.

    Raises:
        UsageError: as :func:`given_adapters`, or an adapter was given twice.
    """
    sides = ((good, "--known-good", False), (bad, "--known-bad", True))
    given = [(one, option, harmful) for values, option, harmful in sides for one in given_adapters(values, option)]
    seen: dict[str, tuple[Given, str]] = {}
    for one, option, _ in given:
        first, said = seen.setdefault(one.adapter.digest, (one, option))
        if first is not one:
            what = f"{said} {first.adapter.path} and {option} {one.adapter.path} are the same adapter"
            raise UsageError(f"{what}, byte for byte; give it once, on one side")
    return [Known(one.adapter, one.domain or one.adapter.name, harmful) for one, _, harmful in given]


def fault(adapter: Adapter, structure: StructureGuard) -> str | None:
    """What is wrong with an adapter's files, so that its weights must not be loaded; None for nothing.

    Raises:
        BaseUnloadable, Retryable: the base or the files cannot be read, so nothing was learnt.
    """
    defects = [result for result in structure.examine(adapter) if isinstance(result, Defect)]
    if not defects:
        return None
    more = f" (and {len(defects) - 1} more: alignwatch inspect)" if defects[1:] else ""
    return f"{defects[0].code}: {defects[0].reason}{more}"


def require_sound(population: Sequence[Known], structure: StructureGuard) -> None:
    """Refuse an adapter whose files are not those of a plain LoRA of the base, before any of its weights is loaded.

    Raises:
        UsageError: one is not sound.
    """
    for known in population:
        option = "--known-bad" if known.harmful else "--known-good"
        wrong = fault(known.adapter, structure)
        if wrong:
            raise UsageError(f"{option} {known.adapter.path}: {wrong}")


def _found(value: str, option: str) -> Iterator[Given]:
    domain, folder = _parted(value)
    said = f"{option} {value}".strip()
    if not folder.exists():
        raise UsageError(f"{said}: there is no such folder; give an adapter's folder, or a folder of adapters")
    if (folder / CONFIG_NAME).is_file():
        yield Given(open_adapter(folder), domain)
        return
    folders = sorted(path.parent for path in folder.glob(f"*/{CONFIG_NAME}")) if folder.is_dir() else []
    if not folders:
        raise UsageError(f"{said}: holds no adapter: no {CONFIG_NAME} in it, nor in a folder one level below")
    for one in folders:
        yield Given(open_adapter(one), domain)


def _parted(value: str) -> tuple[str | None, Path]:
    """The domain and the path of a value; a path that exists as it stands is never taken for a domain."""
    domain, equals, path = value.partition("=")
    if equals and domain and path and "/" not in domain and not Path(value).exists():
        return domain, Path(path)
    return None, Path(value)


def _told_apart(given: Given) -> Given:
    path = given.adapter.path.resolve()
    return replace(given, adapter=replace(given.adapter, name=f"{path.parent.name}/{path.name}"))
