"""Output of `resolver inspect`, `platforms` and `tags`."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

import pytest
from inline_snapshot import snapshot

from resolver.core.oci.descriptor import OCI_INDEX
from resolver.core.oci.digest import Digest
from resolver.demo import samples
from tests.kit.images import build_image, build_index, entry, from_dict
from tests.kit.registry import FakeRegistry

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.cli.conftest import Run


def sample(tag: str) -> tuple[str, bytes]:
    found = next(s for s in samples() if (s.repository, s.tag) == ("demo/app", tag))
    return str(found.root.digest), found.documents[found.root.digest][1]


def test_platforms_with_sizes(run: Run, registry: str) -> None:
    assert str(run("platforms", f"{registry}/demo/app:1.0")) == snapshot("""\
status: 0
--- stdout
image    HOST:PORT/demo/app:1.0
index    sha256:f62fb544ff3da135d80cbd5f3898da060dcde3fdfec843495609fdaed57dbfda

PLATFORM                       DIGEST               LAYERS    SIZE
linux/amd64                    sha256:311923c08153       3  184 kB
linux/arm64/v8                 sha256:8d3661f10977       3  184 kB
linux/arm/v7                   sha256:e9c938fb2564       3  184 kB
windows/amd64:10.0.20348.2700  sha256:afae86adc642       2  102 kB
windows/amd64:10.0.26100.1742  sha256:8322b11c5bf7       2  102 kB
--- stderr
""")


def test_platforms_with_attestations(run: Run, registry: str) -> None:
    seen = run("platforms", f"{registry}/demo/app:1.0", "--attestations", "--index-only")

    assert str(seen) == snapshot("""\
status: 0
--- stdout
image    HOST:PORT/demo/app:1.0
index    sha256:f62fb544ff3da135d80cbd5f3898da060dcde3fdfec843495609fdaed57dbfda

platforms
PLATFORM                       DIGEST               LAYERS  SIZE
linux/amd64                    sha256:311923c08153       -     -
linux/arm64/v8                 sha256:8d3661f10977       -     -
linux/arm/v7                   sha256:e9c938fb2564       -     -
windows/amd64:10.0.20348.2700  sha256:afae86adc642       -     -
windows/amd64:10.0.26100.1742  sha256:8322b11c5bf7       -     -

attestations
DIGEST               REFERS TO            BYTES
sha256:708e4d188822  sha256:311923c08153    565
sha256:ba224a2ffee7  sha256:8d3661f10977    565
sha256:374989eeaccf  sha256:e9c938fb2564    565
--- stderr
""")


def test_platforms_of_a_single_image_come_from_its_config(run: Run, registry: str) -> None:
    assert str(run("platforms", f"{registry}/demo/single:1.0")) == snapshot("""\
status: 0
--- stdout
image    HOST:PORT/demo/single:1.0
manifest sha256:311923c08153b9d107c1c7012d4b0f8240c9c12b013cda6877aea9dbd1c9cede

PLATFORM     DIGEST               LAYERS    SIZE
linux/amd64  sha256:311923c08153       3  184 kB
--- stderr
""")


def test_inspect_prints_an_index_without_a_platform(run: Run, registry: str) -> None:
    assert str(run("inspect", f"{registry}/demo/app:1.0")) == snapshot("""\
status: 0
--- stdout
image    HOST:PORT/demo/app:1.0
index    sha256:f62fb544ff3da135d80cbd5f3898da060dcde3fdfec843495609fdaed57dbfda
type     application/vnd.oci.image.index.v1+json

entries
PLATFORM                       DIGEST               BYTES  TYPE
linux/amd64                    sha256:311923c08153    860  oci manifest
linux/arm64/v8                 sha256:8d3661f10977    860  oci manifest
linux/arm/v7                   sha256:e9c938fb2564    860  oci manifest
windows/amd64:10.0.20348.2700  sha256:afae86adc642    668  oci manifest
windows/amd64:10.0.26100.1742  sha256:8322b11c5bf7    668  oci manifest
(attestation)                  sha256:708e4d188822    565  oci manifest
(attestation)                  sha256:ba224a2ffee7    565  oci manifest
(attestation)                  sha256:374989eeaccf    565  oci manifest

annotations
KEY                               VALUE
org.opencontainers.image.version  1.0
--- stderr
""")


def test_inspect_prints_every_part_of_an_image(run: Run, registry: str) -> None:
    assert str(run("inspect", f"{registry}/demo/app:1.0", "-p", "linux/arm64")) == snapshot("""\
status: 0
--- stdout
image    HOST:PORT/demo/app:1.0
platform linux/arm64/v8
manifest sha256:8d3661f10977092ba3e4590d693f5940d274cf3b0608e5d03306b90e48305c7a
index    sha256:f62fb544ff3da135d80cbd5f3898da060dcde3fdfec843495609fdaed57dbfda
type     application/vnd.oci.image.manifest.v1+json
config   sha256:640d34e29cdff0d3eb30a0e36b69576b7450992ca42314b4da7224a6465df4ad
layers   3, 184 kB
created  2024-05-01T12:00:00Z
user     65532
workdir  /
entry    /usr/local/bin/app
command  serve
ports    8080/tcp

layers
#  DIGEST                  SIZE  TYPE
1  sha256:50ee82149703  51.2 kB  oci tar+gzip
2  sha256:19281301ecf8   102 kB  oci tar+gzip
3  sha256:14fa95f15ff1  30.7 kB  oci tar+gzip

environment
NAME         VALUE
PATH         /usr/local/bin:/usr/bin:/bin
APP_VERSION  1.0

labels
KEY                               VALUE
org.opencontainers.image.source   https://example.com/demo/app
org.opencontainers.image.title    demo
org.opencontainers.image.version  1.0

history
#     SIZE  STEP
1  51.2 kB  ADD rootfs.tar / # buildkit
2   102 kB  COPY words /usr/share/app/ # buildkit
3  30.7 kB  COPY app /usr/local/bin/ # buildkit
4        -  CMD ["serve"]
--- stderr
""")


def test_inspect_json_contains_the_published_documents(run: Run, registry: str) -> None:
    seen = run("inspect", f"{registry}/demo/app:1.0", "-p", "linux/amd64", "--json")
    output = json.loads(seen.stdout)

    assert output["config"]["architecture"] == "amd64"
    assert output["manifest"]["document"]["schemaVersion"] == 2
    assert output["layersSize"] == sum(layer["size"] for layer in output["layers"])


def test_tags_are_in_the_order_of_the_registry(run: Run, registry: str) -> None:
    assert str(run("tags", f"{registry}/demo/app")) == snapshot("""\
status: 0
--- stdout
1.0
2.0
latest
--- stderr
""")


def test_tags_limit_the_number_of_results(run: Run, registry: str) -> None:
    assert run("tags", f"{registry}/demo/app", "--limit", "1").stdout.count("\n") == 1


def test_tags_in_json(run: Run, registry: str) -> None:
    output = json.loads(run("tags", f"{registry}/demo/app", "--json").stdout)

    assert output["tags"] == ["1.0", "2.0", "latest"]


@pytest.mark.parametrize("form", ["digest", "ref", "markdown"])
def test_tags_support_no_other_format(run: Run, registry: str, form: str) -> None:
    assert run("tags", f"{registry}/demo/app", "--format", form).status == 2


def test_inspect_rejects_conflicting_options(run: Run, registry: str) -> None:
    name = f"{registry}/demo/app:1.0"

    assert str(run("inspect", name, "--raw", "--config")) == snapshot("""\
status: 2
--- stdout
--- stderr
error: `--raw` and `--config` each print one document
hint: choose one of them
""")
    assert str(run("inspect", name, "--raw", "--json")) == snapshot("""\
status: 2
--- stdout
{
  "schema": 1,
  "error": {
    "class": "USAGE",
    "code": "usage",
    "status": 2,
    "message": "`--raw` prints exact bytes, so `--format json` cannot apply",
    "hints": [
      "leave one of them out; the bytes of `--raw` are JSON already"
    ]
  }
}
--- stderr
error: `--raw` prints exact bytes, so `--format json` cannot apply
hint: leave one of them out; the bytes of `--raw` are JSON already
""")
    assert str(run("inspect", name, "-p", "linux/amd64,linux/arm64")) == snapshot("""\
status: 2
--- stdout
--- stderr
error: `inspect` shows one platform at a time
hint: name one platform
""")


def test_inspect_raw_prints_the_exact_bytes(
    store: object, registry: str, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    digest, body = sample("1.0")

    del store
    from resolver.cli.app import run as command_line

    assert command_line(["inspect", "--raw", f"{registry}/demo/app:1.0"]) == 0
    printed = capfdbinary.readouterr().out

    assert printed == body
    assert str(Digest.of(printed)) == digest


def test_inspect_config_prints_the_exact_bytes_for_one_platform(
    store: object, registry: str, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    del store
    from resolver.cli.app import run as command_line

    words = ["inspect", "--config", "-p", "linux/arm64", f"{registry}/demo/app:1.0"]
    assert command_line(words) == 0

    assert json.loads(capfdbinary.readouterr().out)["architecture"] == "arm64"


def test_inspect_config_defaults_to_this_machines_platform(run: Run, registry: str) -> None:
    seen = run("inspect", "--config", f"{registry}/demo/app:1.0", keep=True)

    assert seen.status == 0
    assert seen.stderr == ""


def test_inspect_markdown_prints_whole_digests(run: Run, registry: str) -> None:
    digest, _body = sample("1.0")
    seen = run("platforms", f"{registry}/demo/app:1.0", "--format", "markdown")

    assert digest in seen.stdout
    assert seen.stdout.count("sha256:") == 6
    assert all(len(word) >= 71 for word in seen.stdout.split() if word.startswith("sha256:"))


def test_tags_newest_first_for_a_platform(run: Run, registry: str) -> None:
    words = ("tags", f"{registry}/demo/app", "-p", "linux/arm64", "--newest", "--limit", "2")

    assert str(run(*words)) == snapshot("""\
status: 0
--- stdout
2.0
1.0
--- stderr
""")
    assert run(*words, "--json").stdout.count('"2.0"') == 1
    assert run(*words, "--format", "jsonl").stdout == '{"tag":"2.0"}\n{"tag":"1.0"}\n'


def test_tags_of_a_flavour(run: Run, registry: str) -> None:
    words = ("tags", f"{registry}/demo/app")

    nothing = run(*words, "--suffix", "-no-such")
    assert (nothing.status, nothing.stdout, nothing.stderr) == (0, "", "")
    assert run(*words, "--include", "2.*", "--format", "jsonl").stdout == '{"tag":"2.0"}\n'
    assert run(*words, "--exclude", "2.*").stdout == run(*words, "--exclude", "2.0").stdout
    assert "2.0" not in run(*words, "--exclude", "2.*").stdout.split()
    assert str(run(*words, "--include", "a b")) == snapshot("""\
status: 2
--- stdout
--- stderr
error: `--include a b` matches no tag
hint: write letters, digits, `_`, `.`, `-`; `*` stands for any text, `?` for one character
""")


def test_tags_outside_version_ranges_are_reported(run: Run, registry: str) -> None:
    assert run("tags", f"{registry}/demo/app", "--semver", ">=3").stdout == ""
    assert str(run("tags", f"{registry}/demo/app", "--semver", "new")) == snapshot("""\
status: 2
--- stdout
--- stderr
error: `new` is not a range of versions
hint: write `>=1.25`, `^1.2`, `~1.2`, `1.x` or `>=1 <3`
""")


def test_tags_that_exceed_the_request_limit_are_reported(run: Run, registry: str) -> None:
    words = ("tags", f"{registry}/demo/app", "-p", "linux/s390x", "--max-requests", "1")

    assert str(run(*words)) == snapshot("""\
status: 1
--- stdout
--- stderr
error: the answer is not complete after 1 requests (`--max-requests`)
hint: raise the limit, or narrow the search with `--limit` or `--semver`
""")


@pytest.fixture
def unverifiable() -> Iterator[str]:
    """An image whose index lists an image and an index by digests of unknown algorithms."""
    image, other = build_image("linux/amd64"), build_image("linux/arm64")
    nested = {**entry(build_image("linux/s390x")), "mediaType": OCI_INDEX}
    extra = [
        {**entry(other), "digest": "blake3:" + "a" * 64},
        {**nested, "digest": "b3:" + "b" * 9},
    ]
    with FakeRegistry() as registry:
        registry.serve("app", "1", build_index([image], extra=extra))
        yield f"{registry.host}/app:1"


@pytest.mark.parametrize("words", [("platforms",), ("platforms", "--index-only"), ("inspect",)])
def test_inspect_lists_entries_that_cannot_be_verified(
    run: Run, unverifiable: str, words: tuple[str, ...]
) -> None:
    seen = run(*words, unverifiable)
    assert seen.status == 0
    for platform, digest in [("amd64", "sha256:"), ("arm64", "blake3:aaa"), ("s390x", "b3:bbb")]:
        assert re.search(f"linux/{platform} +{digest}", seen.stdout)


@pytest.mark.parametrize(
    ("words", "status", "stated"),
    [
        (("check", "--require", "linux/amd64"), 0, "passed"),
        (("check", "--require", "linux/arm64"), 1, "`linux/arm64` is not offered"),
        (("matrix",), 0, "`b3` digests cannot be verified"),
        (("compare",), 0, "`blake3` digests cannot be verified"),
        (("lint",), 0, "unknown-digest"),
        (("pull", "-p", "linux/amd64"), 0, "Downloaded"),
        (("pull", "-p", "linux/arm64"), 6, "`blake3:aaa"),
        (("pull", "-p", "all"), 6, "`blake3:aaa"),
        (("plan", "-p", "all"), 6, "`blake3:aaa"),
        (("resolve", "-p", "all"), 6, "`b3:bbb"),
    ],
)
def test_unverifiable_entry_fails_only_commands_that_need_it(
    run: Run, unverifiable: str, words: tuple[str, ...], status: int, stated: str
) -> None:
    seen = run(*words, unverifiable)
    assert seen.status == status, seen
    assert stated in seen.stdout + seen.stderr
    if words == ("matrix",):
        assert "arm64" not in seen.stdout


@pytest.mark.parametrize("written", ["null", "missing", "empty"])
@pytest.mark.parametrize(
    "words", [("resolve",), ("inspect",), ("pull",), ("lint",), ("platforms",)]
)
def test_inspect_of_an_image_without_layers(run: Run, words: tuple[str, ...], written: str) -> None:
    image = build_image("linux/amd64", [], config={"history": None, "rootfs": None})
    document = {**json.loads(image.body), "annotations": None}
    if written == "missing":
        del document["layers"]
    elif written == "null":
        document["layers"] = None
    with FakeRegistry() as registry:
        bare = from_dict(document, parts=[image])
        listing = {**entry(bare), "platform": {"os": "linux", "architecture": "amd64"}}
        registry.serve("app", "one", bare)
        registry.serve(
            "app",
            "listed",
            from_dict(
                {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [listing]}, parts=[bare]
            ),
        )
        for tag in ("one", "listed"):
            platform = ("-p", "linux/amd64") if words[0] in {"resolve", "pull"} else ()
            seen = run(*words, f"{registry.host}/app:{tag}", *platform)
            assert seen.status == 0, seen
            if tag == "one" or words[0] not in {"resolve", "inspect"}:
                warned = "has no `layers`; it is read as having none" in seen.stderr
                assert warned is (written == "missing"), seen


def test_history_has_the_size_of_each_step(run: Run, registry: str) -> None:
    words = ("inspect", f"{registry}/demo/app:1.0", "-p", "linux/arm64")
    values = json.loads(run(*words, "--json").stdout)

    assert values["stepSizes"] == [*(layer["size"] for layer in values["layers"]), None]
    assert "\n2   102 kB  COPY words" in run(*words).stdout
    assert "\n4        -  CMD" in run(*words).stdout


def test_history_that_disagrees_with_the_layers_has_no_sizes(run: Run) -> None:
    history = [{"created_by": "one"}, {"created_by": "two"}]
    with FakeRegistry() as host:
        image = build_image("linux/amd64", [b"layer"], config={"history": history})
        host.serve("app", "1", image)
        seen = run("inspect", f"{host.host}/app:1", "--json")

    assert json.loads(seen.stdout)["stepSizes"] == [None, None]


@pytest.mark.parametrize("name", ["inspect", "platforms"])
def test_several_images_below_each_other(run: Run, registry: str, name: str) -> None:
    images = [f"{registry}/demo/app:{tag}" for tag in ("1.0", "9.9", "2.0")]
    first, last = (run(name, image).stdout for image in (images[0], images[2]))
    seen = run(name, *images)

    assert seen.status == 3
    assert seen.stdout == f"{first}\n{last}"
    assert "demo/app:9.9" in seen.stderr
    results = json.loads(run(name, *images, "--json").stdout)["results"]
    assert [("error" in result) for result in results] == [False, True, False]
    lines = run(name, *images, "--format", "jsonl").stdout.splitlines()
    assert [json.loads(line)["reference"].rpartition(":")[2] for line in lines] == [
        "1.0", "9.9", "2.0",
    ]  # fmt: skip


@pytest.mark.parametrize("option", ["--raw", "--config"])
def test_exact_bytes_are_of_one_image(run: Run, registry: str, option: str) -> None:
    seen = run("inspect", f"{registry}/demo/app:1.0", f"{registry}/demo/app:2.0", option)

    assert seen.status == 2
    assert f"`{option}` prints one document" in seen.stderr


def test_tags_are_included_and_excluded_by_pattern(run: Run, registry: str) -> None:
    words = ("tags", f"{registry}/demo/app")

    assert run(*words, "--include", "?.0").stdout.split() == ["1.0", "2.0"]
    assert run(*words, "--exclude", "l*", "--exclude", "1.*").stdout.split() == ["2.0"]
