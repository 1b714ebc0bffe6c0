"""Results of the commands on the store: images, gc, rm, verify and du."""

from __future__ import annotations

from typing import TYPE_CHECKING

from resolver.values import dataclass

if TYPE_CHECKING:
    from resolver.core.oci.descriptor import Descriptor
    from resolver.core.oci.digest import Digest
    from resolver.core.oci.manifest import Attached


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
        shared_size: bytes of these that other images also need.
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

    `name`: the digest as text, the reference, or the path below the store. `kind`: `manifest`,
    `index`, `config`, `layer`, `blob` (of unknown use), `partial`, `temporary`, `lease`,
    `upload` or `name`.
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
        missing: content that a kept image needs and the store does not hold.
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
    """An unreadable lease of a running process; `pid`: of the process, if the kernel reports it."""

    path: str
    reason: str
    purpose: str = ""
    pid: int | None = None
    since: float | None = None

    def __str__(self) -> str:
        who = f"`{self.purpose}`" if self.purpose else "a process"
        which = f" (process {self.pid})" if self.pid is not None else ""
        return f"{who} uses it{which}, and it cannot be read: {self.reason}"


@dataclass(frozen=True, slots=True)
class Trimmed:
    """A reference that lost some of its platforms; the digest stands for an unknown one."""

    reference: str
    removed: tuple[str, ...]
    left: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Removed:
    """The result of `rm`.

    `deleted`: digests of content that nothing else needs, parents first. `trimmed`: references kept
    for fewer platforms.
    """

    untagged: tuple[str, ...]
    deleted: tuple[Digest, ...]
    freed: int
    trimmed: tuple[Trimmed, ...] = ()


@dataclass(frozen=True, slots=True)
class Damage:
    """A damaged file or name of the store.

    `name`: a digest as text, or a path. `problem`: `missing`, `size`, `content`, `not-a-file`,
    `bad-name` or `unreadable`. `repaired`: it was fetched again, or quarantined and not needed.
    """

    name: str
    problem: str
    references: tuple[str, ...]
    repaired: bool = False


@dataclass(frozen=True, slots=True)
class Verified:
    """The result of `verify`; `damaged`: sorted by name."""

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

    `reference`: empty for a dangling image. `sharers`: references of those images and the bytes
    shared with each, largest first, at most 20. `sharing`: number of those images.
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

    `unused`: content that no pulled image needs. `temporary`: quarantined and leftover files.
    `unpulled`: the part of `unused` that belongs to images that were read and not pulled.
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

    `purpose`: such as "pull docker.io/library/app:1". `since`: start time, in seconds since 1970.
    `process`: its id, in its own PID namespace; None if the lease has none.
    """

    purpose: str
    digests: frozenset[Digest]
    since: float
    process: int | None = None


@dataclass(frozen=True, slots=True)
class ImageListing:
    """Images of a store, sorted by reference; those with `read_as` were read and not pulled."""

    images: tuple[StoredImage, ...]
