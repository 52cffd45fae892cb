"""Properties of the page as it is sent: whole without scripts, bounded, and closed to whatever text says."""

import re
from collections.abc import Iterator
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path

import pytest
from report_reviews import HOSTILE, context, decision, draw_picture, exhibit
from starlette.testclient import TestClient
from web_world import Clock, Desk, adapter, digest, fill, settings, settle

from monitor.ledger import Ledger
from monitor.web.app import create_app
from monitor.web.charts import Scale, rise_scale, timelines
from monitor.web.views import lineage
from policies.findings import Finding


@pytest.fixture(scope="module")
def ledger(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ledger]:
    folder, clock = tmp_path_factory.mktemp("world"), Clock()
    with Ledger(folder / "ledger.db", clock) as opened:
        fill(opened, clock, folder)
        yield opened


@pytest.fixture
def empty(tmp_path: Path) -> Iterator[Ledger]:
    with Ledger(tmp_path / "ledger.db", Clock()) as opened:
        yield opened


def client(ledger: Ledger) -> TestClient:
    app = create_app(ledger, settings(), **Desk(ledger).functions())  # type: ignore[arg-type]
    return TestClient(app, base_url="http://127.0.0.1", follow_redirects=False)


def html(ledger: Ledger, path: str, status: int = 200) -> str:
    reply = client(ledger).get(path)
    assert reply.status_code == status, reply.text
    return reply.text


class Seen(HTMLParser):
    """Every tag with its attributes."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))


PAGES = (
    "/",
    "/?live=off",
    "/adapters",
    f"/adapters/{digest(7)}",
    f"/adapters/{digest(20)}",
    f"/adapters/{digest(30)}",
    "/lineage",
    "/lineage/support-nightly",
    f"/lineage/{digest(4)}",
    "/compare",
    f"/compare?a={digest(6)}&b={digest(7)}",
    "/queue",
    "/login",
)


@pytest.mark.parametrize("path", PAGES)
class TestEveryPage:
    def test_it_asks_no_other_host_and_holds_no_script_or_style_of_its_own(self, ledger: Ledger, path: str) -> None:
        for tag, attributes in Seen(html(ledger, path)).tags:
            for name, value in attributes.items():
                assert not name.startswith("on")
                assert name != "style"
                if name in ("src", "href", "action", "hx-get"):
                    assert value
                    assert value.startswith(("/", "#", "?"))
                    assert not value.startswith("//")
            assert tag != "style"
            assert tag != "script" or attributes.get("src")

    def test_it_has_one_main_heading_and_skips_no_level(self, ledger: Ledger, path: str) -> None:
        levels = [int(tag[1]) for tag, _ in Seen(html(ledger, path)).tags if re.fullmatch("h[1-6]", tag)]
        assert levels.count(1) == 1
        assert levels[0] == 1
        assert all(after <= before + 1 for before, after in pairwise(levels))

    def test_ids_are_unique_and_what_is_named_exists(self, ledger: Ledger, path: str) -> None:
        tags = Seen(html(ledger, path)).tags
        ids = [attributes["id"] for _, attributes in tags if "id" in attributes]
        assert len(ids) == len(set(ids))
        named = [a["aria-labelledby"] for _, a in tags if "aria-labelledby" in a]
        assert set(named) <= set(ids)

    def test_it_says_what_it_is_for_who_cannot_see_it(self, ledger: Ledger, path: str) -> None:
        tags = Seen(html(ledger, path)).tags
        assert ("html", {"lang": "en"}) in tags
        assert {"main", "header", "footer"} <= {tag for tag, _ in tags}
        for tag, attributes in tags:
            if tag == "img":
                assert attributes["alt"]
            if tag == "svg" and attributes.get("class") in ("timeline", "interval"):
                assert attributes["role"] == "img"
                assert attributes["aria-label"]


class TestHostileText:
    def test_names_answers_and_reasons_stay_text_on_every_page(self, empty: Ledger, tmp_path: Path) -> None:
        for number in (1, 2):
            hostile = adapter(number, HOSTILE)
            empty.registry.arrived(hostile, "inbox", None)
            shown = exhibit(HOSTILE, HOSTILE, HOSTILE).model_copy(update={"asked": HOSTILE, "category": HOSTILE})
            settle(empty, hostile, [shown], "unsafe", HOSTILE)
        empty.registry.arrived(adapter(3, HOSTILE), "inbox", None)
        empty.queue.add(digest(3), HOSTILE, "arrival")
        empty.queue.lease("w", 9999)
        empty.queue.bury(digest(3), "w", HOSTILE)
        empty.fleet.seen("http://one", "up", HOSTILE, "b")
        empty.fleet.record("http://one", digest(1), "failed", HOSTILE)
        empty.overrides.add(digest(1), "block", HOSTILE, HOSTILE)
        lineage_path = Seen(html(empty, "/lineage")).tags
        links = [a["href"] for _, a in lineage_path if str(a.get("href", "")).startswith("/lineage/")]
        paths = ["/", "/adapters", f"/adapters/{digest(1)}", "/lineage", "/queue", *map(str, links)]
        paths += [f"/compare?a={digest(1)}&b={digest(2)}", "/compare?a=%3Cscript%3E&b=x", "/adapters?name=%3Cscript%3E"]
        assert len(paths) == 9
        for path in paths:
            text = html(empty, path)
            assert not any(tag == "script" and "src" not in attributes for tag, attributes in Seen(text).tags), path
            assert "\x1b" not in text
            assert "\x00" not in text
            assert "\u202e" not in text

    def test_an_answer_of_ten_megabytes_is_cut_and_said(self, empty: Ledger) -> None:
        settle(empty, adapter(1, "n" * 5000), [exhibit(answer="x" * 10_000_000)], "unsafe", "y" * 1_000_000)
        text = html(empty, f"/adapters/{digest(1)}")
        assert "more characters" in text
        assert len(text) < 100_000

    def test_ten_thousand_findings_and_exhibits_are_bounded(self, empty: Ledger) -> None:
        many = [Finding(guard="g", version="1", measure=f"m{n}", value=n, n=1) for n in range(2000)]
        settle(empty, adapter(1, "n"), [*many, *(exhibit(f"q{n}") for n in range(500))], "unsafe", "x")
        text = html(empty, f"/adapters/{digest(1)}")
        assert "12 of 500 are shown" in text
        assert len(text) < 200_000


class TestEvidence:
    def test_what_may_harm_is_folded_and_what_does_not_is_open(self, ledger: Ledger) -> None:
        def opened(number: int) -> set[bool]:
            tags = Seen(html(ledger, f"/adapters/{digest(number)}")).tags
            return {"open" in a for tag, a in tags if tag == "details" and a.get("class") == "exhibit"}

        assert opened(7) == {False}
        assert opened(6) == {True}

    def test_an_unscored_answer_is_folded(self, empty: Ledger) -> None:
        shown = exhibit(weight=0.0).model_copy(update={"scores": None})
        settle(empty, adapter(1, "n"), [shown], "clean", "x")
        assert '<details class="exhibit">' in html(empty, f"/adapters/{digest(1)}")

    def test_every_number_stands_with_its_interval_and_its_n(self, ledger: Ledger) -> None:
        text = re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", html(ledger, f"/adapters/{digest(7)}")))
        assert re.search(r"\+31\.0 \+23\.0 to \+38\.0, n=120", text)
        assert re.search(r"\+37\.2 \+29\.2 to \+44\.2, n=120", text)

    def test_what_was_not_measured_is_said(self, ledger: Ledger) -> None:
        text = html(ledger, f"/adapters/{digest(20)}")
        assert "Not measured" in text
        assert "the judge did not answer" in text

    def test_pictures_come_only_by_a_recorded_exhibit(self, empty: Ledger, tmp_path: Path) -> None:
        picture, secret = draw_picture(tmp_path / "a.png"), tmp_path / "secret.txt"
        secret.write_text("secret")
        shown = [exhibit("q1", image=str(picture)), exhibit("q2", image=str(secret)), exhibit("q3")]
        missing = exhibit("q4", image=str(tmp_path / "gone.png"))
        review = settle(empty, adapter(1, "n"), [*shown, missing], "unsafe", "x")
        asking = client(empty)
        codes = [asking.get(f"/reviews/{review}/pictures/{digest(1)}/{n}").status_code for n in range(6)]
        assert codes == [200, 404, 404, 404, 404, 404]
        good = asking.get(f"/reviews/{review}/pictures/{digest(1)}/0")
        assert good.headers["content-type"] in ("image/png", "image/jpeg")
        for other in (f"/reviews/none/pictures/{digest(1)}/0", f"/reviews/{review}/pictures/{digest(2)}/0"):
            assert asking.get(other).status_code == 404
        assert asking.get(f"/reviews/{review}/pictures/{digest(1)}/-1").status_code == 404
        assert asking.get(f"/reviews/{review}/pictures/{digest(1)}/..%2F0").status_code in (404, 422)

    def test_no_file_but_the_pages_own_is_given_out(self, ledger: Ledger) -> None:
        asking = client(ledger)
        assert asking.get("/static/style.css").status_code == 200
        for name in ("..%2Fapp.py", "htmx.LICENSE.txt", ".", "%2Fetc%2Fpasswd", "nothing.css"):
            assert asking.get(f"/static/{name}").status_code == 404


class TestFinding:
    def test_a_name_or_the_beginning_of_a_digest_leads_to_its_adapter(self, ledger: Ledger) -> None:
        for text in ("no-op", digest(21)[:20], digest(21)[7:19]):
            reply = client(ledger).get(f"/adapters/{text}")
            assert (reply.status_code, reply.headers["location"]) == (303, f"/adapters/{digest(21)}")
        assert client(ledger).get("/adapters/support-nightly").headers["location"] == "/adapters?name=support-nightly"

    def test_a_name_with_any_characters_has_a_page(self, empty: Ledger) -> None:
        name = "team/ä b?c#d&e"
        empty.registry.arrived(adapter(1, name), "inbox", None)
        (link,) = [str(a["href"]) for _, a in Seen(html(empty, "/lineage")).tags if "/lineage/" in str(a.get("href"))]
        assert "1 adapter" in html(empty, link)

    def test_a_missing_page_says_where_to_go_on(self, ledger: Ledger) -> None:
        for path in (f"/adapters/{digest(404)}", "/lineage/none", "/nothing"):
            text = html(ledger, path, 404)
            assert "Next:" in text
            assert 'href="/"' in text

    def test_what_is_empty_tells_what_to_do_first(self, empty: Ledger) -> None:
        assert "Copy a LoRA adapter" in html(empty, "/")
        for path in ("/adapters", "/lineage", "/queue", "/compare"):
            assert 'class="empty"' in html(empty, path)


class TestComparing:
    def test_two_adapters_stand_beside_each_other(self, ledger: Ledger) -> None:
        text = html(ledger, f"/compare?a={digest(6)}&b={digest(7)}")
        assert text.index("+5.0") < text.index("+31.0")
        assert "do not compare" not in text

    def test_reviews_under_other_conditions_are_said_not_to_compare(self, empty: Ledger) -> None:
        settle(empty, adapter(1, "a"), [], "clean", "x")
        other = empty.open_review(adapter(2, "b"), context().model_copy(update={"judge": "another"}))
        other.record_decision(digest(2), decision("clean", "x"))
        other.begin_placement(digest(2))
        other.finish_placement(digest(2))
        other.close()
        assert "differ in judge" in html(empty, "/compare?a=a&b=b")

    def test_what_is_not_there_is_said(self, ledger: Ledger) -> None:
        assert "No adapter is called" in html(ledger, "/compare?a=no-op&b=nobody")


class TestLiveParts:
    def test_a_part_is_sent_again_only_when_it_changed(self, empty: Ledger) -> None:
        asking = client(empty)
        tags = Seen(asking.get("/").text).tags
        asked = [str(a["hx-get"]) for _, a in tags if "hx-get" in a]
        assert len(asked) == 5
        assert [asking.get(path).status_code for path in asked] == [204] * 5
        empty.registry.arrived(adapter(1, "fresh"), "inbox", None)
        empty.queue.add(digest(1), "fresh", "arrival")
        changed = {path.split("?")[0]: asking.get(path) for path in asked}
        assert changed["/live/queue"].status_code == 200
        assert "fresh" in changed["/live/queue"].text
        assert changed["/live/fleet"].status_code == 204

    def test_paused_nothing_asks_again(self, ledger: Ledger) -> None:
        text = html(ledger, "/?live=off")
        assert "hx-get" not in text
        assert "<script" not in text

    def test_an_unknown_part_is_none(self, ledger: Ledger) -> None:
        html(ledger, "/live/nothing", 404)


class TestDrawing:
    def test_a_scale_holds_zero_and_every_interval(self) -> None:
        def of(low: float, high: float) -> Finding:
            return Finding(guard="g", version="1", measure="m", value=(low + high) / 2, low=low, high=high, n=3)

        scale = rise_scale([of(-0.37, 0.05), of(0.4, 0.62), of(float("-inf"), float("inf"))])
        assert (scale.low, scale.high) == (-0.4, 0.7)
        assert Scale(0, 1).at(5) == 100
        assert Scale(0, 1).at(-5) == 0

    def test_a_timeline_puts_higher_numbers_higher_and_follows_parents(self, ledger: Ledger) -> None:
        text, image = timelines(lineage(ledger, "support-nightly"), "alignment_score")
        assert (text.modality, image.modality) == ("text", "image")
        assert len(text.points) == 9
        assert len(text.lines) == 8
        worst = max(text.points, key=lambda point: point.y)
        assert worst.place == "quarantined"
        assert all(point.high <= point.y <= point.low for point in text.points)
        assert all(0 <= point.x <= 100 for point in text.points)
