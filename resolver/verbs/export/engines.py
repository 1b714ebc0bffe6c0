"""Hand images over to a container engine, which fetches only what it lacks.

The images are served on loopback for as long as it takes, by digest and under their own
repositories alone. The engine pulls them by digest, which it then keeps, and names them.
"""

from __future__ import annotations

import json
from contextlib import suppress
from typing import TYPE_CHECKING

from resolver.core.oci.content import Document
from resolver.core.oci.descriptor import DOCUMENT_TYPES
from resolver.core.platforms.select import select
from resolver.core.results.export import ExportedImage
from resolver.errors import InvalidConfiguration, ToolFailed
from resolver.files.platforms import host_platform
from resolver.sources.local.docker_engine import docker_address
from resolver.values import dataclass
from resolver.verbs.export.archive import chosen_image
from resolver.verbs.export.bundle import parts_of
from resolver.verbs.serve.api import answer
from resolver.verbs.serve.server import serve
from resolver.verbs.serve.shared_fetch import RegularFile

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from resolver.core.oci.descriptor import Descriptor
    from resolver.core.oci.digest import Digest
    from resolver.core.platforms.platform import Platform
    from resolver.core.results.export import Kind
    from resolver.store import LocalStore
    from resolver.verbs.export.bundle import ExportBundle, ExportedRoot, PackedImage
    from resolver.verbs.serve.api import ServerResponse
    from resolver.verbs.serve.connections import Peer

Command = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Handed:
    """One image as an engine takes it.

    Attributes:
        packed: the exported name.
        root: what the engine fetches: the manifest of one platform, or for containerd the index.
        image: the image for one platform; None if all of them are handed over.
    """

    packed: ExportedRoot
    root: Descriptor
    image: PackedImage | None


def remote_engine(kind: Kind, environment: Mapping[str, str]) -> str:
    """Return the address of an engine that is not on this machine; empty for a local socket.

    Source: podman(1), `CONTAINER_HOST` and `CONTAINER_CONNECTION`.
    """
    address = ""
    if kind == "docker":
        with suppress(InvalidConfiguration):
            address = docker_address(environment)
    elif kind == "podman":
        address = environment.get("CONTAINER_HOST", "") or environment.get(
            "CONTAINER_CONNECTION", ""
        )
    return "" if address.startswith("unix://") else address


def host_first(platforms: Sequence[Platform]) -> list[Platform]:
    """Put the platform of this machine first, for engines that keep one."""
    here = select(list(platforms), host_platform()).index
    return sorted(platforms, key=lambda each: here is None or each != platforms[here])


def to_hand_over(
    kind: Kind, bundle: ExportBundle, preferred: Sequence[Platform]
) -> tuple[Handed, ...]:
    """Choose what an engine gets for each name: Docker and podman keep one platform of it."""
    if kind == "containerd":
        return tuple(Handed(each, each.root, None) for each in bundle.packed)
    chosen = ((each, chosen_image(each, preferred)) for each in bundle.packed)
    return tuple(Handed(each, image.descriptor, image) for each, image in chosen if image)


def exported_image(handed: Handed) -> ExportedImage:
    """Describe what an engine has of a name."""
    packed, image = handed.packed, handed.image
    return ExportedImage(
        str(packed.reference),
        packed.name,
        "",
        handed.root,
        packed.original,
        tuple(each.platform for each in (packed.images if image is None else (image,))),
        packed.attached if image is None else (),
        packed.left_out if image is None else (),
    )


def pieces_of(handed: Sequence[Handed], bundle: ExportBundle) -> dict[Digest, Descriptor]:
    """List the documents and blobs that an engine may ask for."""
    pieces = {}
    for each in handed:
        if each.image is None:
            return {piece.digest: piece for piece in bundle.pieces}
        for piece in (each.root, *parts_of(each.image.manifest)):
            pieces[piece.digest] = piece
    return pieces


class _Loopback:
    """A registry with nothing but what is handed over; as a `Shelf`, and as what answers.

    Attributes:
        fetched: what was sent, in order.
        is_reached: whether any request came.
    """

    def __init__(
        self,
        handed: Sequence[Handed],
        bundle: ExportBundle,
        store: LocalStore,
    ) -> None:
        self._repositories = {each.packed.reference.repository for each in handed}
        self._pieces = pieces_of(handed, bundle)
        self._made = bundle.made
        self._store = store
        self.fetched: list[Descriptor] = []
        self.is_reached = False

    def answer(self, method: str, target: str, _via: str, _peer: Peer) -> ServerResponse:
        """Answer a request, and note what is sent."""
        self.is_reached = True
        found = answer(self, target)
        named = dict(found.headers).get("Docker-Content-Digest")
        if method == "GET" and named is not None:
            self.fetched += [each for each in self._pieces.values() if str(each.digest) == named]
        return found

    def repositories(self) -> list[str]:
        """List nothing: an image is found by its digest."""
        return []

    def tags(self, repository: str) -> list[str] | None:
        """List nothing of a repository that is served."""
        return [] if repository in self._repositories else None

    def document(self, _repository: str, name: str) -> Document | None:
        """Find a document by its digest."""
        found = next((each for each in self._pieces.values() if str(each.digest) == name), None)
        if found is None or found.media_type not in DOCUMENT_TYPES:
            return None
        made = self._made.get(found.digest)
        return Document(found, self._store.read(found) if made is None else made)

    def blob(self, _repository: str, digest: Digest) -> RegularFile | None:
        """Find a config or a layer."""
        if digest not in self._pieces:
            return None
        return RegularFile(str(self._store.root), ("blobs", digest.algorithm, digest.hex))

    def referrers(self, _repository: str, _digest: Digest) -> list[Document]:
        """List nothing."""
        return []


@dataclass(frozen=True, slots=True)
class HandedOver:
    """What an engine took.

    Attributes:
        fetched: the documents and blobs that crossed loopback.
        command: the command that fetched the first image.
    """

    fetched: tuple[Descriptor, ...]
    command: Command


def hand_over_missing(  # noqa: PLR0913 - each is one thing that a caller decides
    kind: Kind,
    handed: Sequence[Handed],
    bundle: ExportBundle,
    store: LocalStore,
    run: Callable[[Command], str],
    *,
    host: Platform | None = None,
    namespace: str | None = None,
) -> HandedOver | ToolFailed:
    """Serve the images while an engine pulls and names them; `run` runs a command of it.

    Returns the failure of an engine that never reached the server: one in a virtual machine or a
    network of its own.

    Raises:
        ToolFailed: the engine refuses an image.
    """
    shelf = _Loopback(handed, bundle, store)
    first: Command = ()
    with serve(shelf.answer) as server:
        for each in handed:
            source = f"{server.address}/{each.packed.reference.repository}@{each.root.digest}"
            engine = _ENGINES[kind](each, source, host, namespace, run)
            first = first or engine.fetch[0]
            try:
                run(engine.fetch[0])
            except ToolFailed as error:
                if not shelf.is_reached:
                    return error
                raise ToolFailed(
                    error.command,
                    error.status,
                    error.detail,
                    "`--load` sends the whole image as an archive instead",
                ) from error
            try:
                for command in (*engine.fetch[1:], *engine.name):
                    run(command)
            except BaseException:
                # Without its name, nothing else would remove what was fetched.
                with suppress(ToolFailed):
                    run(engine.forget)
                raise
            if engine.forgets():
                run(engine.forget)
    return HandedOver(tuple(shelf.fetched), first)


@dataclass(frozen=True, slots=True)
class _Engine:
    """The commands for one image.

    Attributes:
        fetch: take what is missing, under the name on loopback.
        name: give it the name that was asked for.
        forget: remove the name on loopback.
        forgets: whether to do so; asked once the image is named.
    """

    fetch: tuple[Command, ...]
    name: tuple[Command, ...]
    forget: Command
    forgets: Callable[[], bool] = lambda: True


def _docker(
    handed: Handed,
    source: str,
    host: Platform | None,
    _namespace: str | None,
    run: Callable[[Command], str],
) -> _Engine:
    """Docker on loopback needs no TLS. Source: dockerd(8), `--insecure-registry`."""
    platform = handed.image.platform if handed.image is not None else None
    foreign = platform is not None and host is not None and not _runs(platform, host)
    words = ("--platform", _written(platform)) if foreign and platform is not None else ()
    tag, name = handed.packed.tag, handed.packed.name

    def forgets() -> bool:
        """Whether the digest is known by the image's own name too; else it would be lost."""
        if not tag:
            return False
        listed = run(("docker", "image", "inspect", "--format", "{{json .RepoDigests}}", name))
        try:
            digests = json.loads(listed)
        except ValueError:
            return False
        end = f"@{handed.root.digest}"
        return isinstance(digests, list) and any(
            isinstance(each, str) and each.endswith(end) and each != source for each in digests
        )

    return _Engine(
        (("docker", "pull", "--quiet", *words, source),),
        (("docker", "tag", source, name),) if tag else (),
        ("docker", "rmi", source),
        forgets,
    )


def _podman(
    handed: Handed,
    source: str,
    _host: Platform | None,
    _namespace: str | None,
    _run: Callable[[Command], str],
) -> _Engine:
    tag, name = handed.packed.tag, handed.packed.name
    return _Engine(
        (("podman", "pull", "--quiet", "--tls-verify=false", source),),
        (("podman", "tag", source, name),) if tag else (),
        ("podman", "untag", source, source),
    )


def _containerd(
    handed: Handed,
    source: str,
    host: Platform | None,
    namespace: str | None,
    _run: Callable[[Command], str],
) -> _Engine:
    """Take all platforms, and unpack that of this machine. Source: containerd v1.6, cmd/ctr."""
    ctr = ("ctr",) if namespace is None else ("ctr", "--namespace", namespace)
    platforms = [image.platform for image in handed.packed.images]
    here = None if host is None else select(platforms, host).index
    best = None if here is None else platforms[here]
    unpack: tuple[Command, ...] = ()
    if best is not None:
        unpack = ((*ctr, "images", "pull", "--plain-http", "--platform", _written(best), source),)
    return _Engine(
        ((*ctr, "content", "fetch", "--plain-http", "--all-platforms", source), *unpack),
        ((*ctr, "images", "tag", "--force", source, handed.packed.name),),
        (*ctr, "images", "rm", source),
    )


_ENGINES = {"docker": _docker, "podman": _podman, "containerd": _containerd}


def _runs(platform: Platform, host: Platform) -> bool:
    return select([platform], host).index is not None


def _written(platform: Platform) -> str:
    """Write a platform as engines read it: without a version."""
    parts = (platform.os, platform.architecture, platform.variant)
    return "/".join(part for part in parts if part)
