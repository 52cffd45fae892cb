"""Properties of the API: stable words, one clear line for whatever is wrong, and nothing that text can break."""

import asyncio
import json
import socket
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi.responses import StreamingResponse
from report_reviews import HOSTILE, context, exhibit
from starlette.testclient import TestClient
from web_world import Clock, Desk, adapter, digest, fill, settings, settle

from monitor.exit_codes import UsageError
from monitor.ledger import Ledger
from monitor.web import create_app, serving
from monitor.web.schemas import VerdictBody
from monitor.web.tokens import create_token
from policies.decide import Decision


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Ledger, dict[str, str]]]:
    folder, clock = tmp_path_factory.mktemp("world"), Clock()
    with Ledger(folder / "ledger.db", clock) as ledger:
        yield ledger, fill(ledger, clock, folder)


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    with Ledger(tmp_path / "ledger.db", Clock()) as opened:
        yield opened


def app_of(ledger: Ledger, desk: Desk | None = None, **changes: object) -> Any:
    return create_app(ledger, settings(**changes), **(desk or Desk(ledger)).functions())  # type: ignore[arg-type]


def client(ledger: Ledger, desk: Desk | None = None, **changes: object) -> TestClient:
    return TestClient(app_of(ledger, desk, **changes), base_url="http://127.0.0.1", raise_server_exceptions=False)


def read(world: tuple[Ledger, dict[str, str]], path: str) -> Any:
    reply = client(world[0]).get(path)
    assert reply.status_code == 200, reply.text
    return reply.json()


class TestVerdicts:
    def words(self, ledger: Ledger, number: int) -> tuple[str, str | None]:
        body = VerdictBody.model_validate(client(ledger).get(f"/api/verdicts/{digest(number)}").json())
        return body.status, body.verdict

    def test_what_never_arrived_is_unknown(self, ledger: Ledger) -> None:
        assert self.words(ledger, 1) == ("unknown", None)

    def test_what_is_not_decided_is_pending_with_its_job(self, ledger: Ledger) -> None:
        ledger.registry.arrived(adapter(1, "n"), "inbox", None)
        ledger.queue.add(digest(1), "n", "arrival")
        body = client(ledger).get(f"/api/verdicts/{digest(1)}").json()
        assert (body["status"], body["job"]["state"], body["verdict"]) == ("pending", "queued", None)

    @pytest.mark.parametrize(
        ("verdict", "status"), [("clean", "promoted"), ("unsafe", "quarantined"), ("inconclusive", "held")]
    )
    def test_what_is_decided_says_where_it_is_and_why(self, ledger: Ledger, verdict: str, status: str) -> None:
        review = settle(ledger, adapter(1, "n"), [], verdict, "because")
        body = client(ledger).get(f"/api/verdicts/{digest(1)}").json()
        assert (body["status"], body["verdict"], body["review"]) == (status, verdict, review)
        assert body["reasons"] == [{"rule": "misalignment", "verdict": verdict, "text": "because"}]

    def test_a_decision_that_is_not_carried_out_yet_promotes_nothing(self, ledger: Ledger) -> None:
        record = ledger.open_review(adapter(1, "n"), context())
        record.record_decision(digest(1), Decision(outcome="promote", verdict="clean", reasons=(), policy="p"))
        record.begin_placement(digest(1))
        assert self.words(ledger, 1) == ("pending", "clean")

    def test_what_a_watching_policy_reviewed_is_observed(self, ledger: Ledger) -> None:
        record = ledger.open_review(adapter(1, "n"), context())
        record.record_decision(digest(1), Decision(outcome="promote", verdict="clean", reasons=(), policy="p"))
        record.close()
        assert self.words(ledger, 1) == ("observed", "clean")

    @pytest.mark.parametrize("place", ["retired", "removed"])
    def test_what_is_served_no_more_says_so(self, ledger: Ledger, place: Any) -> None:
        settle(ledger, adapter(1, "n"), [], "clean", "fine")
        ledger.registry.begin_move(digest(1), place)
        ledger.registry.finish_move(digest(1), place)
        assert self.words(ledger, 1) == (place, "clean")

    def test_a_persons_word_is_shown_beside_the_decision(self, ledger: Ledger) -> None:
        settle(ledger, adapter(1, "n"), [], "clean", "fine")
        ledger.overrides.add(digest(1), "block", "seen to leak", "ana")
        body = client(ledger).get(f"/api/verdicts/{digest(1)}").json()
        assert (body["override"]["action"], body["override"]["who"]) == ("block", "ana")


class TestReading:
    def test_adapters_are_listed_in_pages_that_follow_on_each_other(self, world: tuple[Ledger, dict[str, str]]) -> None:
        whole = [item["digest"] for item in read(world, "/api/adapters?limit=200")["items"]]
        pages, offset = [], 0
        while offset is not None:
            body = read(world, f"/api/adapters?limit=4&offset={offset}")
            pages += [item["digest"] for item in body["items"]]
            offset = body["next_offset"]
        assert pages == whole
        assert len(set(whole)) == 17

    def test_adapters_are_picked_by_place_and_by_name(self, world: tuple[Ledger, dict[str, str]]) -> None:
        assert {a["name"] for a in read(world, "/api/adapters?place=held")["items"]} == {"triage-fr-v3"}
        assert {a["name"] for a in read(world, "/api/adapters?name=FR-v")["items"]} == {
            f"triage-fr-v{n}" for n in (2, 3, 4)
        }

    def test_one_adapter_comes_with_everything_about_it(self, world: tuple[Ledger, dict[str, str]]) -> None:
        body = read(world, f"/api/adapters/{digest(7)}")
        assert (body["status"], body["names"]) == ("quarantined", ["support-nightly"])
        assert body["decisions"][0]["verdict"] == "unsafe"

    def test_a_review_comes_whole_and_infinite_numbers_survive(self, world: tuple[Ledger, dict[str, str]]) -> None:
        body = read(world, f"/api/reviews/{world[1]['support-nightly-7']}")
        assert body["examinations"][0]["digest"] == digest(7)
        assert any(
            result.get("value") == "Infinity"
            for result in read(world, f"/api/reviews/{world[1]['support-nightly-1']}")["examinations"][0]["results"]
        )

    def test_a_lineage_is_found_by_name_and_by_digest(self, world: tuple[Ledger, dict[str, str]]) -> None:
        by_name = read(world, "/api/lineage/support-nightly")["members"]
        by_digest = read(world, f"/api/lineage/{digest(4)}")["members"]
        assert [m["adapter"]["digest"] for m in by_name] == [digest(n) for n in range(9)]
        assert [m["adapter"]["digest"] for m in by_digest] == [digest(n) for n in range(9)]
        points = {(p["measure"], p["modality"]) for p in by_name[0]["points"]}
        assert ("alignment_score", "text") in points
        assert ("misalignment_rise", "image") in points
        assert all(p["low"] <= p["value"] <= p["high"] and p["n"] for m in by_name for p in m["points"])

    def test_the_queue_tells_depths_progress_and_causes(self, world: tuple[Ledger, dict[str, str]]) -> None:
        body = read(world, "/api/queue")
        assert body["depths"] == {"queued": 1, "running": 1, "dead": 1}
        assert (body["jobs"][0]["stage"], body["jobs"][0]["done"], body["jobs"][0]["total"]) == ("battery", 144, 240)
        assert "header" in body["jobs"][-1]["error"]

    def test_the_fleet_tells_what_differs(self, world: tuple[Ledger, dict[str, str]]) -> None:
        body = read(world, "/api/fleet")
        assert not body["as_desired"]
        assert [replica["promoted"] for replica in body["replicas"]] == [6, 5]
        assert body["replicas"][1]["states"] == {"failed": 1, "resident": 1, "serving": 5}

    def test_the_audit_trail_is_read_backwards_in_pages(self, world: tuple[Ledger, dict[str, str]]) -> None:
        whole = [record.hash for record in world[0].audit_trail(digest(7))]
        pages: list[str] = []
        before = ""
        while True:
            body = read(world, f"/api/audit/{digest(7)}?limit=2{before}")
            pages = [record["hash"] for record in body["records"]] + pages
            if body["before"] is None:
                break
            before = f"&before={body['before']}"
        assert pages == whole


class TestAsking:
    def test_a_known_adapter_is_queued_once_and_the_reply_says_where_to_look(
        self, ledger: Ledger, tmp_path: Path
    ) -> None:
        settle(ledger, adapter(1, "n"), [], "clean", "fine")
        token = create_token(tmp_path / "tokens", "lead", "write")
        desk = Desk(ledger)
        asking = client(ledger, desk, tokens=tmp_path / "tokens")
        headers = {"Authorization": f"Bearer {token}"}
        replies = [asking.post("/api/reviews", json={"digest": digest(1)}, headers=headers) for _ in range(2)]
        assert [reply.status_code for reply in replies] == [202, 202]
        assert [reply.json()["queued"] for reply in replies] == [True, False]
        assert asking.get(replies[0].json()["verdict_url"], headers=headers).json()["job"]["reason"] == "requested"

    def test_the_short_path_is_the_long_one_with_all_its_guards(self, ledger: Ledger, tmp_path: Path) -> None:
        settle(ledger, adapter(1, "n"), [], "clean", "fine")
        tokens = {scope: create_token(tmp_path / "tokens", scope, scope) for scope in ("read", "write")}
        asking = client(ledger, Desk(ledger), tokens=tmp_path / "tokens")

        def ask(**headers: str) -> int:
            return asking.post("/reviews", json={"digest": digest(1)}, headers=headers).status_code

        assert ask() == 401
        assert ask(Authorization=f"Bearer {tokens['read']}") == 403
        assert ask(Authorization=f"Bearer {tokens['write']}") == 202

    @pytest.mark.parametrize(
        ("body", "status"),
        [
            ({"digest": digest(2)}, 404),
            ({"digest": "sha256-zz"}, 422),
            ({"digest": digest(1), "priority": 9}, 422),
            ({}, 422),
            ([], 422),
            ({"digest": None}, 422),
            ({"digest": "x" * 60000}, 422),
        ],
    )
    def test_what_cannot_be_reviewed_is_refused_in_one_line(
        self, ledger: Ledger, tmp_path: Path, body: Any, status: int
    ) -> None:
        token = create_token(tmp_path / "tokens", "lead", "write")
        desk = Desk(ledger)
        asking = client(ledger, desk, tokens=tmp_path / "tokens")
        reply = asking.post("/api/reviews", json=body, headers={"Authorization": f"Bearer {token}"})
        assert reply.status_code == status
        assert set(reply.json()) == {"error", "next_step"}
        assert "\n" not in reply.json()["error"]
        assert len(reply.json()["error"]) <= 500
        assert desk.asked == []

    def test_what_was_removed_cannot_be_reviewed(self, ledger: Ledger, tmp_path: Path) -> None:
        settle(ledger, adapter(1, "n"), [], "unsafe", "bad")
        ledger.registry.begin_move(digest(1), "removed")
        ledger.registry.finish_move(digest(1), "removed")
        token = create_token(tmp_path / "tokens", "lead", "write")
        asking = client(ledger, tokens=tmp_path / "tokens")
        reply = asking.post("/api/reviews", json={"digest": digest(1)}, headers={"Authorization": f"Bearer {token}"})
        assert reply.status_code == 409


class TestProbes:
    def test_the_process_is_alive_whatever_else_fails(self, ledger: Ledger) -> None:
        desk = Desk(ledger)
        desk.reasons = ["the base is not loaded yet"]
        assert client(ledger, desk).get("/healthz").json() == {"status": "alive"}

    def test_what_is_not_ready_says_why(self, ledger: Ledger) -> None:
        desk = Desk(ledger)
        probing = client(ledger, desk)
        assert probing.get("/readyz").json() == {"status": "ready", "reasons": []}
        desk.reasons = ["the base is not loaded yet"]
        reply = probing.get("/readyz")
        assert (reply.status_code, reply.json()["reasons"]) == (503, ["the base is not loaded yet"])

    def test_a_ledger_that_another_process_holds_is_not_ready(self, ledger: Ledger, tmp_path: Path) -> None:
        holder = sqlite3.connect(tmp_path / "ledger.db", isolation_level=None)
        holder.execute("BEGIN EXCLUSIVE")
        reply = client(ledger).get("/readyz")
        holder.close()
        assert reply.status_code == 503
        assert "written" in reply.json()["reasons"][0]

    def test_metrics_are_passed_on_as_they_are(self, ledger: Ledger) -> None:
        reply = client(ledger).get("/metrics")
        assert reply.content == b"alignwatch_up 1\n"
        assert reply.headers["content-type"].startswith("text/plain; version=")


class TestTrouble:
    @pytest.mark.parametrize(
        ("path", "status"),
        [
            ("/api/nothing", 404),
            ("/api/adapters/x", 422),
            (f"/api/adapters/{digest(404)}", 404),
            ("/api/reviews/none", 404),
            ("/api/lineage/none", 404),
            ("/api/adapters?limit=100000", 422),
            ("/api/adapters?offset=-1", 422),
            ("/api/adapters?place=heaven", 422),
            ("/api/verdicts/..%2F..%2Fetc", 404),
        ],
    )
    def test_whatever_is_wrong_is_one_line_with_a_next_step(self, ledger: Ledger, path: str, status: int) -> None:
        reply = client(ledger).get(path)
        assert reply.status_code == status
        assert set(reply.json()) == {"error", "next_step"}

    def test_a_fault_of_ours_shows_no_trace(self, ledger: Ledger) -> None:
        def broken() -> bytes:
            held = "secret detail"
            raise RuntimeError(held)

        app = create_app(ledger, settings(), metrics=broken, submit=lambda _: False, ready=list)
        reply = TestClient(app, base_url="http://127.0.0.1", raise_server_exceptions=False).get("/metrics")
        assert reply.status_code == 500
        assert "secret" not in reply.text
        assert "Traceback" not in reply.text

    def test_a_damaged_ledger_is_told_as_such(self, ledger: Ledger, tmp_path: Path) -> None:
        settle(ledger, adapter(1, "n"), [], "clean", "fine")
        ruin = sqlite3.connect(tmp_path / "ledger.db")
        ruin.execute("UPDATE examinations SET decision = '{}'")
        ruin.commit()
        ruin.close()
        reply = client(ledger).get(f"/api/verdicts/{digest(1)}")
        assert reply.status_code == 503
        assert "backup" in reply.json()["next_step"]

    def test_every_answer_tells_browsers_what_a_page_may_do(self, ledger: Ledger) -> None:
        for path in ("/", "/api/queue", "/nothing", "/static/style.css"):
            headers = client(ledger).get(path).headers
            assert "default-src 'none'" in headers["content-security-policy"]
            assert "unsafe" not in headers["content-security-policy"]
            assert headers["x-content-type-options"] == "nosniff"


class TestHostileText:
    def test_names_answers_and_reasons_come_through_json_as_they_were_written(self, ledger: Ledger) -> None:
        hostile = adapter(1, HOSTILE)
        ledger.registry.arrived(hostile, "inbox", None)
        review = settle(ledger, hostile, [exhibit(answer=HOSTILE)], "unsafe", HOSTILE)
        api = client(ledger)
        assert api.get(f"/api/adapters/{digest(1)}").json()["adapter"]["name"] == HOSTILE
        results = api.get(f"/api/reviews/{review}").json()["examinations"][0]["results"]
        assert results[0]["answer"] == HOSTILE
        assert api.get("/api/adapters", params={"name": HOSTILE[:20]}).json()["items"][0]["name"] == HOSTILE

    def test_ten_megabytes_of_an_answer_are_passed_on(self, ledger: Ledger) -> None:
        review = settle(ledger, adapter(1, "n"), [exhibit(answer="x" * 10_000_000)], "unsafe", "long")
        reply = client(ledger).get(f"/api/reviews/{review}")
        assert len(reply.json()["examinations"][0]["results"][0]["answer"]) == 10_000_000


class TestTheContract:
    def test_every_route_is_described_with_a_typed_answer(self, ledger: Ledger) -> None:
        schema = client(ledger).get("/openapi.json").json()
        assert len(schema["paths"]) == 12
        for path, methods in schema["paths"].items():
            for method, told in methods.items():
                assert told["description"], (method, path)
                if path != "/metrics":
                    good = told["responses"].get("200") or told["responses"]["202"]
                    assert "$ref" in json.dumps(good), (method, path)

    def test_nothing_of_it_loads_a_model_library(self) -> None:
        code = "import sys, monitor.web; print([m for m in ('torch', 'transformers', 'peft') if m in sys.modules])"
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        assert done.stdout.strip() == "[]"


class TestServing:
    def test_a_free_port_is_taken_before_anything_else_and_let_go_at_the_end(self, ledger: Ledger) -> None:
        with serving(app_of(ledger), "127.0.0.1", 0) as address:
            assert httpx.get(f"{address}/healthz").status_code == 200
            port = int(address.rpartition(":")[2])
        with serving(app_of(ledger), "127.0.0.1", port) as again:
            assert httpx.get(f"{again}/healthz").status_code == 200

    @pytest.mark.parametrize(("host", "cause"), [("127.0.0.1", "in use"), ("192.0.2.1", "no address of this machine")])
    def test_an_address_that_cannot_be_had_is_one_clear_line(self, ledger: Ledger, host: str, cause: str) -> None:
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = taken.getsockname()[1]
            with pytest.raises(UsageError, match=cause), serving(app_of(ledger), host, port):
                pass

    @pytest.mark.parametrize("what", ["idle", "half a request", "half a body", "a stream"])
    def test_it_stops_within_a_second_whatever_is_open(self, ledger: Ledger, what: str) -> None:
        app = app_of(ledger)

        async def endless() -> AsyncIterator[bytes]:
            while True:
                yield b"more\n"
                await asyncio.sleep(0.01)

        app.get("/healthz/stream")(lambda: StreamingResponse(endless()))
        begun = time.monotonic()
        with serving(app, "127.0.0.1", 0) as address:
            port = int(address.rpartition(":")[2])
            connection = socket.create_connection(("127.0.0.1", port))
            host = f"Host: 127.0.0.1:{port}\r\n".encode()
            connection.sendall(
                {
                    "idle": b"GET /healthz HTTP/1.1\r\n" + host + b"\r\n",
                    "half a request": b"GET /healthz HTT",
                    "half a body": b"POST /login HTTP/1.1\r\n" + host + b"Content-Length: 50\r\n\r\nabc",
                    "a stream": b"GET /healthz/stream HTTP/1.1\r\n" + host + b"\r\n",
                }[what]
            )
            if what in ("idle", "a stream"):
                assert b"200" in connection.recv(100)
            begun = time.monotonic()
        spent = time.monotonic() - begun
        connection.close()
        assert spent < 1.5  # a second, and what a busy machine adds
        assert not any(thread.name == "web" for thread in threading.enumerate())

    def test_many_clients_at_once_are_all_answered(self, world: tuple[Ledger, dict[str, str]]) -> None:
        with serving(app_of(world[0]), "127.0.0.1", 0) as address:
            codes: list[int] = []

            def ask() -> None:
                with httpx.Client(base_url=address, timeout=30) as own:
                    codes.extend(own.get(path).status_code for path in ("/", "/api/queue", "/api/fleet"))

            threads = [threading.Thread(target=ask) for _ in range(8)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        assert codes == [200] * 24
