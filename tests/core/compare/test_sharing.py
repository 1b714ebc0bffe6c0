"""Layers shared between builds, and their sizes."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from resolver.core.compare.builds import Amount, sharing_of
from tests.kit.builds import build, layer

SHAPES = st.lists(st.lists(st.integers(0, 6), max_size=6), min_size=1, max_size=5)


@given(SHAPES)
def test_shared_and_own_sizes_add_up_to_the_total(shapes: list[list[int]]) -> None:
    builds = [build(layers=[layer("l", n) for n in shape]) for shape in shapes]

    found = sharing_of(builds)

    for position, one in enumerate(builds):
        own, shared = found.own[position], found.shared(position)
        assert own.bytes + shared.bytes == one.size
        assert own.layers + shared.layers == len(set(shapes[position]))
        assert found.matrix[position][position] == Amount(len(one.layers), one.size)
        for other in range(len(builds)):
            assert found.matrix[position][other] == found.matrix[other][position]


@given(SHAPES)
def test_several_builds_store_each_layer_once(shapes: list[list[int]]) -> None:
    found = sharing_of([build(layers=[layer("l", n) for n in shape]) for shape in shapes])

    different = {n for shape in shapes for n in shape}
    assert found.stored == Amount(len(different), sum(different))
    assert found.summed.bytes == sum(sum(set(shape)) for shape in shapes)
    grouped = sum(group.amount.bytes for group in found.groups)
    assert found.stored.bytes == grouped + sum(own.bytes for own in found.own)


@given(st.permutations(range(4)))
def test_sharing_does_not_depend_on_entry_order(order: list[int]) -> None:
    builds = [
        build("linux/amd64", [layer("a", 1), layer("b", 2)]),
        build("linux/arm64", [layer("a", 1), layer("c", 4)]),
        build("linux/s390x", [layer("a", 1), layer("b", 2), layer("d", 8)]),
        build("linux/riscv64", []),
    ]

    straight, turned = sharing_of(builds), sharing_of([builds[n] for n in order])

    assert turned.stored == straight.stored
    assert [turned.own[order.index(n)] for n in range(4)] == list(straight.own)
    assert {
        (frozenset(order[n] for n in group.holders), group.amount) for group in turned.groups
    } == {(frozenset(group.holders), group.amount) for group in straight.groups}


def test_layers_shared_by_most_builds_come_first() -> None:
    every, two, one = layer("every", 10), layer("two", 20), layer("one", 40)

    found = sharing_of(
        [build(layers=[every, two, one]), build(layers=[every, two]), build(layers=[every])]
    )

    assert [(group.holders, group.amount) for group in found.groups] == [
        ((0, 1, 2), Amount(1, 10)),
        ((0, 1), Amount(1, 20)),
    ]
    assert found.own == (Amount(1, 40), Amount(0, 0), Amount(0, 0))
