"""Alignment of build histories: similar steps align, and none is lost or moved."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resolver.core.compare.history import (
    MAX_STEPS,
    History,
    Normaliser,
    align,
    history_of,
    likeness,
)
from resolver.core.platforms.platform import BUILTIN, Platform
from tests.kit.builds import build, layer, step

if TYPE_CHECKING:
    from resolver.core.compare.history import HistoryStep

COMMANDS = st.sampled_from(
    [
        "ADD rootfs.tar /",
        "RUN apt-get update",
        "RUN apt-get install -y curl git make gcc",
        "RUN apt-get install -y curl git make g++",
        "COPY app /usr/bin/",
        'CMD ["sh"]',
        "",
    ]
)
HISTORIES = st.lists(COMMANDS, max_size=8)


def read(written: str, platform: str = "linux/amd64") -> HistoryStep:
    return Normaliser(Platform.parse(platform), BUILTIN).read(written)


def aligned(*histories: list[str], base: int = 0) -> History:
    platforms = ["linux/amd64", "linux/arm64", "linux/s390x", "linux/riscv64"]
    builds = [
        build(
            platform,
            [layer(f"{n}", 1) for n in range(len(commands))],
            history=list(map(step, commands)),
        )
        for platform, commands in zip(platforms, histories, strict=False)
    ]
    return history_of(builds, base)


def written(history: History) -> list[tuple[str | None, ...]]:
    return [tuple(s.instruction if s else None for s in row.steps) for row in history.rows]


@given(st.lists(HISTORIES, min_size=1, max_size=4), st.data())
def test_history_lists_every_step_once_and_in_order(
    histories: list[list[str]], data: st.DataObject
) -> None:
    base = data.draw(st.integers(0, len(histories) - 1))

    found = aligned(*histories, base=base)

    for side, commands in enumerate(histories):
        steps = [row.steps[side] for row in found.rows]
        assert [each.position for each in steps if each is not None] == [*range(len(commands))]
        assert [each.instruction for each in steps if each is not None] == commands
    assert all(any(row.steps) for row in found.rows)


@given(HISTORIES, st.integers(2, 4))
def test_equal_histories_align(commands: list[str], count: int) -> None:
    found = aligned(*[commands] * count)

    assert written(found) == [(command,) * count for command in commands]
    assert not found.differs


@given(HISTORIES, HISTORIES, HISTORIES)
def test_history_columns_follow_the_builds(
    first: list[str], second: list[str], third: list[str]
) -> None:
    names = ("linux/amd64", "linux/arm64", "linux/s390x")
    builds = [
        build(name, history=list(map(step, commands)))
        for name, commands in zip(names, (first, second, third), strict=True)
    ]

    straight = written(history_of(builds, 0))
    turned = written(history_of([builds[2], builds[0], builds[1]], 1))

    assert [(b, c, a) for a, b, c in turned] == straight


@given(HISTORIES, HISTORIES)
def test_history_pairs_ascend_on_both_sides(first: list[str], second: list[str]) -> None:
    pairs = align([*map(read, first)], [*map(read, second)])

    for one, other in pairwise(pairs):
        assert one[0] < other[0]
        assert one[1] < other[1]


def test_additional_step_does_not_shift_the_others() -> None:
    found = aligned(["ADD a", "COPY b", "COPY c"], ["ADD a", "RUN extra", "COPY b", "COPY c"])

    assert written(found) == [
        ("ADD a", "ADD a"),
        (None, "RUN extra"),
        ("COPY b", "COPY b"),
        ("COPY c", "COPY c"),
    ]
    assert [row.is_same for row in found.rows] == [True, False, True, True]


def test_step_shared_by_two_builds_is_one_row() -> None:
    found = aligned(["ADD a"], ["ADD a", "RUN x", "RUN y"], ["ADD a", "RUN y"])

    assert written(found) == [
        ("ADD a", "ADD a", "ADD a"),
        (None, "RUN x", None),
        (None, "RUN y", "RUN y"),
    ]


def test_steps_before_the_first_base_step_come_first() -> None:
    assert written(aligned(["CMD x"], ["ADD a", "CMD x"])) == [(None, "ADD a"), ("CMD x", "CMD x")]


@pytest.mark.parametrize(
    ("one", "platform", "other"),
    [
        (
            "RUN curl -fsSLo go.tgz https://go.dev/dl/go1.22.linux-amd64.tar.gz # buildkit",
            "linux/arm64/v8",
            "RUN curl -fsSLo go.tgz https://go.dev/dl/go1.22.linux-arm64.tar.gz",
        ),
        (
            "/bin/sh -c #(nop) ADD file:0123456789abcdef0123456789abcdef in / ",
            "linux/s390x",
            "/bin/sh -c #(nop) ADD file:fedcba9876543210fedcba9876543210 in / ",
        ),
        ("COPY x86_64-linux-gnu/app /", "linux/arm64", "COPY aarch64-linux-gnu/app /"),
        (
            "|1 TARGETPLATFORM=linux/amd64 /bin/sh -c make   install",
            "linux/arm/v7",
            "|1 TARGETPLATFORM=linux/arm/v7 /bin/sh -c make install",
        ),
        ("FROM amd64/debian", "linux/arm/v7", "FROM arm32v7/debian"),
        ("FROM amd64/debian", "linux/arm64/v8", "FROM arm64v8/debian"),
        ("RUN dpkg-X64 x", "linux/arm/v7", "RUN dpkg-armhf x"),
    ],
)
def test_architecture_words_and_checksums_are_ignored_in_steps(
    one: str, platform: str, other: str
) -> None:
    assert read(one) == read(other, platform)


@pytest.mark.parametrize(
    "written", ["COPY charm amd64x /", "RUN xamd64 x64y", "RUN get-arm64", "RUN x86_640"]
)
def test_partial_words_and_other_architectures_are_compared(written: str) -> None:
    assert read(written).text == written


def test_history_without_a_platform_keeps_every_word() -> None:
    assert Normaliser(None, BUILTIN).read("RUN amd64").text == "RUN amd64"


def test_similar_commands_align_and_differ() -> None:
    one, other = "RUN apt-get install -y a b c d", "RUN apt-get install -y a b c e"

    found = aligned([one], [other])

    assert written(found) == [(one, other)]
    assert found.differs


def test_similarity_is_one_for_equal_and_zero_for_another_command() -> None:
    one, other = read("RUN a b c d"), read("COPY a b c d")

    assert likeness(one, one) == 1_000
    assert likeness(one, other) == 0
    assert likeness(one, read("RUN x y z")) == 0
    assert 600 <= likeness(one, read("RUN a b c x")) < 1_000


def test_text_beyond_the_compared_part_still_counts() -> None:
    start = "RUN " + "x" * 9_000

    assert read(start + "a") != read(start + "b")


def test_layers_are_assigned_to_their_steps_in_order() -> None:
    layers = [layer("base", 10), layer("app", 20)]
    history = [step("ADD"), step("ENV", empty=True), step("COPY")]

    found = history_of([build(layers=layers, history=history)], 0)

    assert [row.steps[0].layer if row.steps[0] else None for row in found.rows] == [
        layers[0],
        None,
        layers[1],
    ]
    assert found.unmatched == ("",)


@pytest.mark.parametrize(
    ("history", "reason"),
    [
        ([], "its history is empty, and there is 1 layer"),
        ([step("ADD"), step("COPY")], "2 steps should have a layer, and there is 1 layer"),
    ],
)
def test_history_that_does_not_match_its_layers_is_reported(
    history: list[object], reason: str
) -> None:
    found = history_of([build(layers=[layer("a", 1)], history=history)], 0)  # type: ignore[arg-type]  # steps they are

    assert found.unmatched == (reason,)
    assert all(row.steps[0] is not None and row.steps[0].layer is None for row in found.rows)


@pytest.mark.parametrize(("count", "rows"), [(MAX_STEPS, MAX_STEPS), (MAX_STEPS + 1, 0)])
def test_history_above_the_step_limit_is_not_aligned(count: int, rows: int) -> None:
    found = history_of([build(history=[step(f"RUN {n}", empty=True) for n in range(count)])], 0)

    assert len(found.rows) == rows
    assert bool(found.unmatched[0]) == (not rows)


def test_two_long_unrelated_histories_compare_quickly() -> None:
    # Beyond the number of pairs whose likeness is measured, only what is the same aligns.
    one = [f"RUN a{n} b c d e f g" for n in range(200)]
    other = [f"RUN z{n} b c d e f g" for n in range(200)]

    assert len(aligned(one, other).rows) == 400


def test_similar_steps_align_between_equal_ones_in_long_histories() -> None:
    one = [f"RUN step {n} with some words" for n in range(120)]
    other = [
        f"RUN step {n} with other words" if n % 10 == 5 else each for n, each in enumerate(one)
    ]

    one, other = ["ADD some base a", *one], ["ADD some base b", *other]

    found = aligned(one, other)

    assert written(found) == [*zip(one, other, strict=True)]
    assert sum(not row.is_same for row in found.rows) == 13
