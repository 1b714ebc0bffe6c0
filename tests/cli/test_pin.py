"""`resolver pin`, as a person sees it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from inline_snapshot import snapshot

if TYPE_CHECKING:
    from pathlib import Path

    from tests.cli.conftest import Run

INDEX = "sha256:f62fb544ff3da135d80cbd5f3898da060dcde3fdfec843495609fdaed57dbfda"


def dockerfile(folder: Path, registry: str) -> Path:
    """Write a Dockerfile that names an image of the sample registry."""
    path = folder / "Dockerfile"
    path.write_bytes(b"# build\r\nFROM %s/demo/app:1.0 AS a  \r\nRUN true" % registry.encode())
    return path


def test_a_dockerfile_is_pinned(run: Run, registry: str, tmp_path: Path) -> None:
    path = dockerfile(tmp_path, registry)
    before = path.read_bytes()

    assert str(run("pin", "Dockerfile")) == snapshot("""\
status: 0
--- stdout
WHERE         IMAGE                         STATE   DIGEST
Dockerfile:2  HOST:PORT/demo/app:1.0  pinned  sha256:f62fb544ff3d
--- stderr
""")
    assert path.read_bytes() == before.replace(b":1.0", b":1.0@" + INDEX.encode())
    assert str(run("pin", "Dockerfile")) == snapshot("""\
status: 0
--- stdout
WHERE         IMAGE                         STATE  DIGEST
Dockerfile:2  HOST:PORT/demo/app:1.0  kept   sha256:f62fb544ff3d
--- stderr
""")
    assert run("pin", "--unpin", "Dockerfile").status == 0
    assert path.read_bytes() == before


def test_a_check_says_what_is_not_pinned(run: Run, registry: str, tmp_path: Path) -> None:
    dockerfile(tmp_path, registry)

    assert str(run("pin", "--check", "Dockerfile")) == snapshot("""\
status: 1
--- stdout
images
WHERE         IMAGE                         STATE     DIGEST
Dockerfile:2  HOST:PORT/demo/app:1.0  unpinned  -

findings
WHERE         RULE      MESSAGE
Dockerfile:2  unpinned  `HOST:PORT/demo/app:1.0` is not pinned
--- stderr
hint: pin it with `resolver pin Dockerfile`
""")


def test_a_diff_shows_what_would_change(run: Run, registry: str, tmp_path: Path) -> None:
    dockerfile(tmp_path, registry)

    assert str(run("pin", "--diff", "Dockerfile")) == snapshot("""\
status: 0
--- stdout
--- a/Dockerfile
+++ b/Dockerfile
@@ -1,3 +1,3 @@
 # build\r
-FROM HOST:PORT/demo/app:1.0 AS a  \r
+FROM HOST:PORT/demo/app:1.0@sha256:f62fb544ff3da135d80cbd5f3898da060dcde3fdfec843495609fdaed57dbfda AS a  \r
 RUN true
\\ No newline at end of file
--- stderr
""")
