"""Files that a command reads: a FIFO or a device never blocks it."""

from __future__ import annotations

import ast
import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import resolver
from resolver.errors import InvalidConfiguration
from resolver.files.read import NotRegular, read_given, read_regular
from resolver.sources.http.tls import load_trust
from tests.kit.images import build_image
from tests.kit.processes import command
from tests.kit.registry import FakeRegistry

if TYPE_CHECKING:
    from collections.abc import Iterator

#: Places below the home folder, with the variables that lead there, and the words of a command
#: that reads it; `{image}` is an image, `{file}` the place.
RESOLVE = ("resolve", "{image}")
PLACES: dict[str, tuple[str, dict[str, str], tuple[str, ...]]] = {
    "config.yaml": (".config/resolver/config.yaml", {}, RESOLVE),
    "RESOLVER_CONFIG": ("own.yaml", {"RESOLVER_CONFIG": "{file}"}, RESOLVE),
    "hosts.toml": ("certs.d/{host}/hosts.toml", {"RESOLVER_CERTS_D": "{home}/certs.d"}, RESOLVE),
    "_default": ("certs.d/_default/hosts.toml", {"RESOLVER_CERTS_D": "{home}/certs.d"}, RESOLVE),
    "registries.conf": (".config/containers/registries.conf", {}, RESOLVE),
    "drop-in": (".config/containers/registries.conf.d/a.conf", {}, RESOLVE),
    "CONTAINERS_REGISTRIES_CONF": (
        "own.conf",
        {"CONTAINERS_REGISTRIES_CONF": "{file}"},
        RESOLVE,
    ),
    "authority": (".config/containers/certs.d/{host}/ca.crt", {}, RESOLVE),
    "client": (".config/containers/certs.d/{host}/a.cert", {}, RESOLVE),
    "SSL_CERT_FILE": ("own.pem", {"SSL_CERT_FILE": "{file}"}, RESOLVE),
    "SSL_CERT_DIR": ("pem/own.pem", {"SSL_CERT_DIR": "{home}/pem"}, RESOLVE),
    "RESOLVER_CA_FILE": ("own.pem", {"RESOLVER_CA_FILE": "{file}"}, RESOLVE),
    "config.json": (".docker/config.json", {}, RESOLVE),
    "auth.json": (".config/containers/auth.json", {}, RESOLVE),
    "REGISTRY_AUTH_FILE": ("own.json", {"REGISTRY_AUTH_FILE": "{file}"}, RESOLVE),
    "--auth-file": ("own.json", {}, (*RESOLVE, "--auth-file", "{file}")),
    ".dockercfg": (".dockercfg", {}, RESOLVE),
    "logout": (".docker/config.json", {}, ("logout", "{host}")),
    "--platforms-file": ("own.yaml", {}, (*RESOLVE, "--platforms-file", "{file}")),
    "--file": ("images.txt", {}, ("resolve", "-f", "{file}")),
    "--policy": ("policy.yaml", {}, ("check", "--policy", "{file}")),
    "--nodes": ("nodes.json", {}, ("check", "{image}", "--nodes", "{file}")),
    "--ignore-file": ("rules", {}, ("compare", "{image}", "--ignore-file", "{file}")),
    "--key": ("cosign.pub", {}, ("attestations", "{image}", "--key", "{file}")),
    "--trusted-root": (
        "root.json",
        {},
        ("attestations", "{image}", "--identity", "i", "--issuer", "u", "--trusted-root", "{file}"),
    ),
    "lock": ("own.lock", {}, ("lock", "{image}", "--lock-file", "{file}")),
    "lock --check": ("own.lock", {}, ("lock", "--check", "--lock-file", "{file}")),
    "--locked": ("own.lock", {}, (*RESOLVE, "--locked", "--lock-file", "{file}")),
    "lock --from": ("Dockerfile", {}, ("lock", "--from", "{file}")),
    "pin": ("Dockerfile", {}, ("pin", "{file}")),
    "--results": ("results", {}, (*RESOLVE, "--results", "{file}")),
    "merge": ("results", {}, ("merge", "{file}")),
    "--report": ("report", {}, (*RESOLVE, "--report", "sarif={file}")),
}
#: A rule about nothing is no error, and neither is an empty list of authorities that nobody needs.
HARMLESS = {"--ignore-file"}


@pytest.fixture
def image() -> Iterator[str]:
    with FakeRegistry(strict=False) as registry:
        registry.basic("u5er", "S3cr3tPa55")
        registry.serve("app", "1", build_image("linux/amd64", [b"layer"]))
        yield f"{registry.host}/app:1"


def _words(
    name: str, image: str, home: Path
) -> tuple[Path, dict[str, str], tuple[str, ...], tuple[str, ...]]:
    place, variables, words = PLACES[name]
    host = image.partition("/")[0]
    file = home / place.format(host=host)
    file.parent.mkdir(parents=True, exist_ok=True)
    if name == "client":
        file.with_suffix(".key").touch()
    known = {"image": image, "host": host, "file": str(file), "home": str(home)}
    return (
        file,
        {variable: value.format(**known) for variable, value in variables.items()},
        tuple(word.format(**known) for word in words),
        ("doctor", host),
    )


@pytest.mark.parametrize("name", PLACES)
def test_reading_a_fifo_as_a_file_fails_immediately(
    name: str, image: str, clean_environment: Path
) -> None:
    file, variables, words, _ = _words(name, image, clean_environment)
    os.mkfifo(file)
    # `command` fails the test where this takes longer than a minute.
    done = command(*words, environment={**variables, "XDG_CONFIG_HOME": ""})

    assert name in HARMLESS or done.returncode in {2, 4, 8}, done
    assert b"Traceback" not in done.stderr
    assert name in HARMLESS or file.name.encode() in done.stderr or b"regular" in done.stderr


# What is written to a device is the affair of the device.
@pytest.mark.parametrize("name", [name for name in PLACES if name != "--report"])
def test_reading_an_endless_device_as_a_file_fails(
    name: str, image: str, clean_environment: Path
) -> None:
    file, variables, words, _ = _words(name, image, clean_environment)
    file.symlink_to("/dev/zero")
    done = command(*words, environment={**variables, "XDG_CONFIG_HOME": ""})

    assert done.returncode in {2, 4, 8}, done
    assert b"Traceback" not in done.stderr


@pytest.mark.parametrize(
    "name", ["config.yaml", "hosts.toml", "registries.conf", "config.json", "SSL_CERT_FILE"]
)
def test_doctor_does_not_wait_for_a_fifo(name: str, image: str, clean_environment: Path) -> None:
    file, variables, _, words = _words(name, image, clean_environment)
    os.mkfifo(file)
    done = command(*words, environment={**variables, "XDG_CONFIG_HOME": ""})

    assert done.returncode in {1, 2}, done
    assert b"not a regular file" in b" ".join((done.stdout + done.stderr).split())


@pytest.mark.parametrize(("limit", "body"), [(100, b"app:1\n"), (6, b"app:1\n"), (3, b"app:")])
def test_reference_list_can_be_read_from_a_pipe(limit: int, body: bytes) -> None:
    reading, writing = os.pipe()
    os.write(writing, b"app:1\n")
    os.close(writing)
    try:
        assert read_given(f"/dev/fd/{reading}", limit) == body
    finally:
        os.close(reading)


def test_files_are_read_up_to_the_limit(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"x" * 70_000)
    os.mkfifo(tmp_path / "fifo")

    assert len(read_regular(file, 70_000)[0]) == 70_000
    assert len(read_regular(file, 69_000)[0]) == 69_001
    assert read_given(tmp_path / "fifo", 10) == b""
    for odd, error in (("fifo", NotRegular), (".", IsADirectoryError), ("no", FileNotFoundError)):
        with pytest.raises(error):
            read_regular(tmp_path / odd, 10)


def test_ca_files_are_checked_before_openssl_reads_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    os.mkfifo(tmp_path / "ca.pem")
    for name, value in (("SSL_CERT_FILE", tmp_path / "ca.pem"), ("SSL_CERT_DIR", tmp_path)):
        monkeypatch.setenv(name, str(value))
        with pytest.raises(InvalidConfiguration, match="not a regular file"):
            load_trust(None, {name: str(value)}, lambda _: None, skip=False)


#: Modules that open files by themselves: what they read is of our own making, or an image's.
OPENERS = {
    "cli/app.py",  # /dev/null
    "cli/ci.py",  # writes
    "cli/gc.py",  # /proc
    "cli/help.py",  # our own pages
    "cli/output.py",  # /dev/null
    "files/platforms.py",  # /proc
    "files/read.py",
    "render/html/page.py",  # our own style
    "sources/credentials/login.py",  # writes
    "sources/local/tree.py",
    "verbs/attestations.py",  # the trusted root in the package `sigstore`
    "verbs/export/export.py",
    "verbs/export/layout.py",
    "verbs/lock_files.py",  # writes
    "verbs/merge.py",  # writes
    "verbs/output_files.py",  # writes
    "verbs/serve/shared_fetch.py",
}


def test_every_module_opens_files_through_one_function() -> None:
    package = Path(resolver.__file__).parent
    found = set()
    for path in package.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Call) and _opens(node):
                found.add(path.relative_to(package).as_posix())

    assert {name for name in found if not name.startswith("store/")} <= OPENERS


def _opens(call: ast.Call) -> bool:
    name = ast.unparse(call.func)
    if name in {"open", "os.open", "io.open"} or name.endswith((".read_text", ".read_bytes")):
        return True
    # `Path.open` takes a mode; the readers of blobs have a method of the same name.
    mode = call.args[0] if call.args else None
    return name.endswith(".open") and (
        isinstance(mode, ast.Constant | ast.IfExp) and "b" in ast.unparse(mode)
    )
