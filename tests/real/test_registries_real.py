"""What clients make of the quirks of registries: docs/registries.md, measured.

`UPDATE_DOCS=1 scripts/test tests/real/test_registries_real.py` writes the page.
"""

from __future__ import annotations

import os
import random
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import pytest

from resolver.core.oci.descriptor import OCI_CONFIG, OCI_MANIFEST
from tests.kit.images import build_image, build_index, build_layer, from_dict
from tests.kit.layouts import write_layout
from tests.kit.processes import ROOT
from tests.kit.pushes import Pusher, digest_of
from tests.kit.writable import QuirkRow, Quirks, WritableRegistry, rows
from tests.verbs.test_serve_write import referrer

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.kit.images import Image
    from tests.kit.messages import Seen

pytestmark = pytest.mark.real

PAGE = ROOT / "docs" / "registries.md"
UPDATE = bool(os.environ.get("UPDATE_DOCS"))
ROWS = rows()
REPOSITORY = "team/app"
LAYER = "application/vnd.oci.image.layer.v1.tar"
#: Larger than the limits of the quirks, also when it is compressed.
NOISE = random.Random(1).randbytes(6_000_000)


@dataclass(frozen=True)
class Client:
    """A program that copies an image between registries.

    Attributes:
        version: words that print its version.
        copy: words for a copy of a whole image, or of one platform with the whole index.

    """

    version: tuple[str, ...]
    copy: Callable[[str, str, bool], list[str]]


def ours(source: str, target: str, sparse: bool) -> list[str]:
    some = ["-p", "linux/arm64", "--sparse"] if sparse else []
    return [sys.executable, "-m", "resolver", "copy", source, target, *some]


def skopeo(source: str, target: str, sparse: bool) -> list[str]:
    tls = ["--src-tls-verify=false", "--dest-tls-verify=false", "--preserve-digests"]
    which = "--multi-arch=index-only" if sparse else "--all"
    names = [f"docker://{source}", f"docker://{target}"]
    return ["skopeo", "--insecure-policy", "copy", "--quiet", which, *tls, *names]


def crane(source: str, target: str, _sparse: bool) -> list[str]:
    return ["crane", "copy", "--insecure", source, target]


def regctl(source: str, target: str, sparse: bool) -> list[str]:
    some = ["--platforms", "linux/arm64"] if sparse else []
    return ["regctl", "image", "copy", "--referrers", *some, source, target]


def oras(source: str, target: str, _sparse: bool) -> list[str]:
    tls = ["--from-plain-http", "--to-plain-http"]
    return ["oras", "copy", "--recursive", *tls, source, target]


CLIENTS = {
    "resolver": Client((sys.executable, "-m", "resolver", "--version"), ours),
    "skopeo": Client(("skopeo", "--version"), skopeo),
    "crane": Client(("crane", "version"), crane),
    "regctl": Client(("regctl", "version", "--format", "{{.VCSTag}}"), regctl),
    "oras": Client(("oras", "version"), oras),
}


def image() -> Image:
    """Make an index with attestations and a large layer."""
    large = build_image("linux/amd64", [build_layer({"noise": NOISE})])
    return build_index([large, build_image("linux/arm64")], attestations=True)


def image_with_sha512() -> Image:
    """Make an image whose layer has a sha512 digest."""
    config, layer = b'{"os":"linux","architecture":"amd64"}', b"layer"
    made = from_dict(
        {
            "schemaVersion": 2,
            "mediaType": OCI_MANIFEST,
            "config": {"mediaType": OCI_CONFIG, "digest": digest_of(config), "size": len(config)},
            "layers": [
                {"mediaType": LAYER, "digest": digest_of(layer, "sha512"), "size": len(layer)}
            ],
        }
    )
    return replace(made, blobs={digest_of(config): config, digest_of(layer, "sha512"): layer})


def found(name: str) -> str | None:
    """Return the version of a client; None where it is not installed."""
    words = CLIENTS[name].version
    if shutil.which(words[0]) is None:
        return None
    printed = subprocess.run(words, check=True, capture_output=True, text=True).stdout
    number = re.search(r"[0-9]+\.[0-9][0-9.]*", printed)
    return "" if name == "resolver" or number is None else number[0]


def run(words: list[str], home: Path) -> subprocess.CompletedProcess[str]:
    environment = {"PATH": os.environ["PATH"], "HOME": str(home), "TMPDIR": str(home)}
    return subprocess.run(
        words, check=False, capture_output=True, text=True, env=environment, timeout=100
    )


def measure(row: QuirkRow, name: str, folder: Path) -> str:
    """Copy an image into a registry with a quirk; return what came of it."""
    quirks, client = row.quirks, CLIENTS[name]
    is_sha512 = not quirks.sha512
    root = image_with_sha512() if is_sha512 else image()
    sbom = referrer(root)
    with (
        WritableRegistry(folder / "source") as source,
        WritableRegistry(folder / "target", quirks) as target,
    ):
        origin = target if quirks.mounts != "yes" else source
        origin.quirks, wanted = Quirks(), origin.quirks
        Pusher(origin.host).image("team/base", "1", root)
        Pusher(origin.host).image("team/base", sbom.digest, sbom)
        origin.quirks = wanted
        words = client.copy(
            f"{origin.host}/team/base:1",
            f"{target.host}/{REPOSITORY}:1",
            "sparse" in row.name,
        )
        done = run(words, folder)
        if quirks.immutable and done.returncode == 0:
            done = run(words, folder)
        target.quirks = Quirks()
        return judge(Pusher(target.host), root, sbom, done, name)


def judge(
    client: Pusher,
    root: Image,
    sbom: Image,
    done: subprocess.CompletedProcess[str],
    name: str,
) -> str:
    """Compare what a registry has with what should be there."""
    tag = client.ask("GET", f"/v2/{REPOSITORY}/manifests/1")
    has_tag = tag.status == 200
    parts = [f"manifests/{digest}" for digest in root.documents]
    parts += [f"blobs/{digest}" for digest in root.blobs]
    missing = [
        part for part in parts if client.ask("HEAD", f"/v2/{REPOSITORY}/{part}").status != 200
    ]
    if name == "resolver":
        # Whatever the registry does: a tag names all there is, and there is one clear error.
        assert not has_tag or not missing
        errors = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
        assert len(errors) == (1 if done.returncode else 0), done.stderr
        assert "Traceback" not in done.stderr
    if done.returncode:
        return "error"
    assert has_tag
    assert (tag.body == root.body) == (not missing)
    if missing:
        return "incomplete"
    listed = client.ask("GET", f"/v2/{REPOSITORY}/referrers/{root.digest}").json["manifests"]
    is_referred = sbom.digest in [entry["digest"] for entry in listed]
    return "copied" if is_referred else "copied without referrers"


def cells(page: str) -> tuple[list[str], dict[str, list[str]]]:
    """Read the table of the page: the clients, and the outcomes of each row."""
    lines = [line for line in page.splitlines() if line.startswith("| ")]
    split = [[cell.strip() for cell in line.strip("| ").split(" | ")] for line in lines]
    return split[0][2:], {row[0]: row[2:] for row in split[1:]}


def table(columns: list[str], outcomes: dict[str, list[str]]) -> str:
    lines = [
        f"| {' | '.join(['the registry', 'known of', *columns])} |",
        "|---|---|" + "---|" * len(columns),
    ]
    for row in ROWS:
        line = [row.name, row.registries, *outcomes.get(row.name, ["?"] * len(columns))]
        lines.append(f"| {' | '.join(line)} |")
    return "\n".join(lines) + "\n"


def update(row: QuirkRow, folder: Path) -> None:
    """Write the outcomes of a row into the page."""
    versions = {name: found(name) for name in CLIENTS}
    names = [name for name, version in versions.items() if version is not None]
    columns = [f"{name} {versions[name]}".strip() for name in names]
    measured = [measure(row, name, folder / name) for name in names]
    page = PAGE.read_text()
    before = cells(page)[1] if "\n| " in page else {}
    intro = page.partition("| the registry")[0]
    PAGE.write_text(f"{intro}{table(columns, {**before, row.name: measured})}")


@pytest.mark.usefixtures("with_skopeo")
@pytest.mark.parametrize("row", ROWS, ids=[row.name for row in ROWS])
def test_quirk_is_survived_as_the_page_says(row: QuirkRow, tmp_path: Path) -> None:
    for name in CLIENTS:
        (tmp_path / name).mkdir()
    if UPDATE:
        update(row, tmp_path)
    columns, outcomes = cells(PAGE.read_text())
    for column, expected in zip(columns, outcomes[row.name], strict=True):
        name, _, version = column.partition(" ")
        # Another version of another tool may do something else.
        if found(name) == version:
            assert measure(row, name, tmp_path / name / "again") == expected, name


#: Of a blob that is sent in two chunks.
LARGE = random.Random(2).randbytes(80 << 20)


def large(folder: Path) -> tuple[str, Image]:
    """Write a layout with an image of one large layer."""
    made = build_image("linux/amd64", [LARGE])
    return f"oci:{write_layout(folder / 'layout', {'1': made})}:1", made


@pytest.mark.parametrize("forgets", [False, True])
def test_copy_that_was_killed_continues_its_upload(tmp_path: Path, forgets: bool) -> None:
    source, made = large(tmp_path)
    killed: list[subprocess.Popen[bytes]] = []

    def kill_at_the_second_chunk(seen: Seen) -> None:
        if seen.method == "PATCH" and not seen.headers["content-range"].startswith("0-") and killed:
            killed.pop().kill()

    with WritableRegistry(tmp_path / "target", Quirks(forgets=forgets)) as target:
        target.before = kill_at_the_second_chunk
        words = ours(source, f"{target.host}/{REPOSITORY}:1", False)
        environment = {"PATH": os.environ["PATH"], "HOME": str(tmp_path)}
        with subprocess.Popen(words, env=environment, stderr=subprocess.PIPE) as process:
            killed.append(process)
            process.communicate(timeout=100)
        assert process.returncode == -9
        client = Pusher(target.host)
        assert client.ask("HEAD", f"/v2/{REPOSITORY}/manifests/1").status == 404
        target.restart()
        before = target.sent("PATCH", "PUT")

        done = run(words, tmp_path)

        assert done.returncode == 0, done.stderr
        sent = target.sent("PATCH", "PUT") - before
        expected = len(LARGE) if forgets else len(LARGE) - (64 << 20)
        # The registry keeps what of the second chunk was on its way.
        arrived = 0 if forgets else 8 << 20
        assert expected - arrived <= sent < expected + 10_000
        assert client.ask("GET", f"/v2/{REPOSITORY}/manifests/1").body == made.body


def test_copy_continues_where_its_connection_was_cut(tmp_path: Path) -> None:
    source, made = large(tmp_path)
    with WritableRegistry(tmp_path / "target", Quirks(cut=20_000_000)) as target:
        done = run(ours(source, f"{target.host}/{REPOSITORY}:1", False), tmp_path)

        assert done.returncode == 0, done.stderr
        # What was on its way when the connection was cut is sent again, and nothing else.
        assert target.sent("PATCH", "PUT") < len(LARGE) + (8 << 20)
        got = Pusher(target.host).ask("GET", f"/v2/{REPOSITORY}/manifests/1")
        assert got.body == made.body


def test_page_has_each_quirk_once() -> None:
    page = PAGE.read_text()

    assert page.endswith(f"\n\n{table(*cells(page))}")
    assert "| ? |" not in page
