"""A source in memory that counts reads, and trees of documents for it."""

from __future__ import annotations

import json
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from resolver.core.oci.content import Document
from resolver.core.oci.descriptor import OCI_CONFIG, OCI_INDEX, OCI_MANIFEST, Descriptor
from resolver.core.oci.digest import Digest
from resolver.errors import ManifestNotFound
from resolver.verbs.documents import DocumentReader, RootDocument, read_local_root

if TYPE_CHECKING:
    from collections.abc import Iterator


@dataclass
class MemoryPlace:
    """Implements `Source` over dictionaries."""

    names: dict[str, Document] = field(default_factory=dict)
    bodies: dict[Digest, bytes] = field(default_factory=dict)
    reads: list[Digest] = field(default_factory=list)

    def has(self, descriptor: Descriptor) -> bool:
        return descriptor.digest in self.bodies

    @contextmanager
    def open(self, descriptor: Descriptor) -> Iterator[Iterator[bytes]]:
        yield iter([self.read(descriptor)])

    def read(self, descriptor: Descriptor) -> bytes:
        self.reads.append(descriptor.digest)
        return self.bodies[descriptor.digest]

    def resolve(self, name: str) -> Descriptor:
        return self.document(name).descriptor

    def document(self, name: str) -> Document:
        if name not in self.names:
            raise ManifestNotFound(name, "memory")
        return self.names[name]

    def tags(self) -> Iterator[str]:
        yield from self.names

    def warnings(self) -> tuple[str, ...]:
        return ()

    def add(self, media_type: str, document: dict[str, Any]) -> dict[str, Any]:
        """Add a JSON document; return its descriptor's fields."""
        body = json.dumps(document).encode()
        digest = Digest.of(body)
        self.bodies[digest] = body
        return {"mediaType": media_type, "digest": str(digest), "size": len(body)}

    def plant(self, node: dict[str, Any], salt: str = "0") -> dict[str, Any]:
        """Add a tree in the form of the vectors and return its descriptor."""
        message = ("platform", "annotations", "artifactType")
        extra: dict[str, Any] = {key: node[key] for key in message if key in node}
        if "manifests" in node:
            kind = node.get("mediaType", OCI_INDEX)
            children = [
                self.plant(child, f"{salt}.{number}")
                for number, child in enumerate(node["manifests"])
            ]
            document = {"schemaVersion": 2, "mediaType": kind, "manifests": children}
            return {**self.add(kind, document), **extra}
        kind = node.get("mediaType", OCI_MANIFEST)
        platform = node.get("config_platform", node.get("platform", {}))
        config_kind = node.get("config_media_type", OCI_CONFIG)
        config = {**platform, "rootfs": {"type": "layers", "diff_ids": []}, "author": salt}
        document = {
            "schemaVersion": 2,
            "mediaType": kind,
            "config": self.add(config_kind, config),
            "layers": [],
            "annotations": {"salt": salt},
        }
        return {**self.add(kind, document), **extra}

    def publish(self, name: str, root: dict[str, Any]) -> tuple[DocumentReader, RootDocument]:
        """Name a planted root and return a reader and the root document."""
        digest = Digest.parse(root["digest"])
        body = self.bodies[digest]
        self.names[name] = Document(Descriptor(root["mediaType"], digest, len(body)), body)
        reader = DocumentReader(lambda: self, None, "memory")
        return reader, read_local_root(reader, name, name)
