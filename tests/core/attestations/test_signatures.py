"""Verification of signatures: what is accepted, and every way to be rejected."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from hypothesis import given
from hypothesis import strategies as st

from resolver.core.attestations import statements
from resolver.core.attestations.signatures import judge, load_identity, load_key
from resolver.core.attestations.statements import Part, Wrapping, read_bundle
from resolver.core.oci.descriptor import Descriptor
from resolver.core.oci.digest import Digest
from resolver.core.results.attestations import State
from resolver.errors import Untrusted, Usage
from tests.kit.sigstore import (
    IDENTITY,
    ISSUER,
    NOW,
    Deployment,
    b64,
    compact,
    envelope,
    keyed_bundle,
    new_key,
    pae,
    pem,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from resolver.core.attestations.signatures import Judgement, TrustedSigner

MANIFEST = b'{"schemaVersion": 2}'
SUBJECT, OTHER = Digest.of(MANIFEST), Digest.of(b"another manifest")
SPDX, SIGN = "https://spdx.dev/Document", "https://sigstore.dev/cosign/sign/v1"
DEPLOYMENT = Deployment()


@pytest.fixture(scope="module")
def identity() -> TrustedSigner:
    return load_identity(IDENTITY, ISSUER, DEPLOYMENT.trusted_root(), "root.json")


def statement(*subjects: Digest, predicate: str = SIGN) -> bytes:
    return compact(
        {
            "_type": "https://in-toto.io/Statement/v1",
            "predicateType": predicate,
            "subject": [{"name": "app", "digest": {each.algorithm: each.hex}} for each in subjects],
            "predicate": {"rate": 1.5},
        }
    )


def judged(
    body: bytes,
    trust: TrustedSigner | None,
    form: Wrapping = Wrapping.BUNDLE,
    annotations: dict[str, str] | None = None,
    media_type: str = "application/json",
) -> Judgement:
    pairs = tuple(sorted((annotations or {}).items()))
    blob = Descriptor(media_type, Digest.of(body), len(body), annotations=pairs)
    part = Part("signature", "", form, form.value, blob)
    members = frozenset({str(SUBJECT), str(OTHER)})
    return judge(part, body, SUBJECT, members, trust, lambda: MANIFEST)


@pytest.mark.parametrize("stamp", ["log", "tsa"])
@pytest.mark.parametrize("predicate", [SIGN, SPDX])
def test_identity_verifies_a_bundle_of_its_deployment(
    identity: TrustedSigner, stamp: str, predicate: str
) -> None:
    body = compact(DEPLOYMENT.sign(statement(SUBJECT, predicate=predicate), stamp=stamp))
    found = judged(body, identity)

    assert (found.state, found.signer) == (State.VERIFIED, f"{IDENTITY} ({ISSUER})")
    assert found.kind == ("sbom" if predicate == SPDX else "signature")
    assert judged(body, None).state is State.PRESENT
    assert judged(body, None).signer == "certificate"


def test_identity_verifies_a_message_signature(identity: TrustedSigner) -> None:
    assert (
        judged(compact(DEPLOYMENT.sign(MANIFEST, message=True)), identity).state is State.VERIFIED
    )
    other = judged(compact(DEPLOYMENT.sign(b"other", message=True)), identity)
    assert other.state is State.WRONG_SUBJECT


def _changed(bundle: dict[str, Any]) -> None:
    bundle["dsseEnvelope"]["payload"] = b64(statement(SUBJECT, predicate=SPDX))


def _broken_checkpoint(bundle: dict[str, Any]) -> None:
    proof = bundle["verificationMaterial"]["tlogEntries"][0]["inclusionProof"]
    note = proof["checkpoint"]["envelope"]
    proof["checkpoint"]["envelope"] = note.replace("log.example.com\n2", "log.example.com\n3")


def _other_leaf(bundle: dict[str, Any]) -> None:
    proof = bundle["verificationMaterial"]["tlogEntries"][0]["inclusionProof"]
    proof["hashes"] = [b64(b"x" * 32)]


def _no_proof(bundle: dict[str, Any]) -> None:
    del bundle["verificationMaterial"]["tlogEntries"][0]["inclusionProof"]


def _no_log_entry(bundle: dict[str, Any]) -> None:
    bundle["verificationMaterial"]["tlogEntries"] = []


def _second_signature(bundle: dict[str, Any]) -> None:
    bundle["dsseEnvelope"]["signatures"] *= 2


def _endless_time(bundle: dict[str, Any]) -> None:
    bundle["verificationMaterial"]["tlogEntries"][0]["integratedTime"] = str(2**63)


def _no_certificate(bundle: dict[str, Any]) -> None:
    bundle["verificationMaterial"]["certificate"] = {"rawBytes": b64(b"not DER")}


@pytest.mark.parametrize(
    "change",
    [
        _changed,
        _broken_checkpoint,
        _other_leaf,
        _no_proof,
        _no_log_entry,
        _second_signature,
        _endless_time,
        _no_certificate,
    ],
)
def test_identity_rejects_a_changed_bundle(
    identity: TrustedSigner, change: Callable[[dict[str, Any]], None]
) -> None:
    bundle = DEPLOYMENT.sign(statement(SUBJECT))
    assert judged(compact(bundle), identity).state is State.VERIFIED
    change(bundle)
    found = judged(compact(bundle), identity)

    assert found.state is State.INVALID
    assert found.reason
    assert "\n" not in found.reason


@pytest.mark.parametrize(
    ("signing", "reason"),
    [
        ({"identity": "https://ci.example.com/fork"}, "SANs do not match"),
        ({"issuer": "https://other.example.com"}, "OIDCIssuer does not match"),
        ({"at": NOW + timedelta(hours=1)}, "not valid at validation time"),
        ({"at": NOW + timedelta(hours=1), "stamp": "tsa"}, "not valid at validation time"),
        ({"stamp": "none"}, "inclusion promise or signed timestamp"),
        ({"kind": "text/plain"}, "its payload is `text/plain`"),
    ],
)
def test_identity_rejects_other_signers_times_and_payload_types(
    identity: TrustedSigner, signing: dict[str, Any], reason: str
) -> None:
    found = judged(compact(DEPLOYMENT.sign(statement(SUBJECT), **signing)), identity)

    assert found.state is State.INVALID
    assert reason in found.reason


def test_identity_rejects_another_deployment(identity: TrustedSigner) -> None:
    assert judged(compact(Deployment().sign(statement(SUBJECT))), identity).state is State.INVALID
    # The same authority, and another log: its proof does not count.
    forged = Deployment(ca=DEPLOYMENT.ca, ct=DEPLOYMENT.ct)
    found = judged(compact(forged.sign(statement(SUBJECT), stamp="tsa")), identity)
    assert found.state is State.INVALID


def test_valid_signature_over_another_digest_is_never_verified(identity: TrustedSigner) -> None:
    body = compact(DEPLOYMENT.sign(statement(OTHER)))
    key = new_key()
    sbom = compact(DEPLOYMENT.sign(statement(Digest.of(b"a file"), predicate=SPDX)))

    assert judged(body, identity).state is State.WRONG_SUBJECT
    assert judged(keyed_bundle(key, statement(OTHER)), load_key(pem(key), "k")).state is (
        State.WRONG_SUBJECT
    )
    assert judged(sbom, identity).state is State.OTHER_SUBJECT
    assert judged(compact(DEPLOYMENT.sign(statement())), identity).state is State.WRONG_SUBJECT


@pytest.mark.parametrize("cut", [0, 1, 100, -1])
def test_truncated_bundle_is_unreadable(identity: TrustedSigner, cut: int) -> None:
    body = compact(DEPLOYMENT.sign(statement(SUBJECT)))
    assert judged(body[:cut], identity).state is State.UNREADABLE


def test_oversized_bundle_and_statement_are_unreadable(
    identity: TrustedSigner, monkeypatch: pytest.MonkeyPatch
) -> None:
    body = compact(DEPLOYMENT.sign(statement(SUBJECT)))
    monkeypatch.setattr(statements, "MAX_BUNDLE", len(body))
    assert judged(body, identity).state is State.VERIFIED
    monkeypatch.setattr(statements, "MAX_BUNDLE", len(body) - 1)
    assert judged(body, identity).state is State.UNREADABLE
    plain = statement(SUBJECT, predicate=SPDX)
    monkeypatch.setattr(statements, "MAX_STATEMENT", len(plain))
    assert judged(plain, None, Wrapping.STATEMENT).state is State.PRESENT
    monkeypatch.setattr(statements, "MAX_STATEMENT", len(plain) - 1)
    assert judged(plain, None, Wrapping.STATEMENT).state is State.UNREADABLE


def test_envelope_limits_its_signatures() -> None:
    sealed = envelope(new_key(), statement(SUBJECT))
    sealed["signatures"] *= statements.MAX_SIGNATURES
    assert judged(compact(sealed), None, Wrapping.ENVELOPE).state is State.PRESENT
    sealed["signatures"].append(sealed["signatures"][0])
    assert judged(compact(sealed), None, Wrapping.ENVELOPE).state is State.UNREADABLE


# Keys

PREHASHED = ec.ECDSA(hashes.SHA256())
PSS = padding.PSS(padding.MGF1(hashes.SHA256()), padding.PSS.MAX_LENGTH)
P384 = ec.ECDSA(hashes.SHA384())
SCHEMES: dict[str, tuple[Any, tuple[Any, ...]]] = {
    "p256": (ec.generate_private_key(ec.SECP256R1()), (PREHASHED,)),
    "p384": (ec.generate_private_key(ec.SECP384R1()), (PREHASHED,)),
    "p384-sha384": (ec.generate_private_key(ec.SECP384R1()), (P384,)),
    "ed25519": (ed25519.Ed25519PrivateKey.generate(), ()),
    "rsa": (rsa.generate_private_key(65537, 2048), (padding.PKCS1v15(), hashes.SHA256())),
    "rsa-pss": (rsa.generate_private_key(65537, 2048), (PSS, hashes.SHA256())),
}


@pytest.mark.parametrize(
    ("scheme", "form"),
    [
        (scheme, form)
        for scheme in SCHEMES
        for form in ("bundle", "envelope", "payload", "message")
        # A bundle names the SHA-256 digest of its message.
        if (scheme, form) != ("p384-sha384", "message")
    ],
)
def test_key_verifies_its_own_signatures_only(scheme: str, form: str) -> None:
    key, arguments = SCHEMES[scheme]
    payload = compact({"critical": {"image": {"docker-manifest-digest": str(SUBJECT)}}})
    sealed = compact_envelope(key, statement(SUBJECT), *arguments)
    annotations = {}
    if form == "bundle":
        body, wrapped = bundled(dsseEnvelope=json.loads(sealed)), Wrapping.BUNDLE
    elif form == "envelope":
        body, wrapped = sealed, Wrapping.ENVELOPE
    elif form == "payload":
        body, wrapped = payload, Wrapping.PAYLOAD
        signature = b64(key.sign(payload, *arguments))
        annotations = {"dev.cosignproject.cosign/signature": signature}
    else:
        body = bundled(
            messageSignature={
                "messageDigest": {
                    "algorithm": "SHA2_256",
                    "digest": b64(bytes.fromhex(SUBJECT.hex)),
                },
                "signature": b64(key.sign(MANIFEST, *arguments)),
            }
        )
        wrapped = Wrapping.BUNDLE
    trust = load_key(pem(key), "cosign.pub")
    found = judged(body, trust, wrapped, annotations)

    assert (found.state, found.signer) == (State.VERIFIED, trust.label)
    for other in SCHEMES.values():
        if other[0] is not key:
            rejected = judged(body, load_key(pem(other[0]), "other.pub"), wrapped, annotations)
            assert (rejected.state, rejected.reason) == (
                State.INVALID,
                "the signature is not by this key",
            )


def compact_envelope(key: Any, payload: bytes, *arguments: Any) -> bytes:
    sealed = envelope(new_key(), payload)
    sealed["signatures"] = [{"sig": b64(key.sign(pae(payload), *arguments))}]
    return compact(sealed)


def bundled(**content: Any) -> bytes:
    material = {"publicKey": {"hint": ""}}
    kind = "application/vnd.dev.sigstore.bundle.v0.3+json"
    return compact({"mediaType": kind, "verificationMaterial": material, **content})


def test_key_rejects_a_changed_payload() -> None:
    key = new_key()
    payload = compact({"critical": {"image": {"docker-manifest-digest": str(SUBJECT)}}})
    named = {"dev.cosignproject.cosign/signature": b64(key.sign(payload, PREHASHED))}
    changed = payload + b" "
    trust = load_key(pem(key), "k")

    assert judged(payload, trust, Wrapping.PAYLOAD, named).state is State.VERIFIED
    assert judged(changed, trust, Wrapping.PAYLOAD, named).state is State.INVALID
    assert judged(payload, trust, Wrapping.PAYLOAD, {}).state is State.UNREADABLE
    broken = {"dev.cosignproject.cosign/signature": "%%"}
    assert judged(payload, trust, Wrapping.PAYLOAD, broken).state is State.UNREADABLE


def test_keys_and_identities_leave_each_others_signatures_present(identity: TrustedSigner) -> None:
    key = new_key()
    keyed, keyless = keyed_bundle(key, statement(SUBJECT)), DEPLOYMENT.sign(statement(SUBJECT))
    old = {"dev.sigstore.cosign/certificate": "PEM", "dev.cosignproject.cosign/signature": "AAAA"}
    payload = compact({"critical": {"image": {"docker-manifest-digest": str(SUBJECT)}}})

    for found, reason in (
        (judged(keyed, identity), "signed with a key; verify it with `--key`"),
        (judged(compact(keyless), load_key(pem(key), "k")), "signed with a certificate"),
        (judged(payload, identity, Wrapping.PAYLOAD, old), "not verifiable offline"),
        (judged(statement(SUBJECT), identity, Wrapping.STATEMENT), "not signed"),
        (judged(b"\x01", identity, Wrapping.NOTATION, media_type="application/cose"), "notation"),
    ):
        assert found.state is State.PRESENT
        assert reason in found.reason


def test_notation_signature_names_its_subject() -> None:
    def jws(digest: Digest) -> bytes:
        payload = compact({"targetArtifact": {"digest": str(digest)}})
        return compact({"payload": b64(payload).rstrip("="), "signature": "x"})

    kind = "application/jose+json"
    good = judged(jws(SUBJECT), None, Wrapping.NOTATION, media_type=kind)
    assert (good.state, good.reason) == (State.PRESENT, "notation signatures are not verified")
    other = judged(jws(OTHER), None, Wrapping.NOTATION, media_type=kind)
    assert (other.state, other.reason) == (State.WRONG_SUBJECT, f"it is about `{OTHER}`")


@pytest.mark.parametrize(
    "text", [b"", b"nothing", b"-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n"]
)
def test_what_is_no_public_key_is_refused(text: bytes) -> None:
    with pytest.raises(Usage, match=r"`k\.pub` is not a public key"):
        load_key(text, "k.pub")


@pytest.mark.parametrize(("who", "issuer"), [("", ISSUER), (IDENTITY, ""), ("", "")])
def test_an_identity_needs_its_issuer(who: str, issuer: str) -> None:
    with pytest.raises(Usage, match="together with its issuer"):
        load_identity(who, issuer, DEPLOYMENT.trusted_root(), "root.json")


@pytest.mark.parametrize("root", [b"", b"{}", b'{"mediaType": "x"}'])
def test_what_is_no_trusted_root_is_refused(root: bytes) -> None:
    with pytest.raises(Usage, match=r"`root\.json` is not a trusted root"):
        load_identity(IDENTITY, ISSUER, root, "root.json")


@given(st.binary(max_size=200) | st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(
        st.sampled_from(["mediaType", "verificationMaterial", "dsseEnvelope", "payload", "critical",
                         "image", "_type", "subject", "predicateType", "messageSignature"]),
        inner, max_size=4,
    ),
).map(lambda value: json.dumps(value).encode()))  # fmt: skip
def test_any_bytes_are_judged_or_unreadable(body: bytes) -> None:
    for form in (Wrapping.BUNDLE, Wrapping.ENVELOPE, Wrapping.STATEMENT, Wrapping.PAYLOAD):
        assert judged(body, None, form).state is not State.VERIFIED
    try:
        read_bundle(body, "it")
    except Untrusted:
        return
