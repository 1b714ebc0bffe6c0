"""The builds of one image, one per platform, for comparison."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from resolver.core.platforms.platform import BUILTIN, LINUX_AMD64, Platform
from resolver.core.platforms.select import select
from resolver.errors import BadDocument, LimitExceeded, PlatformNotOffered
from resolver.values import dataclass

if TYPE_CHECKING:
    from collections.abc import Sequence

    from resolver.core.oci.descriptor import Descriptor
    from resolver.core.oci.digest import Digest
    from resolver.core.oci.image import ImageDocuments, ImageEntry
    from resolver.core.oci.manifest import ImageConfig, Manifest
    from resolver.core.platforms.platform import PlatformTable


#: Builds compared at once, each with every other; the widest public index has some forty.
MAX_BUILDS = 100


@dataclass(frozen=True, slots=True, eq=False)
class Build:
    """One build of an image with all of its documents.

    Attributes:
        name: the platform as written; with a number for further builds of the same name.
        platform: from the index, else from the config; None if neither states one.
        normalized: the same in normal form, by which builds of two images are paired.
        needs: what its programs need, by kind; empty if they were not read.
    """

    name: str
    platform: Platform | None
    normalized: Platform | None
    descriptor: Descriptor
    manifest: Manifest
    config: ImageConfig
    needs: tuple[tuple[str, str], ...] = ()

    @property
    def config_descriptor(self) -> Descriptor:
        """The descriptor of the config, whose digest is Docker's image id."""
        assert self.manifest.config is not None  # noqa: S101 - an image has one, see `Manifest`
        return self.manifest.config

    @property
    def config_digest(self) -> Digest:
        """The digest of the config."""
        return self.config_descriptor.digest

    @property
    def size(self) -> int:
        """Bytes of the compressed layers; duplicates count once."""
        return sum(self.layers.values())

    @property
    def layers(self) -> dict[Digest, int]:
        """Bytes of every layer, by digest; duplicates count once."""
        return {layer.digest: layer.size for layer in self.manifest.layers}

    @property
    def contents(self) -> dict[Digest, int]:
        """Bytes of layers, config and manifest, by digest."""
        others = (self.config_descriptor, self.descriptor)
        return self.layers | {descriptor.digest: descriptor.size for descriptor in others}

    @property
    def annotations(self) -> tuple[tuple[str, str], ...]:
        """Annotations of index entry and manifest, sorted; the manifest takes precedence."""
        merged = {**dict(self.descriptor.annotations), **dict(self.manifest.annotations)}
        return tuple(sorted(merged.items()))


def builds_of(gathered: ImageDocuments, table: PlatformTable = BUILTIN) -> tuple[Build, ...]:
    """Return the builds of an image, in index order."""
    parts = [part for part in gathered.sound().images if part.manifest is not None]
    if len(parts) > MAX_BUILDS:
        raise LimitExceeded(
            f"`{gathered.reference}`",
            MAX_BUILDS,
            len(parts),
            "builds at once",
            "choose some with `-p PLATFORM`",
        )
    seen: Counter[str] = Counter()
    return tuple(_build(part, gathered, table, seen) for part in parts)


def _build(
    part: ImageEntry, gathered: ImageDocuments, table: PlatformTable, seen: Counter[str]
) -> Build:
    if part.manifest is None or part.config is None:
        what = f"`{part.descriptor.digest}` in `{gathered.reference}`"
        raise BadDocument(what, "config", "is missing, so this is not an image")
    name = str(part.platform) if part.platform is not None else "no platform"
    seen[name] += 1
    if seen[name] > 1:
        name = f"{name} ({seen[name]})"
    normal = part.platform.normalized(table) if part.platform is not None else None
    return Build(name, part.platform, normal, part.descriptor, part.manifest, part.config)


def wanted_of(
    builds: Sequence[Build], wants: Sequence[Platform], table: PlatformTable
) -> tuple[Build, ...]:
    """Keep the builds that exactly match one of some platforms; all builds if there are none."""
    if not wants:
        return tuple(builds)
    offered = [build.platform for build in builds]
    kept = {
        position
        for want in wants
        for position in select(offered, want, exact=True, table=table).ranking
    }
    return tuple(build for position, build in enumerate(builds) if position in kept)


def base_of(
    builds: Sequence[Build], want: Platform | None, reference: str, table: PlatformTable
) -> int:
    """Return the position of the base: as requested, else linux/amd64, else the first."""
    offered = [build.platform for build in builds]
    found = select(offered, want or LINUX_AMD64, exact=True, table=table).index
    if found is None and want is not None:
        raise PlatformNotOffered(reference, str(want), [build.name for build in builds])
    return found or 0


def missing_of(
    offered: Sequence[Platform | None], expected: Sequence[Platform], table: PlatformTable
) -> tuple[Platform, ...]:
    """Return the expected platforms that are not offered exactly, without duplicates."""
    return tuple(
        want
        for want in dict.fromkeys(expected)
        if select(offered, want, exact=True, table=table).index is None
    )


@dataclass(frozen=True, slots=True)
class Amount:
    """A number of layers, and their compressed bytes."""

    layers: int
    bytes: int


@dataclass(frozen=True, slots=True)
class Group:
    """Layers shared by exactly the builds at positions `holders`."""

    holders: tuple[int, ...]
    digests: tuple[Digest, ...]
    amount: Amount


@dataclass(frozen=True, slots=True)
class Sharing:
    """The layers that builds share.

    Attributes:
        matrix: layers that each pair of builds shares; all of a build's layers on the diagonal.
        groups: shared layers by their builds; those of the most builds first.
        own: layers that only one build has, per build.
        stored: all layers, each counted once.
        summed: all layers, counted per build.
    """

    matrix: tuple[tuple[Amount, ...], ...]
    groups: tuple[Group, ...]
    own: tuple[Amount, ...]
    stored: Amount
    summed: Amount

    def shared(self, position: int) -> Amount:
        """Return the layers that a build shares with at least one other."""
        whole, own = self.matrix[position][position], self.own[position]
        return Amount(whole.layers - own.layers, whole.bytes - own.bytes)


def sharing_of(builds: Sequence[Build]) -> Sharing:
    """Return the layers that builds share, by digest."""
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
