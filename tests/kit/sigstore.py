"""A Sigstore deployment without a network: certificate authority, CT log, transparency log and
timestamp authority, and a signer that can make each mistake.

Source: RFC 6962 (SCTs, Merkle trees), RFC 3161 (timestamps), the bundle format of sigstore's
protobuf-specs, rekor's `dsse` and `hashedrekord` entries 0.0.1, C2SP signed notes.
"""

from __future__ import annotations

import base64
import hashlib
import json
import struct
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

IN_TOTO = "application/vnd.in-toto+json"
BUNDLE = "application/vnd.dev.sigstore.bundle.v0.3+json"
IDENTITY, ISSUER = "https://ci.example.com/release", "https://oidc.example.com"
#: When everything is signed.
NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
_SHA256 = ec.ECDSA(hashes.SHA256())
_ISSUER_OID = x509.ObjectIdentifier("1.3.6.1.4.1.57264.1.1")
_SCT_OID = x509.ObjectIdentifier("1.3.6.1.4.1.11129.2.4.2")
_DER, _SPKI = serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo

Key = ec.EllipticCurvePrivateKey


def new_key() -> Key:
    return ec.generate_private_key(ec.SECP256R1())


def pem(key: Any) -> bytes:
    """Write the public key of a key as `cosign.pub`."""
    made: bytes = key.public_key().public_bytes(serialization.Encoding.PEM, _SPKI)
    return made


def b64(content: bytes) -> str:
    return base64.b64encode(content).decode()


def compact(value: object) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()


def pae(payload: bytes, kind: str = IN_TOTO) -> bytes:
    return b"DSSEv1 %d %b %d %b" % (len(kind), kind.encode(), len(payload), payload)


def envelope(key: Any, payload: bytes, kind: str = IN_TOTO, *arguments: Any) -> dict[str, Any]:
    """Sign a payload with a key: a DSSE envelope."""
    signature = key.sign(pae(payload, kind), *(arguments or (_SHA256,)))
    return {
        "payload": b64(payload),
        "payloadType": kind,
        "signatures": [{"sig": b64(signature), "keyid": ""}],
    }


def keyed_bundle(key: Key, payload: bytes) -> bytes:
    """Make the bundle that `cosign sign --key` attaches."""
    material = {"publicKey": {"hint": "h"}, "tlogEntries": []}
    document = {"mediaType": BUNDLE, "verificationMaterial": material}
    return compact({**document, "dsseEnvelope": envelope(key, payload)})


def _id(key: Key) -> bytes:
    return hashlib.sha256(key.public_key().public_bytes(_DER, _SPKI)).digest()


@dataclass
class Deployment:
    """An authority and logs of its own."""

    ca: Key = field(default_factory=new_key)
    ct: Key = field(default_factory=new_key)
    log: Key = field(default_factory=new_key)
    tsa: Key = field(default_factory=new_key)

    def __post_init__(self) -> None:
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "test authority")])
        self.root = _certificate(name, name, self.ca, self.ca, authority=True)
        self.stamper_root = _certificate(name, name, self.tsa, self.tsa, authority=True)
        stamper = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "test timestamps")])
        self.stamper_key = new_key()
        usage = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.TIME_STAMPING])
        self.stamper = _certificate(stamper, name, self.stamper_key, self.tsa, usage)

    def trusted_root(self) -> bytes:
        """Write the `trusted_root.json` of this deployment."""
        valid = {"start": (NOW - timedelta(days=900)).isoformat().replace("+00:00", "Z")}

        def log(key: Key) -> dict[str, Any]:
            raw = b64(key.public_key().public_bytes(_DER, _SPKI))
            details = {"rawBytes": raw, "keyDetails": "PKIX_ECDSA_P256_SHA_256", "validFor": valid}
            return {
                "baseUrl": "https://log.example.com",
                "hashAlgorithm": "SHA2_256",
                "publicKey": details,
                "logId": {"keyId": b64(_id(key))},
            }

        def authority(*chain: x509.Certificate) -> dict[str, Any]:
            return {
                "subject": {"organization": "test", "commonName": "test"},
                "uri": "https://ca.example.com",
                "certChain": {
                    "certificates": [{"rawBytes": b64(c.public_bytes(_DER))} for c in chain]
                },
                "validFor": valid,
            }

        return compact(
            {
                "mediaType": "application/vnd.dev.sigstore.trustedroot+json;version=0.1",
                "tlogs": [log(self.log)],
                "certificateAuthorities": [authority(self.root)],
                "ctlogs": [log(self.ct)],
                "timestampAuthorities": [authority(self.stamper, self.stamper_root)],
            }
        )

    def certificate(self, key: Key, identity: str, issuer: str) -> x509.Certificate:
        """Issue a certificate for an identity, valid for ten minutes, with an SCT of the CT log."""
        builder = (
            x509.CertificateBuilder()
            .subject_name(x509.Name([]))
            .issuer_name(self.root.subject)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(NOW - timedelta(minutes=5))
            .not_valid_after(NOW + timedelta(minutes=5))
            .add_extension(_usage("digital_signature"), critical=True)
            .add_extension(
                x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CODE_SIGNING]), critical=False
            )
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(self.ca.public_key()),
                critical=False,
            )
            .add_extension(
                x509.SubjectAlternativeName([x509.UniformResourceIdentifier(identity)]),
                critical=True,
            )
            .add_extension(x509.UnrecognizedExtension(_ISSUER_OID, issuer.encode()), critical=False)
        )
        entry = builder.sign(self.ca, hashes.SHA256()).tbs_certificate_bytes
        stamp = int(NOW.timestamp() * 1000)
        body = _id(self.ca) + len(entry).to_bytes(3, "big") + entry
        signed = struct.pack(f"!BBQH{len(body)}sH", 0, 0, stamp, 1, body, 0)
        signature = self.ct.sign(signed, _SHA256)
        sct = struct.pack("!B32sQHBBH", 0, _id(self.ct), stamp, 0, 4, 3, len(signature)) + signature
        listed = struct.pack("!H", len(sct)) + sct
        value = _der(0x04, struct.pack("!H", len(listed)) + listed)
        return builder.add_extension(
            x509.UnrecognizedExtension(_SCT_OID, value), critical=False
        ).sign(self.ca, hashes.SHA256())

    def sign(
        self,
        payload: bytes,
        *,
        identity: str = IDENTITY,
        issuer: str = ISSUER,
        kind: str = IN_TOTO,
        at: datetime = NOW,
        stamp: str = "log",
        message: bool = False,
    ) -> dict[str, Any]:
        """Sign a payload, and return the bundle.

        Args:
            payload: an in-toto statement; with `message`, bytes whose digest is signed.
            identity, issuer: of the certificate.
            kind: the payload type.
            at: the time that log and authority state.
            stamp: `log` for an inclusion promise, `tsa` for a signed timestamp.
            message: make a message signature instead of an envelope.
        """
        key = new_key()
        certificate = self.certificate(key, identity, issuer)
        written = b64(certificate.public_bytes(serialization.Encoding.PEM))
        if message:
            signature = key.sign(payload, _SHA256)
            digest = hashlib.sha256(payload)
            content = {
                "messageSignature": {
                    "messageDigest": {"algorithm": "SHA2_256", "digest": b64(digest.digest())},
                    "signature": b64(signature),
                }
            }
            entry = "hashedrekord"
            spec: dict[str, Any] = {
                "data": {"hash": {"algorithm": "sha256", "value": digest.hexdigest()}},
                "signature": {"content": b64(signature), "publicKey": {"content": written}},
            }
        else:
            enclosed = envelope(key, payload, kind)
            signature = base64.b64decode(enclosed["signatures"][0]["sig"])
            content, entry = {"dsseEnvelope": enclosed}, "dsse"
            spec = {
                "envelopeHash": _hash(compact(enclosed)),
                "payloadHash": _hash(payload),
                "signatures": [{"signature": b64(signature), "verifier": written}],
            }
        body = compact({"apiVersion": "0.0.1", "kind": entry, "spec": spec})
        material: dict[str, Any] = {
            "certificate": {"rawBytes": b64(certificate.public_bytes(_DER))},
            "tlogEntries": [self._entry(body, entry, at, promise=stamp == "log")],
        }
        if stamp == "tsa":
            signed = b64(self.timestamp(signature, at))
            material["timestampVerificationData"] = {
                "rfc3161Timestamps": [{"signedTimestamp": signed}]
            }
        return {"mediaType": BUNDLE, "verificationMaterial": material, **content}

    def _entry(self, body: bytes, kind: str, at: datetime, *, promise: bool) -> dict[str, Any]:
        leaf, beside = hashlib.sha256(b"\0" + body).digest(), hashlib.sha256(b"beside").digest()
        root = hashlib.sha256(b"\1" + leaf + beside).digest()
        note = f"log.example.com\n2\n{b64(root)}\n"
        signature = self.log.sign(note.encode(), _SHA256)
        checkpoint = f"{note}\n\u2014 log.example.com {b64(_id(self.log)[:4] + signature)}\n"
        made: dict[str, Any] = {
            "logIndex": "0",
            "logId": {"keyId": b64(_id(self.log))},
            "kindVersion": {"kind": kind, "version": "0.0.1"},
            "inclusionProof": {
                "logIndex": "0",
                "rootHash": b64(root),
                "treeSize": "2",
                "hashes": [b64(beside)],
                "checkpoint": {"envelope": checkpoint},
            },
            "canonicalizedBody": b64(body),
        }
        if promise:
            moment = int(at.timestamp())
            logged = {"body": b64(body), "integratedTime": moment, "logIndex": 0}
            promised = self.log.sign(compact({**logged, "logID": _id(self.log).hex()}), _SHA256)
            made["integratedTime"] = str(moment)
            made["inclusionPromise"] = {"signedEntryTimestamp": b64(promised)}
        return made

    def timestamp(self, message: bytes, at: datetime) -> bytes:
        """Sign the time of a message. Source: RFC 3161, 2.4.2; RFC 5652, 5.1."""
        sha256 = _der(0x30, _oid("2.16.840.1.101.3.4.2.1"))
        info = _der(
            0x30,
            _integer(1)
            + _oid("1.3.6.1.4.1.4146.2.3")
            + _der(0x30, sha256 + _der(0x04, hashlib.sha256(message).digest()))
            + _integer(1)
            + _der(0x18, at.strftime("%Y%m%d%H%M%SZ").encode()),
        )
        tst_info = _oid("1.2.840.113549.1.9.16.1.4")
        certificate = self.stamper.public_bytes(_DER)
        certified = _der(0x30, _der(0x30, _der(0x04, hashlib.sha256(certificate).digest())))
        attributes = sorted(
            [
                _attribute("1.2.840.113549.1.9.3", tst_info),
                _attribute("1.2.840.113549.1.9.4", _der(0x04, hashlib.sha256(info).digest())),
                _attribute("1.2.840.113549.1.9.16.2.47", _der(0x30, certified)),
            ]
        )
        signature = self.stamper_key.sign(_der(0x31, b"".join(attributes)), _SHA256)
        issuer = self.stamper.issuer.public_bytes()
        signer = _der(
            0x30,
            _integer(1)
            + _der(0x30, issuer + _integer(self.stamper.serial_number))
            + sha256
            + _der(0xA0, b"".join(attributes))
            + _der(0x30, _oid("1.2.840.10045.4.3.2"))
            + _der(0x04, signature),
        )
        data = _der(
            0x30,
            _integer(3)
            + _der(0x31, sha256)
            + _der(0x30, tst_info + _der(0xA0, _der(0x04, info)))
            + _der(0xA0, certificate)
            + _der(0x31, signer),
        )
        signed_data = _der(0x30, _oid("1.2.840.113549.1.7.2") + _der(0xA0, data))
        return _der(0x30, _der(0x30, _integer(0)) + signed_data)


def _usage(*names: str) -> x509.KeyUsage:
    every = (
        "digital_signature", "content_commitment", "key_encipherment", "data_encipherment",
        "key_agreement", "key_cert_sign", "crl_sign", "encipher_only", "decipher_only",
    )  # fmt: skip
    return x509.KeyUsage(**{name: name in names for name in every})


def _certificate(
    subject: x509.Name,
    issuer: x509.Name,
    key: Key,
    signer: Key,
    usage: x509.ExtendedKeyUsage | None = None,
    *,
    authority: bool = False,
) -> x509.Certificate:
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(NOW - timedelta(days=800))
        .not_valid_after(NOW + timedelta(days=8000))
        .add_extension(_usage("key_cert_sign" if authority else "digital_signature"), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )
    if authority:
        builder = builder.add_extension(
            x509.BasicConstraints(ca=True, path_length=0), critical=True
        )
    if usage is not None:
        builder = builder.add_extension(usage, critical=True)
    if not authority:
        identifier = x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key())
        builder = builder.add_extension(identifier, critical=False)
    return builder.sign(signer, hashes.SHA256())


def _hash(content: bytes) -> dict[str, str]:
    return {"algorithm": "sha256", "value": hashlib.sha256(content).hexdigest()}


def _der(tag: int, content: bytes) -> bytes:
    size = len(content)
    if size < 0x80:
        return bytes([tag, size]) + content
    length = size.to_bytes((size.bit_length() + 7) // 8, "big")
    return bytes([tag, 0x80 | len(length)]) + length + content


def _integer(value: int) -> bytes:
    return _der(0x02, value.to_bytes(value.bit_length() // 8 + 1, "big"))


def _oid(text: str) -> bytes:
    first, second, *rest = map(int, text.split("."))
    encoded = bytearray([first * 40 + second])
    for arc in rest:
        digits = [arc & 0x7F]
        while arc := arc >> 7:
            digits.append(arc & 0x7F | 0x80)
        encoded += bytes(reversed(digits))
    return _der(0x06, bytes(encoded))


def _attribute(name: str, value: bytes) -> bytes:
    return _der(0x30, _oid(name) + _der(0x31, value))


def ecdsa() -> ec.ECDSA:
    """Return the scheme of most keys: ECDSA over SHA-256."""
    return _SHA256
