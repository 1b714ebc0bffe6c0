"""Compare through a session: the requests and the supported sources."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

import pytest

from resolver import Thresholds
from resolver.core.compare.compare import ChangeKind
from resolver.errors import (
    InvalidPlatform,
    ManifestNotFound,
    NotFound,
    NotInStore,
    PlatformNotOffered,
    Usage,
)
from resolver.session import Session
from tests.kit.images import build_image, build_index, build_layer, listed_as, multi_platform
from tests.kit.messages import Reply
from tests.kit.registry import FakeRegistry

if TYPE_CHECKING:
    from pathlib import Path

    from tests.kit.images import Image
    from tests.kit.messages import Seen

AMD64, ARM64 = "linux/amd64", "linux/arm64/v8"
NINE = (
    AMD64, ARM64, "linux/arm/v7", "linux/arm/v6", "linux/386", "linux/ppc64le", "linux/s390x",
    "linux/riscv64", "windows/amd64:10.0.20348.1",
)  # fmt: skip


def app(version: str, *platforms: str) -> Image:
    """Make an image whose platforms share a base layer and differ in their program."""
    base = build_layer({"etc/os": b"base" * 100})
    return build_index(
        [
            build_image(
                each,
                [base, build_layer({"app": f"{version} {each}".encode()})],
                config={"config": {"Env": [f"VERSION={version}"]}},
            )
            for each in platforms
        ]
    )


def test_compare_nine_platforms_costs_one_request_per_document_then_one(
    registry: FakeRegistry, session: Session
) -> None:
    registry.serve("app", "1", multi_platform(*NINE, attestations=True))
    name = f"{registry.host}/app:1"

    cold = session.compare(name)
    first = registry.log
    warm = session.compare(name)
    second = registry.log[len(first) :]

    assert [build.name for build in cold.builds] == list(NINE)
    assert len(first) == 1 + 9 + 9
    assert max(registry.hits.values()) == 1
    assert [seen.method for seen in second] == ["HEAD"]
    assert warm.sharing == cold.sharing


def test_compare_requests_documents_concurrently(registry: FakeRegistry, session: Session) -> None:
    image = multi_platform(*NINE)
    registry.serve("app", "1", image)
    here = threading.Barrier(4, timeout=20)
    held = iter(range(4))

    def together(seen: Seen) -> Reply:
        if next(held, None) is not None:
            here.wait()
        kind, body = image.documents[seen.path.rpartition("/")[2]]
        return Reply(200, {"Content-Type": kind}, body)

    for child in image.children:
        registry.on("GET", f"/v2/app/manifests/{child.digest}", together)

    begun = time.monotonic()
    found = session.compare(f"{registry.host}/app:1")

    # The first four replies wait for each other, so sequential requests would deadlock.
    assert len(found.builds) == 9
    assert time.monotonic() - begun < 20


def test_compare_reads_only_the_requested_platforms(
    registry: FakeRegistry, session: Session
) -> None:
    registry.serve("app", "1", multi_platform(*NINE))

    found = session.compare(f"{registry.host}/app:1", ["linux/arm64", AMD64], base="linux/arm64")

    assert [build.name for build in found.builds] == [AMD64, ARM64]
    assert found.builds[found.base].name == ARM64
    assert len(registry.log) == 1 + 2 + 2


def test_compare_platform_all_is_every_platform(registry: FakeRegistry, session: Session) -> None:
    registry.serve("app", "1", multi_platform(AMD64, ARM64))

    assert len(session.compare(f"{registry.host}/app:1", "all").builds) == 2


def test_compare_ignores_docker_default_platform(registry: FakeRegistry, tmp_path: Path) -> None:
    registry.serve("app", "1", multi_platform(AMD64, ARM64))
    environment = {"DOCKER_DEFAULT_PLATFORM": AMD64}

    with Session(tmp_path, environment=environment) as session:
        assert len(session.compare(f"{registry.host}/app:1").builds) == 2


def test_compare_lists_offered_platforms_for_a_missing_one(
    registry: FakeRegistry, session: Session
) -> None:
    registry.serve("app", "1", multi_platform(AMD64, ARM64))
    registry.serve("app", "2", multi_platform(AMD64))
    name = f"{registry.host}/app"

    with pytest.raises(PlatformNotOffered) as one:
        session.compare(f"{name}:1", "linux/s390x")
    with pytest.raises(PlatformNotOffered) as both:
        session.compare_images(f"{name}:1", f"{name}:2", "linux/s390x")

    assert one.value.offered == both.value.offered == (AMD64, ARM64)


def test_compare_rejects_invalid_options_before_any_request(session: Session) -> None:
    name = "127.0.0.1:9/app"

    with pytest.raises(InvalidPlatform):
        session.compare(name, "linux//v8")
    with pytest.raises(InvalidPlatform):
        session.compare(name, expect=["linux//v8"])
    with pytest.raises(Usage):
        session.compare(name, ignore=["nothing"])


def test_compare_fails_when_a_build_is_gone(registry: FakeRegistry, session: Session) -> None:
    gone = build_image(ARM64)
    registry.serve("app", "1", build_index([build_image(AMD64), gone]))
    registry.on("GET", f"/v2/app/manifests/{gone.digest}", Reply(404))

    with pytest.raises(ManifestNotFound):
        session.compare(f"{registry.host}/app:1")
    # Other platforms can be compared without it.
    assert len(session.compare(f"{registry.host}/app:1", AMD64).builds) == 1


def test_compare_rejects_an_index_without_images(registry: FakeRegistry, session: Session) -> None:
    registry.serve("app", "1", build_index([]))
    name = f"{registry.host}/app:1"

    with pytest.raises(NotFound, match="no image to compare"):
        session.compare(name)
    with pytest.raises(NotFound, match="offers no platform"):
        session.compare(name, expect_as=name)


def test_compare_takes_expected_platforms_from_another_image(
    registry: FakeRegistry, session: Session
) -> None:
    silent = listed_as(build_image("linux/s390x"), "")
    registry.serve("app", "1", multi_platform(AMD64))
    registry.serve("app", "0", build_index([build_image(AMD64), build_image(ARM64), silent]))
    name = f"{registry.host}/app"

    found = session.compare(f"{name}:1", expect_as=f"{name}:0")

    assert [str(platform) for platform in found.missing] == [ARM64, "linux/s390x"]
    assert [reason.aspect for reason in found.reasons] == ["platforms", "platforms"]
    # Of the other, the index, what the entry without a platform is, and whether the one entry
    # whose platform is missing here is an image at all.
    assert len(registry.log) == (1 + 2) + (1 + 2 + 1)


def test_compare_of_two_images_in_a_repository_shares_documents(
    registry: FakeRegistry, session: Session
) -> None:
    registry.serve("app", "1", app("1", AMD64, ARM64, "linux/s390x"))
    registry.serve("app", "2", app("2", AMD64, "linux/arm64", "linux/riscv64"))
    name = f"{registry.host}/app"

    found = session.compare_images(f"{name}:1", f"{name}:2")

    assert [(each.name, each.change) for each in found.changes] == [
        (AMD64, ChangeKind.CHANGED),
        ("linux/arm64", ChangeKind.CHANGED),
        ("linux/riscv64", ChangeKind.ADDED),
        ("linux/s390x", ChangeKind.REMOVED),
    ]
    assert [drift.name for drift in found.changes[0].drift] == ["env.VERSION"]
    assert found.fetch.layers == 3
    assert len(registry.log) == 2 * (1 + 3 + 3)
    assert [reason.message for reason in found.reasons] == [
        f"`{name}:1` and `{name}:2` differ: 2 changed, 1 added, 1 removed"
    ]


def test_compare_fails_only_on_selected_aspects(registry: FakeRegistry, session: Session) -> None:
    registry.serve("app", "1", app("1", AMD64))
    registry.serve("app", "2", app("2", AMD64))
    name = f"{registry.host}/app"
    sizes = Thresholds(frozenset({"size", "platforms"}), max_ratio=1.5)

    found = session.compare_images(f"{name}:1", f"{name}:2", thresholds=sizes)

    assert found.reasons == ()


def test_compare_recognises_a_mirror_by_digest(session: Session) -> None:
    image = app("1", AMD64, ARM64)
    with FakeRegistry() as here, FakeRegistry() as there:
        here.serve("app", "1", image)
        there.serve("mirror/app", "latest", image)

        found = session.compare_images(
            f"{here.host}/app:1", f"{there.host}/mirror/app:latest", ["linux/arm64"], expect=[AMD64]
        )

        assert found.is_same
        assert not found.reasons
        assert not found.missing
        assert (len(here.log), len(there.log)) == (1, 1)
        with pytest.raises(PlatformNotOffered):
            session.compare_images(
                f"{here.host}/app:1", f"{there.host}/mirror/app:latest", "linux/s390x"
            )


def test_compare_accepts_registry_layout_archive_and_store(
    registry: FakeRegistry, session: Session, tmp_path: Path
) -> None:
    registry.serve("app", "1", app("1", AMD64, ARM64))
    registry.serve("app", "2", app("2", AMD64, ARM64))
    one, two = f"{registry.host}/app:1", f"{registry.host}/app:2"
    session.pull([one, two], "all")
    session.export(one, str(tmp_path / "layout"), platforms=["all"])
    session.export(two, str(tmp_path / "two.tar"), platforms=["all"])
    asked = len(registry.log)
    layout, archive = f"oci:{tmp_path / 'layout'}", f"oci-archive:{tmp_path / 'two.tar'}"

    assert session.compare_images(layout, f"store:{one}").is_same
    assert session.compare_images(f"store:{two}", archive).is_same
    found = session.compare_images(layout, archive)
    assert len(session.compare(layout).builds) == 2

    assert [each.change for each in found.changes] == [ChangeKind.CHANGED] * 2
    assert found.fetch.layers == 2
    assert len(registry.log) == asked


def test_compare_an_image_without_an_index_to_one_with_an_index(
    registry: FakeRegistry, session: Session
) -> None:
    alone = build_image(AMD64)
    registry.serve("app", "single", alone)
    registry.serve("app", "many", build_index([alone, build_image(ARM64)]))
    name = f"{registry.host}/app"

    found = session.compare_images(f"{name}:single", f"{name}:many")

    assert [each.change for each in found.changes] == [ChangeKind.UNCHANGED, ChangeKind.ADDED]
    assert len(session.compare(f"{name}:single").builds) == 1


def test_compare_offline_answers_from_the_store_or_fails(
    registry: FakeRegistry, session: Session, tmp_path: Path
) -> None:
    registry.serve("app", "1", multi_platform(AMD64, ARM64))
    name = f"{registry.host}/app:1"
    session.compare(name)

    with Session(tmp_path / "store", offline=True) as offline:
        assert len(offline.compare(name).builds) == 2
    with Session(tmp_path / "other", offline=True) as offline, pytest.raises(NotInStore):
        offline.compare(name)


def files_of(version: str, platform: str, base: bytes) -> Image:
    """Make a build with a package, a shared base, and a path that names its architecture."""
    status = (
        f"Package: app\nStatus: install ok installed\nVersion: {version}\nArchitecture: all\n\n"
    )
    own = build_layer(
        {
            "var/lib/dpkg/status": status.encode(),
            "srv/version": version.encode(),
            f"usr/lib/{platform.rpartition('/')[2]}.txt": b"x" * 1_000,
        }
    )
    return build_image(platform, [base, own])


def test_compare_files_fetches_each_layer_once(
    registry: FakeRegistry, session: Session, tmp_path: Path
) -> None:
    base = build_layer({"etc/os": b"base" * 100})
    images = [
        files_of(version, each, base) for each, version in ((AMD64, "1"), ("linux/s390x", "2"))
    ]
    registry.serve("app", "1", build_index(images))
    name = f"{registry.host}/app:1"

    found = session.compare(
        name, files=True, thresholds=Thresholds(frozenset({"files", "packages"}))
    )
    fetched = [path for path in registry.hits if "/blobs/" in path]
    session.compare(name, files=True)

    assert found.files is not None
    tree = found.files.others[0]
    assert [each.path for each in tree.differences] == [
        "srv/version",
        "var/lib/dpkg/status",
    ]
    assert [(each.name, each.before, each.after) for each in tree.packages] == [
        ("app", ("1",), ("2",))
    ]
    assert [reason.message for reason in found.reasons] == [
        "`linux/s390x`: 2 paths differ",
        "`linux/s390x`: 1 package differs",
    ]
    # Two configs and three different layers, and never again.
    assert len(fetched) == 2 + 3
    assert max(count for path, count in registry.hits.items() if "/blobs/" in path) == 1
    with Session(tmp_path / "store", offline=True) as offline:
        assert offline.compare(name, files=True).files == found.files


def test_compare_files_does_not_fetch_windows_layers_for_linux(
    registry: FakeRegistry, session: Session
) -> None:
    base = build_layer({"etc/os": b"base" * 100})
    linux = [files_of("1", each, base) for each in (AMD64, "linux/s390x")]
    windows = build_image("windows/amd64:10.0.20348.1", [build_layer({"Files/a": b"a" * 1_000})])
    registry.serve("app", "1", build_index([windows, *linux]))
    name = f"{registry.host}/app:1"

    found = session.compare(name, files=True, thresholds=Thresholds(frozenset({"files"})))

    assert found.files is not None
    assert [bool(tree.not_compared) for tree in found.files.others] == [True, False]
    assert found.reasons == ()
    # Three configs and the three layers of Linux.
    assert len([path for path in registry.hits if "/blobs/" in path]) == 3 + 3

    of_windows = session.compare(name, files=True, base="windows/amd64")
    assert of_windows.files is not None
    assert [bool(tree.not_compared) for tree in of_windows.files.others] == [True, True]


def test_compare_files_of_two_images_reads_changed_content_only(
    registry: FakeRegistry, session: Session
) -> None:
    base = build_layer({"etc/os": b"base" * 100})
    same = files_of("1", "linux/s390x", base)
    registry.serve("app", "1", build_index([files_of("1", AMD64, base), same]))
    registry.serve("app", "2", build_index([files_of("2", AMD64, base), same]))
    name = f"{registry.host}/app"

    found = session.compare_images(f"{name}:1", f"{name}:2", files=True)

    changed, unchanged = found.changes
    assert unchanged.files is None
    assert changed.files is not None
    assert [each.path for each in changed.files.others[0].differences] == [
        "srv/version",
        "var/lib/dpkg/status",
    ]
    layers = [path for path in registry.hits if path.endswith(tuple(same.blobs)[1:])]
    assert [registry.hits[path] for path in layers] == [1]


def test_compare_files_reads_layouts_in_place(
    registry: FakeRegistry, session: Session, tmp_path: Path
) -> None:
    base = build_layer({"etc/os": b"base"})
    for version in ("1", "2"):
        registry.serve("app", version, build_index([files_of(version, AMD64, base)]))
        session.pull(f"{registry.host}/app:{version}", "all")
        session.export(f"{registry.host}/app:{version}", str(tmp_path / version), platforms=["all"])
    asked = len(registry.log)

    with Session(tmp_path / "empty") as other:
        found = other.compare_images(f"oci:{tmp_path / '1'}", f"oci:{tmp_path / '2'}", files=True)
    held = session.compare(f"store:{registry.host}/app:1", files=True)

    assert found.changes[0].files is not None
    assert held.files is not None
    assert len(registry.log) == asked


def test_compare_file_threshold_requires_files(session: Session) -> None:
    with pytest.raises(Usage, match="only by reading layers"):
        session.compare("127.0.0.1:9/app", thresholds=Thresholds(frozenset({"packages"})))
