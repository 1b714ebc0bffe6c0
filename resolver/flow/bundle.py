"""Bundles: which images leave a store, under which names, and all they consist of."""

from __future__ import annotations

from typing import TYPE_CHECKING

from resolver.core.platform import BUILTIN
from resolver.values import dataclass

if TYPE_CHECKING:
    from collections.abc import Mapping

    from resolver.core.attached import Attached, LeftOut
    from resolver.core.descriptor import Descriptor
    from resolver.core.digest import Digest
    from resolver.core.events import Warned
    from resolver.core.manifest import Manifest
    from resolver.core.platform import Platform, PlatformTable
    from resolver.core.reference import Reference


@dataclass(frozen=True, slots=True)
class Wish:
    """Which images of each reference are to leave the store.

    Attributes:
        platforms: images for other platforms stay behind; empty = all that is held.
        machine: acceptable platforms of this machine, best first, with the level of its processor,
            if an image for it is to leave.
        exact: refuse lower levels and other architectures.
        everything: refuse to leave anything of an index behind.
        attestations: with what the index lists about the images.
        referrers: with what was pulled besides the index; archives have no place for it.

    """

    platforms: tuple[Platform, ...] = ()
    exact: bool = False
    table: PlatformTable = BUILTIN
    machine: tuple[Platform, ...] = ()
    everything: bool = False
    attestations: bool = True
    referrers: bool = True

    @property
    def named(self) -> tuple[Platform, ...]:
        """Every platform an image is to leave for; empty = all that is held."""
        return (*self.platforms, *self.machine)


@dataclass(frozen=True, slots=True)
class PackedImage:
    """One image for one platform; `is_whole` unless layers are kept elsewhere than here."""

    descriptor: Descriptor
    platform: Platform | None
    manifest: Manifest
    is_whole: bool


@dataclass(frozen=True, slots=True)
class Packed:
    """What leaves under one reference.

    Attributes:
        root: what its name is to point at; its platform is set if it is one image.
        original: what it points at in its registry.
        images: below `root`, in index order; attestations are not among them.
        attached: what leaves besides images; of referrers, `tag` is the one of their repository.
        left_out: entries of the original index that do not leave.

    """

    reference: Reference
    root: Descriptor
    original: Descriptor
    images: tuple[PackedImage, ...]
    attached: tuple[Attached, ...] = ()
    left_out: tuple[LeftOut, ...] = ()

    @property
    def name(self) -> str:
        """The full name: with its tag, or with the digest of what really leaves."""
        reference = self.reference
        if reference.tag is None and reference.digest is not None:
            return f"{reference.identity}@{self.root.digest}"
        return f"{reference.identity}:{self.tag}"

    @property
    def tag(self) -> str:
        """The tag; empty for what is named by digest alone."""
        reference = self.reference
        if reference.tag is None:
            return "" if reference.digest is not None else reference.name
        return reference.tag


@dataclass(frozen=True, slots=True)
class Bundle:
    """Images, and everything they consist of.

    Attributes:
        packed: sorted by name, each name once.
        pieces: all content, each digest once, sorted by digest.
        made: the bodies of those that no store holds, because they were made here.

    """

    packed: tuple[Packed, ...]
    pieces: tuple[Descriptor, ...]
    made: Mapping[Digest, bytes]
    warnings: tuple[Warned, ...]

    @property
    def size(self) -> int:
        """Bytes of all pieces."""
        return sum(piece.size for piece in self.pieces)
