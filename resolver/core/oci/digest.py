"""Content digests, and verification against them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Self

from resolver.errors import (
    DigestMismatch,
    InvalidDigest,
    SizeMismatch,
    UnsupportedAlgorithm,
    UnsupportedDocument,
)
from resolver.values import dataclass, pattern

if TYPE_CHECKING:
    from hashlib import _Hash

#: Hex digits per algorithm. Source: OCI image-spec v1.1.1, descriptor.md, "Registered algorithms".
HEX_DIGITS = {"sha256": 64, "sha512": 128}

_HEX = pattern(r"[0-9a-f]+")
#: Any digest, known or not. Source: OCI image-spec v1.1.1, descriptor.md, "Digests".
_GRAMMAR = pattern(r"[a-z0-9]+(?:[+._-][a-z0-9]+)*:[a-zA-Z0-9=_-]+")
#: Characters of a digest with an unknown algorithm. Ours.
_MAX_UNKNOWN = 200


@dataclass(frozen=True, slots=True, order=True)
class Digest:
    """A content digest; instances are always well-formed.

    The algorithm may be unsupported (`is_verifiable`): documents may name such content (OCI
    image-spec v1.1.1, descriptor.md: implementations SHOULD allow unrecognised algorithms to
    pass), and `require_verifiable` refuses it where the content is needed.

    Raises:
        InvalidDigest: it is malformed.
    """

    algorithm: str
    hex: str

    def __post_init__(self) -> None:
        """Refuse text that must not become part of a path or a URL."""
        digits = HEX_DIGITS.get(self.algorithm)
        if digits is None:
            text = str(self)
            if len(text) <= _MAX_UNKNOWN and _GRAMMAR.fullmatch(text):
                return
            raise InvalidDigest(text, f"the algorithm must be one of {', '.join(HEX_DIGITS)}")
        if len(self.hex) != digits or not _HEX.fullmatch(self.hex):
            raise InvalidDigest(str(self), f"{self.algorithm} takes {digits} lower-case hex digits")

    @classmethod
    def parse(cls, text: str) -> Self:
        """Parse `algorithm:hex`; raises `InvalidDigest`, or `UnsupportedAlgorithm`."""
        digest = cls.read(text)
        if not digest.is_verifiable:
            raise UnsupportedAlgorithm(text, f"`{digest.algorithm}` cannot be verified")
        return digest

    @classmethod
    def read(cls, text: str) -> Self:
        """Parse `algorithm:encoded` with any algorithm, or raise `InvalidDigest`."""
        algorithm, colon, digits = text.partition(":")
        if not colon:
            raise InvalidDigest(text, "it has no `algorithm:` prefix")
        return cls(algorithm, digits)

    @property
    def is_verifiable(self) -> bool:
        """Whether content can be checked against this digest."""
        return self.algorithm in HEX_DIGITS

    def require_verifiable(self, what: str) -> None:
        """Raise `UnsupportedDocument` unless the digest of `what` can be verified."""
        if not self.is_verifiable:
            raise UnsupportedDocument(
                what,
                "digest",
                f"`{self.algorithm}` digests cannot be verified",
                "name another platform, or push the image again with a tool that writes sha256 "
                "digests",
            )

    @classmethod
    def of(cls, content: bytes, algorithm: str = "sha256") -> Self:
        """Compute the digest of bytes."""
        return cls(algorithm, _hash(algorithm, content).hexdigest())

    def __str__(self) -> str:
        return f"{self.algorithm}:{self.hex}"


def _hash(algorithm: str, content: bytes = b"") -> _Hash:
    import hashlib  # noqa: PLC0415 - loads OpenSSL, 3 ms

    return hashlib.new(algorithm, content)


#: Characters of a tag. Source: distribution-spec, "Referrers Tag Schema".
_TAG_ALGORITHM, _TAG_ENCODED = 32, 64
_NO_TAG = pattern(r"[^A-Za-z0-9_.-]")


def fallback_tag(digest: Digest) -> str:
    """Return the tag with the referrers of a digest, for registries without the API."""
    parts = (digest.algorithm[:_TAG_ALGORITHM], digest.hex[:_TAG_ENCODED])
    return "-".join(_NO_TAG.sub("-", part) for part in parts)


class Verifier:
    """Verify a stream of bytes against a digest and a size, chunk by chunk.

    The first byte past `size` is refused at once, so that an endless body cannot fill a disk.

    Raises:
        UnsupportedDocument: the algorithm of `digest` is unsupported.
    """

    def __init__(self, digest: Digest, size: int, what: str = "the content") -> None:
        self._digest = digest
        self._size = size
        self._what = what
        digest.require_verifiable(what)
        self._hash = _hash(digest.algorithm)
        self.count = 0

    def update(self, chunk: bytes) -> None:
        """Add the next bytes; raise `SizeMismatch` for more than `size`."""
        self.count += len(chunk)
        if self.count > self._size:
            raise SizeMismatch(self._what, self._size, self.count)
        self._hash.update(chunk)

    def finish(self) -> None:
        """Check size and digest after the last chunk; raise `SizeMismatch` or `DigestMismatch`."""
        if self.count != self._size:
            raise SizeMismatch(self._what, self._size, self.count)
        actual = f"{self._digest.algorithm}:{self._hash.hexdigest()}"
        if actual != str(self._digest):
            raise DigestMismatch(self._what, str(self._digest), actual)


def verify(content: bytes, digest: Digest, size: int | None, what: str) -> None:
    """Verify bytes as `Verifier` does, the size only if it is not None."""
    digest.require_verifiable(what)
    if size is not None and len(content) != size:
        raise SizeMismatch(what, size, len(content))
    actual = Digest.of(content, digest.algorithm)
    if actual != digest:
        raise DigestMismatch(what, str(digest), str(actual))
