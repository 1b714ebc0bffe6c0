"""Serving the store or a layout, for the length of a block."""

from __future__ import annotations

from contextlib import closing, contextmanager
from typing import TYPE_CHECKING

from resolver.core.events import Warned, ignore
from resolver.errors import UnsupportedDocument
from resolver.flow.serve import serve
from resolver.flow.shelves import LayoutShelf, StoreShelf

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator

    from resolver.core.events import Observer
    from resolver.core.target import LayoutTarget
    from resolver.flow.mirror import Asking
    from resolver.flow.serve import Server
    from resolver.flow.upstreams import Upstreams
    from resolver.sources.retry import Clock
    from resolver.store import LocalStore


@contextmanager
def serve_store(
    store: LocalStore,
    host: str = "127.0.0.1",
    port: int = 0,
    *,
    only: Collection[str] | None = None,
    names: Iterable[str] = (),
) -> Iterator[Server]:
    """Serve what was pulled; a lease keeps it in the store meanwhile.

    Args:
        store: what is pulled meanwhile is served too.
        host: an address or a name of this machine.
        port: 0 = any free one.
        only: canonical references; None = all there are.
        names: by which clients call this machine, besides `host`, `localhost` and addresses.

    Raises:
        Usage: nothing can listen there.
        StoreFault: the store cannot be read.

    """
    with store.lease((), "serve", needed=False) as lease:
        shelf = StoreShelf(store, lease.add, only)
        # Now, so that a store that cannot be read is said here and not to a client.
        shelf.repositories()
        with serve(shelf, host, port, names=names) as server:
            yield server


@contextmanager
def serve_mirror(  # noqa: PLR0913 - each is one thing that a caller decides
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
    """Serve what is here, and fetch what is not; see `flow.mirror`.

    Args:
        store: where it is kept; a lease keeps it there meanwhile.
        upstreams: who may be asked.
        asking: how.
        host: an address or a name of this machine.
        port: 0 = any free one.
        fresh: seconds for which the meaning of a tag is not asked again.
        names: by which clients call this machine, besides `host`, `localhost` and addresses.
        via: what `asking` puts into its requests, to be refused when they come back here.
        observe: is told of every request.
        clock: for what is fresh, and for waiting.

    Raises:
        Usage: nothing can listen there.
        StoreFault: the store cannot be written.

    """
    from resolver.flow.mirror import Mirror  # noqa: PLC0415 - for this kind alone
    from resolver.sources.retry import SystemClock  # noqa: PLC0415

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
def serve_layout(
    target: LayoutTarget,
    host: str = "127.0.0.1",
    port: int = 0,
    *,
    names: Iterable[str] = (),
    observe: Observer = ignore,
) -> Iterator[Server]:
    """Serve an OCI layout, as `serve_store`.

    Raises:
        Usage: nothing can listen there.
        UnsupportedDocument: it is an archive.
        NotFound, Untrusted, Unavailable: it cannot be read, or is no layout.

    """
    if target.kind != "oci":
        raise UnsupportedDocument(
            f"`{target}`",
            "",
            "an archive is not served from where it lies",
            f"unpack it: `mkdir layout && tar -xf {target.path} -C layout`",
        )
    shelf = LayoutShelf(target.path)
    for name in shelf.ambiguous:
        message = f"several images in `{target.path}` are named `{name}`: served by digest only"
        observe(Warned("ambiguous-tag", message))
    with serve(shelf, host, port, names=names) as server:
        yield server
