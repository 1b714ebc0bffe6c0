"""Pinned: what became of the image references in files, and the edits that say so."""

from __future__ import annotations

from difflib import unified_diff
from enum import Enum
from typing import TYPE_CHECKING

from resolver.core.lint.findings import Severity
from resolver.core.pin.edits import apply
from resolver.values import dataclass

if TYPE_CHECKING:
    from collections.abc import Iterator

    from resolver.core.lint.findings import Finding, FindingPlace
    from resolver.core.oci.digest import Digest
    from resolver.core.pin.edits import Edit
    from resolver.core.results.events import Warned
    from resolver.errors import ResolverError


class PinState(Enum):
    """What became of a reference."""

    PINNED = "pinned"
    UPDATED = "updated"
    KEPT = "kept"
    UNPINNED = "unpinned"
    IGNORED = "ignored"
    NOT_PINNABLE = "not pinnable"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Pin:
    """One image reference in a file.

    Attributes:
        place: where it stands.
        role: what it is there for: `FROM`, `services.web.image`.
        written: the reference as it stood in the file, or what stands in its place.
        state: what became of it.
        digest: the one it has now; None without.
        before: the one it had; None without.
        failure: why it could not be looked up.
    """

    place: FindingPlace
    role: str
    written: str
    state: PinState
    digest: Digest | None = None
    before: Digest | None = None
    failure: ResolverError | None = None

    @property
    def name(self) -> str:
        """The reference as written, without its digest."""
        return self.written.partition("@")[0] or self.written


@dataclass(frozen=True, slots=True, eq=False)
class PinnedFile:
    """A file, and what is to be changed in it.

    Attributes:
        path: as given.
        kind: `dockerfile`, `compose`, …; empty for one that could not be read.
        text: what is in it.
        pins: its references, in the order of the file.
        edits: spans of `text`, and what goes there; they do not overlap.
        passed: places of what looks like an image and needs no digest, each with the reason.
        failure: why it was left alone as a whole.
    """

    path: str
    kind: str = ""
    text: str = ""
    pins: tuple[Pin, ...] = ()
    edits: tuple[Edit, ...] = ()
    passed: tuple[tuple[FindingPlace, str], ...] = ()
    failure: ResolverError | None = None

    @property
    def is_changed(self) -> bool:
        """Whether there is anything to write."""
        return self.after != self.text

    @property
    def after(self) -> str:
        """What the file is to hold."""
        return apply(self.text, self.edits)


@dataclass(frozen=True, slots=True)
class SkippedFile:
    """A file that was not looked at; the reason ends the sentence `it is …`."""

    path: str
    reason: str


@dataclass(frozen=True, slots=True, eq=False)
class Pinned:
    """What became of several files; nothing of it is written until somebody writes it.

    Attributes:
        files: in the order given.
        findings: what the rules of `core.pinning.rules` have to say, in the order of the files.
        is_check: whether it was only asked if all is pinned.
        skipped: files that were not looked at.
    """

    files: tuple[PinnedFile, ...]
    findings: tuple[Finding, ...] = ()
    warnings: tuple[Warned, ...] = ()
    is_check: bool = False
    skipped: tuple[SkippedFile, ...] = ()

    def places_of(self, failure: ResolverError) -> tuple[FindingPlace, ...]:
        """Return the places of the references that could not be looked up for this reason."""
        return tuple(
            pin.place
            for file in self.files
            for pin in file.pins
            if pin.failure is not None and str(pin.failure) == str(failure)
        )

    @property
    def failures(self) -> tuple[ResolverError, ...]:
        """Everything that could not be read or looked up, each once."""
        met: dict[tuple[str, str], ResolverError] = {}
        for file in self.files:
            for failure in (file.failure, *(pin.failure for pin in file.pins)):
                if failure is not None:
                    met.setdefault((failure.code, str(failure)), failure)
        return tuple(met.values())

    @property
    def is_sound(self) -> bool:
        """Whether no rule finds a fault."""
        return all(finding.severity is not Severity.ERROR for finding in self.findings)


_NO_END = "\\ No newline at end of file\n"


def diff(path: str, before: str, after: str) -> str:
    """Write what changes in a file; empty when nothing does.

    Lines end at a line feed alone, so that a carriage return stays a part of its line.
    """
    name = path.removeprefix("./")
    old, new = (name, name) if name.startswith("/") else (f"a/{name}", f"b/{name}")
    return "".join(_ended(unified_diff(_lines(before), _lines(after), old, new)))


def _lines(text: str) -> list[str]:
    *ended, last = text.split("\n")
    return [f"{line}\n" for line in ended] + ([last] if last else [])


def _ended(lines: Iterator[str]) -> Iterator[str]:
    for line in lines:
        yield line
        if not line.endswith("\n"):
            yield "\n" + _NO_END
