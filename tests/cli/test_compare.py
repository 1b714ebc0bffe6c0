"""Output of `resolver compare`."""

from __future__ import annotations

import gzip
import json
from typing import TYPE_CHECKING

import pytest
from inline_snapshot import snapshot

from resolver.render.text import WIDTH
from tests.kit.executables import elf
from tests.kit.images import build_image, build_index, build_layer, multi_platform
from tests.kit.registry import FakeRegistry
from tests.kit.tar_blocks import END, member, pax, record

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.cli.conftest import Run
    from tests.kit.images import Image

NINE = (
    "linux/amd64", "linux/arm64/v8", "linux/arm/v7", "linux/arm/v6", "linux/386", "linux/ppc64le",
    "linux/s390x", "linux/riscv64", "windows/amd64:10.0.20348.1",
)  # fmt: skip


@pytest.fixture
def fake() -> Iterator[FakeRegistry]:
    with FakeRegistry() as made:
        yield made


def test_compare_one_image_across_its_platforms(run: Run, registry: str) -> None:
    assert str(run("compare", f"{registry}/demo/app:1.0")) == snapshot("""\
status: 0
--- stdout
image    HOST:PORT/demo/app:1.0
index    sha256:f62fb544ff3da135d80cbd5f3898da060dcde3fdfec843495609fdaed57dbfda
base     linux/amd64
stored   522 kB for all 5; one by one 758 kB

sizes
#  PLATFORM                         SIZE     DELTA  RATIO   SHARED      OWN
1  linux/amd64                    184 kB      base      -   102 kB  82.0 kB
2  linux/arm64/v8                 184 kB      same  1.00x   102 kB  82.0 kB
3  linux/arm/v7                   184 kB      same  1.00x   102 kB  82.0 kB
4  windows/amd64:10.0.20348.2700  102 kB  -81.9 kB  0.56x  30.7 kB  71.7 kB
5  windows/amd64:10.0.26100.1742  102 kB  -81.9 kB  0.56x  30.7 kB  71.7 kB

documents
#  LAYERS  CREATED               MANIFEST             CONFIG
1       3  2024-05-01T12:00:00Z  sha256:311923c08153  sha256:f2a20e6d0204
2       3  2024-05-01T12:00:00Z  sha256:8d3661f10977  sha256:640d34e29cdf
3       3  2024-05-01T12:00:00Z  sha256:e9c938fb2564  sha256:a18e81cb1a7c
4       2  2024-05-01T12:00:00Z  sha256:afae86adc642  sha256:68251689b633
5       2  2024-05-01T12:00:00Z  sha256:8322b11c5bf7  sha256:ff7d66548d98

shared layers, bytes and how many
#       WITH 1       WITH 2       WITH 3        WITH 4        WITH 5
1            =  102 kB in 1  102 kB in 1             -             -
2  102 kB in 1            =  102 kB in 1             -             -
3  102 kB in 1  102 kB in 1            =             -             -
4            -            -            -             =  30.7 kB in 1
5            -            -            -  30.7 kB in 1             =

drift
WHAT                                     #        VALUE
entrypoint                               1, 2, 3  /usr/local/bin/app
entrypoint                               4, 5     C:\\app\\app.exe
cmd                                      1, 2, 3  serve
cmd                                      4, 5     (not set)
env.PATH                                 1, 2, 3  /usr/local/bin:/usr/bin:/bin
env.PATH                                 4, 5     (not set)
user                                     1, 2, 3  65532
user                                     4, 5     (not set)
workdir                                  1, 2, 3  /
workdir                                  4, 5     (not set)
ports.8080/tcp                           1, 2, 3  yes
ports.8080/tcp                           4, 5     (not set)
labels.org.opencontainers.image.source   1, 2, 3  https://example.com/demo/app
labels.org.opencontainers.image.source   4, 5     (not set)
labels.org.opencontainers.image.title    1, 2, 3  demo
labels.org.opencontainers.image.title    4, 5     (not set)
labels.org.opencontainers.image.version  1, 2, 3  1.0
labels.org.opencontainers.image.version  4, 5     (not set)
os.version                               1, 2, 3  (not set)
os.version                               4        10.0.20348.2700
os.version                               5        10.0.26100.1742

history
      1        2        3        4        5  =  STEP
 absent   absent   absent  71.7 kB  71.7 kB  !  COPY layer1 / # buildkit
 absent   absent   absent  30.7 kB  30.7 kB  !  COPY layer2 / # buildkit
51.2 kB  51.2 kB  51.2 kB   absent   absent  !  ADD rootfs.tar / # buildkit
 102 kB   102 kB   102 kB   absent   absent  !  COPY words /usr/share/app/ # buildkit
30.7 kB  30.7 kB  30.7 kB   absent   absent  !  COPY app /usr/local/bin/ # buildkit
      -        -        -   absent   absent  !  CMD ["serve"]
--- stderr
""")


def test_compare_no_trunc_prints_whole_values(run: Run, registry: str) -> None:
    words = ("-p", "linux/amd64,windows/amd64:10.0.20348.2700", "--no-trunc")

    assert str(run("compare", f"{registry}/demo/app:1.0", *words)) == snapshot("""\
status: 0
--- stdout
image    HOST:PORT/demo/app:1.0
index    sha256:f62fb544ff3da135d80cbd5f3898da060dcde3fdfec843495609fdaed57dbfda
base     linux/amd64
stored   287 kB for all 2; one by one 287 kB

sizes
#  PLATFORM                         SIZE     DELTA  RATIO  SHARED     OWN
1  linux/amd64                    184 kB      base      -     0 B  184 kB
2  windows/amd64:10.0.20348.2700  102 kB  -81.9 kB  0.56x     0 B  102 kB

documents
#  LAYERS  CREATED               MANIFEST                                                                 CONFIG
1       3  2024-05-01T12:00:00Z  sha256:311923c08153b9d107c1c7012d4b0f8240c9c12b013cda6877aea9dbd1c9cede  sha256:f2a20e6d0204fd8c5b91d3c06fbbec500d0023b1fad225ecd8ed013ba1b9a6d9
2       2  2024-05-01T12:00:00Z  sha256:afae86adc642d34dbfb2132c514777c384ff0f8e6a2a0f4b0678b0bf4812e9cd  sha256:68251689b63318cf875acfba6c5ca3ac624036d7a26f0098f0a5323bc4edd70e

shared layers, bytes and how many
#  WITH 1  WITH 2
1       =       -
2       -       =

drift
WHAT                                     #  VALUE
entrypoint                               1  /usr/local/bin/app
entrypoint                               2  C:\\app\\app.exe
cmd                                      1  serve
cmd                                      2  (not set)
env.PATH                                 1  /usr/local/bin:/usr/bin:/bin
env.PATH                                 2  (not set)
user                                     1  65532
user                                     2  (not set)
workdir                                  1  /
workdir                                  2  (not set)
ports.8080/tcp                           1  yes
ports.8080/tcp                           2  (not set)
labels.org.opencontainers.image.source   1  https://example.com/demo/app
labels.org.opencontainers.image.source   2  (not set)
labels.org.opencontainers.image.title    1  demo
labels.org.opencontainers.image.title    2  (not set)
labels.org.opencontainers.image.version  1  1.0
labels.org.opencontainers.image.version  2  (not set)
os.version                               1  (not set)
os.version                               2  10.0.20348.2700

history
      1        2  =  STEP
 absent  71.7 kB  !  COPY layer1 / # buildkit
 absent  30.7 kB  !  COPY layer2 / # buildkit
51.2 kB   absent  !  ADD rootfs.tar / # buildkit
 102 kB   absent  !  COPY words /usr/share/app/ # buildkit
30.7 kB   absent  !  COPY app /usr/local/bin/ # buildkit
      -   absent  !  CMD ["serve"]
--- stderr
""")


def test_compare_two_images(run: Run, registry: str) -> None:
    seen = run("compare", f"{registry}/demo/app:1.0", f"{registry}/demo/app:2.0")

    assert str(seen) == snapshot("""\
status: 1
--- stdout
from     HOST:PORT/demo/app:1.0
         sha256:f62fb544ff3da135d80cbd5f3898da060dcde3fdfec843495609fdaed57dbfda
to       HOST:PORT/demo/app:2.0
         sha256:a589c03475cf4dde3831ed42f06f02f2e97b77ed08c1f45ac2df15581b68ae41
result   5 changed
fetch    136 kB: 4 layers and new documents

platforms
#  PLATFORM                       RESULT     FROM      TO  DELTA    FETCH
1  linux/amd64                    changed  184 kB  184 kB   same  33.1 kB
2  linux/arm64/v8                 changed  184 kB  184 kB   same  33.1 kB
3  linux/arm/v7                   changed  184 kB  184 kB   same  33.1 kB
4  windows/amd64:10.0.20348.2700  changed  102 kB  102 kB   same  32.1 kB
5  windows/amd64:10.0.26100.1742  changed  102 kB  102 kB   same  32.1 kB

drift
WHAT                                     #              FROM  TO
env.APP_VERSION                          1, 2, 3, 4, 5  1.0   2.0
labels.org.opencontainers.image.version  1, 2, 3        1.0   2.0

steps that differ
#           FROM       TO  STEP
1, 2, 3  30.7 kB  30.7 kB  COPY app /usr/local/bin/ # buildkit
4, 5     30.7 kB  30.7 kB  COPY layer2 / # buildkit
--- stderr
error: `HOST:PORT/demo/app:1.0` and `HOST:PORT/demo/app:2.0` differ: 5 changed
""")


def test_compare_two_names_of_the_same_digest(run: Run, registry: str) -> None:
    seen = run("compare", f"{registry}/demo/app:2.0", f"{registry}/demo/app:latest")

    assert str(seen) == snapshot("""\
status: 0
--- stdout
same: sha256:a589c03475cf4dde3831ed42f06f02f2e97b77ed08c1f45ac2df15581b68ae41
--- stderr
""")


def test_compare_an_image_without_an_index(run: Run, registry: str) -> None:
    assert str(run("compare", f"{registry}/demo/single:1.0")) == snapshot("""\
status: 0
--- stdout
image    HOST:PORT/demo/single:1.0
manifest sha256:311923c08153b9d107c1c7012d4b0f8240c9c12b013cda6877aea9dbd1c9cede

sizes
#  PLATFORM       SIZE  DELTA  RATIO  SHARED     OWN
1  linux/amd64  184 kB   base      -     0 B  184 kB

documents
#  LAYERS  CREATED               MANIFEST             CONFIG
1       3  2024-05-01T12:00:00Z  sha256:311923c08153  sha256:f2a20e6d0204

history
      1  =  STEP
51.2 kB  =  ADD rootfs.tar / # buildkit
 102 kB  =  COPY words /usr/share/app/ # buildkit
30.7 kB  =  COPY app /usr/local/bin/ # buildkit
      -  =  CMD ["serve"]
--- stderr
""")


def test_compare_a_duplicate_build_for_another_platform(run: Run, registry: str) -> None:
    # The arm64 entry of this image is the amd64 build: all is shared, which no true one is.
    assert str(run("compare", f"{registry}/demo/liar:1.0")) == snapshot("""\
status: 0
--- stdout
image    HOST:PORT/demo/liar:1.0
index    sha256:b18a87ff50801f322595c83e1fef64e13ec0303aa779e7e293d521eb29e2f780
base     linux/amd64
stored   184 kB for all 2; one by one 369 kB

sizes
#  PLATFORM          SIZE  DELTA  RATIO  SHARED  OWN
1  linux/amd64     184 kB   base      -  184 kB  0 B
2  linux/arm64/v8  184 kB   same  1.00x  184 kB  0 B

documents
#  LAYERS  CREATED               MANIFEST             CONFIG
1       3  2024-05-01T12:00:00Z  sha256:311923c08153  sha256:f2a20e6d0204
2       3  2024-05-01T12:00:00Z  sha256:4d002f6fbb55  sha256:2f5d2eb304a3

shared layers, bytes and how many
#       WITH 1       WITH 2
1            =  184 kB in 3
2  184 kB in 3            =

drift
WHAT                                     #  VALUE
env.APP_VERSION                          1  1.0
env.APP_VERSION                          2  1.0-arm64
labels.org.opencontainers.image.version  1  1.0
labels.org.opencontainers.image.version  2  1.0-arm64

history
      1        2  =  STEP
51.2 kB  51.2 kB  =  ADD rootfs.tar / # buildkit
 102 kB   102 kB  =  COPY words /usr/share/app/ # buildkit
30.7 kB  30.7 kB  =  COPY app /usr/local/bin/ # buildkit
      -        -  =  CMD ["serve"]
--- stderr
""")


def test_compare_prints_failed_expectations_on_stderr(run: Run, registry: str) -> None:
    seen = run(
        "compare", f"{registry}/demo/app:1.0", "--expect", "linux/amd64,linux/s390x",
        "--max-size-ratio", "1.5", "--max-size-delta", "50kB", "--fail-on", "config,layers",
        "--ignore", "env", "--format", "jsonl",
    )  # fmt: skip

    assert (seen.status, seen.stderr) == snapshot(
        (
            1,
            """\
error: `HOST:PORT/demo/app:1.0` is not offered for `linux/s390x`
error: `linux/amd64` against `windows/amd64:10.0.20348.2700`: 1.80 times the size, 1.50 allowed
error: `linux/amd64` against `windows/amd64:10.0.26100.1742`: 1.80 times the size, 1.50 allowed
error: `windows/amd64:10.0.20348.2700` has 2 layers, and `linux/amd64` has 3
error: `windows/amd64:10.0.26100.1742` has 2 layers, and `linux/amd64` has 3
error: the platforms of `HOST:PORT/demo/app:1.0` do not agree on `entrypoint`, `cmd`, `user`, `workdir`, `ports.8080/tcp` and 4 more
""",
        )
    )
    output = json.loads(seen.stdout)
    assert [f"error: {each['message']}" for each in output["reasons"]] == seen.stderr.splitlines()
    assert output["missing"] == ["linux/s390x"]


def test_compare_succeeds_within_the_limits(run: Run, registry: str) -> None:
    seen = run(
        "compare", f"{registry}/demo/app:1.0", "--expect", "linux/amd64",
        "--expect-as", f"{registry}/demo/app:2.0", "--max-size-ratio", "2",
    )  # fmt: skip

    assert (seen.status, seen.stderr) == (0, "")
    assert "expected all 5 offered" in seen.stdout


def test_compare_reads_ignore_rules_from_a_file(run: Run, registry: str, tmp_path: Path) -> None:
    (tmp_path / "rules").write_text("# versions\nenv.APP_*\n\nlabels.org.opencontainers.*\n")
    words = (
        "compare",
        f"{registry}/demo/app:1.0",
        f"{registry}/demo/app:2.0",
        "--fail-on",
        "config",
    )

    assert run(*words).status == 1
    assert run(*words, "--ignore-file", "rules").status == 0
    assert run(*words, "--ignore", "env", "--ignore", "labels").status == 0


def test_compare_output_does_not_depend_on_terminal_size(
    run: Run, registry: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = {}
    for columns in ("40", "80", "140"):
        monkeypatch.setenv("COLUMNS", columns)
        seen[columns] = str(run("compare", f"{registry}/demo/app:1.0"))

    assert seen["40"] == seen["80"] == seen["140"]
    assert "\x1b" not in seen["80"]


def test_compare_nine_platforms_fits_the_page_and_uses_columns_when_wide(
    run: Run, fake: FakeRegistry
) -> None:
    fake.serve("app", "1", multi_platform(*NINE))

    narrow = run("compare", f"{fake.host}/app:1")
    wide = run("compare", f"{fake.host}/app:1", "--no-trunc")

    assert max(map(len, narrow.stdout.splitlines())) <= WIDTH
    assert narrow.stdout[narrow.stdout.index("history") :] == snapshot("""\
history
IN     BASE    LEAST          MOST  =  STEP
 9  10.3 kB  10.3 kB  10.3 kB in 1  =  COPY layer1 / # buildkit
""")
    assert wide.stdout[wide.stdout.index("history") :] == snapshot("""\
history
      1        2        3        4        5        6        7        8        9  =  STEP
10.3 kB  10.3 kB  10.3 kB  10.3 kB  10.3 kB  10.3 kB  10.3 kB  10.3 kB  10.3 kB  =  COPY layer1 / # buildkit
""")


def test_compare_files_of_one_image(run: Run, registry: str) -> None:
    seen = run("compare", f"{registry}/demo/app:1.0", "--files", "-q")

    assert seen.stdout[seen.stdout.index("\nfiles\n") :] == snapshot("""\

files
   #  FILES    SIZE  SAME  ADDED  REMOVED  CHANGED  REBUILT  PROGRAMS
base      4  168 kB     -      -        -        -        -  2 elf amd64
   2      4  168 kB    11      0        0        0        2  2 elf arm64
   3      4  168 kB    11      0        0        0        2  1 elf arm, 1 elf arm soft-float

folders by difference: none

packages: none

paths that differ: none

not compared
#     WHY
4, 5  not compared file by file: it is for windows, and the base for linux
""")


def test_compare_files_of_two_images(run: Run, registry: str) -> None:
    words = ("-p", "linux/amd64,linux/arm64", "--fail-on", "files,packages", "--no-progress")
    seen = run("compare", f"{registry}/demo/app:1.0", f"{registry}/demo/app:2.0", "--files", *words)

    assert (seen.status, seen.stderr) == snapshot(
        (
            1,
            """\
note: fetched 7 layers (328 kB) into the store to read them; no pulled image needs them, and `resolver gc` removes them after 1 hour
error: `linux/amd64`: 1 path differs
error: `linux/arm64/v8`: 1 path differs
""",
        )
    )
    assert seen.stdout[seen.stdout.index("\nfiles\n") :] == snapshot("""\

files
     #  FILES    SIZE  SAME  ADDED  REMOVED  CHANGED  REBUILT  PROGRAMS
1 from      4  168 kB     -      -        -        -        -  2 elf amd64
     1      4  168 kB    10      0        0        1        0  2 elf amd64
2 from      4  168 kB     -      -        -        -        -  2 elf arm64
     2      4  168 kB    10      0        0        1        0  2 elf arm64

folders by difference: none

packages: none

paths that differ
#     HOW      SIZE  PATH
1, 2  content  same  usr/local/bin/app
""")


def test_compare_reports_layer_downloads_on_stderr(run: Run, registry: str) -> None:
    seen = run("compare", f"{registry}/demo/single:1.0", "--files")

    lines = seen.stderr.splitlines()
    assert sum(line.endswith(": Pull complete") for line in lines) == 3
    assert run("compare", f"{registry}/demo/single:1.0", "--files").stderr == ""


def test_compare_files_json_has_every_path(run: Run, registry: str) -> None:
    names = (f"{registry}/demo/app:1.0", f"{registry}/demo/app:2.0")
    one = json.loads(run("compare", names[0], "--files", "-q", "--json").stdout)
    two = json.loads(run("compare", *names, "--files", "-q", "--json").stdout)

    windows = one["files"]["others"][2]
    assert windows["notCompared"] == (
        "not compared file by file: it is for windows, and the base for linux"
    )
    assert (windows["differences"], windows["counts"], windows["folderDeltas"]) == ([], {}, [])
    assert "notCompared" not in one["files"]["others"][0]
    assert one["files"]["base"]["programs"] == {"elf amd64": 2}
    changed = two["platforms"][0]["files"]["others"][0]["differences"]
    assert [(each["path"], each["changes"]) for each in changed] == [
        ("usr/local/bin/app", ["content"])
    ]


def attributed(capability: bytes | None) -> Image:
    records = b"" if capability is None else record(b"SCHILY.xattr.security.capability", capability)
    label = record(b"LIBARCHIVE.xattr.security.selinux", b"dV86czA")
    extended = pax(records, label) if records else pax(record(b"mtime", b"1.5"), label)
    layer = gzip.compress(extended + member(b"bin/ping", b"x") + END, mtime=0)
    return build_image("linux/amd64", [layer])


def test_compare_files_shows_extended_attributes_in_every_format(
    run: Run, fake: FakeRegistry
) -> None:
    net_raw = bytes.fromhex("0100000200200000000000000000000000000000")
    fake.serve("app", "1", attributed(net_raw))
    fake.serve("app", "2", attributed(None))
    words = ("compare", f"{fake.host}/app:1", f"{fake.host}/app:2", "--files", "-q")
    how = "security.capability cap_net_raw+ep to -"

    text = run(*words, "--fail-on", "files")
    assert text.status == 1
    assert how in text.stdout
    assert f"| 1 | {how} |" in run(*words, "--format", "markdown").stdout.replace("\\", "")
    assert how in run(*words, "--format", "html").stdout
    tree = json.loads(run(*words, "--json").stdout)["platforms"][0]["files"]["others"][0]
    assert tree["counts"] == {"xattrs": 1}
    (difference,) = tree["differences"]
    assert difference["xattrs"] == ["security.capability"]
    assert difference["from"]["xattrs"] == {
        "security.capability": "cap_net_raw+ep",
        "security.selinux": '"u_:s0"',
    }
    assert difference["to"]["xattrs"] == {"security.selinux": '"u_:s0"'}
    ignoring = run(*words, "--fail-on", "files", "--ignore", "files.xattrs.security.*")
    assert ignoring.status == 0


def test_compare_windows_with_linux_is_one_line_in_every_format(run: Run, registry: str) -> None:
    words = ("compare", f"{registry}/demo/app:1.0", "--files", "-q")
    why = "not compared file by file: it is for windows, and the base for linux"

    assert run(*words).stdout.count(why) == 1
    for form in ("markdown", "html"):
        seen = run(*words, "--format", form)
        assert why in seen.stdout
        assert "ntdll.dll" not in seen.stdout
    of_windows = run(*words, "-p", "windows/amd64:10.0.20348.2700,windows/amd64:10.0.26100.1742")
    assert why not in of_windows.stdout


HOSTILE = "a\x1b[2J\u202e\n::error::x\n##[error]|b|<script>alert(1)</script>`"


@pytest.fixture
def hostile(fake: FakeRegistry) -> str:
    images = [
        build_image(
            platform,
            [build_layer({"x": platform.encode()})],
            config={
                "config": {
                    "Labels": {HOSTILE: f"{HOSTILE}{platform}"},
                    "Env": [f"{HOSTILE}={platform}"],
                    "User": f"{HOSTILE}{platform}",
                    "Cmd": [HOSTILE, platform],
                },
                "history": [{"created_by": f"RUN {HOSTILE} {platform}", "created": HOSTILE}],
                "created": HOSTILE,
            },
        )
        for platform in ("linux/amd64", "linux/arm64")
    ]
    fake.serve("app", "1", build_index(images, annotations={HOSTILE: HOSTILE}))
    fake.serve("app", "2", build_index(images[:1]))
    fake.serve("app", "3", images[1])
    return f"{fake.host}/app"


@pytest.mark.parametrize("form", ["table", "markdown", "html", "json", "jsonl", "yaml"])
@pytest.mark.parametrize("others", [(), ("2",), ("3",)])
def test_compare_escapes_hostile_text(
    run: Run, hostile: str, form: str, others: tuple[str, ...]
) -> None:
    names = [f"{hostile}:1", *(f"{hostile}:{other}" for other in others)]

    seen = run("compare", *names, "--format", form, "--fail-on", "config,size,history", keep=True)

    text = seen.stdout + seen.stderr
    assert not {"\x1b", "\u202e"} & set(text)
    assert not any(line.lstrip().startswith(("::", "##")) for line in text.splitlines())
    assert "a\\x1b[2J" in text or "a\\u001b[2J" in text or form in {"markdown", "yaml"} or others
    if form == "html":
        assert "<script" not in seen.stdout
        assert "&lt;script&gt;" in seen.stdout or others
    if form == "markdown":
        assert "<script" not in seen.stdout.replace("\\<", "")
        assert "|b|" not in seen.stdout


@pytest.mark.parametrize(
    "words",
    [
        ("--max-size-ratio", "0.5"),
        ("--max-size-ratio", "much"),
        ("--max-size-ratio", "\u0662"),
        ("--max-size-delta", "much"),
        ("--fail-on", "weather"),
        ("--fail-on", ""),
        ("--fail-on", "files"),
        ("--ignore", "nothing"),
        ("--ignore-file", "nowhere"),
        ("--expect", "linux//v8"),
        ("--base", "linux//v8"),
        ("-p", "linux/amd64,"),
        ("127.0.0.1:9/app", "--base", "linux/amd64"),
        ("--format", "xml"),
    ],
)
def test_compare_rejects_invalid_options(run: Run, words: tuple[str, ...]) -> None:
    seen = run("compare", "127.0.0.1:9/app", *words)

    assert (seen.status, seen.stdout) == (2, "")
    assert seen.stderr.count("error: ") == 1


def test_compare_rejects_the_digest_format(run: Run, registry: str) -> None:
    seen = run("compare", f"{registry}/demo/app:1.0", "--format", "digest")

    assert seen.status == 2


def test_compare_builds_without_history_share_a_line(run: Run, fake: FakeRegistry) -> None:
    builds = [build_image(name, config={"history": []}) for name in NINE]
    builds[2] = build_image(NINE[2], config={"history": [{"created_by": "RUN x"}]})
    fake.serve("app", "1", build_index(builds))

    output = run("compare", f"{fake.host}/app:1")

    assert [line for line in output.stdout.splitlines() if line.startswith("steps")] == [
        "steps    1-2, 4-9: its history is empty, and there is 1 layer"
    ]


def test_compare_reports_findings_in_the_base(run: Run, fake: FakeRegistry) -> None:
    """The base can be the build with the false platform or the warnings."""
    lying = build_layer({"app": elf("arm64"), "../out": b"1"})
    layers = (lying, build_layer({"app": elf("arm64")}))
    images = [
        build_image(name, [layer])
        for name, layer in zip(("linux/amd64", "linux/arm64"), layers, strict=True)
    ]
    fake.serve("app", "1", build_index(images))

    output = run("compare", f"{fake.host}/app:1", "--files", "--no-trunc").stdout
    page = run("compare", f"{fake.host}/app:1", "--files", "--format", "html").stdout

    assert output[output.index("programs for another") :].splitlines()[:3] == [
        "programs for another machine",
        "#     PROGRAM    PATH",
        "base  elf arm64  app",
    ]
    assert output.splitlines()[-1] == (
        "base  layers  layer 1 of `HOST:PORT/app:1` for linux/amd64: 1 name leads out of the tree, "
        "and is kept inside"
    )
    found = page[page.index("base: unusual content") :]
    assert "elf arm64" in found
    assert "leads out of the tree" in found


def test_compare_files_lists_a_single_build(run: Run, fake: FakeRegistry) -> None:
    fake.serve("app", "1", build_image("linux/amd64", [build_layer({"app": elf("arm64")})]))

    output = run("compare", f"{fake.host}/app:1", "--files").stdout

    assert output[output.index("files\n") :] == snapshot("""\
files
#  FILES   SIZE  SAME  ADDED  REMOVED  CHANGED  REBUILT  PROGRAMS
1      1  464 B     -      -        -        -        -  1 elf arm64

programs for another machine
#  PROGRAM    PATH
1  elf arm64  app
""")
