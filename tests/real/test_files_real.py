"""The files of images that umoci and buildah built, against GNU tar applied in order."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from typing import TYPE_CHECKING

import pytest

from resolver.core.compare.files import facts_of
from resolver.core.oci.target import parse_target
from resolver.session import Session
from resolver.settings import Flags
from resolver.verbs.gather import Depth
from resolver.verbs.layers import LayeredImage, fetching, read_trees
from tests.real.conftest import require
from tests.real.unpacked import Facts, listed, unpack

if TYPE_CHECKING:
    from pathlib import Path

    from resolver.core.layers.filetree import FileTree
    from tests.real.registries import RealRegistry

pytestmark = [
    pytest.mark.real,
    pytest.mark.skipif(os.geteuid() != 0, reason="owners and devices are root's to set"),
]

LONG = "a-name-of-some-length/" * 9 + "n" * 120
_LETTERS = {"file": "-", "folder": "d", "symlink": "l", "character": "c", "fifo": "p"}


def ours(name: str, store: Path) -> FileTree:
    """Read an image of a layout or an archive in place."""
    with Session(store) as session:
        (part,) = session._context.gather(session._context.open(name), Depth()).sound().images
        content = session._context.source(parse_target(name))
        (tree,) = read_trees([LayeredImage.of(part, "it", f"`{name}`", content)])
    return tree.tree


def tree_facts(tree: FileTree) -> dict[str, Facts]:
    """Return a tree in the form of the reference."""
    found: dict[str, Facts] = {}
    for path, file in tree.walk():
        each = facts_of(path, file)
        kind = _LETTERS[each.kind]
        what = {"-": str(each.size), "l": each.link}.get(kind, "")
        mode = 0 if kind == "l" else each.mode
        found[path] = (kind, mode, (each.uid, each.gid), what, each.sha256)
    return found


def layers_of(layout: Path) -> list[Path]:
    """Find the layers of the only image of a layout, lowest first; our code takes no part."""

    def blob(digest: str) -> Path:
        return layout / "blobs" / digest.replace(":", "/")

    (entry,) = json.loads((layout / "index.json").read_text())["manifests"]
    manifest = json.loads(blob(entry["digest"]).read_text())
    return [blob(layer["digest"]) for layer in manifest["layers"]]


def media_types(layout: Path) -> set[str]:
    (entry,) = json.loads((layout / "index.json").read_text())["manifests"]
    body = (layout / "blobs" / entry["digest"].replace(":", "/")).read_text()
    return {layer["mediaType"] for layer in json.loads(body)["layers"]}


def agrees(name: str, layers: list[Path], folder: Path) -> None:
    expected = listed(unpack(layers, folder / "reference"))

    found = tree_facts(ours(name, folder / "store"))

    assert len(expected) > 10
    assert found == expected


# What goes into the images


def first(root: Path) -> None:
    """Create what later steps change: files, links, devices, long names, holes."""
    for name in ("d/a", "d/b", "e/x", "e/y", "usr/lib/libz.so.1", "gone/in/deep", "was-a-folder/x"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(f"content of {name}\n" * 50)
    (root / LONG).parent.mkdir(parents=True)
    (root / LONG).write_text("a long way down")
    (root / "lib").symlink_to("usr/lib")
    (root / ("s" * 90)).symlink_to("t" * 200)
    os.link(root / "d/a", root / "d/hard")
    os.mkfifo(root / "fifo", 0o640)
    os.mknod(root / "null", 0o20666, os.makedev(1, 3))
    os.chmod(root / "d/b", 0o4755)  # noqa: PTH101
    os.chown(root / "e/x", 1000, 3_000_000)
    with (root / "holes").open("wb") as file:
        for number in range(30):
            file.seek(number * 100_000)
            file.write(b"data")
        file.truncate(4_000_000)
    (root / "ünïcödé").write_text("text")


def second(root: Path) -> None:
    """Change, remove and replace files."""
    (root / "d/a").unlink()
    shutil.rmtree(root / "gone")
    shutil.rmtree(root / "e")
    (root / "e").mkdir()
    (root / "e/new").write_text("after an opaque folder")
    shutil.rmtree(root / "was-a-folder")
    (root / "was-a-folder").write_text("now a file")
    (root / "d/b").write_text("changed")
    (root / "usr/lib/added").write_text("more")
    (root / "fifo").unlink()
    (root / "fifo").mkdir(0o700)


# umoci


def umoci(*words: str) -> None:
    subprocess.run(["umoci", *words], check=True, capture_output=True)


@pytest.fixture
def built_by_umoci(tmp_path: Path) -> Path:
    """Build an image in two steps."""
    require({"umoci": "umoci"})
    layout = tmp_path / "layout"
    image = f"{layout}:1"
    umoci("init", "--layout", str(layout))
    umoci("new", "--image", image)
    for number, change in enumerate((first, second)):
        bundle = tmp_path / f"bundle-{number}"
        umoci("unpack", "--image", image, str(bundle))
        change(bundle / "rootfs")
        umoci("repack", "--image", image, str(bundle))
    return layout


def test_umoci_image_has_the_files_gnu_tar_unpacks(built_by_umoci: Path, tmp_path: Path) -> None:
    layers = layers_of(built_by_umoci)
    assert len(layers) == 2

    agrees(f"oci:{built_by_umoci}:1", layers, tmp_path)


def test_umoci_layer_without_padding_and_end_mark_is_read(
    built_by_umoci: Path, tmp_path: Path
) -> None:
    """GNU tar says "Unexpected EOF" of such a layer; umoci, Docker and containerd take it."""
    (tmp_path / "inserted").write_text("its last block is not filled up")
    umoci("insert", "--image", f"{built_by_umoci}:1", str(tmp_path / "inserted"), "/opt/inserted")
    umoci("unpack", "--image", f"{built_by_umoci}:1", str(tmp_path / "bundle"))
    expected = listed(tmp_path / "bundle/rootfs")
    assert expected["opt/inserted"][3] == "31"

    found = tree_facts(ours(f"oci:{built_by_umoci}:1", tmp_path / "store"))

    assert found == expected


@pytest.mark.parametrize("form", ["gnu", "pax", "ustar", "oldgnu"])
def test_gnu_tar_layers_in_each_format_are_read(
    built_by_umoci: Path, tmp_path: Path, form: str
) -> None:
    """As people add with `umoci raw add-layer`: whiteouts, sparse files, ways through links."""
    root = tmp_path / "more"
    (root / "lib").mkdir(parents=True)
    (root / "lib/through-a-link").write_text("lands in usr/lib")
    (root / "d").mkdir()
    (root / "d/.wh.hard").touch()
    (root / "e").mkdir()
    (root / "e/.wh..wh..opq").touch()
    (root / "e/last").write_text("last")
    with (root / "sparse").open("wb") as file:
        for number in range(50):
            file.seek(number * 50_000)
            file.write(b"%d" % number)
    if form != "ustar":
        (root / ("x" * 150)).write_text("long")
    archive = tmp_path / "more.tar"
    sparse = ["--sparse"] if form != "ustar" else []
    # Without `lib/` itself, so that the link of the lower layer stays.
    names = sorted(set(os.listdir(root)) - {"lib"})  # noqa: PTH208
    command = ["tar", f"--format={form}", *sparse, "-C", str(root), "-cf", str(archive)]
    subprocess.run([*command, *names, "lib/through-a-link"], check=True)
    umoci("raw", "add-layer", "--image", f"{built_by_umoci}:1", str(archive))
    layers = layers_of(built_by_umoci)
    assert len(layers) == 3

    agrees(f"oci:{built_by_umoci}:1", layers, tmp_path)
    found = tree_facts(ours(f"oci:{built_by_umoci}:1", tmp_path / "store"))
    assert "usr/lib/through-a-link" in found
    assert sorted(path for path in found if path.startswith("e/")) == ["e/last"]


# buildah


class Buildah:
    """buildah with separate storage in plain folders, so that it runs wherever root does."""

    def __init__(self, folder: Path) -> None:
        self._words = [
            "buildah",
            "--storage-driver=vfs",
            f"--root={folder / 'root'}",
            f"--runroot={folder / 'run'}",
        ]

    def __call__(self, *words: str) -> str:
        done = subprocess.run([*self._words, *words], check=False, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()


@pytest.fixture(scope="module")
def buildah(tmp_path_factory: pytest.TempPathFactory) -> Buildah:
    """Build an image in two steps, `localhost/app:1`."""
    require({"buildah": "buildah", "zstd": "zstd"})
    run = Buildah(tmp_path_factory.mktemp("buildah"))
    base = "scratch"
    for number, change in enumerate((first, second)):
        container = run("from", "--pull-never", base)
        change_root = run("mount", container)
        change(_path(change_root))
        base = f"localhost/app:{number}"
        run("commit", "--quiet", container, base)
    return run


def _path(text: str) -> Path:
    from pathlib import Path

    return Path(text)


@pytest.mark.parametrize(
    ("options", "suffix"),
    [
        (["--compression-format=gzip"], "+gzip"),
        (["--compression-format=zstd"], "+zstd"),
    ],
)
def test_buildah_image_has_the_files_gnu_tar_unpacks(
    buildah: Buildah, tmp_path: Path, options: list[str], suffix: str
) -> None:
    layout = tmp_path / "layout"
    buildah("push", "--quiet", *options, "localhost/app:1", f"oci:{layout}:1")
    assert media_types(layout) == {f"application/vnd.oci.image.layer.v1.tar{suffix}"}

    agrees(f"oci:{layout}:1", layers_of(layout), tmp_path)


def test_uncompressed_layers_of_a_docker_archive_are_read(buildah: Buildah, tmp_path: Path) -> None:
    archive = tmp_path / "app.tar"
    buildah("push", "--quiet", "localhost/app:1", f"docker-archive:{archive}:app:1")
    inside = tmp_path / "inside"
    inside.mkdir()
    subprocess.run(["tar", "-C", str(inside), "-xf", str(archive)], check=True)
    (listing,) = json.loads((inside / "manifest.json").read_text())

    agrees(f"docker-archive:{archive}", [inside / name for name in listing["Layers"]], tmp_path)


def test_image_with_docker_types_is_stored_once(
    buildah: Buildah, registry: RealRegistry, tmp_path: Path
) -> None:
    """Fetched from a registry into the store and read there; no blob is fetched twice."""
    name = f"{registry.host}/files/app:1"
    target = ["--format=v2s2", "--tls-verify=false", "localhost/app:1", f"docker://{name}"]
    buildah("push", "--quiet", *target)
    store = tmp_path / "store"
    trees = []
    fetched = []
    blobs: list[Path] = []
    for _ in range(2):
        before = registry.seen()
        with Session(store, flags=Flags(plain_http=True)) as session:
            (part,) = session._context.gather(session._context.open(name), Depth()).sound().images
            assert part.manifest is not None
            assert {layer.media_type for layer in part.manifest.layers} == {
                "application/vnd.docker.image.rootfs.diff.tar.gzip"
            }

            def source(session: Session = session) -> object:
                return session._context.source(parse_target(name))

            with fetching(session._context.store, source, f"compare {name}") as content:  # type: ignore[arg-type] # a source is content
                (read,) = read_trees([LayeredImage.of(part, "it", name, content)])
            blobs = [store / "blobs" / "sha256" / each.digest.hex for each in part.manifest.layers]
        trees.append(tree_facts(read.tree))
        lines = registry.requests(0, before)
        fetched.append(sum("/blobs/" in line for line in lines))

    assert trees[0] == trees[1] == listed(unpack(blobs, tmp_path / "reference"))
    assert fetched[0] >= 2
    assert fetched[1] == 0
