"""Check images: the requests and the findings."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest

from resolver.core.check.check import Requirements
from resolver.core.lint.findings import FindingPlace, Severity
from resolver.core.platforms.platform import Platform
from resolver.core.results.resolve import Failure
from resolver.demo import builders
from resolver.errors import LimitExceeded, ManifestNotFound, NotFound, NotInStore, Usage
from resolver.session import Session
from resolver.verbs import attestations as attesting
from tests.kit.attestations import refer
from tests.kit.images import (
    Image,
    build_image,
    build_index,
    entry,
    from_dict,
    listed_as,
    multi_platform,
)
from tests.kit.messages import Reply

if TYPE_CHECKING:
    from pathlib import Path

    from resolver.core.check.check import Checked
    from resolver.core.results.events import Event
    from tests.kit.registry import FakeRegistry

AMD64, ARM64 = "linux/amd64", "linux/arm64/v8"
NOW = datetime(2026, 6, 1, tzinfo=UTC)
INDEX = "application/vnd.oci.image.index.v1+json"
MANIFEST = "application/vnd.oci.image.manifest.v1+json"


def need(*platforms: str, **more: Any) -> Requirements:
    return Requirements(require=tuple(map(Platform.parse, platforms)), **more)


def messages(found: Checked) -> list[str]:
    return [finding.message for finding in found.findings]


@pytest.mark.parametrize("index_only", [False, True])
def test_check_platforms_costs_index_and_documents_then_one_head(
    registry: FakeRegistry, tmp_path: Path, index_only: bool
) -> None:
    registry.serve("app", "1", multi_platform(AMD64, ARM64, "linux/arm/v7", attestations=True))
    name = f"{registry.host}/app:1"
    wanted = need("linux/amd64", "linux/arm64", "linux/s390x")

    with Session(tmp_path) as session:
        found = session.check(name, wanted, index_only=index_only)
        # The manifests of amd64 and arm64 show that these are images; that of arm decides nothing.
        assert [seen.method for seen in registry.log] == ["GET"] * (1 if index_only else 3)
        begin = len(registry.log)
        again = session.check(name, need("linux/amd64"), index_only=index_only)
        assert [seen.method for seen in registry.log[begin:]] == ["HEAD"]

    assert messages(found) == [
        "`linux/s390x` is not offered; it offers `linux/amd64`, `linux/arm64/v8`, `linux/arm/v7`"
    ]
    assert not found.passed
    assert again.passed
    (image,) = again.looked_at
    assert image.platforms == (AMD64, ARM64, "linux/arm/v7")
    assert image.pinned == f"{registry.host}/app@{image.root.digest}"


def test_check_does_not_count_attestations_as_platforms(
    registry: FakeRegistry, tmp_path: Path
) -> None:
    image = build_image(AMD64)
    statement = {
        **entry(build_image("linux/riscv64"), annotations={"vnd.docker.reference.type": "x"}),
    }
    registry.serve("app", "1", build_index([image], attestations=True, extra=[statement]))

    with Session(tmp_path) as session:
        found = session.check(
            f"{registry.host}/app:1",
            need("linux/riscv64", only=(Platform.parse(AMD64),)),
        )

    assert messages(found) == ["`linux/riscv64` is not offered; it offers `linux/amd64`"]


def test_check_uses_the_config_where_the_index_has_no_platform(
    registry: FakeRegistry, tmp_path: Path
) -> None:
    images = [build_image(AMD64), listed_as(build_image(ARM64), "")]
    registry.serve("app", "1", build_index(images))
    registry.serve("app", "single", build_image("linux/arm/v7"))

    with Session(tmp_path) as session:
        found = session.check(f"{registry.host}/app:1", need("linux/arm64"))
        assert len(registry.log) == 3
        single = session.check(f"{registry.host}/app:single", need("linux/arm", "linux/amd64"))

    assert found.passed
    assert messages(single) == ["`linux/amd64` is not offered; it offers `linux/arm/v7`"]
    assert len(registry.log) == 5


def test_check_age_reads_required_builds_only(registry: FakeRegistry, tmp_path: Path) -> None:
    def made(platform: str, created: str) -> Image:
        return build_image(platform, config={"created": created})

    registry.serve(
        "app",
        "1",
        build_index(
            [
                made(AMD64, "2026-05-01T00:00:00Z"),
                made(ARM64, "2024-01-01T00:00:00Z"),
                made("linux/arm/v7", "1970-01-01T00:00:00Z"),
            ]
        ),
    )
    name = f"{registry.host}/app:1"

    with Session(tmp_path) as session:
        young = session.check(name, need("linux/amd64", max_age=90 * 86_400), now=NOW)
        assert len(registry.log) == 3
        old = session.check(name, need("linux/arm64", max_age=90 * 86_400), now=NOW)
        every = session.check(
            name, Requirements(max_age=90 * 86_400, ignore=("age-unknown",)), now=NOW
        )

    assert young.passed
    assert messages(old) == [
        "`linux/arm64/v8` was made 882 days ago (2024-01-01); the limit is 90 days"
    ]
    assert [image.ignored for image in every.looked_at] == [1]
    assert messages(every) == messages(old)


def test_check_finds_a_config_that_contradicts_the_index(
    registry: FakeRegistry, tmp_path: Path
) -> None:
    lie = listed_as(build_image(AMD64, config={"created": "2026-05-01T00:00:00Z"}), ARM64)
    registry.serve("app", "1", build_index([lie]))
    name = f"{registry.host}/app:1"

    with Session(tmp_path) as session:
        assert session.check(name, need(ARM64), now=NOW).passed
        young = session.check(name, need(ARM64, max_age=90 * 86_400), now=NOW)
        both = session.check(name, need(ARM64, max_age=86_400 * 90, lint=Severity.ERROR), now=NOW)
        ignore = ("contradictory-config",)
        fine = session.check(name, need(ARM64, max_age=90 * 86_400, ignore=ignore), now=NOW)

    assert [finding.rule for finding in young.findings] == ["contradictory-config"]
    assert not young.passed
    assert [finding.rule for finding in both.findings].count("contradictory-config") == 1
    assert fine.passed


def test_check_same_platforms_requires_equal_sets(registry: FakeRegistry, tmp_path: Path) -> None:
    registry.serve("base", "1", multi_platform(AMD64, ARM64, attestations=True))
    registry.serve("app", "1", multi_platform(AMD64, "linux/386"))
    registry.serve("app", "2", multi_platform(ARM64, AMD64))
    registry.serve("none", "1", build_index([]))
    host = registry.host
    same = Requirements(same_as=f"{host}/base:1")

    with Session(tmp_path) as session:
        found = session.check([f"{host}/app:1", f"{host}/app:2"], same)
        assert messages(found) == [
            "`linux/arm64/v8` is not offered; it offers `linux/amd64`, `linux/386`",
            "`linux/386` is offered, but the allowed platforms are `linux/amd64`, `linux/arm64/v8`",
        ]
        assert [image.passed for image in found.looked_at] == [False, True]
        with pytest.raises(Usage, match="offers no platform to require"):
            session.check(f"{host}/app:1", Requirements(same_as=f"{host}/none:1"))
        with pytest.raises(ManifestNotFound):
            session.check(f"{host}/app:1", Requirements(same_as=f"{host}/base:9"))


def test_check_lint_fails_from_the_requested_severity(
    registry: FakeRegistry, tmp_path: Path
) -> None:
    registry.serve("app", "1", build_index([listed_as(build_image(ARM64), "")]))
    name = f"{registry.host}/app:1"

    with Session(tmp_path) as session:
        lenient = session.check(name, Requirements(lint=Severity.ERROR))
        strict = session.check(name, Requirements(lint=Severity.WARNING))
        ignored = session.check(
            name, Requirements(lint=Severity.WARNING, ignore=("entry-without-platform",))
        )

    assert lenient.passed
    assert not strict.passed
    assert [finding.rule for finding in lenient.findings] == ["entry-without-platform"]
    assert ignored.passed
    assert ignored.findings == ()


def test_check_of_several_continues_after_a_missing_image(
    registry: FakeRegistry, tmp_path: Path
) -> None:
    registry.serve("app", "1", multi_platform(AMD64))
    names = [f"{registry.host}/app:1", f"{registry.host}/app:2"]

    with Session(tmp_path) as session:
        found = session.check(names, need(AMD64))
        with pytest.raises(NotFound):
            session.check(names[1], need(AMD64))
        with pytest.raises(Usage, match="has no requirements"):
            session.check(names, Requirements())
        with pytest.raises(NotFound):
            session.check(names[0], need("linux/arm64", max_age=1, lint=None, same_as=names[1]))

    assert [type(image).__name__ for image in found.images] == ["CheckedImage", "Failure"]
    assert not found.passed
    assert isinstance(found.failures[0], Failure)


def test_check_policy_applies_the_requirements_of_each_image(
    registry: FakeRegistry, tmp_path: Path
) -> None:
    registry.serve("app", "1", multi_platform(AMD64))
    registry.serve("app", "2", multi_platform(AMD64, ARM64))
    host = registry.host
    policy = tmp_path / "policy.yaml"
    policy.write_text(
        f"version: 1\n"
        f"defaults: {{require: linux/amd64}}\n"
        f"images:\n"
        f"  - {host}/app:1\n"
        f"  - {{image: '{host}/app:2', only: linux/amd64}}\n"
    )

    with Session(tmp_path / "store") as session:
        found = session.check_policy(policy, [f"{host}/app:2"])

    assert [image.passed for image in found.looked_at] == [True, False, True]
    # Reports point to the line of the policy with the requirement.
    assert [finding.place for finding in found.findings] == [FindingPlace(str(policy), 5, 5)]


# --- attestations ------------------------------------------------------------------------------

SPDX, SLSA = "https://spdx.dev/Document", "https://slsa.dev/provenance/v1"


def statement(subject: Image, *predicates: str, **fields: object) -> Image:
    """Make a manifest that refers to a build, with a statement about it for each predicate."""
    empty = b"{}"
    described = builders.descriptor_fields(
        builders.describe("application/vnd.oci.empty.v1+json", empty)
    )
    about = [{"name": "app", "digest": {"sha256": subject.digest.partition(":")[2]}}]
    written = [
        builders.write_json(
            {
                "_type": "https://in-toto.io/Statement/v1",
                "predicateType": predicate,
                "subject": about,
            }
        )
        for predicate in predicates
    ]
    layers = [
        {
            **builders.descriptor_fields(builders.describe("application/vnd.in-toto+json", blob)),
            "annotations": {"in-toto.io/predicate-type": predicate},
        }
        for predicate, blob in zip(predicates, written, strict=True)
    ]
    document = {
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "artifactType": "application/vnd.in-toto+json",
        "config": described,
        "layers": layers or [described],
        "subject": {"mediaType": MANIFEST, "digest": subject.digest, "size": subject.size},
        **fields,
    }
    return from_dict(document, blobs=[empty, *written])


def test_check_accepts_an_attestation_manifest_of_buildkit(
    registry: FakeRegistry, tmp_path: Path
) -> None:
    registry.serve("app", "1", multi_platform(AMD64, ARM64, attestations=True))

    with Session(tmp_path) as session:
        found = session.check(
            f"{registry.host}/app:1", need("linux/amd64", attestations=("provenance",))
        )

    assert found.passed
    # The index, the manifest of the one build that counts, the statement and its manifest.
    assert len(registry.log) == 4


@pytest.mark.parametrize("api", [True, False])
def test_check_finds_referrers_of_a_build(
    registry: FakeRegistry, tmp_path: Path, api: bool
) -> None:
    amd64, arm64 = build_image(AMD64), build_image(ARM64)
    registry.serve("app", "1", build_index([amd64, arm64], attestations=True))
    refer(registry, amd64, statement(amd64, SPDX), api=api)
    # Its own subject counts, not the list: this one refers to another manifest.
    refer(registry, arm64, statement(amd64, SPDX, annotations={"a": "b"}), api=api)

    with Session(tmp_path) as session:
        found = session.check(
            f"{registry.host}/app:1", Requirements(attestations=("sbom", "provenance"))
        )

    why = f"wrong subject: its manifest refers to `{amd64.digest}`"
    assert messages(found) == [f"the sbom of `{ARM64}` does not count: {why}"]


def test_check_ignores_referrers_that_cannot_be_verified(
    registry: FakeRegistry, tmp_path: Path
) -> None:
    image, found = build_image(AMD64), statement(build_image(AMD64), SPDX)
    registry.serve("app", "1", build_index([image]))
    odd = {"mediaType": MANIFEST, "digest": "blake3:" + "0" * 64, "size": 9}
    good = {"mediaType": MANIFEST, "digest": found.digest, "size": found.size}
    body = {"schemaVersion": 2, "mediaType": INDEX, "manifests": [odd, good]}
    registry.serve("app", None, found)
    reply = Reply(200, {"Content-Type": INDEX}, json.dumps(body).encode())
    registry.on("GET", f"/v2/app/referrers/{image.digest}", reply)
    events: list[Event] = []

    with Session(tmp_path, observe=events.append) as session:
        checked = session.check(f"{registry.host}/app:1", Requirements(attestations=("sbom",)))

    assert checked.passed
    assert any("`blake3` digests cannot be verified" in str(event) for event in events)


@pytest.mark.parametrize(
    ("made", "kind"),
    [
        ({"artifactType": "application/spdx+json"}, "sbom"),
        ({"artifactType": "application/vnd.cyclonedx+json; version=1.5"}, "sbom"),
        ({"artifactType": "application/vnd.slsa.provenance+json"}, "provenance"),
        ({"artifactType": "application/vnd.dev.cosign.artifact.sig.v1+json"}, ""),
        ({"annotations": {"in-toto.io/predicate-type": "https://in-toto.io/vsa"}}, ""),
    ],
)
def test_check_reads_the_predicate_type_of_a_statement(
    registry: FakeRegistry, tmp_path: Path, made: dict[str, object], kind: str
) -> None:
    image = build_image(AMD64)
    registry.serve("app", "1", image)
    refer(registry, image, statement(image, **made))

    with Session(tmp_path) as session:
        for asked in ("sbom", "provenance"):
            found = session.check(f"{registry.host}/app:1", Requirements(attestations=(asked,)))
            assert found.passed is (asked == kind)


def test_check_limits_the_manifests_that_refer_to_a_build(
    registry: FakeRegistry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = build_image(AMD64)
    registry.serve("app", "1", image)
    others = [statement(image, f"https://example.com/{number}") for number in range(3)]
    refer(registry, image, *others)
    name = f"{registry.host}/app:1"
    wanted = Requirements(attestations=("sbom",))

    with Session(tmp_path / "a") as session:
        assert not session.check(name, wanted).passed
    monkeypatch.setattr(attesting, "MAX_READ", 3)
    with Session(tmp_path / "b") as session:
        assert not session.check(name, wanted).passed
    monkeypatch.setattr(attesting, "MAX_READ", 2)
    with Session(tmp_path / "c") as session, pytest.raises(LimitExceeded, match="2 manifests: 3"):
        session.check(name, wanted)


def test_check_fails_when_a_requirement_cannot_be_determined(
    registry: FakeRegistry, tmp_path: Path
) -> None:
    image = build_image(AMD64)
    registry.serve("app", "1", build_index([image], attestations=True))
    name = f"{registry.host}/app:1"
    broken = build_index([image], attestations=True)
    lost = next(child for child in broken.children if child.attestation_of)

    with Session(tmp_path) as session:
        session.check(name, need(AMD64))
        registry.on("GET", f"/v2/app/manifests/{lost.digest}", Reply(404))
        with pytest.raises(ManifestNotFound):
            session.check(name, Requirements(attestations=("provenance",)))
    with Session(tmp_path, offline=True) as session:
        assert session.check(name, need(AMD64)).passed
        with pytest.raises(NotInStore):
            session.check(name, Requirements(attestations=("provenance",)))


def test_check_of_a_layout_requests_no_referrers(registry: FakeRegistry, tmp_path: Path) -> None:
    image = build_image(AMD64)
    layout = tmp_path / "layout"
    for digest, blob in {**image.blobs, image.digest: image.body}.items():
        place = layout / "blobs" / digest.replace(":", "/")
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(blob)
    (layout / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')
    entries = [{**entry(image), "annotations": {"org.opencontainers.image.ref.name": "1"}}]
    (layout / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": entries}))

    with Session(tmp_path / "store") as session:
        found = session.check(f"oci:{layout}:1", need(AMD64, attestations=("sbom",)))

    assert messages(found) == ["`linux/amd64` has no attestation of kind `sbom`"]
    assert found.looked_at[0].pinned == ""
    assert registry.log == []
