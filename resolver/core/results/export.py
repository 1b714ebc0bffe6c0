"""Destinations and results of `export`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from resolver.core.oci.target import foreign_transport
from resolver.errors import Usage
from resolver.values import dataclass

if TYPE_CHECKING:
    from resolver.core.oci.descriptor import Descriptor
    from resolver.core.oci.manifest import Attached, LeftOut
    from resolver.core.platforms.platform import Platform
    from resolver.core.results.events import Warned

Kind = Literal["layout", "archive", "docker", "podman", "containerd"]

_TOOLS: dict[str, Kind] = {"docker": "docker", "podman": "podman", "containerd": "containerd"}
#: Longest first, so that none hides another.
_PREFIXES: tuple[tuple[str, Kind], ...] = (
    ("docker-archive:", "archive"),
    ("oci-archive:", "archive"),
    ("oci-layout://", "layout"),
    ("oci:", "layout"),
)
#: An archive on standard output; a file of that name is `oci-archive:./-`.
STDOUT = "-"
_COMPRESSED = (".tar.gz", ".tgz", ".tar.zst", ".tzst", ".tar.xz", ".txz", ".tar.bz2")


@dataclass(frozen=True, slots=True)
class Destination:
    """The destination of an export; `path` is empty for a tool and `-` for standard output."""

    kind: Kind
    path: str = ""

    @property
    def is_stream(self) -> bool:
        """Whether the archive goes to standard output instead of a file."""
        return self.kind == "archive" and self.path == STDOUT

    def __str__(self) -> str:
        return self.path or self.kind


def parse_destination(text: str) -> Destination:
    """Parse the value of `--to`: `docker`, `podman`, `containerd`, `FILE.tar` or a folder.

    `oci:DIR`, `oci-archive:FILE` and `docker-archive:FILE` are also accepted; both archives have
    the same format. `-` is an archive on standard output. Write `./docker` for a folder with the
    name of a tool, and `./-` for one named `-`.
    """
    tool = _TOOLS.get(text)
    if tool is not None:
        return Destination(tool)
    transport = foreign_transport(text)
    if transport is not None:
        raise Usage(
            f"`--to {text}`: the transport `{transport}:` is not supported",
            "write `docker`, `podman`, `containerd`, `oci:DIR`, `oci-archive:FILE` or "
            "`docker-archive:FILE`; a folder of that name is written with `./` before it",
        )
    kind: Kind = "layout"
    path = text
    for prefix, meant in _PREFIXES:
        if text.startswith(prefix):
            kind, path = meant, text.removeprefix(prefix)
            break
    else:
        if path.endswith(_COMPRESSED):
            raise Usage(
                f"`--to {text}`: archives are written as plain tar, their layers are compressed",
                "write a name that ends in `.tar`",
            )
        if path.endswith(".tar") or path == STDOUT:
            kind = "archive"
    if not path or "\0" in path:
        raise Usage(f"`--to {text}` names no path", "write a folder, or a file ending in `.tar`")
    return Destination(kind, path)


def parse_engine(text: str) -> Kind:
    """Parse the name of a container engine.

    Raises:
        Usage: it is none.
    """
    found = _TOOLS.get(text)
    if found is None:
        raise Usage(
            f"`--to {text}` is not a container engine",
            "write `docker`, `podman` or `containerd`; `resolver export` writes folders and files",
        )
    return found


@dataclass(frozen=True, slots=True)
class ExportedImage:
    """One exported reference.

    Attributes:
        name: the full name at the destination: `registry/repository:tag`, or `@digest` without a
            tag.
        short: the name in an OCI layout, as in `oci:DIR:SHORT`; empty if there is none.
        root: its index or manifest at the destination.
        platforms: of the images below `root`; None for content that is not an image.
    """

    reference: str
    name: str
    short: str
    root: Descriptor
    original: Descriptor
    platforms: tuple[Platform | None, ...]
    attached: tuple[Attached, ...] = ()
    left_out: tuple[LeftOut, ...] = ()

    @property
    def is_filtered(self) -> bool:
        """Whether `root` is a new index with part of the original's entries."""
        return self.root.is_index and self.root.digest != self.original.digest


@dataclass(frozen=True, slots=True)
class Exported:
    """The result of an export.

    Attributes:
        blobs: number of indexes, manifests, configs and layers, each counted once.
        present: bytes that already existed; layouts only.
        linked: bytes that the store and the layout share (hard links, or clones of the file).
        written: bytes written; of an archive, all of it.
        said: output of the tool; untrusted text, which is escaped on output.
    """

    destination: Destination
    images: tuple[ExportedImage, ...]
    blobs: int
    size: int
    present: int = 0
    linked: int = 0
    written: int = 0
    command: tuple[str, ...] = ()
    said: str = ""
    warnings: tuple[Warned, ...] = ()
