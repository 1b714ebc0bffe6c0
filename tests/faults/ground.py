"""Run commands on a store and check every invariant after each."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from tests.faults import invariants
from tests.faults.crew import Crew, Job
from tests.faults.invariants import STATUS
from tests.faults.samples import AMD64, needed
from tests.kit.outcomes import (
    REQUESTS,
    Outcome,
    clean_text,
    must,
    no_credentials_received,
    no_secret,
    run_here,
)

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path
    from typing import Any

    from tests.kit.images import Image
    from tests.kit.messages import Seen
    from tests.kit.registry import FakeRegistry


@dataclass
class Ground:
    """A store, a registry, and commands that use them.

    Attributes:
        folder: of this test; the store is in it, and nothing else in it may change.
        environment: of the processes that it starts.
        others: hosts that must receive no credentials.
        damaged: the test has damaged the store; I1 and I9 are not checked until repair.
        outputs: paths that commands may write besides the store.
    """

    folder: Path
    registry: FakeRegistry
    crew: Crew
    environment: dict[str, str]
    others: list[FakeRegistry] = field(default_factory=list)
    damaged: bool = False
    outputs: list[Path] = field(default_factory=list)
    requests: int = REQUESTS

    @property
    def store(self) -> Path:
        return self.folder / "store"

    def reference(self, repository: str = "img-a", tag: str = "1") -> str:
        """Name an image of the registry."""
        return f"{self.registry.host}/{repository}:{tag}"

    def apart(self, name: object) -> Ground:
        """Return a separate store for the same registry."""
        folder = self.folder / str(name)
        folder.mkdir()
        return replace(self, folder=folder, outputs=[])

    # Commands

    def __call__(self, *words: str, as_json: bool = True) -> Outcome:
        """Run a command line in this process, and check everything."""
        before = self.begin()
        outcome = self.here(*words, as_json=as_json)
        self.check(outcome, before, as_json=as_json)
        return outcome

    def here(self, *words: str, as_json: bool = True) -> Outcome:
        """Run a command line in this process without checks, while other processes run."""
        return run_here(self.line(*words, as_json=as_json))

    def line(self, *words: str, as_json: bool = True) -> list[str]:
        """Complete a command line: this store, only warnings and errors on stderr."""
        form = ["--json"] if as_json else []
        return [*words, *form, "--no-progress", "--store", str(self.store)]

    def job(self, *words: str, as_json: bool = True, **how: Any) -> Job:
        """Make a process of a command line."""
        environment = {**self.environment, **how.pop("environment", {})}
        return Job(tuple(self.line(*words, as_json=as_json)), environment=environment, **how)

    def pulling(self, reference: str | None = None, *more: str, **how: Any) -> Job:
        """Make a process that pulls."""
        return self.job("pull", reference or self.reference(), "-p", AMD64, *more, **how)

    def pull(self, reference: str | None = None, *more: str) -> Outcome:
        """Pull, here."""
        return self("pull", reference or self.reference(), "-p", AMD64, *more)

    def together(self, *jobs: Job, killed: bool = False) -> list[Outcome]:
        """Run processes at the same time, and check their results once all have ended."""
        before = self.begin()
        return self.ended(self.crew.start(*jobs), before, killed=killed)

    def ended(
        self,
        pids: Sequence[int],
        before: tuple[int, dict[str, tuple[object, ...]]],
        *,
        killed: bool = False,
    ) -> list[Outcome]:
        """Wait for processes, and check them; `killed` allows that SIGKILL ended one."""
        outcomes = []
        for ended in self.crew.wait(*pids):
            must(killed or not ended.signal, "I6", f"signal {ended.signal}", ended.stderr)
            outcome = Outcome(ended.status, ended.stdout, ended.stderr, ended.seconds, ended.rss)
            outcomes.append(outcome)
            if not ended.signal:
                invariants.clean_result(outcome, as_json=True)
                clean_text(outcome)
                no_secret(outcome.stdout + outcome.stderr, "the output")
        self.look(before)
        return outcomes

    # Checks

    def begin(self) -> tuple[int, dict[str, tuple[object, ...]]]:
        """Record the state before an action."""
        kept = [self.store, *self.outputs]
        return len(self.registry.log), invariants.snapshot(self.folder, without=kept)

    def check(
        self,
        outcome: Outcome,
        before: tuple[int, dict[str, tuple[object, ...]]],
        *,
        as_json: bool = True,
    ) -> None:
        """Check a command and its surroundings."""
        invariants.clean_result(outcome, as_json=as_json)
        clean_text(outcome)
        no_secret(outcome.stdout + outcome.stderr, "the output")
        invariants.within(outcome, len(self.registry.log) - before[0], self.requests)
        self.look(before)

    def look(self, before: tuple[int, dict[str, tuple[object, ...]]] | None = None) -> None:
        """Check the store and everything around it while no process runs."""
        if before is not None:
            kept = [self.store, *self.outputs]
            invariants.unchanged(before[1], invariants.snapshot(self.folder, without=kept))
        for other in self.others:
            no_credentials_received(other)
        if not self.store.is_dir():
            return
        if not self.damaged:
            invariants.whole(self.store)
            invariants.closed(self.store)
        invariants.unlocked(self.store)
        invariants.no_secret_below(self.folder)

    # Afterwards

    def recovers(
        self, image: Image, reference: str | None = None, *, most: int | None = None
    ) -> Outcome:
        """I8, I10, I12: a correct registry completes the image, and only missing blobs are fetched.

        Args:
            most: bytes of layers and configs that may be fetched, if not those missing in
                the store.
        """
        self.honest()
        missing = self.missing(image) if most is None else most
        held = set(invariants.intact(self.store)) if self.store.is_dir() else set()
        begin = len(self.registry.log)
        self.damaged = False
        outcome = self.pull(reference)
        must(outcome.status == 0, "I8", outcome)
        seen = self.registry.log[begin:]
        again = sorted(digest for digest in held if any(digest in one.path for one in bodies(seen)))
        # A document may be read by what says which image it is, whether it is held or not.
        again = [digest for digest in again if digest in image.blobs]
        must(not again, "I8", f"held, and fetched again: {again}")
        fetched = sum(one.sent for one in bodies(seen) if "/blobs/" in one.path)
        must(fetched <= missing, "I8", f"{fetched} bytes fetched, {missing} missing")
        self.settles()
        return outcome

    def settles(self) -> None:
        """I10, I12: after a collection, only content that names need is left."""
        outcome = self("gc", "--grace", "0s")
        must(outcome.status == 0, "I10", outcome)
        invariants.clean(self.store)
        wanted: set[str] = set()
        for record in invariants.names(self.store).values():
            wanted |= invariants.closure(self.store, record)
        held = set(invariants.intact(self.store))
        more = held - wanted - invariants.noted(self.store)
        must(wanted <= held and not more, "I8", f"other blobs than a fresh store: {more}")
        must(self("gc", "--grace", "0s", "--dry-run").answer["removed"] == [], "I12", "more to go")
        for words in (("ls",), ("du",), ("verify", "--full")):
            one, other = self(*words), self(*words)
            must(one.status == 0, "I9", one)
            must(one.stdout == other.stdout, "I12", one, other)

    def missing(self, image: Image) -> int:
        """Count the bytes of layers and configs that are neither held nor part of a transfer."""
        held = invariants.intact(self.store) if self.store.is_dir() else {}
        total = 0
        for digest, size in needed(image).items():
            if digest not in held and digest not in documents_of(image):
                total += size - self.had(digest, size)
        return total

    def had(self, digest: str, size: int) -> int:
        """Count the bytes of a blob that an earlier transfer recorded."""
        folder = self.store / "partial" / digest.replace(":", "-")
        try:
            noted = json.loads((folder / "meta.json").read_bytes())
            length = (folder / "data").stat().st_size
        except (OSError, ValueError):
            return 0
        if noted["size"] != size:
            return 0
        return int(sum(max(min(end, length) - start, 0) for start, end in noted["ranges"]))

    def honest(self) -> None:
        """Make the registry answer correctly from now on."""
        self.registry._behaviour.scripts.clear()

    # What the registry saw

    def gets(self, digest: str, *, begin: int = 0) -> list[Seen]:
        """List the requests for the body of a blob."""
        return [
            seen
            for seen in self.registry.log[begin:]
            if seen.method == "GET" and seen.path.endswith(digest)
        ]

    def refused(self, outcome: Outcome, word: str, *parts: str) -> None:
        """Check that a command failed with this class and its text contains these parts."""
        must(outcome.status == STATUS[word], "I6", f"no {word}", outcome)
        must(outcome.failure["class"] == word, "I6", f"no {word}", outcome)
        for part in parts:
            must(part in outcome.text, "I6", f"does not say {part!r}", outcome)


def bodies(log: Sequence[Seen]) -> list[Seen]:
    """Pick the requests that a body of content was sent for."""
    return [seen for seen in log if seen.method == "GET" and seen.status in {200, 206}]


def documents_of(image: Image) -> set[str]:
    """List the digests of manifests and indexes."""
    return {image.digest, *image.documents}
