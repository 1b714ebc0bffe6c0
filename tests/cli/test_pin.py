"""Output of `resolver pin`."""

from __future__ import annotations

import json
import subprocess
from typing import TYPE_CHECKING

import pytest
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


def test_pin_output_of_a_dockerfile(run: Run, registry: str, tmp_path: Path) -> None:
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


def test_pin_check_lists_unpinned_references(run: Run, registry: str, tmp_path: Path) -> None:
    dockerfile(tmp_path, registry)

    assert str(run("pin", "--check", "Dockerfile")) == snapshot("""\
status: 1
--- stdout
Dockerfile:2  error  unpinned  `HOST:PORT/demo/app:1.0` is not pinned
`Dockerfile`: 1 error (1 image)
--- stderr
hint: pin it with `resolver pin Dockerfile`
""")


def test_pin_diff_shows_pending_changes(run: Run, registry: str, tmp_path: Path) -> None:
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


def test_pin_diff_can_be_applied_by_git(run: Run, registry: str, tmp_path: Path) -> None:
    path = dockerfile(tmp_path, registry)
    before = path.read_bytes()
    patch = run("pin", "--diff", "./Dockerfile", keep=True).stdout.encode()

    subprocess.run(["git", "apply", "-"], input=patch, cwd=tmp_path, check=True)

    assert path.read_bytes() == before.replace(b":1.0", b":1.0@" + INDEX.encode())


def test_pin_diff_without_changes_is_empty(run: Run, tmp_path: Path) -> None:
    (tmp_path / "Dockerfile").write_text("FROM scratch\n")

    assert str(run("pin", "--diff", "Dockerfile")) == snapshot("""\
status: 0
--- stdout
--- stderr
""")
    assert str(run("pin", "Dockerfile")) == snapshot("""\
status: 0
--- stdout
no images found
--- stderr
""")


def test_pin_check_output_of_every_finding(run: Run, registry: str, tmp_path: Path) -> None:
    amd64 = run("resolve", f"{registry}/demo/app:1.0", "-p", "linux/amd64", "--format", "digest")
    (tmp_path / "Dockerfile").write_text(
        f"""\
ARG TAG=1
FROM {registry}/demo/app:2.0
FROM {registry}/demo/app:1.0@{amd64.stdout.strip()}
FROM {registry}/demo/app:2.0@{INDEX}
FROM alpine:${{TAG}}
"""
    )
    (tmp_path / "compose.yaml").write_text("services: {\n")

    seen = run(
        "pin", "--check", "--update", "--require", "linux/arm64", "Dockerfile", "compose.yaml"
    )

    assert str(seen) == snapshot("""\
status: 2
--- stdout
Dockerfile:2    error    unpinned                 `HOST:PORT/demo/app:2.0` is not pinned
Dockerfile:3    warning  single-platform-pin      `HOST:PORT/demo/app:1.0` is pinned to one platform, but its tag offers several
Dockerfile:3    error    pinned-platform-missing  `HOST:PORT/demo/app:1.0` is not offered for `linux/arm64`
Dockerfile:4    error    stale-pin                `HOST:PORT/demo/app:2.0` is out of date, its tag now points at `sha256:a589c03475cf4dde3831ed42f06f02f2e97b77ed08c1f45ac2df15581b68ae41`
Dockerfile:5    error    not-pinnable             `alpine:${TAG}` cannot be pinned: its name is composed of arguments
compose.yaml:2  error    unparsable               it is not YAML: did not find expected node content
`Dockerfile`: 4 errors, 1 warning (4 images)
--- stderr
error: `compose.yaml` is unchanged: it is not YAML: did not find expected node content (line 2, column 1)
hint: pin it with `resolver pin Dockerfile`
hint: pin the index with `resolver pin --update Dockerfile`
hint: it is offered for `linux/amd64`
hint: update it with `resolver pin --update Dockerfile`
hint: give one `ARG` the whole reference, `ARG BASE=ubuntu:24.04`, and write `FROM ${BASE}`
""")


def test_pin_json_has_every_file_image_and_finding(run: Run, registry: str, tmp_path: Path) -> None:
    (tmp_path / "Dockerfile").write_text(f"FROM {registry}/demo/app:1.0\nFROM a:$X\n")

    output = json.loads(run("pin", "--json", "Dockerfile", "gone").stdout)

    (file, gone) = output["files"]
    assert output["schema"] == 1
    assert (file["path"], file["kind"], file["changed"]) == ("Dockerfile", "dockerfile", True)
    assert [image["state"] for image in file["images"]] == ["pinned", "not pinnable"]
    assert [image["digest"] for image in file["images"]] == [INDEX, None]
    assert [(image["line"], image["column"]) for image in file["images"]] == [(1, 6), (2, 6)]
    assert gone["error"]["status"] == 2
    assert [finding["rule"] for finding in output["findings"]] == ["not-pinnable"]
    assert output["findings"][0]["line"] == 2


def test_pin_markdown_prints_whole_digests(run: Run, registry: str, tmp_path: Path) -> None:
    dockerfile(tmp_path, registry)

    assert INDEX in run("pin", "--format", "markdown", "Dockerfile").stdout


@pytest.mark.parametrize(
    ("text", "options", "status"),
    [
        ("FROM {r}/demo/app:1.0\n", [], 0),
        ("FROM {r}/demo/app:1.0\n", ["--check"], 1),
        ("FROM {r}/demo/app:1.0\n", ["--require", "plan9/mips"], 1),
        ("FROM {r}/demo/app:1.0\n", ["-p", "plan9/mips"], 3),
        ("FROM {r}/demo/app:9\n", [], 3),
        ("FROM 127.0.0.1:9/a:1\n", [], 5),
        ("FROM {r}/demo/app:1.0\n", ["--offline"], 7),
        ("RUN <<EOF\n", [], 2),
        ("FROM a:1\n", ["--format", "digest"], 2),
        ("FROM a:1\n", ["--diff", "--json"], 2),
        ("FROM a:1\n", ["--diff", "--check"], 2),
        ("FROM a:1\n", ["--unpin", "--check"], 2),
        ("FROM a:1\n", ["--unpin", "--update"], 2),
        ("FROM a:1\n", ["--require", "linux//x"], 2),
        ("FROM a:$X\n", [], 0),
        ("FROM a:$X\n", ["--check"], 1),
        ("# resolver: ignore\nFROM a:1\n", ["--check"], 0),
    ],
)
def test_pin_exit_statuses(
    run: Run, registry: str, tmp_path: Path, text: str, options: list[str], status: int
) -> None:
    path = tmp_path / "Dockerfile"
    path.write_text(text.format(r=registry) if "{r}" in text else text)

    assert run("pin", "Dockerfile", *options).status == status


def test_pin_keeps_references_of_an_unwritable_file(
    run: Run, registry: str, tmp_path: Path
) -> None:
    path = dockerfile(tmp_path, registry)
    path.chmod(0o444)
    other = tmp_path / "compose.yaml"
    other.write_text(f"services: {{a: {{image: {registry}/demo/app:1.0}}}}\n")

    seen = run("pin", "Dockerfile", "compose.yaml")

    assert str(seen) == snapshot("""\
status: 8
--- stdout
WHERE           IMAGE                         STATE   DIGEST
Dockerfile:2    HOST:PORT/demo/app:1.0  failed  -
compose.yaml:1  HOST:PORT/demo/app:1.0  pinned  sha256:f62fb544ff3d
--- stderr
error: cannot write `Dockerfile`: it is read-only
hint: make it writable for this user, or name another place
""")
    assert INDEX in other.read_text()


def test_pin_escapes_hostile_names(run: Run, tmp_path: Path) -> None:
    (tmp_path / "Dockerfile").write_text("FROM a\x1b[31m:1\nFROM ::error::x\n")

    seen = run("pin", "--check", "Dockerfile")

    assert "\x1b" not in seen.stdout + seen.stderr
    assert not [line for line in seen.stdout.splitlines() if line.startswith("::")]


def test_pin_findings_and_failures_in_other_formats(
    run: Run, registry: str, tmp_path: Path
) -> None:
    (tmp_path / "Dockerfile").write_text(f"FROM {registry}/demo/none:1\nFROM a:$X\n")

    output = json.loads(run("pin", "--json", "Dockerfile").stdout)
    page = run("pin", "--format", "markdown", "Dockerfile").stdout

    assert output["files"][0]["images"][0]["error"]["status"] == 3
    assert "not-pinnable" in page
    assert "| where | severity | rule | finding |" in page
    assert "failed" in page


def test_pin_reports_a_template_once_and_names_its_values_file(run: Run, tmp_path: Path) -> None:
    place = tmp_path / "pod.yaml"
    place.write_text("{{- if .Values.x }}\nkind: Pod\n{{- end }}\n")

    assert str(run("pin", "pod.yaml")) == snapshot("""\
status: 2
--- stdout
pod.yaml:1  error  unparsable  it is not YAML: did not find expected node content
--- stderr
error: `pod.yaml` is unchanged: it is not YAML: did not find expected node content (line 1, column 3)
hint: it looks like a template: pin its values file
""")
    assert place.read_text().startswith("{{-")


def test_pin_check_fails_on_likely_images_under_unknown_keys(run: Run, tmp_path: Path) -> None:
    (tmp_path / "thing.yaml").write_text(
        "apiVersion: example.com/v1\nkind: Thing\nspec:\n  runtime: quay.io/org/app:v1\n"
    )

    assert str(run("pin", "--check", "thing.yaml")) == snapshot("""\
status: 1
--- stdout
thing.yaml:4  error  unknown-key  `quay.io/org/app:v1` is not pinned: unknown key `spec.runtime`
`thing.yaml`: 1 error (1 image)
--- stderr
hint: pin it by hand, or write `# resolver: ignore` above it if it is not an image
""")
    (tmp_path / "thing.yaml").write_text(
        "apiVersion: example.com/v1\nkind: Thing\nspec:\n"
        "  runtime: quay.io/org/app:v1  # resolver: ignore\n"
    )
    assert run("pin", "--check", "thing.yaml").status == 0


def test_pin_lists_lines_that_name_an_unreachable_registry(run: Run, tmp_path: Path) -> None:
    (tmp_path / "Dockerfile").write_text("FROM scratch\nFROM 127.0.0.1:9/a:1\n")
    (tmp_path / "compose.yaml").write_text("services: {a: {image: 127.0.0.1:9/a:1}}\n")

    seen = run("pin", "Dockerfile", "compose.yaml")

    assert seen.status == 5
    assert "error: `Dockerfile:2`, `compose.yaml:1`: " in seen.stderr


def test_pin_accepts_all_files_of_a_repository(run: Run, registry: str, tmp_path: Path) -> None:
    dockerfile(tmp_path, registry)
    (tmp_path / "README.md").write_text("# x\n")
    (tmp_path / "main.py").write_text("x = 1\n")

    assert str(run("pin", "--check", "Dockerfile", "README.md", "main.py")) == snapshot("""\
status: 1
--- stdout
Dockerfile:2  error  unpinned  `HOST:PORT/demo/app:1.0` is not pinned
`Dockerfile`: 1 error (1 image)
--- stderr
note: skipped `README.md`, `main.py`: each is not a supported file type
hint: pin it with `resolver pin Dockerfile`
""")
    assert run("pin", "Dockerfile", "README.md", "main.py").status == 0
    assert run("pin", "README.md").status == 2


def test_pin_accepts_a_folder(run: Run, registry: str, tmp_path: Path) -> None:
    folder = tmp_path / "app"
    folder.mkdir()
    dockerfile(folder, registry)
    (folder / "config.yaml").write_text("a: 1\n")

    assert str(run("pin", "app")) == snapshot("""\
status: 0
--- stdout
WHERE             IMAGE                         STATE   DIGEST
app/Dockerfile:2  HOST:PORT/demo/app:1.0  pinned  sha256:f62fb544ff3d
--- stderr
note: skipped `app/config.yaml`: it is not a supported file type
""")
    output = json.loads(run("pin", "--check", "--json", "app").stdout)
    assert [each["path"] for each in output["skipped"]] == ["app/config.yaml"]


def test_pin_json_explains_names_that_need_no_digest(run: Run, tmp_path: Path) -> None:
    (tmp_path / "compose.yaml").write_text("services:\n  a: {build: ., image: 'org/app:1'}\n")

    seen = run("pin", "--check", "--json", "compose.yaml")

    assert seen.status == 0
    (file,) = json.loads(seen.stdout)["files"]
    assert file["passed"] == [{"line": 2, "column": 24, "reason": "it names a build output"}]


def test_pin_prints_few_hints_for_many_files(run: Run, tmp_path: Path) -> None:
    names = [f"Dockerfile.{number}" for number in range(5)]
    for name in names:
        (tmp_path / name).write_text("FROM a:1\n")

    seen = run("pin", "--check", *names)

    assert seen.stdout.count("is not pinned") == 5
    assert seen.stderr.splitlines() == [
        "hint: pin it with `resolver pin Dockerfile.0`",
        "hint: pin it with `resolver pin Dockerfile.1`",
        "hint: pin it with `resolver pin Dockerfile.2`",
        "hint: 2 more like these; `--json` lists all of them",
    ]
