"""Reading the file trees of images: every layer once, whoever shares it, nothing extracted.

    images = [LayeredImage.of(part, label, what, content) for part in gathered.images]
    with fetching(store, source, observe) as content:      # for images of a registry
        trees = read_trees(images)
        comparison = compare_trees(next(trees), trees, table)  # core.file_comparison

`content` is the store with `--offline`, a layout or an archive where the image lies in one, and
`fetching` otherwise: what the store lacks comes into it first, verified, and is read from there.
"""

from __future__ import annotations

import threading
from collections import Counter
from contextlib import contextmanager
from typing import TYPE_CHECKING

from resolver.core import packages
from resolver.core.events import Observer, ignore
from resolver.core.file_comparison import LabelledTree
from resolver.core.filetree import FileTree
from resolver.core.tar_reader import DEFAULT_LIMITS, TarLimits
from resolver.core.transfers import Finished, PieceStarted, Reused
from resolver.core.tree_room import FEWER, TreeRoom
from resolver.errors import BadDocument, ContradictoryLayer, LimitExceeded, NotInStore
from resolver.flow.bring import ranged
from resolver.flow.kit import Kit, PullOptions, Stopped, one_at_a_time
from resolver.flow.layer import read_layer
from resolver.flow.transfer import Transfer
from resolver.flow.workers import Workers
from resolver.sources.retry import SystemClock
from resolver.values import dataclass

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from concurrent.futures import Future
    from contextlib import AbstractContextManager

    from resolver.core.content import Content
    from resolver.core.descriptor import Descriptor
    from resolver.core.digest import Digest
    from resolver.core.gathered import Part
    from resolver.core.platform import Platform
    from resolver.flow.layer import LayerContent, ReadLayer
    from resolver.sources.retry import Clock
    from resolver.store import LocalStore

#: Layers at once: inflating and hashing leave the interpreter's lock, and more take memory.
JOBS = 2
#: Entries of all layers of one run. Source: reliability.md 5, of one archive.
MAX_ENTRIES = DEFAULT_LIMITS.entries
_GRACE = 1.0


@dataclass(frozen=True, slots=True, eq=False)
class LayeredImage:
    """An image whose files are wanted.

    Attributes:
        label: what it is called in the comparison.
        what: the image, for messages: "`ubuntu:24.04` for linux/arm64".
        diff_ids: one per layer, lowest first, as the config says.
        content: has the layers.
    """

    label: str
    platform: Platform | None
    what: str
    layers: tuple[Descriptor, ...]
    diff_ids: tuple[Digest, ...]
    content: LayerContent

    @classmethod
    def of(cls, part: Part, label: str, what: str, content: LayerContent) -> LayeredImage:
        """Take what was gathered of an image, manifest and config.

        Raises:
            ResolverError: why one of the two could not be read.
            BadDocument: it has none, or they do not agree about the number of layers.
        """
        if part.failure is not None:
            raise part.failure
        if part.manifest is None or part.config is None:
            raise BadDocument(what, "config", "it is no image with a config, so it has no files")
        layers, diff_ids = part.manifest.layers, part.config.diff_ids
        if len(layers) != len(diff_ids):
            reason = f"{len(diff_ids)} for {len(layers)} layers in the manifest"
            raise BadDocument(f"the config of {what}", "rootfs.diff_ids", reason)
        return cls(label, part.platform, what, layers, diff_ids, content)


def read_trees(
    images: Sequence[LayeredImage],
    *,
    jobs: int = JOBS,
    limits: TarLimits = DEFAULT_LIMITS,
    room: TreeRoom | None = None,
) -> Iterator[LabelledTree]:
    """Read the file trees of images, in the order given; each is made when it is asked for.

    A layer that several share is read once, and let go of after the last of them. Nothing is given
    out before every layer is read to its end and checked against its digest and the config's
    diff_id.

    Args:
        images: any number.
        jobs: layers at once.
        limits: of each layer; entries and names are those of all layers together.
        room: what all trees together may take.

    Raises:
        ContradictoryLayer: a layer is not what the config says.
        Untrusted: a layer is damaged, goes past a limit, or is not read here.
        ResolverError: a layer cannot be had.
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
        self._entries = 0
        self._named = 0
        self._attributed = 0
        self._kept = 0
        self._algorithms: dict[Digest, set[str]] = {}

    def read(self, images: Sequence[LayeredImage]) -> dict[Digest, ReadLayer]:
        wanted: dict[Digest, tuple[LayeredImage, int]] = {}
        for image in images:
            for number, descriptor in enumerate(image.layers):
                wanted.setdefault(descriptor.digest, (image, number))
                used = self._algorithms.setdefault(descriptor.digest, set())
                used.add(image.diff_ids[number].algorithm)
        order = sorted(wanted.values(), key=lambda each: -each[0].layers[each[1]].size)
        workers = Workers(self._jobs, "resolver-layer")
        try:
            under_way = {
                image.layers[number].digest: workers.submit(
                    lambda image=image, number=number: self._one(image, number)  # type: ignore[misc]  # defaults bind the loop's values
                )
                for image, number in order
            }
            found = self._settled(under_way)
        finally:
            self._stop.set()
            workers.close(_GRACE)
        for image in images:
            _check_diff_ids(image, found)
        return found

    def _settled(self, under_way: dict[Digest, Future[ReadLayer]]) -> dict[Digest, ReadLayer]:
        """Wait for all; of several failures the same one is told every time."""
        found: dict[Digest, ReadLayer] = {}
        for digest, future in under_way.items():
            found[digest] = future.result()
        return found

    def _one(self, image: LayeredImage, number: int) -> ReadLayer:
        """Read one layer; in a thread of its own."""
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
            self._entries += len(read.listing.files)
            if self._entries > self._limits.entries:
                what = "the number of entries of all layers together"
                raise LimitExceeded(what, self._limits.entries, self._entries, "entries", FEWER)
            self._named += read.listing.named
            if self._named > self._limits.names:
                what = "the size of all names of all layers together"
                raise LimitExceeded(what, self._limits.names, self._named, "bytes", FEWER)
            self._attributed += read.listing.attributed
            if self._attributed > self._limits.xattrs:
                what = "the size of all extended attributes of all layers together"
                raise LimitExceeded(what, self._limits.xattrs, self._attributed, "bytes", FEWER)
            self._kept += read.listing.kept
            if self._kept > self._limits.bodies:
                what = "the size of all package databases of all layers together"
                raise LimitExceeded(what, self._limits.bodies, self._kept, "bytes", FEWER)
        return read


def _layer_name(image: LayeredImage, number: int) -> str:
    return f"layer {number + 1} of {image.what}"


def _check_diff_ids(image: LayeredImage, layers: dict[Digest, ReadLayer]) -> None:
    for number, (descriptor, stated) in enumerate(zip(image.layers, image.diff_ids, strict=True)):
        actual = layers[descriptor.digest].diff_ids[stated.algorithm]
        if stated != actual:
            raise ContradictoryLayer(_layer_name(image, number), str(stated), str(actual))


class Fetching:
    """Layers of one repository: what the store lacks is fetched into it, then read from there.

    Args:
        kit: what transfers share.
        source_of: opens the repository, once, when something is missing.
        keep: called with the digest of what is about to be used, by one thread at a time.
        fetched: called with each layer that had to be fetched, by one thread at a time.
    """

    def __init__(
        self,
        kit: Kit,
        source_of: Callable[[], Content],
        keep: Callable[[Digest], None],
        fetched: Callable[[Descriptor], None],
    ) -> None:
        self._kit = kit
        self._source_of = source_of
        self._keep = keep
        self._fetched = fetched
        self._lock = threading.Lock()

    @contextmanager
    def open(self, descriptor: Descriptor) -> Iterator[Iterator[bytes]]:
        """Stream a layer out of the store.

        Raises:
            NotFound, Denied, Unavailable, Untrusted: it cannot be fetched.
            StoreFault: it cannot be kept, or read.
        """
        with self._lock:
            self._keep(descriptor.digest)
        if not self._kit.store.held(descriptor):
            with self._lock:
                source = self._source_of()
            transfer = Transfer(
                self._kit,
                descriptor,
                ranged(source),
                self._is_wanted,
                started=lambda: self._started(descriptor),
            )
            if transfer.run():
                self._kit.tell(Finished(descriptor.digest, descriptor.size))
            else:
                self._kit.tell(Reused(descriptor.digest, descriptor.size, ""))
        with self._kit.store.open(descriptor) as chunks:
            yield chunks

    def _started(self, descriptor: Descriptor) -> None:
        with self._lock:
            self._fetched(descriptor)
        self._kit.tell(PieceStarted(descriptor.digest, descriptor.size))

    def _is_wanted(self) -> bool:
        return not self._kit.stop.is_set()


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
    """Fetch layers into a store for as long as a block lasts; a lease keeps them there until then.

    Args:
        store: where they go.
        source_of: opens the repository that has them.
        purpose: what a person is told who wants to remove one of them meanwhile.
        observe: told what goes on.
        fetched: told of each layer that the store lacked, before it comes.
        clock: for waiting.

    Raises:
        StoreFault: the store cannot be written.
    """
    options = PullOptions(jobs=JOBS)
    stop = threading.Event()
    parts = Workers(options.connections, "resolver-part")
    kit = Kit(store, options, one_at_a_time(observe), clock or SystemClock(), parts, stop)
    try:
        with store.lease(purpose=purpose) as lease:
            yield Fetching(kit, source_of, lambda digest: lease.add((digest,)), fetched)
    finally:
        stop.set()
        parts.close(_GRACE)


class Held:
    """Layers of a store that nothing may be fetched into.

    Args:
        store: has them, or not.
        reference: what was asked for, for messages.
    """

    def __init__(self, store: LocalStore, reference: str) -> None:
        self._store = store
        self._reference = reference

    def open(self, descriptor: Descriptor) -> AbstractContextManager[Iterator[bytes]]:
        """Stream a layer.

        Raises:
            NotInStore: it is not there.
        """
        if not self._store.has(descriptor):
            layer = f"its layer `{descriptor.digest}`"
            raise NotInStore(self._reference, layer, str(self._store.root))
        return self._store.open(descriptor)
