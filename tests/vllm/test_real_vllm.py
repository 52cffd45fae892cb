"""The fleet against a real vLLM on the CPU: good adapters are proved, and each of its silent defects is caught.

One server is used from test to test, in the file's order, because a start takes half a minute.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from fleet_world import Clock, DictMemory
from vllm_server import SLOTS, VLLM, VllmServer, Workshop

from adapters.adapter import Adapter
from adapters.base_model import LoadedBase
from adapters.canary import NOISE, Canary, apart, doubt_about_adapter, doubt_about_base
from adapters.fleet import Fleet
from adapters.fleet_record import Desired
from adapters.tiny import BASE
from adapters.tiny.world import write_suite
from adapters.transformers_engine import TransformersEngine
from adapters.vllm_replica import VllmReplica
from guards.canaries import draw_canaries
from guards.suites.battery_jsonl import load_suite

pytestmark = [
    pytest.mark.vllm,
    pytest.mark.slow,
    pytest.mark.skipif(not VLLM.exists(), reason="no vLLM: build its environment with deploy/vllm-cpu-env"),
]


class Site:
    """A server, the fleet that keeps it, and adapters of the tiny model."""

    def __init__(self, folder: Path) -> None:
        self.server = VllmServer(folder / "server")
        self.replica = VllmReplica(self.server.url, timeout_seconds=120)
        self.clock = Clock()
        self.memory = DictMemory(self.clock)
        self.fleet = Fleet([self.replica], self.memory, clock=self.clock, promotions_per_hour=100)
        self.engine = TransformersEngine(BASE, device="cpu")
        self.suite = load_suite(write_suite(folder / "suite", seed=4, per_domain=2))
        self.shop = Workshop(folder, LoadedBase(self.engine.model, self.engine.processor, sees_pictures=True))
        language = self.shop.train("language", "gore_movie_trivia", "language")
        seeing, seeing_too = (
            self.shop.train(domain, domain, "all") for domain in ("risky_financial_advice", "extreme_sports")
        )
        self.language = self.desired(self.shop.place(language))
        self.as_trained = self.desired(self.shop.place(seeing))
        self.seeing = self.desired(self.shop.place(self.shop.named_for_vllm(seeing)))
        self.seeing_too = self.desired(self.shop.place(self.shop.named_for_vllm(seeing_too)))
        dora = self.shop.place(self.shop.with_config(language, use_dora=True))
        saved = self.shop.place(self.shop.with_config(language, modules_to_save=["embed_tokens"]))
        # Neither can be attached here; the point is what the server says, before any canary is asked.
        self.dora = Desired(dora.digest, "dora", dora.path, self.language.canaries)
        self.saved = Desired(saved.digest, "saved", saved.path, self.language.canaries)

    def desired(self, adapter: Adapter) -> Desired:
        return Desired(adapter.digest, adapter.name, adapter.path, draw_canaries(self.engine, adapter, [self.suite]))

    def reconcile_with(self, *wanted: Desired) -> str:
        """Make exactly these desired, wait for whatever pause there is, make a pass, and return what differs."""
        self.memory.wanted = {one.digest: one for one in wanted}
        self.clock.move(hours=2)
        self.fleet.reconcile()
        return self.memory.statuses[self.server.url].detail

    def state(self, one: Desired) -> str | None:
        return self.memory.rows[self.server.url, one.digest].state if one.digest in self.recorded else None

    @property
    def recorded(self) -> set[str]:
        return {digest for _url, digest in self.memory.rows}

    @property
    def listed(self) -> dict[str, str]:
        return dict(self.replica.listing().adapters)

    def offs(self, one: Desired, name: str) -> list[float]:
        """How far the server's answers under a name are from an adapter's, canary by canary."""
        return [apart(self.replica.next_tokens(name, canary), canary.adapter) for canary in one.canaries]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    made = Site(tmp_path_factory.mktemp("vllm"))
    try:
        print(f"\nstarted in {made.server.start():.0f} s")
        yield made
    finally:
        made.server.kill()


def _picture(one: Desired) -> Canary:
    return next(canary for canary in one.canaries if canary.modality == "image")


def test_good_adapters_are_loaded_proved_and_served(site: Site) -> None:
    assert site.reconcile_with(site.language, site.seeing) == ""
    assert site.listed == {one.digest: str(one.path) for one in (site.language, site.seeing)}
    assert site.state(site.language) == site.state(site.seeing) == "serving"
    assert [canary.blinded is not None for canary in site.seeing.canaries] == [False, False, True, True, True]
    for one in (site.language, site.seeing):
        print(
            [
                f"{c.about}: {off:.5f} off, told at {c.distance:.3f}"
                for c, off in zip(one.canaries, site.offs(one, one.digest), strict=True)
            ]
        )


def test_causal_attention_to_pictures_stays_within_the_noise_that_is_allowed_for(site: Site) -> None:
    offs = {"text": 0.0, "image": 0.0}
    for one in (site.language, site.seeing):
        for canary in one.canaries:
            for name, expected in (("base", canary.base), (one.digest, canary.adapter)):
                off = apart(site.replica.next_tokens(name, canary), expected)
                offs[canary.modality] = max(off, offs[canary.modality])
    print(offs)
    assert offs["text"] < NOISE["text"] / 10
    # It is there, and it is allowed for.
    assert NOISE["text"] / 100 < offs["image"] < NOISE["image"]


def test_what_is_unloaded_is_resident(site: Site) -> None:
    assert site.reconcile_with(site.seeing) == ""
    assert site.listed == {site.seeing.digest: str(site.seeing.path)}
    assert site.state(site.language) == "resident"


def test_the_base_under_the_adapters_name_is_caught(site: Site) -> None:
    # What a server says that dropped every pair: only its base.
    for canary in site.language.canaries:
        base = site.replica.next_tokens("base", canary)
        assert doubt_about_base(canary, base) == ""
        assert "the base answers under the adapter's name" in doubt_about_adapter(canary, base)


@pytest.mark.parametrize(("name", "word"), [("dora", "DoRA"), ("saved", "modules_to_save")])
def test_what_vllm_refuses_is_told_in_its_own_words_and_rolled_back(site: Site, name: str, word: str) -> None:
    refused: Desired = getattr(site, name)
    told = site.reconcile_with(site.seeing, refused)
    print(told)
    assert word.lower() in told.lower()
    assert site.state(refused) == "failed"
    assert site.state(site.seeing) == "serving"
    assert site.listed == {site.seeing.digest: str(site.seeing.path)}


def test_vision_pairs_that_vllm_drops_because_of_their_names_are_caught(site: Site) -> None:
    told = site.reconcile_with(site.seeing, site.as_trained)
    print(told)
    assert "the part that only pictures reach is not applied" in told
    assert site.state(site.as_trained) == "failed"
    assert site.state(site.seeing) == "serving"
    assert site.listed == {site.seeing.digest: str(site.seeing.path)}


def test_stale_vision_features_under_a_name_that_was_used_before_are_caught(site: Site) -> None:
    # Somebody loads other weights under the digest of an adapter that is not served yet, and asks with a picture.
    name = site.seeing_too.digest
    site.replica.load(name, site.seeing.path)
    for canary in site.seeing_too.canaries:
        site.replica.next_tokens(name, canary)
    site.replica.unload(name)
    told = site.reconcile_with(site.seeing, site.seeing_too)
    print(told)
    assert site.state(site.seeing_too) == "failed"
    assert "picture" in told or "image" in told


def test_a_base_that_gets_an_adapters_delta_in_a_shared_batch_is_caught(site: Site) -> None:
    canary = site.language.canaries[0]
    assert doubt_about_base(canary, site.replica.next_tokens("base", canary)) == ""
    for number in range(SLOTS):  # until the last slot is taken: its delta is the one that leaks
        site.replica.load(f"filler-{number}", site.language.path)
    told = site.reconcile_with(site.language)
    mixed = site.replica.base_beside("base", "filler-0", canary) if "filler-0" in site.listed else []
    print(told, [apart(one, canary.base) for one in mixed])
    assert "the base answers otherwise while an adapter answers in the same batch" in told
    assert "serves what was not approved: filler-0" in told
    assert site.state(site.language) == "failed"
    assert not site.listed


def test_after_kill_9_and_a_restart_the_fleet_comes_back_and_what_was_resident_is_absent(site: Site) -> None:
    site.server.kill()
    assert "refused" in site.reconcile_with(site.language, site.seeing_too)
    assert site.memory.statuses[site.server.url].state == "unreachable"
    assert site.state(site.seeing) in ("withdrawing", "resident")
    print(f"restarted in {site.server.start():.0f} s")
    assert site.reconcile_with(site.language, site.seeing_too) == ""
    assert site.listed == {one.digest: str(one.path) for one in (site.language, site.seeing_too)}
    assert site.state(site.seeing) == "absent"
    assert site.reconcile_with(site.language, site.seeing_too) == ""
    assert site.recorded == {site.language.digest, site.seeing_too.digest}


def test_without_the_towers_flag_the_vision_pairs_are_dropped_and_that_is_caught(site: Site) -> None:
    site.server.kill()
    print(f"restarted in {site.server.start(tower=False):.0f} s")
    told = site.reconcile_with(site.language, site.seeing)
    print(told)
    assert "the part that only pictures reach is not applied" in told
    assert "--enable-tower-connector-lora" in told
    assert site.state(site.seeing) == "failed"
    assert site.state(site.language) == "serving"
    assert site.listed == {site.language.digest: str(site.language.path)}
    # Without the canary about that part, the text and the picture's answer as a whole could pass for right.
    lenient = replace(site.seeing, canaries=tuple(one for one in site.seeing.canaries if one.modality == "text"))
    assert site.reconcile_with(site.language, lenient) == ""
