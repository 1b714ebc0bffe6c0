"""`-p all`: every entry of an index is pulled, listed, exported and served."""

from __future__ import annotations

import json
import tempfile
import urllib.error
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from resolver.core.oci.descriptor import OCI_EMPTY, OCI_INDEX, OCI_MANIFEST
from resolver.core.oci.digest import Digest
from resolver.core.results.store import Retention
from resolver.errors import NotHeld, ResolverError, UnsupportedDocument
from resolver.session import Session
from tests.kit.exports import check_layout, index_of
from tests.kit.images import (
    Image,
    build_image,
    build_index,
    build_layer,
    entry,
    from_dict,
    listed_as,
    multi_platform,
)
from tests.kit.pulls import Counter

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from resolver.verbs.serve.server import Server
    from tests.kit.registry import FakeRegistry

AMD, ARM = "linux/amd64", "linux/arm64"
SOCI = "application/vnd.amazon.soci.index.v2+json"
SBOM = "application/spdx+json"
AT_ONCE = Retention(grace=0)


@pytest.fixture
def session(tmp_path: Path) -> Iterator[Session]:
    with Session(tmp_path / "store", environment={}) as opened:
        yield opened


def artifact(name: str, kind: str = SOCI, *, subject: Image | None = None) -> Image:
    """Make a manifest that is not an image."""
    body = f"what {name} says".encode()
    layer = {"mediaType": kind, "digest": str(Digest.of(body)), "size": len(body)}
    empty = {"mediaType": OCI_EMPTY, "digest": str(Digest.of(b"{}")), "size": 2}
    document: dict[str, object] = {
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "artifactType": kind,
        "config": empty,
        "layers": [layer],
    }
    if subject is not None:
        output = {"mediaType": subject.media_type, "digest": subject.digest, "size": subject.size}
        document["subject"] = output
    return from_dict(document, blobs=[body, b"{}"])


def index_of_entries(entries: Sequence[dict[str, object]], parts: Sequence[Image]) -> Image:
    return from_dict(
        {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": list(entries)},
        OCI_INDEX,
        parts=parts,
    )


def typed(image: Image, kind: str) -> dict[str, object]:
    return {**entry(image), "artifactType": kind}


def buildx() -> Image:
    """Make what buildx pushes: two platforms, and an attestation of each."""
    return multi_platform(AMD, ARM, attestations=True)


def with_artifacts() -> Image:
    """Add a SOCI index, and an SBOM that only its manifest identifies as not an image."""
    images = [build_image(AMD), build_image(ARM)]
    soci, sbom = artifact("soci"), artifact("sbom", SBOM)
    entries = [*(entry(each) for each in images), typed(soci, SOCI), entry(sbom, platform="")]
    return index_of_entries(entries, [*images, soci, sbom])


def twins() -> Image:
    """List one platform twice, as images with gzip and zstd layers do."""
    images = [build_image(AMD), build_image(AMD, [build_layer({"twin": b"1"})]), build_image(ARM)]
    return build_index(images)


def versions() -> Image:
    return multi_platform("freebsd/amd64:14.1", "freebsd/amd64:15.0", "darwin/arm64:macOS 14.4")


def nested() -> Image:
    return build_index([multi_platform(AMD, attestations=True), multi_platform(ARM)])


def unlisted_platforms() -> Image:
    return build_index([listed_as(build_image(AMD), ""), build_image(ARM)])


def opaque() -> Image:
    """List an image and content that is not a manifest."""
    image = build_image(AMD)
    body = b"a disk image"
    listed = {
        "mediaType": "application/x-disk",
        "digest": str(Digest.of(body)),
        "size": len(body),
        "platform": {"os": "linux", "architecture": "arm64"},
    }
    parts = [image, Image("", "", b"", blobs={str(Digest.of(body)): body})]
    return index_of_entries([entry(image), listed], parts)


def only_artifacts() -> Image:
    soci = artifact("alone")
    return index_of_entries([typed(soci, SOCI)], [soci])


SHAPES = {
    "buildx": buildx,
    "artifacts": with_artifacts,
    "twins": twins,
    "versions": versions,
    "nested": nested,
    "no platforms": unlisted_platforms,
    "opaque": opaque,
    "only artifacts": only_artifacts,
}


def served(registry: FakeRegistry, image: Image, tag: str = "1") -> str:
    registry.serve("team/app", tag, image)
    return f"{registry.host}/team/app:{tag}"


def everything(image: Image) -> set[str]:
    return {digest for digest in (*image.documents, *image.blobs) if digest}


@pytest.mark.parametrize("shape", SHAPES)
def test_pull_all_keeps_the_index_digest_in_export_and_serve(
    registry: FakeRegistry, session: Session, tmp_path: Path, shape: str
) -> None:
    image = SHAPES[shape]()
    name = served(registry, image)

    done = session.pull(name, "all")
    exported = session.export(name, str(tmp_path / "layout"), ["all"])

    assert done.left_out == ()
    assert exported.images[0].root.digest == image.descriptor.digest
    assert exported.images[0].left_out == ()
    assert check_layout(tmp_path / "layout") == everything(image)
    again = session.plan(name, "all")
    assert again.missing == ()
    assert {str(each.manifest.digest) for each in again.entries} | {image.digest} >= {
        digest for digest, (kind, _) in image.documents.items() if kind == OCI_MANIFEST
    }
    with session.serve() as server, Session(tmp_path / "other", environment={}) as other:
        copy = f"{server.address}/team/app:1"
        assert other.pull(copy, "all").left_out == ()
        (held,) = other.images()
        assert held.index.digest == image.descriptor.digest
    (row,) = session.images()
    assert len(row.platforms) == len(row.offered)
    assert not session.collect(AT_ONCE, dry_run=True).removed
    assert session.verify(full=True).is_sound


def test_pull_one_platform_includes_its_attestation_and_names_the_rest(
    registry: FakeRegistry, session: Session
) -> None:
    image = buildx()
    name = served(registry, image)
    (about,) = (one for one in image.children if one.attestation_of == image.child(ARM).digest)

    plan = session.plan(name, ARM)
    done = session.pull(plan)

    assert [str(one.manifest.digest) for one in plan.attached] == [about.digest]
    assert [(one.kind, str(one.platform)) for one in plan.left_out] == [
        ("image", AMD),
        ("attestation", "unknown/unknown"),
    ]
    assert done.left_out == plan.left_out
    blobs = {str(piece.descriptor.digest) for piece in plan.pieces}
    assert blobs >= set(about.blobs)
    assert plan.requests == sum(piece.role in {"layer", "config"} for piece in plan.pieces)
    (row,) = session.images()
    assert (row.platforms, row.offered) == ((ARM,), (AMD, ARM))
    assert [(one.kind, str(one.about)) for one in row.attached] == [
        ("attestation", image.child(ARM).digest)
    ]


def test_pull_without_attestations_costs_two_documents(
    registry: FakeRegistry, session: Session
) -> None:
    image = buildx()
    name = served(registry, image)
    counter = Counter(registry)

    session.pull(name, ARM, attestations=False)

    child = image.child(ARM)
    assert sorted(counter.lines()) == sorted(
        ["GET manifests/1", f"GET manifests/{child.digest}"]
        + [f"GET blobs/{digest}" for digest in child.blobs]
    )
    (row,) = session.images()
    assert row.attached == ()


def test_pull_all_without_attestations_skips_only_attestations(
    registry: FakeRegistry, session: Session, tmp_path: Path
) -> None:
    image = buildx()
    name = served(registry, image)

    done = session.pull(name, "all", attestations=False)

    assert [one.kind for one in done.left_out] == ["attestation", "attestation"]
    exported = session.export(name, str(tmp_path / "layout"), ["all"], attestations=False)
    assert [one.kind for one in exported.images[0].left_out] == ["attestation", "attestation"]
    with pytest.raises(NotHeld):
        session.export(name, str(tmp_path / "other"), ["all"])


def test_pull_succeeds_without_a_missing_attestation(
    registry: FakeRegistry, session: Session
) -> None:
    image = buildx()
    gone = {one.digest for one in image.children if one.attestation_of}
    kept = {digest: held for digest, held in image.documents.items() if digest not in gone}
    sparse = Image(image.digest, image.media_type, image.body, "", kept, image.blobs)
    name = served(registry, sparse)

    done = session.pull(name, ARM)

    assert [str(one.image.platform) for one in done.images] == [ARM]
    assert done.attached == ()
    with pytest.raises(ResolverError, match=next(iter(sorted(gone)))[7:19]) as caught:
        session.pull(name, "all")
    assert any(digest in str(caught.value) for digest in gone)


def test_pull_adds_and_rm_removes_a_platform_with_its_attestations(
    registry: FakeRegistry, session: Session
) -> None:
    image = buildx()
    name = served(registry, image)
    session.pull(name, ARM)
    session.pull(name, AMD)
    (row,) = session.images()
    assert (len(row.platforms), len(row.attached)) == (2, 2)

    removed = session.remove(name, ARM)

    (about,) = (one for one in image.children if one.attestation_of == image.child(ARM).digest)
    assert {about.digest, *about.blobs} <= {str(digest) for digest in removed.deleted}
    (row,) = session.images()
    assert row.platforms == (AMD,)
    assert [str(one.about) for one in row.attached] == [image.child(AMD).digest]
    assert session.verify(full=True).is_sound


def test_verify_finds_a_damaged_attestation_and_stops_counting_it(
    registry: FakeRegistry, session: Session
) -> None:
    image = buildx()
    name = served(registry, image)
    session.pull(name, "all")
    about = next(one for one in image.children if one.attestation_of)
    store = session._context.store.root
    statement = next(d for d, body in about.blobs.items() if b"in-toto.io/Statement" in body)
    (store / "blobs" / "sha256" / statement.removeprefix("sha256:")).unlink()

    assert [(one.name, one.problem) for one in session.verify().damaged] == [(statement, "missing")]
    (row,) = session.images()
    assert len(row.attached) == 1
    assert len(row.platforms) == len(row.offered) == 2


def test_duplicate_platform_without_a_layer_is_not_counted(
    registry: FakeRegistry, session: Session
) -> None:
    image = twins()
    name = served(registry, image)
    session.pull(name, "all")
    (row,) = session.images()
    assert row.platforms == row.offered == (AMD, AMD, ARM)
    second = image.children[1]
    config = json.loads(second.body)["config"]["digest"]
    layer = next(digest for digest in second.blobs if digest != config)
    (session._context.store.root / "blobs" / "sha256" / layer.removeprefix("sha256:")).unlink()

    (row,) = session.images()

    assert row.platforms == (AMD, ARM)
    assert row.offered == (AMD, AMD, ARM)


def test_serve_lists_local_platforms_and_the_original_index_by_digest(
    registry: FakeRegistry, session: Session, tmp_path: Path
) -> None:
    image = nested()
    name = served(registry, image)
    session.pull(name, ARM)
    warned: list[str] = []
    session._context.observe = lambda event: warned.append(str(getattr(event, "message", "")))

    with session.serve() as server, Session(tmp_path / "other", environment={}) as other:
        pulled = other.pull(f"{server.address}/team/app:1", "all")
        (row,) = other.images()
        pinned = other.resolve(f"{server.address}/team/app@{image.digest}", ARM)

    assert pulled.left_out == ()
    assert row.platforms == row.offered == (ARM,)
    assert row.index.digest != image.descriptor.digest
    assert pinned.index is not None
    assert pinned.index.digest == image.descriptor.digest
    (message,) = [text for text in warned if "is served as" in text]
    assert str(row.index.digest) in message


def test_pull_fetches_referrers_only_with_the_referrers_option(
    registry: FakeRegistry, session: Session, tmp_path: Path
) -> None:
    image = multi_platform(AMD, ARM)
    child = image.child(AMD)
    signature = artifact("signature", "application/vnd.dev.sigstore", subject=child)
    cosigned = artifact("cosigned", "application/vnd.dev.cosign")
    name = served(registry, image)
    registry.serve("team/app", None, signature)
    tag = child.digest.replace(":", "-")
    listed = {**entry(signature), "artifactType": "application/vnd.dev.sigstore"}
    registry.serve("team/app", tag, index_of_entries([listed], [signature]))
    registry.serve("team/app", f"{tag}.sig", cosigned)

    assert session.pull(name, AMD).attached == ()
    done = session.pull(name, AMD, referrers=True)

    found = {str(one.image.manifest.digest): one.image.tag for one in done.attached}
    assert found == {signature.digest: "", cosigned.digest: f"{tag}.sig"}
    assert not session.collect(AT_ONCE, dry_run=True).removed
    with session.serve() as server, Session(tmp_path / "other", environment={}) as other:
        there = other.pull(f"{server.address}/team/app:1", AMD, referrers=True)
        assert {str(one.image.manifest.digest) for one in there.attached} == set(found)
    session.export(name, str(tmp_path / "layout"))
    assert {str(one["digest"]) for one in index_of(tmp_path / "layout")} >= set(found)
    session.remove(name)
    assert session.collect(AT_ONCE, dry_run=True).kept == 0


def test_sbom_with_a_platform_is_not_exported_as_its_image(
    registry: FakeRegistry, session: Session, tmp_path: Path
) -> None:
    image, sbom = build_image(AMD), artifact("sbom", SBOM)
    index = index_of_entries([entry(sbom, platform=AMD), entry(image)], [sbom, image])
    name = served(registry, index)
    session.pull(name, "all")

    found = session.export(name, str(tmp_path / "layout"), [AMD])

    (leaving,) = found.images
    assert [str(each) for each in leaving.platforms] == [AMD]
    assert [(each.kind, str(each.descriptor.digest)) for each in leaving.left_out] == [
        ("artifact", sbom.digest)
    ]
    assert set(image.documents) <= check_layout(tmp_path / "layout")
    (row,) = session.images()
    assert (row.platforms, len(row.attached)) == ((AMD,), 1)


def unknown() -> tuple[Image, str]:
    """Return an index entry whose digest cannot be verified."""
    image = build_image(AMD)
    digest = "blake3:" + "ab" * 32
    listed = {
        "mediaType": OCI_MANIFEST,
        "digest": digest,
        "size": 7,
        "platform": {"os": "linux", "architecture": "arm64"},
    }
    return index_of_entries([entry(image), listed], [image]), digest


def test_unverifiable_entry_fails_only_operations_on_the_whole_index(
    registry: FakeRegistry, session: Session, tmp_path: Path
) -> None:
    image, digest = unknown()
    name = served(registry, image)

    done = session.pull(name, AMD)
    for verb in (session.plan, session.pull):
        with pytest.raises(UnsupportedDocument, match=digest):
            verb(name, "all")
    with pytest.raises(UnsupportedDocument, match=digest):
        session.export(name, str(tmp_path / "whole"), ["all"])
    part = session.export(name, str(tmp_path / "part"))

    assert [str(one.descriptor.digest) for one in done.left_out] == [digest]
    assert [str(one.descriptor.digest) for one in part.images[0].left_out] == [digest]
    assert any(digest in warning.message for warning in part.warnings)
    with session.serve() as server, Session(tmp_path / "other", environment={}) as other:
        assert other.pull(f"{server.address}/team/app:1", "all").left_out == ()
    (row,) = session.images()
    assert (row.platforms, row.offered) == ((AMD,), (AMD, ARM))


def test_rm_removes_an_index_of_artifacts_by_id(registry: FakeRegistry, session: Session) -> None:
    image = only_artifacts()
    name = served(registry, image)
    session.pull(name, "all")

    removed = session.remove(image.digest[7:19])

    assert removed.untagged == (name,)
    assert session.images() == ()
    assert {str(digest) for digest in removed.deleted} == everything(image)


def test_mirror_keeps_attestations(
    registry: FakeRegistry, session: Session, tmp_path: Path
) -> None:
    image = buildx()
    served(registry, image)
    with (
        session.serve_mirror(upstream=registry.host) as server,
        Session(tmp_path / "other", environment={}) as other,
    ):
        other.pull(f"{server.address}/team/app:1", "all")

    (row,) = session.images()
    assert (len(row.platforms), len(row.attached)) == (2, 2)
    assert not session.collect(AT_ONCE, dry_run=True).missing
    exported = session.export(f"{registry.host}/team/app:1", str(tmp_path / "layout"), ["all"])
    assert str(exported.images[0].root.digest) == image.digest


def listed_and_missing(server: Server, reference: str = "1") -> tuple[list[str], list[str]]:
    """Request an index and its content; return the digests served and those missing."""
    answer = fetch(server, f"/v2/team/app/manifests/{reference}")
    entries = json.loads(answer)["manifests"] if answer is not None else []
    digests = [str(one["digest"]) for one in entries]
    return digests, [
        one for one in digests if fetch(server, f"/v2/team/app/manifests/{one}") is None
    ]


def fetch(server: Server, path: str) -> bytes | None:
    """Request a document; None if the server does not have it."""
    accepted = {"Accept": f"{OCI_INDEX}, {OCI_MANIFEST}"}
    request = urllib.request.Request(f"http://{server.address}{path}", headers=accepted)
    try:
        with urllib.request.urlopen(request) as response:
            body: bytes = response.read()
    except urllib.error.HTTPError:
        return None
    return body


@pytest.mark.parametrize("make", [buildx, with_artifacts])
def test_mirror_lists_fetchable_platforms_and_store_lists_held_ones(
    registry: FakeRegistry, session: Session, make: Callable[[], Image]
) -> None:
    image = make()
    name = served(registry, image)
    session.pull(name, ARM, attestations=False)

    with session.serve() as server:
        digests, missing = listed_and_missing(server)
        assert len(digests) == 1
        assert missing == []
    with session.serve_mirror(upstream=registry.host) as server:
        digests, missing = listed_and_missing(server)
        assert len(digests) > 1
        assert missing == []
        assert fetch(server, f"/v2/team/app/manifests/{image.digest}") == image.body


def test_offline_mirror_lists_held_platforms(
    registry: FakeRegistry, session: Session, tmp_path: Path
) -> None:
    image = buildx()
    session.pull(served(registry, image), ARM, attestations=False)

    with (
        Session(tmp_path / "store", environment={}, offline=True) as alone,
        alone.serve_mirror(upstream=registry.host) as server,
    ):
        digests, missing = listed_and_missing(server)
        # A pinned digest is answered with its own bytes, as the store answers it.
        pinned = fetch(server, f"/v2/team/app/manifests/{image.digest}")

    assert len(digests) == 1
    assert missing == []
    assert pinned == image.body


def test_pull_platforms_one_by_one_adds_up_to_all_of_them(
    registry: FakeRegistry, session: Session
) -> None:
    name = served(registry, multi_platform(AMD, ARM, "linux/s390x"))
    answers = [session.resolve(name, platform) for platform in (AMD, ARM)]

    plan = session.plan(answers)

    assert [str(one.platform) for one in plan.images] == [AMD, ARM]
    assert [str(one.platform) for one in plan.left_out] == ["linux/s390x"]
    assert len(session.plan(answers, "all").images) == 3


KINDS = ["image", "twin", "version", "attestation", "orphan", "artifact", "unnamed", "opaque"]


def random_index(kinds: Sequence[str], inner: Sequence[str], seed: int) -> Image:
    """Make an index of these entries, the second list in an index inside it."""
    entries: list[dict[str, object]] = []
    parts: list[Image] = []
    if inner or seed % 3 == 0:
        below = random_index(inner, (), seed + 1) if inner else index_of_entries([], [])
        entries.append(entry(below, platform=""))
        parts.append(below)
    for number, kind in enumerate(kinds):
        layer = build_layer({"own": f"{seed} {number}".encode()})
        platform = {"twin": AMD, "version": f"freebsd/amd64:{number}"}.get(
            kind, f"linux/arm/v{5 + number % 4}"
        )
        made = build_image(platform, [layer])
        match kind:
            case "attestation" | "orphan":
                about = parts[-1].digest if parts and kind != "orphan" else str(Digest.of(b"none"))
                notes = {
                    "vnd.docker.reference.type": "attestation-manifest",
                    "vnd.docker.reference.digest": about,
                }
                entries.append(entry(made, platform="unknown/unknown", annotations=notes))
            case "artifact":
                made = artifact(f"{seed} {number}")
                entries.append(typed(made, SOCI) if number % 2 else entry(made))
            case "unnamed":
                entries.append(entry(made, platform=""))
            case "opaque":
                body = f"opaque {seed} {number}".encode()
                digest = str(Digest.of(body))
                made = Image("", "", b"", blobs={digest: body})
                output = {"mediaType": "application/x-disk", "digest": digest, "size": len(body)}
                entries.append(dict(output))
            case _:
                entries.append(entry(made))
        parts.append(made)
    return index_of_entries(entries, parts)


@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    st.lists(st.sampled_from(KINDS), min_size=1, max_size=5),
    st.lists(st.sampled_from(KINDS), max_size=3),
    st.integers(0, 1000),
)
def test_every_fully_pulled_index_exports_with_its_digest(
    registry: FakeRegistry, kinds: list[str], inner: list[str], seed: int
) -> None:
    image = random_index(kinds, inner, seed)
    name = served(registry, image, f"t{image.digest[7:19]}")
    with tempfile.TemporaryDirectory() as folder, Session(folder, environment={}) as session:
        session.pull(name, "all")
        layout = Path(folder) / "layout"

        exported = session.export(name, str(layout))

        assert exported.images[0].root.digest == image.descriptor.digest
        assert check_layout(layout) == everything(image)
