"""Follow every citation of docs/, and every link and path in the pages."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from tests.kit.processes import ROOT
from tests.test_house import HOUSE

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

PAGES = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md")),
    *sorted((ROOT / "docs").glob("*.md")),
]
#: Folders that paths in the pages are relative to.
BASES = [ROOT, ROOT / "resolver"]
#: Paths in the repositories of other projects: containerd's.
FOREIGN = {"docs/hosts.md", "core/remotes/docker/config/hosts.go"}
#: Files that contain prose besides Python: scripts without a suffix, and settings.
OTHERS = [ROOT / "platforms.yaml", ROOT / "pyproject.toml"]

each_page = pytest.mark.parametrize("page", PAGES, ids=[path.name for path in PAGES])


def files(folder: str) -> Iterator[Path]:
    """Yield the sources of a folder, apart from data."""
    for path in sorted((ROOT / folder).rglob("*")):
        if path.is_file() and "data" not in path.parts and "__pycache__" not in path.parts:
            yield path


def anchors(page: Path) -> set[str]:
    """Return the anchors of a page, as GitHub derives them from its headings."""
    headings = re.findall(r"(?m)^#+ (.+)$", re.sub(r"(?s)```.*?```", "", page.read_text()))
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("folder", ["resolver", "tests", "scripts"])
def test_citations_lead_to_headings(folder: str) -> None:
    others = OTHERS if folder == "resolver" else []

    assert HOUSE.citations([*files(folder), *others]) == []


def test_citation_search_finds_missing_pages_and_headings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(HOUSE, "ROOT", tmp_path)
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "wire.md").write_text("# Wire\n\n## Two words\n")
    source = tmp_path / "module.py"
    source.write_text(
        '"""See docs/wire.md, "Two\nwords", and docs/wire.md."""\n'
        '#: As docs/wire.md,\n#: "Two words" says; containerd docs/hosts.md too.\n'
        'D1 = f"{D2} R30"  # docs/wire.md, "Three words"\n'
        "# docs/other.md\n"
        "# R33\n"
        "# protocol.md 4.5\n"
    )

    assert HOUSE.citations([source]) == [
        'module.py:5: docs/wire.md, "Three words"',
        "module.py:6: docs/other.md",
        "module.py:7: R33",
        "module.py:8: protocol.md",
    ]


@each_page
def test_relative_links_lead_to_files_and_headings(page: Path) -> None:
    broken = []
    for link in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
        if re.match(r"[a-z]+:", link):
            continue
        path, _, anchor = link.partition("#")
        target = page.parent / path if path else page
        if not target.exists() or (anchor and anchor not in anchors(target)):
            broken.append(link)

    assert broken == []


@each_page
def test_paths_in_code_spans_exist(page: Path) -> None:
    paths = re.findall(
        r"`((?:core|sources|store|verbs|render|cli|files|topics|tests|scripts|docs|resolver)/"
        r"[\w./-]*)`",
        page.read_text(),
    )
    real = [path for path in paths if "NAME" not in path and path not in FOREIGN]

    assert [path for path in real if not any((base / path).exists() for base in BASES)] == []


def test_heading_anchors_are_those_of_github(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("# One (two)\n\n```\n# not a heading\n```\n\n## fsync and --no-fsync\n")

    assert anchors(page) == {"one-two", "fsync-and---no-fsync"}
