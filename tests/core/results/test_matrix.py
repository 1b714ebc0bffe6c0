"""Matrices: a job for each platform, its runner, and safe values."""

from __future__ import annotations

import json
import re

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from resolver.core.oci.descriptor import OCI_INDEX, OCI_MANIFEST, Descriptor
from resolver.core.oci.digest import Digest
from resolver.core.oci.image import ImageDocuments, ImageEntry
from resolver.core.platforms.platform import BUILTIN, Platform
from resolver.core.results.matrix import SYSTEMS, Matrix, make_matrix, parse_runner, system_of
from resolver.errors import (
    InvalidPlatform,
    Negative,
    NotFound,
    PlatformNotOffered,
    Usage,
)
from resolver.files.platforms import read_file
from resolver.render.answers.matrix import FORMS, matrix_text
from tests import ROOT

P = Platform.parse
PREFIX = "reg.test/team/app@"
SAFE = re.compile(r"[A-Za-z0-9._:/@%(+)-]*")


def digest(number: int) -> Digest:
    return Digest.of(str(number).encode())


def gathered(*platforms: Platform | None, prefix: str = PREFIX) -> ImageDocuments:
    parts = tuple(
        ImageEntry(Descriptor(OCI_MANIFEST, digest(number), 1), (number,), platform, None, None)
        for number, platform in enumerate(platforms)
    )
    return ImageDocuments(
        "reg.test/team/app:1", prefix, Descriptor(OCI_INDEX, digest(-1), 1), None, parts
    )


def matrix(
    *platforms: Platform | str | None,
    want: tuple[str, ...] = (),
    system: str = "github",
    runners: tuple[str, ...] = (),
    require_runner: bool = False,
    prefix: str = PREFIX,
) -> Matrix:
    listed = [P(each) if isinstance(each, str) else each for each in platforms]
    return make_matrix(
        gathered(*listed, prefix=prefix),
        tuple(map(P, want)),
        system_of(system),
        [parse_runner(text, BUILTIN) for text in runners],
        BUILTIN,
        require_runner=require_runner,
    )


def labels(*platforms: str, **more: tuple[str, ...]) -> list[str | None]:
    found = matrix(*platforms, **more)  # type: ignore[arg-type]
    return [job.runner for job in found.jobs]


def test_matrix_has_a_complete_job_per_platform() -> None:
    found = matrix("linux/amd64", "linux/arm64/v8", "windows/amd64:10.0.20348.2700")
    line = matrix_text(found)

    assert line.count("\n") == 1
    assert json.loads(line)["include"][1:] == [
        {
            "platform": "linux/arm64/v8",
            "os": "linux",
            "arch": "arm64",
            "variant": "v8",
            "os_version": "",
            "digest": str(digest(1)),
            "ref": f"reg.test/team/app@{digest(1)}",
            "runner": "ubuntu-24.04-arm",
        },
        {
            "platform": "windows/amd64:10.0.20348.2700",
            "os": "windows",
            "arch": "amd64",
            "variant": "",
            "os_version": "10.0.20348.2700",
            "digest": str(digest(2)),
            "ref": f"reg.test/team/app@{digest(2)}",
            "runner": "windows-2022",
        },
    ]
    assert found.warnings == ()


def test_matrix_gitlab_values_are_lists() -> None:
    text = matrix_text(matrix("linux/amd64", "linux/riscv64", system="gitlab"))
    read = yaml.safe_load(text)

    assert read == json.loads(text)
    hidden = read[".resolver-matrix"]
    assert hidden["variables"] == {"IMAGE": "reg.test/team/app"}
    rows = hidden["parallel"]["matrix"]
    assert [row["RUNNER"] for row in rows] == [["saas-linux-small-amd64"], [""]]
    assert rows[0]["DIGEST"] == [str(digest(0))]
    assert all(re.fullmatch(r"[A-Z_]+", name) for row in rows for name in row)
    local = matrix_text(matrix("linux/amd64", system="gitlab", prefix=""))
    assert yaml.safe_load(local)[".resolver-matrix"]["variables"] == {}


def test_plain_json_matrix_is_a_list_without_runners() -> None:
    found = matrix("linux/amd64", "linux/386", system="json", runners=("linux/386=mine",))
    written = json.loads(matrix_text(found))

    assert [job["runner"] for job in written] == [None, "mine"]
    assert found.warnings == ()


# The most specific rule decides; of equals the last.
@pytest.mark.parametrize(
    ("platform", "runners", "expected"),
    [
        ("linux/arm64", (), "ubuntu-24.04-arm"),
        ("linux/aarch64", ("linux/arm64=mine",), "mine"),
        ("linux/arm64/v9", ("linux/arm64=mine",), "mine"),
        ("linux/arm64/v9", ("linux/arm64/v8=mine",), None),
        ("linux/arm/v6", ("linux/arm=any", "linux/arm/v6=six"), "six"),
        ("linux/arm/v6", ("linux/arm/v6=six", "linux/arm=any"), "six"),
        ("linux/arm/v7", ("linux/arm=any", "linux/arm/v6=six"), "any"),
        ("linux/amd64", ("linux/amd64=one", "linux/x86_64=two"), "two"),
        ("windows/amd64:10.0.20348.1", ("windows/amd64=any",), "any"),
        ("windows/amd64:10.0.20348.1", ("windows/amd64:ltsc2022=b", "windows/amd64=any"), "b"),
        ("windows/amd64:10.0.26100.1", ("windows/amd64:ltsc2022=b",), "windows-2025"),
        ("linux/s390x", ("linux/amd64=mine",), None),
        ("linux/s390x", ("linux/s390x=a b=c",), "a b=c"),
        ("windows/amd64:10.0.20348.1", ("windows/amd64,osver=10.0.20348=b",), "b"),
    ],
)
def test_most_specific_runner_is_selected(
    platform: str, runners: tuple[str, ...], expected: str | None
) -> None:
    assert labels(platform, runners=runners) == [expected]


def test_missing_runner_is_noted_or_refused() -> None:
    found = matrix("linux/amd64", "linux/s390x")

    assert [told.code for told in found.warnings] == ["no-runner"]
    assert "`linux/s390x`" in found.warnings[0].message
    with pytest.raises(Negative) as caught:
        matrix("linux/amd64", "linux/s390x", "linux/386", require_runner=True)
    assert caught.value.code == "runner-missing"
    assert caught.value.facts()["platforms"] == ("linux/s390x", "linux/386")
    assert "--runner linux/s390x=LABEL" in caught.value.hints()[0]
    assert matrix("linux/amd64", "linux/s390x", want=("linux/amd64",), require_runner=True).jobs


def test_matrix_contains_the_requested_platforms() -> None:
    listed = ("linux/amd64", "linux/arm64", "windows/amd64:10.0.1", "windows/amd64:10.0.2")

    found = matrix(*listed, want=("windows/amd64", "linux/aarch64"))
    assert [str(job.platform) for job in found.jobs] == [*listed[1:]]
    with pytest.raises(PlatformNotOffered) as caught:
        matrix(*listed, want=("linux/amd64", "linux/arm/v7"))
    assert caught.value.wanted == ("linux/arm/v7",)
    assert caught.value.offered == listed
    for nothing in ((), (None,), (Platform("unknown", "unknown"),)):
        with pytest.raises(NotFound, match="no platform"):
            matrix(*nothing)


def test_entries_that_cannot_be_jobs_are_omitted_with_a_note() -> None:
    found = matrix(
        None,
        "linux/amd64",
        "linux/x86_64",
        Platform("linux", "$(id)"),
        Platform("windows", "amd64", "", "10.0.20348", ("win32k",)),
        Platform("windows", "amd64", "", "10.0.20348"),
        Platform("linux", "arm64", "", "", ("a b",)),
        Platform("", "amd64"),
    )

    assert [str(job.platform) for job in found.jobs] == [
        "linux/amd64",
        "windows/amd64:10.0.20348",
    ]
    assert [str(job.digest) for job in found.jobs] == [str(digest(1)), str(digest(4))]
    assert [told.message.split(": ", 2)[2] for told in found.warnings] == [
        "it names no platform",
        "`linux/%24%28id%29` has characters that jobs cannot contain",
        "`linux(+a%20b)/arm64` requires features (`-p 'linux(+a%20b)/arm64'` takes it)",
        "another entry is chosen for `linux/amd64`",
        "another entry is chosen for `linux/amd64`",
        "another entry is chosen for `windows/amd64:10.0.20348`",
    ]


def test_matrix_prefers_the_entry_without_required_features() -> None:
    nydus = Platform("linux", "amd64", "", "", ("nydus.remoteimage.v1",))

    plain = matrix(nydus, "linux/amd64")
    asked = matrix(nydus, "linux/amd64", want=("linux(+nydus.remoteimage.v1)/amd64",))

    assert [(str(job.platform), job.digest) for job in plain.jobs] == [("linux/amd64", digest(1))]
    assert [(str(job.platform), job.digest) for job in asked.jobs] == [
        ("linux(+nydus.remoteimage.v1)/amd64", digest(0))
    ]
    with pytest.raises(NotFound):
        matrix(nydus)
    with pytest.raises(PlatformNotOffered, match="linux/amd64"):
        matrix(nydus, want=("linux/amd64",))


def test_versions_outside_windows_make_separate_jobs() -> None:
    found = matrix(
        "freebsd/amd64:14.1",
        "freebsd/amd64:15.0",
        Platform("darwin", "arm64", "", "macOS 14.4"),
        Platform("darwin", "arm64", "", "$(id)"),
    )
    rows = json.loads(matrix_text(found))["include"]

    assert [row["platform"] for row in rows] == [
        "freebsd/amd64:14.1",
        "freebsd/amd64:15.0",
        "darwin(macOS%2014.4)/arm64",
        "darwin(%24%28id%29)/arm64",
    ]
    assert [row["os_version"] for row in rows[2:]] == ["macOS%2014.4", "%24%28id%29"]
    assert not found.warnings or {told.code for told in found.warnings} == {"no-runner"}


_ANY = st.text(max_size=8)
_HOSTILE = st.builds(Platform, _ANY, _ANY, _ANY, _ANY, st.lists(_ANY, max_size=2).map(tuple))


@given(st.lists(_HOSTILE, max_size=4), st.sampled_from(sorted(SYSTEMS)))
def test_matrix_text_from_an_index_is_one_word(hostile: list[Platform], system: str) -> None:
    found = matrix("linux/amd64", *hostile, system=system)
    text = matrix_text(found)

    assert text.isascii()
    assert json.loads(text) == yaml.safe_load(text)
    for job in found.jobs:
        assert SAFE.fullmatch(str(job.platform))
        assert SAFE.fullmatch(job.ref)
    assert not any(line.startswith(("::", "##")) for line in text.splitlines())


@pytest.mark.parametrize("system", ["github", "gitlab"])
def test_number_of_matrix_jobs_is_limited(system: str) -> None:
    limit = SYSTEMS[system].jobs
    many = [f"linux/arch{number}" for number in range(limit + 1)]

    assert len(matrix(*many[:limit], system=system).jobs) == limit
    with pytest.raises(Negative) as caught:
        matrix(*many, system=system)
    assert caught.value.code == "matrix-too-large"
    assert (caught.value.facts()["limit"], caught.value.facts()["value"]) == (limit, limit + 1)
    assert {"github": 256, "gitlab": 200}[system] == limit
    assert len(matrix(*many, system="json").jobs) == limit + 1


def test_matrix_gitlab_name_length_limit_is_exact() -> None:
    values = len(f"linux/amd64, linux, amd64, , , {digest(0)}, ")
    room = 220 - values

    def told(length: int) -> str:
        runners = (f"linux/amd64={'x' * length}",)
        return matrix_text(matrix("linux/amd64", system="gitlab", runners=runners))

    assert "x" * room in told(room)
    with pytest.raises(Negative, match="220 characters of values for `linux/amd64`") as caught:
        told(room + 1)
    assert caught.value.code == "matrix-too-large"


def test_runner_option_is_parsed() -> None:
    for text in ("linux/amd64", "linux=x", "=x", "linux/amd64=", "linux/amd64=a\nb", "local=x"):
        with pytest.raises(Usage):
            parse_runner(text, BUILTIN)
    with pytest.raises(InvalidPlatform):
        parse_runner("linux/=x", BUILTIN)
    assert parse_runner("linux/amd64=" + "x" * 255, BUILTIN).label == "x" * 255
    with pytest.raises(Usage):
        parse_runner("linux/amd64=" + "x" * 256, BUILTIN)
    with pytest.raises(Usage, match="is not a supported CI system"):
        system_of("jenkins")


def test_every_ci_system_has_a_format_and_sourced_runners() -> None:
    assert set(FORMS) == set(SYSTEMS)
    facts = read_file(ROOT / "platforms.yaml", sourced=True)
    assert {runner.provider for runner in facts.runners} == {"github", "gitlab"}
    assert labels("linux/arm64", "windows/amd64:10.0.20348.1", system="gitlab") == [  # type: ignore[arg-type]
        "saas-linux-small-arm64",
        "saas-windows-medium-amd64",
    ]
