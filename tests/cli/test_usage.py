"""Help pages, usage errors and the demo."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest
from inline_snapshot import snapshot

from resolver.cli.app import COMMANDS

if TYPE_CHECKING:
    from tests.cli.conftest import Run

NAMES = [name for _group, name, _module in COMMANDS]


def test_help_front_page(run: Run) -> None:
    assert str(run("--help")) == snapshot("""\
status: 0
--- stdout
Usage: resolver [OPTIONS] COMMAND [ARGS]...

  Resolve, inspect, compare and pull multi-platform container images.

Options:
  --version             Print the version and exit.
  --install-completion  Install completion for the current shell.
  --show-completion     Show completion for the current shell, to copy it or
                        customize the installation.
  -h, --help            Show this message and exit.

Ask:
  resolve       Resolve an image to a manifest digest.
  platforms     List the platforms of an image.
  inspect       Show an index or an image.
  tags          List the tags of a repository.
  search        Search Docker Hub or another registry.
  repositories  List the repositories of a registry.
  quota         Show how many pulls are left.

Compare:
  compare  Compare the platforms of an image, or two images.

Pull:
  plan    Show what a pull would fetch.
  pull    Pull images into the store.
  export  Export images from the store.

Push:
  copy   Copy an image to registries or layouts.
  index  Make an index of images, or edit one.

Store:
  ls      List the images in the store.
  rm      Remove images from the store.
  gc      Delete content that no pulled image needs.
  verify  Verify the content of the store.
  du      Show the disk usage of each image.

CI:
  check   Check that an image meets requirements.
  lint    Find problems in multi-platform images.
  needs   Show what the programs of an image need of the machine.
  matrix  Print a CI job matrix for the platforms of an image.
  pin     Write digests into files that name images.
  lock    Record the digests of images in a lock file.

Run:
  serve          Serve the store or an OCI layout as a registry.
  mirror-config  Print a mirror configuration for another tool.
  demo           Show all commands on sample images.
  login          Log in to a registry, by default Docker Hub.
  logout         Log out of a registry, by default Docker Hub.
  doctor         Check the configuration of this machine.

Help:
  help     Show help on a topic or a command, or list the topics.
  options  List the options that all commands accept.

  Help for a command: resolver COMMAND --help

  Help on a topic: resolver help TOPIC
--- stderr
""")


@pytest.mark.parametrize("name", NAMES)
def test_every_command_help_fits_one_screen(run: Run, name: str) -> None:
    seen = run(name, "--help")

    lines = seen.stdout.splitlines()
    assert seen.status == 0
    assert len(lines) <= 40
    assert max(map(len, lines)) <= 80


def test_help_page_of_resolve(run: Run) -> None:
    assert str(run("resolve", "--help")) == snapshot("""\
status: 0
--- stdout
Usage: resolver resolve [OPTIONS] [REF]...

  Resolve an image to a manifest digest.

  Prints labelled lines for one REF and one platform, else one line each, in
  order. A failure among several is a line too, and the exit status is the
  highest of all.

    resolver resolve ubuntu:24.04 -p linux/arm64
    resolver resolve --format digest -p windows/amd64:ltsc2022 app:1.2

Arguments:
  [REF]...

Options:
  -p, --platform PLATFORM  os/arch[/variant][:os.version]; repeat it or use
                           commas; `local`, `all`.
  -f, --file FILE          Read references from FILE, one per line; `-` is
                           stdin.
  --exact                  Refuse fallback to another platform that would run.
  --explain                List every entry and why it was not chosen.
  --verify                 Also compare the manifest and config with the
                           index.
  --strict                 Fail if the index and the image config disagree;
                           reads both.
  --verify-tag             Fail if the tag of name:tag@digest has moved.
  --verify-cpu             Warn if the programs need a newer processor.
  --locked                 Resolve REF from the lock file, not from a
                           registry.
  --lock-file FILE         Path of the lock file; by default resolver.lock.
  --no-trunc               Show whole digests and values in tables.
  -h, --help               Show this message and exit.

  Shared options (--format, --json, --store, --offline, ...): resolver options
--- stderr
""")


def test_options_page_fits_the_screen(run: Run) -> None:
    seen = run("options")

    assert max(map(len, seen.stdout.splitlines())) <= 80
    assert "--offline" in seen.stdout


def test_running_without_a_command_prints_help(run: Run) -> None:
    assert "Usage: resolver" in (run().stdout + run().stderr)


def test_mistyped_command_gets_a_suggestion(run: Run) -> None:
    assert str(run("resolv", "app")) == snapshot("""\
status: 2
--- stdout
--- stderr
error: no such command 'resolv'. Did you mean 'resolve'?
hint: see `resolver --help`
""")


def test_unknown_option_is_a_usage_error(run: Run) -> None:
    assert str(run("resolve", "app", "--platfrom", "linux/amd64")) == snapshot("""\
status: 2
--- stdout
--- stderr
error: no such option: --platfrom (Possible options: --platform, --platforms-file)
hint: see `resolver resolve --help`
""")


def test_unknown_format_is_a_usage_error(run: Run) -> None:
    assert str(run("resolve", "app", "--format", "xml")) == snapshot("""\
status: 2
--- stdout
--- stderr
error: unknown format `xml`
hint: choose one of table, markdown, html, json, jsonl, yaml, digest, ref
""")


def test_missing_reference_is_a_usage_error(run: Run) -> None:
    assert str(run("resolve")) == snapshot("""\
status: 2
--- stdout
--- stderr
error: no reference to resolve
hint: name one: `resolver resolve ubuntu:24.04 -p linux/arm64`
""")


def test_invalid_platform_is_a_usage_error(run: Run) -> None:
    assert str(run("resolve", "127.0.0.1:9/app", "-p", "linux//v8")) == snapshot("""\
status: 2
--- stdout
--- stderr
error: `linux//v8` is not a platform: `` is not an architecture or variant
hint: write `os/arch[/variant][:os.version]`, for example `linux/arm64`, `linux/arm/v7` or `windows/amd64:10.0.20348`
""")


@pytest.mark.parametrize(
    "reference",
    [
        "", " ", "a//b", "a/../b", "a:b:c", "a@sha256:short", "a:-t", "a:.t", "a:" + "x" * 129,
        "x" * 256, "http://h/x", "h:99999/x", "h:0x50/x", "h:/x", "a@sha256:" + "0" * 64 + "x",
        "UPPER/x", "FOO", "ubuntu\n", "\u0443buntu", "user@host/x", "oci:", "store:",
    ],
)  # fmt: skip
def test_malformed_reference_is_one_error_line_and_at_most_one_hint(
    run: Run, reference: str
) -> None:
    seen = run("resolve", reference)

    errors = [line for line in seen.stderr.splitlines() if line.startswith("error: ")]
    assert seen.status == 2
    assert len(errors) == 1
    assert seen.stdout == ""
    assert all(line.startswith(("error: ", "hint: ")) for line in seen.stderr.splitlines())


def test_option_after_a_double_dash_is_a_reference(run: Run) -> None:
    seen = run("resolve", "--", "--json")

    assert seen.status == 2
    assert "--json" in seen.stderr


@pytest.mark.parametrize("value", ["0", "-1", "257", "x", "inf", "\u0661"])
def test_jobs_out_of_range_are_refused(run: Run, value: str) -> None:
    assert run("resolve", "127.0.0.1:9/app", "--jobs", value).status == 2


@pytest.mark.parametrize("value", ["0", "-1", "257", "x", "inf", "\u0661"])
def test_jobs_variable_out_of_range_is_refused(
    run: Run, monkeypatch: pytest.MonkeyPatch, value: str
) -> None:
    monkeypatch.setenv("RESOLVER_JOBS", value)

    assert run("resolve", "127.0.0.1:9/app").status == 2


@pytest.mark.parametrize("name", ["RESOLVER_OFFLINE", "RESOLVER_PLAIN_HTTP", "RESOLVER_ANONYMOUS"])
def test_invalid_boolean_variable_is_named(
    run: Run, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv(name, "maybe")
    seen = run("resolve", "127.0.0.1:9/app")

    assert seen.status == 2
    assert name in seen.stderr


def test_username_without_a_password_is_a_usage_error(run: Run) -> None:
    assert str(run("resolve", "127.0.0.1:9/app", "--username", "me")) == snapshot("""\
status: 2
--- stdout
--- stderr
error: a user name and a password go together
hint: give `--username NAME --password-stdin`, or neither
""")


def test_demo_succeeds_and_shows_every_command(run: Run) -> None:
    seen = run("demo")

    assert seen.status == 0
    # `serve` would not end, a login and a machine are a person's own, and Docker Hub is far away;
    # the others are how somebody came here.
    apart = {"serve", "demo", "options", "login", "logout", "search", "quota", "doctor", "help"}
    apart |= {"repositories"}
    for name in set(NAMES) - apart:
        assert re.search(rf"^\$ resolver {name}\b", seen.stdout, re.MULTILINE)
    assert "defect" not in seen.stdout


def test_internal_error_is_one_line_with_a_report_hint(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise ZeroDivisionError("by zero")

    monkeypatch.setattr("resolver.session.Session.resolve", broken)
    seen = run("resolve", "127.0.0.1:9/app")

    assert seen.status == 70
    assert seen.stderr.count("error: ") == 1
    assert "Traceback" not in seen.stderr
