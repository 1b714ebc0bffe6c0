"""The generated reference: man page, JSON Schemas and API page are current and true."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from jsonschema import Draft202012Validator, ValidationError

import resolver
from resolver.cli import app
from resolver.demo import samples
from resolver.verbs.serve.api import MemoryShelf
from resolver.verbs.serve.server import serve
from tests.cli.test_ci_output import ASKED
from tests.kit.processes import ROOT, command

if TYPE_CHECKING:
    from collections.abc import Iterator

_SPEC = importlib.util.spec_from_file_location("reference", ROOT / "scripts" / "reference.py")
assert _SPEC is not None
assert _SPEC.loader is not None
REFERENCE: Any = importlib.util.module_from_spec(_SPEC)
sys.modules["reference"] = REFERENCE
_SPEC.loader.exec_module(REFERENCE)
SCHEMAS = ROOT / "docs" / "schemas"
#: The schema of the answer of each command, where a command has one.
ANSWERS = {
    "resolve": "resolution",
    "platforms": "offers",
    "inspect": "inspection",
    "tags": "tags",
    "plan": "plan",
    "pull": "pulled",
    "export": "exported",
    "ls": "image-listing",
    "rm": "removed",
    "gc": "collected",
    "verify": "verified",
    "du": "disk-usage",
    "compare": "comparison",
    "check": "checked",
    "lint": "linted",
    "matrix": "matrix",
    "logout": "logged-out",
    "pin": "pinned",
    "lock": "locked",
    "doctor": "checkup",
    "attestations": "attestations",
    "copy": "copied",
    "index": "index-written",
    "needs": "needs",
}


def validator(name: str) -> Draft202012Validator:
    schema = json.loads((SCHEMAS / f"{name}.json").read_text("utf-8"))
    Draft202012Validator.check_schema(schema)
    return Draft202012Validator(schema)


@pytest.fixture(scope="module")
def registry() -> Iterator[str]:
    with serve(MemoryShelf(samples())) as server:
        yield server.address


def answer(*words: str, status: int = 0) -> Any:
    """Run a command with `--json` and return its answer."""
    done = command(*words, "--json")
    assert done.returncode == status, done.stderr.decode()
    return json.loads(done.stdout)


def test_reference_is_current() -> None:
    stale = [
        path.relative_to(ROOT)
        for path, text in REFERENCE.generated().items()
        if not path.exists() or path.read_text("utf-8") != text
    ]

    assert stale == [], "scripts/reference.py --write"


def test_man_page_has_every_command_with_its_options() -> None:
    page = (ROOT / "docs" / "resolver.1").read_text("utf-8")

    plain = page.replace("\\-", "-")
    assert [row[1] for row in app.COMMANDS if f"\n.B resolver {row[1]}" not in plain] == []
    assert "\\fB\\-p, \\-\\-platform PLATFORM\\fR" in page
    # A line of text must not begin a macro by accident.
    macros = {line.split()[0] for line in page.splitlines() if line.startswith((".", "'"))}
    assert macros <= {
        '.\\"', ".TH", ".SH", ".SS", ".B", ".BR", ".I", ".PP", ".TP", ".EX", ".EE"
    }  # fmt: skip


@pytest.mark.parametrize("name", sorted(set(ANSWERS) - {"rm", "gc", "verify", "du"}))
def test_schema_fits_the_answer_of_each_command(
    registry: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("RESOLVER_STORE", str(tmp_path / "store"))
    known = {"app": f"{registry}/demo/app:1.0", "repository": f"{registry}/demo/app"}
    Path("Dockerfile").write_text(f"FROM {known['app']}\n")
    if name in {"export", "ls"}:
        assert command("pull", known["app"], "-p", "linux/arm64", "-q").returncode == 0

    found = answer(name, *(word.format(**known) for word in ASKED[name]))
    check = validator(ANSWERS[name])

    check.validate(found)
    required = json.loads((SCHEMAS / f"{ANSWERS[name]}.json").read_text("utf-8"))["required"]
    assert len(required) > 2
    for field in required:
        with pytest.raises(ValidationError):
            check.validate({key: value for key, value in found.items() if key != field})


def test_schema_fits_the_answers_about_a_store(
    registry: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RESOLVER_STORE", str(tmp_path / "store"))
    image = f"{registry}/demo/app:1.0"
    answer("pull", image, "-p", "linux/arm64")

    for name in ("du", "verify"):
        validator(ANSWERS[name]).validate(answer(name))
    validator("removed").validate(answer("rm", image))
    validator("collected").validate(answer("gc"))


def test_schema_fits_other_answers_of_the_same_commands(
    registry: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("RESOLVER_STORE", str(tmp_path / "store"))
    image, other = f"{registry}/demo/app:1.0", f"{registry}/demo/app:2.0"
    missing = f"{registry}/demo/nope:1"

    validator("inspection").validate(answer("inspect", image, "-p", "linux/arm64"))
    validator("resolution").validate(answer("resolve", image, "-p", "linux/arm64", "--explain"))
    validator("image-comparison").validate(answer("compare", image, other, status=1))
    validator("comparison").validate(answer("compare", image, "--files"))
    validator("error").validate(answer("resolve", missing, status=3))
    batch = answer("resolve", image, missing, "-p", "linux/arm64", status=3)
    validator("batch").validate(batch)
    validator("resolution").validate(batch["results"][0])
    validator("failure").validate(batch["results"][1])
    checked = answer("check", image, missing, "--require", "linux/s390x", status=3)
    validator("checked").validate(checked)
    answer("lock", image)
    validator("lock-check").validate(answer("lock", "--check"))


def test_every_answer_has_a_schema() -> None:
    names = {row.name for row in REFERENCE.answers()}

    assert {*names, "batch"} == {path.stem for path in SCHEMAS.glob("*.json")}
    assert set(ANSWERS.values()) <= names
    # It prints the configuration of another tool.
    assert set(ASKED) - set(ANSWERS) == {"mirror-config"}


def test_api_page_has_every_public_name() -> None:
    page = (ROOT / "docs" / "api.md").read_text("utf-8")
    headings = {line.lstrip("# ") for line in page.splitlines() if line.startswith("#")}

    public = {name for name in resolver.__all__ if not name.startswith("__")}
    assert public - headings == {"Observer"}
    assert " at 0x" not in page
