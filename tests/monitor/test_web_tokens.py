"""Properties of tokens and of who may enter: closed unless opened, and no token is ever told."""

import logging
import secrets
import stat
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from starlette.testclient import TestClient
from web_world import Clock, Desk, adapter, digest, settings

from monitor.exit_codes import UsageError
from monitor.ledger import Ledger
from monitor.web import api, page, probes
from monitor.web.access import SESSION_SECONDS, Sessions, local_path
from monitor.web.app import create_app
from monitor.web.limits import Allowance, client_of
from monitor.web.tokens import Grant, Tokens, create_token

OWN = {"Origin": "http://127.0.0.1"}


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    with Ledger(tmp_path / "ledger.db", Clock()) as opened:
        opened.registry.arrived(adapter(1, "nightly"), "inbox", None)
        yield opened


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "tokens"


def client(ledger: Ledger, **changes: object) -> TestClient:
    app = create_app(ledger, settings(**changes), **Desk(ledger).functions())  # type: ignore[arg-type]
    return TestClient(app, base_url="http://127.0.0.1", follow_redirects=False)


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


class TestTheFile:
    def test_it_holds_no_token_and_only_its_owner_reads_it(self, file: Path) -> None:
        token = create_token(file, "ci", "read")
        assert token not in file.read_text()
        assert token[3:] not in file.read_text()
        assert stat.S_IMODE(file.stat().st_mode) == 0o600

    def test_a_token_is_known_again_with_its_name_and_scope_and_no_other_is(self, file: Path) -> None:
        read, write = create_token(file, "ci", "read"), create_token(file, "lead", "write")
        tokens = Tokens(file)
        found = [tokens.identify(token) for token in (read, write)]
        assert [(grant.name, grant.scope) for grant in found if grant] == [("ci", "read"), ("lead", "write")]
        assert tokens.identify(read[:-1]) is None
        assert tokens.identify("") is None
        assert tokens.identify("ä\udcff") is None

    def test_the_same_token_never_comes_twice_and_is_hashed_under_a_salt_of_its_own(self, file: Path) -> None:
        assert len({create_token(file, f"n{n}", "read") for n in range(9)}) == 9
        assert len({line.split()[2].split(":")[0] for line in file.read_text().splitlines()}) == 9

    @pytest.mark.parametrize("name", ["", "two words", "a\nb", "x" * 65, "ci:1"])
    def test_an_unfit_name_is_refused(self, file: Path, name: str) -> None:
        with pytest.raises(UsageError, match="cannot name a token"):
            create_token(file, name, "read")

    def test_a_name_is_given_once(self, file: Path) -> None:
        create_token(file, "ci", "read")
        with pytest.raises(UsageError, match="already"):
            create_token(file, "ci", "write")

    def test_a_line_without_its_end_is_not_grown_together_with_the_next(self, file: Path) -> None:
        first = create_token(file, "ci", "read")
        file.write_text(file.read_text().rstrip("\n"))
        create_token(file, "lead", "write")
        assert Tokens(file).identify(first) is not None

    def test_a_file_that_others_may_write_is_refused(self, file: Path) -> None:
        create_token(file, "ci", "read")
        file.chmod(0o620)
        with pytest.raises(UsageError, match="others may write"):
            Tokens(file)

    def test_what_a_bad_line_holds_is_not_repeated(self, file: Path) -> None:
        file.write_text("aw_pasted_by_mistake\n")
        with pytest.raises(UsageError, match="line 1") as caught:
            Tokens(file)
        assert "aw_" not in str(caught.value)

    def test_a_token_that_is_taken_out_opens_nothing_any_more(self, file: Path) -> None:
        token = create_token(file, "ci", "read")
        tokens = Tokens(file)
        file.write_text("# nobody\n")
        assert tokens.identify(token) is None

    def test_a_file_that_breaks_or_vanishes_lets_nobody_in_and_lets_them_in_again_when_mended(self, file: Path) -> None:
        token = create_token(file, "ci", "read")
        tokens, good = Tokens(file), file.read_text()
        file.write_text("rubbish\n")
        assert tokens.identify(token) is None
        file.unlink()
        assert tokens.identify(token) is None
        file.write_text(good)
        file.chmod(0o600)
        assert tokens.identify(token) is not None


class TestWithoutTokens:
    def test_this_machine_may_read_and_nobody_may_write(self, ledger: Ledger) -> None:
        open_ = client(ledger)
        assert open_.get("/api/adapters").status_code == 200
        refused = open_.post("/api/reviews", json={"digest": digest(1)})
        assert refused.status_code == 403
        assert "alignwatch token" in refused.json()["next_step"]

    @pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "monitor.example"])
    def test_a_listener_that_others_reach_is_refused(self, ledger: Ledger, host: str) -> None:
        with pytest.raises(UsageError, match=r"http\.tokens"):
            client(ledger, host=host)

    @pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example", "evil.example:80", ""])
    @pytest.mark.parametrize("path", ["/", "/api/adapters", "/metrics"])
    def test_a_foreign_name_that_points_here_reads_nothing(self, ledger: Ledger, host: str, path: str) -> None:
        assert client(ledger).get(path, headers={"Host": host}).status_code == 421

    @pytest.mark.parametrize("host", ["localhost:9464", "127.0.0.1", "[::1]:9464"])
    def test_this_machines_own_names_are_answered(self, ledger: Ledger, host: str) -> None:
        assert client(ledger).get("/api/adapters", headers={"Host": host}).status_code == 200


class TestWithTokens:
    def test_every_address_is_closed_but_the_probes_and_the_form(self, ledger: Ledger, file: Path) -> None:
        create_token(file, "ci", "read")
        closed = client(ledger, tokens=file)
        paths = ["/openapi.json", *(r.path for router in (probes, api, page) for r in router.router.routes)]  # type: ignore[attr-defined]
        assert len(paths) > 20
        open_ = {path for path in paths if closed.get(path).status_code not in (303, 401)}
        assert open_ == {"/healthz", "/readyz", "/metrics", "/login", "/static/{name}"}

    def test_the_probes_are_closed_too_where_that_is_configured(self, ledger: Ledger, file: Path) -> None:
        token = create_token(file, "prometheus", "read")
        closed = client(ledger, tokens=file, open_metrics=False)
        for path in ("/healthz", "/readyz", "/metrics"):
            assert closed.get(path).status_code == 401
            assert closed.get(path, headers=bearer(token)).status_code == 200

    def test_scopes_hold(self, ledger: Ledger, file: Path) -> None:
        read, write = create_token(file, "ci", "read"), create_token(file, "lead", "write")
        closed = client(ledger, tokens=file)
        asked = {
            token: closed.post("/api/reviews", json={"digest": digest(1)}, headers=bearer(token))
            for token in (read, write)
        }
        assert [reply.status_code for reply in asked.values()] == [403, 202]
        assert ledger.queue.depths()["queued"] == 1

    @pytest.mark.parametrize("sent", ["Bearer aw_wrong", "Basic YTpi", "Bearer", "bearer  "])
    def test_a_wrong_token_is_refused_even_beside_a_good_session(self, ledger: Ledger, file: Path, sent: str) -> None:
        token = create_token(file, "ci", "read")
        closed = client(ledger, tokens=file)
        assert closed.post("/login", data={"token": token}, headers=OWN).status_code == 303
        assert closed.get("/api/adapters").status_code == 200
        assert closed.get("/api/adapters", headers={"Authorization": sent}).status_code == 401

    def test_no_token_reaches_a_log_an_answer_or_the_ledger(
        self, ledger: Ledger, file: Path, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
    ) -> None:
        token, wrong = create_token(file, "lead", "write"), "aw_" + secrets.token_urlsafe(32)
        closed = client(ledger, tokens=file)
        with caplog.at_level(logging.DEBUG):
            replies = [closed.post("/login", data={"token": t, "next": "/"}, headers=OWN) for t in (wrong, token)]
            replies += [closed.get("/api/adapters", headers=bearer(t)) for t in (wrong, token)]
            replies.append(closed.post("/api/reviews", json={"digest": digest(1)}, headers=bearer(token)))
            replies.append(closed.post("/api/reviews", json={"token": token}, headers=bearer(token)))
        printed = capsys.readouterr()
        told = [reply.text + str(reply.headers) for reply in replies]
        told += [caplog.text, printed.out, printed.err, Path(ledger._database.path).read_bytes().decode("latin-1")]
        assert "review requested" in printed.out + caplog.text
        assert not any(t in text for t in (token, wrong) for text in told)


class TestTheForm:
    def signed_in(self, ledger: Ledger, file: Path, scope: str = "write") -> TestClient:
        token = create_token(file, "lead", scope)  # type: ignore[arg-type]
        closed = client(ledger, tokens=file)
        reply = closed.post("/login", data={"token": token, "next": "/queue"}, headers=OWN)
        assert (reply.status_code, reply.headers["location"]) == (303, "/queue")
        return closed

    def key(self, closed: TestClient) -> str:
        html = closed.get(f"/adapters/{digest(1)}").text
        return html.split('name="form_key" value="')[1].split('"')[0]

    def test_a_person_without_a_session_is_led_to_it_and_back(self, ledger: Ledger, file: Path) -> None:
        create_token(file, "x", "read")
        reply = client(ledger, tokens=file).get("/adapters?name=a b&place=held")
        assert (reply.status_code, reply.headers["location"]) == (
            303,
            "/login?next=/adapters%3Fname%3Da%2520b%26place%3Dheld",
        )

    def test_the_cookie_is_neither_the_token_nor_within_reach_of_scripts_or_other_sites(
        self, ledger: Ledger, file: Path
    ) -> None:
        token = create_token(file, "lead", "write")
        closed = client(ledger, tokens=file)
        cookie = closed.post("/login", data={"token": token}, headers=OWN).headers["set-cookie"]
        assert token not in cookie
        assert "HttpOnly" in cookie
        assert "SameSite=strict" in cookie
        assert "Secure" not in cookie
        behind = closed.post("/login", data={"token": token}, headers=OWN | {"X-Forwarded-Proto": "https"})
        assert "Secure" in behind.headers["set-cookie"]

    def test_a_review_is_asked_for_with_the_key_of_the_form(self, ledger: Ledger, file: Path) -> None:
        closed = self.signed_in(ledger, file)
        reply = closed.post(f"/adapters/{digest(1)}/review", data={"form_key": self.key(closed)}, headers=OWN)
        assert reply.headers["location"] == f"/adapters/{digest(1)}?asked=queued"
        job = ledger.queue.job(digest(1))
        assert job is not None
        assert job.reason == "requested"

    @pytest.mark.parametrize(
        "headers",
        [
            {},
            {"Origin": "null"},
            {"Origin": "http://evil.example"},
            {"Origin": "http://127.0.0.1:81"},
            {"Origin": "http://127.0.0.1", "Sec-Fetch-Site": "cross-site"},
            {"Origin": "http://127.0.0.1", "Sec-Fetch-Site": "same-site"},
        ],
    )
    def test_a_form_of_another_site_does_nothing(self, ledger: Ledger, file: Path, headers: dict[str, str]) -> None:
        closed = self.signed_in(ledger, file)
        key = self.key(closed)
        assert closed.post(f"/adapters/{digest(1)}/review", data={"form_key": key}, headers=headers).status_code == 403
        assert closed.post("/logout", headers=headers).status_code == 403
        assert closed.post("/login", data={"token": "aw_x"}, headers=headers).status_code == 403
        assert ledger.queue.job(digest(1)) is None

    @pytest.mark.parametrize("key", [None, "", "wrong"])
    def test_a_form_without_its_key_does_nothing(self, ledger: Ledger, file: Path, key: str | None) -> None:
        closed = self.signed_in(ledger, file)
        sent = {} if key is None else {"form_key": key}
        assert closed.post(f"/adapters/{digest(1)}/review", data=sent, headers=OWN).status_code == 403
        assert ledger.queue.job(digest(1)) is None

    def test_a_reader_sees_no_form_and_may_not_send_one(self, ledger: Ledger, file: Path) -> None:
        closed = self.signed_in(ledger, file, "read")
        assert "form_key" not in closed.get(f"/adapters/{digest(1)}").text
        assert closed.post(f"/adapters/{digest(1)}/review", data={"form_key": "x"}, headers=OWN).status_code == 403

    def test_a_cookie_alone_never_writes_through_the_api(self, ledger: Ledger, file: Path) -> None:
        closed = self.signed_in(ledger, file)
        assert closed.post("/api/reviews", json={"digest": digest(1)}, headers=OWN).status_code == 401

    def test_a_session_ends_with_its_token(self, ledger: Ledger, file: Path) -> None:
        closed = self.signed_in(ledger, file)
        file.write_text("")
        assert closed.get("/").status_code == 303

    def test_a_session_ends_by_signing_out_also_for_a_copy_of_its_cookie(self, ledger: Ledger, file: Path) -> None:
        closed = self.signed_in(ledger, file)
        copy = dict(closed.cookies)
        assert closed.post("/logout", headers=OWN).status_code == 303
        closed.cookies.update(copy)
        assert closed.get("/").status_code == 303

    def test_sessions_end_by_time_and_are_bounded(self) -> None:
        now = [0.0]
        sessions = Sessions(most=3, monotonic=lambda: now[0])
        secrets_ = [sessions.begin(Grant(f"n{n}", "read", "", "")) for n in range(5)]
        assert [sessions.find(secret) is not None for secret in secrets_] == [False, False, True, True, True]
        now[0] = SESSION_SECONDS - 1
        assert sessions.find(secrets_[4]) is not None
        now[0] += 1
        assert sessions.find(secrets_[4]) is None

    @pytest.mark.parametrize(
        "path", ["//evil.example", "https://evil.example", "/\\evil.example", "/\n", "evil", "", "/ä"]
    )
    def test_signing_in_leads_nowhere_else(self, path: str) -> None:
        assert local_path(path) == "/"


class TestLimits:
    def test_a_client_that_asks_too_often_waits_and_others_do_not(self) -> None:
        now = [0.0]
        allowance = Allowance(60, monotonic=lambda: now[0])
        assert [allowance.take("a") for _ in range(60)] == [0.0] * 60
        assert allowance.take("a") == pytest.approx(1.0)
        assert allowance.take("b") == 0
        now[0] = timedelta(seconds=2).total_seconds()
        assert [allowance.take("a") > 0 for _ in range(3)] == [False, False, True]

    def test_the_memory_of_clients_is_bounded(self) -> None:
        allowance = Allowance(60, clients=10, monotonic=lambda: 0.0)
        for number in range(1000):
            allowance.take(str(number))
        assert len(allowance) == 10

    def test_one_network_of_the_newer_addresses_is_one_client(self) -> None:
        found = {client_of({"client": (f"2001:db8::{n:x}", 1)}) for n in range(9)}
        assert len(found) == 1
        assert client_of({"client": ("192.0.2.1", 1)}) != client_of({"client": ("192.0.2.2", 1)})
        assert client_of({"client": None}) == "unknown"

    def test_too_many_requests_are_told_when_to_come_again_and_probes_still_answer(self, ledger: Ledger) -> None:
        busy = client(ledger, requests_per_minute=3)
        replies = [busy.get("/api/queue") for _ in range(4)]
        assert [reply.status_code for reply in replies] == [200, 200, 200, 429]
        assert int(replies[-1].headers["retry-after"]) >= 1
        assert busy.get("/healthz").status_code == 200

    @pytest.mark.parametrize("chunked", [False, True])
    def test_a_body_that_is_too_large_is_refused(self, ledger: Ledger, file: Path, chunked: bool) -> None:
        token = create_token(file, "lead", "write")
        small = client(ledger, tokens=file, max_body_bytes=1000)
        body = iter([b"x" * 400] * 3) if chunked else b"x" * 1200
        reply = small.post("/api/reviews", content=body, headers=bearer(token))
        assert reply.status_code == 413
        assert "max_body_bytes" in reply.json()["next_step"]
