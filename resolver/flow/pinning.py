"""Pinning files: read them, look up what they name, each name once, and decide."""

from __future__ import annotations

from typing import TYPE_CHECKING

from resolver.core.events import Warned
from resolver.core.findings import Finding, Place
from resolver.core.manifest import Index
from resolver.core.pinned import Pinned, PinnedFile
from resolver.core.pinning import rules
from resolver.core.pinning.decide import Fact, Judge, Question, Wishes, asked_of
from resolver.errors import ResolverError, UnreadableFile
from resolver.flow.batch import each
from resolver.flow.gather import gather_platforms
from resolver.flow.image_files import ImageFile, find_images, refuse_folder
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
    others are done.
    """
    opened = [_open(path) for path in dict.fromkeys(paths)]
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
        files.append(judge.decide(file.kind, file.spots, file.strays))
        findings.extend(judge.findings)
        warnings.extend(_warnings(files[-1], judge, wishes))
    return Pinned(tuple(files), tuple(findings), tuple(warnings), wishes.check)


def _open(path: str) -> ImageFile | PinnedFile:
    try:
        refuse_folder(path)
        return find_images(path, read_text(path))
    except ResolverError as error:
        return PinnedFile(path, failure=error)


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
        Warned("not-compared", f"cannot compare a pin of `{file.path}` with its tag: {doubt}")
        for doubt in judge.doubts
    ]
    if wishes.platform and file.edits:
        message = (
            f"`{file.path}` is then for `{wishes.platform}` only, other machines cannot use it"
        )
        told.append(Warned("single-platform", message))
    return told
