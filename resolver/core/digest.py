"""Digests: the names that content gives itself."""

from __future__ import annotations

import hashlib
import re
from typing import Self

from resolver.errors import DigestMismatch, InvalidDigest, SizeMismatch, UnsupportedAlgorithm
from resolver.values import dataclass

#: Hex digits per algorithm. Source: OCI image-spec v1.1.1, descriptor.md, "Registered algorithms".
HEX_DIGITS = {"sha256": 64, "sha512": 128}

_HEX = re.compile(r"[0-9a-f]+")
#: Any digest, known or not. Source: OCI image-spec v1.1.1, descriptor.md, "Digests".
_GRAMMAR = re.compile(r"[a-z0-9]+(?:[+._-][a-z0-9]+)*:[a-zA-Z0-9=_-]+")


@dataclass(frozen=True, slots=True, order=True)
class Digest:
    """A valid content digest; there is no way to hold an invalid one.

    Raises:
        InvalidDigest: the text is no digest.
        UnsupportedAlgorithm: it is one, of an algorithm that cannot be checked here.

    """

    algorithm: str
    hex: str

    def __post_init__(self) -> None:
        """Refuse whatever a path or an URL must never be built from."""
        digits = HEX_DIGITS.get(self.algorithm)
        if digits is None:
            text = str(self)
            if len(text) <= 512 and _GRAMMAR.fullmatch(text):  # noqa: PLR2004 - a name, not a book
                raise UnsupportedAlgorithm(text, f"`{self.algorithm}` cannot be verified here")
            raise InvalidDigest(text, f"the algorithm must be one of {', '.join(HEX_DIGITS)}")
        if len(self.hex) != digits or not _HEX.fullmatch(self.hex):
            raise InvalidDigest(str(self), f"{self.algorithm} takes {digits} lower-case hex digits")

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read `algorithm:hex`, as registries and manifests write it."""
        algorithm, colon, digits = text.partition(":")
        if not colon:
            raise InvalidDigest(text, "it has no `algorithm:` prefix")
        return cls(algorithm, digits)

    @classmethod
    def of(cls, content: bytes, algorithm: str = "sha256") -> Self:
        """Compute the digest of bytes."""
        return cls(algorithm, hashlib.new(algorithm, content).hexdigest())

    def __str__(self) -> str:
        return f"{self.algorithm}:{self.hex}"


class Verifier:
    """Checks a stream of bytes against a digest and a size, chunk by chunk.

    The first byte past `size` is refused at once, so that an endless body cannot fill a disk.
    """

    def __init__(self, digest: Digest, size: int, what: str = "the content") -> None:
        self._digest = digest
        self._size = size
        self._what = what
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

    """
    if size is not None and len(content) != size:
        raise SizeMismatch(what, size, len(content))
    actual = Digest.of(content, digest.algorithm)
    if actual != digest:
        raise DigestMismatch(what, str(digest), str(actual))
