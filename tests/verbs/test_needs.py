"""What the programs of an image need, found in its layers; and checks, comparisons and warnings."""

from __future__ import annotations

import json
from random import Random
from typing import TYPE_CHECKING

import pytest

from resolver.core.check.check import Requirements
from resolver.core.check.nodes import parse_nodes
from resolver.core.layers.elf_needs import Sureness
from resolver.core.platforms.platform import BUILTIN, HostMachine, Platform
from resolver.core.results.needs import (
    ImageNeeds,
    Machine,
    NeedKind,
    in_words,
    machine_of,
    parse_kernel,
    parse_page_size,
)
from resolver.errors import BadFile, PlatformNotOffered, Usage
from resolver.files import platforms as machines
from resolver.session import Session
from tests import DATA
from tests.kit.executables import (
    ATTRIBUTES,
    CODE,
    PROGBITS,
    attributes,
    elf,
    go_build_info,
    isa_needed,
    linked,
)
from tests.kit.images import Image, build_image, build_index, build_layer
from tests.verbs.test_lint_deep import linked as linked_layer

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from resolver.core.check.check import CheckedImage
    from tests.kit.registry import FakeRegistry

AMD64, ARM64 = "linux/amd64", "linux/arm64/v8"
PROGRAMS = DATA / "programs"
LOADER = "lib64/ld-linux-x86-64.so.2"
APP = linked("amd64", interpreter=f"/{LOADER}", needed=["libc.so.6"], notes=isa_needed(1))
LIBC = linked("amd64", needed=["ld-linux-x86-64.so.2"], notes=isa_needed(7))
BASE = {LOADER: elf("amd64"), "usr/lib/x86_64-linux-gnu/libc.so.6": LIBC}
V2 = linked("amd64", notes=isa_needed(3))


def go_program(level: str) -> bytes:
    """Make a program for arm64 whose build info states a level."""
    info = go_build_info("go1.23", GOARM64=level)
    return linked("arm64", sections={".go.buildinfo": (PROGBITS, 3, info)})


def image(
    layers: Sequence[Mapping[str, bytes] | bytes], platform: str = AMD64, **config: object
) -> Image:
    """Make an image of some layers that starts `/app`."""
    made = [each if isinstance(each, bytes) else build_layer(each) for each in layers]
    settings = {"Entrypoint": ["/app"], **config}
    return build_image(platform, made, config={"config": settings})


def needs_of(
    registry: FakeRegistry, store: Path, *images: Image, every: bool = False, most: int = 32 << 20
) -> tuple[ImageNeeds, ...]:
    registry.serve("app", "1", build_index(images))
    with Session(store) as session:
        return session.needs(f"{registry.host}/app:1", every=every, max_bytes=most).images


def level(needs: ImageNeeds) -> tuple[str, str, str] | None:
    """Return the deciding level, how sure it is, and the file that states it."""
    need = needs.highest(NeedKind.CPU, BUILTIN)
    return (need.value, need.sure.value, need.file) if need is not None else None


# --- which files are read ------------------------------------------------------------------------


def test_needs_libc_in_the_base_layer_decides(registry: FakeRegistry, tmp_path: Path) -> None:
    (found,) = needs_of(registry, tmp_path, image([BASE, {"app": APP}]))

    assert level(found) == ("v3", "stated", "usr/lib/x86_64-linux-gnu/libc.so.6")
    assert [file.path for file in found.files] == [
        "app", LOADER, "usr/lib/x86_64-linux-gnu/libc.so.6",
    ]  # fmt: skip
    assert not found.unread
    assert [(one.path, one.found, one.libc) for one in found.loaders] == [
        (f"/{LOADER}", True, "glibc")
    ]


def test_needs_reads_under_a_twentieth_of_a_large_image(
    registry: FakeRegistry, tmp_path: Path
) -> None:
    # 300 MB would be the same: what follows the programs is not requested.
    noise = {"usr/share/words": Random(1).randbytes(30_000_000)}
    top = build_layer({"app": APP, **BASE, **noise})
    made = image([{"etc/os-release": b"x"}, top])

    (found,) = needs_of(registry, tmp_path, made)

    assert level(found) == ("v3", "stated", "usr/lib/x86_64-linux-gnu/libc.so.6")
    sent = sum(seen.sent for seen in registry.log)
    assert sent < 0.05 * 30_000_000
    assert found.bytes_read < 140_000


def test_needs_follows_links_runpath_and_libraries_of_libraries(
    registry: FakeRegistry, tmp_path: Path
) -> None:
    app = linked("amd64", needed=["liba.so"], runpath="$ORIGIN/../own")
    files = {
        "opt/bin/app": app,
        "opt/own/liba.so.1": linked("amd64", needed=["libb.so"]),
        "usr/local/lib/libb.so": linked("amd64", notes=isa_needed(4)),
    }
    links = linked_layer({"app": "/opt/bin/app", "opt/own/liba.so": "liba.so.1"}, files)

    (found,) = needs_of(registry, tmp_path, image([links]))

    assert level(found) == ("v3", "stated", "usr/local/lib/libb.so")


def test_needs_library_path_of_the_config_is_searched(
    registry: FakeRegistry, tmp_path: Path
) -> None:
    app = linked("amd64", needed=["liba.so"])
    made = image([{"app": app, "opt/x/liba.so": V2}], Env=["LD_LIBRARY_PATH=/opt/x"])

    (found,) = needs_of(registry, tmp_path, made)

    assert level(found) == ("v2", "stated", "opt/x/liba.so")


def test_needs_program_found_only_after_its_library_was_passed(
    registry: FakeRegistry, tmp_path: Path
) -> None:
    files = {"lib/liba.so": V2, "pad": Random(2).randbytes(300_000)}
    files["zapp"] = linked("amd64", needed=["liba.so"])

    (found,) = needs_of(registry, tmp_path, image([files], Entrypoint=["/zapp"]))

    assert level(found) == ("v2", "stated", "lib/liba.so")
    assert not found.unread


def test_needs_optional_copies_for_higher_levels_are_skipped(
    registry: FakeRegistry, tmp_path: Path
) -> None:
    v3 = linked("amd64", notes=isa_needed(4))
    files = {
        "app": linked("amd64", needed=["liba.so"]),
        "lib/liba.so": linked("amd64", notes=isa_needed(1)),
        "lib/glibc-hwcaps/x86-64-v3/liba.so": v3,
        "lib/x86_64-linux-gnu/haswell/liba.so": v3,
    }

    for every in (False, True):
        (found,) = needs_of(registry, tmp_path, image([files]), every=every)
        assert level(found) is None


def test_needs_of_all_programs_reads_what_is_not_started(
    registry: FakeRegistry, tmp_path: Path
) -> None:
    below = {"app": elf("amd64"), "bin/tool": linked("amd64", notes=isa_needed(8)), "bin/x": V2}
    removed = {"bin/.wh.tool": b"", "bin/.wh.y": b""}
    plain, every = (
        needs_of(registry, tmp_path, image([below, removed]), every=each)[0]
        for each in (False, True)
    )

    assert [file.path for file in plain.files] == ["app"]
    assert [file.path for file in every.files] == ["app", "bin/x"]
    assert level(every) == ("v2", "stated", "bin/x")


def test_needs_of_a_script_are_those_of_its_interpreter(
    registry: FakeRegistry, tmp_path: Path
) -> None:
    (found,) = needs_of(registry, tmp_path, image([{"app": b"#!/bin/tool -x\n", "bin/tool": V2}]))

    assert level(found) == ("v2", "stated", "bin/tool")


def test_needs_within_a_budget_that_is_spent_are_unknown(
    registry: FakeRegistry, tmp_path: Path
) -> None:
    files = {"pad": Random(3).randbytes(1_000_000), "zapp": V2}

    (found,) = needs_of(registry, tmp_path, image([files], Entrypoint=["/zapp"]), most=100_000)

    assert level(found) is None
    assert found.unread == ("/zapp",)


def test_needs_of_a_started_library_that_is_missing_are_incomplete(
    registry: FakeRegistry, tmp_path: Path
) -> None:
    app = linked("amd64", needed=["libgone.so"], notes=isa_needed(2))

    (found,) = needs_of(registry, tmp_path, image([{"app": app}]))

    assert found.unread == ("libgone.so",)
    assert in_words(found, NeedKind.CPU, BUILTIN) == "x86-64-v2, or higher (stated)"


def test_needs_of_each_platform_and_of_one(registry: FakeRegistry, tmp_path: Path) -> None:
    go = linked(
        "arm64", sections={".go.buildinfo": (PROGBITS, 3, go_build_info("go1.23", GOARM64="v8.1"))}
    )
    registry.serve("app", "1", build_index([image([{"app": V2}]), image([{"app": go}], ARM64)]))

    with Session(tmp_path) as session:
        both = session.needs(f"{registry.host}/app:1")
        one = session.needs(f"{registry.host}/app:1", ["linux/arm64"])
        with pytest.raises(PlatformNotOffered):
            session.needs(f"{registry.host}/app:1", ["linux/s390x"])

    assert [level(each) for each in both.images] == [
        ("v2", "stated", "app"), ("v8.1", "stated", "app"),
    ]  # fmt: skip
    assert [str(each.platform) for each in one.images] == [ARM64]


def test_needs_of_baseline_headers_are_unknown_and_never_baseline(
    registry: FakeRegistry, tmp_path: Path
) -> None:
    content = (PROGRAMS / "amd64-v3-unmarked").read_bytes()

    (found,) = needs_of(registry, tmp_path, image([{"app": content}]))

    assert level(found) is None
    assert in_words(found, NeedKind.CPU, BUILTIN) == "unknown"


# --- check ---------------------------------------------------------------------------------------


def checked(
    registry: FakeRegistry, store: Path, made: Image | Sequence[Image], wanted: Requirements
) -> CheckedImage:
    images = [made] if isinstance(made, Image) else made
    registry.serve("app", "1", build_index(images))
    with Session(store) as session:
        return session.check(f"{registry.host}/app:1", wanted).looked_at[0]


def machine(text: str) -> tuple[Platform, ...]:
    return tuple(Platform.parse(each) for each in text.split(","))


@pytest.mark.parametrize(
    ("platform", "passed"), [("linux/amd64", False), ("linux/amd64/v2", False),
                             ("linux/amd64/v3", True), ("linux/amd64/v4", True)],
)  # fmt: skip
def test_check_glibc_of_v3_runs_on_v3_and_above(
    registry: FakeRegistry, tmp_path: Path, platform: str, passed: bool
) -> None:  # fmt: skip
    made = image([{"app": APP, **BASE}])

    found = checked(registry, tmp_path, made, Requirements(runs_on=machine(platform)))

    assert found.passed is passed
    assert [finding.rule for finding in found.findings] == ([] if passed else ["cannot-run"])


def test_check_unknown_and_possible_pass_unless_strict(
    registry: FakeRegistry, tmp_path: Path
) -> None:
    unknown = image([{"app": linked("amd64", notes=isa_needed(1))}])
    lse = {
        ".text": (
            PROGBITS,
            CODE,
            bytes.fromhex("1f2003d5" * 8 + "000020b8207c5f88" + "1f2003d5" * 8),
        )
    }
    possible = image([{"app": linked("arm64", sections=lse)}], ARM64)
    for made, text, rules in (
        (unknown, "linux/amd64", []), (possible, "linux/arm64", ["may-not-run"]),
    ):  # fmt: skip
        plain = checked(registry, tmp_path, made, Requirements(runs_on=machine(text)))
        strict = checked(registry, tmp_path, made, Requirements(runs_on=machine(text), strict=True))

        assert plain.passed
        assert [finding.rule for finding in plain.findings] == rules
        assert not strict.passed
        assert {finding.rule for finding in strict.findings} == {"may-not-run"}


def test_check_machine_without_a_build_cannot_run(registry: FakeRegistry, tmp_path: Path) -> None:
    wanted = Requirements(runs_on=machine("linux/amd64/v3,linux/arm64"))

    found = checked(registry, tmp_path, image([{"app": V2}]), wanted)

    assert [(one.rule, one.platform) for one in found.findings] == [("cannot-run", "linux/arm64")]


def test_check_selects_the_build_that_the_machine_would_select(
    registry: FakeRegistry, tmp_path: Path
) -> None:
    high = image([{"app": linked("amd64", notes=isa_needed(4))}], "linux/amd64/v3")
    low = image([{"app": linked("amd64")}])

    found = checked(
        registry,
        tmp_path,
        [low, high],
        Requirements(runs_on=machine("linux/amd64/v2,linux/amd64/v4")),
    )

    assert found.passed


def test_check_page_size_is_required_where_kernels_have_it(
    registry: FakeRegistry, tmp_path: Path
) -> None:
    both = [
        image([{"app": linked("amd64", page=4_096)}]),
        image([{"app": (PROGRAMS / "arm64-page-4k").read_bytes()}], ARM64),
    ]
    small, large = (
        checked(registry, tmp_path, both, Requirements(page_size=size)) for size in (4_096, 16_384)
    )

    assert small.passed
    assert [
        (one.rule, one.platform) for one in large.findings if one.severity.value == "error"
    ] == [("cannot-run", ARM64)]


def test_check_kernel_is_a_note_and_fails_only_if_strict(
    registry: FakeRegistry, tmp_path: Path
) -> None:
    made = image([{"app": (PROGRAMS / "arm-v6").read_bytes()}], "linux/arm/v6")
    old, new = (
        checked(registry, tmp_path, made, Requirements(kernel=kernel)) for kernel in ("3.1", "5.10")
    )
    strict = checked(registry, tmp_path, made, Requirements(kernel="3.1", strict=True))

    assert old.passed
    assert "Linux 3.2.0" in old.findings[-1].message
    assert not any("Linux" in one.message for one in new.findings)
    assert not strict.passed


def node(name: str, architecture: str = "amd64", kernel: str = "6.8.0", **labels: str) -> object:
    return {
        "metadata": {"name": name, "labels": labels},
        "status": {
            "nodeInfo": {
                "architecture": architecture, "operatingSystem": "linux", "kernelVersion": kernel,
            }
        },
    }  # fmt: skip


def cluster(*nodes: object) -> tuple[Machine, ...]:
    body = json.dumps({"apiVersion": "v1", "kind": "List", "items": list(nodes)}).encode()
    return parse_nodes(body, "nodes.json", BUILTIN)


NFD = "feature.node.kubernetes.io/cpu-cpuid."


@pytest.mark.parametrize(
    ("architecture", "labels", "kernel", "expected"),
    [
        ("amd64", {}, "6.8.0-31-generic", ("linux/amd64", 4_096, False)),
        ("amd64", {f"{NFD}AVX": "true"}, "6.8", ("linux/amd64/v2", 4_096, True)),
        ("amd64", {f"{NFD}AVX": "true", f"{NFD}AVX2": "true", f"{NFD}FMA3": "true"}, "6.8",
         ("linux/amd64/v3", 4_096, True)),
        ("amd64", {"example.com/x86-64-v3": "true"}, "6.8", ("linux/amd64/v3", 4_096, True)),
        ("arm64", {}, "6.6.31+rpt-rpi-2712", ("linux/arm64", 16_384, False)),
        ("arm64", {}, "5.14.0-427.el9.aarch64+64k", ("linux/arm64", 65_536, False)),
        ("arm64", {}, "6.6.31+rpt-rpi-v8", ("linux/arm64", 0, False)),
        ("arm64", {f"{NFD}ATOMICS": "true", f"{NFD}ASIMDRDM": "true", f"{NFD}CRC32": "true"},
         "6.8", ("linux/arm64/v8.1", 0, True)),
        ("arm64", {f"{NFD}AES": "true"}, "6.8", ("linux/arm64/v8", 0, True)),
    ],
)  # fmt: skip
def test_node_is_a_machine_with_what_its_labels_and_kernel_tell(
    architecture: str, labels: dict[str, str], kernel: str, expected: tuple[str, int, bool]
) -> None:
    (found,) = cluster(node("a", architecture, kernel, **labels))

    assert (str(found.platform), found.page_size, found.is_level_known) == expected
    assert found.kernel == kernel


def test_nodes_that_are_equal_become_one_machine() -> None:
    found = cluster(node("a"), node("b"), node("c", kernel="5.4"))

    assert [each.names for each in found] == [("a", "b"), ("c",)]


@pytest.mark.parametrize(
    "body",
    [b"", b"[]", b"{}", b'{"items": []}', b'{"items": [1]}', b'{"items": [{"metadata": 1}]}'],
)
def test_nodes_file_that_is_no_list_of_nodes_is_refused(body: bytes) -> None:
    with pytest.raises(BadFile):
        parse_nodes(body, "nodes.json", BUILTIN)


def test_check_nodes_tells_which_node_cannot_run_the_image(
    registry: FakeRegistry, tmp_path: Path
) -> None:
    made = image([{"app": APP, **BASE}])
    nodes = cluster(node("old", **{f"{NFD}AVX": "true"}), node("plain"), node("pi", "arm64"))

    found = checked(registry, tmp_path, made, Requirements(nodes=nodes))

    assert [(one.rule, one.message.partition(" (")[0]) for one in found.findings] == [
        ("cannot-run", "the node `old`"),
        ("cannot-run", "nothing is offered that runs on the node `pi`"),
        ("may-not-run", "the node `plain`"),
    ]


@pytest.mark.parametrize("text", ["16", "3k", "128k", "x", "12k", "0"])
def test_page_size_that_linux_does_not_have_is_refused(text: str) -> None:
    with pytest.raises(Usage):
        parse_page_size(text)


def test_page_sizes_and_kernels_are_parsed() -> None:
    assert [parse_page_size(text) for text in ("4k", "16K", "64KiB", "4096")] == [
        4_096, 16_384, 65_536, 4_096,
    ]  # fmt: skip
    assert parse_kernel("5.10.0-8-amd64") == "5.10.0-8-amd64"
    for text in ("x", "", "5.10x"):
        with pytest.raises(Usage):
            parse_kernel(text)


# --- compare, resolve ----------------------------------------------------------------------------


def test_compare_needs_is_drift_between_two_images(registry: FakeRegistry, tmp_path: Path) -> None:
    registry.serve("app", "1", build_index([image([{"app": linked("amd64")}])]))
    registry.serve("app", "2", build_index([image([{"app": V2}])]))
    first, second = f"{registry.host}/app:1", f"{registry.host}/app:2"

    with Session(tmp_path) as session:
        plain = session.compare_images(first, second)
        found = session.compare_images(first, second, needs=True)
        ignored = session.compare_images(first, second, needs=True, ignore=["needs"])

    drift = [(one.name, one.values) for one in found.changes[0].drift]
    assert ("needs.cpu", (None, "x86-64-v2 (stated)")) in drift
    for other in (plain, ignored):
        assert "needs" not in {one.dimension for one in other.changes[0].drift}


LINUX = {"sys_platform": "linux", "machine": "x86_64"}
FLAGS = "flags\t: cx16 lahf_lm pni popcnt sse4_1 sse4_2 ssse3"


@pytest.mark.parametrize(
    ("flags", "warned"),
    [(FLAGS, True), (f"{FLAGS} abm avx avx2 bmi1 bmi2 f16c fma movbe xsave", False)],
)
def test_resolve_verify_cpu_warns_of_what_this_machine_lacks(
    registry: FakeRegistry,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    flags: str,
    warned: bool,
) -> None:
    host = HostMachine("x86_64", "linux", cpuinfo=flags)
    monkeypatch.setattr(machines, "this_machine", lambda: host)
    registry.serve("app", "1", build_index([image([{"app": APP, **BASE}])]))

    with Session(tmp_path) as session:
        plain = session.resolve(f"{registry.host}/app:1", "local")
        found = session.resolve(f"{registry.host}/app:1", "local", verify_cpu=True)
        (each,) = session.resolve_each([f"{registry.host}/app:1"], ["local"], verify_cpu=True)

    assert not plain.warnings
    assert [one.code for one in found.warnings] == (["cannot-run-here"] if warned else [])
    assert not isinstance(each, Exception)
    assert [one.code for one in each.warnings] == [one.code for one in found.warnings]  # type: ignore[union-attr]  # a resolution


@pytest.mark.parametrize(
    ("name", "cpuinfo", "expected"),
    [
        ("aarch64", "Features\t: fp asimd evtstrm aes crc32 cpuid", ("linux/arm64/v8", True)),
        ("aarch64", "Features\t: fp asimd crc32 atomics asimdrdm", ("linux/arm64/v8.1", True)),
        ("aarch64", "Features\t: crc32 atomics asimdrdm lrcpc dcpop", ("linux/arm64/v8.2", True)),
        ("aarch64", "", ("linux/arm64/v8", False)),
        ("ppc64le", "cpu\t\t: POWER9 (architected)", ("linux/ppc64le/power9", True)),
        ("riscv64", "isa\t\t: rv64imafdcv_zicsr", ("linux/riscv64", False)),
    ],
)
def test_machine_has_the_level_that_its_processor_reports(
    name: str, cpuinfo: str, expected: tuple[str, bool]
) -> None:
    found = machine_of(HostMachine(name, "linux", cpuinfo=cpuinfo), BUILTIN, 4_096, "6.1")

    platform = found.platform.normalized(BUILTIN)
    assert platform == Platform.parse(expected[0]).normalized(BUILTIN)
    assert found.is_level_known is expected[1]


def test_machine_of_another_system_is_known_by_its_architecture_alone() -> None:
    found = machine_of(HostMachine("arm64", "darwin"), BUILTIN, 16_384, "24.1")

    assert (str(found.platform), found.page_size, found.is_level_known) == (
        "linux/arm64/v8",
        0,
        False,
    )


def test_lint_arm_v6_entry_with_programs_of_v7_is_an_error(
    registry: FakeRegistry, tmp_path: Path
) -> None:
    held = attributes("aeabi", b"\x06\x0a\x0a\x04")
    app = linked("arm", sections={".ARM.attributes": (ATTRIBUTES, 0, held)})
    registry.serve("app", "1", build_index([image([{"app": app}], "linux/arm/v6")]))

    with Session(tmp_path) as session:
        found = session.lint(f"{registry.host}/app:1", deep=True)

    assert [(one.rule, one.severity.value) for one in found.findings] == [
        ("needs-newer-cpu", "error")
    ]
    assert "Tag_CPU_arch: v7" in found.findings[0].message


@pytest.mark.parametrize(
    ("program", "expected"),
    [
        ((PROGRAMS / "arm64-outline-atomics").read_bytes(), []),
        ((PROGRAMS / "arm64-plain").read_bytes(), []),
        ((PROGRAMS / "arm64-lse-inline").read_bytes(), [("possible-newer-cpu", "note")]),
        (go_program("v8.0"), []),
        (go_program("v8.1"), [("needs-newer-cpu", "error")]),
        (go_program("v8.0,lse"), [("needs-newer-cpu", "error")]),
    ],
    ids=["outline-atomics", "plain", "lse-inline", "go-v8.0", "go-v8.1", "go-v8.0-lse"],
)
def test_lint_arm64_entry_with_atomics(
    registry: FakeRegistry, tmp_path: Path, program: bytes, expected: list[tuple[str, str]]
) -> None:
    registry.serve("app", "1", build_index([image([{"app": program}], "linux/arm64")]))

    with Session(tmp_path) as session:
        found = session.lint(f"{registry.host}/app:1", deep=True).findings

    assert [
        (one.rule, one.severity.value) for one in found if one.rule != "missing-interpreter"
    ] == expected


def test_sureness_orders_from_certain_to_unknown() -> None:
    assert [each.is_certain for each in Sureness] == [True, True, False, False]
