"""Content from local sources: copied from there, and verified."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from resolver.core.oci.digest import Digest
from resolver.core.results.events import Warned
from resolver.core.results.plan import ContentState
from resolver.core.results.pull_events import PieceStarted
from resolver.errors import InvalidReference, ToolMissing, Unavailable, Usage
from resolver.session import Session
from resolver.sources.local.docker_engine import unpacked_layers
from resolver.store import LocalStore
from resolver.verbs.documents import DocumentReader
from resolver.verbs.fetch import open_place
from resolver.verbs.pull import unpacked_of
from tests.kit.engines import Engine, engine_at, program, running_engine
from tests.kit.images import Image, build_image, build_index
from tests.kit.pulls import RANGE, REPOSITORY, Counter, blobs, noise, puller
from tests.kit.registry import FakeRegistry

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from resolver.core.results.plan import Plan

AMD = "linux/amd64"
LARGE = noise(3 * RANGE)


@pytest.fixture
def image() -> Image:
    return build_image(AMD, [LARGE, noise(700)])


@pytest.fixture
def registry(image: Image) -> Iterator[FakeRegistry]:
    with FakeRegistry() as fake:
        fake.serve(REPOSITORY, "1", build_index([image]))
        yield fake


def tree(folder: Path, image: Image) -> Path:
    """Lay blobs out as containerd does."""
    for key, body in image.blobs.items():
        algorithm, _, digits = key.partition(":")
        path = folder / "blobs" / algorithm / digits
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(body)
    return folder


def layout(folder: Path, image: Image) -> Path:
    tree(folder, image)
    (folder / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')
    index = {"schemaVersion": 2, "manifests": []}
    (folder / "index.json").write_text(json.dumps(index))
    return folder


@pytest.mark.parametrize("kind", ["containerd", "containerd root", "layout", "oci:", "store"])
def test_pull_copies_content_from_a_local_source(
    registry: FakeRegistry, tmp_path: Path, image: Image, kind: str
) -> None:
    folder = tmp_path / "place"
    name = str(folder)
    if kind == "containerd":
        tree(folder, image)
    elif kind == "containerd root":
        tree(folder / "io.containerd.content.v1.content", image)
    elif kind == "store":
        with puller(registry, folder) as other:
            other.pull()
    else:
        layout(folder, image)
        name = f"oci:{folder}" if kind == "oci:" else name
    count = Counter(registry)
    count.new()
    with puller(registry, tmp_path / "store") as one:
        one.places = [open_place(name)]
        plan = one.plan()
        one.carry_out(plan)

        assert one.held(Digest.of(LARGE)) == LARGE
        started = [event.place for event in one.events if isinstance(event, PieceStarted)]
    held = [piece for piece in plan.pieces if piece.place == name]
    assert {str(piece.descriptor.digest) for piece in held} == set(image.blobs)
    assert all(piece.state is ContentState.HELD for piece in held)
    assert (plan.bytes_missing, plan.requests) == (0, 0)
    assert blobs(count.new()) == []
    assert started == [name] * len(image.blobs)


def test_pull_names_a_local_source_with_wrong_bytes_and_uses_the_registry(
    registry: FakeRegistry, tmp_path: Path, image: Image
) -> None:
    folder = tree(tmp_path / "place", image)
    digest = Digest.of(LARGE)
    (folder / "blobs" / "sha256" / digest.hex).write_bytes(bytes(len(LARGE)))
    with puller(registry, tmp_path / "store") as one:
        one.places = [open_place(str(folder))]
        one.pull()

        assert one.held(digest) == LARGE
        warned = [event for event in one.events if isinstance(event, Warned)]
    assert [event.code for event in warned] == ["place-unusable"]
    assert str(folder) in warned[0].message
    fetched = {seen.path.rpartition("/")[2] for seen in blobs(registry.log)}
    assert fetched == {str(digest)}


def test_pull_never_writes_to_a_local_source(
    registry: FakeRegistry, tmp_path: Path, image: Image
) -> None:
    folder = tree(tmp_path / "place", image)
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    with puller(registry, tmp_path / "store") as one:
        one.places = [open_place(str(folder))]
        one.pull()
        copy = one.store.root / "blobs" / "sha256" / Digest.of(LARGE).hex
        assert copy.stat().st_ino != (folder / "blobs/sha256" / copy.name).stat().st_ino
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == before


def test_pull_does_not_follow_links_in_a_local_source(
    registry: FakeRegistry, tmp_path: Path, image: Image
) -> None:
    folder = tree(tmp_path / "place", image)
    path = folder / "blobs" / "sha256" / Digest.of(LARGE).hex
    path.rename(tmp_path / "elsewhere")
    path.symlink_to(tmp_path / "elsewhere")
    with puller(registry, tmp_path / "store") as one:
        one.places = [open_place(str(folder))]
        plan = one.plan()

    (missing,) = plan.missing
    assert missing.descriptor.digest == Digest.of(LARGE)


@pytest.mark.parametrize("what", ["", "empty", "nowhere"])
def test_pull_rejects_a_local_source_without_images(tmp_path: Path, what: str) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(Usage):
        open_place(str(tmp_path / what))


def test_pull_names_the_unsupported_transport_of_another_tool(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InvalidReference, match="`ostree:` is not supported"):
        open_place("ostree:app")


def test_pull_source_may_be_a_folder(tmp_path: Path, image: Image) -> None:
    from resolver.core.platforms.platform import BUILTIN, Platform
    from resolver.sources.local.layout import LayoutSource
    from resolver.sources.local.tree import FolderTree
    from resolver.verbs.documents import PlatformRequest, read_local_root
    from resolver.verbs.plan import make_plan, plan_images
    from resolver.verbs.pull import transfer_plan

    folder = layout(tmp_path / "layout", image)
    entry = {"mediaType": image.media_type, "digest": image.digest, "size": image.size}
    (folder / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": [entry]}))
    (folder / "blobs/sha256" / image.digest.partition(":")[2]).write_bytes(image.body)
    source = LayoutSource(FolderTree(str(folder)))
    reader = DocumentReader(lambda: source, None, "oci:layout")
    asked = read_local_root(reader, "oci:layout", "")
    wish = PlatformRequest((Platform.parse(AMD),), explicit=True)
    store = LocalStore(tmp_path / "store", fsync=False)
    plan = make_plan([plan_images(reader, asked, [wish], BUILTIN)], store)
    done = transfer_plan(plan, lambda _image: source, store)

    assert [each.status for each in done.images] == ["downloaded"]
    assert store.load(Digest.of(LARGE)) == LARGE
    assert store.load(Digest.parse(image.digest)) == image.body
    assert store.pulled("oci:layout") is not None


# A Docker engine


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    with running_engine(tmp_path) as server:
        yield server


def test_docker_engine_lists_its_unpacked_layers(
    registry: FakeRegistry, engine: Engine, tmp_path: Path, image: Image
) -> None:
    diff_ids = json.loads(next(b for b in image.blobs.values() if b[:1] == b"{"))["rootfs"]
    name = f"sha256:{'a' * 64}"
    engine.answers = {
        "/images/json": [{"Id": name}, {"Id": "../../etc"}, "odd", {}],
        f"/images/{name}/json": {"RootFS": {"Layers": [diff_ids["diff_ids"][0], "odd", 3]}},
    }
    unpacked = unpacked_layers(engine_at(tmp_path))
    assert {str(each) for each in unpacked} == {diff_ids["diff_ids"][0]}

    with puller(registry, tmp_path / "store") as one:
        (planned,) = one.images()
        reader = DocumentReader(lambda: one.source, one.store, "")
        assert unpacked_of(reader, planned, unpacked) == (Digest.of(LARGE),)
        assert unpacked_of(reader, planned, frozenset()) == ()


@pytest.mark.parametrize(
    "answer", [None, b"[", b"{}", b"[" * 100_000, [{"Id": f"sha256:{'b' * 64}"}]]
)
def test_unhealthy_docker_engine_has_no_content(
    engine: Engine, tmp_path: Path, answer: object
) -> None:
    engine.answers = {"/images/json": answer}

    assert unpacked_layers(engine_at(tmp_path)) == frozenset()


@pytest.mark.parametrize("host", ["unix:///nowhere.sock", "tcp://127.0.0.1:1", "unix://\0", "odd"])
def test_missing_docker_engine_has_no_content(host: str) -> None:
    assert unpacked_layers({"DOCKER_HOST": host}) == frozenset()


def test_plan_names_docker_engine_layers_and_counts_them_as_missing(
    registry: FakeRegistry, engine: Engine, tmp_path: Path, image: Image
) -> None:
    rootfs = json.loads(next(b for b in image.blobs.values() if b[:1] == b"{"))["rootfs"]
    name = f"sha256:{'a' * 64}"
    engine.answers = {
        "/images/json": [{"Id": name}],
        f"/images/{name}/json": {"RootFS": {"Layers": rootfs["diff_ids"][:1]}},
    }

    with Session(tmp_path / "store", environment=engine_at(tmp_path)) as session:
        plan = session.plan(f"{registry.host}/{REPOSITORY}:1", AMD)
        there = session.unpacked(plan)
    with Session(tmp_path / "store", environment={"DOCKER_HOST": "unix:///no.sock"}) as session:
        nothing = session.unpacked(plan)

    assert [layer.digest for layer in there] == [Digest.of(LARGE)]
    assert [p.state for p in plan.pieces if p.descriptor in there] == [ContentState.MISSING]
    assert nothing == ()


# What an engine lacks


def diff_ids_in(image: Image) -> list[str]:
    body = next(body for body in image.blobs.values() if body[:1] == b"{")
    return list(json.loads(body)["rootfs"]["diff_ids"])


def lists(engine: Engine, *images: list[str]) -> None:
    """Let the engine list images with these unpacked layers."""
    names = [f"sha256:{number:064x}" for number in range(len(images))]
    engine.answers = {"/images/json": [{"Id": name} for name in names]}
    for name, layers in zip(names, images, strict=True):
        engine.answers[f"/images/{name}/json"] = {"RootFS": {"Layers": layers}}


def podman_with(folder: Path, *images: list[str]) -> dict[str, str]:
    """Install a podman that lists images with these unpacked layers."""
    names = " ".join(f"sha256:{number:064x}" for number in range(len(images)))
    lines = " ".join(f"'{json.dumps(layers)}'" for layers in images)
    return program(
        folder,
        "podman",
        f"case $1 in images) printf '%s\\n' {names} ;; image) printf '%s\\n' {lines} ;; esac",
    )


def lacking(plan: Plan) -> set[Digest]:
    assert plan.engine is not None
    return set(plan.engine.lacking)


def test_plan_lists_what_docker_and_podman_lack(
    registry: FakeRegistry, engine: Engine, tmp_path: Path, image: Image
) -> None:
    first, second = diff_ids_in(image)
    layers = json.loads(image.body)["layers"]
    bottom, top = (Digest.parse(each["digest"]) for each in layers)
    other = "sha256:" + "f" * 64
    name = f"{registry.host}/{REPOSITORY}:1"
    found = {}
    with Session(tmp_path / "store", environment=engine_at(tmp_path)) as session:
        for key, listed in {
            "none": [],
            "bottom": [[first, other]],
            "top": [[other, second]],
            "apart": [[first], [other, second]],
            "both": [[first, second]],
        }.items():
            lists(engine, *listed)
            found[key] = lacking(session.plan(name, AMD, to="docker"))
    by_podman = {}
    for key, listed in {"none": [], "apart": [[first], [other, second]]}.items():
        environment = podman_with(tmp_path, *listed)
        with Session(tmp_path / "store", environment=environment) as session:
            by_podman[key] = lacking(session.plan(name, AMD, to="podman"))

    whole = found["none"]
    documents = whole - {bottom, top}
    assert whole == by_podman["none"]
    assert len(documents) == 2
    # Docker has a layer only on top of those below it.
    assert found["bottom"] == documents | {top}
    assert found["top"] == whole
    assert found["apart"] == documents | {top}
    assert found["both"] == documents
    assert by_podman["apart"] == documents


def test_plan_lists_what_containerd_lacks(
    registry: FakeRegistry, tmp_path: Path, image: Image
) -> None:
    layers = json.loads(image.body)["layers"]
    script = f'echo "$@" > $OUT/args; echo {layers[0]["digest"]}; echo odd'
    environment = program(tmp_path, "ctr", script)

    with Session(tmp_path / "store", environment=environment) as session:
        plan = session.plan(
            f"{registry.host}/{REPOSITORY}:1", AMD, to="containerd", namespace="k8s.io"
        )

    every = {piece.descriptor.digest for piece in plan.pieces}
    assert lacking(plan) == every - {Digest.parse(layers[0]["digest"])}
    assert (tmp_path / "args").read_text() == "--namespace k8s.io content ls --quiet\n"


def test_plan_for_an_engine_elsewhere_counts_everything(
    registry: FakeRegistry, tmp_path: Path
) -> None:
    with Session(tmp_path / "store", environment={"DOCKER_HOST": "tcp://host:2376"}) as session:
        plan = session.plan(f"{registry.host}/{REPOSITORY}:1", AMD, to="docker")

    assert plan.engine is not None
    assert plan.engine.lacking == plan.engine.pieces


@pytest.mark.parametrize(
    ("engine", "environment"),
    [
        ("docker", {"DOCKER_HOST": "unix:///nowhere.sock"}),
        ("podman", {"PATH": "/nowhere"}),
        ("containerd", {"PATH": "/nowhere"}),
    ],
)
def test_plan_reports_an_engine_that_does_not_answer(
    registry: FakeRegistry, tmp_path: Path, engine: str, environment: dict[str, str]
) -> None:
    with (
        Session(tmp_path / "store", environment=environment) as session,
        pytest.raises(Unavailable),
    ):
        session.plan(f"{registry.host}/{REPOSITORY}:1", AMD, to=engine)


@pytest.mark.parametrize("to", ["./docker", "images.tar", "cri-o"])
def test_plan_and_pull_refuse_what_is_not_an_engine(
    registry: FakeRegistry, tmp_path: Path, to: str
) -> None:
    name = f"{registry.host}/{REPOSITORY}:1"
    with Session(tmp_path / "store") as session:
        with pytest.raises(Usage, match="is not a container engine"):
            session.plan(name, AMD, to=to)
        with pytest.raises(Usage, match="is not a container engine"):
            session.pull(name, AMD, to=to)

    assert registry.requests() == []


def test_pull_without_the_engine_fetches_nothing(registry: FakeRegistry, tmp_path: Path) -> None:
    with (
        Session(tmp_path / "store", environment={"PATH": "/nowhere"}) as session,
        pytest.raises(ToolMissing),
    ):
        session.pull(f"{registry.host}/{REPOSITORY}:1", AMD, to="podman")

    assert registry.requests() == []
