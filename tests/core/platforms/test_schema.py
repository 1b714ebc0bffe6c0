"""Compatibility: truth tables by architecture, and a second implementation of the rules."""

from __future__ import annotations

import pytest

from resolver.core.platforms.fact_types import Runner
from resolver.core.platforms.facts import FACTS
from resolver.core.platforms.platform import BUILTIN, Grade, Platform, PlatformTable
from resolver.core.platforms.select import select

# Asked for: accepted, best first, because.
AMD64 = [
    # containerd compare_test.go, TestOnly: 386 last
    ("amd64", "amd64 386"),
    ("amd64/v1", "amd64 386"),
    ("amd64/v2", "amd64/v2 amd64 386"),
    ("amd64/v4", "amd64/v4 amd64/v3 amd64/v2 amd64 386"),
    # read by Atoi after one v; itself as it is spelled
    ("amd64/3", "amd64/3 amd64/v2 amd64 386"),
    ("amd64/+3", "amd64/+3 amd64/v2 amd64 386"),
    ("amd64/v03", "amd64/v03 amd64/v2 amd64 386"),
    # no level: docs/platform-matching.md, "Baseline levels"
    ("amd64/foo", "amd64/foo amd64 386"),
    ("amd64/1", "amd64/1 amd64 386"),
    ("amd64/v0", "amd64/v0 amd64 386"),
    ("amd64/v-3", "amd64/v-3 amd64 386"),
    ("amd64/vv3", "amd64/vv3 amd64 386"),
    ("amd64/v3.0", "amd64/v3.0 amd64 386"),
    ("amd64/v", "amd64/v amd64 386"),
    ("amd64/v1_0", "amd64/v1_0 amd64 386"),
    ("amd64/v\u0663", "amd64/v\u0663 amd64 386"),
    # too many: docs/platform-matching.md, "Bounded levels"
    ("amd64/v100", "amd64/v100 amd64 386"),
    ("amd64/v99999999999999999999", "amd64/v99999999999999999999 amd64 386"),
    ("386", "386"),
    ("i386", "386"),
    ("386/softfloat", "386/softfloat 386"),
]
ARM = [
    ("arm", "arm/v7 arm/v6 arm/v5"),
    ("arm/v8", "arm/v8 arm/v7 arm/v6 arm/v5"),
    ("arm/v9", "arm/v9 arm/v8 arm/v7 arm/v6 arm/v5"),
    ("arm/v6", "arm/v6 arm/v5"),
    ("armhf", "arm/v7 arm/v6 arm/v5"),
    ("armel", "arm/v6 arm/v5"),
    # v5 and below, and anything else, run themselves only: docs/platform-matching.md,
    # "Acceptable platforms"
    ("arm/v5", "arm/v5"),
    ("arm/v4", "arm/v4"),
    ("arm/foo", "arm/foo"),
    ("arm/v100", "arm/v100"),
    ("arm/v7.1", "arm/v7.1"),
]
ARM32 = "arm/v8 arm/v7 arm/v6 arm/v5"
ARM64_V8_5 = "arm64/v8.5 arm64/v8.4 arm64/v8.3 arm64/v8.2 arm64/v8.1"
ARM64 = [
    ("arm64", f"arm64 {ARM32}"),
    ("arm64/v8", f"arm64 {ARM32}"),
    ("arm64/v8.0", f"arm64 {ARM32}"),
    ("arm64/v8.2", f"arm64/v8.2 arm64/v8.1 arm64 {ARM32}"),
    (
        "arm64/v9",
        f"arm64/v9 {ARM64_V8_5} arm64 {ARM32}",
    ),
    (
        "arm64/v9.1",
        f"arm64/v9.1 arm64/v9 arm64/v8.6 {ARM64_V8_5} arm64 {ARM32}",
    ),
    # docs/platform-matching.md, "Unlisted variants", for levels that nobody lists
    ("arm64/v8.10", f"arm64/v8.10 arm64 {ARM32}"),
    ("arm64/v9.8", f"arm64/v9.8 arm64 {ARM32}"),
    ("arm64/v10", f"arm64/v10 arm64 {ARM32}"),
    ("arm64/8.0", f"arm64/8.0 arm64 {ARM32}"),
    ("arm64/8.2", f"arm64/8.2 arm64 {ARM32}"),
    ("arm64/foo", f"arm64/foo arm64 {ARM32}"),
    ("arm64/v99999999", f"arm64/v99999999 arm64 {ARM32}"),
]
# docs/platform-matching.md, "Baseline levels"
OTHERS = [
    ("riscv64", "riscv64 riscv64/rva20u64"),
    ("riscv64/rva20u64", "riscv64/rva20u64 riscv64"),
    ("riscv64/rva23u64", "riscv64/rva23u64 riscv64/rva22u64 riscv64/rva20u64 riscv64"),
    ("riscv64/foo", "riscv64/foo riscv64/rva20u64 riscv64"),
    ("ppc64le", "ppc64le ppc64le/power8"),
    ("ppc64le/power9", "ppc64le/power9 ppc64le/power8 ppc64le"),
    ("ppc64/power11", "ppc64/power11 ppc64/power10 ppc64/power9 ppc64/power8 ppc64"),
    ("ppc64le/power7", "ppc64le/power7 ppc64le/power8 ppc64le"),
    ("s390x", "s390x"),
    ("s390x/z15", "s390x/z15 s390x"),
    ("mips64le/softfloat", "mips64le/softfloat mips64le"),
    ("wasm", "wasm"),
    ("foo/bar", "foo/bar foo"),
]


@pytest.mark.parametrize(("asked", "accepted"), [*AMD64, *ARM, *ARM64, *OTHERS])
def test_compatible_platforms_are_listed_best_first(asked: str, accepted: str) -> None:
    architecture, _, variant = asked.partition("/")

    listed = BUILTIN.acceptable(Platform("linux", architecture, variant))

    chips = ["/".join(filter(None, (p.architecture, p.variant))) for p, _ in listed]
    assert " ".join(chips) == accepted


@pytest.mark.parametrize(("asked", "accepted"), [*AMD64, *ARM, *ARM64, *OTHERS])
def test_grade_distinguishes_lower_variants_from_other_architectures(
    asked: str, accepted: str
) -> None:
    architecture, _, variant = asked.partition("/")

    (first, *rest) = BUILTIN.acceptable(Platform("linux", architecture, variant))

    assert first[1] is Grade.EXACT
    for platform, grade in rest:
        same = platform.architecture == first[0].architecture
        assert grade is (Grade.FALLBACK if same else Grade.ABI)
    assert accepted


def test_compatible_platforms_keep_os_version_and_features() -> None:
    want = Platform("Windows", "amd64", "v2", "10.0.20348", ("b", "a"))

    for platform, _ in BUILTIN.acceptable(want):
        rest = (platform.os, platform.os_version, platform.os_features)
        assert rest == ("windows", "10.0.20348", ("a", "b"))


# The rules of docs/platform-matching.md, "Acceptable platforms", computed instead of listed

Level = tuple[int, int]


def level_of(architecture: str, variant: str) -> Level | None:
    """Return the documented levels; None for unknown spellings."""
    if architecture == "amd64":
        return (1, 0) if variant in {"", "v1"} else (int(variant[1:]), 0)
    if architecture == "arm":
        return (7, 0) if not variant else (int(variant[1:]), 0)
    if not variant:
        return (8, 0)
    major, _, minor = variant[1:].partition(".")
    return int(major), int(minor or 0)


def expected_rank(want: tuple[str, str], have: tuple[str, str]) -> int | None:
    """Return the position of a candidate by the documented rules."""
    (wanted, _), (offered, _) = want, have
    level = level_of(*want)
    assert level is not None
    if wanted == "386" or offered == "386":
        raise AssertionError
    other = level_of(*have)
    assert other is not None
    if wanted == "amd64" == offered:
        return level[0] - other[0] if 1 <= other[0] <= level[0] else None
    if wanted == "arm" == offered:
        return arm_rank(level[0], other[0])
    if wanted == "arm64" == offered:
        return arm64_rank(level, other)
    if wanted == "arm64" and offered == "arm":
        below = arm_rank(8, other[0])
        return None if below is None else arm64_length(level) + below
    return None


def arm_rank(want: int, have: int) -> int | None:
    if want <= 5:
        return 0 if want == have else None
    return want - have if 5 <= have <= want else None


def arm64_top(level: Level) -> int:
    return level[1] if level[0] == 8 else min(9, level[1] + 5)


def arm64_length(level: Level) -> int:
    own_nines = level[1] + 1 if level[0] == 9 else 0
    return own_nines + arm64_top(level) + 1


def arm64_rank(want: Level, have: Level) -> int | None:
    if have[0] == want[0]:
        return want[1] - have[1] if have[1] <= want[1] else None
    if have[0] > want[0]:
        return None
    return want[1] + 1 + arm64_top(want) - have[1] if have[1] <= arm64_top(want) else None


CHIPS = [
    *(("amd64", variant) for variant in ("", *(f"v{n}" for n in range(1, 13)), "v98", "v99")),
    *(("arm", variant) for variant in ("", *(f"v{n}" for n in range(3, 13)), "v99")),
    *(("arm64", variant) for variant in ("", "v8", "v8.0", "v9", "v9.0")),
    *(("arm64", f"v8.{minor}") for minor in range(1, 10)),
    *(("arm64", f"v9.{minor}") for minor in range(1, 8)),
]


@pytest.mark.parametrize("want", CHIPS, ids="/".join)
def test_compatibility_table_follows_the_documented_rules(want: tuple[str, str]) -> None:
    vector = [chip for chip, _ in BUILTIN.vector(BUILTIN.chip(*want))]

    for have in CHIPS:
        chip = BUILTIN.chip(*have)
        rank = vector.index(chip) if chip in vector else None
        assert rank == expected_rank(want, have), (want, have)
    assert len(set(vector)) == len(vector)


@pytest.mark.parametrize("want", CHIPS, ids="/".join)
def test_selection_among_all_platforms_follows_the_documented_rules(want: tuple[str, str]) -> None:
    entries = [Platform("linux", *have) for have in CHIPS]

    selection = select(entries, Platform("linux", *want))

    ranks = [(expected_rank(want, have), place) for place, have in enumerate(CHIPS)]
    by_rule = sorted((rank, place) for rank, place in ranks if rank is not None)
    assert selection.ranking == tuple(place for _, place in by_rule)


@pytest.mark.parametrize("want", CHIPS, ids="/".join)
def test_386_follows_every_amd64_level(want: tuple[str, str]) -> None:
    vector = [chip for chip, _ in BUILTIN.vector(BUILTIN.chip(*want))]

    assert (("386", "") in vector) == (want[0] == "amd64")
    if want[0] == "amd64":
        assert vector[-1] == ("386", "")


def test_newer_variant_is_known_only_for_ordered_variants() -> None:
    assert BUILTIN.newer(("amd64", "v3"), ("amd64", "")) is True
    assert BUILTIN.newer(("arm", "v4"), ("arm", "v7")) is False
    assert BUILTIN.newer(("arm64", "v9"), ("arm64", "v8.5")) is True
    assert BUILTIN.newer(("arm64", "v8.2"), ("arm64", "v9")) is False
    assert BUILTIN.newer(("arm64", "v8.6"), ("arm64", "v9")) is None
    assert BUILTIN.newer(("riscv64", "rva22u64"), ("riscv64", "")) is True
    assert BUILTIN.newer(("s390x", "z15"), ("s390x", "")) is None
    assert BUILTIN.newer(("amd64", "v100"), ("amd64", "")) is None


@pytest.mark.parametrize("architecture", FACTS.architectures)
def test_every_architecture_has_a_finite_list_that_starts_with_itself(
    architecture: str,
) -> None:
    vector = BUILTIN.vector(BUILTIN.chip(architecture, ""))

    assert vector[0][0][0] == architecture
    assert len(vector) < 100


def test_ci_runner_is_found_for_a_platform() -> None:
    assert BUILTIN.runner(Platform.parse("linux/amd64")) == "ubuntu-24.04"
    assert BUILTIN.runner(Platform.parse("linux/aarch64")) == "ubuntu-24.04-arm"
    assert BUILTIN.runner(Platform.parse("windows/amd64")) == "windows-2025"
    assert BUILTIN.runner(Platform.parse("windows/amd64:ltsc2022")) == "windows-2022"
    assert BUILTIN.runner(Platform.parse("windows/amd64:10.0.20348.887")) == "windows-2022"
    assert BUILTIN.runner(Platform.parse("windows/amd64:ltsc2019")) is None
    assert BUILTIN.runner(Platform.parse("linux/s390x")) is None
    assert BUILTIN.runner(Platform.parse("linux/amd64"), provider="other") is None


def test_first_matching_ci_runner_is_used() -> None:
    mine = Runner("github", "mine", "linux", "amd64")
    table = PlatformTable(FACTS._replace(runners=(mine, *FACTS.runners)))

    assert table.runner(Platform.parse("linux/amd64")) == "mine"
