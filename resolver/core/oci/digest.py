"""Digests: the names that content gives itself."""

from __future__ import annotations

import hashlib
import re
from typing import Self

from resolver.errors import (
    DigestMismatch,
    InvalidDigest,
    SizeMismatch,
    UnsupportedAlgorithm,
    UnsupportedDocument,
)
from resolver.values import dataclass

#: Hex digits per algorithm. Source: OCI image-spec v1.1.1, descriptor.md, "Registered algorithms".
HEX_DIGITS = {"sha256": 64, "sha512": 128}

_HEX = re.compile(r"[0-9a-f]+")
#: Any digest, known or not. Source: OCI image-spec v1.1.1, descriptor.md, "Digests".
_GRAMMAR = re.compile(r"[a-z0-9]+(?:[+._-][a-z0-9]+)*:[a-zA-Z0-9=_-]+")
#: Characters of a digest whose algorithm is not known; a name, not a book.
_MAX_UNKNOWN = 200


@dataclass(frozen=True, slots=True, order=True)
class Digest:
    """A well-formed content digest; there is no way to hold a malformed one.

    The algorithm may be one that cannot be verified here (`is_verifiable`): documents may name
    such content (OCI image-spec v1.1.1, descriptor.md: implementations SHOULD allow unrecognised
    algorithms to pass), and `require_verifiable` refuses it where the content is needed.

    Raises:
        InvalidDigest: the text is no digest.

    """

    algorithm: str
    hex: str

    def __post_init__(self) -> None:
        """Refuse whatever a path or an URL must never be built from."""
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
        """Read `algorithm:hex` of an algorithm that can be verified.

        Raises:
            InvalidDigest: the text is no digest.
            UnsupportedAlgorithm: it is one, of an algorithm that cannot be verified here.

        """
        digest = cls.read(text)
        if not digest.is_verifiable:
            raise UnsupportedAlgorithm(text, f"`{digest.algorithm}` cannot be verified here")
        return digest

    @classmethod
    def read(cls, text: str) -> Self:
        """Read `algorithm:encoded` of any algorithm, as documents may write it.

        Raises:
            InvalidDigest: the text is no digest.

        """
        algorithm, colon, digits = text.partition(":")
        if not colon:
            raise InvalidDigest(text, "it has no `algorithm:` prefix")
        return cls(algorithm, digits)

    @property
    def is_verifiable(self) -> bool:
        """Whether content can be checked against this digest."""
        return self.algorithm in HEX_DIGITS

    def require_verifiable(self, what: str) -> None:
        """Refuse to use content that cannot be checked.

        Args:
            what: the content, for the message; it should name the digest.

        Raises:
            UnsupportedDocument: the algorithm is not known here.

        """
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
        return cls(algorithm, hashlib.new(algorithm, content).hexdigest())

    def __str__(self) -> str:
        return f"{self.algorithm}:{self.hex}"


class Verifier:
    """Checks a stream of bytes against a digest and a size, chunk by chunk.

    The first byte past `size` is refused at once, so that an endless body cannot fill a disk.

    Raises:
        UnsupportedDocument: the algorithm of `digest` is not known here.

    """

    def __init__(self, digest: Digest, size: int, what: str = "the content") -> None:
        self._digest = digest
        self._size = size
        self._what = what
        digest.require_verifiable(what)
        self._hash = hashlib.new(digest.algorithm)
        self.count = 0

    def update(self, chunk: bytes) -> None:
        """Take in the next bytes.

        Raises:
            SizeMismatch: this is more than `size` bytes.

        """
        self.count += len(chunk)
        if self.count > self._size:
            raise SizeMismatch(self._what, self._size, self.count)
        self._hash.update(chunk)

    def finish(self) -> None:
        """Say that this was all.

        Raises:
            SizeMismatch: fewer bytes than `size` came.
            DigestMismatch: the bytes have another hash.

        """
        if self.count != self._size:
            raise SizeMismatch(self._what, self._size, self.count)
        actual = f"{self._digest.algorithm}:{self._hash.hexdigest()}"
        if actual != str(self._digest):
            raise DigestMismatch(self._what, str(self._digest), actual)


def verify(content: bytes, digest: Digest, size: int | None, what: str) -> None:
    """Check bytes that are already here; `size` in bytes, or None when nobody stated it.

    Raises:
        SizeMismatch: the length is not `size`.
        DigestMismatch: the hash is not `digest`.
        UnsupportedDocument: the algorithm of `digest` is not known here.

    """
    digest.require_verifiable(what)
    if size is not None and len(content) != size:
        raise SizeMismatch(what, size, len(content))
    actual = Digest.of(content, digest.algorithm)
    if actual != digest:
        raise DigestMismatch(what, str(digest), str(actual))
