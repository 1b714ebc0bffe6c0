"""`resolver demo`: a tour that needs no network and no Docker."""

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
from resolver.demo import samples
from resolver.values import dataclass
from resolver.verbs.serve.api import MemoryShelf
from resolver.verbs.serve.server import serve

if TYPE_CHECKING:
    from collections.abc import Iterator


def demo() -> None:
    """Walk through all of it on sample images.

    Needs no network and no Docker, and leaves nothing behind.
    """
    status = tour()
    if status:
        raise typer.Exit(status)


#: Variables that would change what the tour shows.
_FOREIGN = ("RESOLVER_", "DOCKER_", "REGISTRY_AUTH_FILE", "CONTAINERS_")
_PROXIES = ("http_proxy", "https_proxy", "all_proxy")


@dataclass(frozen=True, slots=True)
class Stop:
    """One stop of the tour: what it shows, the command, and the status it should end with."""

    about: str
    words: str
    status: int = 0


#: The tour. A verb joins by a row here; `{at}` is the sample registry, `{folder}` is thrown away.
STOPS = (
    Stop("One tag names many images: these.", "platforms {at}/demo/app:1.0"),
    Stop("Which one is it on arm64?", "resolve {at}/demo/app:1.0 -p linux/arm64"),
    Stop(
        "And why? Every entry, and why it lost.",
        "resolve {at}/demo/app:1.0 -p linux/arm/v8 --explain",
    ),
    Stop(
        "A Windows host runs images of its own build, and older ones from Server 2022 on.",
        "resolve {at}/demo/app:1.0 -p windows/amd64:ltsc2022",
    ),
    Stop(
        "For a script: just the name that always means these bytes.",
        "resolve {at}/demo/app:1.0 -p linux/amd64 --format ref",
    ),
    Stop(
        "Many at once: a line each, in order; a failure is a line, and the status says it.",
        "resolve {at}/demo/app:1.0 {at}/demo/app:2.0 {at}/demo/app:3.0 -p linux/amd64,linux/arm64",
        3,
    ),
    Stop(
        "A single image is checked too: an amd64 image is no answer for arm64.",
        "resolve {at}/demo/single:1.0 -p linux/arm64",
        3,
    ),
    Stop(
        "An index can lie; --verify reads the image's own config and says so.",
        "resolve {at}/demo/liar:1.0 -p linux/arm64 --verify",
    ),
    Stop("Inside one image.", "inspect {at}/demo/app:1.0 -p linux/arm64"),
    Stop("The tags there are.", "tags {at}/demo/app"),
    Stop(
        "How do its platforms differ? Sizes, shared layers, settings, history.",
        "compare {at}/demo/app:1.0 -p linux/amd64,linux/arm64",
    ),
    Stop(
        "What changed from one tag to the next, and what is to be fetched for it? As in diff, 1.",
        "compare {at}/demo/app:1.0 {at}/demo/app:2.0",
        1,
    ),
    Stop("Is a copy the same? One line.", "compare {at}/demo/app:2.0 {at}/demo/app:latest"),
    Stop(
        "Which images lie? This arm64 entry is amd64 inside; a few bytes of the layers tell.",
        "lint --deep {at}/demo/liar:1.0",
        1,
    ),
    Stop(
        "A pipeline asks for what it ships to.",
        "check {at}/demo/app:1.0 --require linux/amd64,linux/arm/v6",
        1,
    ),
    Stop("And makes a job of each platform.", "matrix {at}/demo/app:1.0 -p linux/amd64"),
    Stop(
        "Write down what was tested: the index, and every platform.",
        "lock {at}/demo/app:1.0 -o {folder}/resolver.lock",
    ),
    Stop(
        "Has it moved since, for the platform that we ship?",
        "lock --check -p linux/arm64 -o {folder}/resolver.lock",
    ),
    Stop(
        "Is everything in this Dockerfile pinned? Not yet.",
        "pin --check {folder}/Dockerfile",
        1,
    ),
    Stop("Write the digest in; every other byte stays.", "pin {folder}/Dockerfile"),
    Stop(
        "All of it is in the store now, so no registry is needed any more.",
        "resolve {at}/demo/app:1.0 -p linux/arm64 --offline --json",
    ),
    Stop("What would it cost to have it here? Layer by layer.", "plan {at}/demo/app:1.0 -p arm64"),
    Stop("Fetch it: verified, resumable, the name last.", "pull {at}/demo/app:1.0 -p arm64"),
    Stop("Another tag: only what is not here yet.", "pull {at}/demo/app:2.0 -p arm64,amd64"),
    Stop(
        "A pipeline can set a limit; more than that is a no.",
        "plan {at}/demo/app:2.0 -p windows/amd64:ltsc2025 --max-download 50kB",
        1,
    ),
    Stop("What is here now.", "ls"),
    Stop("Who shares what with whom.", "du"),
    Stop(
        "Hand it to docker, podman, containerd or skopeo.",
        "export {at}/demo/app:2.0 -p arm64 --to {folder}/images.tar",
    ),
    Stop("Have other tools fetch through `resolver serve --mirror`.", "mirror-config docker -q"),
    Stop("Is all of it what it should be? Every byte is hashed.", "verify --full"),
    Stop("Take a name away, and what only that name needed.", "rm {at}/demo/app:1.0"),
    Stop("What would go to make room.", "gc --dry-run --grace 0s --max-size 200kB"),
)


def tour() -> int:
    """Walk through every stop; the status is 0 when each ended as it should."""
    output = Output()
    failed = 0
    with (
        serve(MemoryShelf(samples())) as server,
        tempfile.TemporaryDirectory(prefix="resolver-demo-") as folder,
        _alone(folder),
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
    output.answer("\n# That was all, and nothing is left behind. Now with an image of yours:\n")
    output.answer("$ resolver resolve REF -p linux/arm64\n")
    return failed


def _run(words: list[str]) -> int:
    """Run one command as the command line would, with errors where a reader sees them."""
    kept = sys.stderr
    sys.stderr = sys.stdout
    try:
        return run(words)
    finally:
        sys.stderr = kept


@contextmanager
def _alone(folder: str) -> Iterator[None]:
    """Set the user's own settings aside for the length of a block."""
    kept = dict(os.environ)
    for name in kept:
        if name.startswith(_FOREIGN) or name.lower() in _PROXIES:
            del os.environ[name]
    os.environ["RESOLVER_STORE"] = os.path.join(folder, "store")  # noqa: PTH118 - a text is wanted
    os.environ["DOCKER_CONFIG"] = folder
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(kept)
