"""Copying what a file lists."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from resolver.errors import BadFile, Negative, NotFound
from tests.kit.images import build_image, multi_platform
from tests.kit.writable import Quirks, WritableRegistry
from tests.verbs.test_copy import referrer

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from resolver.session import Session


@pytest.fixture
def source(tmp_path: Path) -> Iterator[WritableRegistry]:
    with WritableRegistry(tmp_path / "source") as registry:
        yield registry


@pytest.fixture
def target(tmp_path: Path) -> Iterator[WritableRegistry]:
    with WritableRegistry(tmp_path / "target") as registry:
        yield registry


def written(folder: Path, text: str) -> Path:
    path = folder / "mirror.yaml"
    path.write_text("version: 1\ncopies:\n" + text)
    return path


def test_sync_copies_the_chosen_tags_and_looks_at_each_once_when_unchanged(
    session: Session, source: WritableRegistry, target: WritableRegistry, tmp_path: Path
) -> None:
    for tag in ("1.0", "1.1", "2.0", "2.1-rc1", "latest"):
        source.serve("team/app", tag, build_image(layers=[tag.encode()]))
    file = written(
        tmp_path,
        f"""
  - from: {source.host}/team/app
    to: [{target.host}/one/app, "oci:{tmp_path / "layout"}"]
    semver: ">=1.1"
    exclude: "*-rc*"
    referrers: false
""",
    )

    done = session.sync(file)

    assert set(target.tags("one/app")) == {"1.1", "2.0"}
    assert target.tags("one/app")["2.0"] == source.tags("team/app")["2.0"]
    assert done.failures == ()
    before = len(source.log), len(target.log)
    again = session.sync(file)
    assert [seen.method for seen in source.log[before[0] :]] == ["GET", "HEAD", "HEAD"]
    assert [seen.method for seen in target.log[before[1] :]] == ["HEAD", "HEAD"]
    states = {one.target.done for copied in again.copies for one in copied.targets}
    assert states == {"up to date"}


def test_sync_takes_named_tags_platforms_and_referrers(
    session: Session, source: WritableRegistry, target: WritableRegistry, tmp_path: Path
) -> None:
    wanted = multi_platform("linux/amd64", "linux/arm64")
    for tag in ("1", "2", "3"):
        source.serve("team/app", tag, wanted)
    source.serve("team/app", None, referrer(wanted.child("linux/arm64")))
    file = written(
        tmp_path,
        f"""
  - {{from: {source.host}/team/app, to: {target.host}/some, tags: ["1", "2"], include: "1*"}}
  - {{from: {source.host}/team/app:3, to: {target.host}/arm, platforms: linux/arm64}}
  - {{from: {source.host}/team/app:3, to: {target.host}/named:x, referrers: false}}
""",
    )

    session.sync(file)

    assert set(target.tags("some")) == {"1"}
    assert set(target.tags("arm")) == {"3"}
    assert wanted.child("linux/amd64").digest not in target.documents("arm")
    assert referrer(wanted.child("linux/arm64")).digest in target.documents("arm")
    assert target.tags("named") == {"x": wanted.digest}
    assert len(target.documents("named")) == 3


def test_sync_goes_on_after_a_failure(
    session: Session, source: WritableRegistry, target: WritableRegistry, tmp_path: Path
) -> None:
    source.serve("team/app", "1", build_image())
    target.quirks = Quirks(exists=("yes",))
    file = written(
        tmp_path,
        f"""
  - {{from: {source.host}/none, to: {target.host}/yes}}
  - {{from: {source.host}/team/app, to: {target.host}/no}}
  - {{from: {source.host}/team/app, to: {target.host}/yes}}
""",
    )

    done = session.sync(file)

    assert set(target.tags("yes")) == {"1"}
    assert len(done.failures) == 2
    assert isinstance(done.failures[0].error, NotFound)


def test_sync_counts_all_bytes_before_the_first_is_sent(
    session: Session, source: WritableRegistry, target: WritableRegistry, tmp_path: Path
) -> None:
    for tag in ("1", "2"):
        source.serve("team/app", tag, build_image(layers=[bytes(1000) + tag.encode()]))
    file = written(tmp_path, f"  - {{from: {source.host}/team/app, to: {target.host}/app}}\n")

    dry = session.sync(file, dry_run=True)
    total = sum(copied.plan.bytes_to_send for copied in dry.copies)
    with pytest.raises(Negative):
        session.sync(file, max_upload=total - 1)
    assert {seen.method for seen in target.log} == {"HEAD"}
    session.sync(file, max_upload=total)
    assert set(target.tags("app")) == {"1", "2"}


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "it is empty"),
        ("copies: []\n", "it has no `version`"),
        ("version: 2\ncopies: []\n", "this version is not supported"),
        ("version: 1\n", "it has no `copies`"),
        ("version: 1\ncopies: [{from: a}]\n", "it has no `to`"),
        ("version: 1\ncopies: [{from: a, to: b, tag: c}]\n", "unknown field"),
        ("version: 1\ncopies: [{from: 'A b', to: b}]\n", "A b"),
        ("version: 1\ncopies: [{from: a, to: b, tags: ['x y']}]\n", "this is not a tag"),
        ("version: 1\ncopies: [{from: a, to: b, semver: 'x..'}]\n", "not a range"),
        ("version: 1\ncopies: [{from: a, to: b, platforms: ['*']}]\n", "*"),
        ("version: 1\ncopies: [{from: a, to: b, referrers: 1}]\n", "1"),
    ],
)
def test_sync_file_is_checked_before_any_request(
    session: Session, tmp_path: Path, text: str, reason: str
) -> None:
    path = tmp_path / "mirror.yaml"
    path.write_text(text)
    with pytest.raises(BadFile) as failure:
        session.sync(path)
    assert reason in str(failure.value)
    assert "mirror.yaml" in str(failure.value)
