"""Attestations of every format as manifests, and registries that they are attached in."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from resolver.core.oci.descriptor import OCI_INDEX, OCI_MANIFEST
from resolver.core.oci.digest import Digest
from tests.kit.images import from_dict
from tests.kit.messages import Reply
from tests.kit.pushes import Pusher
from tests.kit.sigstore import BUNDLE, b64, compact

if TYPE_CHECKING:
    from tests.kit.images import Image
    from tests.kit.registry import FakeRegistry

SPDX, SLSA = "https://spdx.dev/Document", "https://slsa.dev/provenance/v1"
SIGN = "https://sigstore.dev/cosign/sign/v1"
IN_TOTO, DSSE = "application/vnd.in-toto+json", "application/vnd.dsse.envelope.v1+json"
SIMPLE = "application/vnd.dev.cosign.simplesigning.v1+json"
EMPTY = "application/vnd.oci.empty.v1+json"


def statement(*subjects: Image | str, predicate: str = SIGN, content: object = None) -> bytes:
    """Make an in-toto statement about some manifests, or digests."""
    digests = [each if isinstance(each, str) else each.digest for each in subjects]
    about = [
        {"name": "app", "digest": {each.partition(":")[0]: each.partition(":")[2]}}
        for each in digests
    ]
    body = {"_type": "https://in-toto.io/Statement/v1", "subject": about}
    return compact({**body, "predicateType": predicate, "predicate": content or {}})


def payload(subject: Image | str) -> bytes:
    """Make the payload that cosign signs, before its version 3."""
    digest = subject if isinstance(subject, str) else subject.digest
    image = {"docker-manifest-digest": digest}
    kind = "cosign container image signature"
    return compact({"critical": {"identity": {}, "image": image, "type": kind}, "optional": None})


def manifest(
    *blobs: tuple[str, bytes, dict[str, str]],
    subject: Image | None = None,
    kind: str | None = None,
    config: str = EMPTY,
    annotations: dict[str, str] | None = None,
) -> Image:
    """Make a manifest with layers of (media type, bytes, annotations)."""

    def describe(media_type: str, blob: bytes) -> dict[str, Any]:
        return {"mediaType": media_type, "digest": str(Digest.of(blob)), "size": len(blob)}

    document: dict[str, Any] = {
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "config": describe(config, b"{}"),
        "layers": [
            {**describe(media_type, blob), **({"annotations": more} if more else {})}
            for media_type, blob, more in blobs
        ],
    }
    if kind is not None:
        document["artifactType"] = kind
    if annotations:
        document["annotations"] = annotations
    if subject is not None:
        document["subject"] = {
            "mediaType": subject.media_type, "digest": subject.digest, "size": subject.size,
        }  # fmt: skip
    return from_dict(document, blobs=[b"{}", *(blob for _kind, blob, _more in blobs)])


def bundle(subject: Image, body: bytes, predicate: str = SIGN) -> Image:
    """Attach a Sigstore bundle, as cosign does since its version 3."""
    return manifest(
        (BUNDLE, body, {}),
        subject=subject,
        kind=BUNDLE,
        annotations={
            "dev.sigstore.bundle.content": "dsse-envelope",
            "dev.sigstore.bundle.predicateType": predicate,
        },
    )


def buildkit(subject: Image, *predicates: str, referrer: bool = False) -> Image:
    """Make the attestation manifest of BuildKit; since v0.32 it is a referrer too."""
    layers = [
        (IN_TOTO, statement(subject, predicate=each), {"in-toto.io/predicate-type": each})
        for each in predicates
    ]
    kind = "application/vnd.docker.attestation.manifest.v1+json"
    return manifest(*layers, subject=subject if referrer else None, kind=kind if referrer else None)


def buildkit_entry(
    made: Image, subject: Image, kind: str = "attestation-manifest"
) -> dict[str, Any]:
    """Make the entry of an index for an attestation manifest of BuildKit."""
    return {
        "mediaType": made.media_type,
        "digest": made.digest,
        "size": made.size,
        "platform": {"os": "unknown", "architecture": "unknown"},
        "annotations": {
            "vnd.docker.reference.type": kind,
            "vnd.docker.reference.digest": subject.digest,
        },
    }


def cosign_signature(key: Any, subject: Image | str, *arguments: Any) -> Image:
    """Make what cosign pushed to the tag `sha256-HEX.sig` before its version 3."""
    body = payload(subject)
    signed = {"dev.cosignproject.cosign/signature": b64(key.sign(body, *arguments))}
    return manifest((SIMPLE, body, signed), config="application/vnd.oci.image.config.v1+json")


def refer(registry: FakeRegistry, subject: Image, *made: Image, api: bool = True) -> None:
    """Let a fake registry list what refers to a manifest in `app`, and serve it."""
    entries = [
        {"mediaType": OCI_MANIFEST, "digest": each.digest, "size": each.size} for each in made
    ]
    for each in made:
        registry.serve("app", None, each)
    listing = from_dict({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": entries})
    if api:
        reply = Reply(200, {"Content-Type": OCI_INDEX}, listing.body)
        registry.on("GET", f"/v2/app/referrers/{subject.digest}", reply)
    else:
        registry.serve("app", subject.digest.replace(":", "-"), listing)


class Requests(Protocol):
    """Something that counts the requests of a registry."""

    def __call__(self) -> list[str]:
        """Return the requests since the last call, as `METHOD /path`."""
        ...


@dataclass
class Place:
    """A registry to attach to; without the referrers API, fallback tags are written."""

    host: str
    repository: str
    has_api: bool
    requests: Requests

    def __post_init__(self) -> None:
        self.pusher = Pusher(self.host)
        self._lists: dict[str, list[dict[str, Any]]] = {}

    @property
    def name(self) -> str:
        """The reference of the image under test."""
        return f"{self.host}/{self.repository}:1"

    def push(self, image: Image, tag: str = "1") -> None:
        """Push an image with everything below it."""
        self.pusher.image(self.repository, tag, image)

    def attach(self, subject: Image, *made: Image) -> None:
        """Push referrers of an image."""
        for each in made:
            self.push(each, each.digest)
            entry = {"mediaType": each.media_type, "digest": each.digest, "size": each.size}
            self._lists.setdefault(subject.digest, []).append(entry)
        if not self.has_api:
            listed = self._lists[subject.digest]
            document = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": listed}
            self.push(from_dict(document), subject.digest.replace(":", "-"))

    def cosign(self, subject: Image, made: Image, suffix: str) -> None:
        """Push a manifest to a tag of cosign."""
        self.push(made, f"{subject.digest.replace(':', '-')}.{suffix}")
