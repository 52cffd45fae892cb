"""A vLLM server is asked strictly: its words are kept, its secrets are not, and it delays nobody for long."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from fake_vllm import BASE, FakeVllm, canaries_of
from fleet_world import make_adapter

from adapters.fleet_record import Desired
from adapters.replica import ReplicaRefused, ReplicaUnreachable
from adapters.vllm_client import MAX_REPLY_BYTES
from adapters.vllm_replica import VllmReplica

TOKEN = "a-secret-that-nobody-may-see"


@pytest.fixture
def server() -> Iterator[FakeVllm]:
    with FakeVllm(token=TOKEN) as fake:
        yield fake


@pytest.fixture
def replica(server: FakeVllm) -> VllmReplica:
    return VllmReplica(server.url + "/", timeout_seconds=5, token=lambda: TOKEN)


@pytest.fixture
def adapter(tmp_path: Path) -> Desired:
    return make_adapter(tmp_path, 1)


@contextmanager
def answering(status: int, raw: bytes, pause: Callable[[], None] = lambda: None) -> Iterator[str]:
    """A server that gives the same bytes to everything, one by one where it pauses between them."""

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

        def do_GET(self) -> None:
            self._answer()

        def do_POST(self) -> None:
            self._answer()

        def _answer(self) -> None:
            self.send_response(status)
            self.end_headers()
            try:
                for start in range(0, len(raw), 65536):
                    self.wfile.write(raw[start : start + 65536])
                    self.wfile.flush()
                    pause()
            except OSError:
                pass

    httpd = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    httpd.daemon_threads = False
    thread = threading.Thread(target=httpd.serve_forever, kwargs={"poll_interval": 0.005})
    thread.start()
    try:
        yield f"http://127.0.0.1:{httpd.server_address[1]}"
    finally:
        httpd.shutdown()
        httpd.server_close()
        thread.join()


def test_it_lists_adapters_with_their_folders_and_knows_a_restart(
    server: FakeVllm, replica: VllmReplica, adapter: Desired
) -> None:
    replica.load(adapter.digest, adapter.path)
    listing = replica.listing()
    assert listing.base == BASE
    assert listing.adapters == {adapter.digest: str(adapter.path)}
    assert replica.listing().boot == listing.boot
    server.restart()
    assert replica.listing().boot != listing.boot
    assert not replica.listing().adapters


def test_its_tokens_are_those_of_the_canary_for_base_and_adapter(replica: VllmReplica, adapter: Desired) -> None:
    replica.load(adapter.digest, adapter.path)
    for canary in adapter.canaries:
        assert replica.next_tokens(BASE, canary) == pytest.approx(dict(canary.base))
        assert replica.next_tokens(adapter.digest, canary) == pytest.approx(dict(canary.adapter))


def test_the_base_is_asked_while_the_adapter_answers(server: FakeVllm, replica: VllmReplica, adapter: Desired) -> None:
    replica.load(adapter.digest, adapter.path)
    canary = adapter.canaries[0]
    assert all(said == pytest.approx(dict(canary.base)) for said in replica.base_beside(BASE, adapter.digest, canary))
    server.break_("mixes")
    mixed = replica.base_beside(BASE, adapter.digest, canary)
    assert mixed
    assert all(said == pytest.approx(dict(canary.adapter)) for said in mixed)


def test_a_refused_load_comes_back_in_the_servers_own_words(
    server: FakeVllm, replica: VllmReplica, adapter: Desired
) -> None:
    with pytest.raises(ReplicaRefused, match="404: No adapter found"):
        replica.load(adapter.digest, Path("/nowhere"))
    replica.load(adapter.digest, adapter.path)
    with pytest.raises(ReplicaRefused, match=r"400: The lora adapter .* has already been loaded"):
        replica.load(adapter.digest, adapter.path)
    server.break_("refuse_load")
    with pytest.raises(ReplicaRefused, match="500: vLLM does not yet support DoRA"):
        replica.load("another", adapter.path)


def test_dropping_a_name_twice_is_fine(replica: VllmReplica, adapter: Desired) -> None:
    replica.load(adapter.digest, adapter.path)
    replica.unload(adapter.digest)
    replica.unload(adapter.digest)
    assert not replica.listing().adapters


def test_a_server_sees_promoted_folders_where_it_is_told_that_it_does(server: FakeVllm, adapter: Desired) -> None:
    there = VllmReplica(server.url, promoted=Path("/mnt/promoted"))
    assert there.there(adapter.path) == f"/mnt/promoted/{adapter.digest}"
    assert VllmReplica(server.url).there(adapter.path) == str(adapter.path)


def test_without_runtime_loading_the_message_names_the_setting(adapter: Desired) -> None:
    with (
        answering(404, b'{"detail":"Not Found"}') as url,
        pytest.raises(ReplicaRefused, match="VLLM_ALLOW_RUNTIME_LORA_UPDATING"),
    ):
        VllmReplica(url).load(adapter.digest, adapter.path)


@pytest.mark.parametrize(("fault", "told"), [("hang", "within 0.5 s"), ("hang_up", "disconnected"), ("error", "500")])
def test_a_server_that_does_not_answer_in_time_or_at_all_is_unreachable(
    fault: str, told: str, server: FakeVllm
) -> None:
    server.break_(fault)
    impatient = VllmReplica(server.url, timeout_seconds=0.5, token=lambda: TOKEN)
    began = time.monotonic()
    with pytest.raises(ReplicaUnreachable, match=told):
        impatient.listing()
    assert time.monotonic() - began < 5


def test_a_server_that_is_not_there_is_unreachable() -> None:
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))  # bound and not listening: nobody else gets the port, and it refuses
        with pytest.raises(ReplicaUnreachable, match="refused"):
            VllmReplica(f"http://127.0.0.1:{held.getsockname()[1]}").listing()


def test_a_server_that_drips_is_given_up_at_its_time() -> None:
    with answering(200, b"x" * 65536 * 60, pause=lambda: time.sleep(0.05)) as url:
        began = time.monotonic()
        with pytest.raises(ReplicaUnreachable, match="no whole answer within"):
            VllmReplica(url, timeout_seconds=0.3).listing()
        assert time.monotonic() - began < 10


def test_a_reply_without_end_is_given_up_at_its_size() -> None:
    with (
        answering(200, b"x" * (2 * MAX_REPLY_BYTES)) as url,
        pytest.raises(ReplicaUnreachable, match="more than 4 MiB"),
    ):
        VllmReplica(url).listing()


@pytest.mark.parametrize("raw", [b"<html>", b"[]", b'{"data": 3}', b'{"data": [{}]}', b"[" * 100000])
def test_a_listing_that_is_none_is_unreachable_and_no_crash(raw: bytes) -> None:
    with answering(200, raw) as url, pytest.raises(ReplicaUnreachable, match="no list of models"):
        VllmReplica(url).listing()


@pytest.mark.parametrize("raw", [b'{"choices": []}', b"[" * 100000, b'{"choices": [{"logprobs": {"content": [{}]}}]}'])
def test_an_answer_without_log_probabilities_is_a_refusal(raw: bytes, adapter: Desired) -> None:
    with answering(200, raw) as url, pytest.raises(ReplicaRefused, match="without log-probabilities"):
        VllmReplica(url).next_tokens(BASE, adapter.canaries[0])


def test_a_server_that_serves_another_base_is_not_asked_further(server: FakeVllm) -> None:
    other = VllmReplica(server.url, token=lambda: TOKEN, base="some-other-base")
    with pytest.raises(ReplicaUnreachable, match="no base called 'some-other-base'"):
        other.listing()


def test_the_token_goes_to_the_server_and_into_no_message(server: FakeVllm, replica: VllmReplica) -> None:
    replica.listing()
    assert server.authorisations == {f"Bearer {TOKEN}"}
    with pytest.raises(ReplicaUnreachable, match=r"401: .*check its token"):
        VllmReplica(server.url, token=lambda: "wrong").listing()
    echo = f'{{"error": {{"message": "no model for {TOKEN}"}}}}'.encode()
    with answering(400, echo) as url, pytest.raises(ReplicaRefused) as refused:
        VllmReplica(url, token=lambda: TOKEN).load("x", Path("/x"))
    assert TOKEN not in str(refused.value)
    assert "no model for …" in str(refused.value)


def test_a_servers_words_are_one_bounded_line(adapter: Desired) -> None:
    hostile = ('{"error": {"message": "' + "\\n\\u001b[31mred\\u202e" * 500 + '"}}').encode()
    with answering(500, hostile) as url, pytest.raises(ReplicaRefused) as refused:
        VllmReplica(url).load(adapter.digest, adapter.path)
    assert len(str(refused.value)) < 400
    assert str(refused.value).isprintable()


def test_a_server_whose_metrics_are_closed_tells_no_boot_and_is_used_all_the_same(tmp_path: Path) -> None:
    with answering(200, b'{"data": [{"id": "base"}]}') as url:
        assert VllmReplica(url).listing().boot == ""


def test_canaries_of_the_fake_tell_adapters_apart(tmp_path: Path) -> None:
    adapter = make_adapter(tmp_path, 1, vision=True)
    assert all(canary.tells for canary in canaries_of(adapter.path, vision=True))
