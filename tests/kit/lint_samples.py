"""For each lint rule: an image that it must report, and a similar one that it must not.

A new rule needs a row here; `test_rules.py` fails until it has one.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from random import Random
from typing import TYPE_CHECKING

from resolver.core.oci.descriptor import OCI_MANIFEST, SCHEMA1_SIGNED
from resolver.core.oci.digest import Digest
from resolver.demo.builders import describe, descriptor_fields
from tests.kit.attestations import manifest, refer
from tests.kit.executables import CODE, PROGBITS, elf, isa_needed, linked, pe
from tests.kit.images import (
    Image,
    build_image,
    build_index,
    build_layer,
    entry,
    from_dict,
    listed_as,
    multi_platform,
    raw_document,
)
from tests.kit.messages import Reply

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tests.kit.registry import FakeRegistry

AMD64, ARM64, ARM7 = "linux/amd64", "linux/arm64/v8", "linux/arm/v7"
WINDOWS = "windows/amd64:10.0.20348.2700"

_GLIBC, _MUSL = "/lib64/ld-linux-x86-64.so.2", "/lib/ld-musl-x86_64.so.1"
#: `ldadd` between instructions that do nothing. Source: Arm ARM, "A64".
_LSE = {".text": (PROGBITS, CODE, bytes.fromhex("1f2003d5" * 8 + "000020b8" + "1f2003d5" * 8))}

#: Puts an image into a registry, in the repository `app`; gives what follows its name.
Prepare = Callable[["FakeRegistry"], str]


@dataclass(frozen=True)
class Samples:
    """Samples that a rule reports, and samples that it does not."""

    bad: Prepare
    good: Prepare


def served(image: Image) -> Prepare:
    """Serve an image as `app:1`."""

    def prepare(registry: FakeRegistry) -> str:
        registry.serve("app", "1", image)
        return "app:1"

    return prepare


def index(*images: Image, extra: list[Mapping[str, object]] | None = None) -> Prepare:
    """Serve an index of these."""
    return served(build_index(images, extra=extra or []))


def changed(image: Image, **fields: object) -> Prepare:
    """Serve an index whose only entry differs from its image; None omits a field."""
    written = {**entry(image), **fields}
    listing = {name: value for name, value in written.items() if value is not None}
    document = {
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.index.v1+json",
        "manifests": [listing],
    }
    return served(from_dict(document, parts=[image]))


def answered(image: Image, path: str, reply: Reply) -> Prepare:
    """Serve an index of one image, with another response for one of its documents."""

    def prepare(registry: FakeRegistry) -> str:
        registry.on("GET", f"/v2/app/{path}", reply)
        return index(image)(registry)

    return prepare


def config_of(image: Image) -> str:
    """Return the digest of an image's config."""
    return str(json.loads(image.body)["config"]["digest"])


def with_config(image: Image, **fields: object) -> Image:
    """Return a similar image with another config; None removes a field."""
    body = {**json.loads(image.blobs[config_of(image)]), **fields}
    text = json.dumps({name: value for name, value in body.items() if value is not None}).encode()
    described = descriptor_fields(describe("application/vnd.oci.image.config.v1+json", text))
    blobs = [text, *image.blobs.values()]
    made = from_dict({**json.loads(image.body), "config": described}, blobs=blobs)
    return replace(made, platform=image.platform)


def pinned(image: Image, digest: str, *, then: Image | None = None) -> Prepare:
    """Serve an image and resolve it by digest; `then` is the image the tag moved to."""

    def prepare(registry: FakeRegistry) -> str:
        registry.serve("app", "1", image)
        if then is not None:
            registry.serve("app", "1", then)
        return f"app:1@{digest}"

    return prepare


def attested(about: str) -> Prepare:
    """Serve an index with an attestation about a digest."""
    image = build_image(AMD64)
    statement = build_index([image], attestations=True).children[-1]
    annotations = {"vnd.docker.reference.type": "attestation-manifest"}
    if about:
        annotations["vnd.docker.reference.digest"] = about
    extra = entry(statement, annotations=annotations)
    made = build_index([image], extra=[extra])
    documents = {**made.documents, **statement.documents}
    blobs = {**made.blobs, **statement.blobs}
    return served(replace(made, documents=documents, blobs=blobs))


def in_order(*platforms: str) -> Prepare:
    """Serve an index of small images."""
    return index(*(build_image(platform) for platform in platforms))


def starting(platform: str, files: Mapping[str, bytes], *words: str, **fields: object) -> Image:
    """Make an image of one layer that starts something."""
    config = {"config": {"Entrypoint": list(words)}} if words else {"config": {}}
    return build_image(platform, [build_layer(files)], config={**config, **fields})


def programs(platform: str, files: Mapping[str, bytes], *words: str) -> Prepare:
    """Serve an index of one such image."""
    return index(starting(platform, files, *words))


def without_layer(image: Image) -> Prepare:
    """Serve an index of an image whose first layer is missing."""
    layer = json.loads(image.body)["layers"][0]["digest"]
    return answered(image, f"blobs/{layer}", Reply(404))


def large(files: Mapping[str, bytes], size: int = 1 << 20) -> Mapping[str, bytes]:
    """Put a large file before others."""
    return {"a": Random(1).randbytes(size), **files}


_SAME = [build_layer({"app": b"the same"})]
_PLAIN = {"config": {"Labels": {"kind": "data"}}}
_MULTI = multi_platform(AMD64, ARM64)
_OTHER = multi_platform(AMD64, ARM7)
_SCHEMA1 = raw_document(
    b'{"schemaVersion":1,"name":"app","tag":"1","fsLayers":[],"history":[]}', SCHEMA1_SIGNED
)
_ONE = build_image(ARM64)
_NOWHERE = str(Digest.of(b"nowhere"))


def with_sbom(*architectures: str) -> Prepare:
    """Attach an SBOM of packages for some architectures to an index of two platforms."""
    image = multi_platform(AMD64, ARM64)
    names = [f"pkg:deb/debian/p{number}@1?arch={each}" for number, each in enumerate(architectures)]
    body = json.dumps({"packages": names}).encode()
    kind = "application/spdx+json"

    def prepare(registry: FakeRegistry) -> str:
        refer(registry, image, manifest((kind, body, {}), subject=image, kind=kind))
        return served(image)(registry)

    return prepare


SAMPLES: dict[str, Samples] = {
    "contradictory-config": Samples(
        index(build_image(AMD64), listed_as(build_image(AMD64, _SAME), ARM64)),
        index(build_image(AMD64), listed_as(build_image("linux/arm64"), ARM64)),
    ),
    "identical-layers": Samples(
        index(build_image(AMD64, _SAME), build_image(ARM64, _SAME)),
        index(build_image("linux/arm/v6", _SAME), build_image(ARM7, _SAME)),
    ),
    "wrong-machine": Samples(
        programs(ARM64, {"app": elf("amd64")}, "/app"),
        programs(AMD64, {"app": elf("386")}, "/app"),
    ),
    "foreign-programs": Samples(
        programs(ARM64, {"app": elf("arm64"), "bin/tool": elf("amd64")}, "/app"),
        programs(AMD64, {"app": elf("amd64"), "setup.exe": pe("arm64")}, "/app"),
    ),
    "fallback-machine": Samples(
        programs(ARM64, {"app": elf("arm")}, "/app"), programs(ARM7, {"app": elf("arm")}, "/app")
    ),
    "missing-entrypoint": Samples(
        programs(ARM64, {"bin/app": elf("arm64")}, "/app"),
        programs(ARM64, {"bin/app": elf("arm64")}, "app"),
    ),
    "undecided-entrypoint": Samples(
        programs(ARM64, large({"app": elf("arm64")}, 1 << 20), "/app"),
        programs(ARM64, large({"app": elf("arm64")}, 1 << 16), "/app"),
    ),
    "needs-newer-cpu": Samples(
        programs(AMD64, {"app": linked("amd64", notes=isa_needed(5))}, "/app"),
        programs("linux/amd64/v3", {"app": linked("amd64", notes=isa_needed(5))}, "/app"),
    ),
    "missing-interpreter": Samples(
        programs(AMD64, {"app": linked("amd64", interpreter=_GLIBC)}, "/app"),
        programs(
            AMD64, {"app": linked("amd64", interpreter=_GLIBC), _GLIBC[1:]: elf("amd64")}, "/app"
        ),
    ),
    "foreign-libc": Samples(
        programs(
            AMD64, {"app": linked("amd64", interpreter=_GLIBC), _MUSL[1:]: elf("amd64")}, "/app"
        ),
        programs(
            AMD64, {"app": linked("amd64", interpreter=_MUSL), _MUSL[1:]: elf("amd64")}, "/app"
        ),
    ),
    "needs-larger-pages": Samples(
        programs(ARM64, {"app": linked("arm64", page=4_096)}, "/app"),
        programs(AMD64, {"app": linked("amd64", page=4_096)}, "/app"),
    ),
    "possible-newer-cpu": Samples(
        programs(ARM64, {"app": linked("arm64", sections=_LSE)}, "/app"),
        programs("linux/arm64/v8.1", {"app": linked("arm64", sections=_LSE)}, "/app"),
    ),
    "unreadable-layer": Samples(
        without_layer(starting(ARM64, {"app": elf("arm64")}, "/app")),
        programs(ARM64, {"app": elf("arm64")}, "/app"),
    ),
    "config-without-platform": Samples(
        index(with_config(_ONE, architecture=None)),
        index(with_config(_ONE, os=None, architecture=None, variant=None, rootfs=None)),
    ),
    "pinned-to-one-platform": Samples(
        pinned(_MULTI, _MULTI.children[0].digest), pinned(_MULTI, _MULTI.digest)
    ),
    "tag-moved": Samples(
        pinned(_MULTI, _MULTI.digest, then=_OTHER), pinned(_MULTI, _MULTI.children[1].digest)
    ),
    "no-image": Samples(
        served(build_index([])), index(build_image(ARM64), extra=[entry(_ONE, platform="")])
    ),
    "entry-without-platform": Samples(
        index(listed_as(_ONE, "")), changed(_ONE, platform=None, artifactType="application/x")
    ),
    "duplicate-platform": Samples(
        index(build_image(ARM64), listed_as(build_image(ARM64, _SAME), "linux/arm64")),
        in_order(AMD64, "linux/amd64/v2", WINDOWS, "windows/amd64:10.0.26100.1742"),
    ),
    "missing-variant": Samples(in_order("linux/arm"), in_order(ARM7, "linux/arm64")),
    "missing-os-version": Samples(in_order("windows/amd64"), in_order(WINDOWS, AMD64)),
    "unknown-os": Samples(in_order("linus/amd64"), in_order("wasi/wasm", "darwin/arm64")),
    "unknown-architecture": Samples(in_order("linux/x64"), in_order("linux/x86_64")),
    "unknown-image": Samples(
        in_order(AMD64, "unknown/unknown"),
        served(build_index([build_image(AMD64)], attestations=True)),
    ),
    "odd-spelling": Samples(
        in_order("linux/aarch64"), in_order(AMD64, ARM64, "linux/arm64", "linux/arm", WINDOWS)
    ),
    "dangling-attestation": Samples(
        attested(_NOWHERE), served(build_index([build_image(AMD64)], attestations=True))
    ),
    "one-platform-sbom": Samples(with_sbom("amd64", "all"), with_sbom("amd64", "aarch64")),
    "baseline-not-first": Samples(
        in_order("linux/amd64/v3", AMD64), in_order(AMD64, "linux/amd64/v3", ARM7, "linux/arm/v6")
    ),
    "missing-manifest": Samples(
        answered(_ONE, f"manifests/{_ONE.digest}", Reply(404)), index(_ONE)
    ),
    "missing-config": Samples(answered(_ONE, f"blobs/{config_of(_ONE)}", Reply(404)), index(_ONE)),
    "wrong-size": Samples(changed(_ONE, size=_ONE.size + 1), changed(_ONE, size=_ONE.size)),
    "wrong-digest": Samples(
        answered(
            _ONE,
            f"manifests/{_ONE.digest}",
            Reply(200, {"Content-Type": OCI_MANIFEST}, b"x" * _ONE.size),
        ),
        index(_ONE),
    ),
    "wrong-type": Samples(
        changed(_ONE, mediaType="application/vnd.docker.distribution.manifest.v2+json"),
        index(build_image(ARM64, docker=True)),
    ),
    "unreadable-document": Samples(
        index(with_config(_ONE, history="none")), index(with_config(_ONE, history=[]))
    ),
    "unknown-digest": Samples(
        index(_ONE, extra=[{**entry(_OTHER), "digest": "blake3:" + "a" * 64}]),
        changed(_ONE, digest="sha512:" + hashlib.sha512(_ONE.body).hexdigest()),
    ),
    "schema-1": Samples(served(_SCHEMA1), served(_ONE)),
    "mixed-media-types": Samples(
        index(build_image(ARM64, docker=True)),
        served(build_index([build_image(ARM64, docker=True)], docker=True)),
    ),
}
