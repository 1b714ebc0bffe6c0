"""Other tools push into `serve --writable` and read back what they pushed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import bcrypt
import pytest

from resolver.core.oci.digest import Digest
from resolver.store import LocalStore
from resolver.verbs.serve.serve import serve_writable
from resolver.verbs.serve.write import WriteOptions
from tests.kit.exports import AMD64, ARM64
from tests.kit.images import build_image, build_index, build_layer, multi_platform
from tests.kit.layouts import write_layout
from tests.kit.pushes import Pusher, digest_of, with_query
from tests.real.conftest import require
from tests.real.registries import skopeo
from tests.real.test_everything_real import podman
from tests.real.test_files_real import Buildah
from tests.real.test_serve_real import copied

if TYPE_CHECKING:
    from collections.abc import Iterator

    from resolver.verbs.serve.server import Server
    from tests.kit.images import Image
    from tests.real.containerds import RealContainerd

pytestmark = pytest.mark.real

LARGE = bytes(range(256)) * 60_000


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    return LocalStore(tmp_path / "store", fsync=False)


@pytest.fixture
def server(store: LocalStore) -> Iterator[Server]:
    with serve_writable(store) as running:
        yield running


def image() -> Image:
    """Make an image with attestations and a large layer; skopeo takes no nested indexes."""
    large = build_image(AMD64, [build_layer({"large": LARGE})])
    return build_index([large, build_image(ARM64)], attestations=True)


def push(server: Server, layout: Path, name: str, home: Path, *options: str) -> None:
    words = ["copy", "--quiet", "--all", "--preserve-digests", "--dest-tls-verify=false", *options]
    skopeo(*words, f"oci:{layout}:1", f"docker://{server.address}/{name}", home=home)


def all_of(image: Image) -> set[bytes]:
    return {body for _, body in image.documents.values()} | set(image.blobs.values())


@pytest.mark.usefixtures("with_skopeo")
def test_skopeo_copies_all_in_and_out(server: Server, store: LocalStore, tmp_path: Path) -> None:
    pushed = image()
    layout = write_layout(tmp_path / "layout", {"1": pushed})

    push(server, layout, "team/app:1", tmp_path)
    # The second time nothing but the tag has to be sent.
    push(server, layout, "team/app:2", tmp_path)

    assert copied(server, "team/app:2", tmp_path) == all_of(pushed)
    record = store.pulled("localhost/team/app:1")
    assert record is not None
    assert str(record.root.digest) == pushed.digest
    assert store.verify(full=True).is_sound


@pytest.mark.usefixtures("with_skopeo")
def test_skopeo_copies_between_repositories(server: Server, tmp_path: Path) -> None:
    pushed = image()
    push(server, write_layout(tmp_path / "layout", {"1": pushed}), "team/app:1", tmp_path)

    tls = ["--src-tls-verify=false", "--dest-tls-verify=false"]
    source = f"docker://{server.address}/team/app:1"
    words = ["copy", "--quiet", "--all", "--preserve-digests", *tls, source]
    skopeo(*words, f"docker://{server.address}/other/app:1", home=tmp_path)

    assert copied(server, "other/app:1", tmp_path) == all_of(pushed)


@pytest.mark.usefixtures("with_skopeo")
def test_skopeo_pushes_with_a_password_and_deletes(store: LocalStore, tmp_path: Path) -> None:
    users = tmp_path / "users"
    users.write_bytes(b"ann:" + bcrypt.hashpw(b"secret", bcrypt.gensalt(4)))
    pushed = build_image(AMD64)
    layout = write_layout(tmp_path / "layout", {"1": pushed})
    with serve_writable(store, options=WriteOptions(htpasswd=str(users))) as server:
        with pytest.raises(AssertionError, match=r"authentication required|unauthorized"):
            push(server, layout, "team/app:1", tmp_path)
        push(server, layout, "team/app:1", tmp_path, "--dest-creds=ann:secret")
        words = ["delete", "--tls-verify=false", "--creds=ann:secret"]
        skopeo(*words, f"docker://{server.address}/team/app:1", home=tmp_path)

    assert store.pulled("localhost/team/app:1") is None


@pytest.mark.usefixtures("with_skopeo")
def test_twenty_skopeo_processes_push_the_same_image(
    server: Server, store: LocalStore, tmp_path: Path
) -> None:
    pushed = image()
    layout = write_layout(tmp_path / "layout", {"1": pushed})
    homes = [tmp_path / f"client-{number}" for number in range(20)]
    for home in homes:
        home.mkdir()

    with ThreadPoolExecutor(len(homes)) as pool:
        for _ in pool.map(lambda home: push(server, layout, f"team/{home.name}:1", home), homes):
            pass

    assert len([name for name in store.pulled_names() if name.reference.endswith(":1")]) == 20
    assert store.verify(full=True).is_sound


@pytest.mark.usefixtures("with_podman")
def test_buildah_pushes_and_podman_and_containerd_read(
    server: Server,
    tmp_path: Path,
    containerd: RealContainerd,
) -> None:
    require({"buildah": "buildah"})
    buildah = Buildah(tmp_path / "buildah")
    source = tmp_path / "data"
    source.write_bytes(LARGE)
    container = buildah("from", "scratch")
    buildah("copy", container, str(source), "/data")
    buildah("commit", "--quiet", container, "localhost/app:1")
    name = f"{server.address}/team/app:1"
    listing = tmp_path / "digest"

    words = ["push", "--quiet", "--tls-verify=false", f"--digestfile={listing}"]
    buildah(*words, "localhost/app:1", f"docker://{name}")

    pushed = listing.read_text().strip()
    got = Pusher(server.address).ask("GET", "/v2/team/app/manifests/1")
    assert (digest_of(got.body), got.headers["docker-content-digest"]) == (pushed, pushed)
    with tempfile.TemporaryDirectory(prefix="pod-") as folder:
        home = Path(folder)
        podman("pull", "--quiet", "--tls-verify=false", name, home=home)
        found = podman("image", "inspect", "--format", "{{.Digest}}", name, home=home)
    assert found.decode().strip() == pushed
    containerd.ctr("pushed", "content", "fetch", "--plain-http", "--all-platforms", name)
    assert containerd.images("pushed")[name] == pushed
    layer = got.json["layers"][0]["digest"]
    assert digest_of(containerd.content("pushed", layer)) == layer


def test_containerd_pushes(server: Server, store: LocalStore, containerd: RealContainerd) -> None:
    pushed = multi_platform(AMD64, ARM64)
    source = f"{server.address}/team/app:1"
    Pusher(server.address).image("team/app", "1", pushed)
    containerd.ctr("copied", "content", "fetch", "--plain-http", "--all-platforms", source)

    target = f"{server.address}/other/app:1"
    containerd.ctr("copied", "images", "push", "--plain-http", target, source)

    record = store.pulled("localhost/other/app:1")
    assert record is not None
    assert str(record.root.digest) == pushed.digest


@pytest.mark.parametrize("sent", [0, 1, 3_000_000, len(LARGE) - 1])
def test_upload_survives_kill_9_of_the_server(tmp_path: Path, sent: int) -> None:
    folder = tmp_path / "store"
    digest = digest_of(LARGE)
    with Process(folder) as address:
        location = Pusher(address).begin("team/app").location
        if sent:
            Pusher(address).ask("PATCH", location, LARGE[:sent])
    with Process(folder) as address:
        client = Pusher(address)
        state = client.ask("GET", location)
        assert (state.status, state.headers["range"]) == (204, f"0-{max(0, sent - 1)}")
        put = with_query(location, f"digest={digest}")
        span = {"Content-Range": f"{sent}-{len(LARGE) - 1}"}
        assert client.ask("PUT", put, LARGE[sent:], span).status == 201
    with Process(folder) as address:
        assert Pusher(address).ask("GET", f"/v2/team/app/blobs/{digest}").body == LARGE
    store = LocalStore(folder)
    assert store.load(Digest.parse(digest), limit=len(LARGE)) == LARGE


class Process:
    """A server in a process of its own, which is killed at the end."""

    def __init__(self, folder: Path) -> None:
        self._words = ["serve", "--writable", "--listen", "127.0.0.1:0", "--store", str(folder)]

    def __enter__(self) -> str:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "resolver", *self._words],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={"PATH": os.environ["PATH"], "HOME": str(Path(self._words[-1]).parent)},
        )
        assert self._process.stdout is not None
        return self._process.stdout.readline().decode().strip()

    def __exit__(self, *_: object) -> None:
        self._process.send_signal(signal.SIGKILL)
        self._process.communicate()
