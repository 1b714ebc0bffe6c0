"""Checking: counted builds, findings, and independence of order."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resolver.core.check.check import (
    ROWS,
    RULES,
    Checkable,
    CheckedBuild,
    Requirements,
    counting,
    image_findings,
    like,
    matches,
    parse_age,
    parse_attestation,
)
from resolver.core.lint.findings import Finding, Severity
from resolver.core.oci.manifest import in_words, read_moment
from resolver.core.platforms.platform import BUILTIN, Platform
from resolver.core.platforms.select import select
from resolver.errors import Usage

NOW = datetime(2026, 6, 1, 12, tzinfo=UTC)
P = Platform.parse

#: Platforms as people and indexes spell them.
SPELLINGS = [
    "linux/amd64",
    "linux/x86_64",
    "linux/amd64/v2",
    "linux/386",
    "linux/arm64",
    "linux/aarch64",
    "linux/arm64/v8",
    "linux/arm64/v9",
    "linux/arm",
    "linux/arm/v6",
    "linux/arm/v7",
    "linux/riscv64",
    "windows/amd64",
    "windows/amd64:10.0.20348",
    "windows/amd64:10.0.20348.2700",
    "windows/amd64:10.0.26100.1742",
]
platforms = st.sampled_from(SPELLINGS).map(P)


def built(*texts: str, **more: object) -> tuple[CheckedBuild, ...]:
    return tuple(
        CheckedBuild(P(text) if text else None, f"sha256:{number}", **more)  # type: ignore[arg-type]
        for number, text in enumerate(texts)
    )


def image(builds: tuple[CheckedBuild, ...], wanted: Requirements) -> Checkable:
    return Checkable("reg.test/app:1", "sha256:root", builds, wanted, BUILTIN, NOW)


def found(builds: tuple[CheckedBuild, ...], wanted: Requirements) -> list[tuple[str, str]]:
    return [(each.rule, each.message) for each in image_findings(image(builds, wanted))]


# Source: docs/platform-matching.md, "Exact matching".
@pytest.mark.parametrize(
    ("wanted", "offered", "expected"),
    [
        ("linux/amd64", "linux/x86_64", True),
        ("linux/arm64", "linux/aarch64", True),
        ("linux/arm64", "linux/arm64/v8", True),
        ("linux/arm/v7", "linux/arm", True),
        ("linux/amd64", "linux/amd64/v1", True),
        ("linux/amd64", "linux/amd64/v2", False),
        ("linux/amd64/v2", "linux/amd64", False),
        ("linux/amd64", "linux/386", False),
        ("linux/arm64", "linux/arm/v7", False),
        ("linux/arm/v7", "linux/arm/v6", False),
        ("darwin/arm64", "linux/arm64", False),
        # Windows: a version is the beginning of what is offered, number by number
        ("windows/amd64", "windows/amd64:10.0.20348.2700", True),
        ("windows/amd64:10.0", "windows/amd64:10.0.20348.2700", True),
        ("windows/amd64:10.0.20348", "windows/amd64:10.0.20348.2700", True),
        ("windows/amd64:ltsc2022", "windows/amd64:10.0.20348.2700", True),
        ("windows/amd64:10.0.20348.2700", "windows/amd64:10.0.20348.2700", True),
        ("windows/amd64:10.0.20348.2701", "windows/amd64:10.0.20348.2700", False),
        ("windows/amd64:10.0.2034", "windows/amd64:10.0.20348.2700", False),
        ("windows/amd64:10.0.26100", "windows/amd64:10.0.20348.2700", False),
        ("windows/amd64:10.0.20348", "windows/amd64", False),
        # other systems' versions, and features
        ("linux/amd64:5.10", "linux/amd64:6.1", False),
        ("linux/amd64:5.10", "linux/amd64", False),
        ("linux/amd64:5.10", "linux/amd64:5.10", True),
        ("freebsd/amd64:16.0", "freebsd/amd64:14.1", False),
        ("freebsd/amd64", "freebsd/amd64:14.1", True),
        ("windows/amd64", "windows(10.0.1+win32k)/amd64", True),
        ("linux/amd64", "linux(+gpu)/amd64", False),
        ("linux(+gpu)/amd64", "linux(+gpu)/amd64", True),
        ("linux(+gpu)/amd64", "linux/amd64", False),
    ],
)
def test_required_platform_matches_in_any_spelling(
    wanted: str, offered: str, expected: bool
) -> None:
    assert matches(P(wanted), P(offered), BUILTIN) is expected


@given(platforms, platforms)
def test_exact_platform_is_also_compatible(wanted: Platform, offered: Platform) -> None:
    if matches(wanted, offered, BUILTIN):
        assert select([offered], wanted).index == 0


@given(st.lists(platforms), st.lists(platforms))
def test_image_passes_only_when_every_requirement_is_offered(
    offered: list[Platform], required: list[Platform]
) -> None:
    builds = tuple(CheckedBuild(platform, f"sha256:{n}") for n, platform in enumerate(offered))
    missing = {
        str(want)
        for want in required
        if not any(matches(want, platform, BUILTIN) for platform in offered)
    }
    findings = image_findings(image(builds, Requirements(require=tuple(required))))

    assert {each.platform for each in findings} == missing
    assert len(findings) == len(missing)
    assert all(each.severity is Severity.ERROR for each in findings)


@given(st.lists(platforms, unique=True), st.data())
def test_check_does_not_depend_on_index_order(offered: list[Platform], data: st.DataObject) -> None:
    builds = tuple(
        CheckedBuild(platform, f"sha256:{platform}", "2026-01-01T00:00:00Z", frozenset())
        for platform in offered
    )
    shuffled = tuple(data.draw(st.permutations(builds)))
    wanted = Requirements(
        forbid=(P("linux/386"),),
        only=(P("linux/amd64"), P("windows/amd64")),
        attestations=("sbom",),
        max_age=86_400,
    )

    assert image_findings(image(builds, wanted)) == image_findings(image(shuffled, wanted))


@given(st.lists(platforms, min_size=1), platforms)
def test_compatible_platform_is_the_one_resolve_selects(
    offered: list[Platform], wanted: Platform
) -> None:
    builds = tuple(CheckedBuild(platform, f"sha256:{n}") for n, platform in enumerate(offered))
    findings = image_findings(image(builds, Requirements(require=(wanted,), compatible=True)))

    runs = select(offered, wanted).index is not None
    same = any(matches(wanted, platform, BUILTIN) for platform in offered)
    assert bool(findings) is not (runs or same)


@given(st.lists(platforms, min_size=1))
def test_check_image_has_the_same_platforms_as_itself(offered: list[Platform]) -> None:
    builds = tuple(CheckedBuild(platform, f"sha256:{n}") for n, platform in enumerate(offered))

    assert image_findings(image(builds, like(Requirements(), tuple(offered)))) == ()


def test_missing_platform_names_the_nearest_one() -> None:
    builds = built("linux/amd64", "linux/arm/v7", "windows/amd64:10.0.20348.2700")
    wanted = ["linux/386", "linux/arm64", "linux/arm/v6", "linux/s390x", "darwin/amd64"]
    wanted += ["windows/amd64:10.0.20348.1", "windows/amd64:10.0.17763", "linux/amd64/v3"]
    required = Requirements(require=tuple(map(P, wanted)))

    all_there_is = "`linux/amd64`, `linux/arm/v7`, `windows/amd64:10.0.20348.2700`"
    assert [message for _rule, message in found(builds, required)] == [
        "`darwin/amd64` is not offered; nearest is `linux/amd64`: other operating system",
        f"`linux/386` is not offered; it offers {all_there_is}",
        (
            "`linux/amd64/v3` is not offered; nearest is `linux/amd64`, which runs there "
            "(`--compatible` accepts it)"
        ),
        (
            "`linux/arm/v6` is not offered; nearest is `linux/arm/v7`: "
            "needs arm/v7, newer than the requested v6"
        ),
        (
            "`linux/arm64` is not offered; nearest is `linux/arm/v7`, which runs there "
            "(`--compatible` accepts it)"
        ),
        f"`linux/s390x` is not offered; it offers {all_there_is}",
        (
            "`windows/amd64:10.0.17763` is not offered; "
            "nearest is `windows/amd64:10.0.20348.2700`: "
            "Windows build 20348 is newer than the host's 17763"
        ),
        (
            "`windows/amd64:10.0.20348.1` is not offered; "
            "nearest is `windows/amd64:10.0.20348.2700`, which runs there "
            "(`--compatible` accepts it)"
        ),
    ]
    hints = {each.hint for each in image_findings(image(builds, required))}
    assert hints == {
        "it is offered for `linux/amd64`, `linux/arm/v7`, `windows/amd64:10.0.20348.2700`"
    }
    assert found((), Requirements(require=(P("linux/amd64"),))) == [
        ("platform-missing", "`linux/amd64` is not offered")
    ]


def test_only_rejects_entries_without_a_platform_but_not_unknown() -> None:
    builds = (CheckedBuild(Platform("unknown", "unknown"), "sha256:a"), *built("linux/amd64", ""))

    assert found(builds, Requirements(only=(P("linux/amd64"),))) == [
        (
            "platform-not-allowed",
            "a build has no platform, and the allowed platforms are `linux/amd64`",
        )
    ]
    assert found(builds, Requirements(forbid=(P("linux/386"),))) == []
    assert [str(each) for each in image(builds, Requirements()).offered] == ["linux/amd64"]


def test_windows_revision_does_not_change_the_platform() -> None:
    like_this = like(Requirements(), (P("windows/amd64:10.0.20348.1"), P("linux/amd64")))

    assert found(built("linux/amd64", "windows/amd64:10.0.20348.2700"), like_this) == []


def test_forbidden_platform_matches_exactly() -> None:
    builds = built("linux/i386", "linux/amd64", "windows/amd64:10.0.20348.1")
    wanted = Requirements(forbid=(P("linux/386"), P("linux/386"), P("windows/amd64")))

    assert found(builds, wanted) == [
        ("platform-forbidden", "`linux/386` is offered, but forbidden"),
        ("platform-forbidden", "`windows/amd64:10.0.20348.1` is offered, but forbidden"),
    ]


def test_age_and_attestations_are_checked_for_required_builds() -> None:
    listed = [P("linux/amd64"), None, P("linux/arm64"), P("linux/arm64/v8"), P("linux/386")]
    unknown = Platform("unknown", "unknown")

    def chosen(**wanted: object) -> tuple[int, ...]:
        return counting(listed, Requirements(**wanted), BUILTIN)  # type: ignore[arg-type]

    assert chosen() == (0, 1, 2, 3, 4)
    assert counting([unknown, None], Requirements(), BUILTIN) == (1,)
    assert chosen(require=(P("linux/arm64"),)) == (2, 3)
    assert chosen(require=(P("linux/s390x"),)) == ()
    assert chosen(require=(P("linux/amd64/v2"),)) == ()
    assert chosen(require=(P("linux/amd64/v2"),), compatible=True) == (0,)


def test_attestations_of_no_image_are_missing() -> None:
    wanted = Requirements(attestations=("signature",))

    assert found((), wanted) == [
        ("attestation-missing", "there is no image whose attestations could be checked")
    ]
    assert found((), Requirements(max_age=60)) == []


def test_missing_attestation_lists_existing_predicate_types() -> None:
    builds = (
        CheckedBuild(P("linux/amd64"), "sha256:a", None, frozenset({"provenance"})),
        CheckedBuild(P("linux/arm64"), "sha256:b", None, frozenset({"provenance", "sbom"})),
        CheckedBuild(None, "sha256:c", None, frozenset()),
    )

    assert found(builds, Requirements(attestations=("sbom", "provenance", "sbom"))) == [
        (
            "attestation-missing",
            "the build without a platform has no attestation of kind `provenance`",
        ),
        ("attestation-missing", "the build without a platform has no attestation of kind `sbom`"),
        (
            "attestation-missing",
            "`linux/amd64` has no attestation of kind `sbom`; it has `provenance`",
        ),
    ]


@pytest.mark.parametrize(
    ("created", "rule"),
    [
        ("2026-03-03T12:00:00Z", ""),
        ("2026-03-03T11:59:59Z", "too-old"),
        ("2026-06-02T11:00:00Z", ""),
        ("2026-06-02T12:00:01Z", "age-unknown"),
        ("1970-01-01T00:00:00Z", "age-unknown"),
        ("0001-01-01T00:00:00Z", "age-unknown"),
        ("", "age-unknown"),
        ("yesterday", "age-unknown"),
    ],
)
def test_age_is_known_or_reported_as_unknown(created: str, rule: str) -> None:
    findings = found(built("linux/amd64", created=created), Requirements(max_age=90 * 86_400))

    assert [name for name, _message in findings] == ([rule] if rule else [])


def test_age_is_formatted_in_words() -> None:
    builds = (
        CheckedBuild(P("linux/amd64"), "sha256:a", "2026-05-30T12:00:00Z"),
        CheckedBuild(P("linux/arm64"), "sha256:b", "1970-01-01T00:00:00Z"),
        CheckedBuild(P("linux/386"), "sha256:c", ""),
    )

    assert found(builds, Requirements(max_age=3_600)) == [
        ("too-old", "`linux/amd64` was made 2 days ago (2026-05-30); the limit is 1 hour"),
        (
            "age-unknown",
            "`linux/386` does not state when it was made: it has no date",
        ),
        (
            "age-unknown",
            "`linux/arm64` does not state when it was made: its date is `1970-01-01T00:00:00Z`",
        ),
    ]
    assert [in_words(hours * 3_600) for hours in (0, 1, 47, 48, 49, 24 * 90)] == [
        "0 hours",
        "1 hour",
        "47 hours",
        "2 days",
        "2 days",
        "90 days",
    ]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2024-05-01T10:00:00Z", datetime(2024, 5, 1, 10, tzinfo=UTC)),
        ("2024-05-01t10:00:00.123456789z", datetime(2024, 5, 1, 10, tzinfo=UTC)),
        ("2024-05-01T10:00:00+02:00", datetime(2024, 5, 1, 8, tzinfo=UTC)),
        ("2024-05-01T10:00:00-02:30", datetime(2024, 5, 1, 12, 30, tzinfo=UTC)),
        ("2016-12-31T23:59:60Z", datetime(2016, 12, 31, 23, 59, 59, tzinfo=UTC)),
        ("2013-03-23T00:00:00Z", datetime(2013, 3, 23, tzinfo=UTC)),
        ("2013-03-22T23:59:59Z", None),
        ("1980-01-01T00:00:01Z", None),
        ("0001-01-01T00:00:00+23:59", None),
        ("9999-12-31T23:59:59-23:59", datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC)),
        ("2024-02-30T10:00:00Z", None),
        ("2024-05-01T10:00:61Z", None),
        ("2024-05-01T10:00:00+24:00", None),
        ("2024-05-01T10:00:00", None),
        ("2024-05-01 10:00:00Z", None),
        ("2024-05-01T10:00:00Z\n", None),
        ("٢٠٢٤-05-01T10:00:00Z", None),
        ("2024-05-01T10:00:00." + "1" * 60 + "Z", None),
    ],
)
def test_date_is_parsed_strictly(text: str, expected: datetime | None) -> None:
    moment = read_moment(text)

    if text.startswith("9999"):
        assert moment is not None
        assert moment.year == 9999
    else:
        assert moment == expected


@given(st.integers(1_370_000_000, 4_000_000_000).map(lambda at: datetime.fromtimestamp(at, UTC)))
def test_formatted_date_is_parsed_back(moment: datetime) -> None:
    read = read_moment(moment.isoformat())

    assert read == moment


@given(st.text(max_size=40))
def test_any_text_is_parsed_as_a_date_or_none(text: str) -> None:
    assert read_moment(text) is None or text[:4].isascii()


def test_requirements_are_parsed_from_the_command_line() -> None:
    assert [parse_age(text) for text in ("12h", "90d", "8w", "1y")] == [
        43_200,
        7_776_000,
        4_838_400,
        31_536_000,
    ]
    for text in ("90", "d", "-1d", "0d", "1.5d", "1 d", "\u0661d", "123456d", "1m", "90d\n"):
        with pytest.raises(Usage, match="is not an age"):
            parse_age(text)
    assert parse_attestation("sbom") == "sbom"
    with pytest.raises(Usage, match="not a kind of attestation") as caught:
        parse_attestation("vex")
    assert caught.value.hints() == ("choose from `sbom`, `provenance`, `signature`",)


def test_every_check_rule_has_an_explanation() -> None:
    assert len({rule.id for rule in RULES}) == len(ROWS)
    for rule in RULES:
        assert rule.title
        assert rule.explanation.endswith(".")
    assert Requirements().is_empty
    assert not Requirements(lint=Severity.ERROR).is_empty
    assert isinstance(
        image_findings(image((), Requirements(require=(P("linux/amd64"),))))[0], Finding
    )


def test_number_of_named_platforms_is_limited() -> None:
    builds = built("linux/amd64", "linux/arm64", "linux/arm/v7", "linux/ppc64le", "linux/s390x")
    required = Requirements(require=(P("linux/riscv64"),))
    four = "`linux/amd64`, `linux/arm64`, `linux/arm/v7`, `linux/ppc64le`"

    [(_rule, fewer)] = found(builds[:4], required)
    [(_rule, more)] = found(builds, required)
    [(_rule, none)] = found((), required)
    assert fewer == f"`linux/riscv64` is not offered; it offers {four}"
    assert more == f"`linux/riscv64` is not offered; it offers {four} and 1 more"
    assert none == "`linux/riscv64` is not offered"
