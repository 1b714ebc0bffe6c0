"""The library's verbs about pulling and keeping, as the README shows them."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

import resolver
from resolver.core.answer import Resolution
from resolver.core.descriptor import OCI_INDEX, OCI_MANIFEST
from resolver.core.digest import Digest
from resolver.core.platform import Platform
from resolver.core.requirements import Requirements
from resolver.core.select import Grade
from resolver.core.transfers import ImageDone, Started
from resolver.errors import (
    BlobNotFound,
    ImageNotHeld,
    NotInStore,
    PlanTooLarge,
    PlatformNotOffered,
    Usage,
)
from resolver.session import Session
from tests.fakes.images import Image, build_image, from_dict, multi_platform
from tests.fakes.registry import FakeRegistry, Reply

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from resolver.core.events import Event

AMD, ARM = "linux/amd64", "linux/arm64"


@pytest.fixture
def registry() -> Iterator[FakeRegistry]:
    with FakeRegistry() as fake:
        fake.serve("team/app", "1", multi_platform(AMD, ARM))
        yield fake


@pytest.fixture
def session(tmp_path: Path) -> Iterator[Session]:
    with Session(tmp_path / "store", environment={}) as made:
        yield made


def blob_requests(registry: FakeRegistry) -> list[str]:
    return [seen.path for seen in registry.requests("GET", "/v2/team/app/blobs/")]


def test_an_answer_is_planned_and_a_plan_is_pulled(
    registry: FakeRegistry, session: Session
) -> None:
    found = session.resolve(f"{registry.host}/team/app:1", ARM)
    plan = session.plan(found)
    done = session.pull(plan)

    assert [image.manifest.digest for image in plan.images] == [found.manifest.digest]
    assert plan.bytes_missing > 0
    assert done.bytes_fetched == plan.bytes_missing
    assert [image.platforms for image in session.images()] == [(ARM,)]


def test_an_answer_stays_what_it_was_when_its_tag_moves(
    registry: FakeRegistry, session: Session
) -> None:
    found = session.resolve(f"{registry.host}/team/app:1", ARM)
    registry.serve("team/app", "1", build_image(ARM, [b"other"]))

    (image,) = session.plan(found).images

    assert image.manifest.digest == found.manifest.digest
    assert image.reference == found.reference


def test_a_plan_asks_for_no_blob(registry: FakeRegistry, session: Session) -> None:
    session.plan(f"{registry.host}/team/app:1", [AMD, ARM])

    assert blob_requests(registry) == []


def test_all_stands_for_every_platform(registry: FakeRegistry, session: Session) -> None:
    plan = session.plan(f"{registry.host}/team/app:1", "all")

    assert [str(image.platform) for image in plan.images] == [AMD, ARM]


def test_one_platform_among_several_that_is_not_offered_is_an_error(
    registry: FakeRegistry, session: Session
) -> None:
    with pytest.raises(PlatformNotOffered):
        session.plan(f"{registry.host}/team/app:1", [AMD, "linux/s390x"])


def test_a_limit_is_kept(registry: FakeRegistry, session: Session) -> None:
    with pytest.raises(PlanTooLarge):
        session.pull(f"{registry.host}/team/app:1", ARM, max_download=1)

    assert blob_requests(registry) == []


def test_what_is_here_costs_one_head_and_no_body(registry: FakeRegistry, session: Session) -> None:
    name = f"{registry.host}/team/app:1"
    session.pull(name, ARM)
    before = len(registry.log)

    session.pull(name, ARM)

    assert [(seen.method, seen.path) for seen in registry.log[before:]] == [
        ("HEAD", "/v2/team/app/manifests/1")
    ]


def test_a_place_is_no_image_to_pull(session: Session) -> None:
    with pytest.raises(Usage):
        session.plan("oci:somewhere")


def test_offline_what_is_not_here_is_not_asked_for(
    registry: FakeRegistry, session: Session, tmp_path: Path
) -> None:
    name = f"{registry.host}/team/app:1"
    session.plan(name, ARM)
    before = len(registry.log)

    with (
        Session(tmp_path / "store", offline=True, environment={}) as alone,
        pytest.raises(NotInStore),
    ):
        alone.pull(name, ARM)

    assert len(registry.log) == before


def test_one_of_two_images_that_fails_leaves_the_other(
    registry: FakeRegistry, session: Session
) -> None:
    broken = build_image(ARM, [b"not there"])
    registry.serve("team/broken", "1", broken)
    layer = next(digest for digest, body in broken.blobs.items() if not body.startswith(b"{"))
    missing = Reply(404, {}, b'{"errors": [{"code": "BLOB_UNKNOWN"}]}')
    registry.on("GET", f"/v2/team/broken/blobs/{layer}", missing)
    names = [f"{registry.host}/team/{name}:1" for name in ("app", "broken")]

    done = session.pull(names, ARM)

    assert [one.image.reference for one in done.images] == [names[0]]
    assert [failure.reference for failure in done.failures] == [names[1]]
    assert isinstance(done.failures[0].error, BlobNotFound)


def test_the_observer_hears_of_progress(registry: FakeRegistry, tmp_path: Path) -> None:
    heard: list[Event] = []
    with Session(tmp_path / "store", environment={}, observe=heard.append) as session:
        session.pull(f"{registry.host}/team/app:1", ARM)

    assert isinstance(heard[0], Started)
    assert isinstance(heard[-1], ImageDone)


def test_use_is_noted_even_when_there_was_nothing_to_do(
    registry: FakeRegistry, session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = f"{registry.host}/team/app:1"
    session.pull(name, ARM)
    noted = session._store.pulled(name)
    assert noted is not None
    later = noted.pulled_at + 1000
    monkeypatch.setattr("time.time", lambda: later + 0.5)

    session.pull(name, ARM)

    again = session._store.pulled(name)
    assert again is not None
    assert again.pulled_at == later


def test_what_is_here_is_handed_on_checked_and_removed(
    registry: FakeRegistry, session: Session, tmp_path: Path
) -> None:
    name = f"{registry.host}/team/app:1"
    session.pull(name, [AMD, ARM])

    exported = session.export(name, str(tmp_path / "layout"), ["linux/arm64"])
    assert [str(each) for each in exported.images[0].platforms] == [ARM]
    assert session.verify(full=True).is_sound
    assert session.usage().images[0].reference == name
    with session.serve() as server, Session(tmp_path / "other", environment={}) as other:
        there = other.resolve(f"{server.address}/team/app:1", ARM)
        assert there.manifest.digest == exported.images[0].root.digest
    assert session.remove(resolver.Reference.parse(name)).untagged == (name,)
    assert session.collect(resolver.Retention(grace=0), dry_run=True).dry_run
    with pytest.raises(ImageNotHeld):
        session.remove(name)


def test_a_session_works_again_after_it_was_closed(
    registry: FakeRegistry, session: Session
) -> None:
    name = f"{registry.host}/team/app:1"
    session.resolve(name, ARM)
    session.close()

    assert session.pull(name, ARM).images


SBOM = "application/spdx+json"
MAC = "darwin(macOS%2014.4)/arm64"


def listed(image: Image, **members: object) -> dict[str, object]:
    """Describe an image as an index does."""
    known = {"mediaType": image.media_type, "digest": image.digest, "size": image.size}
    return {**known, **members}


@pytest.fixture
def field_index(registry: FakeRegistry) -> str:
    """An index as they are in the field: artifacts between images, versions, features, twins."""
    amd, twin, arm = build_image(AMD), build_image(AMD, [b"zstd"]), build_image(ARM)
    older, newer = build_image("freebsd/amd64:14.1"), build_image("freebsd/amd64:15.0")
    mac = build_image("linux/arm64", [b"mac"])
    sbom = from_dict(
        {
            "schemaVersion": 2,
            "mediaType": OCI_MANIFEST,
            "config": {"mediaType": SBOM, "digest": str(Digest.of(b"{}")), "size": 2},
            "layers": [],
        },
        blobs=[b"{}"],
    )
    soci = from_dict({**json.loads(sbom.body), "annotations": {"soci": "yes"}}, blobs=[b"{}"])
    platform = {"os": "linux", "architecture": "amd64"}
    nydus = {"os": "linux", "architecture": "arm64", "os.features": ["nydus.remoteimage.v1"]}
    macos = {"os": "darwin", "architecture": "arm64", "os.version": "macOS 14.4"}
    lazy = build_image(ARM, [b"nydus"])
    entries = [
        listed(sbom, platform=platform),
        listed(soci, artifactType="application/vnd.amazon.soci.index.v1+json"),
        listed(soci, artifactType=SBOM, platform={"os": "linux", "architecture": "s390x"}),
        listed(amd, platform=platform),
        listed(twin, platform=platform),
        listed(lazy, platform=nydus),
        listed(arm, platform={"os": "linux", "architecture": "arm64"}),
        listed(older, platform={"os": "freebsd", "architecture": "amd64", "os.version": "14.1"}),
        listed(newer, platform={"os": "freebsd", "architecture": "amd64", "os.version": "15.0"}),
        listed(mac, platform=macos),
    ]
    parts = [sbom, soci, amd, twin, lazy, arm, older, newer, mac]
    document = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": entries}
    registry.serve("team/field", "1", from_dict(document, parts=parts))
    return f"{registry.host}/team/field:1"


OFFERED = [
    AMD, AMD, "linux(+nydus.remoteimage.v1)/arm64", ARM, "freebsd/amd64:14.1",
    "freebsd/amd64:15.0", MAC,
]  # fmt: skip


def test_every_command_takes_the_same_entries_for_images(
    session: Session, field_index: str, tmp_path: Path
) -> None:
    offers = session.platforms(field_index)
    every = list(session.resolve_each([field_index], ["all"]))
    digests = [str(offer.descriptor.digest) for offer in offers.offers]

    assert [str(offer.platform) for offer in offers.offers] == OFFERED
    assert [(str(offer.platform or ""), offer.artifact_type) for offer in offers.artifacts] == [
        (AMD, SBOM),
        ("", "application/vnd.amazon.soci.index.v1+json"),
        ("linux/s390x", SBOM),
    ]
    assert [warning.code for warning in offers.warnings] == ["artifact-passed-over"]
    assert [getattr(found, "pinned", "").partition("@")[2] for found in every] == digests
    assert len(set(digests)) == len(digests)
    by_name = dict(zip(reversed(OFFERED), reversed(digests), strict=True))
    for name, digest in by_name.items():
        assert str(session.resolve(field_index, name, exact=True).manifest.digest) == digest
        assert str(session.inspect(field_index, name).descriptor.digest) == digest
        assert [str(one.manifest.digest) for one in session.plan(field_index, name).images] == [
            digest
        ]
        assert list(session.tags(field_index, platform=name, exact=True)) == ["1"]
    jobs = {str(job.platform): str(job.digest) for job in session.matrix(field_index).jobs}
    assert jobs == {name: by_name[name] for name in by_name if "nydus" not in name}
    (locked,) = session.lock([field_index], file=tmp_path / "resolver.lock").lock.images
    assert {one.key: str(one.digest) for one in locked.platforms} == by_name
    assert [build.name for build in session.compare(field_index).builds] == [
        name if place != 1 else f"{name} (2)" for place, name in enumerate(OFFERED)
    ]


def test_artifacts_and_other_versions_never_meet_what_is_required(
    session: Session, field_index: str
) -> None:
    def passes(*required: str, only: tuple[str, ...] = (), compatible: bool = False) -> bool:
        wanted = Requirements(
            require=tuple(map(Platform.parse, required)),
            only=tuple(map(Platform.parse, only)),
            compatible=compatible,
        )
        return session.check(field_index, wanted).passed

    assert passes(*OFFERED, only=tuple(OFFERED))
    assert not passes("linux/s390x")
    assert not passes("linux/s390x", compatible=True)
    assert passes("freebsd/amd64")
    assert not passes("freebsd/amd64:16.0")
    assert not passes("freebsd/amd64:16.0", compatible=True)
    (missing,) = session.check(
        field_index, Requirements(require=(Platform.parse("freebsd/amd64:16.0"),))
    ).findings
    assert missing.message == (
        "`freebsd/amd64:16.0` is not offered; nearest is `freebsd/amd64:14.1`, another version"
    )
    with pytest.raises(PlatformNotOffered):
        session.matrix(field_index, ["linux/s390x"])


def test_an_answer_of_two_for_one_platform_is_pulled_as_it_was_found(
    session: Session, field_index: str
) -> None:
    _, twin, *_ = session.resolve_each([field_index], ["all"])

    assert isinstance(twin, Resolution)
    assert [one.manifest.digest for one in session.plan(twin).images] == [twin.manifest.digest]


def test_a_level_below_this_machines_own_is_exact_for_local(
    session: Session, registry: FakeRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    local = Platform("linux", "amd64", "v4")
    monkeypatch.setattr("resolver.platforms.local_platform", lambda: local)
    name = f"{registry.host}/team/app:1"

    found = session.resolve(name, "local", exact=True)

    assert (str(found.platform), found.warnings) == (AMD, ())
    assert found.grade is Grade.EXACT
    assert [str(job.platform) for job in session.matrix(name, ["local"]).jobs] == [AMD]
    assert [build.name for build in session.compare(name, "local").builds] == [AMD]
