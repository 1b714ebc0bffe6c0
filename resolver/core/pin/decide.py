"""Decide about each reference of a file, given the digests of their tags: results of `pin`."""

from __future__ import annotations

from dataclasses import replace
from difflib import unified_diff
from enum import Enum
from shlex import quote
from typing import TYPE_CHECKING

from resolver.core.lint.findings import Finding, FindingPlace, Rule, Severity
from resolver.core.pin.edits import Edit, ImageSpot, LineIndex, Passed, Stray, apply
from resolver.core.platforms.platform import BUILTIN, Platform
from resolver.core.platforms.select import nearest, select
from resolver.errors import InvalidPlatform, ResolverError
from resolver.values import dataclass

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from resolver.core.oci.digest import Digest
    from resolver.core.oci.reference import Reference
    from resolver.core.pin.edits import Edit
    from resolver.core.platforms.platform import PlatformTable
    from resolver.core.results.events import Warned

UNPINNED = Rule(
    "unpinned",
    Severity.ERROR,
    "a reference without a digest",
    "What a tag points at can change between two builds. Pin it with `resolver pin`, or write "
    "`# resolver: ignore` above it.",
)
STALE = Rule(
    "stale-pin",
    Severity.ERROR,
    "a digest that its tag no longer points at",
    "The tag has moved since it was pinned. See what changed, then update the pin with "
    "`resolver pin --update`.",
)
SINGLE_PLATFORM = Rule(
    "single-platform-pin",
    Severity.WARNING,
    "a multi-platform tag pinned to one platform",
    "The digest names the image of one platform, so the file no longer works on the others that "
    "its tag is offered for. Pin the index with `resolver pin --update`.",
)
PLATFORM_MISSING = Rule(
    "pinned-platform-missing",
    Severity.ERROR,
    "an image that lacks a required platform",
    "The image that is or would be pinned is not offered for a platform that `--require` names, "
    "or that the file itself asks for.",
)
NOT_PINNABLE = Rule(
    "not-pinnable",
    Severity.ERROR,
    "a reference that cannot be pinned",
    "It is composed of variables, or it is not an image reference. Write it literally, "
    "or write `# resolver: ignore` above it.",
)
UNKNOWN_KEY = Rule(
    "unknown-key",
    Severity.ERROR,
    "a value under an unknown key that looks like an image",
    "It is not edited, since what reads it may not take a digest. Pin it by hand, or write "
    "`# resolver: ignore` above it if it is not an image.",
)
UNPARSABLE = Rule(
    "unparsable",
    Severity.ERROR,
    "a file that cannot be parsed",
    "The file was neither checked nor changed.",
)

#: All rules, in the order of output.
RULES = (UNPINNED, STALE, SINGLE_PLATFORM, PLATFORM_MISSING, NOT_PINNABLE, UNKNOWN_KEY, UNPARSABLE)


@dataclass(frozen=True, slots=True)
class PinRequest:
    """The options of `pin`.

    Attributes:
        check: only report what is not pinned; with `update`, also what is out of date.
        update: look up tags again, also those of pinned references.
        platform: pin the image for this platform instead of the index; empty for the index.
        machine: this machine, with the level of its processor, if every image must offer it, or a
            lower level.
    """

    check: bool = False
    update: bool = False
    unpin: bool = False
    platform: str = ""
    require: tuple[Platform, ...] = ()
    machine: Platform | None = None

    @property
    def requires(self) -> bool:
        """Whether any platform is required."""
        return bool(self.require) or self.machine is not None


@dataclass(frozen=True, slots=True)
class PinQuery:
    """A reference to look up.

    Attributes:
        reference: looked up by its digest if it has one.
        platform: look up the image for this platform; empty for the reference itself.
        own: the platform that the file states for it; empty for none.
    """

    reference: Reference
    platform: str = ""
    offers: bool = False
    own: str = ""


@dataclass(frozen=True, slots=True)
class Fact:
    """The result of a lookup; `offered`: platforms, in index order; None if not requested."""

    digest: Digest
    is_index: bool
    entries: frozenset[Digest] = frozenset()
    offered: tuple[Platform | None, ...] | None = None


def queries_of(spot: ImageSpot, request: PinRequest) -> tuple[PinQuery, ...]:
    """List the lookups needed to decide about a reference; none for one that stays pinned."""
    if spot.is_ignored or request.unpin:
        return ()
    if spot.reference.digest is None:
        return (_of_tag(spot, request),) if not request.check or request.requires else ()
    if request.check and spot.can_move:
        return (_of_tag(spot, request), _of_pin(spot, request))
    if request.update and spot.can_move:
        return (_of_tag(spot, request),)
    return (_of_pin(spot, request),) if request.requires else ()


def _of_tag(spot: ImageSpot, request: PinRequest) -> PinQuery:
    """Return the lookup of a tag; the platform that the file states takes precedence."""
    platform = (spot.platform or request.platform) if request.platform else ""
    return PinQuery(spot.tagged, platform, bool(request.requires or spot.platform), spot.platform)


def _of_pin(spot: ImageSpot, request: PinRequest) -> PinQuery:
    return PinQuery(spot.reference, "", bool(request.requires or spot.platform), spot.platform)


def deciding(
    question: PinQuery,
    offered: Sequence[Platform | None],
    request: PinRequest,
    table: PlatformTable = BUILTIN,
) -> tuple[int, ...]:
    """Return the positions of the entries that satisfy the required platforms."""
    found = [select(offered, wanted, exact=True, table=table) for wanted in request.require]
    if request.machine is not None:
        found.append(select(offered, request.machine, exact=True, local=True, table=table))
    own = _parsed(question.own, table)
    if own is not None:
        found.append(select(offered, own, table=table))
    return tuple(sorted({place.index for place in found if place.index is not None}))


def _parsed(text: str, table: PlatformTable) -> Platform | None:
    try:
        return Platform.parse(text, table=table) if text else None
    except InvalidPlatform:
        return None


class Judge:
    """Decisions about the references of one file.

    `findings`: in the order of the file. `doubts`: failed lookups of references that stay unchanged
    anyway, with their locations.
    """

    def __init__(
        self,
        path: str,
        text: str,
        request: PinRequest,
        facts: Mapping[PinQuery, Fact | ResolverError],
        table: PlatformTable = BUILTIN,
    ) -> None:
        self._path = path
        self._text = text
        self._lines = LineIndex(text)
        self._request = request
        self._facts = facts
        self._table = table
        self._edits: list[Edit] = []
        self.findings: list[Finding] = []
        self.doubts: list[tuple[FindingPlace, ResolverError]] = []

    def decide(
        self,
        kind: str,
        spots: Sequence[ImageSpot],
        strays: Sequence[Stray],
        passed: Sequence[Passed] = (),
    ) -> PinnedFile:
        """Decide about all references, in the order of the file."""
        marks: list[ImageSpot | Stray] = [*spots, *strays]
        marks.sort(key=lambda mark: mark.start)
        pins = tuple(
            self._spot(mark) if isinstance(mark, ImageSpot) else self._stray(mark) for mark in marks
        )
        notes = tuple((self._place(item.start), item.reason) for item in passed)
        return PinnedFile(self._path, kind, self._text, pins, tuple(self._edits), notes)

    def _stray(self, stray: Stray) -> Pin:
        pin = Pin(self._place(stray.start), stray.role, stray.text, PinState.NOT_PINNABLE)
        if stray.is_ignored:
            return replace(pin, state=PinState.IGNORED)
        if stray.is_unknown and not self._request.unpin:
            message = f"`{stray.text}` is not pinned: {stray.reason}"
            self._find(UNKNOWN_KEY, pin, message, hint=stray.hint)
        elif not self._request.unpin:
            message = f"`{stray.text}` cannot be pinned: {stray.reason}"
            self._find(NOT_PINNABLE, pin, message, hint=stray.hint)
        return pin

    def _spot(self, spot: ImageSpot) -> Pin:
        held = spot.reference.digest
        written = spot.words or self._text[spot.start : spot.end]
        pin = Pin(self._place(spot.start), spot.role, written, PinState.KEPT, held, held)
        if spot.is_ignored:
            return replace(pin, state=PinState.IGNORED)
        if self._request.unpin:
            return self._unpin(spot, pin)
        if self._request.check:
            return self._check(spot, pin)
        if held is None or (self._request.update and spot.can_move):
            return self._pin(spot, pin)
        return self._require(spot, pin, _of_pin(spot, self._request))

    def _unpin(self, spot: ImageSpot, pin: Pin) -> Pin:
        edit = spot.unpin()
        if edit is not None:
            self._edits.append(edit)
        elif pin.digest is not None:
            return pin
        return replace(pin, state=PinState.UNPINNED, digest=None)

    def _pin(self, spot: ImageSpot, pin: Pin) -> Pin:
        question = _of_tag(spot, self._request)
        fact = self._facts[question]
        if isinstance(fact, ResolverError):
            return replace(pin, state=PinState.FAILED, failure=fact)
        if fact.digest != pin.digest:
            self._edits.append(spot.pin(fact.digest))
            state = PinState.PINNED if pin.digest is None else PinState.UPDATED
            pin = replace(pin, state=state, digest=fact.digest)
        return self._require(spot, pin, question)

    def _check(self, spot: ImageSpot, pin: Pin) -> Pin:
        if pin.digest is None:
            hint = f"pin it with `resolver pin {quote(self._path)}`"
            self._find(UNPINNED, pin, f"`{pin.name}` is not pinned", hint=hint)
            question = _of_tag(spot, self._request)
            return self._require(spot, replace(pin, state=PinState.UNPINNED), question)
        if not spot.can_move:
            return self._require(spot, pin, _of_pin(spot, self._request))
        now = self._fact(_of_tag(spot, self._request))
        own = self._fact(_of_pin(spot, self._request))
        for fact in (now, own):
            if isinstance(fact, ResolverError):
                if self._request.update or self._request.requires:
                    return replace(pin, state=PinState.FAILED, failure=fact)
                self.doubts.append((pin.place, fact))
        if isinstance(now, Fact) and isinstance(own, Fact):
            self._compare(pin, now, own)
        return self._require(spot, pin, _of_pin(spot, self._request))

    def _compare(self, pin: Pin, now: Fact, own: Fact) -> None:
        if pin.digest is None:
            return
        single = now.is_index and not own.is_index
        if single and not self._request.platform:
            message = f"`{pin.name}` is pinned to one platform, but its tag offers several"
            hint = f"pin the index with `resolver pin --update {quote(self._path)}`"
            self._find(SINGLE_PLATFORM, pin, message, hint=hint)
        moved = now.digest != pin.digest and not (single and pin.digest in now.entries)
        if self._request.update and (
            moved or (self._request.platform and now.digest != pin.digest)
        ):
            message = f"`{pin.name}` is out of date, its tag now points at `{now.digest}`"
            hint = f"update it with `resolver pin --update {quote(self._path)}`"
            self._find(STALE, pin, message, hint=hint)

    def _require(self, spot: ImageSpot, pin: Pin, question: PinQuery) -> Pin:
        fact = self._facts.get(question)
        if isinstance(fact, ResolverError) and self._request.requires:
            return replace(pin, state=PinState.FAILED, failure=fact)
        if not isinstance(fact, Fact) or fact.offered is None:
            return pin
        for wanted in self._request.require:
            self._offered(pin, fact.offered, wanted, exact=True)
        if self._request.machine is not None:
            self._offered(pin, fact.offered, self._request.machine, exact=True, local=True)
        own = _parsed(spot.platform, self._table)
        if own is not None and own not in self._request.require:
            self._offered(pin, fact.offered, own, exact=False)
        return pin

    def _offered(
        self,
        pin: Pin,
        offered: tuple[Platform | None, ...],
        wanted: Platform,
        *,
        exact: bool,
        local: bool = False,
    ) -> None:
        found = select(offered, wanted, exact=exact, local=local, table=self._table)
        if found.index is not None:
            return
        near = nearest(offered, wanted, exact=exact, local=local, table=self._table)
        names = [str(offered[index]) for index, _reason in near] or [
            str(platform) for platform in offered if platform is not None
        ]
        listing = ", ".join(f"`{name}`" for name in dict.fromkeys(names))
        hint = f"it is offered for {listing}" if listing else ""
        message = f"`{pin.name}` is not offered for `{wanted}`"
        self._find(PLATFORM_MISSING, pin, message, hint=hint, platform=str(wanted))

    def _fact(self, question: PinQuery) -> Fact | ResolverError:
        return self._facts[question]

    def _place(self, offset: int) -> FindingPlace:
        return FindingPlace(self._path, *self._lines.position(offset))

    def _find(
        self, rule: Rule, pin: Pin, message: str, *, hint: str = "", platform: str = ""
    ) -> None:
        digest = str(pin.digest or "")
        self.findings.append(
            Finding(rule.id, rule.severity, message, pin.written, platform, digest, hint, pin.place)
        )


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

    `role`: its use: `FROM`, `services.web.image`. `digest`: the current digest; None without.
    `before`: the previous digest; None without.
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

    `findings`: of the rules in `core.pin.decide`, in the order of the files.
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
