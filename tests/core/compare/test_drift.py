"""Drift between builds, and ignore rules."""

from __future__ import annotations

import fnmatch

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resolver.core.compare.drift import MAX_RULE, MAX_RULES, Drift, Ignoring, drift_of
from resolver.errors import Usage
from tests.kit.builds import build


def drift(*rules: str, one: dict[str, object], other: dict[str, object]) -> list[Drift]:
    builds = [build("linux/amd64", **one), build("linux/arm64", **other)]  # type: ignore[arg-type]  # fields of a config
    return list(drift_of(builds, Ignoring.read(rules)))


def test_drift_lists_differences_by_key() -> None:
    found = drift(
        one={"env": ("A=1", "B=2", "ONLY=x"), "user": "root", "cmd": ("sh",)},
        other={"env": ("B=3", "A=1"), "user": "root", "cmd": ("sh", "-c")},
    )

    assert found == [
        Drift("cmd", "", (("sh",), ("sh", "-c"))),
        Drift("env", "B", ("2", "3")),
        Drift("env", "ONLY", ("x", None)),
    ]


def test_variable_set_to_an_empty_value_is_set() -> None:
    assert drift(one={"env": ("A=",)}, other={}) == [Drift("env", "A", ("", None))]


def test_last_value_of_a_repeated_variable_counts() -> None:
    assert drift(one={"env": ("A=1", "A=2")}, other={"env": ("A=2",)}) == []


def test_drift_groups_values_by_platform() -> None:
    assert Drift("env", "A", ("x", None, "x")).groups == (("x", (0, 2)), (None, (1,)))


def test_set_values_differ_by_presence() -> None:
    found = drift(one={"exposed_ports": ("80/tcp",)}, other={"exposed_ports": ("80/tcp", "81/tcp")})

    assert found == [Drift("ports", "81/tcp", (None, "yes"))]


@pytest.mark.parametrize(
    ("rule", "left"),
    [
        ("env", ["labels.org.a", "labels.org.b", "os.version"]),
        ("env.PATH", ["env.LANG", "labels.org.a", "labels.org.b", "os.version"]),
        ("env.L*", ["env.PATH", "labels.org.a", "labels.org.b", "os.version"]),
        ("labels.org.*", ["env.LANG", "env.PATH", "os.version"]),
        ("labels.org.?", ["env.LANG", "env.PATH", "os.version"]),
        ("os.version", ["env.LANG", "env.PATH", "labels.org.a", "labels.org.b"]),
        ("labels", ["env.LANG", "env.PATH", "os.version"]),
    ],
)
def test_ignore_rule_removes_what_it_names(rule: str, left: list[str]) -> None:
    one: dict[str, object] = {
        "env": ("LANG=C", "PATH=/a"),
        "labels": (("org.a", "1"), ("org.b", "1")),
        "os_version": "10.0.1",
    }

    assert [each.name for each in drift(rule, one=one, other={})] == left


def test_ignore_rules_skip_comments_and_blank_lines() -> None:
    rules = Ignoring.read(["# a comment", "", "  env.PATH  ", "\tannotations", "env.PATH"]).rules

    assert rules == ("env.PATH", "annotations")


@pytest.mark.parametrize(
    "rule", ["nothing", "PATH", "size", "layers.1", "user.name", "os", "cmd.0"]
)
def test_empty_ignore_rule_is_refused(rule: str) -> None:
    with pytest.raises(Usage, match=r"is not a known difference|has no keys"):
        Ignoring.read([rule])


def test_number_and_length_of_ignore_rules_are_limited() -> None:
    Ignoring.read([f"env.{n}" for n in range(MAX_RULES)])
    Ignoring.read(["env." + "x" * (MAX_RULE - 4)])

    with pytest.raises(Usage, match="1001 rules, and 1000") as many:
        Ignoring.read([f"env.{n}" for n in range(MAX_RULES + 1)])
    with pytest.raises(Usage, match="more than 1024") as long:
        Ignoring.read(["env." + "x" * (MAX_RULE - 3)])
    assert many.value.hints() == ("combine rules with `*`: `labels.com.example.*`",)
    assert long.value.hints() == ("shorten it with `*`: `labels.com.example.*`",)


@given(st.text("ab*?", max_size=8), st.text("ab", max_size=8))
def test_ignore_patterns_match_as_in_a_shell(pattern: str, key: str) -> None:
    ignoring = Ignoring.read([f"env.{pattern}"])

    assert ignoring.ignores("env", key) == fnmatch.fnmatchcase(key, pattern)


def test_ignore_pattern_with_many_stars_is_fast() -> None:
    ignoring = Ignoring.read(["labels." + "*a" * 300 + "b"])

    assert not ignoring.ignores("labels", "a" * 20_000)
