"""Lock with a counting registry: the requests, the file and the changes."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from resolver.core.lockfile.drift import RULES, LockDrift
from resolver.core.oci.descriptor import OCI_INDEX
from resolver.core.results.resolve import Failure
from resolver.errors import (
    BadDocument,
    BadLock,
    DigestMismatch,
    Malformed,
    NotInStore,
    NotLocked,
    OutputFault,
    PlatformNotOffered,
    Usage,
)
from resolver.session import Session
from resolver.settings import Flags
from tests.kit.images import build_image, build_index, from_dict, listed_as, multi_platform
from tests.kit.messages import Reply
from tests.kit.processes import ROOT

if TYPE_CHECKING:
    from pathlib import Path

    from resolver.core.lockfile.drift import LockCheck
    from tests.kit.images import Image
    from tests.kit.registry import FakeRegistry

EMPTY = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": []}
AMD64, ARM64, ARMV7 = "linux/amd64", "linux/arm64", "linux/arm/v7"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "resolver.lock"


def built(word: str, *platforms: str) -> Image:
    """Return an index whose images depend on this word."""
    return build_index([build_image(each, [f"{word} {each}".encode()]) for each in platforms])


def findings(check: LockCheck) -> list[tuple[str, str]]:
    return [(one.rule, one.platform) for one in check.findings]


def test_lock_of_an_index_costs_one_request_for_every_platform(
    registry: FakeRegistry, session: Session, file: Path
) -> None:
    image = multi_platform(AMD64, ARM64, attestations=True)
    registry.serve("app", "1", image)

    done = session.lock([f"{registry.host}/app:1"], file=file)

    assert [seen.method for seen in registry.log] == ["GET"]
    [one] = done.lock.images
    assert (str(one.digest), one.size, one.is_index) == (image.digest, image.size, True)
    assert [(each.key, str(each.digest)) for each in one.platforms] == [
        (AMD64, image.child(AMD64).digest),
        (ARM64, image.child(ARM64).digest),
    ]
    assert [each.size for each in one.platforms] == [image.child(p).size for p in (AMD64, ARM64)]


def test_lock_of_a_single_image_also_reads_its_config(
    registry: FakeRegistry, session: Session, file: Path
) -> None:
    image = build_image(ARMV7)
    registry.serve("app", "1", image)

    done = session.lock([f"{registry.host}/app:1"], file=file)

    assert len(registry.log) == 2
    [one] = done.lock.images
    assert not one.is_index
    assert [(each.key, str(each.digest)) for each in one.platforms] == [(ARMV7, image.digest)]


def test_lock_reads_configs_of_entries_without_a_platform(
    registry: FakeRegistry, session: Session, file: Path
) -> None:
    registry.serve("app", "1", build_index([build_image(AMD64), listed_as(build_image(ARM64), "")]))

    done = session.lock([f"{registry.host}/app:1"], file=file)

    assert [each.key for each in done.lock.images[0].platforms] == [AMD64, ARM64]
    assert len(registry.log) == 3


def test_lock_records_the_first_duplicate_with_a_note(
    registry: FakeRegistry, session: Session, file: Path
) -> None:
    first, second = build_image(ARM64, [b"1"]), build_image(ARM64 + "/v8", [b"2"])
    registry.serve("app", "1", build_index([first, second]))

    done = session.lock([f"{registry.host}/app:1"], file=file)

    assert [str(each.digest) for each in done.lock.images[0].platforms] == [first.digest]
    assert [each.code for each in done.warnings] == ["duplicate-platform"]


def test_lock_keeps_other_entries_and_the_file_mode(
    registry: FakeRegistry, session: Session, file: Path
) -> None:
    for tag in ("1", "2"):
        registry.serve("app", tag, built(tag, AMD64))
    session.lock([f"{registry.host}/app:1"], file=file)
    file.chmod(0o640)
    before = json.loads(file.read_bytes())["images"]

    session.lock([f"{registry.host}/app:2"], file=file)

    after = json.loads(file.read_bytes())["images"]
    assert after[f"{registry.host}/app:1"] == before[f"{registry.host}/app:1"]
    assert len(after) == 2
    assert stat.S_IMODE(file.stat().st_mode) == 0o640
    assert [path.name for path in file.parent.iterdir() if path.is_file()] == ["resolver.lock"]


def test_lock_file_is_synced_with_its_folder(
    registry: FakeRegistry, session: Session, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    registry.serve("app", "1", built("1", AMD64))
    real, synced = os.fsync, []

    def sync(descriptor: int) -> None:
        status = os.fstat(descriptor)
        synced.append((stat.S_ISDIR(status.st_mode), status.st_ino))
        real(descriptor)

    monkeypatch.setattr(os, "fsync", sync)
    session.lock([f"{registry.host}/app:1"], file=file)

    written = [each for each in synced if each[1] == file.stat().st_ino]
    folder = (True, file.parent.stat().st_ino)
    assert written == [(False, file.stat().st_ino)]
    assert folder in synced[synced.index(written[0]) :]


def test_lock_follows_a_symlinked_lock_file(
    registry: FakeRegistry, session: Session, file: Path
) -> None:
    registry.serve("app", "1", built("1", AMD64))
    real = file.with_name("real.lock")
    session.lock([f"{registry.host}/app:1"], file=real)
    file.symlink_to(real)
    before = real.read_bytes()
    real.write_bytes(before.replace(b'"entry": 0', b'"entry": 7'))

    session.lock([f"{registry.host}/app:1"], file=file)

    assert file.is_symlink()
    assert real.read_bytes() == before


def test_lock_leaves_the_file_unchanged_when_one_lookup_fails(
    registry: FakeRegistry, session: Session, file: Path
) -> None:
    registry.serve("app", "1", built("1", AMD64))

    done = session.lock([f"{registry.host}/app:1", f"{registry.host}/app:none"], file=file)

    assert not done.written
    assert [failure.reference for failure in done.failures] == [f"{registry.host}/app:none"]
    assert not file.exists()


def test_lock_update_resolves_named_entries_for_their_platforms(
    registry: FakeRegistry, session: Session, file: Path
) -> None:
    for name in ("app", "other"):
        registry.serve(name, "1", built("old", AMD64, ARM64))
    session.lock([f"{registry.host}/app:1", f"{registry.host}/other:1"], [AMD64], file=file)
    for name in ("app", "other"):
        registry.serve(name, "1", built("new", AMD64, ARM64))

    done = session.lock(update=[f"{registry.host}/app"], file=file)

    new = built("new", AMD64, ARM64)
    assert [(one.change, one.image.reference) for one in done.changes] == [
        ("changed", f"{registry.host}/app:1")
    ]
    app, other = done.lock.images
    assert [str(each.digest) for each in app.platforms] == [new.child(AMD64).digest]
    assert app.only == (AMD64,)
    assert str(other.digest) != new.digest
    everything = session.lock((), ["all"], update=[], file=file)
    assert [len(image.platforms) for image in everything.lock.images] == [2, 2]
    assert session.lock(update=[], file=file).lock == everything.lock


def test_lock_rejects_a_platform_that_is_not_offered(
    registry: FakeRegistry, session: Session, file: Path
) -> None:
    registry.serve("app", "1", built("1", AMD64))

    with pytest.raises(PlatformNotOffered):
        session.lock([f"{registry.host}/app:1"], ["linux/s390x"], file=file)
    assert not file.exists()


def test_lock_update_without_entries_is_a_usage_error(session: Session, file: Path) -> None:
    with pytest.raises(Usage):
        session.lock(update=[], file=file)
    with pytest.raises(NotLocked):
        session.lock(update=["nginx"], file=file)
    with pytest.raises(Usage):
        session.lock(["oci:folder"], file=file)


def test_lock_check_without_changes_costs_one_head(
    registry: FakeRegistry, session: Session, file: Path, tmp_path: Path
) -> None:
    registry.serve("app", "1", built("1", AMD64))
    session.lock([f"{registry.host}/app:1"], file=file)
    before = len(registry.log)

    with Session(tmp_path / "another store") as fresh:
        found = fresh.check_lock(file=file)

    assert [seen.method for seen in registry.log[before:]] == ["HEAD"]
    assert (found.drifted, found.findings) == (False, ())


@pytest.mark.parametrize(
    ("platforms", "rules"),
    [
        ([AMD64], [("index-changed", "")]),
        ([ARM64], [("platform-changed", ARM64)]),
        ([ARMV7], [("platform-removed", ARMV7)]),
        (
            [],
            [
                ("platform-changed", ARM64),
                ("platform-removed", ARMV7),
                ("platform-added", "linux/s390x"),
            ],
        ),
    ],
)
def test_lock_check_lists_changes_by_platform(
    registry: FakeRegistry,
    session: Session,
    file: Path,
    platforms: list[str],
    rules: list[tuple[str, str]],
) -> None:
    same = build_image(AMD64)
    old = build_index([same, build_image(ARM64, [b"1"]), build_image(ARMV7)])
    new = build_index([same, build_image(ARM64, [b"2"]), build_image("linux/s390x")])
    registry.serve("app", "1", old)
    session.lock([f"{registry.host}/app:1"], file=file)
    registry.serve("app", "1", new)
    before = len(registry.log)

    found = session.check_lock(platforms=platforms, file=file)

    assert sorted(findings(found)) == sorted(rules)
    assert found.drifted == any(rule != "index-changed" for rule, _ in rules)
    assert [seen.method for seen in registry.log[before:]] == ["HEAD", "GET"]
    assert {one.rule for one in found.findings} <= {rule.id for rule in RULES}


def test_lock_check_of_a_restricted_entry_checks_its_platforms(
    registry: FakeRegistry, session: Session, file: Path
) -> None:
    same = build_image(AMD64)
    registry.serve("app", "1", build_index([same, build_image(ARM64, [b"1"])]))
    session.lock([f"{registry.host}/app:1"], [AMD64], file=file)
    registry.serve("app", "1", build_index([same, build_image(ARM64, [b"2"])]))

    assert findings(session.check_lock(file=file)) == [("index-changed", "")]


def test_lock_check_does_not_report_an_added_platform_as_drift(
    registry: FakeRegistry, session: Session, file: Path
) -> None:
    same = build_image(AMD64)
    registry.serve("app", "1", build_index([same]))
    session.lock([f"{registry.host}/app:1"], file=file)
    registry.serve("app", "1", build_index([same, build_image(ARM64)]))

    found = session.check_lock(file=file)

    assert findings(found) == [("index-changed", ""), ("platform-added", ARM64)]
    assert not found.drifted


def test_lock_check_of_a_single_image_that_became_an_index(
    registry: FakeRegistry, session: Session, file: Path
) -> None:
    same = build_image(AMD64)
    registry.serve("app", "1", same)
    session.lock([f"{registry.host}/app:1"], file=file)
    registry.serve("app", "1", build_index([same]))

    assert findings(session.check_lock(file=file)) == [("index-changed", "")]


def test_lock_check_without_platforms_compares_digests(
    registry: FakeRegistry, session: Session, file: Path
) -> None:
    registry.serve("app", "1", from_dict(EMPTY))
    session.lock([f"{registry.host}/app:1"], file=file)
    registry.serve("app", "1", from_dict({**EMPTY, "annotations": {}}))

    assert findings(session.check_lock(file=file)) == [("content-changed", "")]


def test_lock_check_reports_removed_tags_as_drift_and_failures_as_errors(
    registry: FakeRegistry, session: Session, file: Path
) -> None:
    for tag in ("1", "2"):
        registry.serve("app", tag, built(tag, AMD64))
    session.lock([f"{registry.host}/app:{tag}" for tag in ("1", "2")], file=file)
    registry.on("*", "/v2/app/manifests/1", Reply(404))
    registry.on("*", "/v2/app/manifests/2", Reply(403))

    found = session.check_lock(file=file)

    assert findings(found) == [("reference-gone", "")]
    assert isinstance(found.images[0], LockDrift)
    assert found.images[0].state == "gone"
    assert isinstance(found.images[1], Failure)
    assert len(found.failures) == 1


def test_lock_never_records_a_false_digest_header(
    registry: FakeRegistry, session: Session, file: Path
) -> None:
    """MAN-002: the digest is that of the bytes, not of the header."""
    image = built("1", AMD64)
    registry.serve("app", "1", image)
    lie = "sha256:" + "1" * 64
    headers = {"Content-Type": image.media_type, "Docker-Content-Digest": lie}
    registry.on("GET", "/v2/app/manifests/1", Reply(200, headers, image.body))

    try:
        session.lock([f"{registry.host}/app:1"], file=file)
    except DigestMismatch:
        assert not file.exists()
    else:
        assert lie not in file.read_text()


def test_lock_rejects_a_registry_that_contradicts_itself(
    registry: FakeRegistry, session: Session, file: Path
) -> None:
    image = built("1", AMD64)
    registry.serve("app", "1", image)
    session.lock([f"{registry.host}/app:1"], file=file)
    lie = "sha256:" + "1" * 64
    headers = {
        "Content-Type": image.media_type,
        "Docker-Content-Digest": lie,
        "Content-Length": str(image.size),
    }
    registry.on("HEAD", "/v2/app/manifests/1", Reply(200, headers))
    registry.on("GET", f"/v2/app/manifests/{lie}", Reply(404))

    found = session.check_lock(file=file)

    # The bytes that the tag gives are those that were locked, whatever the header says.
    assert (found.findings, found.failures) == ((), ())


def test_lock_rejects_an_index_with_a_wrong_size(
    registry: FakeRegistry, session: Session, file: Path
) -> None:
    build = build_image(AMD64)
    honest, lying = listed_as(build, AMD64), listed_as(build, ARM64)
    registry.serve("app", "1", build_index([honest]))
    registry.serve("app", "2", _with_size(build_index([lying]), build.size + 1))
    session.lock([f"{registry.host}/app:1"], file=file)
    before = file.read_bytes()

    with pytest.raises(BadDocument) as caught:
        session.lock([f"{registry.host}/app:2"], file=file)

    assert caught.value.kind.status == 6
    assert file.read_bytes() == before


def _with_size(index: Image, size: int) -> Image:
    document = json.loads(index.body)
    document["manifests"][0]["size"] = size
    return from_dict(document, parts=index.children)


def test_lock_check_of_a_thousand_references_costs_a_thousand_heads(
    registry: FakeRegistry, tmp_path: Path, file: Path
) -> None:
    image = built("1", AMD64)
    tokens = registry.bearer()
    names = [f"{registry.host}/app:{number}" for number in range(1000)]
    for number in range(1000):
        registry.serve("app", str(number), image)
    with Session(tmp_path / "one") as session:
        session.lock(names, file=file)
    before, asked = len(registry.log), tokens.count

    with Session(tmp_path / "two", flags=Flags(jobs="32")) as fresh:
        found = fresh.check_lock(file=file)

    heads = [seen for seen in registry.log[before:] if seen.path.startswith("/v2/app/")]
    answered = [seen for seen in heads if seen.authorization]
    assert (len(found.images), found.findings) == (1000, ())
    assert {seen.method for seen in heads} == {"HEAD"}
    assert len(answered) == 1000
    assert len({seen.path for seen in answered}) == 1000
    assert tokens.count - asked == 1
    assert registry.connections <= 2 * 32 + 16


def test_lock_requests_all_respect_retry_after(
    registry: FakeRegistry, session: Session, file: Path
) -> None:
    image = built("1", AMD64)
    for number in range(20):
        registry.serve("app", str(number), image)
    session.lock([f"{registry.host}/app:{number}" for number in range(20)], file=file)
    registry.rate_limit("/v2/app/manifests/7", 1, 1)
    before = len(registry.log)

    found = session.check_lock(file=file)

    assert not found.findings
    assert not found.failures
    assert len(registry.log) - before == 21


def test_lock_offline_is_refused(
    registry: FakeRegistry, session: Session, file: Path, tmp_path: Path
) -> None:
    registry.serve("app", "1", built("1", AMD64))
    session.lock([f"{registry.host}/app:1"], file=file)
    with Session(tmp_path / "store", offline=True) as offline:
        found = offline.check_lock(file=file)

    assert isinstance(found.failures[0].error, NotInStore)


def test_lock_check_rejects_a_platform_that_was_not_locked(
    registry: FakeRegistry, session: Session, file: Path
) -> None:
    registry.serve("app", "1", built("1", AMD64))
    session.lock([f"{registry.host}/app:1"], file=file)
    before = len(registry.log)

    found = session.check_lock(platforms=["linux/s390x"], file=file)

    assert isinstance(found.failures[0].error, NotLocked)
    assert len(registry.log) == before


def test_lock_rm_of_missing_entries_changes_nothing(
    registry: FakeRegistry, session: Session, file: Path
) -> None:
    registry.serve("app", "1", built("1", AMD64))
    session.lock([f"{registry.host}/app:1"], file=file)
    before = file.read_bytes()

    with pytest.raises(NotLocked):
        session.unlock([f"{registry.host}/app", "nginx"], file=file)
    assert file.read_bytes() == before
    done = session.unlock([f"{registry.host}/app"], file=file)
    assert [one.change for one in done.changes] == ["removed"]
    assert done.lock.images == ()


def test_lock_reports_a_missing_or_irregular_file(session: Session, tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)

    for place in (pipe, tmp_path):
        with pytest.raises(BadLock):
            session.check_lock(file=place)
    with pytest.raises(Malformed) as caught:
        session.check_lock(file=tmp_path / "none")
    assert caught.value.code == "no-lock"


def test_lock_reports_an_unwritable_folder(
    registry: FakeRegistry, session: Session, tmp_path: Path
) -> None:
    registry.serve("app", "1", built("1", AMD64))

    with pytest.raises(OutputFault) as caught:
        session.lock([f"{registry.host}/app:1"], file=tmp_path / "no" / "where.lock")
    assert caught.value.code == "lock-unwritten"
    assert caught.value.kind.status == 8


def test_concurrent_lock_writers_lose_no_entries(
    registry: FakeRegistry, tmp_path: Path, file: Path
) -> None:
    names = [f"{registry.host}/app:{number}" for number in range(8)]
    for number in range(8):
        registry.serve("app", str(number), built(str(number), AMD64))
    started = [
        subprocess.Popen(
            [sys.executable, "-m", "resolver", "lock", name, "-o", str(file)],
            env={**os.environ, "PYTHONPATH": str(ROOT), "RESOLVER_STORE": str(tmp_path / "store")},
            stdout=subprocess.DEVNULL,
        )
        for name in names
    ]

    assert [process.wait(60) for process in started] == [0] * 8
    assert sorted(json.loads(file.read_bytes())["images"]) == names
