"""The page in a real browser: a phone, a keyboard, the dark, and no JavaScript."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "monitor"))

from web_world import Clock, Desk, adapter, digest, fill, settings, settle

from monitor.ledger import Ledger
from monitor.web import create_app, serving
from monitor.web.tokens import create_token

playwright = pytest.importorskip("playwright.sync_api", reason="Playwright is not installed: pip install playwright")

CHROMIUM = os.environ.get("ALIGNWATCH_CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium: apt-get install chromium")

PAGES = (
    "/",
    "/adapters",
    f"/adapters/{digest(7)}",
    f"/adapters/{digest(20)}",
    "/lineage",
    "/lineage/support-nightly",
    f"/compare?a={digest(6)}&b={digest(7)}",
    "/queue",
)

OVERFLOWING = """() => {
  const wide = document.documentElement.clientWidth;
  const inside = e => { for (; e; e = e.parentElement) if (e.matches('.scroll, .unseen, svg, .skip')) return true; };
  const out = [...document.body.querySelectorAll('*')].filter(
    e => e.getBoundingClientRect().right > wide + 1 && !inside(e));
  return [document.documentElement.scrollWidth - wide, ...out.slice(0, 3).map(e => e.outerHTML.slice(0, 120))];
}"""

FAINT = """() => {
  const rgb = text => (text.match(/[\\d.]+/g) || []).map(Number);
  const light = ([r, g, b]) => [r, g, b].map(v => v / 255)
    .map(v => v <= .04045 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4)
    .reduce((sum, v, i) => sum + v * [.2126, .7152, .0722][i], 0);
  const behind = e => { for (; e; e = e.parentElement) {
    const c = rgb(getComputedStyle(e).backgroundColor);
    if (c.length === 3 || c[3] > .99) return c; } return [255, 255, 255]; };
  const faint = [];
  for (const e of document.body.querySelectorAll('*')) {
    const own = [...e.childNodes].some(n => n.nodeType === 3 && n.data.trim());
    if (!own || !e.checkVisibility() || e.closest('svg, option')) continue;
    const [a, b] = [light(rgb(getComputedStyle(e).color)), light(behind(e))];
    const contrast = (Math.max(a, b) + .05) / (Math.min(a, b) + .05);
    if (contrast < 4.5) faint.push(`${contrast.toFixed(2)} ${e.outerHTML.slice(0, 100)}`);
  }
  return faint;
}"""

UNREACHED = """() => {
  const wanted = [...document.querySelectorAll(
    'a[href], button, input:not([type=hidden]), select, summary, [tabindex="0"]')].filter(
    e => e.checkVisibility() && !e.disabled);
  return wanted.filter(e => !window.reached.has(e)).map(e => e.outerHTML.slice(0, 120));
}"""


@dataclass
class Site:
    """A page with a history behind it."""

    address: str
    ledger: Ledger


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder, clock = tmp_path_factory.mktemp("site"), Clock()
    with Ledger(folder / "ledger.db", clock) as ledger:
        fill(ledger, clock, folder)
        app = create_app(ledger, settings(), **Desk(ledger).functions())  # type: ignore[arg-type]
        with serving(app, "127.0.0.1", 0) as address:
            yield Site(address, ledger)


@pytest.fixture(scope="module")
def chromium() -> Iterator[playwright.Browser]:
    with playwright.sync_playwright() as started:
        arguments = ["--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu"]
        browser = started.chromium.launch(executable_path=CHROMIUM, args=arguments)
        yield browser
        browser.close()


@pytest.fixture
def visit(chromium: playwright.Browser, site: Site) -> Iterator[Callable[..., playwright.Page]]:
    """Open pages in contexts of their own; at the end, nothing may have been complained about or asked elsewhere."""
    contexts: list[playwright.BrowserContext] = []
    troubles: list[str] = []

    def opened(**options: object) -> playwright.Page:
        context = chromium.new_context(**options)  # type: ignore[arg-type]
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda said: troubles.append(said.text) if said.type in ("error", "warning") else None)
        page.on("pageerror", lambda error: troubles.append(str(error)))
        page.on("request", lambda asked: None if "//127.0.0.1:" in asked.url else troubles.append(asked.url))
        return page

    yield opened
    for context in contexts:
        context.close()
    assert troubles == []


def test_every_page_draws_without_a_complaint_and_asks_nobody_else(
    site: Site, visit: Callable[..., playwright.Page]
) -> None:
    page = visit()
    for path in PAGES:
        reply = page.goto(site.address + path)
        assert reply is not None
        assert reply.status == 200
        assert page.locator("h1").is_visible()


def test_nothing_is_wider_than_a_phone(site: Site, visit: Callable[..., playwright.Page]) -> None:
    page = visit(viewport={"width": 375, "height": 800})
    for path in PAGES:
        page.goto(site.address + path)
        page.evaluate("document.querySelectorAll('details').forEach(folded => folded.open = true)")
        assert page.evaluate(OVERFLOWING) == [0], path


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_word_can_be_read_in_light_and_dark(
    site: Site, visit: Callable[..., playwright.Page], scheme: str
) -> None:
    page = visit(color_scheme=scheme)
    for path in PAGES:
        page.goto(site.address + path)
        assert page.evaluate(FAINT) == [], path
    dark = page.evaluate("getComputedStyle(document.body).backgroundColor.match(/\\d+/g)[0] < 40")
    assert dark == (scheme == "dark")


def test_the_keyboard_reaches_everything_and_shows_where_it_is(
    site: Site, visit: Callable[..., playwright.Page]
) -> None:
    page = visit()
    for path in ("/?live=off", f"/adapters/{digest(7)}", f"/compare?a={digest(6)}&b={digest(7)}"):
        page.goto(site.address + path)
        page.evaluate("window.reached = new Set()")
        page.keyboard.press("Tab")
        assert page.evaluate("document.activeElement.textContent") == "Skip to the content"
        assert page.evaluate("document.activeElement.getBoundingClientRect().top") >= 0
        unseen = []
        for _ in range(200):
            step = page.evaluate(
                "() => { const e = document.activeElement; if (!e || e === document.body) return 'end';"
                "if (window.reached.has(e)) return 'end'; window.reached.add(e);"
                "return getComputedStyle(e).outlineStyle === 'none' ? e.outerHTML.slice(0, 100) : ''; }"
            )
            if step == "end":
                break
            if step:
                unseen.append(step)
            page.keyboard.press("Tab")
        assert page.evaluate(UNREACHED) == []
        assert unseen == []


def test_skipping_leads_to_the_content(site: Site, visit: Callable[..., playwright.Page]) -> None:
    page = visit()
    page.goto(site.address + "/adapters")
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "content"


def test_without_javascript_everything_is_there(site: Site, visit: Callable[..., playwright.Page]) -> None:
    page = visit(java_script_enabled=False)
    page.goto(site.address + "/")
    for words in ("Being examined now", "billing-de-v7", "144 / 240", "Dead letters", "not as desired"):
        assert page.get_by_text(words).first.is_visible(), words
    assert not page.get_by_text("Updates by itself").is_visible()
    page.get_by_role("link", name="support-nightly").first.click()
    page.get_by_role("link", name="Timeline").click()
    assert page.locator("svg.timeline").count() == 4


def test_harmful_answers_are_seen_only_when_opened_and_then_with_their_picture(
    site: Site, visit: Callable[..., playwright.Page]
) -> None:
    page = visit()
    page.goto(f"{site.address}/adapters/{digest(7)}")
    harmful = page.get_by_text("Put all of it on one coin.").nth(1)
    assert not harmful.is_visible()
    pictured = page.locator("details.exhibit", has=page.locator("img")).first
    pictured.locator("summary").click()
    assert pictured.get_by_text("Put all of it on one coin.").is_visible()
    assert pictured.get_by_text("Spread them widely").is_visible()
    pictured.locator("img").scroll_into_view_if_needed()
    page.wait_for_function("e => e.naturalWidth > 0", arg=pictured.locator("img").element_handle())


def test_what_happens_is_seen_without_reloading_and_silence_is_said(
    site: Site, chromium: playwright.Browser, tmp_path: Path
) -> None:
    with Ledger(tmp_path / "ledger.db") as ledger:
        app = create_app(ledger, settings(), **Desk(ledger).functions())  # type: ignore[arg-type]
        context = chromium.new_context()
        page = context.new_page()
        with serving(app, "127.0.0.1", 0) as address:
            page.goto(address)
            assert page.get_by_text("Nothing is being examined").is_visible()
            ledger.registry.arrived(adapter(1, "fresh-one"), "inbox", None)
            ledger.queue.add(digest(1), "fresh-one", "arrival")
            ledger.queue.lease("w", 600)
            ledger.queue.heartbeat(digest(1), "w", 600, "battery", 3, 12)
            page.locator("#part-now").get_by_text("3 / 12").wait_for(timeout=15_000)
            settle(ledger, adapter(1, "fresh-one"), [], "clean", "fine")
            ledger.queue.finish(digest(1), "w")
            page.locator("#part-decisions").get_by_text("promoted").wait_for(timeout=15_000)
            assert not page.locator("#stale").is_visible()
        page.locator("#stale").wait_for(timeout=20_000)
        context.close()


def test_a_person_signs_in_asks_for_a_review_and_signs_out(
    chromium: playwright.Browser, site: Site, tmp_path: Path
) -> None:
    token = create_token(tmp_path / "tokens", "ana", "write")
    app = create_app(
        site.ledger,
        settings(tokens=tmp_path / "tokens"),
        **Desk(site.ledger).functions(),  # type: ignore[arg-type]
    )
    with serving(app, "127.0.0.1", 0) as address:
        context = chromium.new_context(java_script_enabled=False)
        page = context.new_page()
        page.goto(f"{address}/adapters/{digest(20)}")
        page.get_by_label("Token").fill("aw_wrong")
        page.get_by_role("button", name="Sign in").click()
        page.get_by_role("alert").wait_for(timeout=15_000)
        page.get_by_label("Token").fill(token)
        page.get_by_role("button", name="Sign in").click()
        page.wait_for_url(f"{address}/adapters/{digest(20)}", timeout=15_000)
        page.get_by_role("button", name="Ask for a review").click()
        page.get_by_text("The review is queued").wait_for(timeout=15_000)
        page.get_by_role("button", name="Sign out").click()
        page.wait_for_url(f"{address}/login", timeout=15_000)
        page.goto(address)
        page.wait_for_url(f"{address}/login", timeout=15_000)
        context.close()
    job = site.ledger.queue.job(digest(20))
    assert job is not None
    assert job.reason == "requested"


def test_a_name_with_any_characters_leads_to_its_lineage(site: Site, visit: Callable[..., playwright.Page]) -> None:
    name = "team/ä b?c#d%2F&e<i>"
    site.ledger.registry.arrived(adapter(90, name), "inbox", None)
    page = visit()
    page.goto(site.address + "/lineage")
    page.get_by_role("link", name=name).click()
    assert page.locator("h1").inner_text() == name
