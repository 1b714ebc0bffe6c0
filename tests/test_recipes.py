"""The table "To add …" of CONTRIBUTING.md, followed on a copy of the package.

Each test changes only the files that the table names, so that a further place to edit fails it.
"""

from __future__ import annotations

import json
import re
import shutil
from typing import TYPE_CHECKING, Any

import pytest

from tests.kit.images import build_image, build_index
from tests.kit.processes import ROOT, python
from tests.kit.registry import FakeRegistry

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

RESULT = '''"""Counts of platforms."""
from resolver.values import dataclass

@dataclass(frozen=True, slots=True)
class Count:
    """The number of platforms of an image."""
    reference: str
    platforms: int
'''
VERB = '''"""Count the platforms of an image."""
from resolver.core.results.count import Count
from resolver.verbs.inspect import platforms

def count(context, reference):
    """Return the number of platforms."""
    return Count(reference, len(platforms(context, reference).offers))
'''
ANSWER = '''"""Counts as a report and as plain values."""
from resolver.render.report import Report

def report(answer, *, explain=False, full=False):
    """Return the report."""
    return Report(answer.reference, (("platforms", str(answer.platforms)),), ())

def plain(answer):
    """Return the plain values."""
    return {"reference": answer.reference, "platforms": answer.platforms}
'''
COMMAND = '''"""`resolver count`."""
from resolver.cli import options

@options.command
def count(common: options.Common, reference: options.Reference) -> None:
    """Count the platforms of REF."""
    from resolver.cli.run import open_session

    with open_session(common) as (session, output):
        output.show(session.count(reference), common.form)
'''
METHOD = '''
    def count(self, reference):
        """Return the number of platforms."""
        from resolver.verbs.count import count

        return count(self._context, reference)

    def resolve('''


class Package:
    """A copy of the package, and the files in it that were changed."""

    def __init__(self, folder: Path, store: Path) -> None:
        self.folder = folder
        self.store = store
        self.changed: set[str] = set()
        shutil.copytree(ROOT / "resolver", folder / "resolver")

    def write(self, path: str, text: str) -> None:
        self.changed.add(path)
        (self.folder / "resolver" / path).write_text(text)

    def edit(self, path: str, old: str, new: str) -> None:
        text = (self.folder / "resolver" / path).read_text()
        assert old in text, f"{path} has changed: adapt this test"
        self.write(path, text.replace(old, new, 1))

    def run(self, *arguments: str) -> str:
        done = python(
            "-m", "resolver", *arguments, "--store", str(self.store),
            environment={"PYTHONPATH": str(self.folder)}, cwd=self.folder, measured=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr.decode()
        return done.stdout.decode()


@pytest.fixture
def package(tmp_path: Path) -> Package:
    return Package(tmp_path / "package", tmp_path / "store")


@pytest.fixture
def image() -> Iterator[str]:
    with FakeRegistry() as registry:
        index = build_index([build_image("linux/amd64"), build_image("linux/arm64")])
        registry.serve("team/app", "1", index)
        yield f"{registry.host}/team/app:1"


def allowed(row: str) -> int:
    """Return the number of files that CONTRIBUTING.md names for a row."""
    match = re.search(
        rf"(?m)^\| {re.escape(row)} \| (\d+) \|", (ROOT / "CONTRIBUTING.md").read_text()
    )
    assert match is not None
    return int(match[1])


def test_adding_a_command_touches_the_files_of_contributing(package: Package, image: str) -> None:
    package.write("core/results/count.py", RESULT)
    package.write("verbs/count.py", VERB)
    package.write("render/answers/count.py", ANSWER)
    package.write("cli/count.py", COMMAND)
    package.edit(
        "cli/app.py",
        "COMMANDS = (",
        'COMMANDS = (("Ask", "count", "count", "Count the platforms of REF."),',
    )
    package.edit("session.py", "\n    def resolve(", METHOD)

    printed: Any = json.loads(package.run("count", image, "--json"))

    assert printed["platforms"] == 2
    assert package.run("count", image).startswith("platforms")
    assert len(package.changed) == allowed("a command") <= 6


def test_adding_a_format_touches_the_files_of_contributing(package: Package, image: str) -> None:
    row = (
        '\n    for row in (\n        Renderer("titles", "resolver.render.titles:titles", "answer"),'
    )
    package.write(
        "render/titles.py",
        '"""References."""\n\ndef titles(answer, **_):\n    return f"{answer.reference}\\n"\n',
    )
    package.edit("render/__init__.py", "\n    for row in (", row)

    assert package.run("platforms", image, "--format", "titles").rstrip() == image
    assert len(package.changed) == allowed("an output format") <= 2


def test_adding_a_lint_rule_touches_the_files_of_contributing(package: Package) -> None:
    rule = 'Rule("never", Severity.NOTE, "never found", "It has no findings.")'
    row = f"ROWS = (\n    LintRow({rule}, lambda subject: iter(())),"
    package.edit("core/lint/images.py", "ROWS = (", row)

    assert "never found" in package.run("lint", "--rules")
    assert len(package.changed) == allowed("a lint rule") <= 2


def test_adding_a_local_place_touches_the_files_of_contributing(
    package: Package, image: str, tmp_path: Path
) -> None:
    package.run("pull", image, "-p", "linux/arm64", "--no-progress")
    package.run("export", image, "-p", "linux/arm64", "--to", str(tmp_path / "layout"))
    package.write(
        "sources/local/box.py",
        '"""Boxes."""\nfrom resolver.sources.local.layout import open_folder\n\n'
        "def open_box(target):\n"
        '    """Open a box."""\n'
        "    return open_folder(target)\n",
    )
    package.edit(
        "sources/__init__.py",
        '    "oci": ',
        '    "box": "resolver.sources.local.box:open_box",\n    "oci": ',
    )
    package.edit(
        "core/oci/target.py", '    ("oci:", "oci"),', '    ("oci:", "oci"),\n    ("box:", "box"),'
    )
    place = f"box:{tmp_path / 'layout'}"

    assert package.run("resolve", place, "-p", "linux/arm64", "--format", "digest")
    assert package.run("plan", image, "-p", "linux/arm64", "--from", place)
    assert len(package.changed) == allowed("a local place (archive, daemon, …)") <= 3
