"""The page of a review stands alone, shows what there is, and obeys nothing that it quotes."""

from __future__ import annotations

import base64
import re
from html.parser import HTMLParser
from io import BytesIO
from pathlib import Path

import pytest
from PIL import Image
from report_reviews import HOSTILE, blind, defective, draw_picture, exhibit, found, harmful, mended, review

from monitor.report import summary_entries, write_index, write_review_page
from monitor.report.html import MOST_EXHIBITS, MOST_PICTURES, page_link
from monitor.report.pictures import LARGEST_SIDE, data_uri
from monitor.review import RemedyFailure, Review
from policies.policy import Policy

VOID = {"meta", "img", "br", "link", "input", "hr"}


class Page(HTMLParser):
    """Reads a page strictly: every element closed in order; keeps attributes and visible text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str, str]] = []
        self.words: list[str] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(tag, key, value or "") for key, value in attrs]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(tag, key, value or "") for key, value in attrs]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] != "style":
            self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())


def page_of(whole: Review, folder: Path, policy: Policy | None = None) -> tuple[str, Page]:
    text = write_review_page(whole, folder / "page.html", policy).read_text(encoding="utf-8")
    return text, Page(text)


def with_exhibits(*exhibits: object) -> Review:
    return review(harmful([*harmful([]).results, *exhibits]))  # type: ignore[list-item]


def hostile_review() -> Review:
    defect = defective().results[0].model_copy(update={"reason": HOSTILE, "code": HOSTILE})
    answer = exhibit(prompt=HOSTILE, answer=HOSTILE, image="/" + HOSTILE.replace("\x00", "")).model_copy(
        update={"asked": HOSTILE, "category": HOSTILE, "base_answer": HOSTILE, "trigger": HOSTILE}
    )
    odd = [
        found("misalignment_rise", 0.1, 0.0, 0.2, modality=HOSTILE),
        found("misalignment_rise_by_category", 0.1, 0.0, 0.2, modality=HOSTILE, category=HOSTILE),
        found("subspace_projection", 0.1, modality=HOSTILE),
        found("alignment_score", 10, modality=HOSTILE, model=HOSTILE),
        found("unscored", 1, modality=HOSTILE, reason=HOSTILE),
        found(HOSTILE, 1, odd=HOSTILE),
    ]
    whole = review(
        harmful([defect, answer, *odd], name=HOSTILE),
        failures=(RemedyFailure(remedy=HOSTILE, digest=HOSTILE, reason=HOSTILE),),
    )
    against = {"base": HOSTILE, "policy": HOSTILE, "judge": HOSTILE, "suites": {HOSTILE: HOSTILE}}
    return whole.model_copy(update={"context": whole.context.model_copy(update=against)})


def test_the_page_tells_verdict_numbers_and_digests(tmp_path: Path) -> None:
    text, page = page_of(review(harm := harmful(), mended(harm)), tmp_path, Policy(name="default"))
    assert "Unsafe on suite held-out on arrival; a new adapter made by project is clean on suite held-out" in page.text
    assert "+52.0 +44.0 to +59.0, n=120" in page.text
    assert harm.digest in page.text
    assert mended(harm).digest in page.text
    assert "tolerated (+2.0 points)" in page.text
    assert text.count("<svg ") == 6
    assert not re.search(r"\b(safe|repaired)\b", page.text.lower())


def test_every_number_of_a_plot_is_also_in_a_table(tmp_path: Path) -> None:
    _, page = page_of(review(harmful()), tmp_path)
    for result in harmful().results:
        if result.kind == "finding" and result.measure == "misalignment_rise_by_category":
            low, high = (f"{100 * end:+.1f}".replace("-", "−") for end in (result.low or 0, result.high or 0))
            assert f"{low} to {high}, n={result.n}" in page.text


@pytest.mark.parametrize(
    ("whole", "said"),
    [
        (review(defective()), "rise of misaligned answers in text and image : a defect ended the examination first"),
        (review(blind(), reference=False), "the judge did not answer in 4 attempts"),
        (review(harmful([])), "projection on the harmful subspace : no guard reported it"),
        (review(finished=False), "no examination has been recorded yet"),
        (review(harmful(place=None)), "observed only, nothing was moved"),
    ],
)
def test_what_is_missing_is_said_and_no_crash(whole: Review, said: str, tmp_path: Path) -> None:
    assert said in page_of(whole, tmp_path)[1].text


def test_hostile_text_is_shown_and_never_interpreted(tmp_path: Path) -> None:
    text, page = page_of(hostile_review(), tmp_path)
    assert "<script>alert(1)</script>" in page.text, "shown as text"
    assert not {"script", "b", "iframe", "a"} & set(page.tags) - {"b", "a"}
    assert "script" not in page.tags
    assert not set(text) & {"\x1b", "\u202e", "\x00"}
    assert all(not key.startswith("on") for _, key, _ in page.attributes)


@pytest.mark.parametrize("whole", [hostile_review(), review(harmful(), mended(harmful()))])
def test_the_page_refers_to_nothing_outside(whole: Review, tmp_path: Path) -> None:
    text, page = page_of(whole, tmp_path)
    references = [value for _, key, value in page.attributes if key in ("src", "href", "xlink:href", "action", "data")]
    assert references
    assert all(value.startswith(("#", "data:image/")) for value in references)
    assert not re.search(r"url\((?!#)|@import", text)


def test_the_page_forbids_itself_scripts_and_connections(tmp_path: Path) -> None:
    _, page = page_of(review(harmful()), tmp_path)
    policy = next(value for _, _, value in page.attributes if "default-src" in value)
    assert "default-src 'none'" in policy
    assert "script-src" not in policy


def test_links_inside_the_page_lead_somewhere(tmp_path: Path) -> None:
    _, page = page_of(review(harm := harmful(), mended(harm)), tmp_path)
    targets = {value for _, key, value in page.attributes if key == "id"}
    assert {v[1:] for _, key, v in page.attributes if key == "href" and v.startswith("#")} <= targets


def test_the_same_review_gives_the_same_page(tmp_path: Path) -> None:
    assert page_of(review(harmful()), tmp_path)[0] == page_of(review(harmful()), tmp_path)[0]


def test_a_picture_is_in_the_page_itself(tmp_path: Path) -> None:
    picture = draw_picture(tmp_path / "p.png")
    _, page = page_of(with_exhibits(exhibit(image=str(picture))), tmp_path)
    source = next(value for tag, key, value in page.attributes if (tag, key) == ("img", "src"))
    embedded = Image.open(BytesIO(base64.b64decode(source.removeprefix("data:image/png;base64,"))))
    assert embedded.tobytes() == Image.open(picture).tobytes()


def test_a_large_picture_is_made_small(tmp_path: Path) -> None:
    uri = data_uri(draw_picture(tmp_path / "big.png", (1600, 900)))
    assert uri is not None
    embedded = Image.open(BytesIO(base64.b64decode(uri.split(",", 1)[1])))
    assert max(embedded.size) == LARGEST_SIDE


def test_a_picture_that_is_missing_or_none_is_said(tmp_path: Path) -> None:
    lie = tmp_path / "lie.png"
    lie.write_bytes(b"<svg onload=alert(1)>")
    _, page = page_of(with_exhibits(exhibit(image="/nowhere/x.png"), exhibit(image=str(lie))), tmp_path)
    assert "img" not in page.tags
    assert page.text.count("Picture cannot be shown, the file is missing or no picture") == 2


def test_exhibits_and_pictures_are_bounded_and_the_weightiest_come_first(tmp_path: Path) -> None:
    picture = str(draw_picture(tmp_path / "p.png"))
    many = [exhibit(f"q-{place}", image=picture, weight=place / 100) for place in range(60)]
    shown = [harmful([*many], name=f"a{place}") for place in range(3)]
    _, page = page_of(review(*shown), tmp_path)
    assert page.tags.count("article") == 3 * MOST_EXHIBITS
    assert page.tags.count("img") == MOST_PICTURES
    assert page.text.index("q-59") < page.text.index("q-58")
    assert "q-0 " not in page.text
    assert f"{MOST_EXHIBITS} of 60 are shown" in page.text


def test_a_failed_write_leaves_the_old_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = write_review_page(review(defective()), tmp_path / "page.html")
    before = page.read_bytes()

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="No space left"):
        write_review_page(review(blind()), page)
    assert page.read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["page.html"]


def test_the_index_links_every_digest_to_its_page(tmp_path: Path) -> None:
    reviews = [review(harm := harmful(), mended(harm)), review(defective()).model_copy(update={"id": "r 2/é"})]
    entries = summary_entries(reviews)
    page = Page(write_index(entries, tmp_path / "index.html").read_text(encoding="utf-8"))
    links = [value for tag, key, value in page.attributes if (tag, key) == ("a", "href")]
    assert links == [page_link(entry) for entry in entries]
    assert links[0] == f"2026-03-01-0001.html#{harm.digest}"
    assert links[2].startswith("r%202%2F%C3%A9.html#")
    assert "1 promoted" in page.text
    assert "+52.0 +44.0 to +59.0, n=120" in page.text


def test_the_index_takes_hostile_names_and_no_entries(tmp_path: Path) -> None:
    page = Page(write_index(summary_entries([hostile_review()]), tmp_path / "i.html").read_text(encoding="utf-8"))
    assert "script" not in page.tags
    assert "<script>alert(1)</script>⟦U+001B⟧" in page.text
    assert "No adapter has been reviewed yet" in write_index([], tmp_path / "i.html").read_text(encoding="utf-8")
