"""`resolver attestations`, as people and pipelines see it."""

from __future__ import annotations

import json
import re
import socket
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from inline_snapshot import snapshot
from jsonschema import Draft4Validator

from resolver.cli.output import Output
from resolver.errors import Usage
from resolver.render.text import Page
from tests.kit.attestations import IN_TOTO, SLSA, SPDX, bundle, manifest, refer, statement
from tests.kit.images import build_image, build_index
from tests.kit.processes import command
from tests.kit.registry import FakeRegistry
from tests.kit.sigstore import (
    IDENTITY,
    ISSUER,
    Deployment,
    compact,
    keyed_bundle,
    new_key,
    pem,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.cli.conftest import Run

#: The answer of `--format json`.
SCHEMA = {
    "$schema": "http://json-schema.org/draft-04/schema#",
    "definitions": {
        "text": {"type": ["string", "null"]},
        "state": {
            "enum": [
                "present", "verified", "wrong subject", "other subject", "invalid", "unreadable",
                "absent",
            ]
        },
        "kind": {"enum": ["signature", "sbom", "provenance", "other"]},
        "descriptor": {
            "type": "object",
            "required": ["mediaType", "digest", "size"],
            "additionalProperties": False,
            "properties": {
                "mediaType": {"type": "string"},
                "digest": {"type": "string"},
                "size": {"type": "integer"},
            },
        },
        "attestation": {
            "type": "object",
            "required": [
                "kind", "state", "type", "format", "found", "signer", "reason", "manifest", "blob",
            ],
            "additionalProperties": False,
            "properties": {
                "kind": {"$ref": "#/definitions/kind"},
                "state": {"$ref": "#/definitions/state"},
                "type": {"type": "string"},
                "format": {"type": "string"},
                "found": {
                    "type": "array",
                    "minItems": 1,
                    "items": {"enum": ["index entry", "referrer", "fallback tag", "cosign tag"]},
                },
                "signer": {"$ref": "#/definitions/text"},
                "reason": {"$ref": "#/definitions/text"},
                "manifest": {"$ref": "#/definitions/descriptor"},
                "blob": {"anyOf": [{"type": "null"}, {"$ref": "#/definitions/descriptor"}]},
            },
        },
    },
    "type": "object",
    "required": [
        "schema", "reference", "root", "pinned", "verifiedWith", "coverage", "findings", "warnings",
    ],
    "additionalProperties": False,
    "properties": {
        "schema": {"enum": [1]},
        "reference": {"type": "string"},
        "root": {"$ref": "#/definitions/descriptor"},
        "pinned": {"$ref": "#/definitions/text"},
        "verifiedWith": {"$ref": "#/definitions/text"},
        "coverage": {
            "type": "array",
            "minItems": 1,
            "items": {
                "type": "object",
                "required": ["name", "platform", "digest", "index", "states", "attestations"],
                "additionalProperties": False,
                "properties": {
                    "name": {"type": "string"},
                    "platform": {"type": ["object", "null"]},
                    "digest": {"type": "string"},
                    "index": {"type": "boolean"},
                    "states": {
                        "type": "object",
                        "required": ["signature", "sbom", "provenance", "other"],
                        "additionalProperties": {"$ref": "#/definitions/state"},
                    },
                    "attestations": {
                        "type": "array", "items": {"$ref": "#/definitions/attestation"},
                    },
                },
            },
        },
        "findings": {"type": "array"},
        "warnings": {"type": "array"},
    },
}  # fmt: skip

AMD64, ARM64 = build_image("linux/amd64"), build_image("linux/arm64")
INDEX = build_index([AMD64, ARM64])
DEPLOYMENT = Deployment()
KEY = new_key()
SBOM = statement(AMD64, predicate=SPDX, content={"spdxVersion": "SPDX-2.3"})


@pytest.fixture
def app() -> Iterator[str]:
    """An image whose arm64 has no SBOM, and whose index has one of amd64."""
    with FakeRegistry() as registry:
        registry.serve("app", "1", INDEX)
        one_sided = keyed_bundle(KEY, statement(AMD64, predicate=SPDX))
        refer(registry, INDEX, bundle(INDEX, one_sided, SPDX))
        refer(
            registry,
            AMD64,
            manifest((IN_TOTO, SBOM, {}), subject=AMD64, kind=IN_TOTO),
            bundle(AMD64, compact(DEPLOYMENT.sign(statement(AMD64)))),
        )
        forged = DEPLOYMENT.sign(statement(ARM64), identity="https://ci.example.com/fork")
        damaged = bundle(ARM64, b'{"mediaType": "\x1b[31m', SLSA)
        refer(registry, ARM64, bundle(ARM64, compact(forged)), damaged)
        yield f"{registry.host}/app:1"


@pytest.fixture
def trusted(run: Run, tmp_path: Path) -> list[str]:
    del run
    (tmp_path / "root.json").write_bytes(DEPLOYMENT.trusted_root())
    return ["--identity", IDENTITY, "--issuer", ISSUER, "--trusted-root", "root.json"]


def steady(printed: str) -> str:
    """Replace digests of signatures, which differ in every run."""
    known = (INDEX.digest, AMD64.digest, ARM64.digest)
    hidden = [
        found
        for found in set(re.findall("sha256:[0-9a-f]{12,64}", printed))
        if not any(digest.startswith(found) for digest in known)
    ]
    for found in sorted(hidden, key=len, reverse=True):
        printed = printed.replace(found, "sha256:".ljust(len(found), "0"))
    return printed


def test_attestations_table_without_trust(run: Run, app: str) -> None:
    assert steady(run("attestations", app).stdout) == snapshot("""\
image    HOST:PORT/app:1
index    sha256:0fd40e3fdf12e8a8880adf010d3a863d6e61eea561908867574c40da63e57192
trust    not verified: no key or identity was given

coverage
PLATFORM     SIGNATURE          SBOM                     PROVENANCE            OTHER
index        absent             wrong subject, referrer  absent                absent
linux/amd64  present, referrer  present, referrer        absent                absent
linux/arm64  present, referrer  absent                   unreadable, referrer  absent

attestations
PLATFORM     KIND        FORMAT                       SIGNER       MANIFEST             STATE
index        SBOM        Sigstore bundle, referrer    key          sha256:000000000000  wrong subject: it is about `sha256:4e10470a12dd`
linux/amd64  signature   Sigstore bundle, referrer    certificate  sha256:000000000000  present
linux/amd64  SBOM        in-toto statement, referrer  -            sha256:000000000000  present
linux/arm64  signature   Sigstore bundle, referrer    certificate  sha256:000000000000  present
linux/arm64  provenance  Sigstore bundle, referrer    -            sha256:000000000000  unreadable: the Sigstore bundle `sha256:000000000000` is malformed: it is not JSON, or cut short, at line 1, column 16
""")


def test_attestations_table_with_an_identity(run: Run, app: str, trusted: list[str]) -> None:
    seen = run("attestations", app, *trusted)

    assert seen.status == 0
    assert steady(seen.stdout) == snapshot("""\
image    HOST:PORT/app:1
index    sha256:0fd40e3fdf12e8a8880adf010d3a863d6e61eea561908867574c40da63e57192
trust    https://ci.example.com/release (https://oidc.example.com)

coverage
PLATFORM     SIGNATURE           SBOM                     PROVENANCE            OTHER
index        absent              wrong subject, referrer  absent                absent
linux/amd64  verified, referrer  present, referrer        absent                absent
linux/arm64  invalid, referrer   absent                   unreadable, referrer  absent

attestations
PLATFORM     KIND        FORMAT                       SIGNER                                                     MANIFEST             STATE
index        SBOM        Sigstore bundle, referrer    key                                                        sha256:000000000000  wrong subject: it is about `sha256:4e10470a12dd`
linux/amd64  signature   Sigstore bundle, referrer    https://ci.example.com/release (https://oidc.example.com)  sha256:000000000000  verified
linux/amd64  SBOM        in-toto statement, referrer  -                                                          sha256:000000000000  present: not signed
linux/arm64  signature   Sigstore bundle, referrer    certificate                                                sha256:000000000000  invalid: Certificate's SANs do not match https://ci.example.com/release; actual SANs: {'https://ci.example.com/fork'}
linux/arm64  provenance  Sigstore bundle, referrer    -                                                          sha256:000000000000  unreadable: the Sigstore bundle `sha256:000000000000` is malformed: it is not JSON, or cut short, at line 1, column 16
""")


def test_attestations_fit_a_terminal_of_80_columns(
    run: Run, app: str, trusted: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("resolver.cli.output.page", lambda: Page(80))
    printed = run("attestations", app, *trusted).stdout

    assert max(map(len, printed.splitlines())) <= 80
    for state in ("verified", "wrong", "invalid", "absent", "unreadable"):
        assert state in printed


def test_attestations_connect_to_the_registry_alone(
    run: Run, app: str, trusted: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    addresses: set[object] = set()
    connect = socket.socket.connect

    def noted(link: socket.socket, address: tuple[str, int]) -> None:
        addresses.add(address)
        connect(link, address)

    # httpx connects in Python, where it can be seen, as the library of Sigstore does.
    monkeypatch.setenv("RESOLVER_HTTP", "httpx")
    monkeypatch.setattr(socket.socket, "connect", noted)
    assert run("attestations", app, *trusted).status == 0

    host, _, port = app.partition("/")[0].partition(":")
    assert addresses == {(host, int(port))}


def test_attestations_with_nothing_verified_have_status_1(
    run: Run, app: str, trusted: list[str], tmp_path: Path
) -> None:
    (tmp_path / "other.pub").write_bytes(pem(new_key()))

    assert run("attestations", app, *trusted).status == 0
    assert run("attestations", app, "-p", "linux/arm64", *trusted).status == 1
    assert run("attestations", app, "--key", "other.pub").status == 1
    assert run("attestations", app, "-p", "linux/arm64").status == 0


def test_attestations_json_has_its_schema(run: Run, app: str, trusted: list[str]) -> None:
    for words in ((), trusted, ("-p", "linux/arm64")):
        answer = json.loads(run("attestations", app, "--format", "json", *words, keep=True).stdout)
        Draft4Validator(SCHEMA).validate(answer)
    answer = json.loads(run("attestations", app, "--json", *trusted, keep=True).stdout)
    assert {row["name"]: row["states"]["sbom"] for row in answer["coverage"]} == {
        "index": "wrong subject", "linux/amd64": "present", "linux/arm64": "absent",
    }  # fmt: skip
    assert answer["verifiedWith"] == f"{IDENTITY} ({ISSUER})"


@pytest.mark.parametrize("form", ["markdown", "html"])
def test_attestations_in_other_formats_escape_remote_text(run: Run, app: str, form: str) -> None:
    printed = run("attestations", app, "--format", form).stdout

    assert "wrong subject" in printed
    assert "\x1b" not in printed
    assert "linux/arm64" in printed


def test_attestations_reports_list_what_does_not_hold(
    run: Run, app: str, trusted: list[str]
) -> None:
    reports = ("sarif=r.sarif", "junit=r.xml", "markdown=r.md")
    words = [word for report in reports for word in ("--report", report)]
    run("attestations", app, *trusted, *words)

    (log,) = json.loads(Path("r.sarif").read_text())["runs"]
    assert sorted(result["ruleId"] for result in log["results"]) == [
        "attestation-invalid",
        "attestation-unreadable",
        "attestation-wrong-subject",
    ]
    assert {rule["id"] for rule in log["tool"]["driver"]["rules"]} == {
        result["ruleId"] for result in log["results"]
    }
    assert "attestation-invalid" in Path("r.xml").read_text()
    assert "wrong subject" in Path("r.md").read_text()


def test_check_reports_attestations(run: Run, app: str, trusted: list[str]) -> None:
    seen = run(
        "check", app, "--require-attestation", "sbom,signature", *trusted, "--report", "sarif=r"
    )

    assert seen.status == 1
    assert steady(seen.stdout) == snapshot("""\
error  attestation-missing   linux/arm64  `linux/arm64` has no attestation of kind `sbom`
error  attestation-unusable  linux/amd64  the sbom of `linux/amd64` does not count: not verified: not signed
error  attestation-unusable  linux/arm64  the signature of `linux/arm64` does not count: invalid: Certificate's SANs do not match https://ci.example.com/release; actual SANs: {'https://ci.example.com/fork'}
`HOST:PORT/app:1`: failed, 3 errors (2 platforms)
""")
    (log,) = json.loads(Path("r").read_text())["runs"]
    assert {result["ruleId"] for result in log["results"]} == {
        "attestation-missing",
        "attestation-unusable",
    }
    only = ("--require-attestation", "signature", *trusted)
    assert run("check", app, "--require", "linux/amd64", *only).status == 0
    assert run("check", app, *only, "--cover", "index").status == 1


def test_lint_and_compare_show_attestations(run: Run, app: str) -> None:
    assert "one-platform-sbom" in run("lint", app).stdout
    seen = run("compare", app, app, "--attestations")
    assert (seen.status, "attestations: none" in seen.stdout) == (0, True)
    for words in (("--format", "html"), ("--json",)):
        assert "attestations" in run("compare", app, app, "--attestations", *words).stdout
    assert run("compare", app, "--attestations").status == 2


def test_show_prints_the_document_alone(run: Run, app: str, tmp_path: Path) -> None:
    shown = run("attestations", app, "-p", "linux/amd64", "--show", "sbom", keep=True)

    assert (shown.status, shown.stdout.encode(), shown.stderr) == (0, SBOM, "")
    assert run("attestations", app, "-p", "linux/arm64", "--show", "sbom").status == 3
    seen = run("attestations", app, "--show", "sbom")
    assert seen.status == 1
    assert "is not shown, because it is wrong subject: it is about" in seen.stderr
    assert run("attestations", app, "--show", "sbom", "--json").status == 2
    (tmp_path / "other.pub").write_bytes(pem(new_key()))
    words = ("--show", "sbom", "--key", "other.pub")
    assert run("attestations", app, "-p", "linux/amd64", *words).status == 1


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--identity", "i"), "an identity is trusted together with its issuer"),
        (("--issuer", "u"), "an identity is trusted together with its issuer"),
        (("--trusted-root", "r"), "an identity is trusted together with its issuer"),
        (("--identity", "", "--issuer", "u"), "`--identity` is empty"),
        (("--key", " "), "`--key` is empty"),
        (("--key", "k", "--identity", "i", "--issuer", "u"), "exclude each other"),
        (("--key", "missing.pub"), "cannot read `missing.pub`"),
        (("--show", "vex"), "is not a kind of attestation"),
    ],
)
def test_attestations_refuse_half_of_a_trust(
    run: Run, app: str, words: tuple[str, ...], message: str
) -> None:
    seen = run("attestations", app, *words)
    assert seen.status == 2
    assert message in seen.stderr


def test_document_with_control_characters_stays_off_a_terminal(
    monkeypatch: pytest.MonkeyPatch, capsysbinary: pytest.CaptureFixture[bytes]
) -> None:
    output = Output()
    output.document(b"\x1b[31m")
    assert capsysbinary.readouterr().out == b"\x1b[31m"
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    output.document(b'{\n\t"a": "\xc3\xa9"}\n')
    assert capsysbinary.readouterr().out == b'{\n\t"a": "\xc3\xa9"}\n'
    for body in (b"\x1b[31m", "\u202e".encode(), b"\xff\x9b"):
        with pytest.raises(Usage, match="control characters"):
            output.document(body)


def test_missing_extras_are_named(app: str, tmp_path: Path) -> None:
    """Python cannot import a module that a file of the same name hides with an error."""
    (tmp_path / "cosign.pub").write_bytes(pem(KEY))
    hidden = "raise ImportError('hidden')"
    for package, words, extra in (
        ("cryptography", ["--key", str(tmp_path / "cosign.pub")], "keys"),
        ("sigstore", ["--identity", "i", "--issuer", "u"], "sigstore"),
    ):
        place = tmp_path / f"without-{package}"
        (place / package).mkdir(parents=True)
        (place / package / "__init__.py").write_text(hidden)
        done = command("attestations", app, *words, environment={"PYTHONPATH": str(place)})
        assert done.returncode == 2
        assert f"pip install 'multiarch-resolver[{extra}]'".encode() in done.stderr


def test_cryptography_is_imported_only_for_a_key(app: str, tmp_path: Path) -> None:
    from tests.test_startup import loaded

    store = ("--store", str(tmp_path / "store"))
    status, modules, _out = loaded("attestations", app, *store)
    assert status == 0
    assert not modules & {"cryptography", "sigstore", "pydantic"}
    (tmp_path / "cosign.pub").write_bytes(pem(KEY))
    status, modules, _out = loaded(
        "attestations", app, *store, "--key", str(tmp_path / "cosign.pub")
    )
    assert "cryptography" in modules
    assert "sigstore" not in modules
