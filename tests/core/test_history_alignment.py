"""Histories side by side: like stands beside like, and nothing is lost or moved."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resolver.core.history_alignment import MAX_STEPS, History, align, history_of
from resolver.core.instruction import Instruction, likeness
from tests.core.comparing import build, layer, step

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
def test_every_step_of_every_build_stands_once_and_in_order(
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
def test_equal_histories_stand_side_by_side(commands: list[str], count: int) -> None:
    found = aligned(*[commands] * count)

    assert written(found) == [(command,) * count for command in commands]
    assert not found.differs


@given(HISTORIES, HISTORIES, HISTORIES)
def test_the_order_of_the_builds_moves_columns_and_nothing_else(
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
def test_pairs_ascend_on_both_sides(first: list[str], second: list[str]) -> None:
    pairs = align([*map(Instruction.read, first)], [*map(Instruction.read, second)])

    for one, other in pairwise(pairs):
        assert one[0] < other[0]
        assert one[1] < other[1]


def test_one_step_more_does_not_shift_the_rest() -> None:
    found = aligned(["ADD a", "COPY b", "COPY c"], ["ADD a", "RUN extra", "COPY b", "COPY c"])

    assert written(found) == [
        ("ADD a", "ADD a"),
        (None, "RUN extra"),
        ("COPY b", "COPY b"),
        ("COPY c", "COPY c"),
    ]
    assert [row.is_same for row in found.rows] == [True, False, True, True]


def test_what_two_builds_have_beside_the_base_is_one_row() -> None:
    found = aligned(["ADD a"], ["ADD a", "RUN x", "RUN y"], ["ADD a", "RUN y"])

    assert written(found) == [
        ("ADD a", "ADD a", "ADD a"),
        (None, "RUN x", None),
        (None, "RUN y", "RUN y"),
    ]


def test_steps_before_the_first_of_the_base_come_first() -> None:
    assert written(aligned(["CMD x"], ["ADD a", "CMD x"])) == [(None, "ADD a"), ("CMD x", "CMD x")]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (
            "RUN curl -fsSLo /tmp/go.tgz https://go.dev/dl/go1.22.linux-amd64.tar.gz # buildkit",
            "RUN curl -fsSLo /tmp/go.tgz https://go.dev/dl/go1.22.linux-arm64.tar.gz",
        ),
        (
            "/bin/sh -c #(nop) ADD file:0123456789abcdef0123456789abcdef in / ",
            "/bin/sh -c #(nop) ADD file:fedcba9876543210fedcba9876543210 in / ",
        ),
        ("COPY x86_64-unknown-linux-gnu/app /", "COPY aarch64-unknown-linux-gnu/app /"),
        ("|1 ARCH=amd64 /bin/sh -c make   install", "|1 ARCH=arm /bin/sh -c make install"),
        ("RUN dpkg-i386 x", "RUN dpkg-armhf x"),
    ],
)  # fmt: skip
def test_names_of_architectures_and_checksums_make_no_difference(one: str, other: str) -> None:
    found = aligned([one], [other])

    assert written(found) == [(one, other)]
    assert not found.differs


@pytest.mark.parametrize(
    ("one", "other"),
    [("COPY charm /usr/bin", "COPY chx64y /usr/bin"), ("RUN alarm amd64x", "RUN alarm arm64x")],
)
def test_parts_of_words_are_no_architectures(one: str, other: str) -> None:
    assert Instruction.read(one) != Instruction.read(other)


def test_nearly_the_same_command_stands_beside_its_like_and_differs() -> None:
    one, other = "RUN apt-get install -y a b c d", "RUN apt-get install -y a b c e"

    found = aligned([one], [other])

    assert written(found) == [(one, other)]
    assert found.differs


def test_likeness_is_full_for_the_same_and_nothing_for_another_verb() -> None:
    one, other = Instruction.read("RUN a b c d"), Instruction.read("COPY a b c d")

    assert likeness(one, one) == 1_000
    assert likeness(one, other) == 0
    assert likeness(one, Instruction.read("RUN x y z")) == 0
    assert 600 <= likeness(one, Instruction.read("RUN a b c x")) < 1_000


def test_what_lies_beyond_the_part_that_is_looked_at_still_counts() -> None:
    start = "RUN " + "x" * 9_000

    assert Instruction.read(start + "a") != Instruction.read(start + "b")


def test_layers_go_to_the_steps_that_made_them_in_order() -> None:
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
        ([], "its history is empty, and there are 1 layers"),
        ([step("ADD"), step("COPY")], "2 steps say they made a layer, and there are 1 layers"),
    ],
)
def test_a_history_that_does_not_fit_its_layers_says_so(history: list[object], reason: str) -> None:
    found = history_of([build(layers=[layer("a", 1)], history=history)], 0)  # type: ignore[arg-type]  # steps they are

    assert found.unmatched == (reason,)
    assert all(row.steps[0] is not None and row.steps[0].layer is None for row in found.rows)


@pytest.mark.parametrize(("count", "rows"), [(MAX_STEPS, MAX_STEPS), (MAX_STEPS + 1, 0)])
def test_a_history_longer_than_the_limit_is_not_aligned(count: int, rows: int) -> None:
    found = history_of([build(history=[step(f"RUN {n}", empty=True) for n in range(count)])], 0)

    assert len(found.rows) == rows
    assert bool(found.unmatched[0]) == (not rows)


def test_two_long_histories_with_nothing_in_common_take_no_time_to_speak_of() -> None:
    # Beyond the number of pairs whose likeness is measured, only what is the same aligns.
    one = [f"RUN a{n} b c d e f g" for n in range(200)]
    other = [f"RUN z{n} b c d e f g" for n in range(200)]

    assert len(aligned(one, other).rows) == 400
