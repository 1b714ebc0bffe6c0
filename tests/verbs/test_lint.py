"""Lint images: the requests, the findings and the errors."""

from __future__ import annotations

import gzip
from typing import TYPE_CHECKING

import pytest

from resolver.core.lint.findings import Severity
from resolver.core.oci.descriptor import SCHEMA1_SIGNED
from resolver.core.results.resolve import Failure
from resolver.errors import AuthenticationRequired, LimitExceeded, ManifestNotFound, Unavailable
from resolver.session import Session
from tests.kit.attestations import IN_TOTO, SPDX, manifest, refer, statement
from tests.kit.images import (
    Image,
    build_image,
    build_index,
    build_layer,
    listed_as,
    multi_platform,
    named_by,
    raw_document,
)
from tests.kit.layouts import write_layout
from tests.kit.lint_samples import attested, changed, config_of, in_order, with_config
from tests.kit.messages import Reply

if TYPE_CHECKING:
    from pathlib import Path

    from resolver.core.lint.findings import Finding
    from tests.kit.lint_samples import Prepare
    from tests.kit.registry import FakeRegistry

AMD64, ARM64 = "linux/amd64", "linux/arm64/v8"


def findings(registry: FakeRegistry, store: Path, image: Image) -> tuple[Finding, ...]:
    """Serve an image and lint it."""
    registry.serve("app", "1", image)
    with Session(store) as session:
        return session.lint(f"{registry.host}/app:1").findings


def facts_of(found: tuple[Finding, ...]) -> list[tuple[str, str, str]]:
    return [(each.rule, each.severity.value, each.platform) for each in found]


def test_lint_requests_each_document_once_and_no_layers(
    registry: FakeRegistry, tmp_path: Path
) -> None:
    image = multi_platform(AMD64, ARM64, "linux/arm/v7", attestations=True)
    registry.serve("app", "1", image)

    with Session(tmp_path) as session:
        assert session.lint(f"{registry.host}/app:1").findings == ()
        first = len(registry.log)
        session.lint(f"{registry.host}/app:1")

    # The index; of three images manifest and config, of their attestations the manifest; what is
    # attached to the index: by the referrers API, and by a tag.
    assert first == 1 + 3 * 2 + 3 + 2
    assert len(registry.log) == first + 1 + 1


@pytest.mark.parametrize("about", ["amd64", "index", "both"])
def test_lint_reads_the_subject_of_an_sbom_of_the_index(
    registry: FakeRegistry, tmp_path: Path, about: str
) -> None:
    amd64, arm64 = build_image(AMD64), build_image(ARM64)
    image = build_index([amd64, arm64])
    registry.serve("app", "1", image)
    subjects = {"amd64": [amd64], "index": [image], "both": [amd64, arm64]}[about]
    body = statement(*subjects, predicate=SPDX)
    refer(registry, image, manifest((IN_TOTO, body, {}), subject=image, kind=IN_TOTO))

    with Session(tmp_path) as session:
        found = session.lint(f"{registry.host}/app:1").findings

    rules = [finding.rule for finding in found]
    assert rules == (["one-platform-sbom"] if about == "amd64" else [])
    if found:
        assert found[0].message.endswith(f"of the index describes `{AMD64}` only")


def test_lint_warns_if_sboms_of_the_index_cannot_be_looked_up(
    registry: FakeRegistry, tmp_path: Path
) -> None:
    image = multi_platform(AMD64, ARM64)
    registry.serve("app", "1", image)
    registry.on("GET", f"/v2/app/referrers/{image.digest}", Reply(403))
    with Session(tmp_path) as session:
        linted = session.lint(f"{registry.host}/app:1")

    assert linted.findings == ()
    (warning,) = linted.looked_at[0].warnings
    assert warning.code == "sboms-not-looked-up"


def test_lint_reports_false_configs_with_both_platforms(
    registry: FakeRegistry, tmp_path: Path
) -> None:
    image = build_index([build_image(AMD64), listed_as(build_image("linux/arm/v7"), ARM64)])

    (found,) = findings(registry, tmp_path, image)

    assert found.rule == "contradictory-config"
    assert found.severity is Severity.ERROR
    assert found.subject == f"{registry.host}/app:1"
    assert (found.platform, found.digest) == (ARM64, image.children[1].digest)
    assert found.message == f"the index says `{ARM64}`, its config `linux/arm/v7`"


@pytest.mark.parametrize(
    ("stated", "actual", "severity"),
    [
        ("linux/arm64", "linux/arm64/v8", None),
        ("linux/arm64/v8", "linux/aarch64", None),
        ("linux/arm/v6", "linux/arm", None),
        ("linux/arm", "linux/arm/v6", "error"),
        ("linux/amd64", "linux/amd64/v3", "error"),
        ("linux/ppc64le", "linux/ppc64le/power8", None),
        ("linux/ppc64le", "linux/ppc64le/power9", "error"),
        ("linux/amd64", "windows/amd64", "error"),
        ("windows/amd64:10.0.20348.1", "windows/amd64:10.0.20348.2", "note"),
        ("windows/amd64:10.0.20348.1", "windows/amd64:10.0.26100.1", "error"),
        ("windows/amd64:10.0.20348.1", "windows/amd64", None),
        ("linux/amd64:5.10", "linux/amd64:6.1", None),
    ],
)
def test_lint_reports_contradictions(
    registry: FakeRegistry, tmp_path: Path, stated: str, actual: str, severity: str | None
) -> None:
    image = build_index([listed_as(build_image(actual), stated)])

    found = [
        each.severity.value
        for each in findings(registry, tmp_path, image)
        if each.rule == "contradictory-config"
    ]

    assert found == ([] if severity is None else [severity])


@pytest.mark.parametrize(
    ("platforms", "config", "severity"),
    [
        ((AMD64, ARM64), {"config": {"Entrypoint": ["/app"]}}, "error"),
        ((AMD64, ARM64), {"config": {"Cmd": ["/app"]}}, "error"),
        ((AMD64, ARM64), {"config": {}}, "note"),
        ((AMD64, "linux/386"), {"config": {"Cmd": ["/app"]}}, "note"),
        ((ARM64, "linux/arm/v7"), {"config": {"Cmd": ["/app"]}}, "note"),
        ((AMD64, "linux/386", ARM64), {"config": {"Cmd": ["/app"]}}, "error"),
        ((AMD64, "windows/amd64:10.0.20348.1"), {"config": {"Cmd": ["/app"]}}, "error"),
        (("linux/arm/v6", "linux/arm/v7"), {"config": {"Cmd": ["/app"]}}, None),
    ],
)
def test_lint_severity_of_equal_layers(
    registry: FakeRegistry,
    tmp_path: Path,
    platforms: tuple[str, ...],
    config: dict[str, object],
    severity: str | None,
) -> None:
    layers = [build_layer({"app": b"the same"})]
    image = build_index([build_image(each, layers, config=config) for each in platforms])

    found = [
        each.severity.value
        for each in findings(registry, tmp_path, image)
        if each.rule == "identical-layers"
    ]

    assert found == ([] if severity is None else [severity])


def test_lint_finds_identical_layers_in_another_compression(
    registry: FakeRegistry, tmp_path: Path
) -> None:
    plain = gzip.decompress(build_layer({"app": b"the same"}))
    images = [build_image(AMD64, [plain]), build_image(ARM64, [gzip.compress(plain, mtime=0)])]

    assert facts_of(findings(registry, tmp_path, build_index(images))) == [
        ("identical-layers", "error", "")
    ]


def test_lint_ignores_layers_without_files(registry: FakeRegistry, tmp_path: Path) -> None:
    images = [build_image(platform, [bytes(1024)]) for platform in (AMD64, ARM64)]

    assert findings(registry, tmp_path, build_index(images)) == ()


def test_lint_reports_a_missing_nested_index_as_a_finding(
    registry: FakeRegistry, tmp_path: Path
) -> None:
    inner = build_index([build_image("linux/riscv64")])
    registry.serve("app", "1", build_index([build_image(AMD64), inner]))
    registry.on("GET", f"/v2/app/manifests/{inner.digest}", Reply(404))

    with Session(tmp_path) as session:
        found = session.lint(f"{registry.host}/app:1")

    assert [each.rule for each in found.findings] == ["missing-manifest"]
    assert found.findings[0].digest == inner.digest


def test_lint_fails_on_endless_nested_indexes(registry: FakeRegistry, tmp_path: Path) -> None:
    image = build_image(AMD64)
    for _ in range(12):
        image = build_index([image])

    with pytest.raises(LimitExceeded):
        findings(registry, tmp_path, image)


@pytest.mark.parametrize(("status", "error"), [(401, AuthenticationRequired), (503, Unavailable)])
def test_lint_failed_request_is_not_a_finding(
    registry: FakeRegistry, tmp_path: Path, status: int, error: type[Exception]
) -> None:
    image = build_image(ARM64)
    headers = {"WWW-Authenticate": 'Basic realm="x"'} if status == 401 else {"Retry-After": "0"}
    registry.on("GET", f"/v2/app/manifests/{image.digest}", Reply(status, headers))

    with pytest.raises(error):
        findings(registry, tmp_path, build_index([image]))


def test_lint_reports_a_wrong_size_with_both_numbers(
    registry: FakeRegistry, tmp_path: Path
) -> None:
    image = with_config(build_image(ARM64))
    body = image.body
    digest = config_of(image)
    actual = len(image.blobs[digest])
    wrong = body.replace(f'"size": {actual}'.encode(), f'"size": {actual + 5}'.encode(), 1)
    registry.serve("app", None, image)
    found = findings(registry, tmp_path, build_index([listed_as(raw_document(wrong), ARM64)]))

    assert [each.rule for each in found] == ["wrong-size"]
    assert f"should have {actual + 5} bytes, but has {actual}" in found[0].message


def test_lint_pin_costs_one_request_only_for_a_tag_with_digest(
    registry: FakeRegistry, tmp_path: Path
) -> None:
    image = multi_platform(AMD64, ARM64)
    child = image.children[0].digest
    registry.serve("app", "1", image)

    with Session(tmp_path) as session:
        bare = session.lint(f"{registry.host}/app@{child}")
        before = len(registry.log)
        both = session.lint(f"{registry.host}/app:1@{child}")

    assert bare.findings == ()
    assert facts_of(both.findings) == [("pinned-to-one-platform", "warning", "")]
    assert len(registry.log) == before + 1


def test_lint_tag_with_another_digest_algorithm_has_not_moved(
    registry: FakeRegistry, tmp_path: Path
) -> None:
    image = build_image(AMD64)
    registry.serve("app", None, image)
    registry.serve("app", "1", named_by(image, "sha512"))

    with Session(tmp_path) as session:
        assert session.lint(f"{registry.host}/app:1@{image.digest}").findings == ()


def test_lint_reports_a_removed_tag(registry: FakeRegistry, tmp_path: Path) -> None:
    image = build_image(AMD64)
    registry.serve("app", None, image)

    with Session(tmp_path) as session:
        found = session.lint(f"{registry.host}/app:old@{image.digest}")

    assert [each.message for each in found.findings] == ["the tag `old` no longer exists"]


def test_lint_offline_skips_tag_lookup_with_a_note(registry: FakeRegistry, tmp_path: Path) -> None:
    image = build_image(AMD64)
    registry.serve("app", "1", image)
    name = f"{registry.host}/app@{image.digest}"
    with Session(tmp_path) as session:
        session.lint(name)

    with Session(tmp_path, offline=True) as session:
        found = session.lint(name.replace("@", ":1@"))

    assert found.findings == ()
    assert [each.code for each in found.looked_at[0].warnings] == ["tag-not-looked-up"]


def test_lint_of_several_continues_after_a_failure(registry: FakeRegistry, tmp_path: Path) -> None:
    registry.serve("app", "1", build_image(AMD64))
    names = [f"{registry.host}/app:{tag}" for tag in ("2", "1")]

    with Session(tmp_path) as session:
        found = session.lint(names)
        with pytest.raises(ManifestNotFound):
            session.lint(names[0])

    assert [type(each) is Failure for each in found.images] == [True, False]
    assert [each.reference for each in found.failures] == names[:1]
    assert not found.reaches(Severity.NOTE)


def test_lint_counts_ignored_findings(registry: FakeRegistry, tmp_path: Path) -> None:
    registry.serve("app", "1", build_index([build_image("linux/arm")]))

    with Session(tmp_path) as session:
        found = session.lint(f"{registry.host}/app:1", ignore=["missing-variant"])

    assert found.findings == ()
    assert found.looked_at[0].ignored == 1


def test_lint_of_a_layout_equals_lint_of_a_registry(tmp_path: Path) -> None:
    image = build_index([build_image(AMD64), listed_as(build_image(AMD64), ARM64)])
    write_layout(tmp_path / "layout", {"1": image})

    with Session(tmp_path / "store") as session:
        found = session.lint(f"oci:{tmp_path}/layout:1", deep=True)

    assert "contradictory-config" in {each.rule for each in found.findings}


@pytest.mark.parametrize(
    ("prepare", "expected"),
    [
        pytest.param(
            in_order(AMD64, AMD64),
            [("duplicate-platform", "note", AMD64)],
            id="one entry twice",
        ),
        pytest.param(
            attested(""), [("dangling-attestation", "warning", "unknown/unknown")], id="about none"
        ),
        pytest.param(
            attested("sha256:no"),
            [("dangling-attestation", "warning", "unknown/unknown")],
            id="about no digest",
        ),
        pytest.param(
            changed(build_image(ARM64), mediaType=SCHEMA1_SIGNED),
            [("schema-1", "error", ARM64)],
            id="an entry of schema 1",
        ),
        pytest.param(
            changed(build_image(ARM64), mediaType="application/x"),
            [("no-image", "note", "")],
            id="nothing but something else",
        ),
        pytest.param(
            in_order("linux/amd64/v3", "linux/amd64/v2", AMD64),
            [
                ("baseline-not-first", "warning", "linux/amd64/v2"),
                ("baseline-not-first", "warning", "linux/amd64/v3"),
            ],
            id="two levels before the one for all",
        ),
        pytest.param(
            in_order("linux/"),
            [
                ("config-without-platform", "warning", "linux/unknown"),
                ("unknown-architecture", "warning", "linux/unknown"),
            ],
            id="half a platform",
        ),
    ],
)
def test_lint_finds_the_other_rules(
    registry: FakeRegistry,
    tmp_path: Path,
    prepare: Prepare,
    expected: list[tuple[str, str, str]],
) -> None:
    name = prepare(registry)
    with Session(tmp_path) as session:
        found = session.lint(f"{registry.host}/{name}").findings

    assert [each for each in facts_of(found) if each[0] != "contradictory-config"] == expected


def test_lint_notes_a_config_of_the_other_media_type_family(
    registry: FakeRegistry, tmp_path: Path
) -> None:
    image = build_image(ARM64)
    body = image.body.replace(b"oci.image.config.v1+json", b"docker.container.image.v1+json")
    registry.serve("app", None, image)

    found = findings(registry, tmp_path, build_index([listed_as(raw_document(body), ARM64)]))

    assert facts_of(found) == [("mixed-media-types", "note", ARM64)]
