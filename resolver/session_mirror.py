"""The verb of a session that serves others: a mirror of registries over the store."""

from __future__ import annotations

from secrets import token_hex
from typing import TYPE_CHECKING

from resolver.core.target import RegistryTarget
from resolver.errors import NotInStore
from resolver.flow.reader import Reader
from resolver.wiring import Wiring

if TYPE_CHECKING:
    from collections.abc import Iterable
    from contextlib import AbstractContextManager

    from resolver.core.content import Source
    from resolver.core.reference import Reference
    from resolver.flow.serve import Server

#: Seconds for which the meaning of a tag is not asked again, where nobody says.
FRESH = 60.0


class MirrorVerbs(Wiring):
    """Serves what is here, and fetches what is not."""

    def serve_mirror(
        self,
        host: str = "127.0.0.1",
        port: int = 0,
        *,
        upstream: str | None = "docker.io",
        allow: Iterable[str] = (),
        fresh: float = FRESH,
        names: Iterable[str] = (),
    ) -> AbstractContextManager[Server]:
        """Serve as a pull-through cache while a `with` block lasts: what is not here is fetched.

        Args:
            host: an address or a name of this machine.
            port: 0 for any free one; the `address` of the server says which.
            upstream: the registry that is meant where a client names none; None for none.
            allow: registries that may be asked, besides.
            fresh: seconds for which the meaning of a tag is not asked again.
            names: by which clients call this machine, besides `host`, `localhost` and addresses.

        Raises:
            Malformed: something cannot be read, or nothing can listen there.
            StoreFault: the store cannot be written.

        """
        from resolver.flow.offer import serve_mirror  # noqa: PLC0415 - for this verb alone
        from resolver.flow.upstreams import Upstreams  # noqa: PLC0415

        allowed = (*((upstream,) if upstream else ()), *allow)
        upstreams = Upstreams(allowed, upstream)
        if upstreams.usual is not None:
            # An explicit login is for the one registry that was named as such.
            with self._lock:
                self._trusted_hosts.add(upstreams.usual)
        # A file that points other tools of this machine here points us here too.
        self._via = f"resolver-{token_hex(8)}"
        return serve_mirror(
            self._store,
            upstreams,
            _Asking(self),
            host,
            port,
            fresh=fresh,
            names=names,
            via=self._via,
            observe=self._observe,
        )


class _Asking:
    """How a mirror gets at registries: as every other question of the session does."""

    def __init__(self, session: MirrorVerbs) -> None:
        self._session = session

    def source(self, repository: Reference) -> Source:
        """Open a repository.

        Raises:
            NotInStore: only the store may answer.

        """
        if self._session.settings.offline:
            root = str(self._session._store.root)  # noqa: SLF001 - a part of it
            raise NotInStore(repository.identity, "what is asked for", root)
        # Content that a client names by digest may belong to an image that it asked for by tag.
        whole = repository.tag is None
        return self._session._source(  # noqa: SLF001 - a part of it
            RegistryTarget(repository), whole=whole
        )

    def reader(self, repository: Reference, *, offline: bool) -> Reader:
        """Make a reader of its documents; `offline` asks nobody."""
        session = self._session
        alone = offline or session.settings.offline
        opener = None if alone else lambda: self.source(repository)
        return Reader(opener, session._store, str(repository), session._observe)  # noqa: SLF001
