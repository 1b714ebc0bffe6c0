"""Progress of a pull as lines, as JSON and as bars: text, escapes, widths and numbers."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from inline_snapshot import snapshot

from resolver.core.oci.descriptor import Descriptor
from resolver.core.oci.digest import Digest
from resolver.core.platforms.platform import Platform
from resolver.core.results.events import Counted
from resolver.core.results.plan import ContentState, Piece
from resolver.core.results.pull_events import (
    Advanced,
    Finished,
    ImageDone,
    PieceStarted,
    PieceVerifying,
    Restarted,
    Resumed,
    Reused,
    Skipped,
    Started,
    Waiting,
)
from resolver.render.progress import (
    QUIET,
    Board,
    JsonLines,
    LineProgress,
    Tally,
    json_line,
    short_name,
)
from tests.kit.ci_systems import azure_commands

if TYPE_CHECKING:
    from collections.abc import Sequence

    from resolver.core.results.events import Event
    from resolver.core.results.plan import Role

MB = 1_000_000


def piece(
    name: str, size: int, role: Role = "layer", state: ContentState = ContentState.MISSING
) -> Piece:
    descriptor = Descriptor("application/x", Digest.of(name.encode()), size)
    return Piece(descriptor, role, state, None, 0)


HELD = piece("held", 3 * MB, state=ContentState.HELD)
FIRST = piece("first", 10 * MB)
SECOND = piece("second", 20 * MB)
FOREIGN = piece("foreign", 500 * MB, state=ContentState.FOREIGN)
CONFIG = piece("config", 900, "config")
PIECES = (HELD, FIRST, SECOND, FOREIGN, CONFIG)
START = Started("docker.io/library/app:1.0", Platform("linux", "arm64", "v8"), PIECES)


def moved(one: Piece, size: int, done: int) -> Advanced:
    return Advanced(one.descriptor.digest, size, done, one.descriptor.size)


EVENTS: tuple[Event, ...] = (
    START,
    Reused(HELD.descriptor.digest, 3 * MB, ""),
    PieceStarted(FIRST.descriptor.digest, 10 * MB),
    moved(FIRST, 4 * MB, 4 * MB),
    PieceStarted(SECOND.descriptor.digest, 20 * MB),
    Resumed(SECOND.descriptor.digest, 5 * MB),
    moved(SECOND, MB, 6 * MB),
    moved(FIRST, 6 * MB, 10 * MB),
    PieceVerifying(FIRST.descriptor.digest),
    Finished(FIRST.descriptor.digest, 10 * MB),
    Restarted(SECOND.descriptor.digest, "other bytes came"),
    moved(SECOND, 20 * MB, 20 * MB),
    PieceVerifying(SECOND.descriptor.digest),
    Finished(SECOND.descriptor.digest, 20 * MB),
    Skipped(FOREIGN.descriptor.digest, 500 * MB, ("https://example.com/layer",)),
    PieceStarted(CONFIG.descriptor.digest, 900),
    Finished(CONFIG.descriptor.digest, 900),
    ImageDone("docker.io/library/app:1.0", Digest.of(b"root"), "downloaded"),
)


class Clock:
    """A clock that moves only when set."""

    now = 100.0

    def __call__(self) -> float:
        return self.now


def lines(events: Sequence[Event]) -> str:
    output: list[str] = []
    tell = LineProgress(output.append, Clock())
    for event in events:
        tell(event)
    return "".join(output)


def test_waiting_for_another_process_prints_a_line_without_a_bar() -> None:
    waiting = Waiting(FIRST.descriptor.digest)
    board = Board(Clock())
    board.note(START)
    board.note(waiting)

    assert (
        lines([waiting]) == f"{short_name(FIRST.descriptor.digest)}: Waiting for another process\n"
    )
    assert (
        board.lines(80)[1] == f"{short_name(FIRST.descriptor.digest)}: Waiting for another process"
    )
    assert json.loads(json_line(waiting)) == {
        "event": "waiting",
        "digest": str(FIRST.descriptor.digest),
    }
    board.note(PieceStarted(FIRST.descriptor.digest, 10 * MB))
    assert "Downloading" in board.lines(80)[1]


def test_log_progress_has_a_line_per_event_like_docker() -> None:
    assert lines(EVENTS) == snapshot("""\
1.0: Pulling from docker.io/library/app (linux/arm64/v8)
c20dea4d876b: Already exists
a7937b64b8ca: Downloading 10.0 MB
16367aacb67a: Downloading 20.0 MB
16367aacb67a: Resuming, 5.00 MB already here
a7937b64b8ca: Verifying
a7937b64b8ca: Pull complete
16367aacb67a: Downloading from the start again: other bytes came
16367aacb67a: Verifying
16367aacb67a: Pull complete
656771905e1e: Skipped foreign layer, 500 MB
""")


def test_log_progress_repeats_during_a_long_download() -> None:
    output: list[str] = []
    clock = Clock()
    tell = LineProgress(output.append, clock)
    for event in EVENTS[:3]:
        tell(event)
    output.clear()

    for step in range(1, 10):
        clock.now += QUIET / 2
        tell(moved(FIRST, MB, step * MB))

    assert output == snapshot(
        [
            "a7937b64b8ca: Downloading, 2.00 MB of 10.0 MB\n",
            "a7937b64b8ca: Downloading, 4.00 MB of 10.0 MB\n",
            "a7937b64b8ca: Downloading, 6.00 MB of 10.0 MB\n",
            "a7937b64b8ca: Downloading, 8.00 MB of 10.0 MB\n",
        ]
    )


def test_content_from_another_source_is_labelled() -> None:
    digest = FIRST.descriptor.digest
    output = lines(
        [START, PieceStarted(digest, MB, "oci:./mirror"), Reused(digest, MB, "containerd")]
    )

    assert "Copying 1.00 MB from oci:./mirror" in output
    assert "Already exists in containerd" in output


@pytest.mark.parametrize("hostile", ["a\x1b[2Jb", "::error::x", "a\u202eb", "##vso[task]"])
def test_progress_escapes_foreign_names(hostile: str) -> None:
    output = lines([Started(hostile, None, PIECES), Restarted(FIRST.descriptor.digest, hostile)])

    assert not {"\x1b", "\u202e"} & set(output)
    assert not any(line.startswith(("::", "##")) for line in output.splitlines())


def test_json_progress_escapes_foreign_addresses() -> None:
    output: list[str] = []
    url = "https://example.com/##vso[task.setvariable variable=a]b"
    JsonLines(output.append, Clock())(Skipped(FIRST.descriptor.digest, 1, (url,)))

    assert azure_commands(output[0]) == []
    assert json.loads(output[0])["urls"] == [url]


def test_json_has_an_object_per_event_in_ascii() -> None:
    output: list[str] = []
    tell = JsonLines(output.append, Clock())
    for event in EVENTS:
        tell(event)

    values = [json.loads(line) for line in output]
    assert all(line.isascii() and line.count("\n") == 1 for line in output)
    assert [value["event"] for value in values] == snapshot(
        [
            "started",
            "reused",
            "piece-started",
            "advanced",
            "piece-started",
            "resumed",
            "advanced",
            "advanced",
            "piece-verifying",
            "finished",
            "restarted",
            "advanced",
            "piece-verifying",
            "finished",
            "skipped",
            "piece-started",
            "finished",
            "image-done",
        ]
    )
    assert values[0]["pieces"][0]["state"] == "held"
    assert values[-1] == snapshot(
        {
            "event": "image-done",
            "reference": "docker.io/library/app:1.0",
            "digest": "sha256:4813494d137e1631bba301d5acab6e7bb7aa74ce1185d456565ef51d737677b2",
            "status": "downloaded",
        }
    )


def test_json_progress_is_limited_to_ten_events_a_second_plus_the_last() -> None:
    output: list[str] = []
    clock = Clock()
    tell = JsonLines(output.append, clock)

    for done in range(1, 11):
        clock.now += 0.03
        tell(moved(FIRST, MB, done * MB))

    assert [json.loads(line)["done"] // MB for line in output] == [1, 5, 9, 10]


def board(events: Sequence[Event], clock: Clock) -> tuple[Board, list[str]]:
    made = Board(clock)
    stays = [line for line in map(made.note, events) if line is not None]
    return made, stays


def test_live_bars_show_transfers_and_keep_final_lines() -> None:
    clock = Clock()
    made, stays = board(EVENTS[:4], clock)
    clock.now += 2
    made.note(moved(FIRST, 2 * MB, 6 * MB))
    for event in EVENTS[4:7]:
        made.note(event)

    assert stays == snapshot(
        ["1.0: Pulling from docker.io/library/app (linux/arm64/v8)", "c20dea4d876b: Already exists"]
    )
    assert "\n".join(made.lines(79)) == snapshot("""\
Total: 7.00 MB of 30.0 MB, 23%, 1.50 MB/s, 15s left, 1 of 4 layers done
a7937b64b8ca: Downloading [=========>     ]  6.00 MB/10.0 MB  1.00 MB/s      4s
16367aacb67a: Downloading [====>          ]  6.00 MB/20.0 MB\
""")


def test_live_bars_disappear_at_the_end() -> None:
    made, stays = board(EVENTS, Clock())

    assert made.lines(79) == []
    assert stays == snapshot(
        [
            "1.0: Pulling from docker.io/library/app (linux/arm64/v8)",
            "c20dea4d876b: Already exists",
            "a7937b64b8ca: Pull complete",
            "16367aacb67a: Pull complete",
            "656771905e1e: Skipped foreign layer, 500 MB",
        ]
    )


@pytest.mark.parametrize("width", [1, 20, 40, 60, 79, 80, 120, 300])
@pytest.mark.parametrize("total", [0, 1, 999, 9_999_999, 10**12, 10**16])
def test_bars_fit_every_width(width: int, total: int) -> None:
    clock = Clock()
    big = piece("big", total)
    events: list[Event] = [
        Started("app:1", None, (big, FIRST)),
        PieceStarted(big.descriptor.digest, total),
    ]
    made, _ = board(events, clock)
    for part in (3, 2, 1):
        clock.now += 0.5
        made.note(Advanced(big.descriptor.digest, total // 3, total // part, total))
        assert max(map(len, made.lines(width))) <= width


def test_speed_is_measured_over_the_last_seconds() -> None:
    clock = Clock()
    made, _ = board(EVENTS[:3], clock)
    for second in range(1, 9):
        clock.now += 1
        made.note(moved(FIRST, MB // 2, second * MB // 2))

    (_whole, row) = made.lines(79)
    assert "500 kB/s" in row
    assert row.endswith(" 12s")


def test_stall_shows_no_speed_and_no_remaining_time() -> None:
    clock = Clock()
    made, _ = board(EVENTS[:3], clock)
    made.note(moved(FIRST, MB, MB))
    clock.now += 60
    made.note(moved(FIRST, MB, 2 * MB))

    assert "/s" not in made.lines(79)[0]


def test_whole_has_bytes_percent_rate_and_time_left_above_the_layers() -> None:
    clock = Clock()
    made, _ = board(EVENTS[:3], clock)
    for second in range(1, 5):
        clock.now += 1
        made.note(moved(FIRST, MB, second * MB))

    whole, *layers = made.lines(100)
    assert whole == "Total: 4.00 MB of 30.0 MB, 13%, 1.00 MB/s, 26s left, 1 of 4 layers done"
    assert len(layers) == 1


def test_restart_counts_the_bytes_again() -> None:
    made, _ = board(EVENTS[:3], Clock())
    made.note(moved(FIRST, 4 * MB, 4 * MB))
    made.note(Restarted(FIRST.descriptor.digest, "changed"))

    assert made.lines(100)[0].startswith("Total: 0 B of 30.0 MB, 0%")


@pytest.mark.parametrize(
    ("event", "words"),
    [
        (Counted("resolving", 120, 400, "images"), "resolving: 120 of 400 images, 30%"),
        (Counted("linting", 3, 4, "images", 1), "linting: 3 of 4 images, 75%, 1 failed"),
        (Counted("verifying", 5 * MB, 20 * MB, "bytes"), "verifying: 5.00 MB of 20.0 MB, 25%"),
    ],
)
def test_long_operations_show_how_far_they_are(event: Counted, words: str) -> None:
    clock = Clock()
    made = Board(clock)
    made.note(Counted(event.what, 0, event.total, event.unit))
    clock.now += 1
    made.note(event)
    written: list[str] = []
    log = LineProgress(written.append, clock)
    log(event)
    clock.now += 31
    log(event)
    log(event)

    assert made.lines(100)[0].startswith(f"{words}, ")
    assert made.lines(100)[0].endswith("s left")
    assert written == [f"{words}\n"]
    made.note(Counted(event.what, event.total, event.total, event.unit))
    assert made.lines(100) == []


def test_tally_has_the_average_rate_and_what_was_saved() -> None:
    clock = Clock()
    tally = Tally(clock)
    digest = FIRST.descriptor.digest
    tally(Reused(piece("held", 7 * MB).descriptor.digest, 7 * MB, ""))
    tally(PieceStarted(digest, 10 * MB))
    tally(Resumed(digest, 2 * MB))
    clock.now += 4
    tally(Advanced(digest, 8 * MB, 10 * MB, 10 * MB))

    assert tally.words() == (
        "fetched 8.00 MB in 4s (2.00 MB/s on average); 9.00 MB held already, not fetched"
    )


def test_tally_of_a_quick_or_empty_transfer_is_silent() -> None:
    clock = Clock()
    tally = Tally(clock)
    assert tally.words() == ""
    tally(PieceStarted(FIRST.descriptor.digest, MB))
    clock.now += 0.9
    tally(Advanced(FIRST.descriptor.digest, MB, MB, MB))
    assert tally.words() == ""
