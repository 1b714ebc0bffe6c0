"""Pinning files: read them, look up what they name, each name once, and decide."""

from __future__ import annotations

import os
import re
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from resolver.core.lint.findings import Finding, FindingPlace
from resolver.core.oci.manifest import Index
from resolver.core.pin import bake, decide, dockerfile
from resolver.core.pin import kubernetes as helm
from resolver.core.pin.compose import Moved
from resolver.core.pin.decide import (
    Fact,
    Judge,
    Pinned,
    PinnedFile,
    PinQuery,
    PinRequest,
    SkippedFile,
    deciding,
    queries_of,
)
from resolver.core.pin.edits import (
    TEMPLATE,
    FoundReferences,
    ImageSpot,
    Passed,
    Stray,
    Unparsable,
    found,
)
from resolver.core.pin.kinds import KINDS, by_content, by_path, may_be_known
from resolver.core.pin.likeness import likeness, sweep, unknown, values
from resolver.core.results.events import Warned
from resolver.errors import (
    LimitExceeded,
    Malformed,
    NotAnImageFile,
    ResolverError,
    UnreadableFile,
    Usage,
)
from resolver.files.yaml import read_documents, without_comments
from resolver.values import dataclass
from resolver.verbs.context import each_platform
from resolver.verbs.gather import gather_platforms
from resolver.verbs.output_files import read_text
from resolver.verbs.resolve import resolve_document
from resolver.verbs.threads import parallel

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from resolver.core.oci.image import ImageDocuments, ImageEntry
    from resolver.core.oci.reference import Reference
    from resolver.core.parse.yaml_tree import Node, YamlScalar
    from resolver.core.pin.edits import Mark
    from resolver.core.pin.kinds import FileKind
    from resolver.core.platforms.platform import Platform, PlatformTable
    from resolver.verbs.context import Context, PlatformsLike
    from resolver.verbs.documents import DocumentReader, PlatformRequest, RootDocument


#: Files of a folder that may name images; a large monorepo has some thousands.
MAX_FOUND = 20_000
#: Folders that hold what others wrote: repositories' own data, and installed packages.
SKIPPED_FOLDERS = frozenset(
    [".git", ".hg", ".svn", ".terraform", ".tox", ".venv", "__pycache__", "node_modules"]
)
_RENDERED = "it looks like a template: pin its values file"
_TEMPLATE_KIND = "template"
_DOCKERFILES = frozenset({"dockerfile", "containerfile"})
#: The first word that is neither blank nor comment.
_FIRST_WORD = re.compile(r"\ufeff?(?:[ \t\r\n]++|#[^\n]*+)*+([^\s]+)")
#: Top-level keys; YAML without any of them is of no kind that content shows.
_TELLING = re.compile(
    r"""^[ \t{-]*["']?(?:apiVersion|extends|jobs|kind|services|stages|steps)["']?[ \t]*:""",
    re.MULTILINE,
)
#: A key with a one-word value, in text that is not YAML.
_LINE = re.compile(
    r"""^[ \t-]*["']?([A-Za-z_][A-Za-z0-9_.-]*)["']?[ \t]*:"""
    r"""[ \t]*["']?([^\s"'#{}]+)["']?[ \t]*(?:#[^\n]*)?\r?(?=\n|\Z)""",
    re.MULTILINE,
)
#: Keys whose text is YAML of its own. Source: Argo CD `helm.values`; k3s HelmChart
#: `valuesContent`; kustomize `patch`.
_EMBEDDED = re.compile(r"values|valuesContent|patch|.*\.(?:ya?ml|json)")


@dataclass(frozen=True, slots=True)
class ImageFile:
    """A file that contains image references.

    Attributes:
        kind: its name in `KINDS`, or `template` for one that is rendered to YAML.
        text: its content, byte order mark and line ends included.
        spots: the references that a digest can be written into, in the order of the file.
        strays: the others, each with its reason.
    """

    path: str
    kind: str
    text: str
    spots: tuple[ImageSpot, ...]
    strays: tuple[Stray, ...]
    passed: tuple[Passed, ...] = ()


def find_images(path: str, text: str) -> ImageFile:
    """Find the image references in the text of a file; the path shows its kind."""
    kind = by_path(path.replace("\\", "/"))
    if kind is not None and kind.find is None and not _may_be_dockerfile(path, text):
        raise NotAnImageFile(path, known_kinds())
    try:
        if kind is not None and kind.find is None:
            return _image_file(path, kind.name, text, dockerfile.find(text))
        documents = _documents(path, text, kind)
    except ResolverError as error:
        if not may_be_known(path) and isinstance(error, Malformed):
            raise NotAnImageFile(path, known_kinds()) from error
        line = error.line if isinstance(error, Unparsable) else 1
        column = error.column if isinstance(error, Unparsable) else 1
        hints = (_RENDERED,) if TEMPLATE in text else ()
        raise UnreadableFile(path, str(error), *hints, line=line, column=column) from error
    kind = kind or by_content(documents)
    if kind is None or kind.find is None:
        raise NotAnImageFile(path, known_kinds())
    marks: list[Mark] = []
    for document in documents:
        own: list[Mark] = [*kind.find(text, document)]
        own += _embedded(text, document, own)
        marks += [*own, *sweep(text, document, own)]
    return _image_file(path, kind.name, text, found(text, marks))


def _may_be_dockerfile(path: str, text: str) -> bool:
    """Whether a file is a Dockerfile: `dockerfile.py` and `Dockerfile.md` are none by their names.

    Source: docs.docker.com, "Dockerfile reference", "FROM": only `ARG` may come before it.
    """
    if Path(path).name.lower() in _DOCKERFILES:
        return True
    first = _FIRST_WORD.match(text)
    return first is None or first[1].upper() in {"FROM", "ARG"}


def _documents(path: str, text: str, kind: FileKind | None) -> tuple[Node, ...]:
    if kind is not None and path.lower().endswith(".hcl"):
        return (bake.read_hcl(text),)
    if kind is not None and kind.has_comments:
        return read_documents(without_comments(text))
    return read_documents(text)


def _embedded(text: str, document: Node, marks: Iterable[Mark]) -> Iterator[Mark]:
    """Report images in blocks of text that are YAML of their own; nothing is edited there."""
    starts = {mark.start for mark in marks}
    for scalar, keys, path in values(document):
        key = keys[-1] if keys else ""
        if scalar.style not in {"|", ">"} or not _EMBEDDED.fullmatch(key) or scalar.start in starts:
            continue
        try:
            inner = read_documents(scalar.value)
        except ResolverError:
            # Not YAML, as templates and JSON patches of other tools are: nothing is known about it.
            continue
        for inner_document in inner:
            yield from _inside(text, scalar, inner_document, path)


def _inside(text: str, scalar: YamlScalar, document: Node, path: str) -> Iterator[Stray]:
    moved = Moved.read(text, scalar)
    find = helm.find_kubernetes if helm.is_kubernetes(document) else helm.find_helm_values
    own: list[Mark] = [*find(scalar.value, document)]
    for mark in [*own, *sweep(scalar.value, document, own)]:
        if isinstance(mark, Passed) or (isinstance(mark, ImageSpot) and mark.reference.digest):
            continue
        words = (
            mark.text
            if isinstance(mark, Stray)
            else mark.words or scalar.value[mark.start : mark.end]
        )
        start = moved.to(mark.start) if moved is not None else scalar.start
        yield unknown(start, words, f"{path} {mark.role}".rstrip())


def find_template(path: str, text: str) -> ImageFile:
    """Report the images in the lines of a template, which is not YAML before it is rendered."""
    strays = [
        unknown(match.start(2) + held[0], held[1], match[1])
        for match in _LINE.finditer(text)
        if (held := likeness(match[2], match[1])) is not None
    ]
    return _image_file(path, _TEMPLATE_KIND, text, found(text, strays))


def may_name_images(path: str, text: str) -> bool:
    """Whether a file is worth parsing: its name shows its kind, or it has a matching key."""
    return by_path(path.replace("\\", "/")) is not None or _TELLING.search(text) is not None


def files_in(folder: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """List the files in a folder that may name images, and the links, which are not followed."""

    def refuse(error: OSError) -> NoReturn:
        reason = (error.strerror or str(error)).lower()
        hint = "name readable files or folders"
        raise Usage(f"cannot read `{error.filename}`: {reason}", hint) from error

    files: list[str] = []
    links: list[str] = []
    for place, folders, names in os.walk(folder, onerror=refuse):
        folders[:] = sorted(name for name in folders if name not in SKIPPED_FOLDERS)
        for name in sorted(names):
            path = Path(place, name)
            if not may_be_known(path.as_posix()):
                continue
            if path.is_symlink():
                links.append(str(path))
            elif path.is_file():
                files.append(str(path))
            if len(files) > MAX_FOUND:
                raise LimitExceeded(f"`{folder}`", MAX_FOUND, len(files), "files")
    return tuple(files), tuple(links)


def _image_file(path: str, kind: str, text: str, held: FoundReferences) -> ImageFile:
    return ImageFile(path, kind, text, held.spots, held.strays, held.passed)


def known_kinds() -> str:
    """List the supported kinds of files, for messages."""
    return ", ".join(kind.words for kind in KINDS)


Answer = Fact | ResolverError

_CHART_TEMPLATES = "templates"
_OTHER = "not a supported file type"
_TEMPLATE = "a template without a literal image"
_LINK = "a link, and links in a folder are not followed"


@dataclass(frozen=True, slots=True)
class LookUp:
    """How references are looked up."""

    read_root: Callable[[Reference], tuple[DocumentReader, RootDocument]]
    platform_request: Callable[[str], PlatformRequest]
    table: PlatformTable
    jobs: int


def pin_files(paths: Iterable[str], requests: PinRequest, look_up: LookUp) -> Pinned:
    """Determine the changes to files; nothing is written.

    A file that cannot be read, and a name that cannot be looked up, keep their failure; the
    others are done. In a folder, and among several files, those that name no images are skipped.
    """
    opened, skipped = _open_all(tuple(dict.fromkeys(paths)))
    read = [file for file in opened if isinstance(file, ImageFile)]
    questions = [
        question for file in read for spot in file.spots for question in queries_of(spot, requests)
    ]
    facts = _facts(dict.fromkeys(questions), look_up, requests)
    files: list[PinnedFile] = []
    findings: list[Finding] = []
    warnings: list[Warned] = []
    for file in opened:
        if isinstance(file, PinnedFile):
            files.append(file)
            if isinstance(file.failure, UnreadableFile):
                findings.append(_unparsable(file.path, file.failure))
            continue
        judge = Judge(file.path, file.text, requests, facts, look_up.table)
        files.append(judge.decide(file.kind, file.spots, file.strays, file.passed))
        findings.extend(judge.findings)
        warnings.extend(_warnings(files[-1], judge, requests))
    return Pinned(tuple(files), tuple(findings), tuple(warnings), requests.check, skipped)


def _open_all(
    paths: tuple[str, ...],
) -> tuple[list[ImageFile | PinnedFile], tuple[SkippedFile, ...]]:
    """Read files, and those in folders; a file that is met twice is read once."""
    opened: dict[str, ImageFile | PinnedFile] = {}
    skipped: dict[str, SkippedFile] = {}
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
            skipped |= {link: SkippedFile(link, _LINK) for link in links}
        for file in files:
            place = os.path.realpath(file)
            if place in met:
                continue
            met.add(place)
            is_alone = len(paths) == 1 and not is_folder
            held = _open(file) if is_alone else _open_or_skip(file)
            if isinstance(held, SkippedFile):
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


def _open_or_skip(path: str) -> ImageFile | PinnedFile | SkippedFile:
    """Read one file of several; skip it where neither its name nor its content is of a kind."""
    is_named = by_path(path.replace("\\", "/")) is not None
    try:
        text = read_text(path)
        if may_name_images(path, text):
            return find_images(path, text)
    except NotAnImageFile:
        return SkippedFile(path, _OTHER)
    except UnreadableFile as error:
        # A chart's templates may have the name of another kind.
        is_template = Path(path).parent.name == _CHART_TEMPLATES
        if is_named and not is_template:
            return PinnedFile(path, failure=error)
        return _unread(path, error)
    except ResolverError as error:
        return PinnedFile(path, failure=error)
    return SkippedFile(path, _OTHER)


def _unread(path: str, error: UnreadableFile) -> ImageFile | PinnedFile | SkippedFile:
    """Decide about a file that is not YAML: a template, or an unsupported one."""
    try:
        text = read_text(path)
    except ResolverError:
        return SkippedFile(path, _OTHER)
    lines = find_template(path, text)
    if TEMPLATE in text:
        return lines if lines.strays else SkippedFile(path, _TEMPLATE)
    return PinnedFile(path, failure=error) if lines.strays else SkippedFile(path, _OTHER)


def _refusal(path: str) -> ResolverError:
    if Path(path).is_dir():
        hint = f"`pin` supports {known_kinds()}"
        return Usage(f"no supported file in `{path}`", hint)
    return NotAnImageFile(path, known_kinds())


def _facts(
    questions: Iterable[PinQuery], look_up: LookUp, requests: PinRequest
) -> dict[PinQuery, Answer]:
    """Answer all questions, those about one reference together."""
    grouped: dict[Reference, list[PinQuery]] = {}
    for question in questions:
        grouped.setdefault(question.reference, []).append(question)
    facts: dict[PinQuery, Answer] = {}

    def answer(reference: Reference) -> list[Answer]:
        reader, root = look_up.read_root(reference)
        answers = [
            _fact(reader, root, question, look_up, requests) for question in grouped[reference]
        ]
        reader.report_warnings()
        return answers

    for outcome in parallel(answer, grouped, jobs=look_up.jobs):
        wanted, value = grouped[outcome.item], outcome.value
        answers = [value] * len(wanted) if isinstance(value, ResolverError) else value
        facts.update(zip(wanted, answers, strict=True))
    return facts


def _fact(
    reader: DocumentReader,
    root: RootDocument,
    question: PinQuery,
    look_up: LookUp,
    requests: PinRequest,
) -> Answer:
    def decisive(found: ImageDocuments) -> list[ImageEntry]:
        images = found.images
        platforms = [part.platform for part in images]
        return [images[each] for each in deciding(question, platforms, requests, look_up.table)]

    try:
        digest = root.document.descriptor.digest
        if question.platform:
            request = look_up.platform_request(question.platform)
            digest = resolve_document(reader, root, request, look_up.table).manifest.digest
        offered = None
        if question.offers:
            found = gather_platforms(reader, root, look_up.table, jobs=1, decisive=decisive)
            offered = tuple(part.platform for part in found.sound().images)
    except ResolverError as error:
        return error
    index = root.parsed if isinstance(root.parsed, Index) else None
    entries = frozenset(entry.digest for entry in index.manifests) if index else frozenset()
    return Fact(digest, index is not None, entries, offered)


def _unparsable(path: str, failure: UnreadableFile) -> Finding:
    rule = decide.UNPARSABLE
    hint = next(iter(failure.hints()), "")
    place = FindingPlace(path, failure.line, failure.column)
    return Finding(rule.id, rule.severity, failure.reason, path, hint=hint, place=place)


def _warnings(file: PinnedFile, judge: Judge, requests: PinRequest) -> list[Warned]:
    told = [
        Warned(
            "not-compared",
            f"cannot compare the pin in `{place.path}:{place.line}` with its tag: {doubt}",
        )
        for place, doubt in judge.doubts
    ]
    if requests.platform and file.edits:
        message = (
            f"`{file.path}` is then for `{requests.platform}` only, other machines cannot use it"
        )
        told.append(Warned("single-platform", message))
    return told


def pin(  # noqa: PLR0913 - one for each option of the verb
    context: Context,
    files: str | os.PathLike[str] | Iterable[str | os.PathLike[str]],
    *,
    check: bool = False,
    update: bool = False,
    unpin: bool = False,
    platform: str | Platform | None = None,
    require: PlatformsLike = (),
) -> Pinned:
    """Find the digests to pin references in files to; `write_pins` writes them."""
    if unpin and (check or update or platform is not None):
        raise Usage(
            "`unpin` removes digests, so it cannot be combined with checks or lookups",
            "leave out the other options",
        )
    needed = [context.platform_request(each) for each in each_platform(require)]
    # Of the platforms of this machine the last: on macOS, what runs in its virtual machine.
    machine = next((each.platforms[-1] for each in needed if each.local), None)
    others = tuple(each.platforms[-1] for each in needed if not each.local)
    wanted = str(context.platform_request(platform).platforms[0]) if platform is not None else ""
    requests = PinRequest(check, update, unpin, wanted, others, machine)
    look_up = LookUp(
        partial(_read_root, context),
        context.platform_request,
        context.table,
        context.settings.batch_jobs,
    )
    return pin_files(_paths(files), requests, look_up)


def write_pins(pinned: Pinned) -> tuple[str, ...]:
    """Write the edits of `pin`, each file atomically; return the paths written."""
    from resolver.verbs.output_files import rewrite  # noqa: PLC0415 - for this alone

    changed = [file for file in pinned.files if file.is_changed]
    for file in changed:
        rewrite(file.path, file.text, file.after)
    return tuple(file.path for file in changed)


def _read_root(context: Context, reference: Reference) -> tuple[DocumentReader, RootDocument]:
    target = context.target(reference)
    reader, _warned = context.reader(target)
    return reader, context.read_root(reader, target)


def _paths(files: str | os.PathLike[str] | Iterable[str | os.PathLike[str]]) -> tuple[str, ...]:
    import os  # noqa: PLC0415 - for this question alone

    several = (files,) if isinstance(files, str | os.PathLike) else tuple(files)
    return tuple(os.fspath(file) for file in several)
