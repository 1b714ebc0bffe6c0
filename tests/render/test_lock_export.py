"""`lock export` formats, read back by the tools that use them."""

from __future__ import annotations

import ast
import re
import subprocess
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from inline_snapshot import snapshot

from resolver.core.lockfile.entries import Platforms, entries_of, short_names
from resolver.core.lockfile.lock import Lock, LockedImage, LockedPlatform
from resolver.core.oci.descriptor import OCI_INDEX, OCI_MANIFEST
from resolver.core.oci.digest import Digest
from resolver.core.oci.reference import Reference
from resolver.core.platforms.platform import Platform
from resolver.errors import Usage
from resolver.render.answers.lock import EXPORTS, export

if TYPE_CHECKING:
    from pathlib import Path


def digest(number: int) -> Digest:
    return Digest("sha256", f"{number:064x}")


def image(written: str, number: int, *platforms: str) -> LockedImage:
    """One that is locked; without platforms it is a single image for linux/amd64."""
    root = digest(number)
    if not platforms:
        only = LockedPlatform(Platform.parse("linux/amd64"), root, OCI_MANIFEST, 1)
        return LockedImage(str(Reference.parse(written)), written, root, OCI_MANIFEST, 1, (only,))
    listed = tuple(
        LockedPlatform(Platform.parse(each), digest(number + entry), OCI_MANIFEST, 1, entry)
        for entry, each in enumerate(platforms, 1)
    )
    ordered = tuple(sorted(listed, key=lambda one: one.key))
    return LockedImage(str(Reference.parse(written)), written, root, OCI_INDEX, 1, ordered)


LOCK = Lock().merged(
    [
        image("nginx:1.27", 16, "linux/amd64", "linux/arm64/v8", "windows/amd64:10.0.20348.1"),
        image("ghcr.io/owner/on:2", 32),
        image(f"quay.io/tools/probe@{digest(64)}", 64, "linux/s390x"),
    ]
)
SERVICES = {"docker.io/library/nginx:1.27": ["web", "on"], "ghcr.io/owner/on:2": ["no"]}


def written(form: str, **how: Any) -> str:
    entries, missing = entries_of(LOCK, **how)
    assert not missing
    return export(entries, form)


def exported(form: str, **how: Any) -> str:
    """The same with digests that fit the page."""
    return written(form, **how).replace("0" * 60, "0…")


def read(form: str, **how: Any) -> Any:
    return yaml.safe_load(written(form, **how))


def test_lock_export_kbld() -> None:
    assert exported("kbld") == snapshot("""\
# Written by `resolver lock export`; write it again instead of changing it.
---
apiVersion: "kbld.k14s.io/v1alpha1"
kind: "Config"
minimumRequiredVersion: "0.17.0"
overrides:
  - image: "nginx:1.27"
    newImage: "index.docker.io/library/nginx@sha256:0…0010"
    preresolved: true
  - image: "ghcr.io/owner/on:2"
    newImage: "ghcr.io/owner/on@sha256:0…0020"
    preresolved: true
  - image: "quay.io/tools/probe@sha256:0…0040"
    newImage: "quay.io/tools/probe@sha256:0…0040"
    preresolved: true
""")
    assert read("kbld")["overrides"][0]["preresolved"] is True


def test_lock_export_imgpkg() -> None:
    assert exported("imgpkg") == snapshot("""\
# Written by `resolver lock export`; write it again instead of changing it.
---
apiVersion: "imgpkg.carvel.dev/v1alpha1"
kind: "ImagesLock"
images:
  - image: "index.docker.io/library/nginx@sha256:0…0010"
    annotations:
      "kbld.carvel.dev/id": "nginx:1.27"
  - image: "ghcr.io/owner/on@sha256:0…0020"
    annotations:
      "kbld.carvel.dev/id": "ghcr.io/owner/on:2"
  - image: "quay.io/tools/probe@sha256:0…0040"
    annotations:
      "kbld.carvel.dev/id": "quay.io/tools/probe@sha256:0…0040"
""")


def test_lock_export_kustomize() -> None:
    assert exported("kustomize") == snapshot("""\
# Written by `resolver lock export`; write it again instead of changing it.
---
apiVersion: "kustomize.config.k8s.io/v1alpha1"
kind: "Component"
images:
  - name: "nginx"
    newName: "docker.io/library/nginx"
    digest: "sha256:0…0010"
  - name: "ghcr.io/owner/on"
    newName: "ghcr.io/owner/on"
    digest: "sha256:0…0020"
  - name: "quay.io/tools/probe"
    newName: "quay.io/tools/probe"
    digest: "sha256:0…0040"
""")


def test_lock_export_kustomize_refuses_one_image_with_two_tags() -> None:
    lock = Lock().merged([image("nginx:1", 1), image("nginx:2", 2)])

    with pytest.raises(Usage) as caught:
        export(entries_of(lock)[0], "kustomize")
    assert "`nginx:1` and `nginx:2`" in str(caught.value)


def test_lock_export_compose_with_services() -> None:
    assert exported("compose", services=SERVICES) == snapshot("""\
# Written by `resolver lock export`; write it again instead of changing it.
---
services:
  "no":
    image: "ghcr.io/owner/on:2@sha256:0…0020"
  "on":
    image: "docker.io/library/nginx:1.27@sha256:0…0010"
  "web":
    image: "docker.io/library/nginx:1.27@sha256:0…0010"
""")
    assert set(read("compose", services=SERVICES)["services"]) == {"no", "on", "web"}


def test_lock_export_compose_without_services() -> None:
    found = read("compose")

    assert list(found) == ["x-images"]
    assert found["x-images"]["nginx:1.27"] == f"docker.io/library/nginx:1.27@{digest(16)}"


def test_lock_export_helm() -> None:
    assert exported("helm") == snapshot("""\
# Written by `resolver lock export`; write it again instead of changing it.
---
images:
  "nginx":
    registry: "docker.io"
    repository: "library/nginx"
    tag: "1.27"
    digest: "sha256:0…0010"
  "on":
    registry: "ghcr.io"
    repository: "owner/on"
    tag: "2"
    digest: "sha256:0…0020"
  "probe":
    registry: "quay.io"
    repository: "tools/probe"
    digest: "sha256:0…0040"
""")


def test_lock_export_bazel() -> None:
    assert exported("bazel") == snapshot("""\
# Written by `resolver lock export`; write it again instead of changing it.
oci = use_extension("@rules_oci//oci:extensions.bzl", "oci")

oci.pull(
    name = "nginx",
    digest = "sha256:0…0010",
    image = "index.docker.io/library/nginx",
    platforms = [
        "linux/amd64",
        "linux/arm64/v8",
    ],
)

oci.pull(
    name = "on",
    digest = "sha256:0…0020",
    image = "ghcr.io/owner/on",
)

oci.pull(
    name = "probe",
    digest = "sha256:0…0040",
    image = "quay.io/tools/probe",
    platforms = [
        "linux/s390x",
    ],
)

use_repo(
    oci,
    "nginx",
    "nginx_linux_amd64",
    "nginx_linux_arm64_v8",
    "on",
    "probe",
    "probe_linux_s390x",
)
""")


def test_lock_export_bazel_omits_platforms_it_cannot_select() -> None:
    lock = Lock().merged([image("nano", 1, "windows/amd64:10.0.20348.1")])

    assert "oci.pull" not in export(entries_of(lock)[0], "bazel")


def test_lock_export_env() -> None:
    assert exported("env") == snapshot("""\
NGINX_IMAGE=docker.io/library/nginx@sha256:0…0010
NGINX_DIGEST=sha256:0…0010
ON_IMAGE=ghcr.io/owner/on@sha256:0…0020
ON_DIGEST=sha256:0…0020
PROBE_IMAGE=quay.io/tools/probe@sha256:0…0040
PROBE_DIGEST=sha256:0…0040
""")


def test_lock_export_env_is_read_by_a_shell(tmp_path: Path) -> None:
    file = tmp_path / "images.env"
    file.write_text(written("env"))
    done = subprocess.run(
        ["sh", "-c", f'. "{file}"; printf "%s\\n" "$NGINX_DIGEST" "$ON_IMAGE"'],
        check=True,
        capture_output=True,
        text=True,
    )

    assert done.stdout.splitlines() == [str(digest(16)), f"ghcr.io/owner/on@{digest(32)}"]


def test_lock_export_of_one_platform_uses_its_manifest() -> None:
    wanted = Platforms((Platform.parse("linux/arm64"),))
    entries, missing = entries_of(LOCK, wanted)

    assert [one.reference for one in missing] == [
        "ghcr.io/owner/on:2",
        f"quay.io/tools/probe@{digest(64)}",
    ]
    assert export(entries, "env").splitlines()[1] == f"NGINX_DIGEST={digest(18)}"


def test_unknown_lock_export_format_is_refused() -> None:
    with pytest.raises(Usage) as caught:
        export((), "table")
    assert caught.value.hints() == (
        "choose one of kbld, imgpkg, kustomize, compose, bazel, helm, env",
    )


@pytest.mark.parametrize("form", EXPORTS)
def test_lock_export_of_an_empty_lock(form: str) -> None:
    text = export((), form)

    assert text.endswith("\n") or not text
    assert "sha256" not in text


words = st.from_regex(r"[a-z][a-z0-9]{0,5}(?:[._-][a-z0-9]{1,3})?", fullmatch=True)
tags = st.from_regex(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,6}", fullmatch=True)
names = st.builds(
    lambda host, path, tag: f"{host}{path}:{tag}",
    st.sampled_from(["", "ghcr.io/", "localhost:5000/", "[::1]:5000/", "owner/"]),
    words,
    tags,
)
locks = st.lists(names, min_size=1, max_size=6, unique_by=lambda name: str(Reference.parse(name)))


@given(locks)
def test_every_lock_export_contains_every_image_and_is_read_back(written_names: list[str]) -> None:
    lock = Lock().merged(
        image(name, 16 * at, "linux/amd64", "linux/arm64")
        for at, name in enumerate(written_names, 1)
    )
    entries, _ = entries_of(lock)
    digests = [str(one.digest) for one in lock.images]

    assert [one["newImage"][-71:] for one in back("kbld", entries)["overrides"]] == digests
    assert [one["image"] for one in back("kbld", entries)["overrides"]] == [
        one.written for one in lock.images
    ]
    assert [one["image"][-71:] for one in back("imgpkg", entries)["images"]] == digests
    assert [one["digest"] for one in back("helm", entries)["images"].values()] == digests
    assert [str(one["tag"]) for one in back("helm", entries)["images"].values()] == [
        one.reference.tag for one in entries
    ]
    assert [text[-71:] for text in back("compose", entries)["x-images"].values()] == digests
    assert [call["digest"] for call in calls(export(entries, "bazel"))] == digests
    variables = dict(line.split("=", 1) for line in export(entries, "env").splitlines())
    assert [variables[f"{one.name.upper()}_DIGEST"] for one in entries] == digests
    assert all(re.fullmatch(r"[A-Z][A-Z0-9_]*", name) for name in variables)


def back(form: str, entries: Any) -> Any:
    """Read YAML with a parser that keeps every key a string."""
    loaded = yaml.safe_load(export(entries, form))
    assert all(isinstance(key, str) for key in loaded)
    return loaded


def calls(module: str) -> list[dict[str, Any]]:
    """Read Starlark, whose calls are Python's."""
    found = [
        {word.arg or "": ast.literal_eval(word.value) for word in node.keywords}
        for node in ast.walk(ast.parse(module))
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "oci.pull"
    ]
    return sorted(found, key=lambda call: module.index(call["digest"]))


@given(locks)
def test_lock_export_short_names_are_unique_words(written_names: list[str]) -> None:
    found = short_names([Reference.parse(name) for name in written_names])

    assert len(set(found)) == len(found)
    assert all(re.fullmatch(r"[a-z][a-z0-9_]*", name) for name in found)


@pytest.mark.parametrize(
    ("references", "expected"),
    [
        (["nginx:1", "redis:7"], ["nginx", "redis"]),
        (["nginx:1", "nginx:2"], ["nginx_1", "nginx_2"]),
        (["a.test/x:1", "b.test/x:1"], ["a_test_x_1", "b_test_x_1"]),
        (["a.test/x-y:1", "a.test/x_y:1"], ["a_test_x_y_1", "a_test_x_y_1_2"]),
        (["7zip"], ["image_7zip"]),
        ([], []),
    ],
)
def test_lock_export_short_names_are_minimal(references: list[str], expected: list[str]) -> None:
    assert short_names([Reference.parse(each) for each in references]) == expected
