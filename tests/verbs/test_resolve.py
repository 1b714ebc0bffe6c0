"""From a tree of documents to one manifest: the descriptor vectors, and the limits."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from resolver.core.oci.descriptor import OCI_CONFIG
from resolver.core.platforms.platform import BUILTIN, Platform
from resolver.errors import (
    LimitExceeded,
    NotFound,
    PlatformNotOffered,
    PlatformUnknown,
    UnsupportedDocument,
)
from resolver.verbs.documents import PlatformRequest
from resolver.verbs.resolve import resolve_document
from tests import DATA
from tests.kit.memory_source import MemoryPlace

if TYPE_CHECKING:
    from resolver.verbs.documents import DocumentReader, RootDocument

VECTORS = DATA / "vectors" / "platforms.json"
TREES = [case for case in json.loads(VECTORS.read_text()) if case.get("tier") == "descriptor"]

AMD64 = {"os": "linux", "architecture": "amd64"}
ARM64 = {"os": "linux", "architecture": "arm64"}
UNKNOWN = {"os": "unknown", "architecture": "unknown"}
STATEMENT = {"vnd.docker.reference.type": "attestation-manifest"}


def request(platform: str, **more: Any) -> PlatformRequest:
    return PlatformRequest((Platform.parse(platform),), explicit=True, **more)


def path_of(root: dict[str, Any], platform: str, *, exact: bool = False) -> list[int] | None:
    """Resolve in a planted tree; the path from the root to the chosen entry."""
    place = MemoryPlace()
    reader, asked = place.publish("app", place.plant(root))
    try:
        found = resolve_document(reader, asked, request(platform, exact=exact), BUILTIN)
    except (PlatformNotOffered, PlatformUnknown):
        return None
    return list(next(entry.path for entry in found.considered if entry.chosen))


@pytest.mark.parametrize("case", TREES, ids=lambda case: f"{case['id']}-{case['rule']}")
def test_resolve_selects_the_entry_from_the_vectors(case: dict[str, Any]) -> None:
    asked = case["input"]

    found = path_of(asked["root"], asked["want"], exact=asked["strict"])

    assert found == case["expect"]["path"]


def test_vector_trees_exist() -> None:
    assert len(TREES) >= 12


def test_resolve_never_selects_an_attestation() -> None:
    only = {"manifests": [{"platform": UNKNOWN, "annotations": STATEMENT}]}

    assert path_of(only, "linux/amd64") is None


def test_resolve_selects_an_attestation_for_platform_unknown() -> None:
    root = {"manifests": [{"platform": AMD64}, {"platform": UNKNOWN, "annotations": STATEMENT}]}

    assert path_of(root, "unknown/unknown") == [1]


def test_resolve_skips_an_entry_of_an_unknown_type() -> None:
    strange = {"platform": AMD64, "mediaType": "application/vnd.example.thing+json"}
    place = MemoryPlace()
    good = place.plant({"platform": AMD64}, "good")
    odd = {**good, "mediaType": strange["mediaType"], "platform": AMD64}
    root = place.add(
        "application/vnd.oci.image.index.v1+json",
        {"schemaVersion": 2, "manifests": [odd, good]},
    )
    reader, asked = place.publish("app", root)

    found = resolve_document(reader, asked, request("linux/amd64"), BUILTIN)

    assert [entry.chosen for entry in found.considered] == [False, True]
    assert "not an image" in found.considered[0].reason


def nested(depth: int) -> dict[str, Any]:
    root: dict[str, Any] = {"platform": AMD64}
    for _ in range(depth):
        root = {"manifests": [root]}
    return root


def test_resolve_follows_indexes_nested_eight_deep() -> None:
    assert path_of(nested(8), "linux/amd64") == [0] * 8


def test_resolve_refuses_deeper_nesting_and_names_the_limit() -> None:
    with pytest.raises(LimitExceeded, match="limit of 8 levels"):
        path_of(nested(40), "linux/amd64")


def test_resolve_uses_the_next_index_when_the_best_has_no_match() -> None:
    root = {
        "manifests": [
            {"platform": ARM64, "manifests": [{"platform": AMD64}]},
            {"platform": {"os": "linux", "architecture": "arm", "variant": "v7"}},
        ]
    }

    assert path_of(root, "linux/arm64") == [1]


def test_resolve_reads_at_most_sixteen_configs_for_entries_without_a_platform() -> None:
    place = MemoryPlace()
    entries = [{"config_platform": ARM64} for _ in range(40)]
    reader, asked = place.publish("app", place.plant({"manifests": entries}))

    with pytest.raises(PlatformNotOffered):
        resolve_document(reader, asked, request("linux/amd64"), BUILTIN)

    assert len(place.reads) == 2 * 16


def test_resolve_stops_probing_at_an_exact_match() -> None:
    place = MemoryPlace()
    entries = [{"config_platform": AMD64} for _ in range(5)]
    reader, asked = place.publish("app", place.plant({"manifests": entries}))

    resolve_document(reader, asked, request("linux/amd64"), BUILTIN)

    assert len(place.reads) == 2


def test_resolve_from_an_index_reads_nothing_else() -> None:
    place = MemoryPlace()
    reader, asked = place.publish("app", place.plant({"manifests": [{"platform": AMD64}]}))

    resolve_document(reader, asked, request("linux/amd64"), BUILTIN)

    assert place.reads == []


def test_resolve_gives_a_reason_for_every_rejected_entry() -> None:
    place = MemoryPlace()
    root = {
        "manifests": [
            {"platform": AMD64},
            {"platform": ARM64},
            {"platform": UNKNOWN, "annotations": STATEMENT},
            {"platform": {"os": "windows", "architecture": "amd64", "os.version": "10.0.1.2"}},
            {"platform": AMD64, "annotations": {"second": "yes"}},
        ]
    }
    reader, asked = place.publish("app", place.plant(root))

    found = resolve_document(reader, asked, request("linux/amd64"), BUILTIN)

    assert [entry.chosen for entry in found.considered] == [True, False, False, False, False]
    assert [bool(entry.reason) for entry in found.considered] == [False, True, True, True, True]


def test_resolve_missing_platform_lists_offered_platforms_in_index_order() -> None:
    place = MemoryPlace()
    root = {
        "manifests": [
            {"platform": ARM64},
            {"platform": UNKNOWN, "annotations": STATEMENT},
            {"platform": AMD64},
        ]
    }
    reader, asked = place.publish("app", place.plant(root))

    with pytest.raises(PlatformNotOffered) as caught:
        resolve_document(reader, asked, request("linux/s390x"), BUILTIN)

    assert caught.value.offered == ("linux/arm64", "linux/amd64")
    assert place.reads == []


def lying() -> dict[str, Any]:
    return {"manifests": [{"platform": AMD64, "config_platform": ARM64}]}


def test_resolve_warns_when_config_contradicts_index() -> None:
    place = MemoryPlace()
    reader, asked = place.publish("app", place.plant(lying()))

    found = resolve_document(reader, asked, request("linux/amd64", verify=True), BUILTIN)

    (warning,) = found.warnings
    assert "linux/amd64" in warning.message
    assert "linux/arm64" in warning.message


def test_resolve_strict_rejects_a_contradicting_config() -> None:
    place = MemoryPlace()
    reader, asked = place.publish("app", place.plant(lying()))

    with pytest.raises(NotFound) as caught:
        resolve_document(reader, asked, request("linux/amd64", strict=True), BUILTIN)
    assert caught.value.code == "contradictory-platform"

    assert (caught.value.facts()["stated"], caught.value.facts()["actual"]) == (
        "linux/amd64",
        "linux/arm64",
    )


def test_resolve_accepts_a_config_without_a_variant() -> None:
    place = MemoryPlace()
    entry = {
        "platform": {"os": "linux", "architecture": "arm", "variant": "v6"},
        "config_platform": {"os": "linux", "architecture": "arm"},
    }
    reader, asked = place.publish("app", place.plant({"manifests": [entry]}))

    found = resolve_document(reader, asked, request("linux/arm/v6", strict=True), BUILTIN)

    assert found.warnings == ()


def test_resolve_warns_about_a_fallback() -> None:
    place = MemoryPlace()
    entry = {"platform": {"os": "linux", "architecture": "386"}}
    reader, asked = place.publish("app", place.plant({"manifests": [entry]}))

    found = resolve_document(reader, asked, request("linux/amd64"), BUILTIN)

    assert found.grade is not None
    assert found.grade.value == "abi"
    assert [warning.code for warning in found.warnings] == ["fallback-platform"]


def test_resolve_warns_about_several_windows_builds() -> None:
    place = MemoryPlace()
    entries = [
        {"platform": {"os": "windows", "architecture": "amd64", "os.version": version}}
        for version in ("10.0.17763.1", "10.0.20348.1")
    ]
    reader, asked = place.publish("app", place.plant({"manifests": entries}))

    found = resolve_document(reader, asked, request("windows/amd64"), BUILTIN)

    assert [warning.code for warning in found.warnings] == ["several-windows-builds"]


@pytest.mark.parametrize("version", ["ltsc2202", "10.0", "2022"])
def test_resolve_warns_about_an_invalid_windows_version(version: str) -> None:
    place = MemoryPlace()
    entry = {"platform": {"os": "windows", "architecture": "amd64", "os.version": "10.0.20348.1"}}
    reader, asked = place.publish("app", place.plant({"manifests": [entry]}))

    found = resolve_document(reader, asked, request(f"windows/amd64:{version}"), BUILTIN)

    assert [(warning.code, version in warning.message) for warning in found.warnings] == [
        ("unknown-windows-version", True)
    ]


class TestASinglePlatformImage:
    def test_is_refused_for_another_platform(self) -> None:
        place = MemoryPlace()
        reader, asked = place.publish("app", place.plant({"config_platform": AMD64}))

        with pytest.raises(PlatformNotOffered) as caught:
            resolve_document(reader, asked, request("linux/arm64"), BUILTIN)

        assert caught.value.offered == ("linux/amd64",)

    def test_is_returned_with_a_warning_without_a_requested_platform(self) -> None:
        place = MemoryPlace()
        reader, asked = place.publish("app", place.plant({"config_platform": AMD64}))
        default = PlatformRequest((Platform.parse("linux/arm64"),), explicit=False)

        found = resolve_document(reader, asked, default, BUILTIN)

        assert [warning.code for warning in found.warnings] == ["other-platform"]
        assert str(found.platform) == "linux/amd64"

    def test_without_architecture_has_no_platform(self) -> None:
        place = MemoryPlace()
        reader, asked = place.publish("app", place.plant({"config_platform": {"os": "linux"}}))

        with pytest.raises(PlatformUnknown, match="architecture"):
            resolve_document(reader, asked, request("linux/amd64"), BUILTIN)

    def test_that_is_an_artifact_has_no_platform_and_is_returned(self) -> None:
        place = MemoryPlace()
        chart = {"config_media_type": "application/vnd.cncf.helm.config.v1+json"}
        reader, asked = place.publish("chart", place.plant(chart))
        default = PlatformRequest((Platform.parse("linux/arm64"),), explicit=False)

        found = resolve_document(reader, asked, default, BUILTIN)

        assert found.platform is None
        with pytest.raises(PlatformUnknown):
            resolve_document(reader, asked, request("linux/arm64"), BUILTIN)


SBOM = "application/spdx+json"
EMPTY = "application/vnd.oci.empty.v1+json"
#: An SBOM that only its manifest identifies as not an image.
HIDDEN = {"platform": AMD64, "config_media_type": SBOM}


def answer(root: dict[str, Any], platform: str, **more: Any) -> tuple[list[int], list[str]]:
    """Resolve in a planted tree; the path to the chosen entry, and the codes of warnings."""
    reader, asked = (place := MemoryPlace()).publish("app", place.plant(root))
    found = resolve_document(reader, asked, replace(request(platform), **more), BUILTIN)
    chosen = next(entry.path for entry in found.considered if entry.chosen)
    return list(chosen), [warning.code for warning in found.warnings]


class TestAnArtifact:
    @pytest.mark.parametrize("more", [{}, {"verify": True}, {"strict": True}, {"exact": True}])
    def test_marked_by_the_index_is_skipped_silently(self, more: dict[str, bool]) -> None:
        marked = {"platform": AMD64, "artifactType": SBOM, "config_media_type": EMPTY}

        assert answer({"manifests": [marked, {"platform": AMD64}]}, "linux/amd64", **more) == (
            [1],
            [],
        )

    @pytest.mark.parametrize("more", [{}, {"verify": True}, {"strict": True}, {"reads": True}])
    def test_marked_by_its_manifest_is_skipped_with_a_warning(self, more: dict[str, bool]) -> None:
        root = {"manifests": [HIDDEN, {"platform": AMD64}]}

        assert answer(root, "linux/amd64", **more) == ([1], ["artifact-passed-over"])

    def test_in_a_nested_index_yields_to_an_image(self) -> None:
        inner = {"platform": AMD64, "manifests": [HIDDEN, {"platform": AMD64}]}
        hollow = {"platform": AMD64, "manifests": [HIDDEN]}
        output = ["artifact-passed-over"]

        assert answer({"manifests": [inner]}, "linux/amd64", verify=True) == ([0, 1], output)
        assert answer({"manifests": [hollow, {"platform": AMD64}]}, "linux/amd64", verify=True) == (
            [1],
            output,
        )

    def test_without_a_platform_yields_to_an_image_without_one(self) -> None:
        root = {"manifests": [{"config_media_type": SBOM}, {"config_platform": AMD64}]}

        assert answer(root, "linux/amd64") == ([1], ["artifact-passed-over"])

    def test_yields_to_a_lower_variant_when_verified(self) -> None:
        lower = {"platform": {"os": "linux", "architecture": "386"}}

        path, output = answer({"manifests": [HIDDEN, lower]}, "linux/amd64", verify=True)

        assert path == [1]
        assert output == ["artifact-passed-over", "fallback-platform"]

    def test_marked_by_the_index_is_never_returned_or_offered(self) -> None:
        root = {"manifests": [{"platform": AMD64, "artifactType": SBOM}, {"platform": ARM64}]}
        reader, asked = (place := MemoryPlace()).publish("app", place.plant(root))

        with pytest.raises(PlatformNotOffered) as caught:
            resolve_document(reader, asked, request("linux/amd64"), BUILTIN)

        assert caught.value.offered == ("linux/arm64",)

    def test_alone_is_refused_when_verified_and_otherwise_warned_about(self) -> None:
        root = {"manifests": [HIDDEN]}

        assert path_of(root, "linux/amd64") == [0]
        assert answer(root, "linux/amd64", reads=True) == ([0], ["not-an-image"])
        with pytest.raises(PlatformNotOffered):
            answer(root, "linux/amd64", strict=True)

    def test_type_equal_to_an_image_config_type_marks_an_image(self) -> None:
        root = {"manifests": [{"platform": AMD64, "artifactType": OCI_CONFIG}]}

        assert answer(root, "linux/amd64", verify=True) == ([0], [])


def freebsd(*versions: str) -> dict[str, Any]:
    return {
        "manifests": [
            {"platform": {"os": "freebsd", "architecture": "amd64", "os.version": version}}
            for version in versions
        ]
    }


class TestAVersionOutsideWindows:
    def test_that_is_equal_is_selected_at_any_position(self) -> None:
        assert answer(freebsd("14.1", "", "15.0"), "freebsd/amd64:15.0") == ([2], [])
        assert answer(freebsd("14.1", "15.0"), "freebsd/amd64:15.0", exact=True) == ([1], [])

    def test_that_is_missing_is_warned_about_and_refused_by_exact(self) -> None:
        assert answer(freebsd("14.1"), "freebsd/amd64:15.0") == ([0], ["fallback-platform"])
        assert answer(freebsd("14.1", ""), "freebsd/amd64:15.0") == ([1], [])
        with pytest.raises(PlatformNotOffered) as caught:
            answer(freebsd("14.1", ""), "freebsd/amd64:15.0", exact=True)
        assert caught.value.offered == ("freebsd/amd64:14.1", "freebsd/amd64")

    def test_that_was_not_requested_is_warned_about_with_several(self) -> None:
        assert answer(freebsd("14.1", "15.0"), "freebsd/amd64") == ([0], ["several-versions"])
        assert answer(freebsd("14.1"), "freebsd/amd64") == ([0], [])
        assert answer(freebsd("14.1", "15.0", ""), "freebsd/amd64") == ([2], [])

    def test_from_a_config_counts_like_one_from_an_entry(self) -> None:
        single = {
            "config_platform": {"os": "freebsd", "architecture": "amd64", "os.version": "14.1"}
        }
        place = MemoryPlace()
        reader, asked = place.publish("app", place.plant(single))

        with pytest.raises(PlatformNotOffered):
            resolve_document(reader, asked, request("freebsd/amd64:15.0", exact=True), BUILTIN)


def test_resolve_local_treats_a_lower_variant_as_exact() -> None:
    root = {
        "manifests": [{"platform": {"os": "linux", "architecture": "386"}}, {"platform": AMD64}]
    }
    higher = {
        "manifests": [{"platform": {**AMD64, "variant": level}} for level in ("v2", "v3", "v5")]
    }

    assert answer(root, "linux/amd64/v4", local=True) == ([1], [])
    assert answer(root, "linux/amd64/v4", local=True, exact=True) == ([1], [])
    assert answer(higher, "linux/amd64/v4", local=True, exact=True) == ([1], [])
    with pytest.raises(PlatformNotOffered):
        answer({"manifests": root["manifests"][:1]}, "linux/amd64/v4", local=True, exact=True)
    assert answer(root, "linux/amd64/v4") == ([1], ["fallback-platform"])


BLAKE3 = "blake3:" + "a" * 64
OCI_INDEX = "application/vnd.oci.image.index.v1+json"


def mixed(
    *entries: dict[str, Any], place: MemoryPlace | None = None
) -> tuple[DocumentReader, RootDocument]:
    """Publish an index with these entries."""
    place = place or MemoryPlace()
    root = place.add(OCI_INDEX, {"schemaVersion": 2, "manifests": list(entries)})
    return place.publish("app", root)


def test_unverifiable_entry_is_refused_only_when_needed() -> None:
    place = MemoryPlace()
    good = place.plant({"platform": AMD64})
    reader, asked = mixed({**place.plant({"platform": ARM64}), "digest": BLAKE3}, good, place=place)

    assert (
        str(resolve_document(reader, asked, request("linux/amd64"), BUILTIN).manifest.digest)
        == good["digest"]
    )
    with pytest.raises(UnsupportedDocument, match=f"{BLAKE3}.*linux/arm64"):
        resolve_document(reader, asked, request("linux/arm64"), BUILTIN)
    with pytest.raises(PlatformNotOffered):
        resolve_document(reader, asked, request("linux/s390x"), BUILTIN)


def test_verifiable_duplicate_is_selected_and_a_worse_entry_is_not() -> None:
    place = MemoryPlace()
    good, arm7 = place.plant({"platform": AMD64}), {**ARM64, "architecture": "arm", "variant": "v7"}
    twin = {**good, "digest": BLAKE3}
    reader, asked = mixed(twin, good, place=place)
    assert (
        str(resolve_document(reader, asked, request("linux/amd64"), BUILTIN).manifest.digest)
        == good["digest"]
    )

    fallback = place.plant({"platform": {**arm7, "variant": "v6"}})
    exact = {**place.plant({"platform": arm7}), "digest": BLAKE3}
    reader, asked = mixed(fallback, exact, place=place)
    with pytest.raises(UnsupportedDocument, match="blake3"):
        resolve_document(reader, asked, request("linux/arm/v7"), BUILTIN)


def test_unverifiable_nested_index_is_not_entered() -> None:
    place = MemoryPlace()
    good = place.plant({"platform": AMD64})
    nested = {**place.plant({"manifests": [{"platform": ARM64}]}), "digest": BLAKE3}
    reader, asked = mixed(nested, good, place=place)

    assert (
        str(resolve_document(reader, asked, request("linux/amd64"), BUILTIN).manifest.digest)
        == good["digest"]
    )
    with pytest.raises(PlatformNotOffered):
        resolve_document(reader, asked, request("linux/arm64"), BUILTIN)
