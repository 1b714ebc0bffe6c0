"""Output of `resolver export`."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import tarfile
from typing import TYPE_CHECKING

import pytest
from inline_snapshot import snapshot

from resolver.core.results.export import parse_destination
from tests.kit.engines import pulling_program
from tests.kit.processes import ROOT, command

if TYPE_CHECKING:
    from pathlib import Path

    from tests.cli.conftest import Run

TOOL = """#!/bin/sh
cat > "$TAKEN"
echo "Loaded image: app"
"""


@pytest.fixture
def pulled(run: Run, registry: str) -> str:
    """Pull an image for two platforms; return its name."""
    name = f"{registry}/demo/app:1.0"
    run("pull", name, "-p", "linux/amd64,linux/arm64", "--no-progress")
    return name


@pytest.fixture
def tool(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Install a `docker` on PATH that stores its input; return its folder."""
    folder = tmp_path / "bin"
    folder.mkdir()
    (folder / "docker").write_text(TOOL)
    (folder / "docker").chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")
    monkeypatch.setenv("TAKEN", str(tmp_path / "taken.tar"))
    return folder


def test_export_to_a_folder(run: Run, pulled: str) -> None:
    assert str(run("export", pulled, "-p", "linux/arm64", "--to", "layout")) == snapshot("""\
status: 0
--- stdout
to       layout
content  9 pieces, 189 kB (189 kB written)
with     1 attestation
left out 4 images, 2 attestations of the index (`-p all` includes every entry)

NAME                          PLATFORMS       DIGEST
HOST:PORT/demo/app:1.0  linux/arm64/v8  sha256:b3266b58c1b4 (new)
--- stderr
warning: `HOST:PORT/demo/app:1.0` is exported with linux/arm64/v8 only, so its index has another digest: `sha256:b3266b58c1b403c5ed0c9bec64af1879535d4eee4fbd4037deeb05d59abe3ae4` instead of `sha256:f62fb544ff3da135d80cbd5f3898da060dcde3fdfec843495609fdaed57dbfda`
""")


def test_export_several_platforms_notes_the_new_index(run: Run, pulled: str) -> None:
    assert str(run("export", pulled, "--to", "layout")) == snapshot("""\
status: 0
--- stdout
to       layout
content  16 pieces, 275 kB (275 kB written)
with     2 attestations
left out 3 images, 1 attestation of the index (`-p all` includes every entry)

NAME                          PLATFORMS                    DIGEST
HOST:PORT/demo/app:1.0  linux/amd64, linux/arm64/v8  sha256:9575ce7d607d (new)
--- stderr
warning: `HOST:PORT/demo/app:1.0` is exported with linux/amd64, linux/arm64/v8 only, so its index has another digest: `sha256:9575ce7d607d6092099091ef9a25b1c945bb0254088aa7b3511fa97e3935210f` instead of `sha256:f62fb544ff3da135d80cbd5f3898da060dcde3fdfec843495609fdaed57dbfda`
""")


def test_export_can_be_resolved_again(run: Run, pulled: str) -> None:
    run("export", pulled, "-p", "linux/arm64", "--to", "layout")

    seen = run("resolve", "oci:layout:1.0", "-p", "linux/arm64", "--format", "digest")

    assert seen.status == 0
    assert seen.stdout.startswith("sha256:8d3661f10977")


def test_export_to_a_file_is_reproducible(run: Run, pulled: str, tmp_path: Path) -> None:
    digests = []
    for name in ("a.tar", "b.tar"):
        assert run("export", pulled, "-p", "linux/arm64", "--to", name).status == 0
        digests.append(hashlib.sha256((tmp_path / name).read_bytes()).hexdigest())

    assert digests[0] == digests[1]
    with tarfile.open(tmp_path / "a.tar") as archive:
        assert {"oci-layout", "index.json", "manifest.json"} <= set(archive.getnames())


def test_export_uses_source_date_epoch_for_archive_members(
    run: Run, pulled: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1700000000")
    run("export", pulled, "-p", "linux/arm64", "--to", "a.tar")

    with tarfile.open(tmp_path / "a.tar") as archive:
        assert {member.mtime for member in archive} == {1_700_000_000}


def test_export_rejects_an_invalid_source_date_epoch(
    run: Run, pulled: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "now")

    assert str(run("export", pulled, "--to", "a.tar")) == snapshot("""\
status: 2
--- stdout
--- stderr
error: cannot use `SOURCE_DATE_EPOCH`: it must be seconds since 1970
hint: fix or remove `SOURCE_DATE_EPOCH`, then try again
""")


def test_export_to_a_tool_with_load(run: Run, pulled: str, tool: Path, tmp_path: Path) -> None:
    assert tool.is_dir()
    words = ("-p", "linux/amd64", "--to", "docker", "--load")
    assert str(run("export", pulled, *words)) == snapshot("""\
status: 0
--- stdout
to       docker
content  9 pieces, 189 kB (201 kB written)
ran      docker load
said     Loaded image: app
with     1 attestation
left out 4 images, 2 attestations of the index (`-p all` includes every entry)

NAME                          PLATFORMS    DIGEST
HOST:PORT/demo/app:1.0  linux/amd64  sha256:05dc91dfebc1 (new)
--- stderr
warning: `HOST:PORT/demo/app:1.0` is exported with linux/amd64 only, so its index has another digest: `sha256:05dc91dfebc1cfa3cab3d55b5c86794dace0e5e588fc3d46132c29fc089a1eef` instead of `sha256:f62fb544ff3da135d80cbd5f3898da060dcde3fdfec843495609fdaed57dbfda`
""")
    assert tarfile.is_tarfile(tmp_path / "taken.tar")


def test_export_to_an_engine_reports_what_it_took(
    run: Run, pulled: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", pulling_program(tmp_path, "podman")["PATH"])

    first = run("export", pulled, "-p", "linux/amd64", "--to", "podman", "--json")
    again = run("export", pulled, "-p", "linux/amd64", "--to", "podman")

    taken = json.loads(first.stdout)
    assert (taken["written"], taken["present"]) == (taken["size"], 0)
    assert str(again) == snapshot("""\
status: 0
--- stdout
to       podman
content  5 pieces, 187 kB (860 B written, 186 kB present)
ran      podman pull --quiet --tls-verify=false HOST:PORT/demo/app@sha256:311923c08153b9d107c1c7012d4b0f8240c9c12b013cda6877aea9dbd1c9cede

NAME                          PLATFORMS    DIGEST
HOST:PORT/demo/app:1.0  linux/amd64  sha256:311923c08153
--- stderr
""")


def test_export_reports_a_missing_program(
    run: Run, pulled: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "/nowhere")

    assert str(run("export", pulled, "--to", "podman")) == snapshot("""\
status: 8
--- stdout
--- stderr
error: `podman` is not on PATH, so nothing was exported
hint: export to a file with `--to images.tar`, then run `podman load < images.tar` where `podman` is
""")


def test_export_reports_a_program_that_rejects_the_archive(
    run: Run, pulled: str, tool: Path
) -> None:
    (tool / "docker").write_text("#!/bin/sh\ncat >/dev/null\necho no room >&2\nexit 3\n")

    seen = run("export", pulled, "-p", "linux/amd64", "--to", "docker")

    assert seen.status == 8
    assert seen.stderr.count("error: ") == 1
    assert "no room" in seen.stderr


def test_export_of_an_image_that_was_not_pulled(run: Run) -> None:
    assert str(run("export", "example.com/app:1", "--to", "layout")) == snapshot("""\
status: 3
--- stdout
--- stderr
error: the store does not hold `example.com/app:1`
hint: fetch it with `resolver pull example.com/app:1`
""")


def test_export_of_a_platform_that_was_not_pulled(run: Run, pulled: str) -> None:
    seen = run("export", pulled, "-p", "linux/arm/v7", "--exact", "--to", "layout")

    assert str(seen) == snapshot("""\
status: 3
--- stdout
--- stderr
error: the store does not hold `linux/arm/v7` of `HOST:PORT/demo/app:1.0`
hint: fetch it with `resolver pull HOST:PORT/demo/app:1.0 -p linux/arm/v7`
""")


@pytest.mark.parametrize("where", ["a.tar.gz", "", "oci:"])
def test_export_rejects_an_invalid_destination(run: Run, pulled: str, where: str) -> None:
    seen = run("export", pulled, "--to", where)

    assert (seen.status, seen.stderr.count("error: ")) == (2, 1)


def test_export_requires_a_destination(run: Run, pulled: str) -> None:
    assert str(run("export", pulled)) == snapshot("""\
status: 2
--- stdout
--- stderr
error: missing option '--to'
hint: see `resolver export --help`
""")


def test_export_reports_an_unwritable_destination(run: Run, pulled: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")

    assert str(run("export", pulled, "-p", "linux/arm64", "--to", "file/layout")) == snapshot("""\
status: 8
--- stdout
--- stderr
error: cannot export to `file/layout`: not a directory
hint: a file is in its place: remove it, or name another place
""")


def test_export_json_output(run: Run, pulled: str) -> None:
    seen = run("export", f"store:{pulled}", "--to", "layout", "--json", keep=True)
    printed = json.loads(seen.stdout)

    assert printed["to"] == {"kind": "layout", "path": "layout"}
    assert printed["images"][0]["filtered"] is True
    assert [each["architecture"] for each in printed["images"][0]["platforms"]] == [
        "amd64",
        "arm64",
    ]
    assert printed["present"] + printed["linked"] + printed["written"] == printed["size"]


def test_export_to_stdout_writes_only_the_archive(run: Run, pulled: str, tmp_path: Path) -> None:
    run("export", pulled, "-p", "linux/arm64", "--to", "image.tar")
    done = command("export", pulled, "-p", "linux/arm64", "--to", "-")

    assert done.returncode == 0
    assert done.stdout == (tmp_path / "image.tar").read_bytes()
    warning, note = done.stderr.decode().splitlines()
    assert "so its index has another digest" in warning
    assert "left out: 4 images, 2 attestations of the index" in note
    assert not (tmp_path / "-").exists()


def test_export_exits_quietly_when_the_reader_closes_stdout(run: Run, pulled: str) -> None:
    del run
    line = f"{sys.executable} -m resolver export {pulled} --to - -q | head -c 100"
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        ["bash", "-c", line], capture_output=True, check=True, timeout=60, env=environment
    )

    assert len(done.stdout) == 100
    assert done.stderr == b""


def test_export_refuses_to_write_an_archive_to_a_terminal(
    run: Run, pulled: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    seen = run("export", pulled, "--to", "-")

    assert seen.status == 2
    assert seen.stdout == ""
    assert "refusing to write an archive to a terminal" in seen.stderr


def test_export_to_stdout_rejects_an_answer_on_stdout(run: Run, pulled: str) -> None:
    seen = run("export", pulled, "--to", "-", "--json")

    assert seen.status == 2
    assert json.loads(seen.stdout)["error"]["class"] == "USAGE"
    assert "both write to standard output" in seen.stderr


@pytest.mark.parametrize(
    ("text", "kind", "path"),
    [
        ("-", "archive", "-"),
        ("docker-archive:-", "archive", "-"),
        ("oci-archive:-", "archive", "-"),
        ("./-", "layout", "./-"),
        ("oci:-", "layout", "-"),
        ("oci-archive:./-", "archive", "./-"),
    ],
)
def test_export_dash_means_stdout(text: str, kind: str, path: str) -> None:
    parsed = parse_destination(text)

    assert (parsed.kind, parsed.path) == (kind, path)
    assert parsed.is_stream == (text in {"-", "docker-archive:-", "oci-archive:-"})
