"""Serving the store or a layout, for the length of a block."""

from __future__ import annotations

from contextlib import closing, contextmanager
from secrets import token_hex
from typing import TYPE_CHECKING

from resolver.core.oci.manifest import counted, kind_of
from resolver.core.oci.target import RegistryTarget
from resolver.core.results.events import Warned, ignore
from resolver.errors import NotInStore, UnsupportedDocument
from resolver.settings import SERVE_FRESH
from resolver.verbs.documents import DocumentReader
from resolver.verbs.serve.catalog import LayoutShelf, StoreShelf
from resolver.verbs.serve.server import serve

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator
    from contextlib import AbstractContextManager

    from resolver.clock import Clock
    from resolver.core.oci.content import Source
    from resolver.core.oci.reference import Reference
    from resolver.core.oci.target import LayoutTarget
    from resolver.core.results.events import Observer
    from resolver.store import LocalStore
    from resolver.verbs.context import Context
    from resolver.verbs.serve.catalog import ContentShelf
    from resolver.verbs.serve.mirror import Asking, Upstreams
    from resolver.verbs.serve.server import Server
    from resolver.verbs.serve.write import WriteOptions


#: Tags that are named at the start; a large store may have thousands.
_TOLD = 10


@contextmanager
def serve_store(
    store: LocalStore,
    host: str = "127.0.0.1",
    port: int = 0,
    *,
    only: Collection[str] | None = None,
    names: Iterable[str] = (),
    observe: Observer = ignore,
) -> Iterator[Server]:
    """Serve what was pulled; a lease keeps it in the store meanwhile.

    `only` are canonical references, None for all. `names` are those by which clients call this
    machine, besides `host`, `localhost` and addresses.
    """
    with store.lease((), "serve", needed=False) as lease:
        shelf = StoreShelf(store, lease.add, only)
        # Now, so that a store that cannot be read fails here and not in a client's request.
        _tell_partial(shelf, observe, "`resolver pull -p all` fetches the rest")
        with serve(shelf, host, port, names=names) as server:
            yield server


@contextmanager
def start_mirror(  # noqa: PLR0913 - each is one thing that a caller decides
    store: LocalStore,
    upstreams: Upstreams,
    asking: Asking,
    host: str = "127.0.0.1",
    port: int = 0,
    *,
    fresh: float,
    names: Iterable[str] = (),
    via: str = "",
    observe: Observer = ignore,
    clock: Clock | None = None,
) -> Iterator[Server]:
    """Serve held content and fetch the rest; see `serve.mirror`.

    `fresh` is the time in seconds for which a tag is not looked up again. `names` are further names
    that clients use for this machine, besides `host`, `localhost` and addresses. `via` is the `Via`
    header that `asking` sends, to detect requests that loop back here.
    """
    from resolver.clock import SystemClock  # noqa: PLC0415
    from resolver.verbs.serve.mirror import Mirror  # noqa: PLC0415 - for this kind alone

    with store.lease((), "serve --mirror") as lease:
        mirror = Mirror(
            store,
            lease,
            upstreams,
            asking,
            fresh=fresh,
            via=via,
            observe=observe,
            clock=clock or SystemClock(),
        )
        with (
            closing(mirror),
            serve(mirror, host, port, names=names, refuse=mirror.refuse) as server,
        ):
            yield server


@contextmanager
def serve_writable(
    store: LocalStore,
    host: str = "127.0.0.1",
    port: int = 0,
    *,
    options: WriteOptions | None = None,
    names: Iterable[str] = (),
    clock: Clock | None = None,
) -> Iterator[Server]:
    """Serve the store and take pushes into it; see `serve.write`.

    Args:
        store: receives the content, which a lease protects meanwhile.
        host: an address or a name of this machine.
        port: 0 for any free one.
        options: what is allowed.
        names: further names that clients use for this machine, besides `host`, `localhost` and
            addresses.
        clock: for the time of a push.

    Raises:
        Usage: the address cannot be listened on, or not without passwords.
        InvalidConfiguration: the file of users cannot be used.
        StoreFault: the store cannot be written.

    """
    from resolver.clock import SystemClock  # noqa: PLC0415
    from resolver.verbs.serve.write import (  # noqa: PLC0415 - for this kind alone
        WriteOptions,
        Writer,
        refuse_open,
    )

    options = options or WriteOptions()
    refuse_open(host, options)
    with store.lease((), "serve --writable") as lease:
        writer = Writer(store, lease, options, clock or SystemClock())
        with serve(writer.shelf, host, port, names=names, respond=writer.respond) as server:
            yield server


@contextmanager
def serve_layout(
    target: LayoutTarget,
    host: str = "127.0.0.1",
    port: int = 0,
    *,
    names: Iterable[str] = (),
    observe: Observer = ignore,
) -> Iterator[Server]:
    """Serve an OCI layout, like `serve_store`."""
    if target.kind != "oci":
        raise UnsupportedDocument(
            f"`{target}`",
            "",
            "an archive cannot be served in place",
            f"unpack it: `mkdir layout && tar -xf {target.path} -C layout`",
        )
    shelf = LayoutShelf(target.path)
    _tell_partial(shelf, observe, "the layout does not hold the rest")
    for name in shelf.ambiguous:
        message = f"several images in `{target.path}` are named `{name}`: served by digest only"
        observe(Warned("ambiguous-tag", message))
    with serve(shelf, host, port, names=names) as server:
        yield server


def _tell_partial(shelf: ContentShelf, observe: Observer, hint: str) -> None:
    """Warn of tags that are served with less than their indexes list."""
    partial = shelf.partial()
    for one in partial[:_TOLD]:
        what = counted(map(kind_of, one.left_out))
        if one.served is None:
            message = f"`{one.tag}` is not served: nothing that its index lists is stored ({hint})"
        else:
            message = (
                f"`{one.tag}` is served as `{one.served.digest}`, an index of the stored part: "
                f"{what} of `{one.original.digest}` left out ({hint})"
            )
        observe(Warned("partial-index", message))
    if len(partial) > _TOLD:
        more = f"{len(partial) - _TOLD} more tags are served with less than their indexes list"
        observe(Warned("partial-index", more))


def serve_mirror(  # noqa: PLR0913 - one for each option of the verb
    context: Context,
    host: str = "127.0.0.1",
    port: int = 0,
    *,
    upstream: str | None = "docker.io",
    allow: Iterable[str] = (),
    fresh: float = SERVE_FRESH,
    names: Iterable[str] = (),
) -> AbstractContextManager[Server]:
    """Serve as a pull-through cache while a `with` block lasts: missing content is fetched."""
    from resolver.verbs.serve.mirror import Upstreams  # noqa: PLC0415

    allowed = (*((upstream,) if upstream else ()), *allow)
    upstreams = Upstreams(allowed, upstream)
    if upstreams.usual is not None:
        # An explicit login is for the one registry that was named as such.
        with context.mutex:
            context.trusted_hosts.add(upstreams.usual)
    # A file that points other tools of this machine here points us here too.
    context.via = f"resolver-{token_hex(8)}"
    return start_mirror(
        context.store,
        upstreams,
        _Asking(context),
        host,
        port,
        fresh=fresh,
        names=names,
        via=context.via,
        observe=context.observe,
    )


class _Asking:
    def __init__(self, context: Context) -> None:
        self._context = context

    @property
    def offline(self) -> bool:
        """Whether no registry may be contacted."""
        return self._context.settings.offline

    def source(self, repository: Reference) -> Source:
        """Open a repository."""
        if self._context.settings.offline:
            root = str(self._context.store.root)
            raise NotInStore(repository.identity, "the requested content", root)
        # Content requested by digest may belong to an image that was requested by tag.
        whole = repository.tag is None
        return self._context.source(RegistryTarget(repository), whole=whole)

    def reader(self, repository: Reference, *, offline: bool) -> DocumentReader:
        """Return a reader of its documents; an `offline` one sends no request."""
        context = self._context
        alone = offline or context.settings.offline
        opener = None if alone else lambda: self.source(repository)
        return DocumentReader(opener, context.store, str(repository), context.observe)
