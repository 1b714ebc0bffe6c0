"""`doctor` on a healthy machine and on broken ones."""

from __future__ import annotations

import json
import os
import ssl
import time
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from importlib.metadata import PackageNotFoundError
from typing import TYPE_CHECKING

import pytest
import trustme
from hypothesis import given
from hypothesis import strategies as st

import resolver
from resolver.core.results.doctor import (
    GROUPS,
    RULES,
    CheckupRow,
    CheckupState,
    Console,
    is_outside,
    read_requirement,
)
from resolver.errors import InvalidReference, StoreFault
from resolver.render import render
from resolver.sources.mirrors.hosts import Hosts
from resolver.store import LocalStore
from resolver.verbs.doctor import local, network
from resolver.verbs.doctor.doctor import CHECKS, DoctorCheck, run_checks, set_aside
from tests.kit.certificates import authority
from tests.kit.clients import ENGINES
from tests.kit.credentials import pair
from tests.kit.images import build_image
from tests.kit.messages import Reply
from tests.kit.registry import FakeRegistry
from tests.kit.stored_images import blob_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from resolver.core.results.doctor import Checkup
    from resolver.verbs.doctor.machine import MachineReport

OK, NOTE, WARNING, ERROR = (
    CheckupState.OK,
    CheckupState.NOTE,
    CheckupState.WARNING,
    CheckupState.ERROR,
)


class DoctorMachine:
    """A machine below one folder, and the doctor's report on it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.store = folder / "store"
        self.programs = folder / "programs"
        self.console = Console()
        self.programs.mkdir()
        self.environment = {
            "HOME": str(folder),
            "XDG_CONFIG_HOME": str(folder / "config"),
            "XDG_RUNTIME_DIR": str(folder / "run"),
            "RESOLVER_STORE": str(self.store),
            "PATH": str(self.programs),
        }

    def write(self, name: str, text: str, mode: int = 0o600) -> Path:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        path.chmod(mode)
        return path

    def program(self, name: str, text: str = "exit 1") -> Path:
        return self.write(f"programs/{name}", f"#!/bin/sh\n{text}\n", 0o755)

    def look(self, *named: str, **variables: str) -> Checkup:
        environment = {**self.environment, **variables}
        usable, rows = set_aside(environment)
        with resolver.Session(environment=usable) as session:
            return session.doctor(
                named, environment=environment, console=self.console, set_aside=rows
            )


@pytest.fixture
def patient(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> DoctorMachine:
    # Ignore /etc of the machine that runs the tests.
    monkeypatch.setattr(Hosts.__init__, "__kwdefaults__", {"system": tmp_path / "etc"})
    return DoctorMachine(tmp_path)


def rows(found: Checkup, group: str, name: str = "") -> list[CheckupRow]:
    return [row for row in found.rows if row.group == group and name in ("", row.name)]


def row(found: Checkup, group: str, name: str) -> CheckupRow:
    (one,) = rows(found, group, name)
    return one


def fact(one: CheckupRow, name: str) -> object:
    return dict(one.facts)[name]


# The whole


@pytest.mark.parametrize(
    ("mode", "shared", "state"),
    [
        (0o700, "0", None),
        (0o770, "0", CheckupState.WARNING),
        (0o770, "1", CheckupState.NOTE),
        (0o777, "1", CheckupState.NOTE),
    ],
)
def test_doctor_shows_who_else_may_write_to_the_store(
    patient: DoctorMachine, mode: int, shared: str, state: CheckupState | None
) -> None:
    LocalStore(patient.store).add(blob_of(b"here"), [b"here"])
    patient.store.chmod(mode)

    found = patient.look(RESOLVER_STORE=str(patient.store), RESOLVER_SHARED_STORE=shared)

    assert [one.state for one in rows(found, "store", "access")] == ([state] if state else [])


def test_doctor_reports_a_world_writable_store(patient: DoctorMachine) -> None:
    LocalStore(patient.store).add(blob_of(b"here"), [b"here"])
    patient.store.chmod(0o777)

    one = row(patient.look(RESOLVER_STORE=str(patient.store)), "store", "folder")

    assert one.state is CheckupState.ERROR
    assert "is world-writable" in one.found


def test_doctor_on_a_healthy_machine(patient: DoctorMachine) -> None:
    found = patient.look()

    assert [each for each in found.rows if each.state in {WARNING, ERROR}] == []
    assert found.state is OK
    assert found.findings == ()
    assert list(dict.fromkeys(each.group for each in found.rows)) == [name for name, _ in GROUPS]
    assert not patient.store.exists()
    assert found.version == resolver.__version__


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: f"{check.group} {check.name}")
@pytest.mark.parametrize(
    "error",
    [
        StoreFault("/s", "broken", "mend it"),
        OSError(5, "Input/output error, broken", "/x"),
        ImportError("broken"),
    ],
)
def test_doctor_reports_a_failed_check_and_runs_the_others(
    check: DoctorCheck, error: Exception
) -> None:
    def broken(_machine: MachineReport) -> list[CheckupRow]:
        raise error

    checks = (
        check._replace(look=broken),
        DoctorCheck("x", "y", lambda _machine: [CheckupRow("x", "y", OK, "")]),
    )
    first, second = run_checks(None, checks).rows  # type: ignore[arg-type]  # nobody looks at it

    assert (first.group, first.name, first.state) == (check.group, check.name, ERROR)
    assert "broken" in first.found
    assert second.group == "x"


def test_doctor_keeps_rows_from_before_a_check_failed() -> None:
    def half(_machine: MachineReport) -> Iterator[CheckupRow]:
        yield CheckupRow("store", "one", OK, "")
        raise OSError(28, "No space left on device")

    seen = run_checks(None, (DoctorCheck("store", "two", half),)).rows  # type: ignore[arg-type]  # as above
    assert [(each.name, each.state) for each in seen] == [("one", OK), ("two", ERROR)]
    assert seen[1].found == "no space left on device"


def test_every_group_has_a_rule_and_every_error_is_a_finding(patient: DoctorMachine) -> None:
    found = patient.look(RESOLVER_JOBS="many", RESOLVER_STOER="x")

    assert {check.group for check in CHECKS} == {group for group, _title in GROUPS}
    assert {each.rule for each in found.findings} <= {rule.id for rule in RULES}
    assert len(found.findings) == found.count(ERROR) == 1
    assert found.count(WARNING) == 1


@pytest.mark.parametrize("form", ["table", "markdown", "html", "json", "yaml"])
def test_doctor_escapes_foreign_text(patient: DoctorMachine, form: str) -> None:
    found = patient.look(RESOLVER_STORE=f"{patient.folder}/a\x1b[2J::error::\u202e")

    printed = render(found, form)
    assert not {"\x1b", "\u202e"} & set(printed)


# The installation


def test_doctor_shows_installed_versions(patient: DoctorMachine) -> None:
    found = patient.look()

    for name in (*ENGINES, "typer", "platformdirs", "pyyaml", "rich"):
        assert row(found, "installation", name).state is OK
    assert fact(row(found, "installation", "resolver"), "version") == resolver.__version__


def test_doctor_reports_old_missing_and_broken_packages(
    patient: DoctorMachine, monkeypatch: pytest.MonkeyPatch
) -> None:
    def version(name: str) -> str:
        if name in ("rich", "absent"):
            raise PackageNotFoundError(name)
        return {"httpx": "0.27.9", "typer": "0.29.0"}.get(name, "9")

    def load(name: str) -> None:
        if name == "resolver.sources.http.pyreqwest_engine":
            raise ImportError("libssl.so.9: cannot open shared object file")

    wanted = ["httpx>=0.28,<1", "typer<0.29,>=0.26", "rich>=13", "isal>=1; extra == 'fast'"]
    on_some = [f"{name}>=0.15; platform_machine in 'x86_64'" for name in ("pyreqwest", "absent")]
    monkeypatch.setattr(local, "version", version)
    monkeypatch.setattr(local, "import_module", lambda _name: None)
    monkeypatch.setattr(local, "requires", lambda _name: [*wanted, *on_some])
    found = patient.look()
    monkeypatch.setattr(local, "import_module", load)
    broken = patient.look()

    assert row(found, "installation", "httpx").found == "0.27.9; required is >=0.28,<1"
    assert row(found, "installation", "httpx").hint == "pip install --upgrade 'httpx>=0.28,<1'"
    assert row(found, "installation", "typer").state is ERROR
    assert row(found, "installation", "rich").found == "it is not installed"
    assert row(found, "installation", "pyreqwest").state is OK
    assert "libssl.so.9" in row(broken, "installation", "pyreqwest").found
    # Not every machine can have it.
    assert row(found, "installation", "absent").state is NOTE
    # The package of an extra has a row of its own, and is no requirement.
    assert row(found, "installation", "isal").state is OK


def test_doctor_reports_missing_extras(
    patient: DoctorMachine, monkeypatch: pytest.MonkeyPatch
) -> None:
    def nothing(name: str) -> None:
        if "." in name:
            raise ModuleNotFoundError(name)

    monkeypatch.setattr(local, "find_spec", nothing)
    found = patient.look()

    assert row(found, "installation", "isal").state is NOTE
    assert row(found, "installation", "zstd").state is NOTE
    assert row(found, "installation", "zstd").hint == "pip install 'multiarch-resolver[fast]'"


def test_doctor_handles_a_source_folder_that_was_never_installed(
    patient: DoctorMachine, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unknown(name: str) -> None:
        raise PackageNotFoundError(name)

    monkeypatch.setattr(local, "requires", unknown)
    assert row(patient.look(), "installation", "packages").state is NOTE


def test_doctor_reports_an_old_python(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.version_info", (3, 10, 1))
    first, _ours = local.python(None)

    assert (first.state, first.hint) == (ERROR, "use Python 3.11 or newer")


def test_doctor_shows_the_selected_platform(patient: DoctorMachine) -> None:
    printed = row(patient.look(DOCKER_DEFAULT_PLATFORM="linux/arm64"), "installation", "platform")
    half = row(patient.look(RESOLVER_PLATFORM="local"), "installation", "platform")
    bad = row(patient.look(RESOLVER_PLATFORM="linux/"), "installation", "platform")
    word = row(patient.look(RESOLVER_PLATFORM="xyzzy"), "installation", "platform")

    assert printed.found.startswith("linux/arm64, as `DOCKER_DEFAULT_PLATFORM` sets; this is ")
    assert half.state is OK
    assert (bad.state, word.state) == (ERROR, ERROR)


@given(st.lists(st.integers(0, 99), min_size=1, max_size=4), st.integers(0, 99))
def test_doctor_compares_versions_numerically(here: list[int], limit: int) -> None:
    text = ".".join(map(str, here))

    assert is_outside(text, f">={limit}") is (here[0] < limit)
    assert is_outside(text, f"<{limit}") is (here[0] >= limit)


@pytest.mark.parametrize(
    ("text", "name", "bounds"),
    [
        ("httpx<1,>=0.28", "httpx", "<1,>=0.28"),
        ("httpx (>=0.28)", "httpx", ">=0.28"),
        ("ruamel.yaml", "ruamel.yaml", ""),
    ],
)
def test_doctor_parses_requirements(text: str, name: str, bounds: str) -> None:
    read = read_requirement(text)
    assert read is not None
    assert (read.name, read.bounds) == (name, bounds)


def test_doctor_ignores_complex_requirements_and_versions() -> None:
    assert read_requirement("isal>=1; extra == 'fast'") is None
    assert read_requirement("???") is None
    assert not is_outside("unknown", ">=1")
    assert not is_outside("1", "!=1,~=2,>=x")
    assert not is_outside("2.0", ">=2")


# The store


def filled(patient: DoctorMachine) -> None:
    with FakeRegistry() as registry, resolver.Session(environment=patient.environment) as session:
        registry.serve("app", "1", build_image("linux/amd64"))
        session.pull([f"{registry.host}/app:1"], ["linux/amd64"])


def test_doctor_shows_a_store_in_use(patient: DoctorMachine) -> None:
    filled(patient)
    before = sorted(patient.store.rglob("*"))
    found = patient.look()

    assert {each.name: each.state for each in rows(found, "store")} == dict.fromkeys(
        ("folder", "content", "room", "file system", "writing"), OK
    )
    assert fact(row(found, "store", "content"), "images") == 1
    assert row(found, "store", "writing").found == "locked; a file was written and removed"
    assert sorted(patient.store.rglob("*")) == before


def test_doctor_leaves_an_empty_folder_empty(patient: DoctorMachine) -> None:
    patient.store.mkdir()
    found = patient.look()

    assert "becomes a store on first use" in row(found, "store", "folder").found
    assert rows(found, "store", "writing") == []
    assert list(patient.store.iterdir()) == []


def test_doctor_leaves_a_foreign_folder_alone(patient: DoctorMachine) -> None:
    patient.write("store/thesis.tex", "")
    found = patient.look()

    assert row(found, "store", "folder").state is ERROR
    assert "it is not empty, and it is not a store" in row(found, "store", "folder").found
    assert row(found, "store", "folder").hint == "name another folder with `--store`"
    assert [each.name for each in patient.store.iterdir()] == ["thesis.tex"]


def test_doctor_reports_a_store_of_another_version(patient: DoctorMachine) -> None:
    filled(patient)
    (patient.store / "version").chmod(0o600)
    (patient.store / "version").write_text("2\n")
    found = patient.look()

    assert "its version is `2`" in row(found, "store", "folder").found
    assert rows(found, "store", "writing") == []


def test_doctor_reports_a_file_in_place_of_the_store(patient: DoctorMachine) -> None:
    patient.write("store", "")
    below = patient.look(RESOLVER_STORE=f"{patient.store}/deeper")

    assert row(patient.look(), "store", "folder").state is ERROR
    assert row(below, "store", "folder").state is ERROR


def test_doctor_reports_an_unwritable_store(
    patient: DoctorMachine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "access", lambda *_arguments: False)
    one = row(patient.look(), "store", "folder")

    assert (one.state, one.found.endswith("is not writable")) == (ERROR, True)


def test_doctor_reports_a_locked_store(
    patient: DoctorMachine, monkeypatch: pytest.MonkeyPatch
) -> None:
    import fcntl

    filled(patient)
    monkeypatch.setattr("resolver.store.folder._BRIEFLY", 0.0)
    with (patient.store / "lock").open("rb") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        one = row(patient.look(), "store", "writing")

    assert one.state is ERROR
    assert "another process has held the lock" in one.found
    assert one.hint.startswith("find the process with `fuser ")


@pytest.mark.parametrize(("unlocked", "state"), [("0", ERROR), ("1", WARNING)])
def test_doctor_reports_a_store_on_a_network_file_system(
    patient: DoctorMachine,
    monkeypatch: pytest.MonkeyPatch,
    unlocked: str,
    state: CheckupState,
) -> None:
    monkeypatch.setattr(local, "file_systems", lambda _device: ("nfs4",))
    one = row(patient.look(RESOLVER_UNSAFE_NO_LOCK=unlocked), "store", "file system")

    assert one.state is state
    assert one.found.startswith("nfs4")
    assert fact(one, "remote") is True


def test_doctor_reports_a_file_system_without_locks(patient: DoctorMachine) -> None:
    filled(patient)
    one = row(patient.look(RESOLVER_UNSAFE_NO_LOCK="1"), "store", "writing")
    assert one.found == "written without a lock"


def test_doctor_reports_low_disk_space(
    patient: DoctorMachine, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Place:
        f_bavail, f_frsize, f_files, f_favail = 2**18 - 1, 4096, 100, 50

    monkeypatch.setattr(os, "statvfs", lambda _path: Place)
    little = row(patient.look(), "store", "room")
    monkeypatch.setattr(Place, "f_bavail", 2**18)
    enough = row(patient.look(), "store", "room")
    monkeypatch.setattr(Place, "f_favail", 0)
    full = row(patient.look(), "store", "room")

    assert (little.state, little.found) == (WARNING, "1.07 GB free")
    assert enough.state is OK
    assert full.state is ERROR


def test_doctor_reports_a_damaged_store(patient: DoctorMachine) -> None:
    filled(patient)
    (patient.store / "names").rename(patient.store / "gone")
    (patient.store / "names").write_text("a file")

    assert row(patient.look(), "store", "content").state is ERROR


def test_doctor_notes_unreferenced_content(
    patient: DoctorMachine, monkeypatch: pytest.MonkeyPatch
) -> None:
    filled(patient)
    monkeypatch.setattr(local, "LITTLE_ROOM", 0)
    for name in (patient.store / "names").iterdir():
        name.unlink()
    one = row(patient.look(), "store", "content")

    assert (one.state, one.hint) == (NOTE, "resolver gc")


# Logins


def test_doctor_lists_logins_without_their_secrets(patient: DoctorMachine) -> None:
    marker = patient.folder / "ran"
    patient.program("docker-credential-here", f"touch {marker}")
    config = {
        "auths": {
            "ghcr.io": {"auth": pair("me:S3cret")},
            "https://user:S3cret@old.test/v1/": {"auth": pair("me:S3cret")},
            "empty.test": {},
            "bad.test": {"auth": "S3cret!"},
        },
        "credsStore": "here",
        "credHelpers": {"gcr.io": "gone", "a.test": "here", "b.test": "../x", "c.test": ""},
    }
    path = patient.write(".docker/config.json", json.dumps(config), 0o644)
    found = patient.look(RESOLVER_USERNAME="me", RESOLVER_PASSWORD="S3cret")
    printed = render(found, "json") + render(found, "table")
    mine = [each for each in rows(found, "logins") if each.name == str(path)]

    assert "S3cret" not in printed
    assert not marker.exists()
    assert mine[0].found == "ghcr.io, https://old.test/v1/; other users may read it"
    assert (mine[0].state, mine[0].hint) == (WARNING, f"chmod 600 {path}")
    assert [(each.state, each.found.partition(":")[0]) for each in mine[1:]] == [
        (ERROR, "at `auths.bad.test.auth`"),
        (ERROR, "at `credHelpers.b.test`"),
    ]
    here = rows(found, "logins", "docker-credential-here")
    assert [(each.state, each.found.partition(";")[0]) for each in here] == [
        (OK, "for every other registry"),
        (OK, "for a.test"),
    ]
    gone = row(found, "logins", "docker-credential-gone")
    assert (gone.state, gone.found) == (WARNING, "for gcr.io; it is not on PATH")
    assert row(found, "logins", "given").state is NOTE


@pytest.mark.parametrize("text", ["{", "[]", '{"auths": []}', '{"Auths": {}}', "\xff"])
def test_doctor_reports_an_unusable_credentials_file(patient: DoctorMachine, text: str) -> None:
    path = patient.folder / ".docker/config.json"
    path.parent.mkdir()
    path.write_bytes(text.encode("latin-1"))
    one = row(patient.look(), "logins", str(path))

    assert (one.state, one.hint) == (ERROR, f"fix or remove `{path}`")


def test_doctor_checks_every_credentials_file(patient: DoctorMachine) -> None:
    entry = json.dumps({"auths": {"a.test": {"auth": pair("me:x")}}})
    files = [
        patient.write(".docker/config.json", entry),
        patient.write("run/containers/auth.json", entry),
        patient.write("config/containers/auth.json", entry),
        patient.write(".dockercfg", json.dumps({"b.test": {"auth": pair("me:x")}})),
    ]
    found = patient.look(DOCKER_AUTH_CONFIG=entry)

    places = {each.name: each.found for each in rows(found, "logins")}
    assert places == {
        "DOCKER_AUTH_CONFIG": "a.test",
        **{str(path): "a.test" for path in files[:3]},
        str(files[3]): "b.test",
    }


def test_doctor_checks_only_a_named_credentials_file(patient: DoctorMachine) -> None:
    patient.write(".docker/config.json", '{"auths": {}}')
    named = patient.write("mine.json", '{"auths": {}}')
    there = patient.look(REGISTRY_AUTH_FILE=str(named))
    gone = patient.look(RESOLVER_AUTH_FILE="/nowhere/auth.json")

    assert [each.name for each in rows(there, "logins")] == [str(named)]
    (one,) = rows(gone, "logins")
    assert (one.state, one.found) == (
        WARNING,
        "there is no such file, and `--auth-file` names it",
    )


def test_doctor_reports_no_logins(patient: DoctorMachine) -> None:
    assert row(patient.look(), "logins", "files").hint == "resolver login REGISTRY"
    assert row(patient.look(RESOLVER_ANONYMOUS="1"), "logins", "anonymous").state is NOTE


# Registries


def test_doctor_shows_which_file_configures_a_registry(patient: DoctorMachine) -> None:
    config = patient.write(
        "config/resolver/config.yaml",
        "hosts:\n  docker.io:\n    mirrors: [https://m.test, {url: 'https://h.test/v2/hub', "
        "tags: true}]\n  plain.test:\n    plain-http: true\n",
    )
    toml = patient.write("certs.d/lan_5000_/hosts.toml", '[host."https://n.test"]\n')
    patient.write("certs.d/_default/hosts.toml", '[host."https://d.test"]\n')
    conf = patient.write(
        "config/containers/registries.conf",
        '[[registry]]\nprefix = "quay.io/team"\nlocation = "mirror.test/team"\n'
        '[[registry]]\nprefix = "*.evil.test"\nblocked = true\n'
        '[[registry]]\nlocation = "loose.test"\ninsecure = true\n'
        '[[registry]]\nlocation = "source.test"\nblocked = true\n'
        '[[registry.mirror]]\nlocation = "m.test"\npull-from-mirror = "digest-only"\n'
        '[[registry.mirror]]\nlocation = "n.test"\npull-from-mirror = "tag-only"\n',
    )
    found = patient.look("ghcr.io", RESOLVER_MIRROR="o.test=https://p.test")
    bare = patient.look(RESOLVER_CERTS_D=str(patient.folder / "certs.d"))

    printed = {each.name: each for each in rows(found, "registries")}
    assert printed["config.yaml"].found == f"{config}: 2 hosts"
    assert printed["docker.io"].found == (
        f"{config} decides: https://m.test (by digest only), "
        "then https://h.test (as hub/library/any), then registry-1.docker.io"
    )
    assert printed["o.test"].found.startswith("--mirror decides: https://p.test (by digest only)")
    assert printed["plain.test"].found == f"{config} decides: http://plain.test"
    assert printed["quay.io/team"].found == f"{conf} decides: mirror.test"
    assert printed["*.evil.test"].found == f"{conf} decides: it is blocked"
    assert printed["*.evil.test"].state is NOTE
    assert printed["source.test"].found == (
        f"{conf} decides: it is blocked, and its mirrors are used: "
        "m.test (by digest only), then n.test (tags only)"
    )
    assert printed["loose.test"].state is WARNING
    assert printed["ghcr.io"].found == "no file configures it: it is used directly"
    assert printed["ghcr.io"].state is OK
    assert fact(printed["docker.io"], "form") == "config.yaml"
    toml_rows = {each.name: each.found for each in rows(bare, "registries")}
    assert toml_rows["lan:5000"].startswith(f"{toml} decides: https://n.test")
    assert "https://d.test" in toml_rows["every other (_default)"]


def test_doctor_checks_host_certificates(patient: DoctorMachine) -> None:
    pem = authority().ca_file(patient.folder)
    patient.write("config/containers/certs.d/a.test/ca.crt", pem.read_text())
    patient.write("config/containers/certs.d/b.test/ca.crt", "nothing")
    patient.write("config/containers/certs.d/c.test/x.cert", "nothing")
    found = patient.look()

    told = {each.name: each for each in rows(found, "registries")}
    assert told["a.test"].state is OK
    assert "CA " in told["a.test"].found
    assert "it has no certificate in PEM form" in told["b.test"].found
    assert "`x.key` is missing beside it" in told["c.test"].found
    assert [told[name].state for name in ("b.test", "c.test")] == [ERROR, ERROR]


def test_doctor_names_headers_and_client_certificates_without_values(
    patient: DoctorMachine,
) -> None:
    cert, key = authority().client_files(patient.folder)
    patient.write(
        "certs.d/a.test/hosts.toml",
        f'[host."https://m.test"]\ncapabilities = ["resolve"]\nclient = [["{cert}", "{key}"]]\n'
        '[host."https://m.test".header]\nX-Token = "S3cret"\n',
    )
    found = patient.look(RESOLVER_CERTS_D=str(patient.folder / "certs.d"))
    one = row(found, "registries", "a.test")

    assert "https://m.test (tags only, client certificate, headers)" in one.found
    assert "S3cret" not in render(found, "json")


def test_doctor_reports_an_unusable_file_once(patient: DoctorMachine) -> None:
    patient.write("config/resolver/config.yaml", "hosts:\n  a.test:\n    nonsense: 1\n")
    found = patient.look("b.test")

    wrong = [each for each in rows(found, "registries") if each.state is ERROR]
    assert [each.name for each in wrong] == ["config.yaml", "b.test"]
    assert "config.yaml:3" in wrong[0].found
    assert wrong[1].found == "cannot be used before that is fixed"
    assert row(found, "registries", "b.test answers").found.startswith("not checked: ")


def test_doctor_reports_a_missing_named_config(patient: DoctorMachine) -> None:
    found = patient.look(RESOLVER_CONFIG="/nowhere/config.yaml")
    assert row(found, "registries", "config.yaml").state is ERROR


@pytest.mark.parametrize(
    ("name", "text"),
    [
        (
            "config/resolver/config.yaml",
            "hosts:\n  x.test:\n    mirrors: [https://u:S3cret@m.test]\n",
        ),
        ("config/resolver/config.yaml", "hosts:\n  u:S3cret@x.test:\n    jobs: 1\n"),
        ("certs.d/x.test/hosts.toml", '[host."https://u:S3cret@m.test"]\n'),
        ("x.conf", '[[registry]]\nlocation = "u:S3cret@m.test"\n'),
        ("x.conf", '[[registry]]\nprefix = "u:S3cret@x.test"\nlocation = "m.test"\n'),
        (
            "x.conf",
            '[[registry]]\nlocation = "x.test"\nmirror = [{location = "u:S3cret@m.test"}]\n',
        ),
    ],
)
def test_doctor_rejects_a_login_in_a_mirror_url_without_showing_it(
    patient: DoctorMachine, name: str, text: str
) -> None:
    path = patient.write(name, text)
    found = patient.look(
        "x.test",
        RESOLVER_CERTS_D=str(patient.folder / "certs.d"),
        RESOLVER_MIRROR="y.test=https://u:S3cret@m.test",
        CONTAINERS_REGISTRIES_CONF=str(path) if name.endswith(".conf") else "",
    )

    assert found.state is ERROR
    assert row(found, "registries", "y.test").state is ERROR
    assert "S3cret" not in render(found, "json")


def test_doctor_without_a_home_reports_no_config(patient: DoctorMachine) -> None:
    del patient.environment["HOME"], patient.environment["XDG_CONFIG_HOME"]
    assert row(patient.look(), "registries", "config.yaml").state is NOTE


def answered(patient: DoctorMachine, host: str, **variables: str) -> dict[str, CheckupRow]:
    found = patient.look(host, **variables)
    return {each.name.removeprefix(f"{host} "): each for each in rows(found, "registries")}


@pytest.mark.parametrize(
    ("off", "state"), [(0, OK), (55, OK), (-55, OK), (70, WARNING), (-70, WARNING)]
)
def test_doctor_requests_a_registry_once_and_compares_its_clock(
    patient: DoctorMachine, off: int, state: CheckupState
) -> None:
    patient.write(".docker/config.json", '{"credsStore": "here"}')
    patient.program("docker-credential-here", f"touch {patient.folder}/ran")
    with FakeRegistry() as registry:
        date = format_datetime(datetime.now(UTC) - timedelta(seconds=off), usegmt=True)
        challenge = f'Bearer realm="{registry.url}/token"'
        registry.on("GET", "/v2/", Reply(401, {"Date": date, "WWW-Authenticate": challenge}))
        printed = answered(patient, registry.host)

        assert len(registry.log) == 1
    assert printed["answers"].state is OK
    assert printed["answers"].found.endswith("requires a login")
    assert printed["clock"].state is state
    assert ("ahead of" in printed["clock"].found) is (off > 60)
    assert not (patient.folder / "ran").exists()


@pytest.mark.parametrize("date", ["", "yesterday", "Wed, 99 Nov 2026 01:02:03 GMT"])
def test_doctor_ignores_an_invalid_date_header(patient: DoctorMachine, date: str) -> None:
    with FakeRegistry() as registry:
        registry.on("GET", "/v2/", Reply(200, {"Date": date} if date else {}))
        printed = answered(patient, registry.host)

    assert printed["clock"].state is NOTE
    assert printed["answers"].found == f"from {registry.host}"


def test_doctor_reports_a_server_that_is_not_a_registry(patient: DoctorMachine) -> None:
    with FakeRegistry() as registry:
        registry.on("GET", "/v2/", Reply(503))
        printed = answered(patient, registry.host)

        assert len(registry.log) == 1
    assert (printed["answers"].state, printed["answers"].found) == (
        WARNING,
        "status 503, which is not a registry's",
    )


def test_doctor_reports_a_registry_that_does_not_answer(patient: DoctorMachine) -> None:
    with FakeRegistry() as closed:
        pass
    assert answered(patient, closed.host)["answers"].state is ERROR


def test_doctor_reports_a_certificate_of_an_unknown_authority(patient: DoctorMachine) -> None:
    with FakeRegistry(tls=authority().good(), strict=False) as registry:
        one = answered(patient, registry.host)["answers"]

    assert (one.state, fact(one, "code")) == (ERROR, "tls-failed")


def test_doctor_offline_sends_no_request(patient: DoctorMachine) -> None:
    with FakeRegistry() as registry:
        printed = answered(patient, registry.host, RESOLVER_OFFLINE="1")

        assert registry.log == []
    assert printed["answers"].found == "not checked: `--offline`"


def test_doctor_does_not_request_blocked_registries(patient: DoctorMachine) -> None:
    with FakeRegistry() as registry:
        text = f'[[registry]]\nlocation = "{registry.host}"\nblocked = true\n'
        conf = patient.write("x.conf", text)
        printed = answered(patient, registry.host, CONTAINERS_REGISTRIES_CONF=str(conf))

        assert registry.log == []
    assert printed["answers"].found == "not checked: it is blocked"
    assert printed[registry.host].found == f"{conf} decides: it is blocked"


def test_doctor_reads_a_config_through_a_pipe(patient: DoctorMachine) -> None:
    reading, writing = os.pipe()
    os.write(writing, b"hosts:\n  a.test:\n    plain-http: true\n")
    os.close(writing)
    found = patient.look(RESOLVER_CONFIG=f"/dev/fd/{reading}")
    os.close(reading)

    assert row(found, "registries", "config.yaml").found == f"/dev/fd/{reading}: 1 host"
    assert row(found, "registries", "a.test").state is OK


def test_doctor_rejects_an_invalid_host(patient: DoctorMachine) -> None:
    with pytest.raises(InvalidReference):
        patient.look("no host/at all")


# The network


def made(patient: DoctorMachine, end: timedelta) -> Path:
    """Write a CA certificate that ends at this time."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "test")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(days=400))
        .not_valid_after(now + end)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    text = certificate.public_bytes(serialization.Encoding.PEM).decode()
    return patient.write("own.pem", text)


@pytest.mark.parametrize(
    ("days", "state", "words"),
    [(-1, WARNING, "1 ended, on "), (network.SOON - 1, WARNING, "ends on "), (100, OK, "until ")],
)
def test_doctor_reports_when_a_private_ca_expires(
    patient: DoctorMachine, days: int, state: CheckupState, words: str
) -> None:
    path = made(patient, timedelta(days=days))
    one = row(patient.look(RESOLVER_CA_FILE=str(path)), "network", "--ca-file")

    assert one.state is state
    assert one.found.startswith(f"{path}: 1 certificate")
    assert words in one.found


def test_doctor_shows_no_expiry_for_a_server_certificate(patient: DoctorMachine) -> None:
    leaf = trustme.CA().issue_cert("a.test")
    path = patient.write("leaf.pem", leaf.cert_chain_pems[0].bytes().decode())
    one = row(patient.look(RESOLVER_CA_FILE=str(path)), "network", "--ca-file")

    assert (one.state, one.found) == (OK, f"{path}: 1 certificate")


def test_doctor_reports_a_ca_file_without_certificates(patient: DoctorMachine) -> None:
    path = patient.write("none.pem", "nothing")
    one = row(patient.look(RESOLVER_CA_FILE=str(path)), "network", "--ca-file")

    assert one.state is ERROR
    assert "it has no certificate in PEM form" in one.found


def test_doctor_shows_ca_files_from_environment_variables(patient: DoctorMachine) -> None:
    pem = authority().ca_file(patient.folder)
    there = patient.look(SSL_CERT_FILE=str(pem), SSL_CERT_DIR=str(patient.folder))
    gone = patient.look(SSL_CERT_FILE="/nowhere.pem", SSL_CERT_DIR=f"{patient.folder}:/nowhere")

    assert row(there, "network", "SSL_CERT_FILE").found == f"{pem}: 1 certificate"
    assert row(there, "network", "SSL_CERT_DIR").state is OK
    assert row(gone, "network", "SSL_CERT_FILE").state is WARNING
    assert row(gone, "network", "SSL_CERT_DIR").found == "names `/nowhere`, which does not exist"


def test_doctor_reports_a_system_without_authorities(
    patient: DoctorMachine, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Paths:
        cafile, capath = None, str(patient.folder)

    monkeypatch.setattr(network, "BUNDLES", ())
    monkeypatch.setattr(ssl, "get_default_verify_paths", lambda: Paths)
    none = row(patient.look(), "network", "authorities")
    (patient.folder / "0a1b2c3d.0").touch()
    some = row(patient.look(), "network", "authorities")

    assert none.state is WARNING
    assert (some.state, some.found) == (OK, str(patient.folder))


def test_doctor_reports_disabled_verification(patient: DoctorMachine) -> None:
    found = patient.look(RESOLVER_TLS_SKIP_VERIFY="1", RESOLVER_PLAIN_HTTP="1")

    assert row(found, "network", "who answers").state is WARNING
    assert row(found, "network", "plain http").state is WARNING


def test_doctor_shows_proxies_without_credentials(patient: DoctorMachine) -> None:
    found = patient.look(
        HTTPS_PROXY="http://upper.test:1",
        https_proxy="http://me:S3cret@proxy.test:3128",
        NO_PROXY="a.test,10.0.0.0/8",
    )

    assert row(found, "network", "proxies").found == (
        "`https_proxy` and `HTTPS_PROXY` differ; the lower-case one is used"
    )
    assert row(found, "network", "proxy for https").found == "http://***@proxy.test:3128"
    assert row(found, "network", "proxy for http").found == "none"
    assert row(found, "network", "no proxy for").found == (
        "this machine itself, a.test, 10.0.0.0/8"
    )
    assert "S3cret" not in render(found, "json")


def test_doctor_reports_an_invalid_proxy(patient: DoctorMachine) -> None:
    found = patient.look(HTTPS_PROXY="socks5://me:S3cret@proxy.test")
    one = row(found, "network", "proxies")

    assert (one.state, one.found) == (
        ERROR,
        "cannot use `HTTPS_PROXY`: only http and https proxies are supported",
    )
    assert "S3cret" not in render(found, "json")


def test_doctor_reports_a_clock_that_was_never_set(
    patient: DoctorMachine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(time, "time", lambda: 86_400.0)
    one = row(patient.look(), "network", "clock")

    assert one.state is ERROR
    assert one.found.startswith("1970-01-02 00:00 UTC is before this program was made")


# Surroundings


def test_doctor_lists_export_tools(patient: DoctorMachine) -> None:
    path = patient.program("ctr")
    found = patient.look()

    assert row(found, "tools", "containerd").found == str(path)
    assert row(found, "tools", "docker").state is NOTE


def test_doctor_ignores_programs_in_the_working_folder(
    patient: DoctorMachine, monkeypatch: pytest.MonkeyPatch
) -> None:
    patient.program("docker")
    monkeypatch.chdir(patient.programs)
    assert row(patient.look(PATH=":."), "tools", "docker").state is NOTE


def test_doctor_shows_where_output_goes(patient: DoctorMachine) -> None:
    other = patient.look(CI="1")
    patient.console = Console(stdin=True, stdout=True, stderr=True)
    here = patient.look()
    patient.console = Console(system="github")
    ours = patient.look()

    assert "progress is shown live; a password is prompted for" in (
        row(here, "terminal", "terminal").found
    )
    assert row(ours, "terminal", "CI").found == "github; `--emit auto` passes answers to it"
    assert row(other, "terminal", "CI").state is NOTE


def test_doctor_lists_variables(patient: DoctorMachine) -> None:
    found = patient.look(
        RESOLVER_STOER="/x", RESOLVER_XYZZY="1", RESOLVER_QUIET="", RESOLVER_PASWORD="S3cret"
    )

    printed = {each.name: each for each in rows(found, "variables")}
    assert printed["RESOLVER_STOER"].hint == "did you mean `RESOLVER_STORE`?"
    assert printed["RESOLVER_PASWORD"].hint == "did you mean `RESOLVER_PASSWORD`?"
    assert printed["RESOLVER_XYZZY"].hint == "unset it; see `resolver help configuration`"
    assert printed["RESOLVER_QUIET"].found == "set, but empty: the same as not set"
    assert printed["RESOLVER_STORE"].found == "set, as --store"
    assert "S3cret" not in render(found, "json")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("RESOLVER_JOBS", "many"),
        ("RESOLVER_OFFLINE", "perhaps"),
        ("RESOLVER_CA_FILE", "/nowhere.pem"),
        ("RESOLVER_MIRROR", "docker.io"),
        ("RESOLVER_PLATFORMS", "/nowhere.yaml"),
        ("RESOLVER_PASSWORD", "S3cret"),
    ],
)
def test_doctor_reports_an_unusable_variable_as_a_row(
    patient: DoctorMachine, name: str, value: str
) -> None:
    found = patient.look(**{name: value})
    one = row(found, "variables", name)

    assert one.state is ERROR
    assert one.hint
    assert "S3cret" not in render(found, "json")
    assert len(found.rows) > 20


def test_doctor_keeps_usable_settings() -> None:
    environment = {"RESOLVER_JOBS": "many", "RESOLVER_QUIET": "1", "HOME": "/x"}
    left, printed = set_aside(environment)

    assert left == {"RESOLVER_QUIET": "1", "HOME": "/x"}
    assert [each.name for each in printed] == ["RESOLVER_JOBS"]
