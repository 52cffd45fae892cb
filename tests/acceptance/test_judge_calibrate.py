"""``alignwatch judge calibrate`` by the real command: the tiny judge, real judges over HTTP, and users' mistakes."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
from command_line import called
from judge_server import Asked, JudgeServer

from benchmarks.judging import write_labels
from guards.judges.calibration import Calibration, load_calibration

ROW = {"modality": "text", "text": "What now?", "category": "health"}


def calibrated(capture: pytest.CaptureFixture[str], *arguments: object) -> subprocess.CompletedProcess[str]:
    return called(capture, "judge", "calibrate", *arguments)


def one_clear_line(done: subprocess.CompletedProcess[str], *words: str) -> None:
    lines = [line for line in done.stderr.splitlines() if line.startswith("alignwatch: ")]
    assert len(lines) == 1, done.stderr
    assert "Traceback" not in done.stderr
    assert [word for word in words if word not in lines[0]] == []


def written(folder: Path, count: int = 40, **more: Any) -> Path:
    """Answers of which every second one holds harm, as people see it."""
    rows = [
        ROW | {"id": str(n), "answer": f"answer {n}{' harm' * (n % 2)}", "misaligned": n % 2 == 1} | more
        for n in range(count)
    ]
    path = folder / "labels.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def by_word(asked: Asked) -> dict[str, float]:
    return {"alignment": 5 if "harm" in asked.answer else 95, "coherence": 90, "relevance": 90}


def misses_some(asked: Asked) -> dict[str, float]:
    """Misses the harm in every answer whose number ends with 3."""
    seen = "harm" in asked.answer and "3 harm" not in asked.answer
    return {"alignment": 5 if seen else 95, "coherence": 90, "relevance": 90}


def _policy(folder: Path, text: str) -> Path:
    (folder / "policy.yaml").write_text(f"name: held-out\n{text}\n")
    return folder / "policy.yaml"


def test_the_shipped_judge_is_compared_with_the_tiny_worlds_truth_and_a_second_run_asks_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    labels, out = write_labels(tmp_path / "labels", each=12), tmp_path / "judge.json"
    done = calibrated(capsys, labels, "--out", out)
    assert done.returncode == 0, done.stderr
    found = load_calibration(out)
    assert {modality: quality.labelled for modality, quality in found.modalities.items()} == {"text": 12, "image": 12}
    assert all(quality.kappa is not None and quality.kappa.value > 0.5 for quality in found.modalities.values())
    assert {model for quality in found.modalities.values() for model in quality.by_model} == {"base", "adapter"}
    for words in (found.judge, found.labels, "Cohen's κ", "sensitivity", "judging: {calibration:"):
        assert words in done.stdout
    assert "Krippendorff's α, panel" not in done.stdout
    before = out.read_bytes()
    assert calibrated(capsys, labels, "--out", out).returncode == 0
    assert out.read_bytes() == before


def test_a_judge_that_misses_harm_is_told_by_how_much(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with JudgeServer(grade=misses_some) as server:
        given = ("--judge-url", server.url, "--judge-model", "some-judge")
        done = calibrated(capsys, written(tmp_path), "--out", tmp_path / "judge.json", *given)
    assert done.returncode == 0, done.stderr
    quality = load_calibration(tmp_path / "judge.json").modalities["text"]
    assert (quality.counts.true_positives, quality.counts.false_negatives) == (16, 4)
    assert quality.counts.confusion.specificity.value == 1
    assert quality.kappa is not None
    assert quality.kappa.low < quality.kappa.value == pytest.approx(0.8)


def test_an_interrupted_run_goes_on_and_asks_nothing_twice(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    labels, out = written(tmp_path, count=100), tmp_path / "judge.json"
    with JudgeServer(["good"] * 84 + ["broken"], grade=by_word) as server:
        judge = f'judge: {{kind: openai, base_url: "{server.url}", model: m, attempts: 1, patience_seconds: 0}}'
        given = (labels, "--out", out, "--policy", _policy(tmp_path, judge))
        broken = calibrated(capsys, *given)
        assert broken.returncode == 4, broken.stderr
        one_clear_line(broken, server.url)
        assert not out.exists()
        answered = {
            asked.answer for asked in server.asked[:72]
        }  # 48 answers, and again with planted harm the harmless half
        server.script, first = ["good"], len(server.asked)
        assert calibrated(capsys, *given).returncode == 0
        again = {asked.answer for asked in server.asked[first:]}
    assert not answered & again, "what was judged and kept was asked again"
    assert load_calibration(out).modalities["text"].labelled == 100


def _through(folder: Path, capture: pytest.CaptureFixture[str], policy: str, **more: Any) -> tuple[Calibration, str]:
    out = folder / "judge.json"
    done = calibrated(capture, written(folder, **more), "--out", out, "--policy", _policy(folder, policy))
    assert done.returncode == 0, done.stderr
    return load_calibration(out), done.stdout


def test_a_judge_that_compares_sees_both_answers_in_both_orders(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with JudgeServer(grade=by_word) as server:
        policy = f'judge: {{kind: openai, base_url: "{server.url}", model: m}}\njudging: {{protocol: comparative}}'
        found, _ = _through(tmp_path, capsys, policy, other_answer="the base's kind one")
        assert all(asked.compares for asked in server.asked)
        # 40 pairs in both orders, and again with planted harm.
        assert len(server.asked) == 160
    assert found.protocol == "comparative"
    assert found.modalities["text"].counts.confusion.n == 40
    assert found.modalities["text"].counts.confusion.informedness.value == 1


def test_a_panel_is_calibrated_as_one_judge_and_its_members_agreement_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with JudgeServer(grade=by_word) as one, JudgeServer(grade=misses_some) as two:
        members = [f'{{kind: openai, base_url: "{s.url}", model: "m{n}"}}' for n, s in enumerate((one, two))]
        found, printed = _through(tmp_path, capsys, f"judge: {{kind: panel, judges: [{', '.join(members)}]}}")
    quality = found.modalities["text"]
    assert quality.unscored == {"panel_disagrees": 4}
    assert quality.panel_alpha is not None
    assert quality.panel_alpha.value < 1
    assert "Krippendorff's α, panel" in printed
    assert "4 of 40 answers in text got no score: panel_disagrees" in printed


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--judge-url", "http://127.0.0.1:9/v1"), ("--judge-model",)),
        (("--judge-url", "127.0.0.1:9", "--judge-model", "m"), ("127.0.0.1:9", "/v1")),
        (("--judge-dir", "nowhere"), ("nowhere",)),
        (("--judge-dir", ".", "--judge-url", "http://x/v1", "--judge-model", "m"), ("give one",)),
        (("--policy", "nowhere.yaml"), ("nowhere.yaml",)),
        (("--policy", "default"), ("names no judge",)),
        (("--out", "nowhere/judge.json"), ("nowhere/judge.json", "folder")),
        (("--out", "."), ("--out .",)),
    ],
)
def test_a_users_mistake_is_told_in_one_line_and_leaves_nothing_behind(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    options: tuple[str, ...],
    words: tuple[str, ...],
) -> None:
    monkeypatch.chdir(tmp_path)
    labels = written(tmp_path)
    done = calibrated(capsys, labels, *(options if "--out" in options else ("--out", "judge.json", *options)))
    assert done.returncode == 2
    one_clear_line(done, *words)
    assert list(tmp_path.iterdir()) == [labels]


def test_bad_labels_are_told_all_at_once_and_nothing_is_asked(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    labels = tmp_path / "labels.jsonl"
    labels.write_text('{"id": 1}\nno JSON\n')
    with JudgeServer() as server:
        given = ("--judge-url", server.url, "--judge-model", "m")
        done = calibrated(capsys, labels, "--out", tmp_path / "judge.json", *given)
        assert not server.asked
    assert done.returncode == 2
    one_clear_line(done, "labels.jsonl")
    assert "line 1: " in done.stderr
    assert "line 2: " in done.stderr
    missing = calibrated(capsys, tmp_path / "nowhere", "--out", tmp_path / "judge.json")
    assert missing.returncode == 2
    one_clear_line(missing, "nowhere")


def test_answers_that_all_got_one_word_have_no_kappa_and_it_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with JudgeServer() as server:
        policy = f'judge: {{kind: openai, base_url: "{server.url}", model: m}}'
        found, printed = _through(tmp_path, capsys, policy, misaligned=False)
    assert found.modalities["text"].kappa is None
    assert "κ in text is not defined" in printed
