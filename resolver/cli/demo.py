"""`resolver demo`: a tour that needs neither network nor Docker."""

from __future__ import annotations

import os
import shlex
import sys
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from resolver.cli.app import INTERRUPTED, run
from resolver.cli.output import Output
from resolver.values import dataclass

if TYPE_CHECKING:
    from collections.abc import Iterator


def demo() -> None:
    """Show all commands on sample images.

    Needs neither network nor Docker, and deletes all its files.
    """
    status = tour()
    if status:
        raise typer.Exit(status)


#: Variables that would change what the tour shows.
_FOREIGN = ("RESOLVER_", "DOCKER_", "REGISTRY_AUTH_FILE", "CONTAINERS_")
_PROXIES = ("http_proxy", "https_proxy", "all_proxy")


@dataclass(frozen=True, slots=True)
class Stop:
    """One stop of the tour: what it shows, the command, and its expected exit status."""

    about: str
    words: str
    status: int = 0


#: The tour, a row per command; `{at}` is the sample registry, `{folder}` a temporary folder.
STOPS = (
    Stop("One tag names several images, one per platform.", "platforms {at}/demo/app:1.0"),
    Stop("Which one is it on arm64?", "resolve {at}/demo/app:1.0 -p linux/arm64"),
    Stop(
        "And why? Every entry, and why it was not chosen.",
        "resolve {at}/demo/app:1.0 -p linux/arm/v8 --explain",
    ),
    Stop(
        "A Windows host runs images of its own build, and older ones from Server 2022 on.",
        "resolve {at}/demo/app:1.0 -p windows/amd64:ltsc2022",
    ),
    Stop(
        "For a script: only the reference pinned to its digest.",
        "resolve {at}/demo/app:1.0 -p linux/amd64 --format ref",
    ),
    Stop(
        "Many at once: a line each, in order; a failure is a line too, and sets the status.",
        "resolve {at}/demo/app:1.0 {at}/demo/app:2.0 {at}/demo/app:3.0 -p linux/amd64,linux/arm64",
        3,
    ),
    Stop(
        "The platform of a single image is checked too: amd64 does not match arm64.",
        "resolve {at}/demo/single:1.0 -p linux/arm64",
        3,
    ),
    Stop(
        "An index can be wrong; --verify compares it with the config of the image.",
        "resolve {at}/demo/liar:1.0 -p linux/arm64 --verify",
    ),
    Stop("Inside one image.", "inspect {at}/demo/app:1.0 -p linux/arm64"),
    Stop(
        "Which platform has a signature, an SBOM or provenance?",
        "attestations {at}/demo/app:1.0",
    ),
    Stop("The tags of a repository.", "tags {at}/demo/app"),
    Stop(
        "How do its platforms differ? Sizes, shared layers, settings, history.",
        "compare {at}/demo/app:1.0 -p linux/amd64,linux/arm64",
    ),
    Stop(
        "What changed between two tags, and what must be fetched? The status is 1, as with diff.",
        "compare {at}/demo/app:1.0 {at}/demo/app:2.0",
        1,
    ),
    Stop("Is a copy identical?", "compare {at}/demo/app:2.0 {at}/demo/app:latest"),
    Stop(
        "Which metadata is wrong? The programs of this arm64 entry are built for amd64.",
        "lint --deep {at}/demo/liar:1.0",
        1,
    ),
    Stop(
        "A pipeline requires the platforms it ships to.",
        "check {at}/demo/app:1.0 --require linux/amd64,linux/arm/v6",
        1,
    ),
    Stop("It can check what the programs need.", "needs {at}/demo/app:1.0 -p linux/amd64"),
    Stop("And runs a job for each platform.", "matrix {at}/demo/app:1.0 -p linux/amd64"),
    Stop(
        "Record what was tested: the digests of the index and of every platform.",
        "lock {at}/demo/app:1.0 -o {folder}/resolver.lock",
    ),
    Stop(
        "Has it moved since, for the platform that we ship?",
        "lock --check -p linux/arm64 -o {folder}/resolver.lock",
    ),
    Stop("Is everything in this Dockerfile pinned? Not yet.", "pin --check {folder}/Dockerfile", 1),
    Stop("Write the digest into it; no other byte changes.", "pin {folder}/Dockerfile"),
    Stop(
        "Everything resolved so far is in the store, so no registry is needed.",
        "resolve {at}/demo/app:1.0 -p linux/arm64 --offline --json",
    ),
    Stop("What would a pull fetch? Layer by layer.", "plan {at}/demo/app:1.0 -p arm64"),
    Stop("Pull it: verified and resumable.", "pull {at}/demo/app:1.0 -p arm64"),
    Stop("Another tag: only missing content is fetched.", "pull {at}/demo/app:2.0 -p arm64,amd64"),
    Stop(
        "A pipeline can limit the download.",
        "plan {at}/demo/app:2.0 -p windows/amd64:ltsc2025 --max-download 50kB",
        1,
    ),
    Stop(
        "Copy an image: exact bytes, only what is missing, the tag last.",
        "copy {at}/demo/app:1.0 oci:{folder}/layout:1.0",
    ),
    Stop(
        "And make an index of two platforms of it.",
        "index edit oci:{folder}/layout:1.0 --drop windows/amd64 --drop linux/arm/v7 "
        "--to oci:{folder}/layout:small",
    ),
    Stop("The images in the store.", "ls"),
    Stop("The disk usage of each image, and what images share.", "du"),
    Stop(
        "Export for docker, podman, containerd or skopeo.",
        "export {at}/demo/app:2.0 -p arm64 --to {folder}/images.tar",
    ),
    Stop("Configure other tools to use `resolver serve --mirror`.", "mirror-config docker -q"),
    Stop("Is the store intact? Every byte is hashed.", "verify --full"),
    Stop("Remove an image, and the content that only it needed.", "rm {at}/demo/app:1.0"),
    Stop("What would be deleted to free space?", "gc --dry-run --grace 0s --max-size 200kB"),
)


def tour() -> int:
    """Run every stop; return 0 if each exits as expected."""
    from resolver.demo import samples
    from resolver.verbs.serve.api import MemoryShelf
    from resolver.verbs.serve.server import serve

    output = Output()
    failed = 0
    with (
        serve(MemoryShelf(samples())) as server,
        tempfile.TemporaryDirectory(prefix="resolver-demo-") as folder,
        _isolated(folder),
    ):
        dockerfile = Path(folder, "Dockerfile")
        dockerfile.write_text(f"FROM {server.address}/demo/app:1.0\nUSER 1000\n", "utf-8")
        for number, stop in enumerate(STOPS, 1):
            command = stop.words.format(at=server.address, folder=folder)
            gap = "\n" if number > 1 else ""
            output.answer(f"{gap}# {stop.about}\n$ resolver {command}\n")
            status = _run(shlex.split(command))
            if status == INTERRUPTED:
                return status
            if status:
                output.answer(f"(status {status})\n")
            if status != stop.status:
                failed = status or 1
    output.answer(
        "\n# That was all; the files of the demo are deleted. Now try an image of yours:\n"
    )
    output.answer("$ resolver resolve REF -p linux/arm64\n")
    return failed


def _run(words: list[str]) -> int:
    """Run one command, with stderr on stdout, so that both appear in order."""
    kept = sys.stderr
    sys.stderr = sys.stdout
    try:
        return run(words)
    finally:
        sys.stderr = kept


@contextmanager
def _isolated(folder: str) -> Iterator[None]:
    """Hide the settings of the user while the block runs."""
    kept = dict(os.environ)
    for name in kept:
        if name.startswith(_FOREIGN) or name.lower() in _PROXIES:
            del os.environ[name]
    os.environ["RESOLVER_STORE"] = os.path.join(folder, "store")  # noqa: PTH118 - must be a string
    os.environ["DOCKER_CONFIG"] = folder
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(kept)
