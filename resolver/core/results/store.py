"""Results of the commands on the store: images, gc, rm, verify and du."""

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
    """One row of the list of images.

    Attributes:
        reference: canonical text; empty if no pulled reference leads to the image (`dangling`).
        image_id: the config's digest if one image is held, the root's if several are. For a
            dangling image that shares its config with another it is the manifest's digest, so
            ids are unique.
        index: the root of the reference: an index, or the one manifest.
        platforms: of the complete images, as text, in index order; a platform that the index lists
            twice may occur twice.
        offered: platforms in the index, as text, one per entry; without an index, those held.
        created: build date from the config (RFC 3339); the latest of several, empty if none has
            one.
        size: bytes on disk of its content; shared content counts once.
        shared_size: bytes of these that other images also need.
        missing: digests of missing content; a pull fetches it.
        attached: complete attestations, artifacts and referrers.
        read_as: references of a dangling image that was read (for example by `compare --files`)
            and not pulled; empty for one that a moved tag left behind.
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
    """What garbage collection keeps besides content of names and of running processes.

    Attributes:
        grace: seconds that unused content is kept, because a process may be about to use it.
        keep_newer: further seconds that unused content is kept; names of that age are also exempt
            from `max_size`.
        max_size: bytes of the store; above it, quarantined content is removed at once, and then
            names, the least recently used first.
        keep: references; all other names are removed. None keeps all.
        used_since: seconds since 1970; names not pulled since then are removed, except those in
            `keep`. None keeps all.
    """

    grace: float = 3600.0
    keep_newer: float | None = None
    max_size: int | None = None
    keep: frozenset[str] | None = None
    used_since: float | None = None


@dataclass(frozen=True, slots=True)
class Item:
    """One file or name of the store.

    Attributes:
        name: the digest as text, the reference, or the path below the store.
        size: in bytes, on disk.
        kind: `manifest`, `index`, `config`, `layer`, `blob` (of unknown use), `partial`,
            `temporary`, `lease`, `upload` or `name`.

    """

    name: str
    size: int
    kind: str


@dataclass(frozen=True, slots=True)
class Stay:
    """Unneeded content that garbage collection kept, or an image that it had to keep.

    Attributes:
        reason: `lease` (a process uses it), `since` (it is newer than a running process), `noted`
            (the root of a resolved reference), `grace` or `keep-newer` (it is too new), `transfer`
            (it is being fetched), `image-lease` or `image-keep-newer` (an image that `max_size`
            would have removed).
        count: number of blobs or images.
        size: their bytes.
        purpose: of the process, from its lease.
        process: its id; None if unknown, or if no process is the reason.
        age: of content that is too new, the seconds after which it is removed.
    """

    reason: str
    count: int
    size: int
    purpose: str = ""
    process: int | None = None
    age: float = 0.0


@dataclass(frozen=True, slots=True)
class Collected:
    """What garbage collection removed, or would remove.

    Attributes:
        removed: in the order of removal, parents before children.
        freed: their bytes.
        kept: number of blobs kept.
        kept_size: their bytes.
        missing: content that a kept image needs and the store does not hold.
        dry_run: nothing was changed.
        stays: the reasons for keeping content that no pulled image needs.
        total: bytes kept: blobs, transfers and quarantined content.
        limit: the most that `total` should be; None without a limit.
        unread: unreadable leases of running processes. With any, only leftovers of ended processes
            were removed, because the content that these processes need is unknown.
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
        """Whether the store is still larger than the limit."""
        return self.limit is not None and self.total > self.limit

    @property
    def is_partial(self) -> bool:
        """Whether more may be removable once a process has ended."""
        return bool(self.unread)


@dataclass(frozen=True, slots=True)
class Unread:
    """An unreadable lease of a running process.

    Attributes:
        path: of the lease.
        reason: why it cannot be read.
        purpose: of the process; empty if unknown.
        pid: of the process, if the kernel reports it.
        since: start time, in seconds since 1970; None if unknown.
    """

    path: str
    reason: str
    purpose: str = ""
    pid: int | None = None
    since: float | None = None

    def __str__(self) -> str:
        """Describe the process and the error."""
        who = f"`{self.purpose}`" if self.purpose else "a process"
        which = f" (process {self.pid})" if self.pid is not None else ""
        return f"{who} uses it{which}, and it cannot be read: {self.reason}"


@dataclass(frozen=True, slots=True)
class Trimmed:
    """A reference that lost some of its platforms.

    Attributes:
        removed, left: platforms as text; the digest of a manifest without a known platform.
    """

    reference: str
    removed: tuple[str, ...]
    left: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Removed:
    """The result of `rm`.

    Attributes:
        untagged: removed references.
        deleted: digests of content that nothing else needs, parents first.
        freed: their bytes.
        trimmed: references kept for fewer platforms.
    """

    untagged: tuple[str, ...]
    deleted: tuple[Digest, ...]
    freed: int
    trimmed: tuple[Trimmed, ...] = ()


@dataclass(frozen=True, slots=True)
class Damage:
    """A damaged file or name of the store.

    Attributes:
        name: a digest as text, or a path.
        problem: `missing`, `size`, `content`, `not-a-file`, `bad-name` or `unreadable`.
        references: the names that need it.
        repaired: it was fetched again, or quarantined and not needed.
    """

    name: str
    problem: str
    references: tuple[str, ...]
    repaired: bool = False


@dataclass(frozen=True, slots=True)
class Verified:
    """The result of `verify`.

    Attributes:
        names: number of names checked.
        blobs: number of files checked.
        size: their bytes.
        hashed: bytes read and hashed.
        damaged: sorted by name.
    """

    names: int
    blobs: int
    size: int
    hashed: int
    damaged: tuple[Damage, ...]

    @property
    def is_sound(self) -> bool:
        """Whether nothing is damaged, or all damage was repaired."""
        return all(damage.repaired for damage in self.damaged)


@dataclass(frozen=True, slots=True)
class ImageUsage:
    """Disk usage of one image, in bytes.

    Attributes:
        reference: empty for a dangling image.
        own: of content that no other image needs.
        shared: of content that other images also need.
        sharers: references of those images and the bytes shared with each, largest first, at most
            20.
        sharing: number of those images.
    """

    reference: str
    digest: Digest
    own: int
    shared: int
    sharers: tuple[tuple[str, int], ...]
    sharing: int = 0


@dataclass(frozen=True, slots=True)
class DiskUsage:
    """Disk usage of the store, in bytes.

    Attributes:
        images: sorted by reference.
        blobs: all content.
        unused: content that no pulled image needs.
        partial: unfinished transfers.
        temporary: quarantined and leftover files.
        unpulled: the part of `unused` that belongs to images that were read and not pulled.
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
        purpose: such as "pull docker.io/library/app:1".
        digests: content that it needs.
        since: start time, in seconds since 1970.
        process: its id, in its own PID namespace; None if the lease has none.
    """

    purpose: str
    digests: frozenset[Digest]
    since: float
    process: int | None = None


#: The keys of `--filter KEY=VALUE`.
KEYS = ("dangling", "platform", "reference")
#: A version and features, as `str` of a platform writes them.
_PARENTHESES = re.compile(r"\([^()]*\)", re.ASCII)
_TRUTHS = {"true": True, "1": True, "false": False, "0": False}


@dataclass(frozen=True, slots=True)
class ImageListing:
    """Images of a store, sorted by reference."""

    images: tuple[StoredImage, ...]

    @property
    def pulled(self) -> tuple[StoredImage, ...]:
        """The pulled images, and those that moved tags left behind."""
        return tuple(image for image in self.images if not image.read_as)

    @property
    def unpulled(self) -> tuple[StoredImage, ...]:
        """The images that a comparison read and that were not pulled."""
        return tuple(image for image in self.images if image.read_as)


@dataclass(frozen=True, slots=True)
class ListFilters:
    """Filters of the list of images.

    Attributes:
        patterns: one must match; `*`, `?` and `[…]` as in a shell.
        platforms: one must be held.
        dangling: None for either.
    """

    patterns: tuple[str, ...] = ()
    platforms: tuple[str, ...] = ()
    dangling: bool | None = None

    @classmethod
    def parse(cls, filters: Iterable[str], patterns: Iterable[str] = ()) -> ListFilters:
        """Parse `--filter KEY=VALUE`, as in Docker, and reference patterns.

        Raises:
            Usage: a key is unknown, or its value is invalid.
        """
        wanted: dict[str, list[str]] = {key: [] for key in KEYS}
        wanted["reference"] += patterns
        for text in filters:
            key, equals, value = text.partition("=")
            if not (equals and value and key in KEYS):
                raise Usage(
                    f"`--filter {text}` is not a filter",
                    "write `dangling=true`, `platform=linux/arm64` or `reference=*/app:*`",
                )
            wanted[key].append(value)
        return cls(
            tuple(wanted["reference"]), tuple(wanted["platform"]), _truth(wanted["dangling"])
        )

    def take(self, images: Iterable[StoredImage]) -> ImageListing:
        """Keep the images that match."""
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
    """Whether a pattern matches an image's reference, with or without tag, full or familiar."""
    return any(
        fnmatchcase(name, pattern)
        for text in ((image.reference,) if image.reference else image.read_as)
        for name in _spellings(Reference.parse(text))
    )


def _spellings(reference: Reference) -> tuple[str, ...]:
    short = reference.familiar
    return (str(reference), reference.identity, short, short.removesuffix(f":{reference.tag}"))


def _at_or_below(wanted: str, held: str) -> bool:
    """Whether `linux` or `linux/arm64` covers `linux/arm64/v8`, in any version."""
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
