"""Misleading indexes (area "index" of the catalogue)."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING

import pytest

from tests.adversarial.actor import refused
from tests.adversarial.rusage import measured
from tests.kit.images import (
    build_image,
    build_index,
    entry,
    from_dict,
    listed_as,
    multi_platform,
)
from tests.kit.registry import FakeRegistry, Reply

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tests.adversarial.actor import Actor
    from tests.adversarial.hosts import Hosts
    from tests.kit.images import Image

HEAD = {"schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json"}


def index_of(*entries: Mapping[str, object], parts: tuple[Image, ...] = ()) -> Image:
    """Make an index with exactly these entries."""
    return from_dict({**HEAD, "manifests": [*entries]}, parts=parts)


@pytest.fixture
def registry(hosts: Hosts) -> FakeRegistry:
    return hosts.registry()


def test_idx_001_attestation_is_never_selected(act: Actor, registry: FakeRegistry) -> None:
    both = multi_platform("linux/amd64", attestations=True)
    image, attestation = both.children
    stated = next(
        each for each in json.loads(both.body)["manifests"] if each["digest"] == attestation.digest
    )
    registry.serve("app", "both", index_of(stated, entry(image), parts=(both,)))
    registry.serve("app", "only", index_of(stated, parts=(both,)))
    found = act("RESOLVE", f"{registry.host}/app:both", "-p", "linux/amd64")
    assert found.answer["manifest"]["digest"] == image.digest
    # A request for `unknown/unknown` returns it: docs/platform-matching.md, "Eligible entries".
    for words in (("-p", "linux/amd64"), ()):
        outcome = act("RESOLVE", f"{registry.host}/app:only", *words)
        refused(outcome, "PLATFORM")
        assert attestation.digest not in outcome.out


def test_idx_002_missing_platform_lists_offered_platforms(
    act: Actor, registry: FakeRegistry
) -> None:
    # In index order (docs/platform-matching.md, "No match").
    registry.serve("app", "1", multi_platform("linux/arm64", "linux/amd64"))
    outcomes = [act("RESOLVE", f"{registry.host}/app:1", "-p", "linux/s390x") for _ in range(2)]
    refused(outcomes[0], "PLATFORM", "linux/s390x")
    assert outcomes[0].failure["offered"] == ["linux/arm64", "linux/amd64"]
    assert outcomes[0].out == outcomes[1].out
    assert registry.requests(path_contains="/manifests/sha256:") == []


def test_idx_003_nested_index_is_followed(act: Actor, registry: FakeRegistry) -> None:
    inner = multi_platform("linux/amd64")
    registry.serve("app", "1", build_index([inner]))
    outcome = act("RESOLVE", f"{registry.host}/app:1", "-p", "linux/amd64")
    assert outcome.answer["manifest"]["digest"] == inner.children[0].digest
    assert len(registry.log) <= 4


@pytest.mark.parametrize("platform", ["", "linux/amd64"])
def test_idx_004_endless_nesting_ends_at_the_limit(
    act: Actor, registry: FakeRegistry, platform: str
) -> None:
    image = build_image("linux/amd64")
    for _ in range(40):
        image = build_index([listed_as(image, platform)])
    registry.serve("app", "1", image)
    outcome = act("RESOLVE", f"{registry.host}/app:1", "-p", "linux/amd64")
    refused(outcome, "LIMIT", "8")
    assert "deep" in outcome.text or "depth" in outcome.text or "levels" in outcome.text, outcome
    assert len(registry.requests(path_contains="/manifests/")) <= 33


def test_idx_008_child_manifest_of_another_size_is_refused(
    act: Actor, registry: FakeRegistry
) -> None:
    # Without --verify the index answers alone, by the request budget of `resolve`.
    image = build_image("linux/amd64")
    stated = {**entry(image), "size": 500}
    registry.serve("app", "1", index_of(stated, parts=(image,)))
    for verb in ("RESOLVE --verify", "PULL"):
        outcome = act(verb, f"{registry.host}/app:1", *_platform(verb))
        refused(outcome, "INTEGRITY", "500", str(image.size))


def _platform(verb: str) -> tuple[str, ...]:
    return () if verb == "PULL" else ("-p", "linux/amd64")


def test_idx_011_entry_without_a_platform_is_matched_by_its_config(
    act: Actor, registry: FakeRegistry
) -> None:
    image = build_image("linux/arm64")
    registry.serve("app", "1", build_index([listed_as(image, "")]))
    refused(act("RESOLVE", f"{registry.host}/app:1", "-p", "linux/amd64"), "PLATFORM")
    assert len(registry.requests("GET", "/blobs/")) == 1
    outcome = act("RESOLVE", f"{registry.host}/app:1", "-p", "linux/arm64")
    assert outcome.answer["manifest"]["digest"] == image.digest
    assert len(registry.requests("GET", "/blobs/")) <= 2


def test_idx_012_index_and_config_that_disagree_are_reported(
    act: Actor, registry: FakeRegistry
) -> None:
    image = listed_as(build_image("linux/arm64"), "linux/amd64")
    registry.serve("app", "1", build_index([image]))
    place = (f"{registry.host}/app:1", "-p", "linux/amd64")
    outcome = act("RESOLVE --verify", *place)
    assert outcome.status == 0
    warning = next(line for line in outcome.err.splitlines() if line.startswith("warning: "))
    assert "linux/amd64" in warning
    assert "linux/arm64" in warning
    assert [each["message"] for each in outcome.answer["warnings"]] == [warning[9:]]
    refused(act("RESOLVE --strict", *place), "PLATFORM", "linux/amd64", "linux/arm64")


def test_idx_014_empty_index_offers_no_platform(act: Actor, registry: FakeRegistry) -> None:
    registry.serve("app", "1", index_of())
    for verb in ("RESOLVE", "PULL"):
        refused(act(verb, f"{registry.host}/app:1"), "PLATFORM")
    outcome = act("PULL --all-platforms", f"{registry.host}/app:1", batch=True)
    assert outcome.status == 3


def test_idx_017_all_platforms_with_one_missing_fail_and_can_be_resumed(
    act: Actor, registry: FakeRegistry
) -> None:
    # Resolving and verifying all platforms reads every document.
    index = multi_platform("linux/amd64", "linux/arm64", "linux/s390x")
    registry.serve("app", "1", index)
    missing = index.children[1]
    path = f"/v2/app/manifests/{missing.digest}"
    registry.on("GET", path, Reply(404), times=1)
    place = f"{registry.host}/app:1"
    outcome = act("PULL --all-platforms", place, batch=True)
    assert outcome.status == 3
    results = outcome.answer["results"]
    assert ["error" in result for result in results] == [False, True, False]
    before = len(registry.log)
    assert act("PULL --all-platforms", place).status == 0
    again = [seen for seen in registry.log[before:] if seen.method == "GET"]
    config = json.loads(missing.body)["config"]["digest"]
    assert [seen.path for seen in again] == [path, f"/v2/app/blobs/{config}"]


@pytest.mark.parametrize("command", ["lint", "compare"])
def test_thousands_of_missing_entries_use_little_memory(
    act: Actor, registry: FakeRegistry, command: str
) -> None:
    """A quarter of the entries that an index may have, and the price of each."""
    entries = [
        {
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "digest": f"sha256:{hashlib.sha256(str(number).encode()).hexdigest()}",
            "size": 5,
            "platform": {"os": "linux", "architecture": f"a{number % 9}"},
        }
        for number in range(5_000)
    ]
    registry.serve("app", "many", index_of(*entries))
    outcome, kilobytes = measured((command, f"{registry.host}/app:many", "--json"), act.store)

    assert outcome.status == (1 if command == "lint" else 3)
    assert json.loads(outcome.out)
    assert kilobytes < 100 * 1024
