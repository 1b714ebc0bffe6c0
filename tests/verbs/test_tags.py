"""Tags for a platform: requests in order, none after the last match, and none twice."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from resolver.core.results.events import Warned
from resolver.errors import InvalidPlatform, Negative, ServerFault, Usage
from resolver.session import Session
from tests.kit.images import multi_platform, raw_document
from tests.kit.messages import Reply
from tests.kit.registry import FakeRegistry

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


RISCV, AMD64 = "linux/riscv64", "linux/amd64"


@pytest.fixture
def registry() -> Iterator[FakeRegistry]:
    with FakeRegistry() as made:
        for minor in range(10):
            platforms = [AMD64, RISCV] if minor % 2 == 0 else [AMD64]
            made.serve("app", f"1.{minor}", multi_platform(*platforms))
        yield made


def documents(registry: FakeRegistry) -> list[str]:
    """Return the requests: the index of each tag, and for hits a manifest by digest."""
    return [seen.path.rpartition("/")[2] for seen in registry.log if "/manifests/" in seen.path]


def looked_at(registry: FakeRegistry) -> list[str]:
    return sorted(name for name in documents(registry) if ":" not in name)


def test_tags_stop_at_the_requested_number(registry: FakeRegistry, tmp_path: Path) -> None:
    with Session(tmp_path) as session:
        found = session.tags(f"{registry.host}/app", platform=RISCV, newest=True, limit=2)

        assert list(found) == ["1.8", "1.6"]

    assert looked_at(registry) == ["1.6", "1.7", "1.8", "1.9"]
    # Two of them are hits, whose manifests show that they are images; it is the same one here.
    assert 5 <= len(documents(registry)) <= 6


def test_tags_cost_one_head_when_cached(registry: FakeRegistry, tmp_path: Path) -> None:
    with Session(tmp_path) as session:
        first = list(session.tags(f"{registry.host}/app", platform=RISCV))
        begin = len(registry.log)
        again = list(session.tags(f"{registry.host}/app", platform=RISCV))

    asked = [seen.method for seen in registry.log[begin:] if "/manifests/" in seen.path]
    assert first == again == ["1.0", "1.2", "1.4", "1.6", "1.8"]
    assert asked == ["HEAD"] * 10


def test_tags_range_limits_requests(registry: FakeRegistry, tmp_path: Path) -> None:
    with Session(tmp_path) as session:
        found = list(session.tags(f"{registry.host}/app", platform=RISCV, semver=">=1.5 <1.8"))

    assert found == ["1.6"]
    assert looked_at(registry) == ["1.5", "1.6", "1.7"]


def test_tags_excluded_by_flavour_cost_no_request(registry: FakeRegistry, tmp_path: Path) -> None:
    for build in ("1.8-alpine-r2", "1.8-alpine-r10", "1.7-alpine", "1.8-alpine-rc1"):
        registry.serve("app", build, multi_platform(RISCV))
    with Session(tmp_path) as session:
        found = session.tags(
            f"{registry.host}/app",
            platform=RISCV,
            semver=">=1.5",
            suffix="-alpine",
            exclude=["*-rc*"],
            newest=True,
            limit=2,
        )

        assert list(found) == ["1.8-alpine-r10", "1.8-alpine-r2"]

    assert looked_at(registry) == ["1.8-alpine-r10", "1.8-alpine-r2"]


def test_tags_send_no_more_requests_than_allowed(registry: FakeRegistry, tmp_path: Path) -> None:
    found: list[str] = []
    with Session(tmp_path) as session:
        tags = session.tags(f"{registry.host}/app", platform=RISCV, max_requests=5, limit=9)
        with pytest.raises(Negative) as caught:
            found.extend(tags)
        assert caught.value.code == "requests-spent"

    # Four indexes, and the manifest for riscv64, which is one and the same.
    assert found == ["1.0", "1.2"]
    assert looked_at(registry) == ["1.0", "1.1", "1.2", "1.3"]
    assert len(documents(registry)) == 5


def test_tags_skip_and_report_missing_and_other_content(
    registry: FakeRegistry, tmp_path: Path
) -> None:
    registry.on("GET", "/v2/app/manifests/1.0", Reply(404))
    registry.serve("app", "1.2", raw_document(b"{}"))
    output: list[str] = []
    with Session(
        tmp_path,
        observe=lambda event: output.append(event.code) if isinstance(event, Warned) else None,
    ) as session:
        found = list(session.tags(f"{registry.host}/app", platform=RISCV))

    assert found == ["1.4", "1.6", "1.8"]
    assert output == ["tag-skipped", "tag-skipped"]


def test_tags_report_a_failing_registry_as_an_error(
    registry: FakeRegistry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("resolver.clock.SystemClock.sleep", lambda *_: None)
    registry.on("GET", "/v2/app/manifests/1.1", Reply(503))
    with Session(tmp_path) as session, pytest.raises(ServerFault):
        list(session.tags(f"{registry.host}/app", platform=RISCV))


def test_tags_reject_invalid_options_before_any_request(tmp_path: Path) -> None:
    with FakeRegistry() as registry, Session(tmp_path) as session:
        with pytest.raises(InvalidPlatform):
            session.tags(f"{registry.host}/app", platform="what/is/this/now")
        with pytest.raises(Usage):
            session.tags(f"{registry.host}/app", semver="new")
        with pytest.raises(Usage):
            session.tags(f"{registry.host}/app", include=["no tag"])
        assert registry.log == []
