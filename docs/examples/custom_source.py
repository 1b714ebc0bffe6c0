"""Read images from a place that `resolver` does not know: an OCI layout in a zip file.

Usage: `python custom_source.py zip:app.zip`
"""

from __future__ import annotations

import json
import sys
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO

import resolver

MAX_DOCUMENT = 4 << 20


class ZipSource:
    """The first image of an OCI layout in a zip file; implements `resolver.Source`."""

    def __init__(self, path: str) -> None:
        self._archive = zipfile.ZipFile(path)
        entry = json.loads(self._archive.read("index.json"))["manifests"][0]
        digest = resolver.Digest.parse(entry["digest"])
        self._root = resolver.Descriptor(entry["mediaType"], digest, entry["size"])

    def resolve(self, name: str) -> resolver.Descriptor:
        """Return the descriptor of the image; the name is empty, or a digest."""
        del name
        return self._root

    def document(self, name: str) -> resolver.Document:
        """Return the document of the image."""
        root = self.resolve(name)
        return resolver.Document(root, self.read(root))

    def tags(self) -> Iterator[str]:
        """List no tags."""
        return iter(())

    def warnings(self) -> tuple[str, ...]:
        """Return no warnings."""
        return ()

    def has(self, descriptor: resolver.Descriptor) -> bool:
        """Return whether the archive has a blob."""
        return _member(descriptor) in self._archive.namelist()

    @contextmanager
    def open(self, descriptor: resolver.Descriptor) -> Iterator[Iterator[bytes]]:
        """Stream a blob."""
        with self._opened(descriptor) as file:
            yield iter(lambda: file.read(64 << 10), b"")

    def read(self, descriptor: resolver.Descriptor) -> bytes:
        """Read a document and verify it."""
        with self._opened(descriptor) as file:
            body = file.read(MAX_DOCUMENT + 1)
        if resolver.Digest.of(body, descriptor.digest.algorithm) != descriptor.digest:
            raise resolver.Untrusted(f"the content of `{descriptor.digest}` has another digest")
        return body

    def _opened(self, descriptor: resolver.Descriptor) -> IO[bytes]:
        try:
            return self._archive.open(_member(descriptor))
        except KeyError as error:
            raise resolver.NotFound(f"`{descriptor.digest}` is not in the archive") from error


def _member(descriptor: resolver.Descriptor) -> str:
    return f"blobs/{descriptor.digest.algorithm}/{descriptor.digest.hex}"


def main(reference: str) -> int:
    """List the platforms of an image in a zip file."""
    with resolver.Session(sources={"zip": ZipSource}) as session:
        for offer in session.platforms(reference).offers:
            print(offer.platform, offer.size)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
