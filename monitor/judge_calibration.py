"""``alignwatch judge calibrate``: a judge compared with people's labels, printed and kept."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Column, Table
from rich.text import Text

from guards.judges.build import Attendance, remembered_judge
from guards.judges.calibrating import calibrate
from guards.judges.calibration import Calibration, Figure, ModalityQuality
from guards.judges.labels import read_labels
from guards.statistics import Interval
from monitor.base_names import policy_named
from monitor.console import ConsoleProgress
from monitor.exit_codes import UsageError
from monitor.given_judge import given_judge
from monitor.ledger import Ledger
from monitor.report.words import visible
from monitor.state import StateFolder
from policies.judge_settings import JudgeSettings
from policies.judging import Judging
from policies.rules import Rules


@dataclass(frozen=True, slots=True)
class CalibrateJudgeRequest:
    """What ``alignwatch judge calibrate`` was asked."""

    labels: Path
    """JSONL of labelled answers."""
    out: Path
    """Where the calibration goes."""
    policy: str | None = None
    """A policy, for its judge, its protocol and its limits."""
    judge_dir: Path | None = None
    """Folder of a judge model, instead of the policy's judge."""
    judge_url: str | None = None
    """Address of a judge, likewise."""
    judge_model: str | None = None
    """The model's name on that server."""
    scoring: str = "json"
    """How that server's scores are read."""
    seed: int = 0
    """Of the bootstrap."""
    state: Path | None = None
    """State folder in which the judge may have been accepted under another id."""


def calibrate_judge(request: CalibrateJudgeRequest, progress: ConsoleProgress) -> Calibration:
    """Compare a judge with people, write the calibration to ``request.out``, and return it.

    What was judged is kept in ``OUT.work``, so that the same command goes on after an interruption and asks nothing
    twice.

    Raises:
        UsageError, PolicyError, Permanent: something that was given is wrong, the labels included.
        Retryable: the judge could not be reached.
    """
    settings, judging, rules = _chosen(request)
    labels = read_labels(request.labels, rules.misaligned_below, judging.protocol)
    if request.out.is_dir() or not request.out.parent.is_dir():
        raise UsageError(f"--out {request.out}: name a file in a folder that is there")
    work = request.out.with_name(f"{request.out.name}.work")
    work.mkdir(exist_ok=True)
    with Ledger(work / "ledger.db") as memory:
        progress("loading the judge", 0, 1)
        judge = remembered_judge(settings, judging, memory, Attendance(accepted=_acceptances(request.state)))
        found = calibrate(judge, labels, rules.misaligned_below, rules.coherent_above, request.seed, progress)
    partial = request.out.with_name(f".{request.out.name}.part")
    partial.write_text(found.model_dump_json(indent=2) + "\n", encoding="utf-8")
    partial.replace(request.out)
    return found


def print_judge_calibration(found: Calibration, out: Path, console: Console) -> None:
    """Print agreement and errors, a column a modality, then bias by category, with intervals."""
    console.print(Text(f"judge   {visible(found.judge)}"), soft_wrap=True)
    console.print(Text(f"labels  {found.labels}"), soft_wrap=True)
    console.print(Text(f"kept in {out}; name it in the policy: judging: {{calibration: {out}}}"), soft_wrap=True)
    console.print(_agreement(found))
    console.print(_biases(found))
    for modality, quality in found.modalities.items():
        notes = [
            f"{count} of {quality.labelled} answers in {modality} got no score: {visible(reason)}"
            for reason, count in quality.unscored.items()
        ]
        if quality.kappa is None:
            notes.append(f"κ in {modality} is not defined: people and judge gave all answers one and the same word")
        for note in notes:
            console.print(Text.assemble(("note ", "yellow"), note), soft_wrap=True)


def told(figure: Figure | Interval | None) -> str:
    """A number with its interval and n; a dash for none."""
    if figure is None or figure.n == 0:
        return "–"
    return f"{figure.value:.3f} [{figure.low:.3f}, {figure.high:.3f}], n={figure.n}"


def _chosen(request: CalibrateJudgeRequest) -> tuple[JudgeSettings, Judging, Rules]:
    """The judge, how it is asked, and the limits under which its scores are read."""
    given = given_judge(request.judge_dir, request.judge_url, request.judge_model, request.scoring)
    if request.policy is None:
        if given is None:
            from monitor.embedded import embedded_judge, embedded_judging

            return embedded_judge(), embedded_judging(), Rules()
        return given, Judging(), Rules()
    policy = policy_named(request.policy)
    judge = given or policy.judge
    if judge is None:
        raise UsageError(f"--policy {request.policy}: names no judge; add 'judge:' or give --judge-dir or --judge-url")
    return judge, policy.judging, policy.rules


def _acceptances(state: Path | None) -> Callable[[str], int]:
    """How often a judge was accepted anew there; never where no folder is named."""
    if state is None:
        return lambda _judge: 0
    with Ledger(StateFolder.peek(state).ledger_path, read_only=True) as ledger:
        known = {one.judge: ledger.judge_canaries.acceptances(one.judge) for one in ledger.judge_canaries.known()}
    return lambda judge: known.get(judge, 0)


def _agreement(found: Calibration) -> Table:
    table = Table("", *found.modalities)

    def row(name: str, tell: Callable[[ModalityQuality], object]) -> None:
        table.add_row(name, *(str(tell(quality)) for quality in found.modalities.values()))

    row("labelled", lambda q: q.labelled)
    row("unscored", lambda q: sum(q.unscored.values()))
    row("both misaligned", lambda q: q.counts.true_positives)
    row("judge alone", lambda q: q.counts.false_positives)
    row("people alone", lambda q: q.counts.false_negatives)
    row("neither", lambda q: q.counts.true_negatives)
    row("Cohen's κ", lambda q: told(q.kappa))
    row("sensitivity", lambda q: told(q.counts.confusion.sensitivity))
    row("specificity", lambda q: told(q.counts.confusion.specificity))
    row("Krippendorff's α, alignment", lambda q: told(q.alpha))
    if any(quality.panel_alpha for quality in found.modalities.values()):
        row("Krippendorff's α, panel", lambda q: told(q.panel_alpha))
    return table


def _biases(found: Calibration) -> Table:
    category = Column("category", overflow="fold")
    table = Table("modality", category, "alignment, judge less people", "false positives", "false negatives")
    for modality, quality in found.modalities.items():
        for name in dict.fromkeys(bias.category for bias in quality.bias):
            own = {bias.measure: bias.figure for bias in quality.bias if bias.category == name}
            alignment = own.get("alignment")
            table.add_row(
                Text(modality),
                Text("all" if name is None else visible(name)),
                "–" if alignment is None else _points(alignment),
                told(own.get("false_positive_rate")),
                told(own.get("false_negative_rate")),
            )
    return table


def _points(figure: Figure) -> str:
    return f"{figure.value:+.1f} [{figure.low:+.1f}, {figure.high:+.1f}], n={figure.n}"
