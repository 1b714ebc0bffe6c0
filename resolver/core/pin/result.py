"""Results of `pin`: the image references in files, and the edits to them."""

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
    """The state of a reference."""

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
        role: its use: `FROM`, `services.web.image`.
        digest: the current digest; None without.
        before: the previous digest; None without.
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
    """A file and its changes.

    Attributes:
        kind: `dockerfile`, `compose`, …; empty if it could not be read.
        edits: replacements of spans of `text`, which do not overlap.
        passed: locations of values that look like images and need no digest, with reasons.
        failure: why the whole file was skipped.
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
        """Whether the file changes."""
        return self.after != self.text

    @property
    def after(self) -> str:
        """The new contents."""
        return apply(self.text, self.edits)


@dataclass(frozen=True, slots=True)
class SkippedFile:
    """A skipped file; the reason completes the sentence `it is …`."""

    path: str
    reason: str


@dataclass(frozen=True, slots=True, eq=False)
class Pinned:
    """The result of `pin`; the caller writes the files.

    Attributes:
        findings: of the rules in `core.pin.decide`, in the order of the files.
    """

    files: tuple[PinnedFile, ...]
    findings: tuple[Finding, ...] = ()
    warnings: tuple[Warned, ...] = ()
    is_check: bool = False
    skipped: tuple[SkippedFile, ...] = ()

    def places_of(self, failure: ResolverError) -> tuple[FindingPlace, ...]:
        """Return the locations of references that could not be looked up for this reason."""
        return tuple(
            pin.place
            for file in self.files
            for pin in file.pins
            if pin.failure is not None and str(pin.failure) == str(failure)
        )

    @property
    def failures(self) -> tuple[ResolverError, ...]:
        """The failures to read or look up, each once."""
        met: dict[tuple[str, str], ResolverError] = {}
        for file in self.files:
            for failure in (file.failure, *(pin.failure for pin in file.pins)):
                if failure is not None:
                    met.setdefault((failure.code, str(failure)), failure)
        return tuple(met.values())

    @property
    def is_sound(self) -> bool:
        """Whether there are no failing findings."""
        return all(finding.severity is not Severity.ERROR for finding in self.findings)


_NO_END = "\\ No newline at end of file\n"


def diff(path: str, before: str, after: str) -> str:
    """Return the unified diff of a file; only line feeds end lines."""
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
