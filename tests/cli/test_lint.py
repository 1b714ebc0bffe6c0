"""Output of `resolver lint`."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from inline_snapshot import snapshot

from resolver.core.lint.lint import RULES
from tests.kit.images import build_image, build_index
from tests.kit.registry import FakeRegistry, Reply

if TYPE_CHECKING:
    from pathlib import Path

    from tests.cli.conftest import Run


def test_lint_reports_an_image_with_a_false_platform(run: Run, registry: str) -> None:
    assert str(run("lint", f"{registry}/demo/liar:1.0")) == snapshot("""\
status: 1
--- stdout
error  contradictory-config  linux/arm64/v8  the index says `linux/arm64/v8`, its config `linux/amd64`
error  identical-layers      -               all 3 layers are the same for `linux/amd64`, `linux/arm64/v8`
`HOST:PORT/demo/liar:1.0`: 2 errors (2 platforms)
--- stderr
""")


def test_lint_deep_reports_an_image_with_a_false_platform(run: Run, registry: str) -> None:
    assert str(run("lint", "--deep", f"{registry}/demo/liar:1.0")) == snapshot("""\
status: 1
--- stdout
error  contradictory-config  linux/arm64/v8  the index says `linux/arm64/v8`, its config `linux/amd64`
error  identical-layers      -               all 3 layers are the same for `linux/amd64`, `linux/arm64/v8`
error  wrong-machine         linux/arm64/v8  it starts `usr/local/bin/app`, built for `elf amd64`, in the layer `sha256:840671ae4b3bc93e896c24378b606ab4c094a130ef092cec817e05ba169e7de9`
`HOST:PORT/demo/liar:1.0`: 3 errors (2 platforms)
--- stderr
""")


def test_lint_several_images_with_one_missing(run: Run, registry: str) -> None:
    names = [f"{registry}/demo/{name}" for name in ("app:1.0", "none:1", "liar:1.0")]

    assert str(run("lint", *names, "--ignore", "identical-layers")) == snapshot("""\
status: 3
--- stdout
`HOST:PORT/demo/app:1.0`: no findings (5 platforms)
`HOST:PORT/demo/none:1`: error: repository-not-found
error  contradictory-config  linux/arm64/v8  HOST:PORT/demo/liar:1.0  the index says `linux/arm64/v8`, its config `linux/amd64`
`HOST:PORT/demo/liar:1.0`: 1 error, 1 ignored (2 platforms)
--- stderr
error: `HOST:PORT` has no repository `demo/none`
hint: check the spelling; a private repository may also need a login
""")


def test_lint_json_output(run: Run, registry: str) -> None:
    seen = run("lint", "--deep", "--json", f"{registry}/demo/liar:1.0")

    answer = json.loads(seen.stdout)
    assert seen.status == 1
    assert answer["schema"] == 1
    assert [(each["rule"], each["severity"], each["platform"]) for each in answer["findings"]] == [
        ("contradictory-config", "error", "linux/arm64/v8"),
        ("identical-layers", "error", None),
        ("wrong-machine", "error", "linux/arm64/v8"),
    ]
    (image,) = answer["images"]
    assert image["counts"] == {"error": 3, "warning": 0, "note": 0}
    assert image["layerBytesRead"] > 0
    assert [
        (each["platform"], each["path"], each["machine"], each["verified"])
        for each in image["programs"]
        if each["role"] == "started"
    ] == [
        ("linux/amd64", "usr/local/bin/app", "amd64", True),
        ("linux/arm64/v8", "usr/local/bin/app", "amd64", True),
    ]


def test_lint_markdown_output(run: Run, registry: str) -> None:
    seen = run("lint", f"{registry}/demo/liar:1.0", "--format", "markdown")

    assert seen.stdout == snapshot("""\
**lint**

- `HOST:PORT/demo/liar:1.0`: 2 errors (2 platforms)

**findings**

| image | severity | rule | platform | finding |
| --- | --- | --- | --- | --- |
| `HOST:PORT/demo/liar:1.0` | error | contradictory-config | `linux/arm64/v8` | the index says `linux/arm64/v8`, its config `linux/amd64` |
| `HOST:PORT/demo/liar:1.0` | error | identical-layers | - | all 3 layers are the same for `linux/amd64`, `linux/arm64/v8` |
""")


def test_lint_yaml_and_json_are_equal(run: Run, registry: str) -> None:
    import yaml

    one = run("lint", f"{registry}/demo/liar:1.0", "--format", "yaml").stdout
    other = run("lint", f"{registry}/demo/liar:1.0", "--format", "jsonl").stdout

    assert yaml.safe_load(one) == json.loads(other)
    assert other.count("\n") == 1


def test_lint_rejects_the_digest_format(run: Run, registry: str) -> None:
    seen = run("lint", f"{registry}/demo/liar:1.0", "--format", "digest")

    assert (seen.status, seen.stdout) == (2, "")


@pytest.mark.parametrize(
    ("weight", "image", "status"),
    [
        ("error", "missing-variant", 0),
        ("warning", "missing-variant", 1),
        ("note", "mixed-media-types", 1),
        ("warning", "mixed-media-types", 0),
        ("never", "missing-variant", 0),
    ],
)
def test_lint_fail_on_sets_the_failing_severity(
    run: Run, weight: str, image: str, status: int
) -> None:
    made = {
        "missing-variant": build_index([build_image("linux/arm")]),
        "mixed-media-types": build_index([build_image("linux/arm64", docker=True)]),
    }
    with FakeRegistry() as registry:
        registry.serve("app", "1", made[image])
        seen = run("lint", f"{registry.host}/app:1", "--fail-on", weight)

    assert seen.status == status
    assert image in seen.stdout


def test_lint_reads_references_from_a_file(run: Run, registry: str, tmp_path: Path) -> None:
    (tmp_path / "images.txt").write_text(f"# ours\n{registry}/demo/app:1.0\n\n")

    assert str(run("lint", "-f", "images.txt")) == snapshot("""\
status: 0
--- stdout
`HOST:PORT/demo/app:1.0`: no findings (5 platforms)
--- stderr
""")


def test_lint_explain_prints_one_rule(run: Run) -> None:
    assert str(run("lint", "--explain", "wrong-machine")) == snapshot("""\
status: 0
--- stdout
wrong-machine (error): the entrypoint is built for another machine

  The image states one platform, but the program that it starts is built for
  another. The container fails with `exec format error`, or runs under emulation
  where that is configured, which hides the problem during the build. The usual
  cause is a download in the Dockerfile that names a fixed architecture, or a
  build stage that ignores the target: use `TARGETARCH`, and check `FROM
  --platform`. A layer that was read only in part could not be checked against
  its digest; the finding says so.
--- stderr
""")


def test_lint_rules_and_explanations_fit_the_page(run: Run) -> None:
    explained = run("lint", "--explain", "all").stdout
    listed = run("lint", "--rules").stdout

    for row in RULES:
        assert f"\n{row.rule.id} ({row.rule.severity.value}): " in f"\n{explained}"
        assert f"\n{row.rule.id} " in listed
    assert max(map(len, (explained + listed).splitlines())) <= 80
    assert "…" not in listed


def test_lint_rules_in_table_json_and_markdown(run: Run) -> None:
    table = run("lint", "--rules").stdout
    answer = json.loads(run("lint", "--rules", "--json").stdout)
    page = run("lint", "--explain", "schema-1", "--format", "markdown").stdout

    assert [each["id"] for each in answer["rules"]] == [row.rule.id for row in RULES]
    assert page.startswith(
        "**rules**\n\n- schema-1 (error): a Docker schema 1 manifest. This manifest"
    )
    assert table.splitlines()[0].split() == ["RULE", "SEVERITY", "FINDS"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "no reference to lint"),
        (["app", "--fail-on", "fatal"], "`--fail-on fatal` is not a severity"),
        (["app", "--ignore", "nothing"], "there is no rule `nothing`"),
        (["--explain", "nothing"], "there is no rule `nothing`"),
        (["app", "--max-bytes", "1MB"], "`--max-bytes` limits what `--deep` reads"),
        (["app", "--deep", "--max-bytes", "0"], "`--max-bytes 0` leaves nothing to read"),
        (["app", "--deep", "--max-bytes", "much"], "`--max-bytes much` is not a size"),
        (["--rules", "--format", "csv"], "unknown format `csv`"),
    ],
)
def test_lint_rejects_invalid_options(run: Run, words: list[str], message: str) -> None:
    seen = run("lint", *words)

    assert (seen.status, seen.stdout) == (2, "")
    assert seen.stderr.startswith(f"error: {message}")


def test_lint_escapes_publisher_text(run: Run) -> None:
    image = build_index([build_image("linux/amd\x1b[31m64\n##vso[x]")])
    with FakeRegistry() as registry:
        registry.serve("app", "1", image)
        seen = run("lint", f"{registry.host}/app:1", "--fail-on", "warning")

    assert seen.status == 1
    assert "\x1b" not in seen.stdout
    assert not any(line.startswith("##") for line in seen.stdout.splitlines())
    assert "linux/amd%1B%5B31m64%0A%23%23vso%5Bx%5D" in seen.stdout


def test_lint_failure_status_takes_precedence_over_findings(run: Run, registry: str) -> None:
    with FakeRegistry() as other:
        for method in ("HEAD", "GET"):
            other.on(method, "/v2/app/manifests/1", Reply(403))
        seen = run("lint", f"{registry}/demo/liar:1.0", f"{other.host}/app:1")

    assert seen.status == 4
    assert "contradictory-config" in seen.stdout
    assert seen.stderr.startswith("error: ")
