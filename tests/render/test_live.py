"""Live progress: final terminal content, and width of every frame."""

from __future__ import annotations

import io

import pytest

from resolver.core.results.pull_events import Advanced
from resolver.render.live import Live
from tests.kit.terminal import Screen
from tests.render.test_progress import EVENTS, FIRST, MB, START


@pytest.fixture(params=[40, 80, 200])
def width(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    columns: int = request.param
    monkeypatch.setenv("COLUMNS", str(columns))
    monkeypatch.setenv("LINES", "24")
    return columns


def test_live_display_leaves_whole_lines_and_the_cursor(width: int) -> None:
    stream = io.StringIO()
    screen = Screen(width)

    with Live(stream) as live:
        for event in EVENTS:
            live(event)
            live._live.refresh()
    screen.feed(stream.getvalue())

    assert screen.cursor_shown
    # Without blanks: a narrow terminal may wrap a line at one.
    left = (
        "1.0: Pulling from docker.io/library/app (linux/arm64/v8)",
        "c20dea4d876b: Already exists",
        "a7937b64b8ca: Pull complete",
        "16367aacb67a: Pull complete",
        "656771905e1e: Skipped foreign layer, 500 MB",
    )
    assert "".join(screen.lines()).replace(" ", "") == "".join(left).replace(" ", "")


def test_live_frame_never_wraps(width: int) -> None:
    stream = io.StringIO()
    with Live(stream) as live:
        for event in EVENTS[:8]:
            live(event)
            live._live.refresh()
        seen = Screen(width)
        seen.feed(stream.getvalue())

    moving = [line for line in seen.lines() if "Downloading" in line]
    assert len(moving) == 2
    assert all(len(line) < width for line in moving)


def test_live_warning_stays_above_the_frame() -> None:
    stream = io.StringIO()
    with Live(stream) as live:
        for event in EVENTS[:4]:
            live(event)
        live.write("warning: something\n")
        live(Advanced(FIRST.descriptor.digest, MB, 5 * MB, 10 * MB))
        live._live.refresh()
        screen = Screen()
        screen.feed(stream.getvalue())

    assert screen.lines().index("warning: something") < len(screen.lines()) - 1
    assert [line for line in screen.lines() if "[bold]" in line] == []


def test_live_display_restores_the_terminal_after_an_error() -> None:
    stream = io.StringIO()

    def broken() -> None:
        with Live(stream) as live:
            for event in EVENTS[:4]:
                live(event)
            live._live.refresh()
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        broken()
    screen = Screen()
    screen.feed(stream.getvalue())
    assert screen.cursor_shown
    assert len(screen.lines()) == 2


def test_live_display_uses_no_colour() -> None:
    stream = io.StringIO()
    with Live(stream) as live:
        live(START)
        live._live.refresh()

    assert "\x1b[3" not in stream.getvalue()


def test_live_display_does_not_scroll_with_more_layers_than_rows(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("LINES", "3")
    stream = io.StringIO()
    with Live(stream) as live:
        for event in EVENTS[:7]:
            live(event)
        stream.truncate(0)
        stream.seek(0)
        live._live.refresh()
        assert stream.getvalue().count("\n") <= 3
