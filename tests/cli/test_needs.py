"""`resolver needs`, `check --runs-on`, `check --nodes`, as a person and a script see them."""

from __future__ import annotations

import json
import random
from typing import TYPE_CHECKING

import pytest
from inline_snapshot import snapshot

from tests.kit.executables import isa_needed, linked
from tests.kit.images import build_image, build_index, build_layer
from tests.kit.layouts import write_layout

if TYPE_CHECKING:
    from pathlib import Path

    from tests.cli.conftest import Run

V3 = linked("amd64", notes=isa_needed(5))


@pytest.fixture
def image(tmp_path: Path) -> str:
    """Write an image whose program needs x86-64-v3; return its reference."""
    config = {"config": {"Entrypoint": ["/bin/a\x1b[31mb"]}}
    made = build_image("linux/amd64", [build_layer({"bin/a\x1b[31mb": V3})], config=config)
    (tmp_path / "layout").mkdir()
    return f"oci:{write_layout(tmp_path / 'layout', {'app': build_index([made])})}:app"


def test_needs_prints_a_line_per_platform_and_escapes_paths(run: Run, image: str) -> None:
    seen = run("needs", image)

    assert seen.status == 0
    assert "\x1b" not in seen.stdout
    assert seen.stdout.splitlines()[2:] == snapshot(
        [
            "needs",
            "PLATFORM     PROCESSOR           PAGE SIZE     KERNEL   LIBC",
            "linux/amd64  x86-64-v3 (stated)  up to 64 KiB  unknown  none",
            "",
            "files",
            "PLATFORM     NEED       VALUE      SURE    PATH            LAYER                EVIDENCE",
            "linux/amd64  cpu        x86-64-v3  stated  bin/a\\x1b[31mb  sha256:41e8d6190a3b  x86 ISA needed: x86-64-v3",
            "linux/amd64  page-size  64 KiB     stated  bin/a\\x1b[31mb  sha256:41e8d6190a3b  its segments load with pages up to this",
        ]
    )


def test_needs_json_has_each_fact_with_file_layer_evidence_and_sureness(
    run: Run, image: str
) -> None:
    answer = json.loads(run("needs", image, "--json").stdout)

    (found,) = answer["platforms"]
    assert (found["level"], found["sure"], found["complete"]) == ("v3", "stated", True)
    assert (found["pageSize"], found["kernel"], found["libc"]) == (65_536, None, None)
    assert [set(fact) for fact in found["facts"]] == [
        {"need", "value", "sure", "file", "layer", "evidence"}
    ] * 2
    assert found["layerBytesRead"] > 0
    assert not found["unread"]


@pytest.mark.parametrize("form", ["markdown", "yaml", "html", "digest", "jsonl"])
def test_needs_in_every_format(run: Run, image: str, form: str) -> None:
    seen = run("needs", image, "--format", form)

    assert seen.status == 0
    assert seen.stdout


@pytest.mark.parametrize(
    ("words", "status"),
    [
        (("--runs-on", "linux/amd64/v2"), 1),
        (("--runs-on", "linux/amd64/v3"), 0),
        (("--runs-on", "linux/amd64/v3,linux/arm64"), 1),
        (("--runs-on", "linux/amd64/v4", "--page-size", "64k", "--kernel", "5.10", "--strict"), 0),
        (("--page-size", "16k"), 0),
        (("--page-size", "3k", "--runs-on", "linux/amd64"), 2),
        (("--kernel", "new", "--runs-on", "linux/amd64"), 2),
        (("--runs-on", "linux/amd64/v3", "--index-only"), 2),
        (("--runs-on", "linux/amd64/v2", "--ignore", "cannot-run"), 0),
    ],
)
def test_check_runs_on_sets_the_status(
    run: Run, image: str, words: tuple[str, ...], status: int
) -> None:
    assert run("check", image, *words).status == status


def test_check_policy_requires_machines(run: Run, image: str, tmp_path: Path) -> None:
    policy = tmp_path / "policy.yaml"
    policy.write_text(
        f"version: 1\ndefaults:\n  runs-on: linux/amd64/v2\n  page-size: 4k\n  kernel: '5.10'\n"
        f"  strict: true\nimages: ['{image}']\n"
    )

    seen = run("check", "--policy", str(policy), "--json")

    assert seen.status == 1
    assert [one["rule"] for one in json.loads(seen.stdout)["findings"]] == ["cannot-run"]


def test_check_nodes_of_a_cluster_against_a_list_of_images(
    run: Run, image: str, tmp_path: Path
) -> None:
    label = "feature.node.kubernetes.io/cpu-cpuid."
    nodes = [
        ("old", {f"{label}AVX": "true"}),
        ("new", {f"{label}{flag}": "true" for flag in ("AVX", "AVX2", "FMA3")}),
    ]
    items = [
        {
            "metadata": {"name": name, "labels": labels},
            "status": {
                "nodeInfo": {
                    "architecture": "amd64", "operatingSystem": "linux", "kernelVersion": "6.8",
                }
            },
        }
        for name, labels in nodes
    ]  # fmt: skip
    (tmp_path / "nodes.json").write_text(json.dumps({"items": items}))
    (tmp_path / "images.txt").write_text(f"{image}\n")

    seen = run("check", "--nodes", str(tmp_path / "nodes.json"), "-f", str(tmp_path / "images.txt"))

    assert seen.status == 1
    assert "the node `old` (`linux/amd64/v2`) cannot run it" in seen.stdout
    assert "`new`" not in seen.stdout


def test_compare_needs_fails_on_needs_alone(run: Run, image: str) -> None:
    assert run("compare", image, "--needs", "--fail-on", "needs").status == 0
    assert run("compare", image, "--fail-on", "needs").status == 2


@pytest.mark.parametrize(
    "words", [("--max-bytes", "0"), ("--max-bytes", "x"), ("-p", "linux/s390x")]
)
def test_needs_with_a_bad_option_is_refused(run: Run, image: str, words: tuple[str, ...]) -> None:
    assert run("needs", image, *words).status in {2, 3}


def test_needs_warns_when_the_limit_ends_the_reading(run: Run, tmp_path: Path) -> None:
    content = random.Random(7).randbytes(300_000)
    layers = [build_layer({"data": content, "bin/app": V3})]
    made = build_image("linux/amd64", layers, config={"config": {"Entrypoint": ["/bin/app"]}})
    (tmp_path / "layout").mkdir()
    name = f"oci:{write_layout(tmp_path / 'layout', {'app': build_index([made])})}:app"

    cut = run("needs", name, "--max-bytes", "100kB")
    cut_json = json.loads(run("needs", name, "--max-bytes", "100kB", "--json").stdout)
    whole = run("needs", name)

    warning = "reading ended at the limit of 100 kB of layers (`--max-bytes`) for `linux/amd64`"
    assert f"warning: {warning}\n" in cut.stderr
    assert [one["message"] for one in cut_json["warnings"]] == [warning]
    assert whole.stderr == ""


def test_resolve_verify_cpu_excludes_a_lock_file(run: Run, image: str) -> None:
    seen = run("resolve", image, "--verify-cpu", "--locked")

    assert seen.status == 2
    assert "--verify-cpu" in seen.stderr
