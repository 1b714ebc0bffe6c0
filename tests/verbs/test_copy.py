"""Copying between registries: what is sent, in which order, and what goes wrong."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from resolver.core.oci.content import Refers
from resolver.core.oci.descriptor import OCI_INDEX, OCI_MANIFEST
from resolver.core.oci.digest import Digest
from resolver.core.results.copy import CopyState
from resolver.errors import (
    DigestMismatch,
    Negative,
    RedirectRefused,
    ResolverError,
    ServerFault,
    Usage,
)
from resolver.session import Session
from resolver.settings import Flags
from resolver.sources.registry import upload
from resolver.verbs import copy_blobs
from tests.kit.images import (
    Image,
    build_image,
    build_index,
    build_layer,
    entry,
    from_dict,
    multi_platform,
    named_by,
)
from tests.kit.messages import Reply, Seen
from tests.kit.registry import FakeRegistry
from tests.kit.writable import Quirks, WritableRegistry

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from resolver.core.results.copy import Copied

PLATFORMS = ("linux/amd64", "linux/arm64", "linux/arm/v7")


@pytest.fixture
def source(tmp_path: Path) -> Iterator[WritableRegistry]:
    with WritableRegistry(tmp_path / "source") as registry:
        yield registry


@pytest.fixture
def target(tmp_path: Path) -> Iterator[WritableRegistry]:
    with WritableRegistry(tmp_path / "target") as registry:
        yield registry


def image(*platforms: str) -> Image:
    return multi_platform(*(platforms or PLATFORMS), attestations=True)


def referrer(subject: Image, text: bytes = b"{}", kind: str = "application/vnd.x.sig") -> Image:
    """Make an artifact that refers to an image."""
    blob = build_layer({"sig": text})
    config = b"{}"
    return from_dict(
        {
            "schemaVersion": 2,
            "mediaType": OCI_MANIFEST,
            "artifactType": kind,
            "config": {
                "mediaType": "application/vnd.oci.empty.v1+json",
                "digest": str(Digest.of(config)),
                "size": len(config),
            },
            "layers": [
                {
                    "mediaType": "application/octet-stream",
                    "digest": str(Digest.of(blob)),
                    "size": len(blob),
                }
            ],
            "subject": {
                "mediaType": subject.media_type,
                "digest": subject.digest,
                "size": subject.size,
            },
            "annotations": {"made": text.decode("latin-1")},
        },
        blobs=(config, blob),
    )


def copy(
    session: Session, source: str, *targets: str, keep: bool = False, **options: Any
) -> Copied:
    return session.copy(session.plan_copy(source, list(targets), **options), keep=keep)


def names(registry: WritableRegistry, start: int = 0) -> list[str]:
    return [f"{seen.method} {seen.path}" for seen in registry.log[start:]]


def assert_same(one: WritableRegistry, other: WritableRegistry, path: str, image: Image) -> None:
    """Check that every byte of an image arrived as it was."""
    for digest in (*image.documents, *image.blobs):
        assert other.holds(path, digest) is not None, digest
        assert one.holds("team/app", digest) == other.holds(path, digest)


# Everything


def test_copy_sends_exact_bytes_children_first_and_the_tag_last(
    session: Session, source: WritableRegistry, target: WritableRegistry
) -> None:
    wanted = image()
    source.serve("team/app", "1", wanted)

    done = copy(session, f"{source.host}/team/app:1", f"{target.host}/copy/app:2")

    assert_same(source, target, "copy/app", wanted)
    assert target.tags("copy/app") == {"2": wanted.digest}
    puts = [seen.path for seen in target.requests("PUT", "/manifests/")]
    assert puts[-1] == "/v2/copy/app/manifests/2"
    assert puts[-2].endswith(wanted.digest)
    last_blob = max(
        i for i, n in enumerate(names(target)) if n.startswith("PUT /v2/copy/app/blobs")
    )
    first_document = min(
        i for i, n in enumerate(names(target)) if "/manifests/" in n and "PUT" in n
    )
    assert last_blob < first_document
    [one] = done.targets
    assert one.bytes_sent == sum(len(blob) for blob in wanted.blobs.values())


def test_copy_of_an_unchanged_tag_is_one_head_at_each_side(
    session: Session, source: WritableRegistry, target: WritableRegistry
) -> None:
    source.serve("team/app", "1", image())
    copy(session, f"{source.host}/team/app:1", f"{target.host}/copy/app:1")
    before = len(source.log), len(target.log)

    done = copy(session, f"{source.host}/team/app:1", f"{target.host}/copy/app:1")

    assert names(source, before[0]) == ["HEAD /v2/team/app/manifests/1"]
    assert names(target, before[1]) == ["HEAD /v2/copy/app/manifests/1"]
    assert done.targets[0].target.done == "up to date"


def test_copy_sends_only_the_blob_that_is_missing(
    session: Session, source: WritableRegistry, target: WritableRegistry
) -> None:
    layers = [build_layer({f"file{number}": b"%d" % number}) for number in range(14)]
    wanted = build_image(layers=layers)
    source.serve("team/app", "1", wanted)
    missing = str(Digest.of(layers[7]))
    there = {digest: blob for digest, blob in wanted.blobs.items() if digest != missing}
    target.serve("copy/app", None, replace(wanted, documents={}, blobs=there))

    done = copy(session, f"{source.host}/team/app:1", f"{target.host}/copy/app:1", referrers=False)

    assert done.targets[0].bytes_sent == len(layers[7])
    blobs, manifests = 15, 1
    assert len(target.log) == blobs + 2 * 1 + manifests + 2
    assert len(source.requests("GET", "/blobs/")) == 1


def test_copy_within_a_registry_mounts_every_blob_with_one_request(
    session: Session, source: WritableRegistry
) -> None:
    wanted = image()
    source.serve("team/app", "1", wanted)

    done = copy(session, f"{source.host}/team/app:1", f"{source.host}/other:1", referrers=False)

    posts = source.requests("POST")
    assert len(posts) == len(wanted.blobs) == done.targets[0].mounted
    assert all(seen.parameters["from"] == ["team/app"] for seen in posts)
    assert source.requests("GET", "/blobs/") == []
    assert done.targets[0].bytes_sent == 0
    assert_same(source, source, "other", wanted)


@pytest.mark.parametrize("mounts", ["no", "refused", "denied"])
def test_copy_uploads_where_mounts_are_refused_and_stops_trying(
    session: Session, source: WritableRegistry, mounts: str
) -> None:
    if mounts == "denied":
        denied = Reply(403)
        path = "/v2/other/blobs/uploads/"
        source.on("POST", path, lambda seen: denied if "mount" in seen.parameters else None)
    else:
        source.quirks = Quirks(mounts=mounts)
    wanted = image()
    source.serve("team/app", "1", wanted)

    copy(session, f"{source.host}/team/app:1", f"{source.host}/other:1", referrers=False)

    assert_same(source, source, "other", wanted)
    tried = [seen for seen in source.requests("POST") if "mount" in seen.parameters]
    assert len(tried) < len(wanted.blobs)
    if mounts == "no":
        # A refused mount is an upload session, which is used.
        assert len(source.requests("POST")) == len(wanted.blobs)


def test_copy_to_two_registries_reads_the_source_once(
    session: Session, source: WritableRegistry, target: WritableRegistry, tmp_path: Path
) -> None:
    wanted = image()
    source.serve("team/app", "1", wanted)
    with WritableRegistry(tmp_path / "third") as third:
        done = copy(
            session,
            f"{source.host}/team/app:1",
            f"{target.host}/copy/app:1",
            f"{third.host}/copy/app:1",
        )
        for registry in (target, third):
            assert_same(source, registry, "copy/app", wanted)
    assert len(done.targets) == 2
    assert len(source.requests("GET", "/blobs/")) == len(wanted.blobs)


@pytest.mark.usefixtures("small_chunks")
def test_copy_to_two_repositories_of_one_registry_reads_large_blobs_once(
    session: Session,
    registry: FakeRegistry,
    target: WritableRegistry,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(upload, "_FIRST_WIDTH", 1)
    monkeypatch.setattr(copy_blobs, "_PART", 20_000)
    layers = [hashlib.shake_256(b"%d" % number).digest(300_000) for number in range(6)]
    wanted = build_image(layers=layers)
    registry.serve("team/app", "1", wanted)

    copy(
        session,
        f"{registry.host}/team/app:1",
        f"{target.host}/one:1",
        f"{target.host}/two:1",
    )

    assert target.complete("one", wanted.digest)
    assert target.complete("two", wanted.digest)
    read = sum(seen.sent for seen in registry.requests("GET", "/blobs/"))
    assert read == sum(len(blob) for blob in wanted.blobs.values())


def test_copy_to_two_registries_completes_one_when_the_other_fails(
    session: Session, source: WritableRegistry, target: WritableRegistry, tmp_path: Path
) -> None:
    wanted = image()
    source.serve("team/app", "1", wanted)
    with WritableRegistry(tmp_path / "third", Quirks(exists=())) as third:
        done = copy(
            session,
            f"{source.host}/team/app:1",
            f"{third.host}/copy/app:1",
            f"{target.host}/copy/app:1",
        )
    assert_same(source, target, "copy/app", wanted)
    [failure] = done.failures
    assert isinstance(failure.error, ServerFault)
    assert "create" in " ".join(failure.error.hints())
    assert failure.reference == f"{third.host}/copy/app:1"


def test_copy_takes_nested_indexes_artifacts_and_foreign_layers(
    session: Session, source: WritableRegistry, target: WritableRegistry
) -> None:
    inner = build_index([build_image("linux/arm64")])
    artifact = referrer(build_image(), b"artifact")
    foreign = {
        "mediaType": "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip",
        "digest": f"sha256:{'0' * 64}",
        "size": 10,
        "urls": ["https://example.com/layer"],
    }
    base = build_image("windows/amd64:10.0.20348.1")
    document = json.loads(base.body)
    document["layers"].insert(0, foreign)
    windows = from_dict(document, OCI_MANIFEST, blobs=base.blobs.values())
    root = from_dict(
        {
            "schemaVersion": 2,
            "mediaType": OCI_INDEX,
            "manifests": [
                entry(inner),
                entry(windows, platform="windows/amd64"),
                {**entry(artifact, platform=""), "artifactType": "application/vnd.x.sig"},
            ],
        },
        parts=(inner, windows, artifact),
    )
    source.serve("team/app", "1", root)

    copy(session, f"{source.host}/team/app:1", f"{target.host}/copy/app:1")

    assert_same(source, target, "copy/app", root)
    assert target.holds("copy/app", str(foreign["digest"])) is None


def test_copy_keeps_a_sha512_digest(
    session: Session, source: WritableRegistry, target: WritableRegistry
) -> None:
    wanted = named_by(build_image(), "sha512")
    source.serve("team/app", "1", wanted)

    copy(session, f"{source.host}/team/app@{wanted.digest}", f"{target.host}/copy/app:1")

    assert target.tags("copy/app") == {"1": wanted.digest}


# Some platforms


def test_copy_of_a_platform_sends_a_new_index_with_its_attestation(
    session: Session, source: WritableRegistry, target: WritableRegistry
) -> None:
    wanted = image()
    source.serve("team/app", "1", wanted)
    signature = referrer(wanted)
    source.serve("team/app", None, signature)

    done = copy(
        session,
        f"{source.host}/team/app:1",
        f"{target.host}/copy/app:1",
        platforms=["linux/arm64"],
    )

    arm = wanted.child("linux/arm64")
    root = target.tags("copy/app")["1"]
    listed = target.document("copy/app", root)["manifests"]
    assert [each["digest"] for each in listed] == [
        arm.digest,
        next(child.digest for child in wanted.children if child.attestation_of == arm.digest),
    ]
    assert target.complete("copy/app", root)
    assert wanted.digest not in target.documents("copy/app")
    assert done.plan.original.digest != done.plan.root.digest
    assert [str(one.digest) for one in done.plan.uncovered] == [signature.digest]
    assert signature.digest not in target.documents("copy/app")
    assert len(done.plan.left_out) == 4


def test_copy_of_all_platforms_by_name_keeps_the_index(
    session: Session, source: WritableRegistry, target: WritableRegistry
) -> None:
    wanted = multi_platform(*PLATFORMS)
    source.serve("team/app", "1", wanted)

    copy(session, f"{source.host}/team/app:1", f"{target.host}/app:1", platforms=list(PLATFORMS))

    assert target.tags("app") == {"1": wanted.digest}


def test_sparse_copy_keeps_the_index_without_all_children(
    session: Session, source: WritableRegistry, target: WritableRegistry
) -> None:
    target.quirks = Quirks(sparse=True)
    wanted = multi_platform(*PLATFORMS)
    source.serve("team/app", "1", wanted)

    copy(
        session,
        f"{source.host}/team/app:1",
        f"{target.host}/app:1",
        platforms=["linux/arm64"],
        sparse=True,
    )

    assert target.tags("app") == {"1": wanted.digest}
    assert wanted.child("linux/amd64").digest not in target.documents("app")
    assert wanted.child("linux/arm64").digest in target.documents("app")


def test_sparse_copy_to_a_registry_that_refuses_it_says_to_leave_it_out(
    session: Session, source: WritableRegistry, target: WritableRegistry
) -> None:
    source.serve("team/app", "1", multi_platform(*PLATFORMS))

    with pytest.raises(ServerFault) as failure:
        copy(
            session,
            f"{source.host}/team/app:1",
            f"{target.host}/app:1",
            platforms=["linux/arm64"],
            sparse=True,
        )

    assert "leave out `--sparse`" in " ".join(failure.value.hints())
    assert target.tags("app") == {}
    with pytest.raises(Usage):
        session.plan_copy(f"{source.host}/team/app:1", f"{target.host}/app:1", sparse=True)


# Referrers


@pytest.mark.parametrize("at_source", ["listed", "ignored"])
@pytest.mark.parametrize("at_target", ["listed", "ignored"])
def test_copy_brings_referrers_through_the_api_and_the_fallback_tag(
    session: Session,
    source: WritableRegistry,
    target: WritableRegistry,
    at_source: str,
    at_target: str,
) -> None:
    source.quirks, target.quirks = Quirks(subjects=at_source), Quirks(subjects=at_target)
    wanted = image("linux/amd64", "linux/arm64")
    arm = wanted.child("linux/arm64")
    signed, sbom = referrer(wanted, b"signature"), referrer(arm, b"sbom")
    counter = referrer(signed, b"counter")
    source.serve("team/app", "1", wanted)
    for one in (signed, sbom, counter):
        source.serve("team/app", None, one)
    if at_source == "ignored":
        for subject, one in ((wanted, signed), (arm, sbom), (signed, counter)):
            listing = from_dict(
                {
                    "schemaVersion": 2,
                    "mediaType": OCI_INDEX,
                    "manifests": [entry(one, platform="")],
                },
                parts=(one,),
            )
            source.serve("team/app", subject.digest.replace(":", "-"), listing)

    done = copy(session, f"{source.host}/team/app:1", f"{target.host}/copy/app:1")

    for one in (signed, sbom, counter):
        assert target.complete("copy/app", one.digest)
    assert len(done.plan.referrers) == 3
    with_api = Session(session.settings.store.parent / "other")
    listing_place = with_api._context.source(with_api._context.target(f"{target.host}/copy/app:1"))
    assert isinstance(listing_place, Refers)
    found = listing_place.referrers(Digest.parse(wanted.digest))
    assert [str(each.digest) for each in found] == [signed.digest]
    assert found[0].artifact_type == "application/vnd.x.sig"
    with_api.close()
    if at_target == "ignored":
        puts = names(target)
        tag = f"PUT /v2/copy/app/manifests/{wanted.digest.replace(':', '-')}"
        assert puts.index(tag) < puts.index("PUT /v2/copy/app/manifests/1")


def test_copy_merges_the_fallback_tag_with_what_others_write_meanwhile(
    session: Session, source: WritableRegistry, target: WritableRegistry
) -> None:
    target.quirks = Quirks(subjects="ignored")
    wanted = image("linux/amd64")
    source.serve("team/app", "1", wanted)
    source.serve("team/app", None, referrer(wanted))
    theirs, mine = referrer(wanted, b"theirs"), referrer(wanted)
    tag = wanted.digest.replace(":", "-")
    listing = from_dict(
        {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [entry(theirs, platform="")]},
        parts=(theirs,),
    )

    def lose(_seen: Seen) -> Reply | None:
        # Another writer replaces the tag right after our write.
        target.serve("copy/app", tag, listing)
        return Reply(201)

    target.on("PUT", f"/v2/copy/app/manifests/{tag}", lose, times=1)
    copy(session, f"{source.host}/team/app:1", f"{target.host}/copy/app:1")

    listed = target.document("copy/app", tag)["manifests"]
    assert {each["digest"] for each in listed} == {theirs.digest, mine.digest}


def test_copy_refuses_a_fallback_tag_that_is_an_image(
    session: Session, source: WritableRegistry, target: WritableRegistry
) -> None:
    target.quirks = Quirks(subjects="ignored")
    wanted = image("linux/amd64")
    source.serve("team/app", "1", wanted)
    source.serve("team/app", None, referrer(wanted))
    target.serve("copy/app", wanted.digest.replace(":", "-"), build_image("linux/s390x"))

    with pytest.raises(ServerFault, match="is not a list of referrers"):
        copy(session, f"{source.host}/team/app:1", f"{target.host}/copy/app:1")

    assert "1" not in target.tags("copy/app")


def test_copy_brings_the_tags_of_cosign_and_can_leave_them_out(
    session: Session, source: WritableRegistry, target: WritableRegistry
) -> None:
    wanted = image("linux/amd64")
    signature = build_image("linux/amd64", [b"signature"])
    source.serve("team/app", "1", wanted)
    tag = wanted.digest.replace(":", "-") + ".sig"
    source.serve("team/app", tag, signature)

    copy(session, f"{source.host}/team/app:1", f"{target.host}/bare:1", referrers=False)
    copy(session, f"{source.host}/team/app:1", f"{target.host}/copy/app:1")

    assert target.tags("copy/app") == {"1": wanted.digest, tag: signature.digest}
    assert target.tags("bare") == {"1": wanted.digest}


def test_copy_finds_new_referrers_of_an_unchanged_tag_on_request(
    session: Session, source: WritableRegistry, target: WritableRegistry
) -> None:
    wanted = image("linux/amd64")
    source.serve("team/app", "1", wanted)
    names_ = f"{source.host}/team/app:1", f"{target.host}/copy/app:1"
    copy(session, *names_)
    late = referrer(wanted)
    source.serve("team/app", None, late)
    target.quirks = Quirks(immutable=True)

    copy(session, *names_)
    assert late.digest not in target.documents("copy/app")
    done = copy(session, *names_, refresh_referrers=True)

    assert late.digest in target.documents("copy/app")
    assert done.targets[0].target.tag == ""


def test_copy_leaves_out_what_only_claims_to_refer(
    session: Session, source: WritableRegistry, target: WritableRegistry
) -> None:
    wanted = image("linux/amd64")
    other = referrer(build_image("linux/s390x"))
    source.serve("team/app", "1", wanted)
    source.serve("team/app", None, other)
    listing = {
        "schemaVersion": 2,
        "mediaType": OCI_INDEX,
        "manifests": [entry(other, platform="")],
    }
    source.on(
        "GET",
        f"/v2/team/app/referrers/{wanted.digest}",
        Reply(200, {"Content-Type": OCI_INDEX}, json.dumps(listing).encode()),
    )

    copy(session, f"{source.host}/team/app:1", f"{target.host}/copy/app:1")

    assert other.digest not in target.documents("copy/app")


# Tags


def test_copy_leaves_an_existing_tag_with_if_absent(
    session: Session, source: WritableRegistry, target: WritableRegistry
) -> None:
    source.serve("team/app", "1", image())
    target.serve("copy/app", "1", build_image())
    before = target.tags("copy/app")

    done = copy(session, f"{source.host}/team/app:1", f"{target.host}/copy/app:1", if_absent=True)

    assert done.targets[0].target.done == "exists"
    assert target.tags("copy/app") == before
    assert [seen.method for seen in target.log] == ["HEAD"]


def test_copy_refuses_a_tag_that_is_not_as_expected(
    session: Session, source: WritableRegistry, target: WritableRegistry
) -> None:
    wanted, there = image(), build_image()
    source.serve("team/app", "1", wanted)
    target.serve("copy/app", "1", there)
    place = f"{source.host}/team/app:1", f"{target.host}/copy/app:1"

    with pytest.raises(Negative) as refusal:
        copy(session, *place, expect=f"sha256:{'1' * 64}")
    assert refusal.value.code == "not-expected"
    assert target.requests("PUT") == target.requests("POST") == []

    copy(session, *place, expect=there.digest)
    assert target.tags("copy/app") == {"1": wanted.digest}


def test_copy_compares_the_tag_again_right_before_it_is_set(
    session: Session, source: WritableRegistry, target: WritableRegistry
) -> None:
    wanted, there, other = image(), build_image(), build_image("linux/s390x")
    source.serve("team/app", "1", wanted)
    target.serve("copy/app", "1", there)

    def overtake(_seen: Seen) -> Reply | None:
        target.serve("copy/app", "1", other)
        return None

    target.on("PUT", f"/v2/copy/app/manifests/{wanted.digest}", overtake, times=1)
    with pytest.raises(Negative):
        copy(
            session,
            f"{source.host}/team/app:1",
            f"{target.host}/copy/app:1",
            expect=there.digest,
        )

    assert target.tags("copy/app") == {"1": other.digest}


def test_copy_to_a_tag_with_a_digest_keeps_the_tag_and_checks_the_digest(
    session: Session, source: WritableRegistry, target: WritableRegistry
) -> None:
    wanted = image()
    source.serve("team/app", "1", wanted)

    copy(session, f"{source.host}/team/app:1", f"{target.host}/copy/app:1@{wanted.digest}")
    assert target.tags("copy/app") == {"1": wanted.digest}
    copy(session, f"{source.host}/team/app:1", f"{target.host}/bare@{wanted.digest}")
    assert target.tags("bare") == {}
    assert target.complete("bare", wanted.digest)
    with pytest.raises(Usage, match="names a digest"):
        session.plan_copy(f"{source.host}/team/app:1", f"{target.host}/x:1@sha256:{'1' * 64}")


def test_copy_to_an_immutable_tag_works_a_second_time(
    session: Session, source: WritableRegistry, target: WritableRegistry
) -> None:
    target.quirks = Quirks(immutable=True)
    source.serve("team/app", "1", image())
    for _ in range(2):
        copy(session, f"{source.host}/team/app:1", f"{target.host}/copy/app:1")
    source.serve("team/app", "1", build_image())
    with pytest.raises(ServerFault, match="the tag is immutable"):
        copy(session, f"{source.host}/team/app:1", f"{target.host}/copy/app:1")


# Plans


def test_copy_plan_counts_bytes_and_requests_and_writes_nothing(
    session: Session, source: WritableRegistry, target: WritableRegistry
) -> None:
    wanted = build_image()
    source.serve("team/app", "1", wanted)

    plan = session.plan_copy(
        f"{source.host}/team/app:1", f"{target.host}/copy/app:1", referrers=False
    )

    assert {seen.method for seen in target.log} == {"HEAD"}
    [there] = plan.targets
    blobs = sum(len(blob) for blob in wanted.blobs.values())
    assert plan.bytes_to_send == blobs + wanted.size
    assert there.count(CopyState.SEND)[0] == 3
    asked = len(target.log)
    session.copy(plan)
    assert len(target.log) - asked == there.requests


def test_copy_refuses_to_send_more_than_allowed(
    session: Session, source: WritableRegistry, target: WritableRegistry
) -> None:
    source.serve("team/app", "1", build_image())
    plan = session.plan_copy(f"{source.host}/team/app:1", f"{target.host}/copy/app:1")

    with pytest.raises(Negative) as refusal:
        session.copy(plan, max_upload=plan.bytes_to_send - 1)
    assert refusal.value.code == "copy-too-large"
    assert target.requests("POST") == []
    session.copy(plan, max_upload=plan.bytes_to_send)


# Quirks


QUIRKS = {
    "absolute location": Quirks(location="http://{host}{path}"),
    "location without scheme": Quirks(location="//{host}{path}"),
    "location that begins with the host": Quirks(location="{host}{path}"),
    "location without the port": Quirks(location="http://{name}{path}"),
    "location with a state": Quirks(state="_state=a%2Bb%3D&x=1"),
    "patch 201 drops later chunks": Quirks(patch=201),
    "patch over 4 KiB is 416": Quirks(most=4096),
    "no chunks": Quirks(chunks=False),
    "wrong range after a patch": Quirks(range="0-0"),
    "range of the chunk alone": Quirks(range="0-{length}"),
    "range with unit": Quirks(range="bytes=0-{end}"),
    "head 403": Quirks(head=403),
    "no OCI-Subject": Quirks(subjects="ignored"),
    "children seen late": Quirks(late=2),
    "immutable tag": Quirks(immutable=True),
    "fallback tag answers the subject": Quirks(subjects="ignored", subject_tag=True),
    "body limit": Quirks(body=70_000),
    "manifest PUT 202": Quirks(manifest=202),
    "cancel refused": Quirks(cancels=False, patch=201),
    "large least chunk": Quirks(least=100_000),
}


@pytest.fixture
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Send chunks of 64 KiB, and of 16 KiB behind a proxy."""
    monkeypatch.setattr(upload, "CHUNK", 65_536)
    monkeypatch.setattr(upload, "SMALL_CHUNK", 16_384)


def big(size: int = 300_000) -> Image:
    layer = hashlib.shake_256(b"layer").digest(size)
    return build_image(layers=[layer])


@pytest.mark.usefixtures("small_chunks")
@pytest.mark.parametrize("name", QUIRKS)
def test_copy_survives_the_quirk(
    session: Session, source: WritableRegistry, target: WritableRegistry, name: str
) -> None:
    target.quirks = QUIRKS[name]
    wanted = build_index([big()])
    source.serve("team/app", "1", wanted)
    signature = referrer(wanted)
    source.serve("team/app", None, signature)

    for _ in range(2):
        copy(session, f"{source.host}/team/app:1", f"{target.host}/copy/app:1")

    assert target.tags("copy/app")["1"] == wanted.digest
    assert target.complete("copy/app", wanted.digest)
    assert target.complete("copy/app", signature.digest)
    assert all("content-range" in seen.headers for seen in target.requests("PATCH"))


REFUSALS = {
    "subject refused": (Quirks(subjects="refused"), "--no-referrers"),
    "repository must exist": (Quirks(exists=()), "created first"),
    "no sha512": (Quirks(sha512=False), "sha512"),
}


@pytest.mark.parametrize("name", REFUSALS)
def test_copy_gives_one_clear_error_for_the_quirk(
    session: Session, source: WritableRegistry, target: WritableRegistry, name: str
) -> None:
    target.quirks, advice = REFUSALS[name]
    wanted = build_index([build_image()])
    if name == "no sha512":
        wanted = named_by(wanted, "sha512")
    source.serve("team/app", "1", wanted)
    source.serve("team/app", None, referrer(wanted))

    with pytest.raises(ServerFault) as failure:
        copy(session, f"{source.host}/team/app:1", f"{target.host}/copy/app:1")

    assert advice in " ".join([str(failure.value), *failure.value.hints()])
    assert "1" not in target.tags("copy/app")


def test_copy_waits_as_long_as_a_registry_asks(
    session: Session, source: WritableRegistry, target: WritableRegistry
) -> None:
    wanted = build_image()
    source.serve("team/app", "1", wanted)
    target.quirks = Quirks(busy=2, retry_after="0")

    copy(session, f"{source.host}/team/app:1", f"{target.host}/copy/app:1")

    assert target.tags("copy/app") == {"1": wanted.digest}
    statuses = [seen.status for seen in target.requests("PUT", f"/manifests/{wanted.digest}")]
    assert statuses == [429, 429, 201]


# Large blobs


#: Runs the command line with chunks of 64 KiB.
SMALL = """
import sys
from resolver.sources.registry import upload
from resolver.verbs import copy_blobs
upload.CHUNK = 65536
from resolver.__main__ import main
main()
"""


@pytest.mark.parametrize("forgets", [False, True])
def test_copy_killed_in_an_upload_continues_it_where_the_registry_kept_it(
    tmp_path: Path, source: WritableRegistry, target: WritableRegistry, *, forgets: bool
) -> None:
    wanted = big()
    layer = max(len(blob) for blob in wanted.blobs.values())
    source.serve("team/app", "1", wanted)
    words = [
        *(sys.executable, "-c", SMALL, "copy", "--store", str(tmp_path / "store")),
        *(f"{source.host}/team/app:1", f"{target.host}/copy/app:1"),
    ]
    process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE)

    def cut(_seen: Seen) -> None:
        if len(target.requests("PATCH")) == 3:
            target.quirks = Quirks(forgets=forgets, cut=10_000)

    target.before = cut
    target.on_cut = lambda: os.kill(process.pid, signal.SIGKILL)
    process.communicate(timeout=60)
    target.settle()
    assert process.returncode == -signal.SIGKILL
    assert len(list((tmp_path / "store" / "pushes").iterdir())) == 1
    sent, begun = target.sent("PATCH"), len(target.requests("POST"))

    subprocess.run(words, check=True, capture_output=True, timeout=60)

    assert target.complete("copy/app", wanted.digest)
    kept = 0 if forgets else 2 * 65_536 + 10_000
    assert target.sent("PATCH") - sent == layer - kept
    assert len(target.requests("POST")) - begun <= 1 + forgets  # the config's, and a new session
    assert list((tmp_path / "store" / "pushes").iterdir()) == []


@pytest.mark.usefixtures("small_chunks")
@pytest.mark.parametrize("forgets", [False, True])
def test_copy_goes_on_after_a_cut_chunk(
    session: Session, source: WritableRegistry, target: WritableRegistry, *, forgets: bool
) -> None:
    wanted = big()
    source.serve("team/app", "1", wanted)
    cuts: list[int] = []

    def cut(_seen: Seen) -> None:
        if len(target.requests("PATCH")) == 3:
            target.quirks = Quirks(forgets=forgets, cut=30_000)

    target.before = cut
    target.on_cut = lambda: cuts.append(len(target.requests("PATCH")))
    copy(session, f"{source.host}/team/app:1", f"{target.host}/copy/app:1")

    assert cuts == [3]
    assert target.complete("copy/app", wanted.digest)
    posts = len(target.requests("POST"))
    assert posts == len(wanted.blobs) + forgets


def test_copy_reads_a_large_blob_in_parallel_ranges(
    session: Session,
    registry: FakeRegistry,
    target: WritableRegistry,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(copy_blobs, "_PART", 20_000)
    wanted = big()
    registry.serve("team/app", "1", wanted)

    copy(session, f"{registry.host}/team/app:1", f"{target.host}/copy/app:1")

    assert target.complete("copy/app", wanted.digest)
    ranges = [seen for seen in registry.requests("GET", "/blobs/") if "range" in seen.headers]
    assert len(ranges) == 15
    registry.shelves.ranges = False
    copy(session, f"{registry.host}/team/app:1", f"{target.host}/again:1")
    assert target.complete("again", wanted.digest)


def test_copy_never_completes_a_blob_with_wrong_bytes(
    session: Session, source: WritableRegistry, target: WritableRegistry
) -> None:
    wanted = build_image()
    source.serve("team/app", "1", wanted)
    layer = json.loads(wanted.body)["layers"][0]
    wrong = bytes(layer["size"])
    source.on("GET", f"/v2/team/app/blobs/{layer['digest']}", Reply(200, body=wrong))

    with pytest.raises(DigestMismatch):
        copy(session, f"{source.host}/team/app:1", f"{target.host}/copy/app:1")

    # The request lacks its last bytes, so that the registry never saw all of it.
    puts = target.requests("PUT", "/blobs/")
    bodies = [seen.body for seen in puts if seen.parameters["digest"] == [layer["digest"]]]
    assert all(len(body) < layer["size"] for body in bodies)
    assert target.documents("copy/app") == set()
    assert target.tags("copy/app") == {}


# Killed


def test_copy_killed_at_every_request_leaves_no_incomplete_tag(
    tmp_path: Path, source: WritableRegistry, target: WritableRegistry
) -> None:
    """The process is killed with SIGKILL while its n-th request is answered, for every n."""
    wanted = build_index([build_image()])
    signature = referrer(wanted)
    source.serve("team/app", "1", wanted)
    source.serve("team/app", None, signature)
    target.quirks = Quirks(subjects="ignored")
    words = [
        *(sys.executable, "-m", "resolver", "copy", "--store", str(tmp_path / "store")),
        *(f"{source.host}/team/app:1", f"{target.host}/copy/app:1"),
    ]
    number, sent = 0, 0
    while True:
        number += 1
        begun = len(target.log)
        process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE)

        def kill(
            _seen: Seen, process: Any = process, begun: int = begun, number: int = number
        ) -> None:
            if len(target.log) - begun == number:
                os.kill(process.pid, signal.SIGKILL)

        target.before = kill
        _, errors = process.communicate(timeout=60)
        target.settle()
        tags, documents = target.tags("copy/app"), target.documents("copy/app")
        if "1" in tags:
            assert all(target.complete("copy/app", digest) for digest in (tags["1"], *documents))
            assert signature.digest in documents
        if process.returncode == 0:
            break
        assert process.returncode == -signal.SIGKILL, errors.decode()
        sent = target.sent("PUT")
    assert number > 10
    assert target.tags("copy/app")["1"] == wanted.digest
    # Every blob that had arrived was not sent again.
    uploaded = [
        seen.parameters["digest"][0]
        for seen in target.requests("PUT", "/blobs/uploads/")
        if seen.status == 201
    ]
    assert sent
    assert len(uploaded) == len(set(uploaded))


# Credentials


def test_copy_asks_for_push_only_at_the_destination(
    session: Session, source: WritableRegistry, target: WritableRegistry
) -> None:
    source.serve("team/app", "1", build_image())
    source.bearer(token="PULL")
    target.bearer(token="PUSH")

    copy(session, f"{source.host}/team/app:1", f"{target.host}/copy/app:1")

    scopes = [
        scope
        for registry in (source, target)
        for seen in registry.requests("GET", "/token")
        for scope in seen.parameters["scope"]
    ]
    assert scopes == ["repository:team/app:pull", "repository:copy/app:pull,push"]
    assert all("PUSH" not in (seen.authorization or "") for seen in source.log)
    assert all("PULL" not in (seen.authorization or "") for seen in target.log)


def test_copy_asks_to_pull_the_repository_that_it_mounts_from(
    session: Session, source: WritableRegistry
) -> None:
    source.serve("team/app", "1", build_image())
    source.bearer()

    copy(session, f"{source.host}/team/app:1", f"{source.host}/other:1", referrers=False)

    scopes = [tuple(seen.parameters["scope"]) for seen in source.requests("GET", "/token")]
    assert ("repository:other:pull,push", "repository:team/app:pull") in scopes


def test_copy_sends_no_credentials_to_another_host_that_takes_the_upload(
    tmp_path: Path, source: WritableRegistry, target: WritableRegistry
) -> None:
    wanted = build_image()
    source.serve("team/app", "1", wanted)
    target.basic("u", "secret")
    target.quirks = Quirks(subjects="ignored")

    def keep(seen: Seen) -> Reply:
        blobs = {seen.parameters["digest"][0]: seen.body}
        target.serve("copy/app", None, replace(wanted, documents={}, blobs=blobs))
        return Reply(201)

    with FakeRegistry() as storage:
        storage.on("PUT", "/store/1", keep)
        target.on(
            "POST",
            "/v2/copy/app/blobs/uploads/",
            Reply(202, {"Location": f"{storage.url}/store/1?sig=x"}),
        )
        flags = Flags(username="u", password="secret", anonymous=False)
        with Session(tmp_path / "store", flags=flags) as session:
            copy(session, f"{source.host}/team/app:1", f"{target.host}/copy/app:1", referrers=False)

        assert len(storage.log) == len(wanted.blobs)
        assert all(seen.authorization is None for seen in storage.log)
        assert all("sig=x&digest=" in seen.query for seen in storage.log)
    assert target.complete("copy/app", wanted.digest)


@pytest.mark.parametrize(
    "location",
    ["http://169.254.169.254/x", "ftp://example.com/x", "http://user:pw@127.0.0.1/x", "http:///x"],
)
def test_copy_refuses_a_location_that_no_redirect_may_have(
    session: Session, source: WritableRegistry, target: WritableRegistry, location: str
) -> None:
    source.serve("team/app", "1", build_image())
    target.on("POST", "/v2/copy/app/blobs/uploads/", Reply(202, {"Location": location}))

    with pytest.raises((RedirectRefused, ResolverError)) as failure:
        copy(session, f"{source.host}/team/app:1", f"{target.host}/copy/app:1")

    assert failure.value.code in {"redirect-refused", "address-refused"}


# Other places


def test_copy_between_store_layout_and_registry_keeps_the_digest(
    session: Session, source: WritableRegistry, target: WritableRegistry, tmp_path: Path
) -> None:
    wanted = image()
    source.serve("team/app", "1", wanted)
    source.serve("team/app", None, referrer(wanted))
    name = f"{source.host}/team/app:1"
    layout = tmp_path / "layout"
    copy(session, name, f"oci:{layout}:1")
    copy(session, name, f"oci:{layout}:1")
    copy(session, f"oci:{layout}:1", f"{target.host}/from/layout:1")
    session.pull(name, ["all"], referrers=True)
    copy(session, f"store:{name}", f"{target.host}/from/store:1")
    session.export([name], str(tmp_path / "file.tar"))
    copy(session, f"oci-archive:{tmp_path / 'file.tar'}", f"{target.host}/from/archive:1")

    for place in ("layout", "store", "archive"):
        assert target.tags(f"from/{place}")["1"] == wanted.digest
        assert target.complete(f"from/{place}", wanted.digest)
    for place in ("layout", "store"):
        assert referrer(wanted).digest in target.documents(f"from/{place}")
    index = json.loads((layout / "index.json").read_text())
    assert [each.get("annotations") for each in index["manifests"]] == [
        {"org.opencontainers.image.ref.name": "1"},
        None,
    ]


def test_copy_reads_what_the_store_holds_and_keeps_nothing_unasked(
    session: Session, source: WritableRegistry, target: WritableRegistry
) -> None:
    wanted = image()
    source.serve("team/app", "1", wanted)
    name = f"{source.host}/team/app:1"

    copy(session, name, f"{target.host}/one:1")
    assert session.images() == ()
    copy(session, name, f"{target.host}/two:1", keep=True)
    assert [each.reference for each in session.images()] == [name]
    read = len(source.requests("GET", "/blobs/"))
    copy(session, name, f"{target.host}/three:1")

    assert len(source.requests("GET", "/blobs/")) == read
    assert target.complete("three", wanted.digest)


def test_copy_refuses_destinations_that_are_none(
    session: Session, source: WritableRegistry
) -> None:
    source.serve("team/app", "1", build_image())
    for place in ("store:app:1", "oci-archive:x.tar", "docker-archive:x.tar"):
        with pytest.raises(Usage, match="cannot be a destination"):
            session.plan_copy(f"{source.host}/team/app:1", place)
