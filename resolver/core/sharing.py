"""Sharing: which layers builds have in common, and what that saves who keeps several."""

from __future__ import annotations

from typing import TYPE_CHECKING

from resolver.values import dataclass

if TYPE_CHECKING:
    from collections.abc import Sequence

    from resolver.core.builds import Build
    from resolver.core.digest import Digest


@dataclass(frozen=True, slots=True)
class Amount:
    """Layers, and their compressed bytes."""

    layers: int
    bytes: int


@dataclass(frozen=True, slots=True)
class Group:
    """Layers that exactly these builds have; `holders` are their positions."""

    holders: tuple[int, ...]
    digests: tuple[Digest, ...]
    amount: Amount


@dataclass(frozen=True, slots=True)
class Sharing:
    """Who shares which layers with whom.

    Attributes:
        matrix: for each pair of builds what both have; on the diagonal what a build has itself.
        groups: the same layers by who has them; those of the most builds first. A layer that one
            build alone has is in none.
        own: what each build has alone.
        stored: what somebody keeps who has all builds, each layer once.
        summed: what that would be if nothing were shared.
    """

    matrix: tuple[tuple[Amount, ...], ...]
    groups: tuple[Group, ...]
    own: tuple[Amount, ...]
    stored: Amount
    summed: Amount

    def shared(self, position: int) -> Amount:
        """Say what a build shares with at least one other."""
        whole, own = self.matrix[position][position], self.own[position]
        return Amount(whole.layers - own.layers, whole.bytes - own.bytes)


def sharing_of(builds: Sequence[Build]) -> Sharing:
    """Find out who shares what; layers are told apart by digest."""
    held = [build.layers for build in builds]
    holders: dict[Digest, list[int]] = {}
    sizes: dict[Digest, int] = {}
    for position, layers in enumerate(held):
        for digest, size in layers.items():
            holders.setdefault(digest, []).append(position)
            sizes[digest] = size
    matrix = tuple(
        tuple(_amount([size for digest, size in one.items() if digest in other]) for other in held)
        for one in held
    )
    own = tuple(
        _amount([size for digest, size in layers.items() if len(holders[digest]) == 1])
        for layers in held
    )
    everything = [size for layers in held for size in layers.values()]
    return Sharing(
        matrix, _groups(holders, sizes), own, _amount(list(sizes.values())), _amount(everything)
    )


def _groups(holders: dict[Digest, list[int]], sizes: dict[Digest, int]) -> tuple[Group, ...]:
    grouped: dict[tuple[int, ...], list[Digest]] = {}
    for digest, positions in holders.items():
        if len(positions) > 1:
            grouped.setdefault(tuple(positions), []).append(digest)
    groups = [
        Group(positions, tuple(digests), _amount([sizes[digest] for digest in digests]))
        for positions, digests in grouped.items()
    ]
    return tuple(sorted(groups, key=lambda group: (-len(group.holders), group.holders)))


def _amount(sizes: list[int]) -> Amount:
    return Amount(len(sizes), sum(sizes))
