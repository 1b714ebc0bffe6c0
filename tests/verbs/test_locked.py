"""Answers from a lock equal those of a registry, without a request."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resolver.core.platforms.platform import Platform
from resolver.core.results.resolve import Failure
from resolver.errors import NotInStore, NotLocked, ResolverError
from resolver.session import Session
from tests.kit.images import build_image, build_index, multi_platform

if TYPE_CHECKING:
    from pathlib import Path

    from resolver.core.results.resolve import Resolution
    from tests.kit.registry import FakeRegistry

AMD64, ARM64, ARMV7 = "linux/amd64", "linux/arm64/v8", "linux/arm/v7"
#: Made so that order, variants, versions and fallbacks all decide something.
OFFERED = [
    "windows/amd64:10.0.26100.1",
    "windows/amd64:10.0.20348.9",
    "linux/amd64",
    "linux/arm/v7",
    "linux/arm/v6",
    "linux/ppc64le",
]
WANTED = [
    "linux/amd64", "linux/arm64", "linux/arm/v7", "linux/arm/v5", "linux/386", "linux/s390x",
    "windows/amd64", "windows/amd64:10.0.20348", "windows/amd64:ltsc2025", "linux/amd64/v3",
    "local", None,
]  # fmt: skip


def without_entries(answer: Resolution | ResolverError) -> object:
    """What both answers must agree on; an index has attestations, a lock does not."""
    if isinstance(answer, ResolverError):
        return type(answer).__name__
    return replace(answer, considered=(), manifest=replace(answer.manifest, annotations=()))


def answer_of(session: Session, name: str, platform: str | None, *, exact: bool) -> object:
    try:
        return without_entries(session.resolve(name, platform, exact=exact))
    except ResolverError as error:
        return error.kind.name


def answered(
    session: Session, file: Path, name: str, platform: str | None, *, exact: bool
) -> object:
    try:
        return without_entries(session.by_lock(file).resolve(name, platform, exact=exact))
    except NotLocked:
        return "NOT_FOUND"


@pytest.mark.parametrize("single", [False, True])
def test_locked_resolve_answers_like_the_registry(
    registry: FakeRegistry, tmp_path: Path, single: bool
) -> None:
    image = build_image(ARMV7) if single else multi_platform(*OFFERED, attestations=True)
    registry.serve("app", "1", image)
    name, file = f"{registry.host}/app:1", tmp_path / "resolver.lock"
    with Session(tmp_path / "store") as session:
        session.lock([name], file=file)
        for platform in WANTED:
            for exact in (False, True):
                online = answer_of(session, name, platform, exact=exact)
                before = len(registry.log)
                locked = answered(session, file, name, platform, exact=exact)
                assert locked == online, (platform, exact)
                assert len(registry.log) == before


def test_locked_resolve_does_not_use_a_fallback_for_an_exact_platform(
    registry: FakeRegistry, tmp_path: Path
) -> None:
    registry.serve("app", "1", multi_platform(ARMV7, ARM64))
    name, file = f"{registry.host}/app:1", tmp_path / "resolver.lock"
    with Session(tmp_path / "store") as session:
        session.lock([name], ["linux/arm/v7"], file=file)

        assert str(session.by_lock(file).resolve(name, "linux/arm/v7").platform) == ARMV7
        with pytest.raises(NotLocked) as caught:
            session.by_lock(file).resolve(name, "linux/arm64")
    assert caught.value.kind.status == 7
    assert "it was locked for `linux/arm/v7`" in caught.value.hints()


def test_locked_resolve_uses_a_deliberately_locked_fallback(
    registry: FakeRegistry, tmp_path: Path
) -> None:
    registry.serve("app", "1", multi_platform(AMD64, ARMV7))
    name, file = f"{registry.host}/app:1", tmp_path / "resolver.lock"
    with Session(tmp_path / "store") as session:
        session.lock([name], ["linux/arm64"], file=file)
        found = session.by_lock(file).resolve(name, "linux/arm64")

    assert str(found.platform) == ARMV7
    assert [each.code for each in found.warnings] == ["fallback-platform"]


def test_locked_resolve_many_keeps_order_and_failures(
    registry: FakeRegistry, tmp_path: Path
) -> None:
    registry.serve("app", "1", multi_platform(AMD64, ARM64))
    name, file = f"{registry.host}/app:1", tmp_path / "resolver.lock"
    with Session(tmp_path / "store") as session:
        session.lock([name], file=file)
        found = list(
            session.by_lock(file).resolve_each(
                [name, "nginx", f"{registry.host}/app:1"], ["linux/s390x", "all"]
            )
        )

    words = [
        (each.wanted, type(each.error).__name__)
        if isinstance(each, Failure)
        else str(each.platform)
        for each in found
    ]
    assert words == [
        (("linux/s390x",), "NotLocked"), AMD64, ARM64,
        (("linux/s390x",), "NotLocked"), (("all",), "NotLocked"),
        (("linux/s390x",), "NotLocked"), AMD64, ARM64,
    ]  # fmt: skip


def test_locked_resolve_rejects_local_paths(registry: FakeRegistry, tmp_path: Path) -> None:
    registry.serve("app", "1", multi_platform(AMD64))
    file = tmp_path / "resolver.lock"
    with Session(tmp_path / "store") as session:
        session.lock([f"{registry.host}/app:1"], file=file)
        with pytest.raises(NotLocked):
            session.by_lock(file).resolve("store:app:1")


def test_locked_pull_fetches_the_locked_digest_after_the_tag_moved(
    registry: FakeRegistry, tmp_path: Path
) -> None:
    old, new = (
        build_index([build_image(AMD64, [word]), build_image(ARM64, [word])])
        for word in (b"old", b"new")
    )
    name, file = f"{registry.host}/app:1", tmp_path / "resolver.lock"
    registry.serve("app", "1", old)
    with Session(tmp_path / "one") as session:
        session.lock([name], file=file)
    registry.serve("app", "1", new)
    before = len(registry.log)

    with Session(tmp_path / "two") as session:
        done = session.pull(session.by_lock(file).resolve(name, AMD64))

    assert [str(one.image.manifest.digest) for one in done.images] == [old.child(AMD64).digest]
    asked_for = [seen.path.rpartition("/")[2] for seen in registry.log[before:]]
    assert "1" not in asked_for
    with Session(tmp_path / "two", offline=True) as session:
        found = session.by_lock(file).resolve(name, AMD64)
        again = session.pull(found)
        assert [one.status for one in again.images] == ["up-to-date"]
        with pytest.raises(NotInStore):
            session.pull(session.by_lock(file).resolve(name, ARM64))


def test_locked_pull_takes_the_locked_build(registry: FakeRegistry, tmp_path: Path) -> None:
    builds = ["windows/amd64:10.0.26100.1", "windows/amd64:10.0.20348.9"]
    registry.serve("app", "1", multi_platform(*builds))
    name, file = f"{registry.host}/app:1", tmp_path / "resolver.lock"
    with Session(tmp_path / "store") as session:
        session.lock([name], ["windows/amd64:10.0.20348.9"], file=file)
        found = session.by_lock(file).resolve(name, "windows/amd64:10.0.20348.9")
        plan = session.plan(session.by_lock(file).resolve(name, "windows/amd64"))

    assert plan.images[0].manifest.digest == found.manifest.digest


PLATFORMS = st.sampled_from([*OFFERED, "linux/arm64", "linux/386", "linux/amd64/v2"])


@given(
    st.lists(PLATFORMS, min_size=1, max_size=6, unique=True),
    st.sampled_from([each for each in WANTED if each and each != "local"]),
    st.booleans(),
)
def test_locked_selection_equals_selection_from_the_index(
    offered: list[str], wanted: str, exact: bool
) -> None:
    from resolver.core.lockfile.entries import Platforms, pick
    from resolver.core.lockfile.lock import LockedImage, LockedPlatform
    from resolver.core.oci.digest import Digest
    from resolver.core.platforms.select import select

    platforms = [Platform.parse(each) for each in offered]
    digests = [Digest("sha256", f"{number:064x}") for number in range(len(platforms))]
    kept: dict[str, LockedPlatform] = {}
    for entry, platform in enumerate(platforms):
        one = LockedPlatform(platform, digests[entry], "m", 1, entry)
        kept.setdefault(one.key, one)
    listed = tuple(kept[key] for key in sorted(kept))
    image = LockedImage("r.test/a:1", "a", digests[0], "m", 1, listed)

    found = pick(image, Platforms((Platform.parse(wanted),)), exact=exact)
    chosen = select(platforms, wanted, exact=exact).index

    assert (found.digest if found else None) == (digests[chosen] if chosen is not None else None)
