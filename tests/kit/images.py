"""Images for tests, built in memory: usual ones, unusual ones, and broken ones.

The usual ones come from `resolver.demo`; here they get a shape that is handy in assertions, and
ways to make what no builder would.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Self

from resolver.core.oci.descriptor import OCI_MANIFEST, Descriptor
from resolver.core.oci.digest import Digest
from resolver.demo import builders
from resolver.demo.builders import build_layer

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

__all__ = [
    "Image",
    "build_image",
    "build_index",
    "build_layer",
    "entry",
    "from_dict",
    "listed_as",
    "multi_platform",
    "raw_document",
]


@dataclass(frozen=True)
class Image:
    """An image or an index with everything below it; digests are text.

    Attributes:
        digest, media_type, body: of the root document.
        platform: `os/arch[/variant][:os.version]`, as an index lists it; empty when it does not.
        documents: manifests and indexes by digest: media type and body; the root included.
        blobs: configs and layers by digest.
        children: the images that an index was built from, in order, attestations last.
        attestation_of: digest of the image that this one is a statement about.
    """

    digest: str
    media_type: str
    body: bytes
    platform: str = ""
    documents: Mapping[str, tuple[str, bytes]] = field(default_factory=dict)
    blobs: Mapping[str, bytes] = field(default_factory=dict)
    children: tuple[Image, ...] = ()
    attestation_of: str = ""

    @classmethod
    def of(
        cls, built: builders.Built, children: tuple[Image, ...] = (), attestation_of: str = ""
    ) -> Self:
        """Convert from the builders of the demo."""
        media_type, body = built.documents[built.root.digest]
        return cls(
            str(built.root.digest),
            media_type,
            body,
            built.platform,
            {str(digest): held for digest, held in built.documents.items()},
            {str(digest): blob for digest, blob in built.blobs.items()},
            children,
            attestation_of,
        )

    @property
    def size(self) -> int:
        """Bytes of the root document."""
        return len(self.body)

    @property
    def descriptor(self) -> Descriptor:
        """Of the root document; without a platform."""
        return Descriptor(self.media_type, Digest.parse(self.digest), self.size)

    def contents(self) -> set[bytes]:
        """Return the bytes of every document and blob."""
        return {body for _, body in self.documents.values()} | set(self.blobs.values())

    def child(self, platform: str) -> Image:
        """Find the image that an index lists for exactly this platform."""
        return next(image for image in self.children if image.platform == platform)

    def built(self) -> builders.Built:
        """Return the form that the builders of the demo accept."""
        return builders.Built(
            self.descriptor,
            self.platform,
            {Digest.parse(digest): held for digest, held in self.documents.items()},
            {Digest.parse(digest): blob for digest, blob in self.blobs.items()},
        )


def build_image(
    platform: str = "linux/amd64",
    layers: Sequence[bytes] | None = None,
    *,
    docker: bool = False,
    config: Mapping[str, object] | None = None,
) -> Image:
    """Make a single-platform image.

    Args:
        platform: `os/arch[/variant][:os.version]`, in the config too.
        layers: raw bytes of each, lowest first; None = one small layer per platform.
        docker: use Docker's media types.
        config: top-level fields that replace the config's usual ones.
    """
    if layers is None:
        layers = [build_layer({"etc/platform": platform.encode()})]
    return Image.of(builders.build_image(platform, layers, config=config, docker=docker))


def build_index(
    images: Sequence[Image],
    *,
    attestations: bool = False,
    docker: bool = False,
    annotations: Mapping[str, str] | None = None,
    extra: Iterable[Mapping[str, object]] = (),
) -> Image:
    """Make an index of images, or of indexes; each entry states its image's `platform`.

    Args:
        attestations: add what BuildKit adds for every image.
        annotations: of the index itself.
        extra: entries as they are, after the others.
    """
    parts = [image.built() for image in images]
    entries = [builders.index_entry(part) for part in parts]
    children = list(images)
    if attestations:
        for part in tuple(parts):
            statement = builders.build_attestation(part)
            entries.append(builders.attestation_entry(statement, part))
            parts.append(statement)
            children.append(Image.of(statement, attestation_of=str(part.root.digest)))
    built = builders.build_index(
        [*entries, *map(dict, extra)], parts=parts, annotations=annotations, docker=docker
    )
    return Image.of(built, tuple(children))


def multi_platform(*platforms: str, docker: bool = False, attestations: bool = False) -> Image:
    """Make an index with one small image for each platform."""
    images = [build_image(platform, docker=docker) for platform in platforms]
    return build_index(images, attestations=attestations, docker=docker)


def listed_as(image: Image, platform: str) -> Image:
    """List this image in an index for another platform than its config names; "" for none."""
    return Image(
        image.digest,
        image.media_type,
        image.body,
        platform,
        image.documents,
        image.blobs,
        image.children,
    )


def named_by(image: Image, algorithm: str) -> Image:
    """Identify the root document of an image only by a digest of this algorithm."""
    digest = str(Digest.of(image.body, algorithm))
    documents = {key: held for key, held in image.documents.items() if key != image.digest}
    documents[digest] = (image.media_type, image.body)
    return replace(image, digest=digest, documents=documents)


def raw_document(body: bytes, media_type: str = OCI_MANIFEST, *, platform: str = "") -> Image:
    """Make a document of any bytes, valid or not."""
    digest = str(Digest.of(body))
    return Image(digest, media_type, body, platform, {digest: (media_type, body)})


def from_dict(
    document: Mapping[str, object],
    media_type: str | None = None,
    *,
    parts: Iterable[Image] = (),
    blobs: Iterable[bytes] = (),
) -> Image:
    """Make a manifest or an index from a plain dict.

    Args:
        media_type: what a registry serves it as; None = the document's own `mediaType`.
        parts: images whose documents and blobs come along.
        blobs: further blobs.
    """
    stated = document.get("mediaType")
    served = media_type or (stated if isinstance(stated, str) else OCI_MANIFEST)
    body = builders.write_json(document)
    digest = str(Digest.of(body))
    documents = {digest: (served, body)}
    held = {str(Digest.of(blob)): blob for blob in blobs}
    for part in parts:
        documents.update(part.documents)
        held.update(part.blobs)
    return Image(digest, served, body, "", documents, held, tuple(parts))


def entry(
    image: Image, *, platform: str | None = None, annotations: Mapping[str, str] | None = None
) -> dict[str, object]:
    """Write the entry of an index, to be changed and given to `from_dict`; "" = no platform."""
    return builders.index_entry(image.built(), platform=platform, annotations=annotations)
