"""Indexes: made of builds, edited, checked, and compared before they are written."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from resolver.core.oci.descriptor import DOCKER_LIST, OCI_INDEX
from resolver.core.oci.digest import Digest
from resolver.errors import Negative, NotFound, PlatformNotOffered, ServerFault, Usage
from resolver.session import Session
from tests.kit.archives import tar_of
from tests.kit.engines import engine_at, running_engine
from tests.kit.images import (
    Image,
    build_image,
    build_index,
    entry,
    from_dict,
    listed_as,
    multi_platform,
)
from tests.kit.layouts import write_layout
from tests.kit.writable import WritableRegistry
from tests.verbs.test_copy import referrer

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from resolver.core.results.copy import IndexWritten
    from tests.kit.messages import Seen


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[WritableRegistry]:
    with WritableRegistry(tmp_path / "registry") as running:
        yield running


def manifests(registry: WritableRegistry, repository: str, tag: str) -> list[dict[str, Any]]:
    listed: list[dict[str, Any]] = registry.document(repository, tag)["manifests"]
    return listed


def digests(registry: WritableRegistry, repository: str = "app", tag: str = "1") -> list[str]:
    return [each["digest"] for each in manifests(registry, repository, tag)]


BUILDS = [build_image(platform) for platform in ("linux/amd64", "linux/arm64", "linux/arm/v7")]


def pushed(registry: WritableRegistry, repository: str = "app") -> list[str]:
    """Push three builds by digest, as the jobs of a matrix do."""
    for build in BUILDS:
        registry.serve(repository, None, build)
    return [build.digest for build in BUILDS]


# Create


def test_index_create_of_three_builds_states_their_platforms(
    session: Session, registry: WritableRegistry
) -> None:
    made = session.create_index(
        f"{registry.host}/app:1",
        pushed(registry),
        annotations={"org.opencontainers.image.version": "1"},
    )

    assert registry.document("app", "1") == {
        "schemaVersion": 2,
        "mediaType": OCI_INDEX,
        "manifests": [
            {
                "mediaType": build.media_type,
                "digest": build.digest,
                "size": build.size,
                "platform": platform,
            }
            for build, platform in zip(
                BUILDS,
                (
                    {"architecture": "amd64", "os": "linux"},
                    {"architecture": "arm64", "os": "linux"},
                    {"architecture": "arm", "os": "linux", "variant": "v7"},
                ),
                strict=True,
            )
        ],
        "annotations": {"org.opencontainers.image.version": "1"},
    }
    assert registry.tags("app")["1"] == str(made.root.digest)
    puts = [seen.path for seen in registry.requests("PUT")]
    assert puts == [f"/v2/app/manifests/{made.root.digest}", "/v2/app/manifests/1"]


def test_index_create_gives_the_same_bytes_for_the_same_inputs(
    session: Session, registry: WritableRegistry
) -> None:
    names = pushed(registry)
    first = session.create_index(f"{registry.host}/app:1", names)
    again = session.create_index(f"{registry.host}/app:2", names)
    other = session.create_index(f"{registry.host}/app:3", names[::-1])

    assert first.root == again.root
    assert other.root != first.root
    assert digests(registry, tag="3") == names[::-1]
    assert session.create_index(f"{registry.host}/app:1", names).done == "up to date"


def test_index_create_merges_indexes_with_their_attestations_from_another_registry(
    session: Session, registry: WritableRegistry, tmp_path: Path
) -> None:
    amd = build_index([BUILDS[0]], attestations=True)
    arm = build_index([BUILDS[1]], attestations=True)
    with WritableRegistry(tmp_path / "builds") as builds:
        builds.serve("ci", "amd64", amd)
        builds.serve("ci", "arm64", arm)
        builds.serve("ci", None, referrer(BUILDS[1]))
        made = session.create_index(
            f"{registry.host}/app:1", [f"{builds.host}/ci:amd64", f"{builds.host}/ci:arm64"]
        )

    assert digests(registry) == [child.digest for image in (amd, arm) for child in image.children]
    assert registry.complete("app", str(made.root.digest))
    assert registry.complete("app", referrer(BUILDS[1]).digest)
    assert made.bytes_sent
    assert registry.documents("app") == {
        str(made.root.digest),
        referrer(BUILDS[1]).digest,
        *(child.digest for image in (amd, arm) for child in image.children),
    }


def test_index_create_mounts_children_of_another_repository(
    session: Session, registry: WritableRegistry
) -> None:
    names = [f"{registry.host}/ci@{digest}" for digest in pushed(registry, "ci")]

    made = session.create_index(f"{registry.host}/app:1", names)

    assert made.bytes_sent == 0
    assert registry.requests("GET", "/v2/app/blobs") == []
    assert registry.complete("app", str(made.root.digest))


def test_index_create_takes_tags_by_pattern(session: Session, registry: WritableRegistry) -> None:
    for build, tag in zip(BUILDS, ("build-a", "build-b", "other"), strict=True):
        registry.serve("app", tag, build)

    session.create_index(f"{registry.host}/app:1", [f"{registry.host}/app:build-*"])

    assert digests(registry) == [BUILDS[0].digest, BUILDS[1].digest]
    with pytest.raises(NotFound, match="no tag"):
        session.create_index(f"{registry.host}/app:1", [f"{registry.host}/app:none-*"])


def test_index_create_refuses_a_platform_that_the_config_contradicts(
    session: Session, registry: WritableRegistry
) -> None:
    wrong = build_index([listed_as(BUILDS[1], "linux/amd64")])
    registry.serve("app", "wrong", wrong)
    before = registry.documents("app")

    with pytest.raises(Negative) as refusal:
        session.create_index(f"{registry.host}/app:1", [f"{registry.host}/app:wrong"])
    assert refusal.value.code == "platform-contradicted"
    assert registry.documents("app") == before
    assert registry.requests("PUT") == registry.requests("POST") == []

    session.create_index(
        f"{registry.host}/app:1",
        [f"{registry.host}/app:wrong"],
        platforms={BUILDS[1].digest: "linux/arm64"},
    )
    assert manifests(registry, "app", "1")[0]["platform"]["architecture"] == "arm64"
    session.create_index(f"{registry.host}/app:2", [f"{registry.host}/app:wrong"], force=True)
    assert manifests(registry, "app", "2")[0]["platform"]["architecture"] == "amd64"


def test_index_create_refuses_two_images_for_one_platform(
    session: Session, registry: WritableRegistry
) -> None:
    pushed(registry)
    other = build_image("linux/amd64", [b"other"])
    registry.serve("app", None, other)

    with pytest.raises(Negative) as refusal:
        session.create_index(f"{registry.host}/app:1", [BUILDS[0].digest, other.digest])
    assert refusal.value.code == "platform-twice"


def test_index_create_compares_before_it_writes(
    session: Session, registry: WritableRegistry
) -> None:
    names = pushed(registry)
    registry.serve("app", "1", BUILDS[2])

    with pytest.raises(Negative):
        session.create_index(f"{registry.host}/app:1", names, expect=f"sha256:{'1' * 64}")
    assert registry.requests("PUT") == []
    session.create_index(f"{registry.host}/app:1", names, expect=BUILDS[2].digest)
    assert digests(registry) == names


def test_index_create_can_be_tried_without_writing(
    session: Session, registry: WritableRegistry
) -> None:
    dry = session.create_index(f"{registry.host}/app:1", pushed(registry), dry_run=True)
    assert registry.requests("PUT") == []
    assert session.create_index(f"{registry.host}/app:1", pushed(registry)).root == dry.root


def test_index_create_in_a_layout(
    session: Session, registry: WritableRegistry, tmp_path: Path
) -> None:
    names = [f"{registry.host}/app@{digest}" for digest in pushed(registry)]

    made = session.create_index(f"oci:{tmp_path / 'layout'}:1", names)

    found = session.resolve(f"oci:{tmp_path / 'layout'}:1", "linux/arm64").index
    assert found is not None
    assert found.digest == made.root.digest
    listed = json.loads((tmp_path / "layout" / "index.json").read_text())["manifests"]
    assert [each["digest"] for each in listed] == [str(made.root.digest)]


# Edit


def edit(session: Session, registry: WritableRegistry, **options: Any) -> IndexWritten:
    return session.edit_index(f"{registry.host}/app:1", **options)


@pytest.fixture
def served(registry: WritableRegistry) -> Image:
    image = multi_platform("linux/amd64", "linux/arm64", "linux/arm/v7", attestations=True)
    registry.serve("app", "1", image)
    return image


def test_index_create_takes_an_image_of_an_engine(tmp_path: Path) -> None:
    several = multi_platform("linux/amd64", "linux/arm64")
    with running_engine(tmp_path) as engine:
        for name, image in (("app", BUILDS[0]), ("all", several)):
            (tmp_path / name).mkdir()
            saved = tar_of(write_layout(tmp_path / name, {"1": image}))
            engine.answers[f"/images/{name}/get"] = saved
        with Session(tmp_path / "store", environment=engine_at(tmp_path)) as session:
            made = session.create_index(f"oci:{tmp_path}/layout:1", ["docker-daemon:app"])
            listed = session.platforms(f"oci:{tmp_path}/layout:1").offers
            with pytest.raises(Usage, match="has several images") as caught:
                session.create_index(f"oci:{tmp_path}/layout:2", ["docker-daemon:all"])

    assert "resolver copy docker-daemon:all oci:" in caught.value.hints()[0]
    assert made.root.is_index
    assert [str(each.descriptor.digest) for each in listed] == [BUILDS[0].digest]


def test_index_edit_drops_a_platform_with_its_attestation(
    session: Session, registry: WritableRegistry, served: Image
) -> None:
    arm = served.child("linux/arm64").digest

    edit(session, registry, drop=["linux/arm64"])

    assert digests(registry) == [
        child.digest for child in served.children if arm not in (child.digest, child.attestation_of)
    ]
    with pytest.raises(PlatformNotOffered):
        edit(session, registry, drop=["linux/s390x"])


def test_index_edit_appends_and_keeps_the_order_and_every_other_member(
    session: Session, registry: WritableRegistry
) -> None:
    first = BUILDS[0]
    root = from_dict(
        {
            "schemaVersion": 2,
            "mediaType": OCI_INDEX,
            "manifests": [{**entry(first), "x-own": [1, 2], "annotations": {"a": "b"}}],
            "x-member": {"z": 1, "a": 2},
            "annotations": {"kept": "yes", "gone": "soon"},
        },
        parts=(first,),
    )
    registry.serve("app", "1", root)
    added = build_index([BUILDS[1]], attestations=True)
    registry.serve("app", "arm", added)

    edit(
        session,
        registry,
        add=[f"{registry.host}/app:arm"],
        annotations={"new": "n", "gone": ""},
    )

    document = registry.document("app", "1")
    assert document["manifests"][0]["x-own"] == [1, 2]
    assert document["x-member"] == {"z": 1, "a": 2}
    assert document["annotations"] == {"kept": "yes", "new": "n"}
    assert digests(registry) == [first.digest, *(child.digest for child in added.children)]


def test_index_edit_replaces_a_platform(
    session: Session, registry: WritableRegistry, served: Image
) -> None:
    newer = build_image("linux/arm64", [b"newer"])
    registry.serve("app", None, newer)

    with pytest.raises(Negative) as refusal:
        edit(session, registry, add=[newer.digest])
    assert refusal.value.code == "platform-twice"
    edit(session, registry, drop=["linux/arm64"], add=[newer.digest])

    assert digests(registry)[-1] == newer.digest
    assert served.child("linux/arm64").digest not in digests(registry)


def test_index_edit_without_a_change_keeps_the_digest(
    session: Session, registry: WritableRegistry, served: Image
) -> None:
    assert edit(session, registry).done == "up to date"
    assert edit(session, registry, add=[served.children[0].digest]).done == "up to date"
    assert registry.tags("app")["1"] == served.digest
    assert registry.requests("PUT") == []


def test_index_edit_does_not_overwrite_what_a_second_writer_set(
    session: Session, registry: WritableRegistry, served: Image
) -> None:
    theirs = multi_platform("linux/s390x")
    begun: list[str] = []

    def overtake(seen: Seen) -> None:
        if seen.method == "PUT" and not begun:
            begun.append(seen.path)
            registry.serve("app", "1", theirs)

    registry.before = overtake
    with pytest.raises(Negative) as refusal:
        edit(session, registry, drop=["linux/arm64"])

    assert refusal.value.code == "not-expected"
    assert registry.tags("app")["1"] == theirs.digest
    assert begun
    assert served.digest != theirs.digest


def test_index_edit_writes_elsewhere_and_copies_the_children(
    session: Session, registry: WritableRegistry, served: Image
) -> None:
    made = edit(session, registry, drop=["linux/arm/v7"], to=f"{registry.host}/other:2")

    assert registry.tags("app")["1"] == served.digest
    assert registry.tags("other")["2"] == str(made.root.digest)
    assert registry.complete("other", str(made.root.digest))
    gone = served.child("linux/arm/v7").digest
    assert gone not in registry.documents("other")


def test_index_edit_names_the_signatures_of_the_old_index(
    session: Session, registry: WritableRegistry, served: Image
) -> None:
    signature = referrer(served)
    registry.serve("app", None, signature)
    cosign = build_image("linux/amd64", [b"cosign"])
    registry.serve("app", served.digest.replace(":", "-") + ".sig", cosign)

    made = edit(session, registry, drop=["linux/arm64"])

    assert {str(each.digest) for each in made.uncovered} == {signature.digest, cosign.digest}


def test_index_edit_turns_a_docker_list_with_annotations_into_an_oci_index(
    session: Session, registry: WritableRegistry
) -> None:
    registry.serve("app", "1", multi_platform("linux/amd64", "linux/arm64", docker=True))

    edit(session, registry, drop=["linux/arm64"])
    assert registry.document("app", "1")["mediaType"] == DOCKER_LIST
    edit(session, registry, annotations={"a": "b"})
    assert registry.document("app", "1")["mediaType"] == OCI_INDEX


def test_index_edit_refuses_an_image_and_an_empty_result(
    session: Session, registry: WritableRegistry
) -> None:
    registry.serve("app", "image", BUILDS[0])
    registry.serve("app", "1", multi_platform("linux/amd64"))
    with pytest.raises(Usage, match="is one image"):
        session.edit_index(f"{registry.host}/app:image", drop=["linux/amd64"])
    with pytest.raises(Usage, match="nothing would be left"):
        edit(session, registry, drop=["linux/amd64"])


def test_index_is_refused_by_a_registry_that_lacks_a_child(
    session: Session, registry: WritableRegistry, served: Image
) -> None:
    arm = Digest.parse(served.child("linux/arm64").digest)
    (registry.store.root / "blobs" / arm.algorithm / arm.hex).unlink()
    with pytest.raises((ServerFault, NotFound)):
        edit(session, registry, annotations={"a": "b"})
    assert registry.tags("app") == {"1": served.digest}
