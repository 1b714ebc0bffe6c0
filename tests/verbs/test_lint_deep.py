"""Find the programs of an image in its layers with few bytes read."""

from __future__ import annotations

import gzip
import io
import json
import tarfile
from dataclasses import replace
from random import Random
from typing import TYPE_CHECKING

import pytest

from resolver.core.lint.subject import SearchOutcome
from resolver.demo.builders import describe, descriptor_fields
from resolver.errors import NotInStore, Unavailable
from resolver.session import Session
from resolver.verbs.lint_deep import SAMPLE
from tests import DATA
from tests.kit.executables import elf, pe
from tests.kit.images import (
    Image,
    build_image,
    build_index,
    build_layer,
    from_dict,
    listed_as,
    raw_document,
)
from tests.kit.messages import Reply, Seen

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from resolver.core.lint.lint import LintedImage
    from tests.kit.registry import FakeRegistry

AMD64, ARM64 = "linux/amd64", "linux/arm64/v8"
MEGABYTE = 1_000_000
TARS = DATA / "bad_inputs" / "tars"


def look(registry: FakeRegistry, store: Path, image: Image, most: int = 32 << 20) -> LintedImage:
    """Serve an image and run lint --deep on it."""
    registry.serve("app", "1", image)
    with Session(store) as session:
        found = session.lint(f"{registry.host}/app:1", deep=True, max_bytes=most)
    return found.looked_at[0]


def packed(layers: Sequence[bytes], *words: str, platform: str = ARM64, **config: object) -> Image:
    """Make an index of one image with an entrypoint."""
    settings = {"Entrypoint": list(words), **config}
    return build_index([build_image(platform, layers, config={"config": settings})])


def facts_of(found: LintedImage) -> list[tuple[str, str]]:
    """Return rule and severity of each finding."""
    return [(finding.rule, finding.severity.value) for finding in found.findings]


def started(found: LintedImage) -> list[tuple[str, str, str]]:
    """Return the started program, the result of the search and its platform."""
    return [
        (
            one.program.path if one.program else one.words,
            one.outcome.value,
            one.program.executable.machine if one.program else "",
        )
        for one in found.looks[0].started
    ]


def linked(links: Mapping[str, str], files: Mapping[str, bytes], *, hard: bool = False) -> bytes:
    """Make a layer with links, which come first unless they are hard ones."""
    plain = io.BytesIO()
    with tarfile.open(fileobj=plain, mode="w", format=tarfile.GNU_FORMAT) as archive:
        members = [(name, None) for name in links]
        order = [*files.items(), *members] if hard else [*members, *files.items()]
        for name, content in order:
            member = tarfile.TarInfo(name)
            member.mode = 0o755
            if content is None:
                member.type = tarfile.LNKTYPE if hard else tarfile.SYMTYPE
                member.linkname = links[name]
                archive.addfile(member)
            else:
                member.size = len(content)
                archive.addfile(member, io.BytesIO(content))
    return gzip.compress(plain.getvalue(), mtime=0)


def noise(count: int, seed: int = 7) -> bytes:
    return Random(seed).randbytes(count)


# --- bytes read -------------------------------------------------------------------------


def test_lint_deep_reads_under_a_twentieth_of_a_layer_with_an_early_finding(
    registry: FakeRegistry, tmp_path: Path
) -> None:
    layer = build_layer({"app": elf("amd64"), "usr/share/words": noise(20 * MEGABYTE)})
    image = packed([layer], "/app")

    found = look(registry, tmp_path, image)

    assert facts_of(found) == [("wrong-machine", "error")]
    sent = sum(seen.sent for seen in registry.log)
    whole = sum(map(len, image.blobs.values())) + sum(len(b) for _, b in image.documents.values())
    assert sent < whole * 0.05
    assert sent < 70_000
    assert found.looks[0].bytes_read == 65_536


def test_lint_deep_stops_early_without_range_support(
    registry: FakeRegistry, tmp_path: Path
) -> None:
    registry.shelves.ranges = False
    layer = build_layer({"app": elf("amd64"), "words": noise(20 * MEGABYTE)})

    found = look(registry, tmp_path, packed([layer], "/app"))

    assert facts_of(found) == [("wrong-machine", "error")]
    assert found.looks[0].bytes_read == 65_536
    # What was under way in sockets when it was closed is the system's, up to some megabytes.
    assert sum(seen.sent for seen in registry.log) < 8 * MEGABYTE


def test_lint_deep_reads_a_correct_image_no_further_than_needed(
    registry: FakeRegistry, tmp_path: Path
) -> None:
    base = build_layer({"bin/sh": elf("arm64"), "words": noise(8 * MEGABYTE)})
    top = build_layer({"app": elf("arm64"), "more": noise(8 * MEGABYTE, 8)})

    found = look(registry, tmp_path, packed([base, top], "/app"))

    assert facts_of(found) == []
    assert found.looks[0].bytes_read == 2 * 65_536
    assert [program.path for program in found.looks[0].sample] == ["app", "bin/sh"]


def test_lint_deep_reads_a_shared_layer_once(registry: FakeRegistry, tmp_path: Path) -> None:
    shared = build_layer({"etc/motd": b"hello", "words": noise(300_000)})
    images = [
        build_image(
            platform,
            [shared, build_layer({"app": elf(machine)})],
            config={"config": {"Entrypoint": ["/app"]}},
        )
        for platform, machine in ((AMD64, "amd64"), (ARM64, "arm64"), ("linux/s390x", "s390x"))
    ]

    found = look(registry, tmp_path, build_index(images))

    assert facts_of(found) == []
    asked = [seen.headers.get("range") for seen in registry.requests("GET", "/blobs/")]
    assert len([each for each in asked if each is not None and each.startswith("bytes=0-")]) <= 1
    assert sum(one.bytes_read for one in found.looks) < len(shared) + 3 * 2_000


def test_lint_deep_reads_no_more_than_its_limit(registry: FakeRegistry, tmp_path: Path) -> None:
    layer = build_layer({"words": noise(3 * MEGABYTE), "app": elf("arm64")})

    found = look(registry, tmp_path, packed([layer], "/app"), most=200_000)

    assert facts_of(found) == [("undecided-entrypoint", "note")]
    # The last stretch may go past it: 64, 128, then 256 KiB.
    assert found.looks[0].bytes_read == 65_536 * 7
    assert sum(seen.sent for seen in registry.requests("GET", "/blobs/")) < 65_536 * 8


def test_lint_deep_reads_and_verifies_whole_layers_within_its_limit(
    registry: FakeRegistry, tmp_path: Path
) -> None:
    layer = build_layer({"words": noise(3 * MEGABYTE), "app": elf("amd64")})

    found = look(registry, tmp_path, packed([layer], "/app"))

    assert facts_of(found) == [("wrong-machine", "error")]
    program = found.looks[0].started[0].program
    assert program is not None
    # It was found before the end mark.
    assert not program.verified
    assert found.findings[0].message.endswith("read in part and not verified")


def test_lint_deep_requests_nothing_held_in_the_store(
    registry: FakeRegistry, tmp_path: Path
) -> None:
    layer = build_layer({"app": elf("amd64")})
    registry.serve("app", "1", packed([layer], "/app"))

    with Session(tmp_path) as session:
        name = f"{registry.host}/app:1"
        session.pull(name, ARM64)
        before = len(registry.requests("GET"))
        online = session.lint(name, deep=True)
        after = len(registry.requests("GET"))
        held = session.lint(f"store:{name}", deep=True)

    assert before == after
    assert [finding.rule for finding in online.findings] == ["wrong-machine"]
    assert [finding.rule for finding in held.findings] == ["wrong-machine"]
    assert online.looked_at[0].looks[0].started[0].program.verified  # type: ignore[union-attr]  # found


# --- entrypoints ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "layers", "expected"),
    [
        pytest.param(
            ["app"],
            [build_layer({"usr/bin/app": elf("amd64")})],
            [("usr/bin/app", "found", "amd64")],
            id="through PATH",
        ),
        pytest.param(
            ["./app"],
            [build_layer({"srv/app": elf("amd64")})],
            [("srv/app", "found", "amd64")],
            id="below the working folder",
        ),
        pytest.param(
            ["/bin/sh", "-c", "exec app --flag"],
            [
                linked({"bin": "usr/bin", "usr/bin/sh": "busybox"}, {}),
                build_layer({"usr/bin/busybox": elf("arm64"), "usr/bin/app": elf("arm")}),
            ],
            [("usr/bin/busybox", "found", "arm64"), ("usr/bin/app", "found", "arm")],
            id="by a shell, behind links",
        ),
        pytest.param(
            ["/start.sh"],
            [build_layer({"start.sh": b"#!/bin/sh -e\nexec app\n", "bin/sh": elf("amd64")})],
            [("bin/sh", "found", "amd64")],
            id="a script, by its interpreter",
        ),
        pytest.param(
            ["/start"],
            [
                build_layer({"start": b"#!/usr/bin/env -S FOO=1 python3\n"}),
                build_layer({"usr/local/bin/python3": elf("amd64")}),
            ],
            [("usr/local/bin/python3", "found", "amd64")],
            id="a script, by what env finds",
        ),
        pytest.param(
            ["/tini", "--", "/app"],
            [build_layer({"tini": elf("arm64"), "app": elf("amd64")})],
            [("tini", "found", "arm64"), ("app", "found", "amd64")],
            id="behind an init",
        ),
        pytest.param(
            ["/app"],
            [build_layer({"app": elf("amd64")}), build_layer({"app": elf("arm64")})],
            [("app", "found", "arm64")],
            id="the top layer wins",
        ),
        pytest.param(
            ["app"],
            [
                build_layer({"usr/bin/app": elf("amd64"), "bin/app": elf("arm64")}),
                build_layer({"usr/bin/.wh.app": b""}),
            ],
            [("bin/app", "found", "arm64")],
            id="a whiteout takes it away",
        ),
        pytest.param(
            ["/opt/app"],
            [build_layer({"opt/app": elf("amd64")}), build_layer({"opt/.wh..wh..opq": b""})],
            [("/opt/app", "not-there", "")],
            id="an opaque folder takes all away",
        ),
        pytest.param(
            ["/app"],
            [linked({"app": "lib/real"}, {"lib/real": elf("amd64")}, hard=True)],
            [("lib/real", "found", "amd64")],
            id="a hard link",
        ),
        pytest.param(
            ["/app"],
            [linked({"app": "other", "other": "app"}, {})],
            [("/app", "not-there", "")],
            id="links in a circle",
        ),
        pytest.param(
            ["/app"],
            [linked({"app": "../../../etc/real"}, {"etc/real": elf("amd64")})],
            [("etc/real", "found", "amd64")],
            id="a link that would lead out",
        ),
        pytest.param(
            ["/app"], [build_layer({"app": b"hello"})], [("/app", "no-program", "")], id="a text"
        ),
    ],
)
def test_lint_deep_finds_the_started_program(
    registry: FakeRegistry,
    tmp_path: Path,
    words: list[str],
    layers: list[bytes],
    expected: list[tuple[str, str, str]],
) -> None:
    image = packed(layers, *words, WorkingDir="/srv")

    assert started(look(registry, tmp_path, image)) == expected


@pytest.mark.parametrize("words", [[r"C:\app\App.exe"], ["app"], ["cmd", "/S", "/C", "app x"]])
def test_lint_deep_finds_windows_programs_in_any_case(
    registry: FakeRegistry, tmp_path: Path, words: list[str]
) -> None:
    layer = build_layer(
        {"Files/App/app.EXE": pe("arm64"), "Files/Windows/System32/cmd.exe": pe("amd64")}
    )
    image = packed([layer], *words, platform="windows/amd64:10.0.20348.1", WorkingDir=r"C:\App")

    found = look(registry, tmp_path, image)

    assert ("app/app.exe", "found", "arm64") in started(found)
    assert facts_of(found) == [("wrong-machine", "error")]


def test_lint_deep_reports_a_linux_program_in_a_windows_image(
    registry: FakeRegistry, tmp_path: Path
) -> None:
    layer = build_layer({"bin/app": elf("amd64"), "bin/sh": elf("amd64")})
    image = packed([layer], "/bin/app", platform="windows/amd64:10.0.20348.1")

    assert ("foreign-programs", "error") in facts_of(look(registry, tmp_path, image))


def test_lint_deep_warns_for_one_foreign_program_and_fails_for_only_foreign_ones(
    registry: FakeRegistry, tmp_path: Path
) -> None:
    mixed = build_layer({"a": elf("arm64"), "qemu": elf("amd64")})
    alien = build_layer({"a": elf("amd64"), "b": elf("s390x")})
    images = [
        build_image(platform, [layer], config={"config": {"Cmd": ["run"]}})
        for platform, layer in ((ARM64, mixed), ("linux/riscv64", alien))
    ]

    found = look(registry, tmp_path, build_index(images))

    assert [
        (finding.platform, finding.severity.value)
        for finding in found.findings
        if finding.rule == "foreign-programs"
    ] == [("linux/riscv64", "error"), (ARM64, "warning")]


def test_lint_deep_ignores_programs_replaced_or_removed_above(
    registry: FakeRegistry, tmp_path: Path
) -> None:
    old = {name: elf("s390x") for name in ("app", "gone/tool", "opaque/tool", "whole/tool")}
    new = {
        "app": elf("arm64"), "gone/.wh.tool": b"", "opaque/.wh..wh..opq": b"", ".wh.whole": b"",
    }  # fmt: skip

    found = look(registry, tmp_path, packed([build_layer(old), build_layer(new)], "/app"))

    assert facts_of(found) == []


def test_lint_deep_reports_no_missing_program_when_a_layer_was_skipped(
    registry: FakeRegistry, tmp_path: Path
) -> None:
    """An image with a false platform is read no further, even if another one shares its base."""
    base = build_layer({"bin/sh": elf("amd64")})
    images = [
        build_image(name, layers, config={"config": {"Entrypoint": ["sh", "-c", "/app"]}})
        for name, layers in (
            (AMD64, [base, build_layer({"app": elf("amd64"), "a": b"1"})]),
            (ARM64, [base, build_layer({"app": elf("amd64"), "b": b"1"})]),
        )
    ]
    registry.serve("app", "1", build_index(images))
    with Session(tmp_path) as session:
        found = session.lint(f"{registry.host}/app:1", deep=True)

    assert [finding.rule for finding in found.findings] == ["wrong-machine"]


def test_lint_deep_samples_a_limited_number_of_programs_per_layer(
    registry: FakeRegistry, tmp_path: Path
) -> None:
    layer = build_layer({f"bin/{number:02}": elf("arm64") for number in range(30)})

    found = look(registry, tmp_path, packed([layer], "/bin/00"))

    assert len(found.looks[0].sample) == SAMPLE


def test_lint_deep_result_does_not_depend_on_other_images(
    registry: FakeRegistry, tmp_path: Path
) -> None:
    layers = [
        build_layer({"app": elf("amd64")}),
        build_layer({"bin/one": elf("amd64")}),
        build_layer({"bin/two": elf("amd64")}),
    ]
    config = {"config": {"Entrypoint": ["/app"]}}
    amd64, arm64 = (build_image(each, layers, config=config) for each in (AMD64, ARM64))

    one = look(registry, tmp_path / "1", build_index([amd64, arm64]))
    other = look(registry, tmp_path / "2", build_index([arm64, amd64]))
    alone = look(registry, tmp_path / "3", build_index([arm64]))

    assert one.findings == other.findings
    assert one.looks[1].sample == other.looks[0].sample == alone.looks[0].sample


def test_lint_deep_looks_at_the_top_of_many_layers(registry: FakeRegistry, tmp_path: Path) -> None:
    bottom = build_layer({"app": elf("amd64")})
    above = build_layer({"etc/motd": b"hello"})

    found = look(registry, tmp_path, packed([bottom, *[above] * 250], "/app"))

    assert facts_of(found) == [("undecided-entrypoint", "note")]
    assert facts_of(look(registry, tmp_path, packed([bottom, *[above] * 249], "/app"))) == [
        ("wrong-machine", "error")
    ]


def test_lint_deep_result_does_not_depend_on_index_order(
    registry: FakeRegistry, tmp_path: Path
) -> None:
    shared = build_layer({"bin/sh": elf("amd64"), "words": noise(400_000)})
    images = [
        build_image(platform, [shared, build_layer({"etc/name": platform.encode()})])
        for platform in (AMD64, ARM64, "linux/386", "linux/riscv64")
    ]

    one = look(registry, tmp_path / "1", build_index(images))
    other = look(registry, tmp_path / "2", build_index(images[::-1]))

    assert one.findings
    assert one.findings == other.findings


# --- failures ---------------------------------------------------------------------------


def test_lint_deep_fails_on_altered_layer_bytes(registry: FakeRegistry, tmp_path: Path) -> None:
    layer = build_layer({"bin/app": elf("arm64")})
    image = packed([layer], "/nowhere")
    digest = next(name for name, blob in image.blobs.items() if blob == layer)
    changed = bytes(layer[:-1]) + bytes([layer[-1] ^ 1])
    registry.on("GET", f"/v2/app/blobs/{digest}", Reply(200, {}, changed))

    found = look(registry, tmp_path, image)

    assert facts_of(found) == [("unreadable-layer", "error")]


@pytest.mark.parametrize("path", sorted(TARS.iterdir()), ids=lambda path: path.name)
def test_lint_deep_survives_hostile_layers(
    registry: FakeRegistry, tmp_path: Path, path: Path
) -> None:
    layer = path.read_bytes()
    ids = {"type": "layers", "diff_ids": [f"sha256:{'0' * 64}"]}
    config = {"config": {"Entrypoint": ["/nowhere"]}, "rootfs": ids}
    made = build_image(ARM64, [layer if not path.name.endswith("gz") else b""], config=config)
    image = with_layer(made, layer)

    found = look(registry, tmp_path, build_index([image]))

    messages = [each.message for each in found.findings if each.rule == "unreadable-layer"]
    is_sound = path.name.startswith("ok")
    assert len(messages) == 1
    assert ("uncompressed" in messages[0]) == is_sound
    assert not (tmp_path.parent / "x").exists()


def with_layer(image: Image, layer: bytes) -> Image:
    """Make an image like this of one other layer, whose config stays as it is."""
    body = json.loads(image.body)
    described = descriptor_fields(describe(body["layers"][0]["mediaType"], layer))
    made = from_dict({**body, "layers": [described]}, blobs=[*image.blobs.values(), layer])
    return replace(made, platform=image.platform)


def test_lint_deep_fails_on_a_wrong_diff_id(registry: FakeRegistry, tmp_path: Path) -> None:
    layer = build_layer({"bin/app": elf("arm64")})
    wrong = {"type": "layers", "diff_ids": [f"sha256:{'0' * 64}"]}
    settings = {"config": {"Entrypoint": ["/nowhere"]}, "rootfs": wrong}

    found = look(registry, tmp_path, build_index([build_image(ARM64, [layer], config=settings)]))

    assert ("unreadable-layer", "error") in facts_of(found)
    assert "uncompressed" in found.findings[0].message


def test_lint_deep_failed_request_is_not_a_finding(
    registry: FakeRegistry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("resolver.sources.http.retry.ATTEMPTS", 1, raising=False)
    layer = build_layer({"bin/app": elf("arm64")})
    image = packed([layer], "/bin/app")
    digest = next(name for name, blob in image.blobs.items() if blob == layer)
    registry.on("GET", f"/v2/app/blobs/{digest}", Reply(500, {}, b"no"))

    with pytest.raises(Unavailable):
        look(registry, tmp_path, image)


def test_lint_deep_offline_skips_layers_that_are_not_held(
    registry: FakeRegistry, tmp_path: Path
) -> None:
    registry.serve("app", "1", packed([build_layer({"app": elf("arm64")})], "/app"))
    name = f"{registry.host}/app:1"
    with Session(tmp_path) as session:
        session.lint(name)

    with Session(tmp_path, offline=True) as session:
        assert session.lint(name).findings == ()
        with pytest.raises(NotInStore, match="the layer"):
            session.lint(name, deep=True)


@pytest.mark.parametrize("start", [0, 1])
@pytest.mark.parametrize("status", [416, 501])
def test_lint_deep_reads_whole_layers_when_ranges_are_refused(
    registry: FakeRegistry, tmp_path: Path, start: int, status: int
) -> None:
    layer = build_layer({"words": noise(300_000), "app": elf("amd64"), "more": noise(MEGABYTE)})
    image = packed([layer], "/app")
    digest = next(name for name, blob in image.blobs.items() if blob == layer)

    def answer(seen: Seen) -> Reply:
        asked = seen.headers.get("range")
        if asked is None:
            return Reply(200, {}, layer)
        first, _, last = asked.removeprefix("bytes=").partition("-")
        if int(first) >= start * 65_536:
            return Reply(status)
        head = {"Content-Range": f"bytes {first}-{last}/{len(layer)}"}
        return Reply(206, head, layer[int(first) : int(last) + 1])

    registry.on("GET", f"/v2/app/blobs/{digest}", answer)

    found = look(registry, tmp_path, image)

    assert facts_of(found) == [("wrong-machine", "error")]


@pytest.mark.parametrize("size", [10_000, 300_000])
@pytest.mark.parametrize("times", [1, 2])
def test_lint_deep_resumes_a_broken_stream(
    registry: FakeRegistry, tmp_path: Path, size: int, times: int
) -> None:
    layer = build_layer({"words": noise(size), "app": elf("amd64")})
    image = packed([layer], "/app")
    digest = next(name for name, blob in image.blobs.items() if blob == layer)
    left = iter(range(times))

    def answer(seen: Seen) -> Reply:
        asked = seen.headers.get("range", f"bytes=0-{len(layer) - 1}")
        first, _, last = asked.removeprefix("bytes=").partition("-")
        cut = 3_000 if next(left, None) is not None else None
        body = layer[int(first) : int(last) + 1]
        if "range" not in seen.headers:
            return Reply(200, {}, body, truncate=cut)
        head = {"Content-Range": f"bytes {first}-{last}/{len(layer)}"}
        return Reply(206, head, body, truncate=cut)

    registry.on("GET", f"/v2/app/blobs/{digest}", answer)

    assert facts_of(look(registry, tmp_path, image)) == [("wrong-machine", "error")]


def test_lint_deep_fails_when_the_stream_keeps_breaking(
    registry: FakeRegistry, tmp_path: Path
) -> None:
    layer = build_layer({"app": elf("amd64")})
    image = packed([layer], "/app")
    digest = next(name for name, blob in image.blobs.items() if blob == layer)
    registry.on("GET", f"/v2/app/blobs/{digest}", Reply(200, {}, layer, truncate=10))

    with pytest.raises(Unavailable):
        look(registry, tmp_path, image)


def test_lint_deep_skips_foreign_layers_and_other_formats(
    registry: FakeRegistry, tmp_path: Path
) -> None:
    image = build_image(ARM64, [build_layer({"app": elf("amd64")})])
    body = image.body.replace(b"layer.v1.tar+gzip", b"layer.v1.tar+gzip+encrypted")
    hidden = raw_document(body)
    registry.serve("app", None, image)

    found = look(registry, tmp_path, build_index([listed_as(hidden, ARM64)]))

    assert facts_of(found) == [("undecided-entrypoint", "note")]
    assert found.looks[0].bytes_read == 0
    assert found.looks[0].started[0].outcome is SearchOutcome.UNDECIDED
