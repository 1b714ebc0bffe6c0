"""HTML pages: one file, no requests, accessible."""

from __future__ import annotations

import base64
import hashlib
import re
from dataclasses import replace
from html.parser import HTMLParser
from itertools import pairwise
from typing import TYPE_CHECKING

import pytest

from resolver._version import __version__
from resolver.core.lint.findings import Finding, Severity
from resolver.core.lint.lint import Linted, LintedImage
from resolver.render import Page, render
from resolver.render.html.page import HEATS, POLICY, STYLE, Segment, bar, code, heat, text
from tests.kit.answers import STORE_ANSWERS
from tests.kit.comparisons import COMPARED, HOSTILE

if TYPE_CHECKING:
    from collections.abc import Iterator

PAGES = {name: render(answer, "html") for name, answer in {**STORE_ANSWERS, **COMPARED}.items()}
#: Elements without an end. Source: HTML Living Standard, 13.1.2, "Void elements".
VOID = {"meta", "link", "br", "wbr"}
#: Contrast of text with its ground. Source: WCAG 2.2, 1.4.3; of parts of pictures, 1.4.11.
TEXT, PICTURE = 4.5, 3.0


class Reader(HTMLParser):
    """Parses a page for the tests."""

    def __init__(self, page: str) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words = ""
        self.unbalanced: list[str] = []
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        if not self.open or self.open.pop() != tag:
            self.unbalanced.append(tag)

    def handle_data(self, data: str) -> None:
        self.words += data

    def all(self, *names: str) -> Iterator[dict[str, str | None]]:
        return (attributes for tag, attributes in self.tags if tag in names)


@pytest.fixture(params=PAGES, scope="module")
def page(request: pytest.FixtureRequest) -> Reader:
    return Reader(PAGES[request.param])


def test_html_elements_are_closed_and_ids_unique(page: Reader) -> None:
    names = [attributes["id"] for _tag, attributes in page.tags if "id" in attributes]

    assert page.unbalanced == []
    assert page.open == []
    assert len(set(names)) == len(names)


def test_html_runs_and_fetches_nothing(page: Reader) -> None:
    tags = {tag for tag, _attributes in page.tags}
    addresses = [
        value
        for _tag, attributes in page.tags
        for key, value in attributes.items()
        if key in {"href", "src", "srcset", "action", "data", "xlink:href"}
    ]

    assert tags.isdisjoint({"script", "img", "iframe", "object", "embed", "form", "base", "image"})
    assert all(value is not None and value.startswith(("#", "data:,")) for value in addresses)
    assert not any(key.startswith("on") for _tag, each in page.tags for key in each)
    assert not any("style" in attributes for _tag, attributes in page.tags)


def test_html_policy_allows_only_its_style(page: Reader) -> None:
    stated = [each["content"] for each in page.all("meta") if "http-equiv" in each]
    digest = base64.b64encode(hashlib.sha256(STYLE.encode()).digest()).decode()

    assert stated == [POLICY]
    assert POLICY.startswith("default-src 'none'; ")
    assert f"style-src 'sha256-{digest}'" in POLICY
    assert "unsafe" not in POLICY
    assert "url(" not in STYLE.replace("url(#hatch)", "")
    assert "@import" not in STYLE


def test_html_landmarks_headings_and_tables_are_labelled(page: Reader) -> None:
    tags = [tag for tag, _attributes in page.tags]
    levels = [int(tag[1]) for tag in tags if re.fullmatch("h[1-6]", tag)]

    assert [tags.count(name) for name in ("main", "header", "footer", "h1", "head")] == [1] * 5
    assert levels[0] == 1
    assert all(after - before <= 1 for before, after in pairwise(levels))
    assert tags.count("caption") == tags.count("table") == tags.count("thead")
    assert all(each.get("scope") in {"col", "row", "rowgroup"} for each in page.all("th"))
    assert next(page.all("html"))["lang"] == "en"


def test_html_scroll_areas_are_focusable_and_named(page: Reader) -> None:
    names = {attributes["id"] for _tag, attributes in page.tags if "id" in attributes}
    boxes = [each for each in page.all("div") if each.get("class") == "scroll"]

    assert all(each["tabindex"] == "0" and each["role"] == "region" for each in boxes)
    assert all(each["aria-labelledby"] in names for each in boxes)
    assert all(each["aria-labelledby"] in names for each in page.all("section"))
    targets = [each["href"] or "" for each in page.all("a")]
    assert all(target[1:] in names for target in targets)


def test_html_charts_have_text_descriptions(page: Reader) -> None:
    for attributes in page.all("svg"):
        assert attributes.get("aria-hidden") == "true" or attributes.get("aria-label")


@pytest.mark.parametrize("name", ["comparison", "two images"])
def test_html_escapes_foreign_text(name: str) -> None:
    seen = Reader(PAGES[name])

    assert "<script>alert(1)</script>&amp;`" in seen.words
    assert "a\\x1b[2J\\u202e" in seen.words
    assert "<script" not in PAGES[name]
    assert not {"\x1b", "\x07", "\u202e", "\u2028"} & set(PAGES[name])


def test_html_escapes_text_in_attributes() -> None:
    assert text("\"'<&\x1b") == "&quot;&#x27;&lt;&amp;\\x1b"
    assert code(HOSTILE).count("<") == 2


def luminance(colour: str) -> float:
    """Source: WCAG 2.2, "relative luminance"."""
    parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    linear = [
        part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts
    ]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: str, other: str) -> float:
    dark, light = sorted((luminance(one), luminance(other)))
    return (light + 0.05) / (dark + 0.05)


def schemes() -> dict[str, dict[str, str]]:
    light, dark = re.findall(r":root \{([^}]*)\}", STYLE)
    return {
        name: dict(re.findall(r"--([a-z0-9-]+): (#[0-9a-f]{6});", body))
        for name, body in (("light", light), ("dark", dark))
    }


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_html_text_has_contrast_on_every_background(scheme: str) -> None:
    colours = schemes()[scheme]
    heats = [f"heat-{step}" for step in range(HEATS)]
    pairs = [
        *(("text", ground) for ground in ("ground", "raised", *heats)),
        *(("quiet", ground) for ground in ("ground", "raised", "heat-0")),
        ("link", "ground"),
        ("alarm", "ground"),
    ]

    assert {pair for pair in pairs if contrast(*(colours[each] for each in pair)) < TEXT} == set()
    assert contrast(colours["own"], colours["ground"]) >= PICTURE
    assert contrast(colours["shared"], colours["ground"]) >= PICTURE


def test_html_colour_schemes_define_the_same_colours() -> None:
    found = schemes()

    assert found["light"].keys() == found["dark"].keys()


@pytest.mark.parametrize(
    ("part", "whole", "expected"),
    [(0, 9, 0), (0, 0, 0), (5, 0, 0), (1, 1_000, 1), (999, 1_000, 4), (1_000, 1_000, 5), (9, 1, 5)],
)
def test_html_heat_grows_with_the_share(part: int, whole: int, expected: int) -> None:
    assert heat(part, whole) == f"heat-{expected}"


def test_html_bar_is_as_long_as_its_pieces() -> None:
    drawn = bar(
        [Segment(25, is_shared=True, words="a"), Segment(50, is_shared=False, words="b")], 100, "x"
    )

    assert re.findall(r'x="([0-9.]+)%" width="([0-9.]+)%"', drawn) == [
        ("0.000", "25.000"),
        ("25.000", "50.000"),
    ]
    assert 'width="0%"' in bar([Segment(0, is_shared=True, words="a")], 0, "x")


def test_html_limits_the_number_of_paths(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("resolver.render.html.compare.MOST_PATHS", 3)

    assert "14 more are in `--format json`" in render(COMPARED["comparison"], "html")


def test_html_page_names_date_version_command_and_contents() -> None:
    made = Page(command="resolver compare <app>", date="2026-01-02 03:04 UTC")
    written = Reader(render(COMPARED["comparison"], "html", page=made))

    assert f"Made on 2026-01-02 03:04 UTC by resolver {__version__}: resolver compare <app>" in (
        written.words
    )
    contents = [each["href"] for each in written.all("a") if each["href"] != "#main"]
    sections = [f"#{each['id']}" for each in written.all("section")]
    assert contents == sections
    assert "Contents" in [each.get("aria-label") for each in written.all("nav")]


def test_html_cells_are_labelled_for_narrow_pages(page: Reader) -> None:
    assert all(each.get("data-label") for each in page.all("td"))


def test_html_findings_have_a_section_per_image_and_code_for_literals() -> None:
    finding = Finding("platform-missing", Severity.ERROR, "`linux/arm64` is not offered", "app:1")
    images = tuple(
        LintedImage(name, None, (), (replace(finding, subject=name),))
        for name in ("app:1", "app:2")
    )
    written = render(Linted(images), "html")

    assert "<h1>Lint: 2 images</h1>" in written
    assert [each["id"] for each in Reader(written).all("section")] == ["table-1", "table-2"]
    assert "<code>linux/arm64</code> is not offered" in written
    assert "`" not in Reader(written).words
