"""Run the examples of README.md and docs/ against the sample registry.

`UPDATE_DOCS=1 scripts/test tests/cli/test_readme.py` writes the real output into the pages.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from resolver.cli.app import COMMANDS, DEFECT, run
from resolver.demo import samples
from resolver.demo.images import Sample
from resolver.errors import ErrorKind
from resolver.files.yaml import read as read_yaml
from resolver.session import Session
from resolver.sources.mirrors.formats import parse_config
from resolver.verbs.serve.api import MemoryShelf
from resolver.verbs.serve.server import serve
from resolver.verbs.sync import read_rules
from tests import ROOT
from tests.kit.ci_systems import read_github_file
from tests.kit.executables import PROGBITS, go_build_info, isa_needed, linked
from tests.kit.images import build_image, build_index, build_layer
from tests.kit.processes import python
from tests.kit.registry import FakeRegistry
from tests.kit.writable import WritableRegistry

if TYPE_CHECKING:
    from collections.abc import Iterator

README = ROOT / "README.md"
DOCS = ROOT / "docs"
#: Whether to replace outdated output in the pages, to be reviewed as a difference.
UPDATE = bool(os.environ.get("UPDATE_DOCS"))
PAGES = [README, *sorted(DOCS.glob("*.md"))]
#: As long as 127.0.0.1 and a port of five digits, so that tables keep their width.
HOST = "reg.example.com"
#: Sample images in the place of the names in README.md.
SAMPLES = {
    "ubuntu:24.04": "demo/app:1.0",
    "alpine:3.20": "demo/app:1.0",
    "nginx:1.27": "demo/app:2.0",
    "redis:7": "demo/app:2.0",
}


@pytest.fixture
def registry() -> Iterator[str]:
    """The sample registry, with the image that `docs/needs.md` describes."""
    loader, libc = "lib64/ld-linux-x86-64.so.2", "usr/lib/x86_64-linux-gnu/libc.so.6"
    base = {
        loader: linked("amd64"),
        libc: linked("amd64", notes=isa_needed(5), needed=["ld-linux-x86-64.so.2"]),
    }
    app = linked("amd64", interpreter=f"/{loader}", needed=["libc.so.6"], notes=isa_needed(1))
    go = go_build_info("go1.24.1", CGO_ENABLED="0", GOARM64="v8.1,lse")
    arm = linked("arm64", sections={".go.buildinfo": (PROGBITS, 3, go)})
    config = {"config": {"Entrypoint": ["/app"]}}
    image = build_index(
        [
            build_image(
                "linux/amd64", [build_layer(base), build_layer({"app": app})], config=config
            ),
            build_image("linux/arm64", [build_layer({"app": arm})], config=config),
        ]
    ).built()
    sample = Sample("team/service", "2", image.root, image.documents, image.blobs)
    with serve(MemoryShelf((*samples(), sample))) as server:
        yield server.address


def console_blocks() -> Iterator[Any]:
    """Yield the console blocks of all pages: commands, each with its output."""
    for page in PAGES:
        for block in re.findall(r"```console\n(.*?)```", page.read_text(), re.DOTALL):
            parts = re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]
            examples = [part.partition("\n")[::2] for part in parts]
            yield pytest.param(page, examples, id=f"{page.name}: {examples[0][0]}")


def with_sample_host(text: str, registry: str) -> str:
    """Replace the address of the registry by the name in the docs, also where a table cut it."""
    for length in range(len(registry) - 1, 0, -1):
        text = text.replace(f"…{registry[-length:]}/", f"…{HOST[-length:]}/")
    return text.replace(registry, HOST)


@pytest.mark.parametrize(("page", "examples"), [*console_blocks()])
def test_console_block_shows_the_real_output(
    page: Path,
    examples: list[tuple[str, str]],
    registry: str,
    store: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    del store
    assert len(registry) == len(HOST)
    monkeypatch.chdir(tmp_path)
    for command, output in examples:
        words = shlex.split(command.replace(HOST, registry))
        assert words[0] == "resolver"

        assert run(words[1:]) != DEFECT, command
        printed = capsys.readouterr()

        shown = with_sample_host(printed.err + printed.out, registry)
        if UPDATE:
            text = page.read_text()
            page.write_text(text.replace(f"$ {command}\n{output}", f"$ {command}\n{shown}", 1))
        else:
            assert shown == output, command


def test_readme_commands_run_on_sample_images(
    registry: str,
    store: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    del store
    monkeypatch.chdir(tmp_path)
    commands = [
        line
        for block in re.findall(r"```sh\n(.*?)```", README.read_text(), re.DOTALL)
        for line in block.splitlines()
        if line.startswith("resolver ") and not line.startswith("resolver demo")
    ]
    assert len(commands) == 5
    for command in commands:
        words = shlex.split(command)
        assert SAMPLES.keys() & set(words), command
        words = [f"{registry}/{SAMPLES[word]}" if word in SAMPLES else word for word in words]

        assert run(words[1:]) == 0, command
        assert capsys.readouterr().out, command


#: Stands for `docker buildx build`: pushes the build for one platform by digest, and says so.
DOCKER = """#!{python}
import json, os, subprocess, sys
words = sys.argv[1:]
if words[0] == "login":
    sys.exit(subprocess.call(["resolver", *words]))
platform = words[words.index("--platform") + 1]
output = dict(part.split("=", 1) for part in words[words.index("--output") + 1].split(","))
assert output["push-by-digest"] == output["push"] == "true"
layout = "oci:{layouts}/" + platform.replace("/", "-")
digest = subprocess.check_output(["resolver", "resolve", layout, "--format", "digest"], text=True)
place = output["name"] + "@" + digest.strip()
subprocess.run(["resolver", "copy", layout, place], check=True)
with open(words[words.index("--metadata-file") + 1], "w") as file:
    json.dump({{"containerimage.digest": digest.strip(), "image.name": output["name"]}}, file, indent=2)
"""


@pytest.fixture
def builder(tmp_path: Path) -> dict[str, str]:
    """Return the environment of a CI runner whose `docker` builds from layouts."""
    layouts, programs = tmp_path / "layouts", tmp_path / "bin"
    programs.mkdir()
    with Session(tmp_path / "builds") as session, FakeRegistry(strict=False) as fake:
        for platform in ("linux/amd64", "linux/arm64"):
            fake.serve("app", "1", build_image(platform))
            place = f"oci:{layouts / platform.replace('/', '-')}"
            session.copy(session.plan_copy(f"{fake.host}/app:1", place))
    docker = programs / "docker"
    docker.write_text(DOCKER.format(python=sys.executable, layouts=layouts))
    docker.chmod(0o755)
    pipx = programs / "pipx"
    pipx.write_text("#!/bin/sh\n")
    pipx.chmod(0o755)
    own = Path(sys.executable).parent
    return {
        "PATH": f"{programs}:{own}:/usr/bin:/bin",
        "HOME": str(tmp_path),
        "RESOLVER_STORE": str(tmp_path / "store"),
        "GITHUB_OUTPUT": str(tmp_path / "output"),
    }


def bash(script: str, folder: Path, environment: dict[str, str]) -> None:
    done = subprocess.run(
        ["bash", "-eo", "pipefail", "-c", script],
        check=False,
        cwd=folder,
        env=environment,
        capture_output=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr.decode()


def assert_built(registry: WritableRegistry, tag: str, folder: Path) -> None:
    """Check that the index lists both builds, and is what the lock file has."""
    digest = registry.tags("owner/app")[tag]
    listed = registry.document("owner/app", tag)["manifests"]
    assert [each["platform"]["architecture"] for each in listed] == ["amd64", "arm64"]
    assert registry.complete("owner/app", digest)
    assert digest in (folder / "resolver.lock").read_text()


def test_github_pipeline_builds_an_index_checks_and_locks_it(
    builder: dict[str, str], tmp_path: Path
) -> None:
    workflow = yaml.safe_load(fenced("pipelines.md", "yaml", "workflows/image.yml"))
    build, index = workflow["jobs"]["build"], workflow["jobs"]["index"]
    folder = tmp_path / "work"
    folder.mkdir()
    with WritableRegistry(tmp_path / "registry") as registry:
        image = workflow["env"]["IMAGE"].replace("ghcr.io", registry.host)
        known = {**builder, "IMAGE": image, "TAG": "abc"}
        for row in build["strategy"]["matrix"]["include"]:
            [step] = [step for step in build["steps"] if "run" in step]
            assert step["env"] == {"PLATFORM": "${{ matrix.platform }}"}
            bash(step["run"], folder, {**known, "PLATFORM": row["platform"]})
        [step] = [step for step in index["steps"] if "run" in step]
        bash(step["run"], folder, known)
        assert_built(registry, "abc", folder)
        digest = registry.tags("owner/app")["abc"]
    assert read_github_file((tmp_path / "output").read_text())["digest"] == digest


def test_gitlab_pipeline_builds_an_index_checks_and_locks_it(
    builder: dict[str, str], tmp_path: Path
) -> None:
    pytest.importorskip("pyreqwest", reason="the package requires it")
    jobs = yaml.safe_load(fenced("pipelines.md", "yaml", ".gitlab-ci.yml"))
    folder = tmp_path / "work"
    folder.mkdir()
    with WritableRegistry(tmp_path / "registry") as registry:
        registry.basic("ann", "pa55")
        known = {
            **builder,
            "IMAGE": f"{registry.host}/owner/app",
            "CI_COMMIT_SHA": "abc",
            "CI_REGISTRY": registry.host,
            "CI_REGISTRY_USER": "ann",
            "CI_REGISTRY_PASSWORD": "pa55",
            "PIP_NO_INDEX": "1",
        }
        build, index = (
            "\n".join(jobs[name]["before_script"] + jobs[name]["script"])
            for name in ("build-image", "index-image")
        )
        for row in jobs["build-image"]["parallel"]["matrix"]:
            bash(build, folder, {**known, **row, "HOME": str(tmp_path / row["RUNNER"])})
        # Another machine, with another image: it installs `resolver` and logs in itself.
        assert "pip install" in index
        bash(index, folder, {**known, "HOME": str(tmp_path / "index")})
        assert_built(registry, "abc", folder)
        digest = registry.tags("owner/app")["abc"]
    assert digest in (folder / "index.env").read_text()


def test_sync_example_is_read_as_described(tmp_path: Path) -> None:
    path = tmp_path / "mirror.yaml"
    path.write_text(fenced("pipelines.md", "yaml", "copies:"))

    first, second = read_rules(read_yaml(path))

    assert first.source == "docker.io/library/alpine"
    assert len(first.options.platforms) == 2
    assert first.chosen is not None
    assert [tag for tag in ("3.18", "3.20") if first.chosen(tag)] == ["3.20"]
    assert second.destinations == ("registry.example.com/app", "oci:./mirror")
    assert not second.options.referrers


def test_readme_fits_on_one_screen() -> None:
    assert len(README.read_text().splitlines()) <= 60


def test_commands_page_lists_every_command() -> None:
    text = (DOCS / "commands.md").read_text()

    assert [
        name for _group, name, _module, _summary in COMMANDS if f"`resolver {name}" not in text
    ] == []


@pytest.mark.parametrize("page", ["commands.md", "architecture.md"])
def test_exit_status_table_is_complete(page: str) -> None:
    text = (DOCS / page).read_text()

    assert [kind for kind in ErrorKind if f"| {kind.status} | " not in text] == []


def fenced(page: str, language: str, containing: str) -> str:
    """Return the one block of that language, in a page of docs/, that contains a text."""
    blocks = re.findall(rf"```{language}\n(.*?)```", (DOCS / page).read_text(), re.DOTALL)
    block: str
    (block,) = (block for block in blocks if containing in block)
    return block


def test_library_example_runs_as_written(
    registry: str,
    store: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    del store
    monkeypatch.chdir(tmp_path)
    code = fenced("library.md", "python", "import resolver").replace(
        "alpine:3.20", f"{registry}/demo/app:1.0"
    )

    exec(compile(code, "library.md", "exec"), {})

    printed = capsys.readouterr().out
    assert printed.startswith("sha256:")
    assert "linux/arm64" in printed
    with tarfile.open("images.tar") as archive:
        assert "index.json" in archive.getnames()


@pytest.mark.usefixtures("store")
def test_fleet_example_runs_as_a_program(registry: str, tmp_path: Path) -> None:
    text = fenced("fleet.md", "python", "ProcessPoolExecutor")
    for name, ours in (("alpine:3.20", "demo/app:1.0"), ("redis:7", "demo/app:2.0")):
        assert name in text
        text = text.replace(name, f"{registry}/{ours}")
    program = tmp_path / "fleet.py"
    program.write_text(text)

    done = python(str(program), cwd=tmp_path)

    assert done.returncode == 0, done.stderr.decode()
    answers = done.stdout.decode().splitlines()
    assert [line.partition("(")[0] for line in answers] == ["Resolution", "Resolution"]


def test_mirror_configuration_example_is_parsed_as_described() -> None:
    hosts = parse_config(fenced("mirrors.md", "yaml", "mirrors:").encode(), "config.yaml")

    hub = hosts["docker.io"]
    assert [mirror.tags for mirror in hub.mirrors] == [False, True]
    assert hub.settings.rate == 20
    assert hosts["harbor.example.com"].settings.has_tls
    lan = hosts["registry.lan:5000"].settings
    assert lan.scheme == "http" or lan.plain_too


def test_github_example_uses_inputs_and_outputs_of_the_action() -> None:
    step, after = yaml.safe_load(fenced("pipelines.md", "yaml", "scripts/action@"))
    action = yaml.safe_load((ROOT / "scripts/action/action.yml").read_text())

    assert step["with"].keys() <= action["inputs"].keys()
    used = re.findall(rf"steps\.{step['id']}\.outputs\.(\w+)", after["env"]["REF"])
    assert used
    assert set(used) <= action["outputs"].keys()


def test_gitlab_example_writes_the_files_that_it_declares(
    registry: str, store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    del store
    monkeypatch.chdir(tmp_path)
    job = yaml.safe_load(fenced("pipelines.md", "yaml", "resolve-image:"))["resolve-image"]
    command = job["script"][-1].replace('"$IMAGE"', f"{registry}/demo/app:1.0")

    assert run(shlex.split(command)[1:]) == 0
    assert [name for name in job["artifacts"]["reports"].values() if not Path(name).exists()] == []
