"""Hostile layers (area "tar" of the catalogue).

The library reads and compares them, as every command does; tests with `untouched` fail if a file is
opened meanwhile.
"""

from __future__ import annotations

import gzip
import random
import subprocess
import sys
import time
import tracemalloc
from contextlib import contextmanager
from types import ModuleType
from typing import TYPE_CHECKING, Any

import pytest
from backports import zstd

from resolver.core.compare.files import LabelledTree, compare_trees
from resolver.core.layers.filetree import FileTree
from resolver.core.layers.listing import read_listing
from resolver.core.oci.manifest import parse_config
from resolver.core.platforms.platform import BUILTIN, Platform
from resolver.errors import BadDocument, LimitExceeded, UnsupportedDocument, Untrusted
from resolver.verbs.layers import LayeredImage
from tests.adversarial.rusage import measured
from tests.kit.executables import elf_header
from tests.kit.images import build_image, build_index
from tests.kit.layers import GZIP, TAR, Contents, archive, image, paths, trees_of
from tests.kit.processes import ROOT
from tests.kit.tar_blocks import END, ZERO, base256, header, member, octal, pax, record

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path
    from types import FrameType

    from resolver.core.compare.file_difference import FileComparison
    from tests.adversarial.actor import Actor
    from tests.adversarial.hosts import Hosts

#: Functions that open or create files, or start a program.
_TOUCHING = {
    "open", "mkdir", "link", "symlink", "rename", "replace", "remove", "unlink", "chmod", "chown",
    "mknod", "fork_exec", "posix_spawn",
}  # fmt: skip


@contextmanager
def touching() -> Iterator[list[str]]:
    """List the calls of this thread that touch files.

    Not by an audit hook: it stays for good, and `sys.settrace`, which coverage calls in each new
    thread, fails in Python 3.11 while another thread is in such a hook.
    """
    seen: list[str] = []

    def look(_frame: FrameType, event: str, function: Any) -> None:
        if event == "c_call" and function.__name__ in _TOUCHING:
            owner = getattr(function, "__self__", None)
            if owner is None or isinstance(owner, ModuleType):
                seen.append(function.__name__)

    before = sys.getprofile()
    sys.setprofile(look)
    try:
        yield seen
    finally:
        sys.setprofile(before)


@pytest.fixture
def untouched() -> Iterator[None]:
    """Ensure that nothing on this machine is opened or created (I2)."""
    with touching() as seen:
        yield
    assert seen == []


def test_calls_that_touch_files_are_seen(tmp_path: Path) -> None:
    with touching() as seen:
        (tmp_path / "a").write_bytes(b"")
        (tmp_path / "a").rename(tmp_path / "b")
        "text".replace("t", "")
        subprocess.run([sys.executable, "-c", ""], check=True)

    assert seen[0] == "open"
    assert [name for name in seen if name != "open"] in (
        ["rename", "fork_exec"],
        ["rename", "posix_spawn"],
    )


def compared(*layers: bytes, other: tuple[bytes, ...]) -> FileComparison:
    """Compare two images whose layers are these archives, in this thread."""
    return compare_trees(grown(*layers), [grown(*other)], BUILTIN)


def grown(*layers: bytes) -> LabelledTree:
    tree = FileTree()
    for number, body in enumerate(layers):
        what = f"layer {number + 1}"
        tree.apply(read_listing([body], what), what)
    return LabelledTree("linux/amd64", Platform("linux", "amd64"), tree)


def names(*layers: bytes) -> list[str]:
    return paths(grown(*layers))


@pytest.mark.usefixtures("untouched")
def test_tar_001_paths_outside_the_root_stay_inside() -> None:
    hostile = [b"../x", b"/etc/canary", b"a/../../x", b"..\\x", b"C:\\x", b"./", b""]
    body = b"".join(member(name, b"x") for name in hostile) + END

    found = [names(body) for _ in range(3)]
    assert found[0] == found[1] == found[2] == ["..\\x", "C:\\x", "etc", "etc/canary", "x"]
    assert compared(body, other=(body,)).is_same


@pytest.mark.usefixtures("untouched")
def test_tar_002_links_and_devices_are_listed_and_never_followed() -> None:
    parts = [
        header(b"s", 0, b"2", link=b"/etc/passwd"),
        header(b"h", 0, b"1", link=b"../../canary"),
        header(b"c", 0, b"3", fields={329: octal(1, 8), 337: octal(3, 8)}),
        header(b"b", 0, b"4", fields={329: octal(8, 8), 337: octal(0, 8)}),
        header(b"p", 0, b"6"),
        header(b"l1", 0, b"2", link=b"l2"),
        header(b"l2", 0, b"2", link=b"l1"),
        header(b"early", 0, b"1", link=b"late"),
        member(b"late", b"content"),
    ]
    tree = grown(b"".join(parts) + END)

    found = {path: (each.kind.value, each.link, each.device) for path, each in tree.tree.walk()}
    assert found == {
        "s": ("l", "/etc/passwd", None),
        "h": ("h", "canary", None),
        "c": ("c", "", (1, 3)),
        "b": ("b", "", (8, 0)),
        "p": ("p", "", None),
        "l1": ("l", "l2", None),
        "l2": ("l", "l1", None),
        "early": ("-", "", None),
        "late": ("-", "", None),
    }
    long = pax(record(b"linkpath", b"t" * 65536)) + header(b"s", 0, b"2") + END
    with pytest.raises(LimitExceeded, match="limit of 4096 bytes: 65536"):
        names(long)


@pytest.mark.parametrize("pack", [gzip.compress, zstd.compress], ids=["gzip", "zstd"])
def test_tar_003_decompression_bomb_is_refused_in_little_memory_and_time(pack: object) -> None:
    contents = Contents()
    zeros = pack(bytes(16 << 20))  # type: ignore[operator] # one of the two above
    start = pack(header(b"zeros", size=10 << 30))  # type: ignore[operator] # likewise
    bomb = contents.add(start + zeros * 640)

    started = time.monotonic()
    tracemalloc.start()
    with pytest.raises(LimitExceeded, match="inflates to"):
        trees_of([image(contents, (bomb, b""))])
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 64 << 20
    assert time.monotonic() - started < 60


@pytest.mark.usefixtures("untouched")
def test_tar_012_whiteouts_across_layers_give_the_same_tree() -> None:
    folder = header(b"e/", 0, b"5")
    first = archive("d/a", "d/b")
    first = first[: -len(END)] + member(b"e/x", b"x") + END
    second = [header(b"d/.wh.a"), folder, header(b"e/.wh..wh..opq"), member(b"d/c", b"c")]
    flat = archive("d/b")[: -len(END)] + member(b"d/c", b"c") + folder + END

    assert names(first, b"".join(second) + END) == names(flat) == ["d", "d/b", "d/c", "e"]
    assert compared(first, b"".join(second) + END, other=(flat,)).is_same


@pytest.mark.usefixtures("untouched")
@pytest.mark.parametrize("order", [1, -1])
def test_tar_013_degenerate_whiteouts_remove_only_what_they_name(order: int) -> None:
    base = archive("d/a", "x", "y")
    odd = [
        ".wh.", "d/.wh.", ".wh...", ".wh..wh.plnk/1", ".wh.../x", "d/.wh.d", "x", ".wh.x",
        "no/.wh.such",
    ]  # fmt: skip

    found = names(base, archive(*odd[::order]))
    assert {"d", "d/a", "x", "y"} <= set(found)
    assert names(base, archive(".wh..wh..opq", "z")) == ["z"]
    # The whiteout of a folder, from inside it.
    assert names(base, archive("d/.wh..wh..opq", ".wh.d")) == ["x", "y"]


@pytest.mark.usefixtures("untouched")
def test_tar_014_last_duplicate_entry_wins() -> None:
    file, folder, link = member(b"x", b"1"), header(b"x", 0, b"5"), header(b"x", 0, b"2", link=b"t")
    for last, kind in ((file, "-"), (folder, "d"), (link, "l")):
        others = [part for part in (file, folder, link) if part is not last]
        ((path, each),) = grown(b"".join([*others, last]) + END).tree.walk()
        assert (path, each.kind.value) == ("x", kind)
    assert names(member(b"./x", b"1") + member(b"x", b"12") + header(b"x/") + END) == ["x"]


_MANY = """
import resource, sys
from resolver.core.layers.filetree import FileTree
from resolver.core.layers.listing import read_listing
from tests.kit.tar_blocks import END, header
def entries():
    for number in range(int(sys.argv[1])):
        yield header(b"d%d/file-%d" % (number // 1000, number))
    yield END
def used():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
before = used()
tree = FileTree()
tree.apply(read_listing(entries(), "layer 1"), "layer 1")
print(sum(1 for _ in tree.walk()), used() - before)
"""


def test_tar_017_million_entries_are_read_in_bounded_memory() -> None:
    """A tenth of them here, and the price of each: the million then takes less than 1 GiB."""
    count = 100_000

    done = subprocess.run(
        [sys.executable, "-c", _MANY, str(count)],
        check=True, capture_output=True, text=True, timeout=120, cwd=ROOT,
    )  # fmt: skip
    paths_there, used = map(int, done.stdout.split())
    assert paths_there == count + count // 1000
    assert used / count < 1000


def _dpkg(count: int, seed: int) -> bytes:
    return b"".join(b"Package: p%d\nVersion: %d.1\n\n" % (each, seed) for each in range(count))


def _apk(size: int, seed: int) -> bytes:
    return b"".join(b"P:%d\nV:%d\n\n" % (each, seed) for each in range(size // 10))[:size]


def _long(count: int, seed: int) -> bytes:
    version = "\u20ac" * 80
    return b"".join(
        b"P:%b%d\nV:%b%d\n\n" % (b"n" * 200, each, version.encode(), seed) for each in range(count)
    )


@pytest.mark.parametrize(
    ("path", "bodies"),
    [
        (b"var/lib/dpkg/status", [_dpkg(24_000, each) for each in range(4)]),
        (b"lib/apk/db/installed", [_apk(16 << 20, each) for each in range(2)]),
        (b"lib/apk/db/installed", [_long(20_000, each) for each in range(3)]),
        (b"lib/apk/db/installed", [b"V:\n" * (5 << 20), b"\n" * (16 << 20)]),
    ],
    ids=["dpkg", "apk", "long", "empty"],
)
def test_tar_024_package_databases_are_limited(
    act: Actor, hosts: Hosts, path: bytes, bodies: list[bytes]
) -> None:
    registry = hosts.registry()
    platforms = ("linux/amd64", "linux/arm64", "linux/arm/v7", "linux/386")
    builds = [
        build_image(platform, [gzip.compress(member(path, body) + END, 1)])
        for platform, body in zip(platforms, bodies, strict=False)
    ]
    registry.serve("app", "1", build_index(builds))
    words = ("compare", f"{registry.host}/app:1", "--files", "--json", "-q")
    outcome, kilobytes = measured(words, act.store)
    act.check(outcome, as_json=True)

    assert outcome.status == 0
    assert kilobytes < 256 * 1024
    assert outcome.seconds < 60


def _contents(count: int, seed: int) -> Iterator[bytes]:
    """The same paths in each tree, with different contents."""
    for each in range(count):
        yield member(b"usr/lib/pkg%d/module-%d.py" % (each // 500, each), b"%d" % seed)


def _nearly_equal(count: int, seed: int) -> Iterator[bytes]:
    for each in range(count):
        yield member(b"usr/lib/pkg%d/module-%d.py" % (each // 500, each), b"%d" % each)
    yield member(b"built", b"%d" % seed)


def _other_paths(count: int, seed: int) -> Iterator[bytes]:
    for each in range(count):
        yield header(b"usr/lib/pkg%d/module-%d-%d.py" % (each // 500, each, seed))


def _long_names(count: int, seed: int) -> Iterator[bytes]:
    noise = random.Random(seed)
    for _ in range(count):
        yield pax(record(b"path", noise.randbytes(2_040).hex().encode())) + header(b"x")


def _strange_programs(count: int, seed: int) -> Iterator[bytes]:
    for each in range(count):
        yield member(b"usr/bin/program-%d" % each, elf_header(8) + b"%d %d" % (each, seed))


def _deep_folders(count: int, _seed: int) -> Iterator[bytes]:
    for each in range(count):
        yield header(b"/".join([b"%d" % each, *[b"d"] * 40]))


def _attributed(count: int, seed: int) -> Iterator[bytes]:
    for each in range(count):
        mark = record(b"SCHILY.xattr.user.a", b"%d %d" % (each, seed))
        yield pax(mark) + header(b"f%d" % each)


@pytest.mark.parametrize(
    ("entries", "count", "builds", "form", "status"),
    [
        (_contents, 70_000, 2, "json", 0),
        (_contents, 35_000, 4, "jsonl", 0),
        (_contents, 30_000, 2, "yaml", 0),
        (_contents, 30_000, 4, "table", 0),
        (_nearly_equal, 50_000, 8, "json", 0),
        (_other_paths, 150_000, 2, "markdown", 0),
        (_long_names, 24_000, 2, "json", 6),
        (_strange_programs, 60_000, 2, "json", 0),
        (_deep_folders, 12_000, 2, "json", 6),
        (_attributed, 45_000, 2, "json", 0),
    ],
)
def test_hostile_trees_compare_in_little_memory_and_time(
    act: Actor,
    hosts: Hosts,
    entries: Callable[[int, int], Iterator[bytes]],
    count: int,
    builds: int,
    form: str,
    status: int,
) -> None:
    platforms = (
        "linux/amd64", "linux/arm64", "linux/arm/v7", "linux/386", "linux/ppc64le", "linux/s390x",
        "linux/riscv64", "linux/arm/v6",
    )  # fmt: skip
    images = [
        build_image(platform, [gzip.compress(b"".join((*entries(count, seed), END)), 1)])
        for seed, platform in enumerate(platforms[:builds])
    ]
    registry = hosts.registry()
    registry.serve("app", "1", build_index(images))
    image = f"{registry.host}/app:1"
    words = ("compare", image, "--files", "--format", form, "--no-trunc", "-q")
    outcome, kilobytes = measured(words, act.store)

    assert outcome.status == status, outcome.err
    assert kilobytes < 256 * 1024
    assert outcome.seconds < 60
    if status:
        assert "exceeds the limit of" in outcome.out + outcome.err
        assert "-p PLATFORM" in outcome.out + outcome.err


@pytest.mark.usefixtures("untouched")
def test_tar_018_compression_is_detected_from_bytes_and_unknown_types_are_refused() -> None:
    contents = Contents()
    one = archive("a")
    for media_type, body in ((GZIP, one), (TAR, gzip.compress(one)), (f"{TAR}+zstd", one)):
        (tree,) = trees_of([image(contents, (contents.add(body, media_type), one))])
        assert paths(tree) == ["a"]
        assert "its type is" in tree.warnings[0]
    with pytest.raises(UnsupportedDocument, match="application/x-foo"):
        trees_of([image(contents, (contents.add(one, "application/x-foo"), one))])


def test_tar_019_wrong_diff_id_names_the_layer() -> None:
    contents = Contents()
    one, two = archive("a"), archive("b")
    layers = [(contents.add(gzip.compress(one)), one), (contents.add(gzip.compress(two)), one)]

    with pytest.raises(Untrusted, match="layer 2") as caught:
        trees_of([image(contents, *layers)])
    assert caught.value.code == "contradictory-layer"
    assert caught.value.word == "INTEGRITY"
    asked = image(contents, *layers)
    built = build_image("linux/amd64", [b"1", b"2"])
    config = next(body for body in built.blobs.values() if b"diff_ids" in body)
    with pytest.raises(BadDocument, match="diff_ids"):
        parse_config(config, "the config", len(asked.layers) + 1)


@pytest.mark.usefixtures("untouched")
def test_tar_021_unusual_numbers_are_shown_unchanged() -> None:
    parts = [
        header(b"uid", fields={108: base256(2**31, 8)}),
        header(b"gid", fields={116: base256(-1, 8)}),
        header(b"old", fields={136: base256(-1, 12)}),
        header(b"far", fields={136: base256(2**62, 12)}),
        pax(record(b"mtime", b"nan")) + header(b"nan"),
        header(b"mode", fields={100: b"7777777\0"}),
        header(b"major", 0, b"3", fields={329: base256(2**40, 8)}),
        header(b"uname", fields={265: b"ro\0ot"}),
    ]
    tree = grown(b"".join(parts) + END)

    found = dict(tree.tree.walk())
    assert sorted(found) == ["far", "gid", "major", "mode", "nan", "old", "uid", "uname"]
    assert (found["uid"].access.uid, found["gid"].access.gid) == (2**31, -1)
    assert found["mode"].access.mode == 0o7777
    assert found["major"].device == (2**40, 0)


@pytest.mark.parametrize(
    "body",
    [b"", ZERO * 2, gzip.compress(b"", mtime=0), header(b"./", 0, b"5") + END],
    ids=["nothing", "zeros", "gzip of nothing", "root folder"],
)
def test_tar_022_empty_layer_changes_nothing(body: bytes) -> None:
    contents = Contents()
    inside = gzip.decompress(body) if body.startswith(b"\x1f\x8b") else body
    base = archive("a")
    layers = [(contents.add(base, TAR), base), (contents.add(body, TAR), inside)]

    with_empty, without = trees_of([image(contents, *layers), image(contents, layers[0])])

    assert compare_trees(with_empty, [without], BUILTIN).is_same


def test_tar_024_result_does_not_depend_on_entry_or_thread_order() -> None:
    contents = Contents()
    words = [f"d/{number}" for number in range(50)]
    bodies = [archive(*words), archive(*reversed(words)), archive(*words[5:], "new")]
    images = [
        LayeredImage(str(number), None, "`x`", asked.layers, asked.diff_ids, contents)
        for number, body in enumerate(bodies)
        for asked in [image(contents, (contents.add(gzip.compress(body)), body))]
    ]

    def found(jobs: int) -> FileComparison:
        trees = trees_of(images, jobs=jobs)
        return compare_trees(trees[0], trees[1:], BUILTIN)

    assert found(1) == found(8) == found(1)
    assert [other.is_same for other in found(2).others] == [True, False]
