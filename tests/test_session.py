"""The library's verbs about pulling and keeping, as the README shows them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

import resolver
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
from tests.fakes.images import build_image, multi_platform
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
        assert there.index is not None
        assert exported.images[0].original == there.index
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
