"""Exports: where images are handed to, and what was handed over."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from resolver.core.oci.target import foreign_transport
from resolver.errors import Usage
from resolver.values import dataclass

if TYPE_CHECKING:
    from resolver.core.oci.attached import Attached, LeftOut
    from resolver.core.oci.descriptor import Descriptor
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
    """Where images go.

    Attributes:
        path: of the folder or file, `-` for an archive on standard output; empty for a tool.

    """

    kind: Kind
    path: str = ""

    @property
    def is_stream(self) -> bool:
        """Whether the archive goes to standard output instead of a file."""
        return self.kind == "archive" and self.path == STDOUT

    def __str__(self) -> str:
        return self.path or self.kind


def parse_destination(text: str) -> Destination:
    """Read what `--to` is given: `docker`, `podman`, `containerd`, `FILE.tar` or a folder.

    `oci:DIR`, `oci-archive:FILE` and `docker-archive:FILE` are understood as well; both archives
    are the same file. `-` is that archive on standard output. A folder that is named like a tool
    is written `./docker`, and one named `-` is `./-`.

    Raises:
        Usage: it is none of them.

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


@dataclass(frozen=True, slots=True)
class ExportedImage:
    """One name, and what it stands for where it was handed to.

    Attributes:
        reference: canonical, as it was asked for.
        name: the full name there: `registry/repository:tag`, or `@digest` where there is no tag.
        short: the name in an OCI layout, as in `oci:DIR:SHORT`; empty where there is none.
        root: what it points at there: an index, or the one manifest.
        original: what the reference points at in its registry.
        platforms: of the images below `root`; None for content that is no image.
        attached: attestations, artifacts and referrers that were handed over with them.
        left_out: entries of the original index that were not.

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
        """Whether `root` is an index made here, of part of the original: a digest of its own."""
        return self.root.is_index and self.root.digest != self.original.digest


@dataclass(frozen=True, slots=True)
class Exported:
    """What was handed over.

    Attributes:
        images: sorted by name.
        blobs: pieces of content: indexes, manifests, configs and layers, each once.
        size: their bytes.
        present: bytes that were there already; layouts only.
        linked: bytes that the store and the layout share (hard links, or clones of the file).
        written: bytes that were written; of an archive, all of it.
        command: what a tool was started as; empty for files.
        said: what it answered, as text; may hold anything, so the printer escapes it.
        warnings: what a person should know.

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
