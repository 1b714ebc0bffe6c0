"""Pull, export and removal through the library, as the README shows them."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

import resolver
from resolver.core.check.check import Requirements
from resolver.core.oci.descriptor import OCI_CONFIG, OCI_INDEX, OCI_MANIFEST
from resolver.core.oci.digest import Digest
from resolver.core.platforms.platform import Grade, Platform
from resolver.core.results.pull_events import ImageDone, Started
from resolver.core.results.resolve import Resolution
from resolver.errors import (
    BlobNotFound,
    ImageNotHeld,
    Negative,
    NotInStore,
    NotLocked,
    PlatformNotOffered,
    Usage,
)
from resolver.session import Session
from tests.kit.images import Image, build_image, from_dict, multi_platform
from tests.kit.registry import FakeRegistry, Reply

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from resolver.core.results.events import Event

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


def test_session_plans_a_resolution_and_pulls_a_plan(
    registry: FakeRegistry, session: Session
) -> None:
    found = session.resolve(f"{registry.host}/team/app:1", ARM)
    plan = session.plan(found)
    done = session.pull(plan)

    assert [image.manifest.digest for image in plan.images] == [found.manifest.digest]
    assert plan.bytes_missing > 0
    assert done.bytes_fetched == plan.bytes_missing
    assert [image.platforms for image in session.images()] == [(ARM,)]


def test_resolved_answer_is_stable_when_its_tag_moves(
    registry: FakeRegistry, session: Session
) -> None:
    found = session.resolve(f"{registry.host}/team/app:1", ARM)
    registry.serve("team/app", "1", build_image(ARM, [b"other"]))

    (image,) = session.plan(found).images

    assert image.manifest.digest == found.manifest.digest
    assert image.reference == found.reference


def test_plan_requests_no_blob(registry: FakeRegistry, session: Session) -> None:
    session.plan(f"{registry.host}/team/app:1", [AMD, ARM])

    assert blob_requests(registry) == []


def test_platform_all_selects_every_platform(registry: FakeRegistry, session: Session) -> None:
    plan = session.plan(f"{registry.host}/team/app:1", "all")

    assert [str(image.platform) for image in plan.images] == [AMD, ARM]


def test_one_missing_platform_of_several_is_an_error(
    registry: FakeRegistry, session: Session
) -> None:
    with pytest.raises(PlatformNotOffered):
        session.plan(f"{registry.host}/team/app:1", [AMD, "linux/s390x"])


def test_pull_respects_the_download_limit(registry: FakeRegistry, session: Session) -> None:
    with pytest.raises(Negative) as caught:
        session.pull(f"{registry.host}/team/app:1", ARM, max_download=1)
    assert caught.value.code == "plan-too-large"

    assert blob_requests(registry) == []


def test_pull_of_held_image_costs_one_head(registry: FakeRegistry, session: Session) -> None:
    name = f"{registry.host}/team/app:1"
    session.pull(name, ARM)
    before = len(registry.log)

    session.pull(name, ARM)

    assert [(seen.method, seen.path) for seen in registry.log[before:]] == [
        ("HEAD", "/v2/team/app/manifests/1")
    ]


def test_pull_rejects_a_local_path(session: Session) -> None:
    with pytest.raises(Usage):
        session.plan("oci:somewhere")


def test_pull_offline_requests_nothing(
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


def test_pull_of_two_images_keeps_one_when_the_other_fails(
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


def test_observer_receives_progress_events(registry: FakeRegistry, tmp_path: Path) -> None:
    heard: list[Event] = []
    with Session(tmp_path / "store", environment={}, observe=heard.append) as session:
        session.pull(f"{registry.host}/team/app:1", ARM)

    assert isinstance(heard[0], Started)
    assert isinstance(heard[-1], ImageDone)


def test_pull_records_use_even_without_a_change(
    registry: FakeRegistry, session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = f"{registry.host}/team/app:1"
    session.pull(name, ARM)
    noted = session._context.store.pulled(name)
    assert noted is not None
    later = noted.pulled_at + 1000
    monkeypatch.setattr("time.time", lambda: later + 0.5)

    session.pull(name, ARM)

    again = session._context.store.pulled(name)
    assert again is not None
    assert again.pulled_at == later


def test_session_exports_verifies_and_removes_an_image(
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
        assert there.index is not None
        assert exported.images[0].original == there.index
    assert session.remove(resolver.Reference.parse(name)).untagged == (name,)
    assert session.collect(resolver.Retention(grace=0), dry_run=True).dry_run
    with pytest.raises(ImageNotHeld):
        session.remove(name)


def test_session_works_again_after_closing(registry: FakeRegistry, session: Session) -> None:
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
    """A realistic index: artifacts between images, versions, features, duplicates."""
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


def test_every_command_selects_the_same_image_entries(
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


def test_artifacts_and_other_versions_do_not_meet_requirements(
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


def test_duplicate_platform_is_pulled_as_resolved(session: Session, field_index: str) -> None:
    _, twin, *_ = session.resolve_each([field_index], ["all"])

    assert isinstance(twin, Resolution)
    assert [one.manifest.digest for one in session.plan(twin).images] == [twin.manifest.digest]


def test_platform_local_treats_a_lower_variant_as_exact(
    session: Session, registry: FakeRegistry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    local = Platform("linux", "amd64", "v4")
    monkeypatch.setattr("resolver.files.platforms.local_platform", lambda: local)
    name = f"{registry.host}/team/app:1"

    found = session.resolve(name, "local", exact=True)

    assert (str(found.platform), found.warnings) == (AMD, ())
    assert found.grade is Grade.EXACT
    assert [str(job.platform) for job in session.matrix(name, ["local"]).jobs] == [AMD]
    assert [build.name for build in session.compare(name, "local").builds] == [AMD]
    dockerfile = tmp_path / "Dockerfile"
    dockerfile.write_text(f"FROM {name}\n")
    assert session.pin(dockerfile, require=["local"]).findings == ()
    assert [each.rule for each in session.pin(dockerfile, require=[local]).findings] == [
        "pinned-platform-missing"
    ]
    session.pull(name, "local")
    (exported,) = session.export(name, str(tmp_path / "out"), ["local"], exact=True).images
    assert [str(platform) for platform in exported.platforms] == [AMD]
    with pytest.raises(PlatformNotOffered):
        session.export(name, str(tmp_path / "out"), [local], exact=True)


def test_platform_local_in_a_lock_is_the_recorded_platform(
    session: Session, registry: FakeRegistry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run_on(machine: Platform) -> None:
        monkeypatch.setattr("resolver.files.platforms.local_platform", lambda: machine)

    name, file = f"{registry.host}/team/app:1", tmp_path / "resolver.lock"
    run_on(Platform("linux", "amd64", "v4"))
    (image,) = session.lock([name], ["local"], file=file).lock.images
    assert image.only == (AMD,)

    run_on(Platform("linux", "amd64", "v3"))
    found = session.by_lock(file).resolve(name, "local", exact=True)
    assert (found.grade, str(found.platform), found.warnings) == (Grade.EXACT, AMD, ())
    assert not session.check_lock(platforms=["local"], file=file).drifted
    (entry,) = session.lock_entries(platform="local", file=file)
    assert entry.digest == found.manifest.digest

    run_on(Platform("linux", "arm64", "v8"))
    with pytest.raises(NotLocked):
        session.by_lock(file).resolve(name, "local")


def test_platform_local_exports_the_first_offered_of_several(
    session: Session, registry: FakeRegistry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "resolver.files.platforms.local_platform", lambda: Platform("darwin", "arm64", "v8")
    )
    name = f"{registry.host}/team/app:1"
    dockerfile = tmp_path / "Dockerfile"
    dockerfile.write_text(f"FROM {name}\n")

    session.pull(name, "local")

    (exported,) = session.export(name, str(tmp_path / "out"), ["local"], exact=True).images
    assert [str(platform) for platform in exported.platforms] == [ARM]
    assert session.pin(dockerfile, require=["local"]).findings == ()


def unmarked(config: str = SBOM, **members: object) -> Image:
    """Make an artifact that only its manifest identifies as one."""
    fields = {"mediaType": config, "digest": str(Digest.of(b"{}")), "size": 2}
    manifest = {"schemaVersion": 2, "mediaType": OCI_MANIFEST, "config": fields, "layers": []}
    return from_dict({**manifest, **members}, blobs=[b"{}"])


ARTIFACTS = {
    "config": {},
    "artifactType": {"config": OCI_CONFIG, "artifactType": SBOM},
    "empty config": {"config": "application/vnd.oci.empty.v1+json", "artifactType": SBOM},
}


@pytest.fixture(params=ARTIFACTS)
def hidden(registry: FakeRegistry, request: pytest.FixtureRequest) -> str:
    """Return an index whose only entry for arm64 is an artifact without an artifact type."""
    sbom, amd, lower = unmarked(**ARTIFACTS[request.param]), build_image(AMD), "linux/arm/v7"
    arm = build_image(lower)
    entries = [
        listed(sbom, platform={"os": "linux", "architecture": "arm64"}),
        listed(amd, platform={"os": "linux", "architecture": "amd64"}),
        listed(arm, platform={"os": "linux", "architecture": "arm", "variant": "v7"}),
    ]
    document = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": entries}
    registry.serve("team/hidden", "1", from_dict(document, parts=[sbom, amd, arm]))
    registry.serve("team/hidden", "2", multi_platform(AMD, ARM))
    registry.serve("team/hidden", "artifact", sbom)
    return f"{registry.host}/team/hidden"


V7 = "linux/arm/v7"


def requires(**wishes: object) -> Requirements:
    read = {
        key: tuple(map(Platform.parse, value)) if isinstance(value, list) else value
        for key, value in wishes.items()
    }
    return Requirements(**read)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("wanted", "passes", "by_index", "read"),
    [
        ({"require": [ARM]}, False, True, 1),
        ({"require": [AMD]}, True, True, 1),
        ({"require": [AMD, V7], "only": [AMD, V7]}, True, False, 3),
        ({"forbid": [ARM]}, True, False, 1),
        ({"forbid": [AMD]}, False, False, 1),
        ({"only": [AMD, V7]}, True, False, 1),
        # The next best entry is chosen once the artifact is recognised; its manifest is read too.
        ({"require": [ARM], "compatible": True}, True, True, 2),
        ({"require": ["linux/s390x"]}, False, False, 0),
    ],
)
def test_artifact_known_by_its_manifest_decides_no_check(
    session: Session,
    registry: FakeRegistry,
    hidden: str,
    wanted: dict[str, object],
    passes: bool,
    by_index: bool,
    read: int,
) -> None:
    name = f"{hidden}:1"

    assert session.check(name, requires(**wanted), index_only=True).passed is by_index
    assert [seen.method for seen in registry.log] == ["GET"]
    begin = len(registry.log)
    found = session.check(name, requires(**wanted))

    assert found.passed is passes
    assert [seen.method for seen in registry.log[begin:]] == ["HEAD", *["GET"] * read]
    (image,) = found.looked_at
    warned = {warning.code for warning in image.warnings}
    assert warned <= {"artifact-passed-over"}
    assert bool(warned) is (ARM not in image.platforms)


def test_artifact_in_another_image_is_not_a_platform(session: Session, hidden: str) -> None:
    same = Requirements(same_as=f"{hidden}:1")

    assert session.check(f"{hidden}:1", same).passed
    (more,) = session.check(f"{hidden}:2", same).looked_at
    assert {(each.rule, each.platform) for each in more.findings} == {
        ("platform-missing", V7),
        ("platform-not-allowed", ARM),
    }
    expected = session.compare(f"{hidden}:2", expect_as=f"{hidden}:1").expected
    assert [str(platform) for platform in expected] == [AMD, V7]
    assert [str(each) for each in session.compare(f"{hidden}:1", expect=[ARM]).missing] == [ARM]
    change = session.compare_images(f"{hidden}:2", f"{hidden}:1", expect=[ARM])
    assert [str(each) for each in change.missing] == [ARM]


def test_artifact_known_by_its_manifest_makes_no_matrix_job(
    session: Session, registry: FakeRegistry, hidden: str
) -> None:
    def jobs(*platforms: str, index_only: bool = False) -> list[str]:
        found = session.matrix(f"{hidden}:1", platforms, index_only=index_only)
        return [str(job.platform) for job in found.jobs]

    assert jobs(index_only=True) == [ARM, AMD, V7]
    assert [seen.method for seen in registry.log] == ["GET"]
    assert jobs(AMD) == [AMD]
    assert [seen.method for seen in registry.log[1:]] == ["HEAD", "GET"]
    assert jobs() == [AMD, V7]
    assert [seen.method for seen in registry.log[3:]] == ["HEAD", "GET", "GET"]
    with pytest.raises(PlatformNotOffered):
        jobs(ARM)


def test_artifact_known_by_its_manifest_is_no_platform_for_tags_or_pin(
    session: Session, hidden: str, tmp_path: Path
) -> None:
    assert list(session.tags(hidden, platform=ARM, exact=True)) == ["2"]
    assert list(session.tags(hidden, platform=ARM)) == ["1", "2"]
    assert list(session.tags(hidden, platform=AMD)) == ["1", "2"]

    def missing(text: str, *platforms: str) -> list[str]:
        file = tmp_path / "compose.yaml"
        file.write_text(text)
        return [each.platform for each in session.pin(file, require=platforms).findings]

    compose = f"services: {{a: {{image: '{hidden}:1'%s}}}}\n"
    assert missing(compose % "", AMD, ARM) == [ARM]
    # A platform named in the file may be one that runs there instead.
    assert missing(compose % f", platform: {ARM}") == []
    assert missing(compose % ", platform: linux/s390x") == ["linux/s390x"]


def test_artifact_without_an_image_is_found_pulled_and_refused_when_verified(
    session: Session, registry: FakeRegistry, hidden: str
) -> None:
    name = f"{hidden}:1"

    # One request is enough; the index is not verified.
    found = session.resolve(name, ARM, exact=True)
    assert ([seen.method for seen in registry.log], found.warnings) == (["GET"], ())
    with pytest.raises(PlatformNotOffered):
        session.resolve(name, ARM, exact=True, verify=True)
    # Once its manifest is stored, the artifact is recognised.
    known = session.resolve(name, ARM, exact=True)
    assert known.manifest.digest == found.manifest.digest
    assert [warning.code for warning in known.warnings] == ["not-an-image"]
    assert session.pull(f"{hidden}:artifact").images
    assert session.pull(f"{hidden}@{found.manifest.digest}").images
