"""Help pages, usage errors and the demo."""

from __future__ import annotations

import json
import os
import re
import tarfile
from typing import TYPE_CHECKING

import pytest
from inline_snapshot import snapshot

from resolver._version import __version__
from resolver.cli.app import COMMANDS, build
from resolver.cli.options import SHARED, Shared, arrange
from tests.kit.processes import command

if TYPE_CHECKING:
    from pathlib import Path

    from tests.cli.conftest import Run

NAMES = [name for _group, name, _module, _summary in COMMANDS]


def test_front_page_has_the_first_line_of_every_help_page() -> None:
    commands = build(NAMES).commands

    assert [row[3] for row in COMMANDS] == [
        commands[name].get_short_help_str(200) for name in NAMES
    ]


def test_missing_argument_lists_its_choices_on_one_line(run: Run) -> None:
    assert run("index").stderr == (
        "error: missing argument 'create|edit'. Choose from: create, edit\n"
        "hint: see `resolver index --help`\n"
    )


def test_help_front_page(run: Run) -> None:
    assert str(run("--help")) == snapshot("""\
status: 0
--- stdout
Usage: resolver [OPTIONS] COMMAND [ARGS]...

  Resolve, inspect, compare and pull multi-platform container images.

Options:
  -V, --version         Print the version and exit.
  --install-completion  Install completion for the current shell.
  --show-completion     Show completion for the current shell, to copy it or
                        customize the installation.
  -h, --help            Show this message and exit.

Ask:
  resolve       Resolve an image to a manifest digest.
  platforms     List the platforms of images.
  inspect       Show indexes or images.
  attestations  Show signatures, SBOMs and provenance by platform.
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
  merge   Join the results of several runs into one answer.

Run:
  serve          Serve the store or an OCI layout as a registry.
  mirror-config  Print a mirror configuration for another tool.
  demo           Show all commands on sample images.
  login          Log in to a registry, by default Docker Hub.
  logout         Log out of a registry, by default Docker Hub.
  doctor         Check the configuration of this machine.

Help:
  help        Show help on a topic or a command, or list the topics.
  options     List the options that all commands accept.
  completion  Print the completion script for a shell.
  version     Print the version.

  Help for a command: resolver COMMAND --help

  Help on a topic: resolver help TOPIC
--- stderr
""")


@pytest.mark.parametrize("name", NAMES)
def test_every_command_help_fits_one_screen(run: Run, name: str) -> None:
    seen = run(name, "--help")

    own, title, _shared = seen.stdout.partition("\nShared options:\n")
    assert seen.status == 0
    # Commands with more than 25 options, a line each.
    most = {"check": 52, "pull": 47, "plan": 43, "lock": 41}
    assert len(own.splitlines()) <= most.get(name, 40)
    assert max(map(len, seen.stdout.splitlines())) <= 80
    assert bool(title) == (name not in {"help", "options", "version", "demo", "completion"})


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
  [REF]...  Images: `ubuntu:24.04`, `oci:DIR`; see `resolver help references`.

Options:
  -p, --platform PLATFORM  os/arch[/variant][:os.version]; repeat it or use
                           commas; `local`, `all`, `linux/*`.
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
  --cluster ADDRESS        Dask scheduler to use, or `local:N`
                           [RESOLVER_CLUSTER].
  --cluster-jobs N         Requests at once per registry
                           [RESOLVER_CLUSTER_JOBS].
  --shard I/N              Only part I of N: I/N, auto or auto/N
                           [RESOLVER_SHARD].
  --results FILE           Append answers; ask only for those not in it.
  --fresh AGE              Ask again after this time: 12h, 7d; by default 1d.
  -h, --help               Show this message and exit.

Shared options:
  --format FORMAT        Output format: table, json and more
                         [RESOLVER_FORMAT].
  --json                 Short for `--format json`.
  -o, --output FILE      Write the answer to FILE.
  -q, --quiet            Print no warnings or notes [RESOLVER_QUIET].
  -v, --verbose          Log what happens; twice: every request.
  --color WHEN           Colours: auto, always, never; NO_COLOR, FORCE_COLOR.
  --no-progress          Show no progress [RESOLVER_NO_PROGRESS].
  --store DIR            Folder of the local store [RESOLVER_STORE].
  --offline              Use only the store, no network [RESOLVER_OFFLINE].
  --no-fsync             Faster, not safe from power cuts [RESOLVER_NO_FSYNC].
  --unsafe-no-lock       Do not lock the store [RESOLVER_UNSAFE_NO_LOCK].
  --shared-store         Trust a shared store [RESOLVER_SHARED_STORE].
  --jobs N               Concurrent requests, 1 to 256 [RESOLVER_JOBS].
  --plain-http           Use HTTP without TLS [RESOLVER_PLAIN_HTTP].
  --ca-file FILE         Also trust these certificates [RESOLVER_CA_FILE].
  --tls-skip-verify      Skip TLS verification [RESOLVER_TLS_SKIP_VERIFY].
  --mirror HOST=URL      Try URL first; `#tags`: for tags too
                         [RESOLVER_MIRROR].
  --auth-file FILE       Read credentials only from FILE [RESOLVER_AUTH_FILE].
  --anonymous            Use no credentials [RESOLVER_ANONYMOUS].
  -u, --username NAME    User name [RESOLVER_USERNAME].
  --password-stdin       Read the password from stdin [RESOLVER_PASSWORD].
  --platforms-file FILE  Add platform facts [RESOLVER_PLATFORMS].
  --prefer FORM          Prefer zstd or gzip layers [RESOLVER_PREFER].
  --emit SYSTEM          Also pass the answer to a CI system [RESOLVER_EMIT].
  --report FORM=FILE     Also write a report to FILE [RESOLVER_REPORT].

  Formats, CI systems and reports: resolver options
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
    apart = {
        "serve",
        "demo",
        "options",
        "login",
        "logout",
        "search",
        "quota",
        "doctor",
        "help",
        "completion",
    }
    apart |= {"version", "repositories", "merge"}
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


# Shared options


@pytest.mark.parametrize(
    "before",
    [
        ("--json",), ("--format", "json"), ("--format=json",), ("-q", "--json"), ("-qv", "--json"),
        ("--jobs", "2", "-u", "me", "--format", "json"), ("-ume", "--json"),
    ],
    ids=" ".join,
)  # fmt: skip
def test_shared_options_before_the_command(
    run: Run, monkeypatch: pytest.MonkeyPatch, before: tuple[str, ...]
) -> None:
    monkeypatch.setenv("RESOLVER_PASSWORD", "x")
    monkeypatch.setenv("RESOLVER_USERNAME", "me")
    after = run("ls", *before)

    assert after.status == 0
    assert json.loads(after.stdout)["images"] == []
    assert run(*before, "ls") == after


@pytest.mark.parametrize("shared", SHARED, ids=lambda shared: shared.field)
def test_every_shared_option_can_stand_before_the_command(run: Run, shared: Shared) -> None:
    values = {"store": "s", "jobs": "3", "mirrors": "docker.io=http://127.0.0.1:1", "form": "yaml"}
    value = values.get(shared.field, "linux") if shared.metavar else ""
    for name in shared.names.split():
        words = [name, value] if value else [name]
        assert run(*words, "help", "platforms").stderr.startswith("error: no such option: --")
        assert arrange([*words, "ls", "x"]) == ["ls", shared.names.split()[0], *words[1:], "x"]


def test_short_options_before_lock_are_the_shared_ones(run: Run, tmp_path: Path) -> None:
    seen = run("-o", "answer.txt", "lock", "--check", "--lock-file", "none.lock")

    assert seen.status != 0
    assert "answer.txt" not in seen.stderr
    assert not (tmp_path / "answer.txt").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--json",), "no command given"),
        (("--frob", "ls"), "no such option: --frob"),
        (("--json", "--frob", "ls"), "no such option: --frob"),
        (("--json", "lst"), "no such command 'lst'"),
        (("-o",), "no command given"),
    ],
)
def test_mistakes_before_the_command(run: Run, words: tuple[str, ...], message: str) -> None:
    seen = run(*words)

    assert seen.status == 2
    assert seen.stderr.startswith(f"error: {message}")
    assert seen.stderr.endswith("hint: see `resolver --help`\n")


@pytest.mark.parametrize("word", ["--version", "-V", "version"])
def test_version_can_be_spelled_three_ways(run: Run, word: str) -> None:
    assert run(word).stdout == f"resolver {__version__}\n"
    assert command(word).stdout.decode() == f"resolver {__version__}\n"


@pytest.mark.parametrize("name", NAMES)
def test_usage_shows_arguments_without_braces_and_describes_each(run: Run, name: str) -> None:
    page = run(name, "--help").stdout

    assert "{" not in page.partition("\n\n")[0]
    listed = page.partition("\nArguments:\n")[2].partition("\n\n")[0]
    for line in listed.splitlines():
        assert re.fullmatch(r"  \S.*?  +[^\s\[].*|   +\S.*", line), line


def test_help_of_login_shows_how_to_name_the_user(run: Run) -> None:
    page = run("login", "--help").stdout

    assert "-u, --username NAME" in page
    assert "--password-stdin" in page


# The file of an answer


def test_output_writes_the_answer_to_a_file(run: Run, registry: str, tmp_path: Path) -> None:
    words = ("platforms", f"{registry}/demo/app:1.0")
    for extra in ((), ("--json",), ("--format", "markdown")):
        answer = run(*words, *extra, keep=True)
        seen = run(*words, *extra, "-o", "answer", keep=True)

        assert (seen.status, seen.stdout) == (0, "")
        assert (tmp_path / "answer").read_text("utf-8") == answer.stdout
    assert not any(path.name.startswith(".resolver-") for path in tmp_path.iterdir())


def test_output_writes_exact_bytes_and_archives(run: Run, registry: str, tmp_path: Path) -> None:
    image = f"{registry}/demo/app:1.0"
    raw = run("inspect", image, "--raw", keep=True).stdout
    run("inspect", image, "--raw", "--output", "index.json")
    run("pull", image, "-p", "linux/arm64")
    seen = run("export", image, "--to", "-", "-o", "image.tar")

    assert (tmp_path / "index.json").read_text("utf-8") == raw
    assert (seen.status, seen.stdout) == (0, "")
    with tarfile.open(tmp_path / "image.tar") as archive:
        assert "oci-layout" in archive.getnames()


def test_output_leaves_the_file_alone_if_there_is_no_answer(run: Run, tmp_path: Path) -> None:
    file = tmp_path / "answer"
    file.write_text("before", "utf-8")
    file.chmod(0o640)

    assert run("resolve", "A B", "-o", "answer").status == 2
    assert file.read_text("utf-8") == "before"
    assert run("ls", "-o", "answer").status == 0
    assert file.read_text("utf-8") == "images: none\n"
    assert file.stat().st_mode & 0o777 == 0o640
    assert run("resolve", "A B", "-o", "answer", "--json").status == 2
    assert json.loads(file.read_text("utf-8"))["error"]["status"] == 2
    assert [path.name for path in tmp_path.iterdir()] == ["answer"]


def test_output_keeps_the_lines_before_a_failure(run: Run, registry: str, tmp_path: Path) -> None:
    images = (f"{registry}/demo/app:1.0", f"{registry}/demo/none:1")
    seen = run("resolve", *images, "-p", "linux/arm64", "-o", "lines")

    assert (seen.status, seen.stdout) == (3, "")
    assert len((tmp_path / "lines").read_text("utf-8").splitlines()) == 2


def test_output_that_cannot_be_written_fails_before_any_request(run: Run) -> None:
    seen = run("resolve", "127.0.0.1:9/app", "-o", "none/answer")

    assert seen.status == 8
    assert seen.stderr.startswith("error: cannot write `FOLDER/none/answer`: No such file")


def test_output_through_a_link_replaces_its_target(run: Run, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("target")
    run("ls", "-o", "link")

    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "target").read_text("utf-8") == "images: none\n"


def test_output_to_a_pipe_and_to_standard_output(run: Run) -> None:
    reading, writing = os.pipe()
    assert run("ls", "-o", f"/dev/fd/{writing}").status == 0
    os.close(writing)
    with os.fdopen(reading) as stream:
        assert stream.read() == "images: none\n"
    assert run("ls", "-o", "-").stdout == "images: none\n"
