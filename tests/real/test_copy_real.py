"""Copying to and from CNCF distribution's registry, and what other tools read there."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import threading
from typing import TYPE_CHECKING

import pytest

from resolver.core.oci.descriptor import OCI_INDEX
from resolver.core.results.copy import CopyState
from resolver.errors import Denied, ResolverError, ServerFault
from resolver.session import Session
from resolver.settings import Flags
from resolver.sources.registry import upload
from tests.kit.images import Image, build_image, entry, from_dict, multi_platform, named_by
from tests.kit.registry import FakeRegistry
from tests.real.registries import RealRegistry, skopeo, start
from tests.verbs.test_copy import referrer

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.real.containerds import RealContainerd


@pytest.fixture
def empty(real_home: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealRegistry]:
    """Run a registry that has nothing."""
    del real_home  # requires the programs
    running = start(tmp_path_factory.mktemp("empty") / "registry")
    try:
        yield running
    finally:
        running.process.kill()
        running.process.wait()


@pytest.fixture
def session(tmp_path: Path) -> Iterator[Session]:
    with Session(tmp_path / "store") as opened:
        yield opened


def raw(registry: RealRegistry, name: str) -> bytes:
    place = f"docker://{registry.host}/{name}"
    return skopeo("inspect", "--raw", "--tls-verify=false", place, home=registry.folder)


def test_copy_between_real_registries_keeps_every_byte(
    session: Session, registry: RealRegistry, empty: RealRegistry
) -> None:
    for name in ("demo/app:1.0", "demo/docker:1.0"):
        plan = session.plan_copy(f"{registry.host}/{name}", f"{empty.host}/copy/{name}")
        session.copy(plan)
        assert raw(empty, f"copy/{name}") == raw(registry, name)
        listed = json.loads(raw(empty, f"copy/{name}"))["manifests"]
        for each in listed:
            bare = name.partition(":")[0]
            digest = each["digest"]
            assert raw(empty, f"copy/{bare}@{digest}") == raw(registry, f"{bare}@{digest}")


def test_copy_within_a_real_registry_mounts_everything(
    session: Session, registry: RealRegistry
) -> None:
    place = f"{registry.host}/demo/app:1.0", f"{registry.host}/mounted/app:1.0"
    plan = session.plan_copy(*place, referrers=False)
    blobs = plan.targets[0].count(CopyState.MOUNT)[0]
    before = registry.seen()
    done = session.copy(plan)

    assert done.targets[0].mounted == blobs
    assert done.targets[0].bytes_sent == 0
    seen = registry.requests(plan.targets[0].requests, before)
    assert len([line for line in seen if line.startswith("POST ")]) == blobs
    assert not [line for line in seen if line.startswith("GET ") and "/blobs/" in line]
    assert raw(registry, "mounted/app:1.0") == raw(registry, "demo/app:1.0")


def test_copy_of_an_unchanged_real_tag_is_one_head_at_each_side(
    session: Session, registry: RealRegistry, empty: RealRegistry
) -> None:
    place = f"{registry.host}/demo/app:1.0", f"{empty.host}/app:1.0"
    session.copy(session.plan_copy(*place))
    before = registry.seen(), empty.seen()

    done = session.copy(session.plan_copy(*place))

    assert done.targets[0].target.done == "up to date"
    assert registry.requests(1, before[0]) == ["HEAD /v2/demo/app/manifests/1.0"]
    assert empty.requests(1, before[1]) == ["HEAD /v2/app/manifests/1.0"]


def test_copy_of_a_platform_can_be_pulled_by_skopeo(
    session: Session, registry: RealRegistry, empty: RealRegistry, tmp_path: Path
) -> None:
    place = f"{registry.host}/demo/app:1.0", f"{empty.host}/app:arm"
    session.copy(session.plan_copy(*place, ["linux/arm64"]))

    source = f"docker://{empty.host}/app:arm"
    words = ("copy", "--all", "--src-tls-verify=false", source, f"oci:{tmp_path / 'out'}:arm")
    skopeo(*words, home=tmp_path)
    listed = json.loads(raw(empty, "app:arm"))["manifests"]
    assert len(listed) == 2
    assert listed[0]["platform"]["architecture"] == "arm64"


def test_copied_registry_and_layout_are_read_by_ctr_and_skopeo(
    session: Session,
    registry: RealRegistry,
    empty: RealRegistry,
    containerd: RealContainerd,
    tmp_path: Path,
) -> None:
    name, layout = f"{empty.host}/app:1.0", tmp_path / "layout"
    session.copy(session.plan_copy(f"{registry.host}/demo/app:1.0", [name, f"oci:{layout}:1.0"]))

    words = ("copy", "--all", f"oci:{layout}:1.0", f"oci-archive:{tmp_path / 'a.tar'}:x")
    skopeo(*words, home=tmp_path)
    containerd.ctr("copied", "content", "fetch", "--plain-http", "--all-platforms", name)
    root = raw(registry, "demo/app:1.0")
    digest = f"sha256:{hashlib.sha256(root).hexdigest()}"
    assert containerd.content("copied", digest) == root


def test_copy_puts_referrers_under_the_fallback_tag_of_a_real_registry(
    session: Session, registry: RealRegistry, empty: RealRegistry
) -> None:
    # docker-registry 2.8.2 has no referrers API.
    wanted = multi_platform("linux/amd64")
    signed = referrer(wanted)
    with FakeRegistry(strict=False) as fake:
        fake.serve("app", "1", wanted)
        fake.serve("app", wanted.digest.replace(":", "-"), _listing(signed))
        session.copy(session.plan_copy(f"{fake.host}/app:1", f"{registry.host}/signed:1"))
    session.copy(session.plan_copy(f"{registry.host}/signed:1", f"{empty.host}/signed:1"))

    tag = wanted.digest.replace(":", "-")
    [entry] = json.loads(raw(empty, f"signed:{tag}"))["manifests"]
    assert entry["digest"] == signed.digest
    assert entry["artifactType"] == "application/vnd.x.sig"
    assert hashlib.sha256(raw(empty, f"signed@{signed.digest}")).hexdigest() in signed.digest


def _listing(signed: Image) -> Image:
    return from_dict(
        {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [entry(signed, platform="")]},
        parts=(signed,),
    )


def test_copy_of_a_sha512_manifest_is_one_clear_error_at_a_real_registry(
    session: Session, empty: RealRegistry, tmp_path: Path
) -> None:
    wanted = named_by(build_image(), "sha512")
    with FakeRegistry(strict=False) as fake:
        fake.serve("app", "1", wanted)
        with pytest.raises(ServerFault) as failure:
            session.copy(
                session.plan_copy(
                    f"{fake.host}/app@{wanted.digest}", f"{empty.host}/app:1", referrers=False
                )
            )
        assert "sha512" in " ".join(failure.value.hints())
        layout = tmp_path / "layout"
        for place in (f"oci:{layout}:1", f"oci:{tmp_path / 'second'}:1"):
            source = f"{fake.host}/app@{wanted.digest}"
            if place.endswith("second:1"):
                source = f"oci:{layout}:1"
            session.copy(session.plan_copy(source, place, referrers=False))
    index = json.loads((tmp_path / "second" / "index.json").read_text())
    assert index["manifests"][0]["digest"] == wanted.digest


def test_copy_to_a_registry_with_tls_and_a_password(
    registry: RealRegistry, locked: RealRegistry, ca_file: Path, tmp_path: Path
) -> None:
    assert locked.lock is not None
    flags = Flags(ca_file=str(ca_file), username=locked.lock.user, password=locked.lock.password)
    place = f"{registry.host}/demo/app:2.0", f"{locked.host}/copied:2.0"
    with Session(tmp_path / "store", flags=flags) as session:
        done = session.copy(session.plan_copy(*place))
        assert done.targets[0].bytes_sent
        found = session.resolve(place[1], "linux/arm64").index
        assert found is not None
        assert found.digest == done.plan.root.digest
    with (
        Session(tmp_path / "store", flags=Flags(ca_file=str(ca_file))) as anonymous,
        pytest.raises(Denied),
    ):
        anonymous.plan_copy(f"{registry.host}/demo/app:2.0", f"{locked.host}/other:1")


#: Runs the command line with chunks of 1 MiB.
SMALL = """
import sys
from resolver.sources.registry import upload
upload.CHUNK = 1 << 20
from resolver.__main__ import main
main()
"""


def test_copy_killed_after_a_chunk_continues_at_a_real_registry(
    empty: RealRegistry, tmp_path: Path
) -> None:
    """docker-registry 2.8.2 keeps a session after a completed PATCH, and forgets a cut one."""
    layer = hashlib.shake_256(b"layer").digest(8 << 20)
    wanted = build_image(layers=[layer])
    store = tmp_path / "store"
    with FakeRegistry(strict=False) as fake:
        fake.serve("app", "1", wanted)
        words = [
            *(sys.executable, "-c", SMALL, "copy", "--store", str(store), "--no-referrers"),
            *(f"{fake.host}/app:1", f"{empty.host}/app:1"),
        ]
        process = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        pushes = store / "pushes"
        deadline = threading.Event()
        while process.poll() is None and not (pushes.is_dir() and any(pushes.iterdir())):
            deadline.wait(0.001)
        os.kill(process.pid, signal.SIGKILL)
        process.communicate()
        if process.returncode != -signal.SIGKILL:
            pytest.skip("the copy was over before it could be killed")
        before = empty.seen()
        subprocess.run(words, check=True, capture_output=True, timeout=60)
        seen = empty.requests(4, before)
    assert hashlib.sha256(raw(empty, "app:1")).hexdigest() == wanted.digest.partition(":")[2]
    assert any(line.startswith("GET /v2/app/blobs/uploads/") for line in seen)
    assert list(pushes.iterdir()) == []


def test_copy_sends_chunks_to_a_real_registry(
    session: Session, empty: RealRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(upload, "CHUNK", 1 << 20)
    wanted = build_image(layers=[hashlib.shake_256(b"layer").digest(5 << 20)])
    with FakeRegistry(strict=False) as fake:
        fake.serve("app", "1", wanted)
        session.copy(session.plan_copy(f"{fake.host}/app:1", f"{empty.host}/app:1"))
    seen = empty.requests(10)
    assert len([line for line in seen if line.startswith("PATCH ")]) == 5
    assert hashlib.sha256(raw(empty, "app:1")).hexdigest() == wanted.digest.partition(":")[2]


def test_sparse_copy_is_refused_by_a_real_registry_with_advice(
    session: Session, registry: RealRegistry, empty: RealRegistry
) -> None:
    with pytest.raises(ResolverError) as failure:
        session.copy(
            session.plan_copy(
                f"{registry.host}/demo/app:1.0",
                f"{empty.host}/app:1.0",
                ["linux/arm64"],
                sparse=True,
            )
        )
    assert "leave out `--sparse`" in " ".join(failure.value.hints())


def test_index_of_three_pushed_builds_is_read_by_skopeo(
    session: Session, registry: RealRegistry, empty: RealRegistry
) -> None:
    digests = []
    for platform in ("linux/amd64", "linux/arm64", "linux/arm/v7"):
        found = session.resolve(f"{registry.host}/demo/app:1.0", platform).manifest.digest
        place = f"{registry.host}/demo/app@{found}", f"{empty.host}/app@{found}"
        session.copy(session.plan_copy(*place))
        digests.append(str(found))

    made = session.create_index(f"{empty.host}/app:1", digests)

    body = raw(empty, "app:1")
    assert f"sha256:{hashlib.sha256(body).hexdigest()}" == str(made.root.digest)
    assert [each["digest"] for each in json.loads(body)["manifests"]] == digests
    edited = session.edit_index(f"{empty.host}/app:1", drop=["linux/arm/v7"])
    assert json.loads(raw(empty, "app:1"))["manifests"] == json.loads(body)["manifests"][:2]
    assert str(edited.root.digest) != str(made.root.digest)


def test_repositories_of_a_real_registry(session: Session, registry: RealRegistry) -> None:
    found = session.repositories(f"{registry.host}/demo/")
    assert set(found.names) >= {f"{registry.host}/demo/app", f"{registry.host}/demo/docker"}
    assert all("/demo/" in name for name in found.names)
