"""Read the file trees of images: every shared layer once, without extracting files.

    images = [LayeredImage.of(part, label, what, content) for part in gathered.images]
    with fetching(store, source, observe) as content:      # for images of a registry
        trees = read_trees(images)
        comparison = compare_trees(next(trees), trees, table)  # core.compare.files

`content` is the store with `--offline`, a layout or an archive for an image in one, and `fetching`
otherwise: missing layers are first fetched into the store and verified, and read from there.
"""

from __future__ import annotations

import hashlib
import threading
from collections import Counter
from contextlib import contextmanager
from dataclasses import replace
from itertools import chain
from typing import TYPE_CHECKING

from resolver.clock import SystemClock
from resolver.core.compare import packages
from resolver.core.compare.files import LabelledTree
from resolver.core.layers.decompress import inflate
from resolver.core.layers.filetree import FileTree
from resolver.core.layers.listing import FEWER, LayerListing, TreeRoom, read_listing
from resolver.core.layers.tar import DEFAULT_LIMITS, TarLimits
from resolver.core.oci.descriptor import START, decide
from resolver.core.oci.digest import Digest, Verifier
from resolver.core.results.events import Observer, ignore
from resolver.core.results.pull_events import Finished, PieceStarted, Reused
from resolver.errors import (
    BadDocument,
    ChecksumMismatch,
    LimitExceeded,
    NotInStore,
    UnsupportedDocument,
    Untrusted,
)
from resolver.values import dataclass
from resolver.verbs.fetch import ranged
from resolver.verbs.threads import DaemonPool
from resolver.verbs.transfer import (
    Stopped,
    Transfer,
    TransferContext,
    TransferOptions,
    one_at_a_time,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
    from contextlib import AbstractContextManager
    from typing import Protocol

    from resolver.clock import Clock
    from resolver.core.oci.content import Content
    from resolver.core.oci.descriptor import Descriptor
    from resolver.core.oci.image import ImageEntry
    from resolver.core.platforms.platform import Platform
    from resolver.store import LocalStore

    class LayerContent(Protocol):
        """Where the bytes of layers come from: a store, a layout, an archive, or `Fetching`."""

        def open(self, descriptor: Descriptor) -> AbstractContextManager[Iterator[bytes]]:
            """Stream a layer; the reader verifies it."""
            ...


@dataclass(frozen=True, slots=True, eq=False)
class ReadLayer:
    """A layer that was read to its end and matches its descriptor.

    Attributes:
        diff_ids: digests of the uncompressed bytes by algorithm; the caller compares them with a
            config.
    """

    listing: LayerListing
    diff_ids: Mapping[str, Digest]


def read_layer(  # noqa: PLR0913 - each is one thing that a caller decides
    content: LayerContent,
    descriptor: Descriptor,
    what: str,
    wanted: Callable[[str], int],
    limits: TarLimits = DEFAULT_LIMITS,
    *,
    algorithms: Collection[str] = ("sha256",),
    is_wanted: Callable[[], bool] = lambda: True,
    room: TreeRoom | None = None,
) -> ReadLayer:
    """Read a layer from its first byte to its last."""
    verifier = Verifier(descriptor.digest, descriptor.size, what)
    with content.open(descriptor) as chunks:
        verified = _verified(chunks, verifier, is_wanted)
        try:
            hashers = {name: hashlib.new(name) for name in algorithms}
            listing = _read(
                verified, hashers, descriptor.media_type, what, wanted, limits, room or TreeRoom()
            )
        except (BadDocument, ChecksumMismatch, UnsupportedDocument):
            # Wrong bytes explain any other error.
            for _ in verified:
                pass
            verifier.finish()
            raise
        for _ in verified:
            pass
    verifier.finish()
    return ReadLayer(
        listing, {name: Digest(name, hasher.hexdigest()) for name, hasher in hashers.items()}
    )


def _read(  # noqa: PLR0913, PLR0917 - as above
    chunks: Iterator[bytes],
    hashers: Mapping[str, hashlib._Hash],
    media_type: str,
    what: str,
    wanted: Callable[[str], int],
    limits: TarLimits,
    room: TreeRoom,
) -> LayerListing:
    start = b""
    for chunk in chunks:
        start += chunk
        if len(start) >= START:
            break
    compression, warning = decide(media_type, start, what)
    inflated = _hashed(inflate(chain((start,), chunks), compression, what), tuple(hashers.values()))
    listing = read_listing(inflated, what, wanted, limits, room)
    if warning:
        listing = replace(listing, warnings=(warning, *listing.warnings))
    return listing


def _verified(
    chunks: Iterable[bytes], verifier: Verifier, is_wanted: Callable[[], bool]
) -> Iterator[bytes]:
    for chunk in chunks:
        if not is_wanted():
            raise Stopped
        verifier.update(chunk)
        yield chunk


def _hashed(pieces: Iterable[bytes], hashers: Collection[hashlib._Hash]) -> Iterator[bytes]:
    for piece in pieces:
        for hasher in hashers:
            hasher.update(piece)
        yield piece


#: Layers at once: inflating and hashing leave the interpreter's lock, and more take memory.
JOBS = 2
_GRACE = 1.0


@dataclass(frozen=True, slots=True, eq=False)
class LayeredImage:
    """An image whose files are to be read.

    Attributes:
        label: its name in the comparison.
        what: the image, for messages: "`ubuntu:24.04` for linux/arm64".
        diff_ids: one per layer, lowest first, from the config.
        content: has the layers.
    """

    label: str
    platform: Platform | None
    what: str
    layers: tuple[Descriptor, ...]
    diff_ids: tuple[Digest, ...]
    content: LayerContent

    @classmethod
    def of(cls, entry: ImageEntry, label: str, what: str, content: LayerContent) -> LayeredImage:
        """Build from gathered documents: manifest and config."""
        if entry.failure is not None:
            raise entry.failure
        if entry.manifest is None or entry.config is None:
            raise BadDocument(
                what, "config", "it is not an image with a config, so it has no files"
            )
        layers, diff_ids = entry.manifest.layers, entry.config.diff_ids
        if len(layers) != len(diff_ids):
            reason = f"{len(diff_ids)} for {len(layers)} layers in the manifest"
            raise BadDocument(f"the config of {what}", "rootfs.diff_ids", reason)
        return cls(label, entry.platform, what, layers, diff_ids, content)


def read_trees(
    images: Sequence[LayeredImage],
    *,
    jobs: int = JOBS,
    limits: TarLimits = DEFAULT_LIMITS,
    room: TreeRoom | None = None,
) -> Iterator[LabelledTree]:
    """Yield the file trees of images, in order; each is built when it is requested.

    A layer that several images share is read once, and released after the last of them. Nothing is
    yielded before every layer is read to its end and checked against its digest and the config's
    diff_id.
    """
    room = room or TreeRoom(lock=threading.RLock())
    layers = _Layers(jobs, limits, room).read(images)
    uses = Counter(descriptor.digest for image in images for descriptor in image.layers)
    for image in images:
        tree = FileTree(room)
        warnings: list[str] = []
        for number, descriptor in enumerate(image.layers):
            what = _layer_name(image, number)
            listing = layers[descriptor.digest].listing
            tree.apply(listing, what)
            warnings += [f"{what}: {warning}" for warning in listing.warnings]
            uses[descriptor.digest] -= 1
            if not uses[descriptor.digest]:
                del layers[descriptor.digest]
            del listing
        yield LabelledTree(image.label, image.platform, tree, tuple(warnings))


class _Layers:
    """Reads layers side by side, the largest first, each once."""

    def __init__(self, jobs: int, limits: TarLimits, room: TreeRoom) -> None:
        self._jobs = jobs
        self._room = room
        self._limits = limits
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self._totals: Counter[str] = Counter()
        self._algorithms: dict[Digest, set[str]] = {}

    def read(self, images: Sequence[LayeredImage]) -> dict[Digest, ReadLayer]:
        wanted: dict[Digest, tuple[LayeredImage, int]] = {}
        for image in images:
            for number, descriptor in enumerate(image.layers):
                wanted.setdefault(descriptor.digest, (image, number))
                used = self._algorithms.setdefault(descriptor.digest, set())
                used.add(image.diff_ids[number].algorithm)
        order = sorted(wanted.values(), key=lambda each: -each[0].layers[each[1]].size)
        workers = DaemonPool(self._jobs, "resolver-layer")
        try:
            under_way = {
                image.layers[number].digest: workers.submit(
                    lambda image=image, number=number: self._one(image, number)  # type: ignore[misc]  # defaults bind the loop's values
                )
                for image, number in order
            }
            # Of several errors, the same one is raised on every run.
            found = {digest: future.result() for digest, future in under_way.items()}
        finally:
            self._stop.set()
            workers.close(_GRACE)
        for image in images:
            _check_diff_ids(image, found)
        return found

    def _one(self, image: LayeredImage, number: int) -> ReadLayer:
        if self._stop.is_set():
            raise Stopped
        read = read_layer(
            image.content,
            image.layers[number],
            _layer_name(image, number),
            packages.wanted,
            self._limits,
            algorithms=self._algorithms[image.layers[number].digest],
            is_wanted=lambda: not self._stop.is_set(),
            room=self._room,
        )
        with self._lock:
            listing, limits = read.listing, self._limits
            for what, limit, value, unit in (
                ("the number of entries", limits.entries, len(listing.files), "entries"),
                ("the size of all names", limits.names, listing.named, "bytes"),
                ("the size of all extended attributes", limits.xattrs, listing.attributed, "bytes"),
                ("the size of all package databases", limits.bodies, listing.kept, "bytes"),
            ):
                self._totals[what] += value
                if self._totals[what] > limit:
                    whole = f"{what} of all layers together"
                    raise LimitExceeded(whole, limit, self._totals[what], unit, FEWER)
        return read


def _layer_name(image: LayeredImage, number: int) -> str:
    return f"layer {number + 1} of {image.what}"


def _check_diff_ids(image: LayeredImage, layers: dict[Digest, ReadLayer]) -> None:
    for number, (descriptor, stated) in enumerate(zip(image.layers, image.diff_ids, strict=True)):
        actual = layers[descriptor.digest].diff_ids[stated.algorithm]
        if stated != actual:
            what = _layer_name(image, number)
            raise Untrusted(
                f"{what} unpacks to `{actual}`, but the image's config says `{stated}`",
                "report it to the publisher: no container engine will run this image",
                code="contradictory-layer",
                what=what,
                stated=str(stated),
                actual=str(actual),
            )


class Fetching:
    """Layers of one repository: what the store lacks is fetched into it, then read from there.

    Args:
        keep: called with the digest of what is about to be used, by one thread at a time.
        fetched: called with each layer that had to be fetched, by one thread at a time.
    """

    def __init__(
        self,
        shared: TransferContext,
        source_of: Callable[[], Content],
        keep: Callable[[Digest], None],
        fetched: Callable[[Descriptor], None],
    ) -> None:
        self._shared = shared
        self._source_of = source_of
        self._keep = keep
        self._fetched = fetched
        self._lock = threading.Lock()

    @contextmanager
    def open(self, descriptor: Descriptor) -> Iterator[Iterator[bytes]]:
        """Stream a layer out of the store."""
        with self._lock:
            self._keep(descriptor.digest)
        if not self._shared.store.held(descriptor):
            with self._lock:
                source = self._source_of()
            transfer = Transfer(
                self._shared,
                descriptor,
                ranged(source),
                self._is_wanted,
                started=lambda: self._started(descriptor),
            )
            if transfer.run():
                self._shared.emit(Finished(descriptor.digest, descriptor.size))
            else:
                self._shared.emit(Reused(descriptor.digest, descriptor.size, ""))
        with self._shared.store.open(descriptor) as chunks:
            yield chunks

    def _started(self, descriptor: Descriptor) -> None:
        with self._lock:
            self._fetched(descriptor)
        self._shared.emit(PieceStarted(descriptor.digest, descriptor.size))

    def _is_wanted(self) -> bool:
        return not self._shared.stop.is_set()


@contextmanager
def fetching(
    store: LocalStore,
    source_of: Callable[[], Content],
    purpose: str,
    observe: Observer = ignore,
    *,
    fetched: Callable[[Descriptor], None] = lambda _layer: None,
    clock: Clock | None = None,
) -> Iterator[Fetching]:
    """Fetch layers into a store and protect them with a lease while a block runs.

    `fetched` is called with each layer that the store lacked, before it is fetched.
    """
    options = TransferOptions(jobs=JOBS)
    stop = threading.Event()
    entries = DaemonPool(options.connections, "resolver-part")
    shared = TransferContext(
        store, options, one_at_a_time(observe), clock or SystemClock(), entries, stop
    )
    try:
        with store.lease(purpose=purpose) as lease:
            yield Fetching(shared, source_of, lambda digest: lease.add((digest,)), fetched)
    finally:
        stop.set()
        entries.close(_GRACE)


class HeldLayers:
    """Layers of a store, without fetching."""

    def __init__(self, store: LocalStore, reference: str) -> None:
        self._store = store
        self._reference = reference

    def open(self, descriptor: Descriptor) -> AbstractContextManager[Iterator[bytes]]:
        """Stream a layer."""
        if not self._store.has(descriptor):
            layer = f"its layer `{descriptor.digest}`"
            raise NotInStore(self._reference, layer, str(self._store.root))
        return self._store.open(descriptor)
