"""Targets: the images that commands take, in a registry or on this machine."""

from __future__ import annotations

from typing import TYPE_CHECKING

from resolver.core.oci.digest import HEX_DIGITS, Digest
from resolver.core.oci.reference import Reference, is_tag
from resolver.errors import InvalidDigest, InvalidReference, Usage
from resolver.values import dataclass, pattern

if TYPE_CHECKING:
    from collections.abc import Callable, Collection


_REGISTRY_PREFIX = "docker://"
_STORE_PREFIX = "store:"
_DOCKER_ARCHIVE_PREFIX = "docker-archive:"
#: Longest first.
_LAYOUT_PREFIXES: tuple[tuple[str, str], ...] = (
    ("oci-layout://", "oci"),
    ("oci-archive:", "oci-archive"),
    ("oci:", "oci"),
)
#: Images in container engines of this machine: Docker's, and podman's own storage.
_ENGINES = ("docker-daemon", "containers-storage")
#: Source: Docker Engine API v1.43, "Get an image": a name, or the digest of its config.
_IMAGE_ID = pattern(r"(?:sha256:)?[0-9a-f]{64}")

#: Transports of other tools that are not supported, each with a conversion to one that is.
#: Source: containers-transports(5); syft, "Supported sources"; regclient, `ocidir://`.
_FOREIGN = {
    "containerd": "export it first: `ctr images export app.tar NAME`, then `oci-archive:app.tar`",
    "podman": "save it first: `podman save --format oci-archive -o app.tar NAME`",
    "dir": "copy it first: `skopeo copy dir:PATH oci:DIR:TAG`",
    "ostree": "copy it first: `skopeo copy ostree:NAME oci:DIR:TAG`",
    "sif": "copy it first: `skopeo copy sif:FILE oci:DIR:TAG`",
    "singularity": "copy it first: `skopeo copy sif:FILE oci:DIR:TAG`",
    "tarball": "copy it first: `skopeo copy tarball:FILE oci:DIR:TAG`",
    "atomic": "name the registry itself",
    "ocidir": "write `oci:DIR:TAG`",
    "oci-dir": "write `oci:DIR:TAG`",
}
_SUPPORTED = (
    "supported are registry references (with or without `docker://`), `oci:`, `oci-archive:`, "
    "`docker-archive:`, `docker-daemon:`, `containers-storage:` and `store:`"
)
_CUSTOM_PREFIX = pattern(r"[a-z][a-z0-9-]{0,31}")
#: `dir:5000/app` is a host and a port.
_PORT = pattern(r"[0-9]{1,5}/.")

#: Source: Linux PATH_MAX, and room for a name.
_MAX_TARGET = 4096 + 512
_CONTROL = pattern(r"[\x00-\x1f\x7f]")
_DRIVE = pattern(r"[A-Za-z]:[\\/]")
_LAYOUT_HINT = "write `oci:DIR`, `oci:DIR:TAG` or `oci:DIR@sha256:…`"


@dataclass(frozen=True, slots=True)
class RegistryTarget:
    """An image in a registry."""

    reference: Reference

    def __str__(self) -> str:
        return str(self.reference)


@dataclass(frozen=True, slots=True)
class LayoutTarget:
    """An image in files, or in a container engine of this machine.

    Files are an OCI layout, a tar of one, or the output of `docker save`.

    `kind`: the prefix: `oci`, `oci-archive`, `docker-archive`, `docker-daemon`,
    `containers-storage`, or that of a custom source. `path`: as written, relative to the working
    directory; not checked here. Of an engine, the name or ID that it knows the image by. `name`: a
    tag or a full reference, a digest, or for a docker-archive `repo:tag`; None for the only image,
    and for custom sources.
    """

    kind: str
    path: str
    name: str | None

    def __str__(self) -> str:
        if self.name is None:
            return f"{self.kind}:{self.path}"
        is_digest = self.kind != "docker-archive" and _is_digest(self.name)
        return f"{self.kind}:{self.path}{'@' if is_digest else ':'}{self.name}"

    @property
    def is_engine(self) -> bool:
        """Whether the image is in a container engine, and not in a file."""
        return self.kind in _ENGINES

    def settled(self, exists: Callable[[str], bool]) -> LayoutTarget:
        """Split path and name at the first `:` that ends an existing path, as skopeo does.

        Both may contain colons (`oci:DIR:docker.io/library/app:v1`), so the text alone does not
        show where the path ends. If no path exists, return the target unchanged.
        """
        if self.is_engine or (self.name is not None and _is_digest(self.name)):
            return self
        text = self.path if self.name is None else f"{self.path}:{self.name}"
        end = text.find(":")
        while end >= 0:
            if end and text[end + 1 :] and exists(text[:end]):
                return LayoutTarget(self.kind, text[:end], text[end + 1 :])
            end = text.find(":", end + 1)
        return LayoutTarget(self.kind, text, None) if exists(text) else self


@dataclass(frozen=True, slots=True)
class StoreTarget:
    """An image that was pulled into the local store under this reference."""

    reference: Reference

    def __str__(self) -> str:
        return f"{_STORE_PREFIX}{self.reference}"


Target = RegistryTarget | LayoutTarget | StoreTarget


def parse_target(  # noqa: PLR0911 - one for each kind of target
    text: str, custom: Collection[str] = ()
) -> Target:
    """Parse the target of a command: a reference, or a transport and its argument.

    `oci:DIR[:TAG]`, `oci:DIR@sha256:…`, the same with `oci-layout://` and `oci-archive:`,
    `docker-archive:FILE[:REPOSITORY:TAG]`, `docker-daemon:NAME`, `containers-storage:NAME`,
    `store:REFERENCE`, `docker://REFERENCE`. A transport takes precedence over an image or a host of
    that name; `docker://oci:1.2` is the image `oci`.
    `LayoutTarget.settled` finds the end of a path with the help of the file system.

    `custom`: prefixes of sources that the session was given; they come first.
    """
    prefix, colon, place = text.partition(":")
    if colon and prefix in custom:
        _check_place(text, place)
        return LayoutTarget(prefix, place, None)
    if text.startswith(_REGISTRY_PREFIX):
        return RegistryTarget(Reference.parse(text.removeprefix(_REGISTRY_PREFIX)))
    if text.startswith(_STORE_PREFIX):
        return StoreTarget(Reference.parse(text.removeprefix(_STORE_PREFIX)))
    if text.startswith(_DOCKER_ARCHIVE_PREFIX):
        return _parse_docker_archive(text)
    if prefix in _ENGINES and foreign_transport(text):
        return _parse_engine(text, prefix, place)
    refuse_foreign(text)
    for prefix, kind in _LAYOUT_PREFIXES:
        if text.startswith(prefix):
            return _parse_layout(text, text.removeprefix(prefix), kind)
    reference = Reference.parse(text)
    _refuse_host(text, reference)
    return RegistryTarget(reference)


def check_custom_prefix(prefix: str) -> None:
    """Raise `Usage` unless a custom source can have this prefix."""
    builtin = {name.partition(":")[0] for name, _kind in _LAYOUT_PREFIXES}
    builtin |= {each.partition(":")[0] for each in (_REGISTRY_PREFIX, _STORE_PREFIX)}
    builtin |= {_DOCKER_ARCHIVE_PREFIX.rstrip(":"), *_ENGINES}
    if not _CUSTOM_PREFIX.fullmatch(prefix) or prefix in builtin:
        reason = (
            "it is built in" if prefix in builtin else "it is not of the form `[a-z][a-z0-9-]*`"
        )
        raise Usage(f"`{prefix[:40]}` cannot be the prefix of a source: {reason}", "choose another")


def _refuse_host(text: str, reference: Reference) -> None:
    """Refuse a host without a repository (`registry.corp:5000`).

    By the grammar it is a tag of an official image, and its name would be sent to Docker Hub.
    No official image has a dot in its name.
    """
    name = text.partition("@")[0].partition(":")[0]
    if "/" not in text and ("." in name or (name == "localhost" and reference.tag)):
        raise InvalidReference(
            text,
            "it is the name of a host, without a repository",
            f"name an image there: `{text.partition('@')[0]}/NAME`; of Docker Hub: `{reference}`",
        )


def _is_digest(name: str) -> bool:
    algorithm, colon, _ = name.partition(":")
    return bool(colon) and algorithm in HEX_DIGITS


def foreign_transport(text: str) -> str | None:
    """Return the transport of another tool that a text starts with; None if it has none.

    Those of engines are included: images can be read there, and nowhere be written to.
    """
    transport, colon, rest = text.partition(":")
    is_known = transport in _FOREIGN or transport in _ENGINES
    return transport if colon and is_known and not _PORT.match(rest) else None


def refuse_foreign(text: str) -> None:
    """Refuse transports of other tools, which would parse as names on Docker Hub."""
    transport, rest = foreign_transport(text), text.partition(":")[2]
    if transport is not None:
        reason = f"the transport `{transport}:` is not supported"
        image = () if "/" in rest or not rest else (f"for the image, write `docker://{text}`",)
        instead = (_FOREIGN[transport],) if transport in _FOREIGN else ()
        raise InvalidReference(text, reason, *instead, _SUPPORTED, *image)


def _parse_engine(text: str, kind: str, name: str) -> LayoutTarget:
    """Parse the name of an image in an engine, which looks it up as written."""
    _check_place(text, name)
    if not name:
        raise InvalidReference(text, "the name is missing", f"write `{kind}:NAME:TAG`")
    if name.startswith("["):
        reason = "a storage in brackets is not supported"
        hint = f"write `{kind}:NAME`, and name the storage with `CONTAINERS_STORAGE_CONF`"
        raise InvalidReference(text, reason, hint)
    if not _IMAGE_ID.fullmatch(name):
        Reference.parse(name)
    return LayoutTarget(kind, name, None)


def _parse_layout(text: str, place: str, kind: str) -> LayoutTarget:
    _check_place(text, place)
    path, name = _split_digest(text, place)
    head, colon, tag = path.rpartition(":")
    # With a separator after the last colon, the colon is part of the path (`C:\\images`, `a:b/c`).
    if colon and not ("/" in tag or "\\" in tag):
        if name is not None:
            raise InvalidReference(text, "it has a tag and a digest", _LAYOUT_HINT)
        if not all(map(is_tag, tag.split(","))):
            raise InvalidReference(text, "what follows the last `:` is not a tag", _LAYOUT_HINT)
        path, name = head, tag
    if not path:
        raise InvalidReference(text, "the path is missing", _LAYOUT_HINT)
    return LayoutTarget(kind, path, name)


def _split_digest(text: str, place: str) -> tuple[str, str | None]:
    path, at, digest = place.rpartition("@")
    if not at or digest.partition(":")[0] not in HEX_DIGITS:
        return place, None
    try:
        return path, str(Digest.parse(digest))
    except InvalidDigest as error:
        reason = f"what follows `@` is not a digest: {error.reason}"
        raise InvalidReference(text, reason, _LAYOUT_HINT) from error


def _parse_docker_archive(text: str) -> LayoutTarget:
    place = text.removeprefix(_DOCKER_ARCHIVE_PREFIX)
    _check_place(text, place)
    # The first colon ends the file, as for skopeo; a drive letter's does not.
    start = 2 if _DRIVE.match(place) else 0
    end = place.find(":", start)
    path, name = (place, None) if end < 0 else (place[:end], place[end + 1 :])
    if not path:
        hint = "write `docker-archive:FILE` or `docker-archive:FILE:REPOSITORY:TAG`"
        raise InvalidReference(text, "the path is missing", hint)
    if name is not None:
        try:
            Reference.parse(name)
        except InvalidReference:
            # The path may contain colons of its own.
            later = place.find(":", end + 1)
            while later >= 0 and not _is_reference(place[later + 1 :]):
                later = place.find(":", later + 1)
            if later < 0:
                raise
            path, name = place[:later], place[later + 1 :]
    return LayoutTarget("docker-archive", path, name)


def _is_reference(text: str) -> bool:
    try:
        Reference.parse(text)
    except InvalidReference:
        return False
    return True


def _check_place(text: str, place: str) -> None:
    if len(place) > _MAX_TARGET:
        raise InvalidReference(text, f"it has more than {_MAX_TARGET} characters")
    if _CONTROL.search(place):
        raise InvalidReference(text, "the path contains control characters")
