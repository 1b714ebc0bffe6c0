"""What a manifest carries about an image, and the statements in it.

Sources: BuildKit, "Attestation Storage"; in-toto attestation framework, spec v1; DSSE, "Signature
Definition"; Sigstore, "Bundle Format"; cosign, "Signature Specification"; notation, "Signature
Specification".
"""

from __future__ import annotations

import base64
import binascii
import re
from enum import Enum
from typing import TYPE_CHECKING

from resolver.core.parse.json import Fields, read_object
from resolver.errors import BadDocument, LimitExceeded
from resolver.values import dataclass

if TYPE_CHECKING:
    from collections.abc import Iterator

    from resolver.core.oci.descriptor import Descriptor
    from resolver.core.oci.manifest import Manifest

#: Bytes of a bundle, a signature payload or a notation signature.
MAX_BUNDLE = 4 << 20
#: Bytes of an SBOM or another statement.
MAX_STATEMENT = 64 << 20

IN_TOTO = "application/vnd.in-toto+json"
BUNDLE = "application/vnd.dev.sigstore.bundle"
DSSE = "application/vnd.dsse.envelope.v1+json"
SIMPLE_SIGNING = "application/vnd.dev.cosign.simplesigning.v1+json"
NOTATION = "application/vnd.cncf.notary.signature"
COSIGN_SIGN = "https://sigstore.dev/cosign/sign/v1"
SIGNATURE_ANNOTATION = "dev.cosignproject.cosign/signature"
CERTIFICATE_ANNOTATION = "dev.sigstore.cosign/certificate"

#: Prefixes of predicate types, and the kind of attestation.
#: Source: in-toto attestation framework, spec/predicates; slsa.dev/provenance.
_PREDICATES = (
    ("https://spdx.dev/Document", "sbom"),
    ("https://cyclonedx.org/", "sbom"),
    ("https://slsa.dev/provenance/", "provenance"),
    (COSIGN_SIGN, "signature"),
)
#: Media types of artifacts and layers that are such a document.
#: Source: IANA media types; `oras attach` and `syft attest` in their documentation.
_DOCUMENTS = {
    "application/spdx+json": ("sbom", "SPDX"),
    "text/spdx": ("sbom", "SPDX"),
    "text/spdx+json": ("sbom", "SPDX"),
    "text/spdx+xml": ("sbom", "SPDX"),
    "application/vnd.cyclonedx": ("sbom", "CycloneDX"),
    "application/vnd.cyclonedx+json": ("sbom", "CycloneDX"),
    "application/vnd.cyclonedx+xml": ("sbom", "CycloneDX"),
    "application/vnd.syft+json": ("sbom", "Syft"),
    "application/vnd.slsa.provenance+json": ("provenance", "SLSA"),
    "application/sarif+json": ("other", "SARIF"),
}


class Wrapping(Enum):
    """How the content of an attestation is wrapped; the value is its name for people."""

    STATEMENT = "in-toto statement"
    ENVELOPE = "DSSE envelope"
    BUNDLE = "Sigstore bundle"
    PAYLOAD = "cosign signature"
    NOTATION = "notation signature"
    #: Content that names no subject itself.
    DOCUMENT = "artifact"


@dataclass(frozen=True, slots=True)
class Part:
    """One attestation as its manifest describes it.

    Attributes:
        kind: one of `results.attestations.KINDS`, by media types and annotations.
        type: the predicate type, or a media type.
        blob: None if the manifest has no layer.
    """

    kind: str
    type: str
    form: Wrapping
    format: str
    blob: Descriptor | None

    @property
    def limit(self) -> int:
        """The most bytes to read."""
        is_small = self.form in {Wrapping.BUNDLE, Wrapping.PAYLOAD, Wrapping.NOTATION}
        return MAX_BUNDLE if is_small else MAX_STATEMENT

    @property
    def is_read(self) -> bool:
        """Whether the content has to be read to judge it."""
        return self.blob is not None and self.form is not Wrapping.DOCUMENT


def kind_of_predicate(predicate: str) -> str:
    """Return the kind of a predicate type; `other` if it is unknown."""
    return next((kind for start, kind in _PREDICATES if predicate.startswith(start)), "other")


def parts_of(manifest: Manifest) -> tuple[Part, ...]:
    """List the attestations in a manifest; content of an unknown type is one of kind `other`."""
    config = manifest.config.media_type if manifest.config is not None else ""
    kind = manifest.artifact_type or config
    if NOTATION in {manifest.artifact_type, config}:
        blob = manifest.layers[0] if manifest.layers else None
        return (Part("signature", NOTATION, Wrapping.NOTATION, Wrapping.NOTATION.value, blob),)
    whole = _annotation(manifest.annotations, "dev.sigstore.bundle.predicateType")
    content = _annotation(manifest.annotations, "dev.sigstore.bundle.content")
    is_signature = content == "message-signature" or _plain(kind) == _plain(
        "application/vnd.dev.cosign.artifact.sig.v1+json"
    )
    found = tuple(part for layer in manifest.layers for part in _part(layer, whole, is_signature))
    if found:
        return found
    if whole:
        blob = manifest.layers[0] if manifest.layers else None
        return (_bundle(blob, whole, is_signature=is_signature),)
    for media_type in (kind, *(layer.media_type for layer in manifest.layers)):
        if _plain(media_type) in _DOCUMENTS:
            sort, name = _DOCUMENTS[_plain(media_type)]
            return (Part(sort, media_type, Wrapping.DOCUMENT, name, _first(manifest)),)
    if is_signature:
        return (
            Part("signature", kind, Wrapping.DOCUMENT, Wrapping.DOCUMENT.value, _first(manifest)),
        )
    return (Part("other", kind, Wrapping.DOCUMENT, Wrapping.DOCUMENT.value, _first(manifest)),)


def _part(layer: Descriptor, whole: str, is_signature: bool) -> Iterator[Part]:  # noqa: FBT001 - private
    kind = _plain(layer.media_type)
    predicate = layer.annotation("in-toto.io/predicate-type") or layer.annotation("predicateType")
    if kind == SIMPLE_SIGNING:
        yield Part("signature", SIMPLE_SIGNING, Wrapping.PAYLOAD, Wrapping.PAYLOAD.value, layer)
    elif kind.startswith(BUNDLE):
        yield _bundle(layer, whole or predicate or "", is_signature=is_signature)
    elif kind in {DSSE, IN_TOTO} or predicate:
        named = predicate or whole
        form = Wrapping.ENVELOPE if kind == DSSE else Wrapping.STATEMENT
        yield Part(kind_of_predicate(named), named or layer.media_type, form, form.value, layer)
    elif kind in _DOCUMENTS:
        sort, name = _DOCUMENTS[kind]
        yield Part(sort, layer.media_type, Wrapping.DOCUMENT, name, layer)


def _bundle(blob: Descriptor | None, predicate: str, *, is_signature: bool) -> Part:
    kind = "signature" if is_signature else kind_of_predicate(predicate)
    return Part(kind, predicate or BUNDLE, Wrapping.BUNDLE, Wrapping.BUNDLE.value, blob)


def _first(manifest: Manifest) -> Descriptor | None:
    return manifest.layers[0] if manifest.layers else None


def _annotation(pairs: tuple[tuple[str, str], ...], name: str) -> str:
    return dict(pairs).get(name, "")


def _plain(media_type: str) -> str:
    return media_type.partition(";")[0].strip().lower()


@dataclass(frozen=True, slots=True)
class Statement:
    """An in-toto statement: its predicate type, and digests as `algorithm:hex`.

    `predicate` is None unless `read_statement` is asked to keep it.
    """

    predicate_type: str
    subjects: frozenset[str]
    predicate: object = None


@dataclass(frozen=True, slots=True)
class Envelope:
    """A DSSE envelope, decoded."""

    payload_type: str
    payload: bytes
    signatures: tuple[bytes, ...]

    @property
    def signed_bytes(self) -> bytes:
        """What the signatures cover. Source: DSSE, "Signature Definition"."""
        kind = self.payload_type.encode()
        return b"DSSEv1 %d %b %d %b" % (len(kind), kind, len(self.payload), self.payload)


@dataclass(frozen=True, slots=True)
class Bundle:
    """A Sigstore bundle: an envelope, or a signature over a message with this SHA-256 digest."""

    has_certificate: bool
    envelope: Envelope | None
    message_digest: str = ""
    signature: bytes = b""


_STATEMENT_NAMES = frozenset({"_type", "subject", "predicateType", "predicate"})
_STATEMENT_TYPES = frozenset(
    {"https://in-toto.io/Statement/v0.1", "https://in-toto.io/Statement/v1"}
)
_ENVELOPE_NAMES = frozenset({"payload", "payloadType", "signatures"})


def read_statement(body: bytes, what: str, *, keep: bool = False) -> Statement:
    """Parse an in-toto statement; with `keep`, its predicate too.

    Raises:
        BadDocument: it is none.
        LimitExceeded: it is too large or too deep.
    """
    _refuse_large(body, MAX_STATEMENT, what)
    fields = Fields.of(read_object(body, what, any_number=True), what, "", _STATEMENT_NAMES)
    if (stated := fields.required_text("_type")) not in _STATEMENT_TYPES:
        raise fields.bad("_type", f"`{stated[:80]}` is not a supported type of statement")
    subjects = {
        f"{algorithm}:{value}"
        for subject in fields.children("subject", frozenset({"name", "digest"}))
        for algorithm, value in subject.pairs("digest")
    }
    predicate = fields.members.get("predicate") if keep else None
    return Statement(fields.required_text("predicateType"), frozenset(subjects), predicate)


def read_envelope(body: bytes, what: str) -> Envelope | None:
    """Parse a DSSE envelope; None if the document is a statement without one."""
    _refuse_large(body, MAX_STATEMENT, what)
    fields = Fields.of(read_object(body, what, any_number=True), what, "", _ENVELOPE_NAMES)
    return None if "_type" in fields.members else _envelope(fields)


def read_bundle(body: bytes, what: str) -> Bundle:
    """Parse a Sigstore bundle, without verifying it."""
    _refuse_large(body, MAX_BUNDLE, what)
    known = frozenset({"mediaType", "verificationMaterial", "dsseEnvelope", "messageSignature"})
    fields = Fields.of(read_object(body, what), what, "", known)
    if not fields.required_text("mediaType").startswith(BUNDLE):
        raise fields.bad("mediaType", "this is not a Sigstore bundle")
    material = fields.child("verificationMaterial")
    if material is None:
        raise fields.bad("verificationMaterial", "required, but missing")
    certified = material.has("certificate") or material.has("x509CertificateChain")
    envelope, message = (
        fields.child("dsseEnvelope", _ENVELOPE_NAMES),
        fields.child("messageSignature"),
    )
    if (envelope is None) == (message is None):
        raise fields.bad("dsseEnvelope", "a bundle has either this or `messageSignature`")
    if envelope is not None:
        return Bundle(certified, _envelope(envelope))
    assert message is not None  # noqa: S101 - one of them is there
    digest = message.child("messageDigest")
    if digest is None or digest.text("algorithm") != "SHA2_256":
        raise message.bad("messageDigest", "only SHA2_256 is supported")
    hashed = _base64(digest, "digest")
    return Bundle(certified, None, f"sha256:{hashed.hex()}", _base64(message, "signature"))


def read_payload(body: bytes, what: str) -> str:
    """Return the manifest digest that a cosign signature payload names."""
    _refuse_large(body, MAX_BUNDLE, what)
    fields = Fields.of(read_object(body, what), what, "", frozenset({"critical", "optional"}))
    critical = fields.child("critical")
    image = critical.child("image") if critical is not None else None
    if image is None:
        raise fields.bad("critical.image", "required, but missing")
    return image.required_text("docker-manifest-digest")


def read_notation(body: bytes, media_type: str, what: str) -> str:
    """Return the digest of the artifact that a notation signature names; empty for COSE."""
    _refuse_large(body, MAX_BUNDLE, what)
    if _plain(media_type) != "application/jose+json":
        return ""
    fields = Fields.of(read_object(body, what), what, "", frozenset({"payload"}))
    payload = _decode(
        fields, "payload", fields.required_text("payload").replace("-", "+").replace("_", "/")
    )
    target = Fields.of(
        read_object(payload, what), what, "payload", frozenset({"targetArtifact"})
    ).child("targetArtifact")
    return "" if target is None else target.required_text("digest")


def _envelope(fields: Fields) -> Envelope:
    signatures = fields.children("signatures", frozenset({"sig", "keyid"}))
    if not signatures:
        raise fields.bad("signatures", "an envelope needs a signature")
    if len(signatures) > MAX_SIGNATURES:
        raise LimitExceeded(
            f"`signatures` of {fields.what}", MAX_SIGNATURES, len(signatures), "signatures"
        )
    return Envelope(
        fields.required_text("payloadType"),
        _base64(fields, "payload"),
        tuple(_base64(each, "sig") for each in signatures),
    )


#: Signatures of one envelope.
MAX_SIGNATURES = 32


def _base64(fields: Fields, name: str) -> bytes:
    return _decode(fields, name, fields.required_text(name))


def _decode(fields: Fields, name: str, text: str) -> bytes:
    """Decode base64, with or without padding."""
    try:
        return base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
    except (binascii.Error, ValueError) as error:
        raise fields.bad(name, "not base64") from error


def _refuse_large(body: bytes, limit: int, what: str) -> None:
    if len(body) > limit:
        raise LimitExceeded(what, limit, len(body))


#: The architecture in a package URL. Source: purl specification, "qualifiers".
_PURL_ARCHITECTURE = re.compile(
    rb"pkg:[a-z0-9.+-]{1,40}/[^\"\\\s]{1,600}?[?&]arch=([A-Za-z0-9_]{1,32})"
)


def architectures_of(sbom: bytes) -> frozenset[str]:
    """Return the architectures of the packages in an SBOM, as written in their package URLs."""
    return frozenset(found.decode() for found in _PURL_ARCHITECTURE.findall(sbom))


def decode_annotation(text: str, what: str) -> bytes:
    """Decode the signature in an annotation."""
    if not text:
        raise BadDocument(what, SIGNATURE_ANNOTATION, "required, but missing")
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise BadDocument(what, SIGNATURE_ANNOTATION, "not base64") from error
