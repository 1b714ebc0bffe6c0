"""A pull on a real terminal: live progress, final lines, and interrupts."""

from __future__ import annotations

import json
import queue
import random
import re
import signal
from typing import TYPE_CHECKING

import pytest
from inline_snapshot import snapshot

from tests.kit.images import Image, build_image
from tests.kit.processes import command
from tests.kit.registry import FakeRegistry, Reply
from tests.kit.terminal import Terminal, on_terminal

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.cli.conftest import Run
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
    assert re.fullmatch(r"Total: 1\.[0-9]+ MB of 4\.00 MB, [2-9][0-9]%, .*", moving[2])
    assert moving[2].endswith("1 of 2 layers done")
    assert re.fullmatch(r"LARGE: Downloading \[=*>? *\]  .*/3\.00 MB.*", moving[3])
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


# Widths and colours

#: As long as an address of the sample registry, so that columns are the same in every run.
_HOST = "registry.sample"
_ANSWERS = {
    "platforms": ("platforms", "{at}/demo/app:1.0"),
    "inspect": ("inspect", "{at}/demo/app:1.0", "-p", "linux/arm64"),
    "ls": ("ls",),
    "plan": ("plan", "{at}/demo/app:1.0", "{at}/demo/app:2.0", "-p", "windows/*"),
    "batch": ("resolve", "{at}/demo/app:1.0", "{at}/demo/none:1", "-p", "linux/amd64,windows/*"),
    "compare": ("compare", "{at}/demo/app:1.0", "{at}/demo/app:2.0"),
}


@pytest.fixture
def held(run: Run, registry: str) -> str:
    """The sample registry, with one image pulled."""
    run("pull", f"{registry}/demo/app:1.0", "-p", "linux/arm64")
    return registry


def shown(at: str, name: str, columns: int | None, *extra: str) -> str:
    words = [word.format(at=at) for word in _ANSWERS[name]]
    if columns is None:
        return command(*words, *extra).stdout.decode().replace(at, _HOST)
    return on_terminal(*words, *extra, columns=columns).replace(at, _HOST)


def uncoloured(text: str) -> str:
    return re.sub(r"\x1b\[[0-9;]*m", "", text)


@pytest.mark.parametrize("columns", [40, 80, 120, 200, None])
@pytest.mark.parametrize("name", _ANSWERS)
def test_names_are_whole_at_every_width(held: str, name: str, columns: int | None) -> None:
    assert len(held) == len(_HOST)
    text = uncoloured(shown(held, name, columns))
    whole = shown(held, name, None)

    assert "…" not in text
    repository = f"{_HOST}/demo/app"
    assert text.count(repository) == whole.count(repository)
    for platform in ("linux/arm64/v8", "windows/amd64:10.0.26100.1742"):
        assert text.count(platform) == whole.count(platform)


@pytest.mark.parametrize("columns", [80, 120, 200])
@pytest.mark.parametrize("name", _ANSWERS)
def test_lines_fit_the_terminal(held: str, name: str, columns: int) -> None:
    text = uncoloured(shown(held, name, columns))
    # The label and the value of a fact are never broken.
    lines = [line for line in text.splitlines() if not re.match("[a-z ]{9}", line)]

    assert max(map(len, lines)) <= columns


@pytest.mark.parametrize("name", _ANSWERS)
def test_wide_terminal_and_pipe_show_the_same(held: str, name: str) -> None:
    assert uncoloured(shown(held, name, 250)) == shown(held, name, None)


@pytest.mark.parametrize("name", _ANSWERS)
def test_no_trunc_on_a_narrow_terminal_shows_what_a_pipe_shows(held: str, name: str) -> None:
    narrow = uncoloured(shown(held, name, 50, "--no-trunc"))
    assert narrow == shown(held, name, None, "--no-trunc")


def test_columns_variable_sets_the_width(held: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    wide = shown(held, "ls", 40)
    monkeypatch.setenv("COLUMNS", "40")

    assert len(wide.splitlines()) == 2
    assert shown(held, "ls", 200).splitlines()[0] == f"repository  {_HOST}/demo/app"


def test_table_on_terminals_of_several_widths(held: str) -> None:
    assert uncoloured(shown(held, "ls", 80)) == snapshot("""\
REPOSITORY                TAG  IMAGE ID    PLATFORMS  CREATED       SIZE  SHARED
registry.sample/demo/app  1.0  640d34e29c     1/5 +1  2024-05-01  191 kB     0 B
""")
    assert uncoloured(shown(held, "ls", 120)) == snapshot("""\
REPOSITORY                TAG  IMAGE ID      PLATFORMS  CREATED       SIZE  SHARED
registry.sample/demo/app  1.0  640d34e29cdf     1/5 +1  2024-05-01  191 kB     0 B
""")
    assert uncoloured(shown(held, "ls", 59)) == snapshot("""\
repository  registry.sample/demo/app
tag         1.0
image id    640d34e29cdf
platforms   1/5 +1
created     2024-05-01
size        191 kB
shared      0 B
""")
    assert uncoloured(shown(held, "batch", 80)) == snapshot("""\
sha256:311923c08153b9d107c1  linux/amd64                    exact
    registry.sample/demo/app:1.0
sha256:afae86adc642d34dbfb2  windows/amd64:10.0.20348.2700  exact
    registry.sample/demo/app:1.0
sha256:8322b11c5bf7ceca7720  windows/amd64:10.0.26100.1742  exact
    registry.sample/demo/app:1.0
error: repository-not-found  linux/amd64,windows/*          -
    registry.sample/demo/none:1
""")
    assert uncoloured(shown(held, "platforms", 40)) == snapshot("""\
image    registry.sample/demo/app:1.0
index    sha256:f62fb544ff3da135d80cbd5f3898da060dcde3fdfec843495609fdaed57dbfda

platform  linux/amd64
digest    sha256:311923c08153
layers    3
size      184 kB

platform  linux/arm64/v8
digest    sha256:8d3661f10977
layers    3
size      184 kB

platform  linux/arm/v7
digest    sha256:e9c938fb2564
layers    3
size      184 kB

platform  windows/amd64:10.0.20348.2700
digest    sha256:afae86adc642
layers    2
size      102 kB

platform  windows/amd64:10.0.26100.1742
digest    sha256:8322b11c5bf7
layers    2
size      102 kB
""")


def test_rows_in_a_pipe_can_be_split_into_columns(held: str) -> None:
    for name in ("platforms", "ls", "compare"):
        for block in shown(held, name, None).split("\n\n"):
            rows = block.splitlines()
            if rows[0].isupper() or (len(rows) > 1 and rows[1].isupper()):
                heading, *body = rows if rows[0].isupper() else rows[1:]
                count = len(re.split("  +", heading.strip()))
                assert {len(re.split("  +", row.strip())) for row in body} == {count}


@pytest.mark.parametrize(
    ("words", "variables", "pipe", "terminal"),
    [
        ((), {}, False, True),
        ((), {"NO_COLOR": "1"}, False, False),
        ((), {"NO_COLOR": ""}, False, True),
        ((), {"FORCE_COLOR": "1"}, True, True),
        ((), {"FORCE_COLOR": "1", "NO_COLOR": "1"}, False, False),
        ((), {"TERM": "dumb"}, False, False),
        (("--color", "always"), {"NO_COLOR": "1"}, True, True),
        (("--color", "never"), {"FORCE_COLOR": "1"}, False, False),
        (("--color", "auto"), {}, False, True),
    ],
)
def test_colours_are_for_terminals_unless_asked_for(
    held: str,
    monkeypatch: pytest.MonkeyPatch,
    words: tuple[str, ...],
    variables: dict[str, str],
    *,
    pipe: bool,
    terminal: bool,
) -> None:
    monkeypatch.setenv("TERM", "xterm")
    for name in ("NO_COLOR", "FORCE_COLOR"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)

    assert ("\x1b[36mlinux/arm64/v8\x1b[0m" in shown(held, "platforms", 80, *words)) == terminal
    assert ("\x1b" in shown(held, "platforms", None, *words)) == pipe
    assert "\x1b" not in shown(held, "platforms", 80, *words, "--json")


def test_unknown_value_of_color_is_refused(run: Run) -> None:
    seen = run("ls", "--color", "sometimes")

    assert seen.status == 2
    assert "choose one of auto, always, never" in seen.stderr


def test_answer_in_a_file_has_no_colours(
    held: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    file = tmp_path / "answer"

    assert shown(held, "platforms", 40, "-o", str(file)) == ""
    assert file.read_text("utf-8").replace(held, _HOST) == uncoloured(
        shown(held, "platforms", None)
    )


def test_labels_of_messages_are_coloured_and_a_difference_is_no_error(held: str) -> None:
    words = ("compare", f"{held}/demo/app:1.0", f"{held}/demo/app:2.0")
    with Terminal(*words) as terminal:
        status, _ = terminal.end()

    assert status == 1
    assert "\x1b[31mdifference:\x1b[0m" in terminal.raw
    assert "error" not in terminal.raw
    with Terminal(*words, NO_COLOR="1") as plainly:
        plainly.end()
    assert plainly.raw.startswith("difference: ")


_CLOCK = re.compile(r"[0-9:-]+ [0-9:]+ UTC")
_LINES = {
    "check": ("check", "{at}/demo/app:1.0", "--require", "linux/arm/v6,linux/s390x"),
    "lint": ("lint", "{at}/demo/liar:1.0"),
    "doctor": ("doctor", "--mirror", "docker.io=https://mirror.example.com/a-path-to/dockerhub"),
}


@pytest.mark.parametrize("columns", [60, 80])
@pytest.mark.parametrize("name", _LINES)
def test_sentences_wrap_on_a_terminal_and_not_in_a_pipe(
    held: str, name: str, columns: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    words = [word.format(at=held) for word in _LINES[name]]
    pipe = _CLOCK.sub("", command(*words, environment={"NO_COLOR": "1"}).stdout.decode())
    text = _CLOCK.sub("", on_terminal(*words, columns=columns, NO_COLOR="1"))

    assert " ".join(text.split()) == " ".join(pipe.split())
    assert len(text.splitlines()) > len(pipe.splitlines())
    # Only a name that is longer than the line is not on it whole.
    assert all(len(line) <= columns or len(line.split()) == 1 for line in text.splitlines())
    assert {word for word in pipe.split() if "/" in word} == {
        word for word in text.split() if "/" in word
    }


def test_doctor_states_whether_colours_are_used_and_success_is_not_red(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    plainly = run("doctor", "--json").stdout
    monkeypatch.setenv("FORCE_COLOR", "1")
    forced = run("doctor").stdout
    whole = run("verify").stdout

    (row,) = (row for row in json.loads(plainly)["rows"] if row["name"] == "terminal")
    assert row["facts"]["colour"] is False
    assert row["found"].endswith("; no colours are used")
    assert "; colours are used" in forced
    assert "\x1b[32mok\x1b[0m" in forced
    assert "no problem found" in forced.splitlines()
    assert "result   no problem found" in whole.splitlines()


def test_batch_to_a_file_shows_its_progress(store: Path, tmp_path: Path) -> None:
    del store
    gate: queue.SimpleQueue[None] = queue.SimpleQueue()
    image = build_image("linux/arm64", [b"layer"])
    body = image.body

    def held_back() -> Iterator[bytes]:
        gate.get()
        yield body

    with FakeRegistry() as host:
        for tag in ("1", "2"):
            host.serve("app", tag, image)
        reply = Reply(
            headers={"Content-Type": image.media_type},
            chunks=held_back(),
            content_length=len(body),
        )
        host.on("GET", "/v2/app/manifests/2", reply, times=1)
        words = ("resolve", f"{host.host}/app:1", f"{host.host}/app:2", "-p", "linux/arm64")
        with Terminal(*words, "-o", str(tmp_path / "out")) as terminal:
            terminal.until(lambda screen: "resolving: 1 of 2 images, 50%" in screen.lines()[-1:])
            gate.put(None)
            status, _ = terminal.end()

    assert status == 0
    assert terminal.screen.lines() == ["note: resolved 2 of 2"]
    assert terminal.screen.cursor_shown
