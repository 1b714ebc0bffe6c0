"""GNU tar and our reader list the same entries of archives that GNU tar or Python wrote."""

from __future__ import annotations

import io
import os
import re
import subprocess
import tarfile
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from resolver.core.layers.tar import TarEntryKind, TarReader

GNU_FORMATS = ["gnu", "oldgnu", "pax", "posix", "ustar", "v7"]
_LINE = re.compile(
    r"(?P<kind>.)(?P<mode>.{9}) (?P<uid>[0-9]+)/(?P<gid>[0-9]+) +(?P<size>[0-9]+|[0-9]+,[0-9]+) "
    r"[0-9-]+ [0-9:]+ (?P<name>.*)"
)
#: The facts of an entry: type, mode, owner, size, name and target.
Row = tuple[str, str, int, int, int, str, str]


def listed(archive: Path) -> list[Row]:
    """Return the entries that GNU tar lists."""
    command = ["tar", "--numeric-owner", "--quoting-style=literal", "-tvf", str(archive)]
    output = subprocess.run(
        command, check=True, capture_output=True, env={"LC_ALL": "C", "TZ": "UTC"}
    )
    rows: list[Row] = []
    for line in output.stdout.decode("utf-8", "surrogateescape").splitlines():
        found = _LINE.fullmatch(line)
        assert found is not None, line
        name, link = found["name"], ""
        for kind, arrow in (("l", " -> "), ("h", " link to ")):
            if found["kind"] == kind:
                name, _, link = name.partition(arrow)
        size = int(found["size"]) if "," not in found["size"] else 0
        mode, uid, gid = found["mode"], int(found["uid"]), int(found["gid"])
        rows.append((found["kind"], mode, uid, gid, size, name, link))
    return rows


def mode_text(mode: int) -> str:
    """Write a mode as `ls` does."""
    text = ""
    for shift, special, letter in ((6, 0o4000, "s"), (3, 0o2000, "s"), (0, 0o1000, "t")):
        bits = mode >> shift
        run = "x" if bits & 1 else "-"
        if mode & special:
            run = letter if bits & 1 else letter.upper()
        text += ("r" if bits & 4 else "-") + ("w" if bits & 2 else "-") + run
    return text


def read(archive: Path) -> tuple[list[Row], dict[str, bytes]]:
    """Return the entries that we read, with file contents."""
    rows: list[Row] = []
    contents: dict[str, bytes] = {}
    with archive.open("rb") as file:
        reader = TarReader(iter(lambda: file.read(10_000), b""), "the archive")
        for each in reader:
            if each.kind is TarEntryKind.FILE:
                contents[each.name] = b"".join(map(bytes, reader.content()))
            rows.append(
                (
                    each.kind.value,
                    mode_text(each.mode),
                    each.uid,
                    each.gid,
                    each.size,
                    each.name,
                    each.link,
                )
            )
    assert reader.warnings == []
    return rows, contents


names = st.text(st.sampled_from("abcXYZ 0.-_=ü%\\"), min_size=1, max_size=30).filter(
    lambda name: name not in {".", ".."}
)
# A name that a header has room for, one that needs the prefix, and ones that need more.
paths = st.one_of(
    names,
    st.tuples(names, names).map("/".join),
    st.tuples(st.integers(60, 250), names).map(lambda pair: "n" * pair[0] + pair[1]),
    st.tuples(st.integers(1, 8), names).map(lambda pair: "long-folder-name-/" * pair[0] + pair[1]),
)
files = st.tuples(
    st.just("file"), st.binary(max_size=1500), st.sampled_from([0o644, 0o4755, 0o1600])
)
sparse = st.tuples(st.just("sparse"), st.lists(st.integers(0, 40), max_size=12), st.just(0o600))
links = st.tuples(st.just("link"), st.one_of(names, paths), st.just(0o777))
hard = st.tuples(st.just("hard"), st.none(), st.just(0))
fifo = st.tuples(st.just("fifo"), st.none(), st.just(0o640))
trees = st.dictionaries(paths, st.one_of(files, files, sparse, links, hard, fifo), max_size=12)


def grow(root: Path, tree: dict[str, tuple[str, object, int]]) -> None:
    """Make a tree, skipping entries that conflict with others."""
    first: Path | None = None
    for name, (kind, value, mode) in tree.items():
        path = root / name
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            if kind == "link":
                path.symlink_to(str(value))
            elif kind == "hard":
                if first is not None:
                    os.link(first, path)
            elif kind == "fifo":
                os.mkfifo(path, mode)
            elif kind == "sparse":
                assert isinstance(value, list)
                with path.open("xb") as file:
                    for block in value:
                        file.seek(block * 8192)
                        file.write(b"data")
                    file.truncate(350_000)
            else:
                assert isinstance(value, bytes)
                with path.open("xb") as file:
                    file.write(value)
                path.chmod(mode)
                first = path
        except OSError:
            continue


@pytest.mark.parametrize("form", GNU_FORMATS)
@settings(max_examples=25, deadline=None)
@given(tree=trees, is_sparse=st.booleans())
def test_gnu_tar_archives_read_like_gnu_tar(
    form: str, tree: dict[str, tuple[str, object, int]], is_sparse: bool
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        root, archive = Path(folder, "root"), Path(folder, "a.tar")
        root.mkdir()
        grow(root, tree)
        options = ["--sparse"] if is_sparse and form in {"gnu", "oldgnu", "pax", "posix"} else []
        command = ["tar", f"--format={form}", *options, "-C", str(root), "-cf", str(archive), "."]
        # Formats that cannot write a name leave the entry out.
        subprocess.run(command, check=False, capture_output=True)

        rows, contents = read(archive)

        assert rows == listed(archive)
        for name, content in contents.items():
            assert content == (root / name).read_bytes()


@pytest.mark.parametrize("version", ["0.0", "0.1", "1.0"])
def test_pax_sparse_files_of_every_version_read_like_gnu_tar(tmp_path: Path, version: str) -> None:
    with (tmp_path / "s").open("wb") as file:
        for number in range(40):
            file.seek(number * 65536)
            file.write(b"%d" % number * 100)
        file.truncate(3_000_000)
    archive = tmp_path / "a.tar"
    command = ["tar", "--format=pax", "--sparse", f"--sparse-version={version}"]
    subprocess.run([*command, "-C", str(tmp_path), "-cf", str(archive), "s"], check=True)

    rows, contents = read(archive)

    assert rows == listed(archive)
    assert contents == {"s": (tmp_path / "s").read_bytes()}
    assert archive.stat().st_size < 1_000_000


@settings(max_examples=60, deadline=None)
@given(
    tree=trees,
    form=st.sampled_from([tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT]),
    uid=st.sampled_from([0, 1000, 2**21, 2**31 - 1]),
)
def test_python_tar_archives_read_like_gnu_tar(
    tree: dict[str, tuple[str, object, int]], form: int, uid: int
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        archive = Path(folder, "a.tar")
        with tarfile.open(archive, "w", format=form) as out:
            for name, (kind, value, mode) in tree.items():
                info = tarfile.TarInfo(name)
                info.mode, info.uid = mode, uid
                body = value if isinstance(value, bytes) else b""
                info.size = len(body)
                if kind == "link":
                    info.type, info.linkname = tarfile.SYMTYPE, str(value)
                elif kind == "fifo":
                    info.type = tarfile.FIFOTYPE
                try:
                    out.addfile(info, io.BytesIO(body))
                except ValueError:
                    continue  # The format has no room for it.

        rows, _ = read(archive)

        assert rows == listed(archive)
