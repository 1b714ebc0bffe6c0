"""Pinning files: read them, look up what they name, each name once, and decide."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from resolver.core.events import Warned
from resolver.core.findings import Finding, Place
from resolver.core.manifest import Index
from resolver.core.pinned import Pinned, PinnedFile, Skipped
from resolver.core.pinning import rules
from resolver.core.pinning.decide import Fact, Judge, Question, Wishes, asked_of
from resolver.core.pinning.kinds import by_path
from resolver.core.pinning.scalars import TEMPLATE
from resolver.errors import NotAnImageFile, ResolverError, UnreadableFile, Usage
from resolver.flow.batch import each
from resolver.flow.gather import gather_platforms
from resolver.flow.image_files import (
    ImageFile,
    files_in,
    find_images,
    find_template,
    known_kinds,
    may_name_images,
)
from resolver.flow.resolve import resolve
from resolver.flow.rewrite import read_text
from resolver.values import dataclass

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from resolver.core.platform import PlatformTable
    from resolver.core.reference import Reference
    from resolver.flow.reader import Reader
    from resolver.flow.resolve import Asked, Wish

Answer = Fact | ResolverError

_CHART_TEMPLATES = "templates"
_OTHER = "of no kind that is known to name images"
_TEMPLATE = "a template that names no image by itself"
_LINK = "a link, and links in a folder are not followed"


@dataclass(frozen=True, slots=True)
class LookUp:
    """How names are looked up.

    Attributes:
        ask: reads what a reference points at.
        wish: reads a platform.
        table: of platforms.
        jobs: names at once.
    """

    ask: Callable[[Reference], tuple[Reader, Asked]]
    wish: Callable[[str], Wish]
    table: PlatformTable
    jobs: int


def pin(paths: Iterable[str], wishes: Wishes, look_up: LookUp) -> Pinned:
    """Find out what is to be changed in files; nothing is written.

    A file that cannot be read, and a name that cannot be looked up, keep their failure; the
    others are done. In a folder, and among several files, those that name no images are skipped.
    """
    opened, skipped = _open_all(tuple(dict.fromkeys(paths)))
    read = [file for file in opened if isinstance(file, ImageFile)]
    asked = [
        question for file in read for spot in file.spots for question in asked_of(spot, wishes)
    ]
    facts = _facts(dict.fromkeys(asked), look_up)
    files: list[PinnedFile] = []
    findings: list[Finding] = []
    warnings: list[Warned] = []
    for file in opened:
        if isinstance(file, PinnedFile):
            files.append(file)
            if isinstance(file.failure, UnreadableFile):
                findings.append(_unparsable(file.path, file.failure))
            continue
        judge = Judge(file.path, file.text, wishes, facts, look_up.table)
        files.append(judge.decide(file.kind, file.spots, file.strays, file.passed))
        findings.extend(judge.findings)
        warnings.extend(_warnings(files[-1], judge, wishes))
    return Pinned(tuple(files), tuple(findings), tuple(warnings), wishes.check, skipped)


def _open_all(
    paths: tuple[str, ...],
) -> tuple[list[ImageFile | PinnedFile], tuple[Skipped, ...]]:
    """Read files, and those in folders; a file that is met twice is read once."""
    opened: dict[str, ImageFile | PinnedFile] = {}
    skipped: dict[str, Skipped] = {}
    met: set[str] = set()
    for path in paths:
        is_folder = Path(path).is_dir()
        files: tuple[str, ...] = (path,)
        if is_folder:
            try:
                files, links = files_in(path)
            except ResolverError as error:
                opened[path] = PinnedFile(path, failure=error)
                continue
            skipped |= {link: Skipped(link, _LINK) for link in links}
        for file in files:
            place = os.path.realpath(file)
            if place in met:
                continue
            met.add(place)
            is_alone = len(paths) == 1 and not is_folder
            held = _open(file) if is_alone else _open_or_skip(file)
            if isinstance(held, Skipped):
                skipped[file] = held
            else:
                opened[file] = held
    if opened:
        return [*opened.values()], tuple(skipped.values())
    return [PinnedFile(path, failure=_refusal(path)) for path in paths], tuple(skipped.values())


def _open(path: str) -> ImageFile | PinnedFile:
    try:
        return find_images(path, read_text(path))
    except ResolverError as error:
        return PinnedFile(path, failure=error)


def _open_or_skip(path: str) -> ImageFile | PinnedFile | Skipped:
    """Read one file of several; skip it where neither its name nor its content is of a kind."""
    is_named = by_path(path.replace("\\", "/")) is not None
    try:
        text = read_text(path)
        if may_name_images(path, text):
            return find_images(path, text)
    except NotAnImageFile:
        return Skipped(path, _OTHER)
    except UnreadableFile as error:
        # A chart's templates may have the name of another kind.
        is_template = Path(path).parent.name == _CHART_TEMPLATES
        if is_named and not is_template:
            return PinnedFile(path, failure=error)
        return _unread(path, error)
    except ResolverError as error:
        return PinnedFile(path, failure=error)
    return Skipped(path, _OTHER)


def _unread(path: str, error: UnreadableFile) -> ImageFile | PinnedFile | Skipped:
    """Decide about a file that is no YAML: a template, or one that nobody wants pinned."""
    try:
        text = read_text(path)
    except ResolverError:
        return Skipped(path, _OTHER)
    lines = find_template(path, text)
    if TEMPLATE in text:
        return lines if lines.strays else Skipped(path, _TEMPLATE)
    return PinnedFile(path, failure=error) if lines.strays else Skipped(path, _OTHER)


def _refusal(path: str) -> ResolverError:
    if Path(path).is_dir():
        hint = f"there can be named {known_kinds()}"
        return Usage(f"no file in `{path}` is known to name images", hint)
    return NotAnImageFile(path, known_kinds())


def _facts(questions: Iterable[Question], look_up: LookUp) -> dict[Question, Answer]:
    """Answer all questions, those about one reference together."""
    grouped: dict[Reference, list[Question]] = {}
    for question in questions:
        grouped.setdefault(question.reference, []).append(question)
    facts: dict[Question, Answer] = {}

    def answer(reference: Reference) -> list[Answer]:
        reader, asked = look_up.ask(reference)
        answers = [_fact(reader, asked, question, look_up) for question in grouped[reference]]
        reader.tell_warnings()
        return answers

    for outcome in each(answer, grouped, jobs=look_up.jobs):
        wanted, value = grouped[outcome.item], outcome.value
        answers = [value] * len(wanted) if isinstance(value, ResolverError) else value
        facts.update(zip(wanted, answers, strict=True))
    return facts


def _fact(reader: Reader, asked: Asked, question: Question, look_up: LookUp) -> Answer:
    try:
        digest = asked.document.descriptor.digest
        if question.platform:
            wish = look_up.wish(question.platform)
            digest = resolve(reader, asked, wish, look_up.table).manifest.digest
        offered = None
        if question.offers:
            images = gather_platforms(reader, asked, look_up.table, jobs=1).sound().images
            offered = tuple(part.platform for part in images)
    except ResolverError as error:
        return error
    index = asked.parsed if isinstance(asked.parsed, Index) else None
    entries = frozenset(entry.digest for entry in index.manifests) if index else frozenset()
    return Fact(digest, index is not None, entries, offered)


def _unparsable(path: str, failure: UnreadableFile) -> Finding:
    rule = rules.UNPARSABLE
    hint = next(iter(failure.hints()), "")
    place = Place(path, failure.line, failure.column)
    return Finding(rule.id, rule.severity, failure.reason, path, hint=hint, place=place)


def _warnings(file: PinnedFile, judge: Judge, wishes: Wishes) -> list[Warned]:
    """Say what a person should know about what was done to a file."""
    told = [
        Warned(
            "not-compared",
            f"cannot compare the pin in `{place.path}:{place.line}` with its tag: {doubt}",
        )
        for place, doubt in judge.doubts
    ]
    if wishes.platform and file.edits:
        message = (
            f"`{file.path}` is then for `{wishes.platform}` only, other machines cannot use it"
        )
        told.append(Warned("single-platform", message))
    return told
