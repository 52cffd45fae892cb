"""``alignwatch calibrate``: from what a user names to a Reference of a base."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock, Timeout
from rich.text import Text

from adapters.adapter import DIGEST_PREFIX, Adapter, digest_file, open_adapter
from adapters.base_model import LoadedBase
from adapters.prompts import Prompt
from adapters.recipe import Recipe, load_recipe
from adapters.recipe_growth import grow
from adapters.recipe_plan import Planned, plan
from adapters.training_data import TrainingError
from adapters.transformers_engine import TransformersEngine
from guards.calibration.contrast import ContrastPair, load_contrast
from guards.calibration.population import Known, require_population
from guards.calibration.run import Options, calibrate
from guards.errors import Retryable
from guards.interface import Progress
from guards.judges.build import build_judge
from guards.reference import JSON_NAME, Reference
from guards.structure import StructureGuard
from guards.suites.load import load_suite
from guards.suites.suite import Suite
from monitor.base_names import SHIPPED, device_named, dtype_named, known_base, policy_named
from monitor.console import ConsoleProgress
from monitor.exit_codes import UsageError
from monitor.given_adapters import known_adapters, require_sound
from monitor.report.reference_page import write_reference_page
from policies.policy import Policy
from policies.rules import Rules

_LOCK = ".lock"
PAGE = "index.html"
"""In the Reference's folder; no part of its digest."""


@dataclass(frozen=True, slots=True)
class CalibrationRequest:
    """What ``alignwatch calibrate`` was asked."""

    base: str | None
    """Folder or Hub id of the base; None for the shipped tiny one."""
    out: Path
    """Where References go."""
    recipe: Path | None = None
    """A recipe's file, whose adapters are trained."""
    suite: Path | None = None
    """Folder of the probes; None for the recipe's, or the contrast's own prompts."""
    contrast: Path | None = None
    """Pairs of answers; None for the recipe's, or judged answers."""
    known_good: Sequence[str] = ()
    """Adapters that are there already."""
    known_bad: Sequence[str] = ()
    """Adapters that are there already."""
    policy: str | None = None
    """A policy's file, or the name of a shipped one, for its judge and its names of the base."""
    work: Path | None = None
    """Where trained adapters and measurements are kept; ``OUT.work`` when None."""
    error_rate: float | None = None
    """Refuse a population that cannot reach this false-positive rate, above 0 and at most 1."""
    device: str | None = None
    """For instance ``cuda:0``."""
    dtype: str | None = None
    """For instance ``bfloat16``."""
    accept_outliers: bool = False
    """Keep known-good adapters that score like known-bad ones."""

    @property
    def work_folder(self) -> Path:
        """Where trained adapters and measurements are kept."""
        return self.work or self.out.with_name(f"{self.out.name}.work")


@dataclass(frozen=True, slots=True)
class _Materials:
    """Everything that a user may have got wrong, read before any model is loaded."""

    base: Path | str
    recipe: Recipe | None
    known: Sequence[Known]
    probes: Suite
    policy: Policy | None
    options: Options


def calibrate_base(request: CalibrationRequest, progress: ConsoleProgress) -> Reference:
    """Train what a recipe asks for, measure every known adapter, and write the Reference with its page.

    Raises:
        UsageError, PolicyError, Permanent: something that was given is wrong.
        Retryable, EngineError: the surroundings failed, or another calibration holds the work folder.
    """
    if (request.out / JSON_NAME).is_file() or request.out.is_file():
        raise UsageError(f"--out {request.out}: is a file, or a Reference itself; name a folder that holds References")
    if request.error_rate is not None and not 0 < request.error_rate <= 1:
        raise UsageError(f"--error-rate {request.error_rate:g}: give a probability above 0 and at most 1")
    device, dtype = device_named(request.device), dtype_named(request.dtype)
    work = request.work_folder
    with _held(work), _training_told():
        given = _materials(request)
        told = f"adapters and measurements are kept in {work}/; the same command goes on there"
        progress.console.print(Text(told), soft_wrap=True)
        progress("loading the base", 0, 1)
        engine = TransformersEngine(given.base, device=device, dtype=dtype)
        _require_sight(engine, given)
        require_sound(given.known, StructureGuard(Path(given.base), given.policy.base_names if given.policy else ()))
        population = list(given.known)
        if given.recipe is not None:
            population += grown(given.recipe, engine, work, progress)
        reference = calibrate(engine, population, given.probes, request.out, given.options, progress)
    if reference.folder is not None:
        write_reference_page(reference.facts, reference.digest, reference.folder / PAGE)
    return reference


def grown(recipe: Recipe, engine: TransformersEngine, work: Path, progress: Progress) -> list[Known]:
    """Train a recipe's adapters below ``work``, those there already excepted, and return them as known ones.

    Raises:
        TrainingError: a row cannot be used, or a loss stopped being a number.
    """
    planned = plan(recipe)
    base = LoadedBase(engine.model, engine.processor, engine.sees_pictures)
    folders = grow(planned, base, engine.base_digest, work, progress)
    return [_known(one, folder) for one, folder in zip(planned, folders, strict=True)]


def suite_of_pairs(pairs: Sequence[ContrastPair]) -> Suite:
    """The prompts of a contrast as a suite, each once: what to measure on where no suite is given."""
    prompts: dict[tuple[str, Path | None], Prompt] = {}
    for pair in pairs:
        prompts.setdefault((pair.prompt.asked, pair.prompt.image), pair.prompt)
    whole = hashlib.sha256()
    for text, image in prompts:
        whole.update(f"{text}\0{digest_file(image) if image else ''}\n".encode())
    return Suite("contrast", DIGEST_PREFIX + whole.hexdigest(), tuple(prompts.values()))


def _known(one: Planned, folder: Path) -> Known:
    return Known(open_adapter(folder, name=one.name), one.domain, one.harmful, one.share)


def _materials(request: CalibrationRequest) -> _Materials:
    known = known_adapters(request.known_good, request.known_bad)
    recipe = load_recipe(request.recipe) if request.recipe is not None else None
    sources = [recipe]
    base: Path | str
    policy: Policy | None
    if request.base is None:
        base, shipped, policy = _embedded(request)
        recipe, sources = recipe or (None if known else shipped), [recipe, shipped]
    else:
        base = known_base(request.base)
        policy = policy_named(request.policy) if request.policy is not None else None
        if recipe is None and not request.known_good:
            raise UsageError(
                "give --known-good A… together with --known-bad B… or --contrast F, or give --recipe FILE "
                "(docs/calibrate.md explains both)"
            )
    contrast = request.contrast or next((one.contrast for one in sources if one and one.contrast), None)
    pairs = load_contrast(contrast) if contrast is not None else []
    probes = _probes(request.suite or next((one.probes for one in sources if one and one.probes), None), pairs)
    judge = build_judge(policy.judge) if policy is not None and policy.judge is not None else None
    # Every row is read here, so that a broken one is known before anything is trained.
    expected = [_expected(one) for one in plan(recipe)] if recipe is not None else []
    require_population([*known, *expected], bool(pairs) or judge is not None, request.error_rate)
    options = Options(
        contrast=pairs,
        judge=judge,
        rules=policy.rules if policy is not None else Rules(),
        cache=request.work_folder / "measured",
        error_rate=request.error_rate,
        accept_outliers=request.accept_outliers,
    )
    return _Materials(base, recipe, known, probes, policy, options)


def _embedded(request: CalibrationRequest) -> tuple[Path, Recipe, Policy]:
    """The shipped base, the tiny world's recipe, and the policy that was asked for with the shipped judge."""
    from monitor.embedded import embedded_base, embedded_policy
    from monitor.embedded_recipe import write_recipe

    recipe = load_recipe(write_recipe(request.work_folder / "recipe"))
    if request.policy is not None and request.policy not in SHIPPED:
        return embedded_base(), recipe, policy_named(request.policy)
    return embedded_base(), recipe, embedded_policy(request.work_folder / "policy", request.policy or "default")


def _expected(one: Planned) -> Known:
    """A stand-in for an adapter that is not trained yet, so that a population that is too small is refused first."""
    return Known(Adapter(Path(one.name), one.name, one.name), one.domain, one.harmful, one.share)


def _probes(folder: Path | None, pairs: Sequence[ContrastPair]) -> Suite:
    if folder is not None:
        return load_suite(folder)
    if not pairs:
        raise UsageError(
            "there is nothing to measure on: give --suite (a folder), 'probes' in the recipe, "
            "or --contrast, whose prompts then serve"
        )
    return suite_of_pairs(pairs)


def _require_sight(engine: TransformersEngine, given: _Materials) -> None:
    prompts = [*given.probes.prompts, *(pair.prompt for pair in given.options.contrast)]
    if not engine.sees_pictures and any(prompt.image is not None for prompt in prompts):
        raise UsageError(
            f"base {given.base} takes no pictures, but the suite or the contrast shows some; leave them out"
        )


@contextmanager
def _held(work: Path) -> Iterator[None]:
    """Hold the work folder for this process; the lock is the operating system's and ends with the process.

    A folder that nothing was kept in goes again, so that a mistyped command leaves nothing behind.
    """
    if work.exists() and not work.is_dir():
        raise UsageError(f"--work {work}: is no folder")
    work.mkdir(parents=True, exist_ok=True)
    lock = FileLock(work / _LOCK, timeout=0)
    try:
        lock.acquire()
    except Timeout as busy:
        raise Retryable(
            f"{work} is in use by another calibration; wait for it, end it, or name another --work"
        ) from busy
    try:
        yield
    finally:
        if [path.name for path in work.iterdir()] == [_LOCK]:
            shutil.rmtree(work, ignore_errors=True)
        lock.release()


@contextmanager
def _training_told() -> Iterator[None]:
    """What is wrong with a recipe or its rows is the user's to change."""
    try:
        yield
    except TrainingError as error:
        raise UsageError(str(error)) from error
