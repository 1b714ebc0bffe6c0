"""Targets: the images that commands take, in a registry or on this machine."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from resolver.core.oci.digest import HEX_DIGITS, Digest
from resolver.core.oci.reference import Reference, is_tag
from resolver.errors import InvalidDigest, InvalidReference
from resolver.values import dataclass, pattern

if TYPE_CHECKING:
    from collections.abc import Callable

LayoutKind = Literal["oci", "oci-archive", "docker-archive"]

_REGISTRY_PREFIX = "docker://"
_STORE_PREFIX = "store:"
_DOCKER_ARCHIVE_PREFIX = "docker-archive:"
#: Longest first.
_LAYOUT_PREFIXES: tuple[tuple[str, LayoutKind], ...] = (
    ("oci-layout://", "oci"),
    ("oci-archive:", "oci-archive"),
    ("oci:", "oci"),
)

#: Transports of other tools that are not supported, each with a conversion to one that is.
#: Source: containers-transports(5); syft, "Supported sources"; regclient, `ocidir://`.
_FOREIGN = {
    "containers-storage": "save it first: `podman save --format oci-archive -o app.tar NAME`",
    "docker-daemon": "save it first: `docker save -o app.tar NAME`, then `docker-archive:app.tar`",
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
    "`docker-archive:` and `store:`"
)
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
    """An image in files: an OCI layout, a tar of one, or the output of `docker save`.

    `path`: as written, relative to the working directory; not checked here. `name`: a tag or a full
    reference, a digest, or for a docker-archive `repo:tag`; None for the only image.
    """

    kind: LayoutKind
    path: str
    name: str | None

    def __str__(self) -> str:
        if self.name is None:
            return f"{self.kind}:{self.path}"
        is_digest = self.kind != "docker-archive" and _is_digest(self.name)
        return f"{self.kind}:{self.path}{'@' if is_digest else ':'}{self.name}"

    def settled(self, exists: Callable[[str], bool]) -> LayoutTarget:
        """Split path and name at the first `:` that ends an existing path, as skopeo does.

        Both may contain colons (`oci:DIR:docker.io/library/app:v1`), so the text alone does not
        show where the path ends. If no path exists, return the target unchanged.
        """
        if self.name is not None and _is_digest(self.name):
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


def parse_target(text: str) -> Target:
    """Parse the target of a command: a reference, or a transport and its argument.

    `oci:DIR[:TAG]`, `oci:DIR@sha256:…`, the same with `oci-layout://` and `oci-archive:`,
    `docker-archive:FILE[:REPOSITORY:TAG]`, `store:REFERENCE`, `docker://REFERENCE`. A transport
    takes precedence over an image or a host of that name; `docker://oci:1.2` is the image `oci`.
    `LayoutTarget.settled` finds the end of a path with the help of the file system.
    """
    if text.startswith(_REGISTRY_PREFIX):
        return RegistryTarget(Reference.parse(text.removeprefix(_REGISTRY_PREFIX)))
    if text.startswith(_STORE_PREFIX):
        return StoreTarget(Reference.parse(text.removeprefix(_STORE_PREFIX)))
    if text.startswith(_DOCKER_ARCHIVE_PREFIX):
        return _parse_docker_archive(text)
    refuse_foreign(text)
    for prefix, kind in _LAYOUT_PREFIXES:
        if text.startswith(prefix):
            return _parse_layout(text, text.removeprefix(prefix), kind)
    reference = Reference.parse(text)
    _refuse_host(text, reference)
    return RegistryTarget(reference)


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
    """Return the unsupported transport that a text starts with; None if it has none."""
    transport, colon, rest = text.partition(":")
    return transport if colon and transport in _FOREIGN and not _PORT.match(rest) else None


def refuse_foreign(text: str) -> None:
    """Refuse transports of other tools, which would parse as names on Docker Hub."""
    transport, rest = foreign_transport(text), text.partition(":")[2]
    if transport is not None:
        reason = f"the transport `{transport}:` is not supported"
        image = () if "/" in rest or not rest else (f"for the image, write `docker://{text}`",)
        raise InvalidReference(text, reason, _FOREIGN[transport], _SUPPORTED, *image)


def _parse_layout(text: str, place: str, kind: LayoutKind) -> LayoutTarget:
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
