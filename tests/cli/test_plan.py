"""Output of `resolver plan`."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from inline_snapshot import snapshot

if TYPE_CHECKING:
    from pathlib import Path

    from tests.cli.conftest import Run


def test_plan_with_an_empty_store(run: Run, registry: str) -> None:
    assert str(run("plan", f"{registry}/demo/app:1.0", "-p", "linux/arm64")) == snapshot("""\
status: 0
--- stdout
image    HOST:PORT/demo/app:1.0
platform linux/arm64/v8
manifest sha256:8d3661f10977092ba3e4590d693f5940d274cf3b0608e5d03306b90e48305c7a
index    sha256:f62fb544ff3da135d80cbd5f3898da060dcde3fdfec843495609fdaed57dbfda
fetch    187 kB of 191 kB, in 6 requests
held     4.53 kB
with     1 attestation
left out 4 images, 2 attestations of the index (`-p all` includes every entry)

PIECE     DIGEST                  SIZE  STATE
layer     sha256:50ee82149703  51.2 kB  missing
layer     sha256:19281301ecf8   102 kB  missing
layer     sha256:14fa95f15ff1  30.7 kB  missing
layer     sha256:98c1200128c8    386 B  missing
config    sha256:640d34e29cdf  1.53 kB  missing
config    sha256:901ef5b66935    211 B  missing
manifest  sha256:8d3661f10977    860 B  held
manifest  sha256:ba224a2ffee7    565 B  held
index     sha256:f62fb544ff3d  3.10 kB  held
--- stderr
""")


def test_plan_counts_layers_held_by_another_image(run: Run, registry: str) -> None:
    run("pull", f"{registry}/demo/app:1.0", "-p", "linux/arm64")

    assert str(run("plan", f"{registry}/demo/app:2.0", "-p", "linux/arm64")) == snapshot("""\
status: 0
--- stdout
image    HOST:PORT/demo/app:2.0
platform linux/arm64/v8
manifest sha256:327a3a89fb99230e60874958091495670743250edea4791899899865890ea9ab
index    sha256:a589c03475cf4dde3831ed42f06f02f2e97b77ed08c1f45ac2df15581b68ae41
fetch    32.9 kB of 191 kB, in 4 requests
held     158 kB
with     1 attestation
left out 4 images, 2 attestations of the index (`-p all` includes every entry)

PIECE     DIGEST                  SIZE  STATE
layer     sha256:50ee82149703  51.2 kB  held
layer     sha256:19281301ecf8   102 kB  held
layer     sha256:15eaf78b9ebf  30.7 kB  missing
layer     sha256:64d0e97d3f8c    386 B  missing
config    sha256:c7292c959160  1.53 kB  missing
config    sha256:7830d2c20ad5    211 B  missing
manifest  sha256:327a3a89fb99    860 B  held
manifest  sha256:855abd2d01f4    565 B  held
index     sha256:a589c03475cf  3.10 kB  held
--- stderr
""")


def test_plan_with_everything_in_the_store(run: Run, registry: str) -> None:
    run("pull", f"{registry}/demo/app:1.0", "-p", "linux/arm64")

    seen = run("plan", f"{registry}/demo/app:1.0", "-p", "linux/arm64")

    assert "fetch    nothing, all content is held" in seen.stdout


def test_plan_counts_layers_shared_by_platforms_once(run: Run, registry: str) -> None:
    seen = run("plan", f"{registry}/demo/app:1.0", "-p", "linux/amd64,linux/arm64")

    assert str(seen) == snapshot("""\
status: 0
--- stdout
fetch    271 kB of 277 kB, in 11 requests
held     5.96 kB
shared   106 kB among these images, fetched once
with     2 attestations
left out 3 images, 1 attestation of the index (`-p all` includes every entry)

images
IMAGE                         PLATFORM        DIGEST                FETCH
HOST:PORT/demo/app:1.0  linux/amd64     sha256:311923c08153  186 kB
HOST:PORT/demo/app:1.0  linux/arm64/v8  sha256:8d3661f10977  186 kB
HOST:PORT/demo/app:1.0  (attestation)   sha256:708e4d188822   597 B
HOST:PORT/demo/app:1.0  (attestation)   sha256:ba224a2ffee7   597 B

pieces
PIECE     DIGEST                  SIZE  STATE
layer     sha256:44d9c0ffd641  51.2 kB  missing
layer     sha256:19281301ecf8   102 kB  missing
layer     sha256:840671ae4b3b  30.7 kB  missing
layer     sha256:50ee82149703  51.2 kB  missing
layer     sha256:14fa95f15ff1  30.7 kB  missing
layer     sha256:44e189801aca    386 B  missing
layer     sha256:98c1200128c8    386 B  missing
config    sha256:f2a20e6d0204  1.51 kB  missing
config    sha256:640d34e29cdf  1.53 kB  missing
config    sha256:b539443f3f23    211 B  missing
config    sha256:901ef5b66935    211 B  missing
manifest  sha256:311923c08153    860 B  held
manifest  sha256:8d3661f10977    860 B  held
manifest  sha256:708e4d188822    565 B  held
manifest  sha256:ba224a2ffee7    565 B  held
index     sha256:f62fb544ff3d  3.10 kB  held
--- stderr
""")


def test_plan_names_another_content_source(run: Run, registry: str, tmp_path: Path) -> None:
    name = f"{registry}/demo/app:1.0"
    run("pull", name, "-p", "linux/arm64", "--store", str(tmp_path / "other"))
    run("export", name, "--to", "mirror", "--store", str(tmp_path / "other"))

    seen = run("plan", name, "-p", "linux/arm64", "--from", "oci:mirror")

    assert seen.stdout.count("held by oci:mirror") == 6
    assert "fetch    nothing, all content is held" in seen.stdout


def test_plan_json_output(run: Run, registry: str) -> None:
    seen = run("plan", f"{registry}/demo/app:1.0", "-p", "linux/arm64", "--json")
    output = json.loads(seen.stdout)

    assert output["bytesMissing"] == sum(piece["missing"] for piece in output["pieces"])
    assert output["requests"] == 6
    assert [each["kind"] for each in output["attached"]] == ["attestation"]
    assert sorted(each["kind"] for each in output["leftOut"]) == ["attestation"] * 2 + ["image"] * 4
    without = run(
        "plan", f"{registry}/demo/app:1.0", "-p", "linux/arm64", "--no-attestations", "--json"
    )
    output = json.loads(without.stdout)
    assert output["requests"] == 4
    assert [piece["role"] for piece in output["pieces"]] == [
        *["layer"] * 3,
        "config",
        "manifest",
        "index",
    ]
    assert output["images"][0]["upToDate"] is False


def test_plan_over_the_limit_exits_with_a_finding(run: Run, registry: str) -> None:
    name = f"{registry}/demo/app:1.0"

    seen = run("plan", name, "-p", "linux/arm64", "--max-download", "100kB", "--format", "digest")

    assert str(seen) == snapshot("""\
status: 1
--- stdout
sha256:8d3661f10977092ba3e4590d693f5940d274cf3b0608e5d03306b90e48305c7a
--- stderr
error: 187 kB must be fetched, but only 100 kB are allowed
hint: see what they are with `resolver plan`, or allow more with `--max-download`
""")
    assert run("plan", name, "-p", "linux/arm64", "--max-download", "1MB").status == 0


def test_plan_for_a_platform_that_is_not_offered(run: Run, registry: str) -> None:
    seen = run("plan", f"{registry}/demo/single:1.0", "-p", "linux/arm64")

    assert str(seen) == snapshot("""\
status: 3
--- stdout
--- stderr
error: `HOST:PORT/demo/single:1.0` is not offered for `linux/arm64`
hint: it is offered for `linux/amd64`
""")


@pytest.mark.parametrize(
    "words",
    [
        ("--max-download", "much"),
        ("--max-download", "1.5"),
        ("--max-download", "-1"),
        ("--max-download", "5 parsecs"),
        ("--max-download", "\u0661MB"),
        ("--from", "nowhere"),
        ("-p", "linux/amd64,"),
        ("-p", "linux//v8"),
    ],
)
def test_plan_rejects_invalid_options(run: Run, registry: str, words: tuple[str, ...]) -> None:
    seen = run("plan", f"{registry}/demo/app:1.0", *words)

    assert (seen.status, seen.stdout) == (2, "")
    assert seen.stderr.count("error: ") == 1


@pytest.mark.parametrize("place", ["oci:mirror", "oci-archive:a.tar", "store:app:1"])
def test_plan_rejects_a_local_path(run: Run, place: str) -> None:
    assert run("plan", place).status == 2


def test_plan_requires_a_reference(run: Run) -> None:
    assert str(run("plan")) == snapshot("""\
status: 2
--- stdout
--- stderr
error: no reference to plan
hint: name one: `resolver plan ubuntu:24.04 -p linux/arm64`
""")
