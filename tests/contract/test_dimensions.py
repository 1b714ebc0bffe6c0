"""Contract of every row of DIMENSIONS."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from resolver.core.compare.compare import Terms, compare_builds
from resolver.core.compare.drift import ASPECTS, DIMENSIONS, Dimension, Ignoring, Unit, drift_of
from resolver.render import RENDERERS, render
from tests.kit.builds import build, gathered, layer, step

if TYPE_CHECKING:
    from resolver.core.compare.builds import Build

#: One build without values, and one with a value in every dimension.
SILENT = build("linux/amd64")
TALKATIVE = build(
    "linux/arm64",
    [layer("base", 1_000)],
    history=[step("ADD base")],
    annotations={"org.example.note": "hello"},
    needs=[("cpu", "Armv8.1 (seen)")],
    created="2024-05-01T12:00:00Z",
    author="somebody",
    os_version="10.0.1",
    user="65532",
    working_dir="/srv",
    stop_signal="SIGQUIT",
    env=("PATH=/bin", "LANG=C"),
    entrypoint=("/app",),
    cmd=("serve", "--all"),
    exposed_ports=("80/tcp",),
    volumes=("/data",),
    labels=(("a", "b"),),
    healthcheck='{"Test":["NONE"]}',
)
KINDS: dict[Unit, type] = {Unit.BYTES: int, Unit.COUNT: int, Unit.TEXT: str}
DRIFTING = [each for each in DIMENSIONS if each.drifts]


def name(dimension: Dimension) -> str:
    return dimension.name


def test_dimension_names_are_unique_cli_words() -> None:
    names = [each.name for each in DIMENSIONS]

    assert len(set(names)) == len(names)
    assert all(each and each.replace("-", "").replace(".", "").isalpha() for each in names)


@pytest.mark.parametrize("dimension", DIMENSIONS, ids=name)
@pytest.mark.parametrize("side", [SILENT, TALKATIVE], ids=["silent", "talkative"])
def test_dimension_value_matches_its_unit_and_is_stable(dimension: Dimension, side: Build) -> None:
    value = dimension.look(side)

    assert value == dimension.look(side)
    assert isinstance(value, KINDS.get(dimension.unit, tuple))
    if isinstance(value, tuple) and dimension.unit is Unit.PAIRS:
        assert list(value) == sorted(dict(value).items())  # type: ignore[arg-type]  # pairs
    elif isinstance(value, tuple):
        assert all(isinstance(each, str) for each in value)


@pytest.mark.parametrize("dimension", DIMENSIONS, ids=name)
def test_dimension_without_values_is_empty(dimension: Dimension) -> None:
    assert not dimension.look(SILENT)
    assert dimension.look(TALKATIVE)


@pytest.mark.parametrize("dimension", DIMENSIONS, ids=name)
def test_dimension_has_a_title_and_an_aspect(dimension: Dimension) -> None:
    assert dimension.title
    assert dimension.aspect in ASPECTS


@pytest.mark.parametrize("dimension", DRIFTING, ids=name)
def test_dimension_difference_is_drift_and_can_be_ignored(dimension: Dimension) -> None:
    found = [each.dimension for each in drift_of([SILENT, TALKATIVE], Ignoring())]
    left = drift_of([SILENT, TALKATIVE], Ignoring.read([dimension.name]))

    assert dimension.name in found
    assert dimension.name not in {each.dimension for each in left}


@pytest.mark.parametrize("dimension", DRIFTING, ids=name)
@pytest.mark.parametrize("form", [form for form, row in RENDERERS.items() if row.draws != "word"])
def test_every_format_renders_drift_of_a_dimension(dimension: Dimension, form: str) -> None:
    builds = [SILENT, TALKATIVE]
    others = [each.name for each in DRIFTING if each is not dimension]
    terms = Terms(ignoring=Ignoring.read(others))

    output = render(compare_builds(gathered(*builds), builds, terms), form, full=True)

    key = drift_of(builds, terms.ignoring)[0].key or dimension.name
    assert key in output.replace("\\", "")


def test_json_has_every_dimension_of_every_build() -> None:
    builds = [SILENT, TALKATIVE]

    output = json.loads(render(compare_builds(gathered(*builds), builds, Terms()), "json"))

    for written in output["platforms"]:
        assert list(written["dimensions"]) == [each.name for each in DIMENSIONS]
