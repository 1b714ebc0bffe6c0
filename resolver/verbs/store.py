"""The verbs of a session that are about what is here."""

from __future__ import annotations

import re
from contextlib import suppress
from typing import TYPE_CHECKING

from resolver.core.oci.reference import Reference
from resolver.core.oci.target import LayoutTarget, RegistryTarget, StoreTarget, parse_target
from resolver.core.platforms.platform import Platform
from resolver.core.results.events import Noted
from resolver.errors import InvalidConfiguration, InvalidReference, ResolverError, Usage
from resolver.verbs.context import Context

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from contextlib import AbstractContextManager

    from resolver.core.oci.descriptor import Descriptor
    from resolver.core.results.export import Exported
    from resolver.core.results.store import Collected, Removed, Retention, StoredImage, Verified
    from resolver.core.results.store import DiskUsage as Used
    from resolver.verbs.serve.server import Server

#: What may be an image id: a digest, or the start of one.
_ID = re.compile(r"(?:(?:sha256|sha512):)?[0-9a-f]{1,128}")
#: Seconds since 1970, as `SOURCE_DATE_EPOCH` gives them; the last of year 9999 at most.
_EPOCH = re.compile(r"[0-9]{1,12}")


class StoreVerbs(Context):
    """Lists, removes, collects and verifies what the store holds."""

    def images(self) -> tuple[StoredImage, ...]:
        """List what was pulled, by reference; then what no reference means any more.

        Raises:
            StoreFault: the store cannot be read.

        """
        return self._store.images()

    def usage(self) -> Used:
        """Say what takes how much room, and who shares what with whom.

        Raises:
            StoreFault: the store cannot be read.

        """
        return self._store.usage()

    def remove(
        self, image: str | Reference, platform: str | Platform | None = None, *, force: bool = False
    ) -> Removed:
        """Take a name away, then delete what nothing else needs.

        Args:
            image: a reference, or an image id: a digest, or the start of one.
            platform: only this one of it.
            force: also an id with several names, and what is in use.

        Raises:
            ImageNotHeld: there is no such image here.
            AmbiguousId: it is the start of several ids.
            InUse: it is used, or the id has several names.
            StoreFault: it cannot be removed.

        """
        if isinstance(platform, str):
            platform = Platform.parse(platform, table=self.table)
        return self._store.remove(self._held(image), platform, force=force)

    def collect(self, rules: Retention | None = None, *, dry_run: bool = False) -> Collected:
        """Delete what neither names nor living processes need.

        Args:
            rules: what stays besides; see `resolver.core.results.store.Retention`.
            dry_run: say what would go, and touch nothing.

        Raises:
            StoreFault: what is needed is not known for sure, and nothing was deleted.

        The lease of a living process that cannot be read is no error: it is in `unread` of the
        answer, and only what the dead left behind is deleted.

        """
        return self._store.collect(rules, dry_run=dry_run)

    def verify(self, *, full: bool = False, repair: bool = False) -> Verified:
        """Check that every name leads to all it needs, and every file is what its name says.

        Args:
            full: hash every byte, not documents and sizes only.
            repair: fetch again what is damaged or missing.

        Raises:
            StoreFault: the store cannot be read.

        """
        if repair and self.settings.offline:
            raise Usage("`--repair` fetches, and `--offline` asks nobody", "leave one of them out")
        return self._store.verify(full=full, repair=self._fetch_again if repair else None)

    def export(  # noqa: PLR0913 - each is one thing that a caller decides
        self,
        references: str | Reference | Iterable[str | Reference],
        to: str,
        platforms: Iterable[str | Platform] = (),
        *,
        exact: bool = False,
        namespace: str | None = None,
        attestations: bool = True,
        link: bool = False,
        sink: Callable[[bytes], object] | None = None,
    ) -> Exported:
        """Hand images of the store to something else, every byte verified on its way.

        Args:
            references: that were pulled; one or many.
            to: a folder (an OCI layout), `FILE.tar`, `docker`, `podman` or `containerd`; `-` is
                the bytes of the tar, in order, to `sink`.
            platforms: what is to leave of each; all that is held if none is named. `all` is every
                entry of the index, all of which must be held.
            exact: refuse fallbacks.
            namespace: of containerd, if not as `ctr` decides.
            attestations: with what the index lists about the images.
            link: share files with an OCI layout as hard links; changing one changes both.
            sink: takes each piece of the tar of `-`; what it raises ends the export.

        Raises:
            Usage: `to` is none of these, `link` is set and it is no folder, or `-` has no `sink`.
            NotHeld: something was not pulled.
            PlatformNotOffered: an image does not exist for a platform.
            ExportFault, ToolMissing, ToolFailed: it cannot be written there, or was not taken.
            StoreFault, Untrusted: the store cannot be read, or is damaged.

        """
        from resolver.core.results.export import parse_destination  # noqa: PLC0415 - for this verb alone
        from resolver.files.platforms import host_platform  # noqa: PLC0415
        from resolver.verbs.export.bundle import RemovalRequest  # noqa: PLC0415
        from resolver.verbs.export.export import ExportOptions, export  # noqa: PLC0415
        from resolver.verbs.export.layout import LayoutOptions  # noqa: PLC0415

        destination = parse_destination(to)
        if link and destination.kind != "layout":
            raise Usage("`--link` is for a folder", "leave it out, or name a folder: `--to DIR`")
        named = [references] if isinstance(references, str | Reference) else references
        typed = tuple(platforms)
        everything = "all" in typed
        held = [_reference(reference) for reference in named]
        environment = self.settings.environment
        chosen = () if everything else tuple(self.wish(one, exact=True) for one in typed)
        options = ExportOptions(
            wish=RemovalRequest(
                tuple(dict.fromkeys(each.platforms[0] for each in chosen if not each.local)),
                exact,
                self.table,
                machine=next((each.platforms for each in chosen if each.local), ()),
                everything=everything,
                attestations=attestations,
            ),
            host=host_platform(),
            epoch=_epoch(environment.get("SOURCE_DATE_EPOCH", "")),
            namespace=namespace,
            environment=environment,
            layout=LayoutOptions(sync=self.settings.fsync, link=link),
            sink=sink,
        )
        return export(held, self._store, destination, options, self._observe)

    def serve(
        self,
        place: str | None = None,
        host: str = "127.0.0.1",
        port: int = 0,
        *,
        names: Iterable[str] = (),
    ) -> AbstractContextManager[Server]:
        """Serve the store, or an OCI layout, as a read-only registry while a `with` block lasts.

        Args:
            place: `oci:DIR`; None for the store.
            host: an address or a name of this machine.
            port: 0 for any free one; the `address` of the server says which.
            names: by which clients call this machine, besides `host`, `localhost` and addresses.

        Raises:
            Usage: nothing can listen there, or `place` is no layout.
            StoreFault, NotFound, Untrusted, Unavailable: it cannot be read.

        """
        from resolver.verbs.serve.serve import serve_layout, serve_store  # noqa: PLC0415 - for this verb

        if place is None:
            return serve_store(self._store, host, port, names=names, observe=self._observe)
        target = parse_target(place)
        if not isinstance(target, LayoutTarget):
            raise Usage(f"`{place}` cannot be served", "name an OCI layout: `oci:DIR`")
        from resolver.sources import settle  # noqa: PLC0415 - only for local places

        return serve_layout(settle(target), host, port, names=names, observe=self._observe)

    def _held(self, image: str | Reference) -> str:
        """Read an image of the store: a reference becomes canonical, an id stays as it is.

        What looks like an id is one unless something was pulled under that name.
        """
        if isinstance(image, str) and _ID.fullmatch(image):
            with suppress(ResolverError):
                name = str(_reference(image))
                if self._store.pulled(name) is not None:
                    return name
            return image
        return str(_reference(image))

    def _fetch_again(self, descriptor: Descriptor, references: tuple[str, ...]) -> bool:
        """Bring one blob anew, from the first repository that has it."""
        for reference in references:
            try:
                source = self._source(RegistryTarget(Reference.parse(reference)))
                with source.open(descriptor) as chunks:
                    self._store.add(descriptor, chunks)
            except ResolverError as error:
                self._observe(Noted(f"`{descriptor.digest}` is not in `{reference}`: {error}"))
            else:
                return True
        return False


def _reference(text: str | Reference) -> Reference:
    """Read the name of an image that is here.

    Raises:
        InvalidReference: it is no reference.

    """
    if isinstance(text, Reference):
        return text
    target = parse_target(text)
    if isinstance(target, RegistryTarget | StoreTarget):
        return target.reference
    raise InvalidReference(text, "it is a place, and a name was expected", "see `resolver ls`")


def _epoch(text: str) -> int:
    """Read `SOURCE_DATE_EPOCH`; 0 where it is not set.

    Source: reproducible-builds.org, "SOURCE_DATE_EPOCH specification".

    Raises:
        InvalidConfiguration: it is no number of seconds.

    """
    if text and not _EPOCH.fullmatch(text):
        raise InvalidConfiguration("SOURCE_DATE_EPOCH", "", "it must be seconds since 1970")
    return int(text or "0")
