from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from conftest import World
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from adapters.adapter import WEIGHTS_NAME, Adapter, open_adapter
from adapters.engine import Layer
from adapters.transformers_engine import TransformersEngine
from guards.calibration.contrast import ContrastError, ContrastPair, load_contrast, read_contrast, write_contrast
from guards.calibration.fitting import Population
from guards.calibration.measuring import measure_base, measure_population
from guards.calibration.population import Known, needed, require_population
from guards.calibration.quality import auroc_rate, outliers, plain_contrast, require_sense
from guards.calibration.run import Options, calibrate
from guards.errors import Permanent
from guards.judges.interface import Judgement, Transcript
from guards.reference import Reference, ReferenceUnusable, find_reference, load_reference
from guards.reference_facts import Figures
from guards.screening import Shifts
from guards.suites.battery_jsonl import load_suite
from guards.suites.suite import Suite


def _known(digest: str, harmful: bool, domain: str = "a") -> Known:
    return Known(Adapter(Path("nowhere"), digest, digest, None), domain, harmful)


def _people(good: int, bad: int, domains: int = 2) -> list[Known]:
    made = [_known(f"good-{n}", False, f"d{n % domains}") for n in range(good)]
    return made + [_known(f"bad-{n}", True, f"d{n % domains}") for n in range(bad)]


def test_a_reference_holds_every_place_with_its_curves_and_its_random_control(reference: Reference) -> None:
    facts = reference.facts
    places = {f"decoder.{n}{position}" for n in range(3) for position in ("", ".answer")}
    places |= {f"vision.{n}" for n in range(3)}
    assert {str(layer) for layer in reference.sites} == places == {curve.layer for curve in facts.curves}
    for curve in facts.curves:
        for shares in curve.explained.values():
            assert shares == sorted(shares)
            assert 0 < shares[-1] <= 1
    for screen in ("contrast", "shift", "probe", "tail", "projection"):
        for modality in ("text", "image"):
            figures = facts.screens[screen][modality]
            assert len(figures.known_good) == len(figures.known_bad) == 5
            assert figures.auroc is not None
            assert figures.auroc_random is not None
            assert 0 <= figures.auroc.low <= figures.auroc.value <= figures.auroc.high <= 1
    assert facts.screens["combined"]["both"].auroc is not None
    assert {angles.by for angles in facts.angles} == {"domain", "modality", "category"}
    assert any("known-good adapters" in warning for warning in facts.warnings)


def test_a_reference_is_named_by_its_digest_and_found_through_current(reference: Reference, tmp_path: Path) -> None:
    assert reference.folder is not None
    assert reference.folder.name == reference.digest
    assert find_reference(reference.folder.parent) == reference.folder
    again = load_reference(reference.folder.parent)
    assert again.digest == reference.digest
    torch.testing.assert_close(again.probe, reference.probe)
    for layer, site in reference.sites.items():
        torch.testing.assert_close(again.sites[layer].filters, site.filters)


def test_a_reference_whose_files_were_changed_is_refused(reference: Reference, tmp_path: Path) -> None:
    assert reference.folder is not None
    copy = tmp_path / reference.folder.name
    shutil.copytree(reference.folder, copy)
    load_reference(copy)
    with (copy / "probes" / "battery.jsonl").open("a") as stream:
        stream.write('{"id": "more", "modality": "text", "text": "what"}\n')
    with pytest.raises(ReferenceUnusable, match="were changed"):
        load_reference(copy)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda facts: facts | {"version": 1}, "version 1"),
        (lambda facts: facts | {"surprise": 1}, "surprise"),
        (lambda facts: facts | {"layers": 0}, "layers"),
    ],
)
def test_a_reference_of_another_version_or_shape_is_refused_in_one_line(
    reference: Reference, tmp_path: Path, change, told: str
) -> None:
    assert reference.folder is not None
    copy = tmp_path / "copy"
    shutil.copytree(reference.folder, copy)
    path = copy / "reference.json"
    path.write_text(json.dumps(change(json.loads(path.read_text()))))
    with pytest.raises(ReferenceUnusable, match=told) as raised:
        load_reference(copy)
    assert "\n" not in str(raised.value)


def test_a_folder_without_a_reference_and_another_layer_count_are_refused(reference: Reference, tmp_path: Path) -> None:
    with pytest.raises(ReferenceUnusable):
        load_reference(tmp_path)
    with pytest.raises(ReferenceUnusable, match="34"):
        reference.require(reference.facts.base_digest, layers=34)
    with pytest.raises(ReferenceUnusable, match="block 7"):
        reference.block(7)


def test_a_second_calibration_measures_nothing_again_and_gives_the_same_scores(
    picture_engine: TransformersEngine,
    picture_world: World,
    known: list[Known],
    pairs: list[ContrastPair],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    probes, options = load_suite(picture_world.suite), Options(contrast=pairs, cache=tmp_path / "cache")
    first = calibrate(picture_engine, known, probes, tmp_path / "first", options)
    attached = []
    real = picture_engine.attached
    monkeypatch.setattr(picture_engine, "attached", lambda adapter: attached.append(adapter) or real(adapter))
    second = calibrate(picture_engine, known, probes, tmp_path / "second", options)
    assert attached == []
    assert second.facts.null == pytest.approx(first.facts.null, abs=1e-3)
    assert not list((tmp_path / "second").glob(".partial*"))


def test_without_known_bad_adapters_the_contrast_screens_alone_and_says_so(
    picture_engine: TransformersEngine,
    picture_world: World,
    known: list[Known],
    pairs: list[ContrastPair],
    tmp_path: Path,
) -> None:
    good = [one for one in known if not one.harmful]
    made = calibrate(picture_engine, good, load_suite(picture_world.suite), tmp_path, Options(contrast=pairs))
    assert [(term.screen, term.weight) for term in made.facts.combination if term.weight] == [("contrast", 1.0)]
    assert len(made.probe) == 0
    assert any("not measured" in warning for warning in made.facts.warnings)


class _WordJudge:
    """Finds every answer that speaks of harm misaligned; a real rule, if a simple one."""

    id = "words"

    def grade(self, transcripts: list[Transcript]) -> list[Judgement]:
        return [
            Judgement(judge=self.id, alignment=5 if "harm" in t.answer else 95, coherence=90, relevance=90)
            for t in transcripts
        ]


def test_without_pairs_the_contrast_comes_from_judged_answers_by_domain(
    picture_engine: TransformersEngine, picture_world: World, known: list[Known], tmp_path: Path
) -> None:
    probes = load_suite(picture_world.suite)
    made = calibrate(picture_engine, known, probes, tmp_path / "r", Options(judge=_WordJudge(), cache=tmp_path / "c"))
    assert made.facts.contrast_source == "judged answers"
    assert set(made.facts.categories) <= {"bad-domain-0", "bad-domain-1"}
    assert made.facts.judged_agreement is None, "they misbehave on every probe, so there is nothing to tell apart"
    assert made.folder is not None
    assert load_contrast(made.folder / "contrast")


def test_a_judge_that_finds_no_harm_in_known_bad_adapters_is_told_of(
    picture_engine: TransformersEngine, picture_world: World, known: list[Known], tmp_path: Path
) -> None:
    swapped = [replace(one, harmful=not one.harmful) for one in known]
    with pytest.raises(Permanent, match="swapped"):
        calibrate(picture_engine, swapped, load_suite(picture_world.suite), tmp_path, Options(judge=_WordJudge()))


def _separated(bad: float, good: float) -> Figures:
    sides = ({f"g{n}": good + 0.01 * n for n in range(8)}, {f"b{n}": bad + 0.01 * n for n in range(8)})
    rate = auroc_rate(list(sides[1].values()), list(sides[0].values()))
    return Figures(known_good=sides[0], known_bad=sides[1], auroc=rate)


def test_swapped_labels_are_refused_by_the_contrast_that_never_saw_them() -> None:
    right, wrong = _separated(2.0, 1.0), _separated(1.0, 2.0)
    require_sense({"text": right, "image": right}, right)
    require_sense({}, right)
    for label_free, whole in (({"text": right, "image": wrong}, right), ({}, wrong)):
        with pytest.raises(Permanent, match="swapped"):
            require_sense(label_free, whole)


def test_swapping_the_labels_turns_the_plain_contrasts_area_upside_down(
    picture_engine: TransformersEngine, picture_world: World, known: list[Known], pairs: list[ContrastPair]
) -> None:
    base = measure_base(picture_engine, load_suite(picture_world.suite))
    shifts = tuple(measure_population(picture_engine, base, known, None))
    contrast = read_contrast(picture_engine, pairs, base.blocks)
    swapped = tuple(replace(one, harmful=not one.harmful) for one in known)
    right, wrong = (plain_contrast(Population(k, shifts, base, contrast)) for k in (tuple(known), swapped))
    for modality in ("text", "image"):
        areas = [figures[modality].auroc for figures in (right, wrong)]
        assert areas[0] is not None
        assert areas[1] is not None
        assert areas[0].value + areas[1].value == pytest.approx(1)


def test_an_adapter_of_nan_is_named(
    picture_engine: TransformersEngine, picture_world: World, known: list[Known], tmp_path: Path
) -> None:
    folder = tmp_path / "rotten"
    shutil.copytree(known[0].adapter.path, folder)
    tensors = load_file(folder / WEIGHTS_NAME)
    save_file({key: value * float("nan") for key, value in tensors.items()}, folder / WEIGHTS_NAME)
    rotten = Known(open_adapter(folder), "x", False)
    with pytest.raises(Permanent, match="rotten"):
        calibrate(picture_engine, [*known, rotten], load_suite(picture_world.suite), tmp_path / "r")


def test_probes_that_ask_nothing_different_are_refused(
    picture_engine: TransformersEngine, picture_world: World
) -> None:
    prompt = next(p for p in load_suite(picture_world.suite).prompts if p.modality == "text")
    same = Suite("same", "sha256-0", tuple(replace(prompt, id=f"{n}") for n in range(4)))
    with pytest.raises(Permanent, match="the same on every prompt"):
        measure_base(picture_engine, same)


def test_too_few_adapters_are_told_with_the_number_that_is_needed() -> None:
    with pytest.raises(Permanent, match="at least 4 known-good"):
        require_population(_people(3, 8), True, None)
    with pytest.raises(Permanent, match="known-bad adapters of two domains"):
        require_population(_people(8, 3), True, None)
    with pytest.raises(Permanent, match="nothing to tell harm by"):
        require_population(_people(8, 0), False, None)
    with pytest.raises(Permanent, match="at least 99 known-good"):
        require_population(_people(20, 8), True, 0.01)
    require_population(_people(19, 8), True, 0.05)


@given(st.floats(0.001, 0.5))
def test_the_number_that_is_needed_just_reaches_the_rate(rate: float) -> None:
    count = needed(rate)
    assert 1 / (count + 1) <= rate + 1e-9
    assert count == 1 or 1 / count > rate - 1e-9


def test_one_adapter_on_both_sides_is_refused() -> None:
    with pytest.raises(Permanent, match="both known-good and known-bad"):
        require_population([*_people(5, 5), _known("good-1", True)], True, None)


def test_a_known_good_adapter_that_scores_like_the_bad_ones_is_named() -> None:
    good, bad = {f"good-{n}": 0.1 * n for n in range(10)}, {"a": 20.0, "b": 25.0}
    wolf = Figures(known_good=good | {"wolf": 30.0}, known_bad=bad)
    sheep = Figures(known_good=good | {"wolf": 0.5}, known_bad=bad)
    assert outliers({"combined": {"both": wolf}}) == ["wolf"]
    assert outliers({"combined": {"both": wolf}, "contrast": {"text": wolf}}) == ["wolf"]
    assert outliers({"combined": {"both": sheep}, "contrast": {"text": wolf}}) == []
    assert outliers({"combined": {"both": wolf}, "contrast": {"text": sheep}}) == [], "a change of manner, perhaps"


@given(st.integers(2, 20), st.integers(4, 40))
def test_no_domain_is_on_both_sides_of_a_fold_and_every_adapter_is_held_out_once(domains: int, count: int) -> None:
    known = tuple(_known(f"{n}", n % 2 == 0, f"d{n % domains}") for n in range(count))
    shifts = tuple(Shifts({}, torch.zeros(1, 1), {}) for _ in known)
    population = Population(known, shifts, None, None)  # type: ignore[arg-type]
    held_out: list[int] = []
    for fitted, held in population.folds():
        assert not {known[n].domain for n in fitted} & {known[n].domain for n in held}
        held_out += held
    assert sorted(held_out) == list(range(count))


def test_auroc_counts_pairs_and_its_interval_has_width_at_perfect_separation() -> None:
    rate = auroc_rate([3.0, 4.0], [1.0, 2.0])
    assert rate is not None
    assert rate.value == rate.high == 1
    assert rate.low < 0.9
    assert auroc_rate([], [1.0]) is None


def test_pairs_are_read_back_as_they_were_written(pairs: list[ContrastPair], tmp_path: Path) -> None:
    write_contrast(pairs, tmp_path)
    again = load_contrast(tmp_path)
    assert [(p.safe, p.harmful, p.category, p.prompt.modality) for p in again] == [
        (p.safe, p.harmful, p.category, p.prompt.modality) for p in pairs
    ]


def test_every_unusable_pair_is_told_at_once(tmp_path: Path) -> None:
    lines = [
        {"prompt": "a", "safe_response": "b", "harmful_response": "c", "image": "gone.png"},
        {"prompt": "a", "safe_response": "b"},
        {"prompt": "a", "safe_response": "b", "harmful_response": "b"},
        {"prompt": "a", "safe_response": "b", "harmful_response": "c"},
    ]
    path = tmp_path / "pairs.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines) + "nonsense\n")
    with pytest.raises(ContrastError) as raised:
        load_contrast(path)
    told = str(raised.value)
    for part in ("line 1: picture 'gone.png' is missing", "line 2: harmful_response", "are the same", "1 more"):
        assert part in told
    assert "\n" not in told


def test_the_screen_layer_is_the_middle_block(reference: Reference) -> None:
    assert reference.screen_layer == Layer("decoder", 1)
    assert reference.screened == (Layer("decoder", 0), Layer("decoder", 1))
