"""What the store says about what it holds: values, for people and for machines."""

from __future__ import annotations

import re
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

from resolver.core.oci.reference import Reference
from resolver.errors import Usage
from resolver.values import dataclass

if TYPE_CHECKING:
    from collections.abc import Iterable

    from resolver.core.oci.attached import Attached
    from resolver.core.oci.descriptor import Descriptor
    from resolver.core.oci.digest import Digest


@dataclass(frozen=True, slots=True)
class StoredImage:
    """One row of a list of images.

    Attributes:
        reference: canonical; empty when no pulled name leads to the image (`dangling`).
        image_id: the config's digest if one image is held, the root's if several are. For a
            dangling image whose config another image has too it is the manifest's digest, so that
            every id means one image.
        index: what the reference points at: an index, or the one manifest.
        platforms: of the images that are held whole, as text, in the order of the index; an index
            that lists a platform twice has it here up to twice.
        offered: that the index lists, as text, once an entry; as held where there is no index.
        created: when the image was built, as its config says (RFC 3339); the latest of several,
            empty where none says.
        size: bytes on disk of all it needs; what it uses twice counts once.
        shared_size: bytes of these that other images need as well.
        missing: digests of what should be here and is not; a pull mends it.
        attached: attestations, artifacts and referrers that are held whole.
        read_as: references under which a dangling image was read (by `compare --files`, say)
            without being pulled; empty for what a moved tag left behind.

    """

    reference: str
    image_id: Digest | None
    index: Descriptor
    platforms: tuple[str, ...]
    offered: tuple[str, ...]
    created: str
    size: int
    shared_size: int
    dangling: bool = False
    missing: tuple[Digest, ...] = ()
    attached: tuple[Attached, ...] = ()
    read_as: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Retention:
    """What a collection keeps besides what names and living processes need.

    Attributes:
        grace: seconds that anything unused is left alone, since somebody may be about to use it.
        keep_newer: seconds that unused content stays on top of that; it also shields names of
            that age from `max_size`.
        max_size: bytes of the store; above it, what was set aside goes at once, and then names,
            the longest unused first.
        keep: references; every other name goes. None keeps them all.
        used_since: seconds since 1970; names that nobody pulled since then go, but for those in
            `keep`. None keeps them all.

    """

    grace: float = 3600.0
    keep_newer: float | None = None
    max_size: int | None = None
    keep: frozenset[str] | None = None
    used_since: float | None = None


@dataclass(frozen=True, slots=True)
class Item:
    """A piece of the store.

    Attributes:
        name: the digest as text, the reference, or the path below the store.
        size: in bytes, as it is on disk.
        kind: `manifest`, `index`, `config`, `layer`, `blob` (of unknown use), `partial`,
            `temporary`, `lease` or `name`.

    """

    name: str
    size: int
    kind: str


@dataclass(frozen=True, slots=True)
class Stay:
    """Content that a collection left, though no pulled image needs it; or an image it had to keep.

    Attributes:
        reason: `lease` (a process uses it), `since` (it came since a process began), `noted` (the
            root of a reference that was resolved), `grace` or `keep-newer` (it is too young),
            `transfer` (it is being fetched), `image-lease` or `image-keep-newer` (an image that
            `max_size` would have dropped).
        count: pieces, or images.
        size: their bytes.
        purpose: what the process is doing, in its own words.
        process: its id; None where no process is the reason, or it does not say.
        age: seconds at which it would go, where it is too young.

    """

    reason: str
    count: int
    size: int
    purpose: str = ""
    process: int | None = None
    age: float = 0.0


@dataclass(frozen=True, slots=True)
class Collected:
    """What a collection removed, or would remove.

    Attributes:
        removed: in the order of removal: what points at others before what it points at.
        freed: their bytes.
        kept: blobs that stay.
        kept_size: their bytes.
        missing: what a kept image needs and the store does not hold.
        dry_run: nothing was touched.
        stays: why something stays that no pulled image needs.
        total: bytes of all that stays: blobs, transfers, and what was set aside.
        limit: what `total` was to be at most; None where nobody said.
        unread: leases of living processes that cannot be read. Where there are any, only what the
            dead left behind was removed: what these processes need is not known.

    """

    removed: tuple[Item, ...]
    freed: int
    kept: int
    kept_size: int
    missing: tuple[Digest, ...] = ()
    dry_run: bool = False
    stays: tuple[Stay, ...] = ()
    total: int = 0
    limit: int | None = None
    unread: tuple[Unread, ...] = ()

    @property
    def is_too_large(self) -> bool:
        """Whether more stays than was to stay at most."""
        return self.limit is not None and self.total > self.limit

    @property
    def is_partial(self) -> bool:
        """Whether there may be more to remove once a process has ended."""
        return bool(self.unread)


@dataclass(frozen=True, slots=True)
class Unread:
    """The lease of a living process that cannot be read.

    Attributes:
        path: of the lease.
        reason: why it cannot be read.
        purpose: what the process is doing, in its own words; empty if not known.
        pid: of the process, where the kernel names it.
        since: when it began, in seconds since 1970; None if not known.

    """

    path: str
    reason: str
    purpose: str = ""
    pid: int | None = None
    since: float | None = None

    def __str__(self) -> str:
        """Name the process, and say what is wrong."""
        who = f"`{self.purpose}`" if self.purpose else "a process"
        which = f" (process {self.pid})" if self.pid is not None else ""
        return f"{who} uses it{which}, and it cannot be read: {self.reason}"


@dataclass(frozen=True, slots=True)
class Trimmed:
    """A reference that lost some of its platforms and stays for the others.

    Attributes:
        removed, left: platforms as text; the digest of a manifest whose platform is not known.

    """

    reference: str
    removed: tuple[str, ...]
    left: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Removed:
    """What `rm` did.

    Attributes:
        untagged: references that mean nothing any more.
        deleted: digests of what nothing else needed, parents first.
        freed: their bytes.
        trimmed: references that stay, for fewer platforms.

    """

    untagged: tuple[str, ...]
    deleted: tuple[Digest, ...]
    freed: int
    trimmed: tuple[Trimmed, ...] = ()


@dataclass(frozen=True, slots=True)
class Damage:
    """Something that is not as it should be.

    Attributes:
        name: a digest as text, or a path.
        problem: `missing`, `size`, `content`, `not-a-file`, `bad-name` or `unreadable`.
        references: the names that need it; empty when none does.
        repaired: it was fetched anew, or set aside with nobody missing it.

    """

    name: str
    problem: str
    references: tuple[str, ...]
    repaired: bool = False


@dataclass(frozen=True, slots=True)
class Verified:
    """What a check of the store found.

    Attributes:
        names: that were checked.
        blobs: files that were looked at.
        size: their bytes.
        hashed: bytes that were read and hashed.
        damaged: sorted by name.

    """

    names: int
    blobs: int
    size: int
    hashed: int
    damaged: tuple[Damage, ...]

    @property
    def is_sound(self) -> bool:
        """Whether nothing is wrong, or nothing is wrong any more."""
        return all(damage.repaired for damage in self.damaged)


@dataclass(frozen=True, slots=True)
class ImageUsage:
    """What one image takes, in bytes.

    Attributes:
        reference: empty when nothing names it.
        own: needed by no other image.
        shared: needed by others too.
        sharers: the references of those others and the bytes shared with each, largest first; the
            first 20 of them.
        sharing: how many others there are.

    """

    reference: str
    digest: Digest
    own: int
    shared: int
    sharers: tuple[tuple[str, int], ...]
    sharing: int = 0


@dataclass(frozen=True, slots=True)
class DiskUsage:
    """What the store takes, in bytes.

    Attributes:
        images: in the order of their references.
        blobs: all content together.
        unused: content that no pulled image needs.
        partial: transfers that have not ended.
        temporary: what was set aside or left behind.
        unpulled: the part of `unused` that belongs to images which were read and never pulled.

    """

    images: tuple[ImageUsage, ...]
    blobs: int
    unused: int
    partial: int
    temporary: int
    unpulled: int = 0


@dataclass(frozen=True, slots=True)
class ActiveLease:
    """A process that is using the store.

    Attributes:
        purpose: what it is doing, in its own words: "pull docker.io/library/app:1".
        digests: what it needs.
        since: when it began, in seconds since 1970.
        process: its id, in its own PID namespace; None where the lease does not say.

    """

    purpose: str
    digests: frozenset[Digest]
    since: float
    process: int | None = None


#: What `--filter` knows, as `KEY=VALUE`.
KEYS = ("dangling", "platform", "reference")
#: A version and features, as `str` of a platform writes them.
_PARENTHESES = re.compile(r"\([^()]*\)", re.ASCII)
_TRUTHS = {"true": True, "1": True, "false": False, "0": False}


@dataclass(frozen=True, slots=True)
class ImageListing:
    """Images of a store, in the order of their references."""

    images: tuple[StoredImage, ...]

    @property
    def pulled(self) -> tuple[StoredImage, ...]:
        """Give what was pulled, and what moved tags left behind of it."""
        return tuple(image for image in self.images if not image.read_as)

    @property
    def unpulled(self) -> tuple[StoredImage, ...]:
        """Give what is here because a comparison read it, and nobody pulled it."""
        return tuple(image for image in self.images if image.read_as)


@dataclass(frozen=True, slots=True)
class ListFilters:
    """What an image must be to be listed.

    Attributes:
        patterns: of each kind one must fit; `*`, `?` and `[…]` as in a shell.
        platforms: one of them must be held.
        dangling: None: does not matter.

    """

    patterns: tuple[str, ...] = ()
    platforms: tuple[str, ...] = ()
    dangling: bool | None = None

    @classmethod
    def parse(cls, filters: Iterable[str], patterns: Iterable[str] = ()) -> ListFilters:
        """Read `--filter KEY=VALUE` as Docker writes them, and the patterns beside them.

        Raises:
            Usage: there is no such key, or its value cannot be used.

        """
        wanted: dict[str, list[str]] = {key: [] for key in KEYS}
        wanted["reference"] += patterns
        for text in filters:
            key, equals, value = text.partition("=")
            if not (equals and value and key in KEYS):
                raise Usage(
                    f"`--filter {text}` is no filter",
                    "write `dangling=true`, `platform=linux/arm64` or `reference=*/app:*`",
                )
            wanted[key].append(value)
        return cls(
            tuple(wanted["reference"]), tuple(wanted["platform"]), _truth(wanted["dangling"])
        )

    def take(self, images: Iterable[StoredImage]) -> ImageListing:
        """Keep the images that fit."""
        return ImageListing(tuple(image for image in images if self._fits(image)))

    def _fits(self, image: StoredImage) -> bool:
        if self.dangling is not None and image.dangling is not self.dangling:
            return False
        if self.platforms and not any(
            _at_or_below(wanted, held) for wanted in self.platforms for held in image.platforms
        ):
            return False
        return not self.patterns or any(named(image, pattern) for pattern in self.patterns)


def named(image: StoredImage, pattern: str) -> bool:
    """Whether a pattern names an image: with its tag or without, in full or in Docker's form."""
    return any(
        fnmatchcase(name, pattern)
        for text in ((image.reference,) if image.reference else image.read_as)
        for name in _spellings(Reference.parse(text))
    )


def _spellings(reference: Reference) -> tuple[str, ...]:
    short = reference.familiar
    return (str(reference), reference.identity, short, short.removesuffix(f":{reference.tag}"))


def _at_or_below(wanted: str, held: str) -> bool:
    """Whether `linux` or `linux/arm64` stands for `linux/arm64/v8`, whatever its version."""
    plain = _PARENTHESES.sub("", held)
    below = (f"{wanted}/", f"{wanted}:")
    return wanted in {held, plain} or held.startswith(below) or plain.startswith(below)


def _truth(values: list[str]) -> bool | None:
    if not values:
        return None
    truth = _TRUTHS.get(values[-1].lower())
    if truth is None:
        raise Usage(f"`--filter dangling={values[-1]}` is neither true nor false")
    return truth
