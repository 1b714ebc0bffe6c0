"""HTML pages in a real browser: layout, policy and keyboard operation."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from resolver.core.check.check import Requirements
from resolver.core.platforms.platform import Platform
from resolver.demo import samples
from resolver.render import render
from resolver.session import Session
from resolver.verbs.serve.api import MemoryShelf
from resolver.verbs.serve.server import serve
from tests.kit.comparisons import COMPARED
from tests.real.browser import ENTER, TAB, Browser, start
from tests.real.conftest import require

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.real

_REQUIRED = Requirements(require=(Platform("linux", "s390x"), Platform("linux", "riscv64")))
WIDE, NARROW = (1280, 900), (390, 844)
#: Boxes of their own, which may scroll, and what is in them.
OVERFLOWING = """
return [...document.querySelectorAll("body *")]
  .filter(each => !each.closest(".scroll, .unseen, .skip"))
  .filter(each => each.getBoundingClientRect().right > document.documentElement.clientWidth + 1)
  .map(each => each.outerHTML.slice(0, 120))
"""
#: Tables with a column that only scrolling shows.
CUT = """
return [...document.querySelectorAll(".scroll")]
  .filter(each => each.scrollWidth > each.clientWidth)
  .map(each => each.textContent.slice(0, 120))
"""
PLACE = """
const each = document.activeElement;
const all = [...document.querySelectorAll("summary, .scroll, a")];
return [each.tagName, all.indexOf(each)];
"""


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    require({"chromium": "chromium", "chromedriver": "chromium-driver"})
    running = start(tmp_path_factory.mktemp("profile"))
    try:
        # The tab that Chromium opens by itself requests a page.
        running.open("about:blank")
        running.requests()
        yield running
    finally:
        running.stop()


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Write the comparison of the sample images and of hostile ones."""
    folder = tmp_path_factory.mktemp("pages")
    with serve(MemoryShelf(samples())) as server, Session(folder / "store") as session:
        name = f"{server.address}/demo/app"
        answers = {
            "one": session.compare(f"{name}:1.0", files=True),
            "two": session.compare_images(f"{name}:1.0", f"{name}:2.0", files=True),
            "offers": session.platforms(f"{name}:1.0"),
            "lint": session.lint([f"{name}:1.0", f"{server.address}/demo/liar:1.0"]),
            "check": session.check([f"{name}:1.0", f"{name}:2.0"], _REQUIRED),
            "plan": session.plan([f"{name}:1.0", f"{name}:2.0"], ["linux/arm64", "linux/amd64"]),
            **{key: COMPARED[key] for key in ("comparison", "comparison of many", "two images")},
        }
    written = {}
    for key, answer in answers.items():
        written[key] = folder / f"{key.replace(' ', '-')}.html"
        written[key].write_text(render(answer, "html"), "utf-8")
    return written


NAMES = (
    "one", "two", "offers", "lint", "check", "plan", "comparison", "comparison of many",
    "two images",
)  # fmt: skip


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("screen", [WIDE, NARROW], ids=["wide", "narrow"])
@pytest.mark.parametrize("name", NAMES)
def test_html_page_fits_the_screen_without_errors_or_requests(
    browser: Browser,
    pages: dict[str, Path],
    tmp_path: Path,
    name: str,
    screen: tuple[int, int],
    scheme: str,
) -> None:
    browser.show_as(*screen, scheme)
    browser.requests()
    browser.open(pages[name].as_uri())
    browser.run("document.querySelectorAll('details').forEach(each => each.open = true)")

    assert browser.run("return document.documentElement.scrollWidth") <= screen[0]
    assert browser.run(OVERFLOWING) == []
    assert browser.run(CUT) == []
    assert browser.complaints() == []
    assert browser.requests() == [pages[name].as_uri()]
    assert browser.run("return document.styleSheets.length") == 1
    browser.screenshot(tmp_path / "page.png")
    assert (tmp_path / "page.png").read_bytes().startswith(b"\x89PNG")


def test_html_follows_the_colour_scheme_of_the_browser(
    browser: Browser, pages: dict[str, Path]
) -> None:
    grounds = {}
    for scheme in ("light", "dark"):
        browser.show_as(*WIDE, scheme)
        browser.open(pages["one"].as_uri())
        grounds[scheme] = browser.run(
            "return getComputedStyle(document.documentElement).backgroundColor"
        )

    assert grounds == {"light": "rgb(255, 255, 255)", "dark": "rgb(20, 24, 29)"}


@pytest.mark.parametrize("name", ["one", "two images"])
def test_html_is_operable_by_keyboard(browser: Browser, pages: dict[str, Path], name: str) -> None:
    browser.show_as(*NARROW, "light")
    browser.open(pages[name].as_uri())
    count = browser.run("return document.querySelectorAll('summary').length")
    folded = browser.run("return document.querySelectorAll('details:not([open])').length")
    assert count > folded > 0

    reached = set()
    for _ in range(400):
        browser.press(TAB)
        tag, position = browser.run(PLACE)
        if tag == "BODY" or (tag, position) in reached:
            break
        reached.add((tag, position))
        if tag == "SUMMARY" and not browser.run("return document.activeElement.parentElement.open"):
            browser.press(ENTER)

    assert sum(tag == "SUMMARY" for tag, _position in reached) == count
    assert browser.run("return document.querySelectorAll('details:not([open])').length") == 0
    boxes = browser.run("return document.querySelectorAll('.scroll').length")
    assert sum(tag == "DIV" for tag, _position in reached) == boxes


def test_html_focus_is_visible(browser: Browser, pages: dict[str, Path]) -> None:
    browser.show_as(*WIDE, "light")
    browser.open(pages["one"].as_uri())
    browser.press(TAB)

    style = browser.run(
        "const style = getComputedStyle(document.activeElement);"
        "return [document.activeElement.className, style.outlineStyle, style.position]"
    )

    assert style == ["skip", "solid", "static"]


def test_html_escapes_hostile_text(browser: Browser, pages: dict[str, Path]) -> None:
    browser.open(pages["comparison"].as_uri())

    assert browser.run("return document.querySelectorAll('script').length") == 0
    assert "<script>alert(1)</script>" in browser.run("return document.body.textContent")
