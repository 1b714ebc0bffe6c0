"""Verbs on the local store."""

from __future__ import annotations

import re
from contextlib import suppress
from fnmatch import fnmatchcase
from functools import partial
from typing import TYPE_CHECKING

from resolver.core.oci.reference import Reference
from resolver.core.oci.target import LayoutTarget, RegistryTarget, StoreTarget, parse_target
from resolver.core.platforms.platform import Platform
from resolver.core.results.events import Counted, Noted
from resolver.core.results.store import ImageListing
from resolver.errors import InvalidConfiguration, InvalidReference, ResolverError, Usage
from resolver.values import dataclass, pattern

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from contextlib import AbstractContextManager

    from resolver.core.oci.descriptor import Descriptor
    from resolver.core.results.export import Exported
    from resolver.core.results.store import Collected, Removed, Retention, StoredImage, Verified
    from resolver.core.results.store import DiskUsage as Used
    from resolver.verbs.context import Context
    from resolver.verbs.serve.server import Server


#: What may be an image id: a digest, or the start of one.
_ID = pattern(r"(?:(?:sha256|sha512):)?[0-9a-f]{1,128}")
#: Seconds since 1970, the form of `SOURCE_DATE_EPOCH`; at most the last of year 9999.
_EPOCH = pattern(r"[0-9]{1,12}")


def images(context: Context) -> tuple[StoredImage, ...]:
    """List pulled images by reference, then dangling ones."""
    return context.store.images()


def usage(context: Context) -> Used:
    """Report the disk usage of each image, and what images share."""
    return context.store.usage()


def remove(
    context: Context,
    image: str | Reference,
    platform: str | Platform | None = None,
    *,
    force: bool = False,
) -> Removed:
    """Remove a name, then delete content that no other name needs."""
    if isinstance(platform, str):
        platform = Platform.parse(platform, table=context.table)
    return context.store.remove(_held(context, image), platform, force=force)


def collect(
    context: Context, rules: Retention | None = None, *, dry_run: bool = False
) -> Collected:
    """Delete what neither names nor living processes need."""
    return context.store.collect(rules, dry_run=dry_run)


def verify(context: Context, *, full: bool = False, repair: bool = False) -> Verified:
    """Check that every name has all it needs, and that every file matches its digest."""
    if repair and context.settings.offline:
        raise Usage(
            "`--repair` fetches, and `--offline` sends no requests", "leave one of them out"
        )
    return context.store.verify(
        full=full,
        repair=partial(_fetch_again, context) if repair else None,
        hashed=lambda done, total: context.observe(Counted("verifying", done, total, "bytes")),
    )


def export(  # noqa: PLR0913 - each is one thing that a caller decides
    context: Context,
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
    """Export images of the store, verifying every byte."""
    from resolver.core.results.export import parse_destination  # noqa: PLC0415 - for this verb alone
    from resolver.files.platforms import host_platform  # noqa: PLC0415
    from resolver.verbs.export.bundle import ExportSelection  # noqa: PLC0415
    from resolver.verbs.export.export import ExportOptions, export  # noqa: PLC0415
    from resolver.verbs.export.layout import LayoutOptions  # noqa: PLC0415

    destination = parse_destination(to)
    if link and destination.kind != "layout":
        raise Usage("`--link` is for a folder", "leave it out, or name a folder: `--to DIR`")
    named = [references] if isinstance(references, str | Reference) else references
    typed = tuple(platforms)
    everything = "all" in typed
    held = [_reference(reference) for reference in named]
    environment = context.settings.environment
    chosen = () if everything else tuple(context.platform_request(one, exact=True) for one in typed)
    options = ExportOptions(
        selection=ExportSelection(
            tuple(dict.fromkeys(each.platforms[0] for each in chosen if not each.local)),
            exact,
            context.table,
            machine=next((each.platforms for each in chosen if each.local), ()),
            everything=everything,
            attestations=attestations,
        ),
        host=host_platform(),
        epoch=_epoch(environment.get("SOURCE_DATE_EPOCH", "")),
        namespace=namespace,
        environment=environment,
        layout=LayoutOptions(sync=context.settings.fsync, link=link),
        sink=sink,
    )
    return export(held, context.store, destination, options, context.observe)


def serve(
    context: Context,
    place: str | None = None,
    host: str = "127.0.0.1",
    port: int = 0,
    *,
    names: Iterable[str] = (),
) -> AbstractContextManager[Server]:
    """Serve the store, or an OCI layout, as a read-only registry while a `with` block lasts."""
    from resolver.verbs.serve.serve import serve_layout, serve_store  # noqa: PLC0415 - for this verb

    if place is None:
        return serve_store(context.store, host, port, names=names, observe=context.observe)
    target = parse_target(place)
    if not isinstance(target, LayoutTarget):
        raise Usage(f"`{place}` cannot be served", "name an OCI layout: `oci:DIR`")
    from resolver.sources import settle  # noqa: PLC0415 - only for local places

    return serve_layout(settle(target), host, port, names=names, observe=context.observe)


def _held(context: Context, image: str | Reference) -> str:
    """Read an image of the store: a reference becomes canonical, an id stays as it is.

    What looks like an id is one unless something was pulled under that name.
    """
    if isinstance(image, str) and _ID.fullmatch(image):
        with suppress(ResolverError):
            name = str(_reference(image))
            if context.store.pulled(name) is not None:
                return name
        return image
    return str(_reference(image))


def _fetch_again(context: Context, descriptor: Descriptor, references: tuple[str, ...]) -> bool:
    """Fetch one blob again, from the first repository that has it."""
    for reference in references:
        try:
            source = context.source(RegistryTarget(Reference.parse(reference)))
            with source.open(descriptor) as chunks:
                context.store.add(descriptor, chunks)
        except ResolverError as error:
            context.observe(Noted(f"`{descriptor.digest}` is not in `{reference}`: {error}"))
        else:
            return True
    return False


def _reference(text: str | Reference) -> Reference:
    if isinstance(text, Reference):
        return text
    target = parse_target(text)
    if isinstance(target, RegistryTarget | StoreTarget):
        return target.reference
    raise InvalidReference(text, "it is a location, and a name was expected", "see `resolver ls`")


def _epoch(text: str) -> int:
    """Parse `SOURCE_DATE_EPOCH`; 0 if it is unset.

    Source: reproducible-builds.org, "SOURCE_DATE_EPOCH specification".
    """
    if text and not _EPOCH.fullmatch(text):
        raise InvalidConfiguration("SOURCE_DATE_EPOCH", "", "it must be seconds since 1970")
    return int(text or "0")


#: The keys of `--filter KEY=VALUE`.
KEYS = ("dangling", "platform", "reference")
#: A version and features, as `str` of a platform writes them.
_PARENTHESES = pattern(r"\([^()]*\)", re.ASCII)
_TRUTHS = {"true": True, "1": True, "false": False, "0": False}


@dataclass(frozen=True, slots=True)
class ListFilters:
    """Filters of the list of images."""

    patterns: tuple[str, ...] = ()
    platforms: tuple[str, ...] = ()
    dangling: bool | None = None

    @classmethod
    def parse(cls, filters: Iterable[str], patterns: Iterable[str] = ()) -> ListFilters:
        """Parse `--filter KEY=VALUE`, as in Docker, and reference patterns."""
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
        raise Usage(
            f"`--filter dangling={values[-1]}` is neither true nor false",
            "write `--filter dangling=true` or `--filter dangling=false`",
        )
    return truth
