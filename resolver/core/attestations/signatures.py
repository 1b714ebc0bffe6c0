"""Judge attestations: verify their signatures, and compare their subjects.

`cryptography` (keys) and `sigstore` (identities) are optional and imported when they are needed.
Nothing is `verified` without a key, or an identity and its issuer.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, Protocol

from resolver.core.attestations.statements import (
    CERTIFICATE_ANNOTATION,
    IN_TOTO,
    SIGNATURE_ANNOTATION,
    Envelope,
    Wrapping,
    decode_annotation,
    kind_of_predicate,
    read_bundle,
    read_envelope,
    read_notation,
    read_payload,
    read_statement,
)
from resolver.core.oci.digest import Digest
from resolver.core.results.attestations import State
from resolver.errors import Untrusted, Usage
from resolver.values import dataclass

if TYPE_CHECKING:
    from collections.abc import Callable

    from resolver.core.attestations.statements import Part

#: Characters of the reason of a rejection.
_REASON = 160


@dataclass(frozen=True, slots=True)
class Signed:
    """What is signed, and by what.

    Attributes:
        envelope: of DSSE; its bytes to verify are `signed_bytes`.
        message: a payload in full, without an envelope.
        message_digest: `sha256:HEX`, if only the digest of the message is known.
        bundle: the bytes of a Sigstore bundle; empty for formats before it.
        document: reads the manifest; for keys that sign messages, not their digests.
    """

    has_certificate: bool
    envelope: Envelope | None = None
    message: bytes = b""
    message_digest: str = ""
    signature: bytes = b""
    bundle: bytes = b""
    document: Callable[[], bytes] = bytes


class Rejected(Exception):
    """A signature that is not verified: `invalid`, or `present` if it could not be tried."""

    def __init__(self, reason: str, state: State = State.INVALID) -> None:
        """Keep the reason as one line."""
        first = (reason.splitlines() or [""])[0]
        super().__init__(first if len(first) <= _REASON else f"{first[: _REASON - 1]}…")
        self.state = state


class TrustedSigner(Protocol):
    """Who is trusted to sign."""

    @property
    def label(self) -> str:
        """The key or the identity, for people."""
        ...

    def verify(self, signed: Signed) -> str:
        """Return the signer; raise `Rejected` if the signature is not by a trusted one."""
        ...


@dataclass(frozen=True, slots=True)
class Judgement:
    """The state of an attestation; `kind` and `type` are those that its content states."""

    kind: str
    type: str
    format: str
    state: State
    signer: str = ""
    reason: str = ""


def judge(
    part: Part,
    body: bytes,
    subject: Digest,
    members: frozenset[str],
    trust: TrustedSigner | None,
    document: Callable[[], bytes] = bytes,
) -> Judgement:
    """Decide the state of an attestation from its verified bytes.

    Args:
        part: what its manifest says of it.
        body: verified against its digest.
        subject: the manifest that it was found for.
        members: digests of all manifests of the same index, the index included.
        trust: None to verify no signature.
        document: reads the manifest `subject`.
    """
    found = Judgement(part.kind, part.type, part.format, State.PRESENT)
    try:
        found, signed, subjects = _read(part, body, found, document)
    except Untrusted as error:
        return replace(found, state=State.UNREADABLE, reason=str(error))
    if signed is not None:
        found = replace(found, signer="certificate" if signed.has_certificate else "key")
    if trust is not None:
        try:
            found = _verified(found, part, signed, trust)
        except Rejected as rejected:
            found = replace(found, state=rejected.state, reason=str(rejected))
            if rejected.state is State.INVALID:
                return found
    if part.form is Wrapping.NOTATION and not subjects:
        return found
    return _about(found, subjects, subject, members)


def _read(
    part: Part, body: bytes, found: Judgement, document: Callable[[], bytes]
) -> tuple[Judgement, Signed | None, frozenset[str]]:
    """Parse the content; return what is signed, and the subjects."""
    what = f"the {part.format} `{part.blob.digest}`" if part.blob is not None else part.format
    annotations = dict(part.blob.annotations) if part.blob is not None else {}
    certified = CERTIFICATE_ANNOTATION in annotations
    if part.form is Wrapping.NOTATION:
        media_type = part.blob.media_type if part.blob is not None else ""
        named = read_notation(body, media_type, what)
        reason = "notation signatures are not verified"
        return replace(found, reason=reason), None, frozenset({named} if named else ())
    if part.form is Wrapping.PAYLOAD:
        signature = decode_annotation(annotations.get(SIGNATURE_ANNOTATION, ""), what)
        signed = Signed(certified, message=body, signature=signature)
        return found, signed, frozenset({read_payload(body, what)})
    if part.form is Wrapping.BUNDLE:
        bundle = read_bundle(body, what)
        if bundle.envelope is None:
            found = replace(found, kind="signature")
            signed = Signed(
                bundle.has_certificate,
                message_digest=bundle.message_digest,
                signature=bundle.signature,
                bundle=body,
                document=document,
            )
            return found, signed, frozenset({bundle.message_digest})
        envelope: Envelope | None = bundle.envelope
        signed = Signed(bundle.has_certificate, envelope, bundle=body)
    else:
        envelope = read_envelope(body, what)
        signed = Signed(certified, envelope)
    if envelope is None:
        statement = read_statement(body, what)
    else:
        found = replace(found, format=part.format if signed.bundle else Wrapping.ENVELOPE.value)
        if envelope.payload_type != IN_TOTO:
            kind = envelope.payload_type
            reason = f"its payload is `{kind[:80]}`, not `{IN_TOTO}`"
            return replace(found, state=State.INVALID, reason=reason), signed, frozenset()
        statement = read_statement(envelope.payload, f"the payload of {what}")
    kind = kind_of_predicate(statement.predicate_type)
    found = replace(found, kind=kind, type=statement.predicate_type)
    return found, signed if envelope is not None else None, statement.subjects


def _verified(
    found: Judgement, part: Part, signed: Signed | None, trust: TrustedSigner
) -> Judgement:
    if found.state is State.INVALID or part.form is Wrapping.NOTATION:
        return found
    if signed is None:
        return replace(found, reason="not signed")
    return replace(found, state=State.VERIFIED, signer=trust.verify(signed))


def _about(
    found: Judgement, subjects: frozenset[str], subject: Digest, members: frozenset[str]
) -> Judgement:
    """Compare the subjects with the manifest; a signature is about a manifest or wrong."""
    if found.state is State.INVALID or str(subject) in subjects:
        return found
    others = sorted(subjects & members) or sorted(subjects)
    reason = f"it is about `{others[0][:80]}`" if others else "it names no subject"
    is_wrong = found.kind == "signature" or subjects & members
    state = State.WRONG_SUBJECT if is_wrong else State.OTHER_SUBJECT
    return replace(found, state=state, reason=reason)


@dataclass(frozen=True, slots=True)
class KeyTrust:
    """A public key: ECDSA, RSA or Ed25519."""

    label: str
    key: Any

    def verify(self, signed: Signed) -> str:
        """See `TrustedSigner.verify`."""
        if signed.has_certificate:
            reason = "signed with a certificate; verify it with an identity and its issuer"
            raise Rejected(reason, State.PRESENT)
        if signed.envelope is not None:
            data, signatures = signed.envelope.signed_bytes, signed.envelope.signatures
        else:
            data, signatures = signed.message, (signed.signature,)
        if any(self._fits(signature, data, signed) for signature in signatures):
            return self.label
        raise Rejected("the signature is not by this key")

    def _fits(self, signature: bytes, data: bytes, signed: Signed) -> bool:
        from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm  # noqa: PLC0415
        from cryptography.hazmat.primitives.asymmetric import ed25519, utils  # noqa: PLC0415

        is_digest = bool(signed.message_digest)
        for schemes in _schemes(self.key):
            arguments = list(schemes)
            content = data
            if isinstance(self.key, ed25519.Ed25519PublicKey):
                content = signed.document() if is_digest else data
            elif is_digest:
                # Only SHA-256 digests are read, see `read_bundle`.
                content = bytes.fromhex(signed.message_digest.partition(":")[2])
                arguments = _prehashed(arguments, utils)
            try:
                self.key.verify(signature, content, *arguments)
            except (InvalidSignature, UnsupportedAlgorithm, ValueError):
                continue
            return True
        return False


def load_key(pem: bytes, name: str) -> KeyTrust:
    """Read a public key in PEM.

    Raises:
        Usage: it is none, or of an unsupported type; or `cryptography` is not installed.
    """
    try:
        from cryptography.exceptions import UnsupportedAlgorithm  # noqa: PLC0415 - optional
        from cryptography.hazmat.primitives import serialization  # noqa: PLC0415
        from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa  # noqa: PLC0415
    except ImportError as error:
        raise _not_installed("cryptography", "keys") from error
    hint = "name the public key, in PEM, as `cosign generate-key-pair` writes it to `cosign.pub`"
    try:
        key = serialization.load_pem_public_key(pem)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise Usage(f"`{name}` is not a public key", hint) from error
    if not isinstance(key, ec.EllipticCurvePublicKey | rsa.RSAPublicKey | ed25519.Ed25519PublicKey):
        raise Usage(f"`{name}` is a key of an unsupported type", hint)
    der = key.public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    return KeyTrust(f"key sha256:{Digest.of(der).hex[:16]}", key)


def _schemes(key: Any) -> tuple[tuple[Any, ...], ...]:
    """Return the arguments of `verify` that cosign's signatures need, by the type of the key."""
    from cryptography.hazmat.primitives import hashes  # noqa: PLC0415
    from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa  # noqa: PLC0415

    if isinstance(key, ec.EllipticCurvePublicKey):
        # cosign signs with SHA-256 whatever the curve; newer versions by the size of the curve.
        by_curve = {384: hashes.SHA384(), 521: hashes.SHA512()}.get(key.key_size)
        sizes = (hashes.SHA256(), *((by_curve,) if by_curve is not None else ()))
        return tuple((ec.ECDSA(size),) for size in sizes)
    if isinstance(key, rsa.RSAPublicKey):
        size = hashes.SHA256()
        pss = padding.PSS(padding.MGF1(size), padding.PSS.AUTO)
        return ((padding.PKCS1v15(), size), (pss, size))
    return ((),)


def _prehashed(arguments: list[Any], utils: Any) -> list[Any]:
    from cryptography.hazmat.primitives import hashes  # noqa: PLC0415
    from cryptography.hazmat.primitives.asymmetric import ec  # noqa: PLC0415

    hashed = utils.Prehashed(hashes.SHA256())
    if isinstance(arguments[-1], ec.ECDSA):
        return [ec.ECDSA(hashed)]
    return [*arguments[:-1], hashed]


@dataclass(frozen=True, slots=True)
class IdentityTrust:
    """An identity and its issuer, with certificates and logs of a trusted root."""

    identity: str
    issuer: str
    verifier: Any

    @property
    def label(self) -> str:
        """See `TrustedSigner.label`."""
        return f"{self.identity} ({self.issuer})"

    def verify(self, signed: Signed) -> str:
        """See `TrustedSigner.verify`."""
        from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm  # noqa: PLC0415
        from cryptography.x509 import DuplicateExtension, ExtensionNotFound  # noqa: PLC0415
        from sigstore.errors import Error  # noqa: PLC0415 - slow, and optional
        from sigstore.models import Bundle  # noqa: PLC0415
        from sigstore.verify.policy import Identity  # noqa: PLC0415

        if not signed.has_certificate:
            raise Rejected("signed with a key; verify it with `--key`", State.PRESENT)
        if not signed.bundle:
            reason = "not verifiable offline: it has no proof of inclusion in a log"
            raise Rejected(reason, State.PRESENT)
        policy = Identity(identity=self.identity, issuer=self.issuer)
        hostile = (
            Error, InvalidSignature, UnsupportedAlgorithm, ExtensionNotFound, DuplicateExtension,
            ValueError, TypeError, LookupError, ArithmeticError, AttributeError, OSError,
        )  # fmt: skip
        try:
            bundle = Bundle.from_json(signed.bundle)
            if signed.envelope is None:
                self.verifier.verify_artifact(_hashed(signed.message_digest), bundle, policy)
            elif self.verifier.verify_dsse(bundle, policy) != (
                signed.envelope.payload_type,
                signed.envelope.payload,
            ):
                raise Rejected("it can be read in two ways")
        except hostile as error:
            raise Rejected(_said(error)) from error
        return self.label


def _said(error: Exception) -> str:
    return str(error) or type(error).__name__


def _hashed(text: str) -> Any:
    from sigstore.hashes import Hashed  # noqa: PLC0415
    from sigstore_models.common.v1 import HashAlgorithm  # noqa: PLC0415

    digest = bytes.fromhex(text.partition(":")[2])
    return Hashed(algorithm=HashAlgorithm.SHA2_256, digest=digest)


def load_identity(identity: str, issuer: str, trusted_root: bytes, name: str) -> IdentityTrust:
    """Trust an identity of an issuer; `trusted_root` is JSON, `name` its file for messages.

    Raises:
        Usage: identity or issuer is empty, the root is invalid, or `sigstore` is not installed.
    """
    if not identity or not issuer:
        raise Usage(
            "an identity is trusted together with its issuer",
            "give both: `--identity ID --issuer URL`",
        )
    try:
        from sigstore.errors import Error  # noqa: PLC0415 - slow, and optional
        from sigstore.models import TrustedRoot  # noqa: PLC0415
        from sigstore.verify import Verifier  # noqa: PLC0415
        from sigstore_models.trustroot.v1 import TrustedRoot as Model  # noqa: PLC0415
    except ImportError as error:
        raise _not_installed("sigstore", "sigstore") from error
    try:
        verifier = Verifier(trusted_root=TrustedRoot(Model.from_json(trusted_root)))
    except (Error, ValueError, TypeError) as error:
        reason = str(Rejected(_said(error)))
        raise Usage(
            f"`{name}` is not a trusted root: {reason}", "name a `trusted_root.json` of Sigstore"
        ) from error
    return IdentityTrust(identity, issuer, verifier)


def _not_installed(package: str, extra: str) -> Usage:
    return Usage(
        f"signatures are verified with `{package}`, which is not installed",
        f"install it: `pip install 'multiarch-resolver[{extra}]'`",
    )
