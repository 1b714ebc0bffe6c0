"""A pull on a real terminal: live progress, final lines, and interrupts."""

from __future__ import annotations

import queue
import random
import re
import signal
from typing import TYPE_CHECKING

import pytest
from inline_snapshot import snapshot

from tests.kit.images import Image, build_image
from tests.kit.registry import FakeRegistry, Reply
from tests.kit.terminal import Terminal

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.kit.terminal import Screen

MB = 1_000_000
_MOVED = re.compile(r"[1-9][0-9.]* [kM]B/3\.00 MB")
_HEX = re.compile(r"[0-9a-f]{12}(?=: )")


class StalledPull:
    """A registry with an image of two layers, the larger of which stalls in the middle."""

    def __init__(self, registry: FakeRegistry) -> None:
        content = random.Random(7)
        self.image: Image = build_image(
            "linux/arm64", [content.randbytes(MB), content.randbytes(3 * MB)]
        )
        self._sizes: queue.SimpleQueue[int] = queue.SimpleQueue()
        self.name = f"{registry.host}/team/app:1"
        registry.serve("team/app", "1", self.image)
        self.small, self.large = sorted(self.image.blobs, key=lambda d: len(self.image.blobs[d]))[
            -2:
        ]
        size = len(self.image.blobs[self.large])
        reply = Reply(chunks=self._chunks(), content_length=size)
        registry.on("GET", f"/v2/team/app/blobs/{self.large}", reply, times=1)

    def _chunks(self) -> Iterator[bytes]:
        """Send the large layer up to the gate of the test."""
        body = self.image.blobs[self.large]
        sent = 0
        while sent < len(body):
            size = self._sizes.get()
            yield body[sent : sent + size]
            sent += size

    def go_on(self) -> None:
        """Send the rest of the large layer."""
        self._sizes.put(len(self.image.blobs[self.large]))

    def words(self) -> list[str]:
        return ["pull", self.name, "-p", "linux/arm64"]

    def is_under_way(self, screen: Screen) -> bool:
        """Whether the small layer is here and the large one moves; sends a bit more of it."""
        self._sizes.put(20_000)
        seen = "\n".join(screen.lines())
        return bool(_MOVED.search(seen)) and "Pull complete" in seen


@pytest.fixture
def stage(store: object) -> Iterator[StalledPull]:
    del store
    with FakeRegistry() as registry:
        made = StalledPull(registry)
        yield made
        made.go_on()


def plain(screen: Screen, stage: StalledPull) -> list[str]:
    """Replace layer names and the address, so that the output is the same in every run."""
    names = {stage.small[7:19]: "SMALL", stage.large[7:19]: "LARGE"}
    host = stage.name.partition("/")[0]
    text = "\n".join(screen.lines()).replace(host, "HOST")
    return _HEX.sub(lambda match: names[match[0]], text).splitlines()


def test_terminal_progress_keeps_final_lines_and_clears_the_rest(stage: StalledPull) -> None:
    with Terminal(*stage.words()) as terminal:
        terminal.until(stage.is_under_way)
        moving = plain(terminal.screen, stage)
        stage.go_on()
        status, output = terminal.end()

    assert status == 0
    assert terminal.screen.cursor_shown
    assert moving[0] == "1: Pulling from HOST/team/app (linux/arm64)"
    assert moving[1] == "SMALL: Pull complete"
    assert re.fullmatch(r"LARGE: Downloading \[=*>? *\]  .*/3\.00 MB.*", moving[2])
    assert moving[3] == "1 of 2 layers done"
    assert plain(terminal.screen, stage) == snapshot(
        [
            "1: Pulling from HOST/team/app (linux/arm64)",
            "SMALL: Pull complete",
            "LARGE: Pull complete",
        ]
    )
    assert output.startswith("Platform: linux/arm64\nDigest: sha256:")


def test_interrupt_restores_the_terminal_and_keeps_content(stage: StalledPull) -> None:
    with Terminal(*stage.words()) as terminal:
        terminal.until(stage.is_under_way)
        terminal.process.send_signal(signal.SIGINT)
        status, output = terminal.end()

    assert (status, output) == (130, "")
    assert terminal.screen.cursor_shown
    assert "Traceback" not in terminal.raw
    shown = plain(terminal.screen, stage)
    assert shown[:2] == snapshot(
        ["1: Pulling from HOST/team/app (linux/arm64)", "SMALL: Pull complete"]
    )
    # How much of the large layer has arrived differs from run to run.
    assert re.fullmatch(
        r"note: [0-9.]+ MB is kept \(1 of 2 pieces complete\): "
        r"run the same command again to fetch the rest",
        "".join(shown[2:]),
    )

    stage.go_on()
    with Terminal(*stage.words()) as again:
        assert again.end()[0] == 0
    assert "SMALL: Already exists" in plain(again.screen, stage)


def test_sigterm_restores_the_terminal(stage: StalledPull) -> None:
    with Terminal(*stage.words()) as terminal:
        terminal.until(stage.is_under_way)
        terminal.process.send_signal(signal.SIGTERM)
        status, _ = terminal.end()

    assert status == 143
    assert terminal.screen.cursor_shown
    # The last frame may still be on its way when the signal comes.
    assert "\r\n\x1b[?25h" in terminal.raw


@pytest.mark.parametrize(
    ("words", "variables"),
    [((), {"CI": "true"}), ((), {"TERM": "dumb"}), (("--progress", "plain"), {})],
    ids=["CI", "dumb", "plain"],
)
def test_log_lines_on_a_terminal_contain_no_control_characters(
    stage: StalledPull, words: tuple[str, ...], variables: dict[str, str]
) -> None:
    stage.go_on()
    with Terminal(*stage.words(), *words, "--jobs", "1", **variables) as terminal:
        status, _ = terminal.end()

    assert status == 0
    assert "\x1b" not in terminal.raw
    assert plain(terminal.screen, stage) == snapshot(
        [
            "1: Pulling from HOST/team/app (linux/arm64)",
            "LARGE: Downloading 3.00 MB",
            "LARGE: Verifying",
            "LARGE: Pull complete",
            "SMALL: Downloading 1.00 MB",
            "SMALL: Verifying",
            "SMALL: Pull complete",
        ]
    )


def test_no_color_changes_nothing(stage: StalledPull) -> None:
    stage.go_on()
    with Terminal(*stage.words(), NO_COLOR="1") as terminal:
        status, _ = terminal.end()

    assert status == 0
    assert "\x1b[3" not in terminal.raw
    assert len(terminal.screen.lines()) == 3


@pytest.mark.parametrize("words", [("--no-progress",), ("--quiet",), ("--progress", "none")])
def test_quiet_and_progress_none_print_no_progress(
    stage: StalledPull, words: tuple[str, ...]
) -> None:
    stage.go_on()
    with Terminal(*stage.words(), *words) as terminal:
        status, output = terminal.end()

    assert (status, terminal.raw) == (0, "")
    assert "Status: Downloaded newer image" in output


def test_forced_progress_bars_are_drawn_in_a_pipe(stage: StalledPull) -> None:
    stage.go_on()
    with Terminal(*stage.words(), "--progress", "tty", CI="true") as terminal:
        status, _ = terminal.end()

    assert status == 0
    assert "\x1b[?25l" in terminal.raw
