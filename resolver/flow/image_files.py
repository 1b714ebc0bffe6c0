"""Files that name images: which kind each is, and the references in it.

`pin` edits what is found, `lock --from` reads it.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from resolver.core.pinning import bake, dockerfile, helm, kubernetes
from resolver.core.pinning.compose_dockerfile import Moved
from resolver.core.pinning.kinds import KINDS, by_content, by_path, may_be_known
from resolver.core.pinning.likeness import likeness, sweep, unknown, values
from resolver.core.pinning.scalars import TEMPLATE
from resolver.core.pinning.spots import Found, Passed, Spot, Stray, Unparsable, found
from resolver.errors import (
    LimitExceeded,
    Malformed,
    NotAnImageFile,
    ResolverError,
    UnreadableFile,
    Usage,
)
from resolver.marked import read_documents, without_comments
from resolver.values import dataclass

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from resolver.core.pinning.kinds import Kind
    from resolver.core.pinning.spots import Mark
    from resolver.core.pinning.tree import Node, Scalar

#: Files of a folder that may name images; a large monorepo has some thousands.
MAX_FOUND = 20_000
#: Folders that hold what others wrote: repositories' own data, and installed packages.
SKIPPED_FOLDERS = frozenset(
    [".git", ".hg", ".svn", ".terraform", ".tox", ".venv", "__pycache__", "node_modules"]
)
_RENDERED = "it looks like a template: pin the values that it is rendered with"
_TEMPLATE_KIND = "template"
_DOCKERFILES = frozenset({"dockerfile", "containerfile"})
#: The first word that is neither blank nor comment.
_FIRST_WORD = re.compile(r"\ufeff?(?:[ \t\r\n]++|#[^\n]*+)*+([^\s]+)")
#: Top-level keys without one of which no YAML is of a kind that its content tells.
_TELLING = re.compile(
    r"""^[ \t{-]*["']?(?:apiVersion|extends|jobs|kind|services|stages|steps)["']?[ \t]*:""",
    re.MULTILINE,
)
#: A key with a value that is one word, in a text that is no YAML.
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
    """A file that names images.

    Attributes:
        path: as given.
        kind: its name in `KINDS`, or `template` for one that is rendered to YAML.
        text: what is in it, byte order mark and line ends included.
        spots: the references a digest can be written into, in the order of the file.
        strays: the others, each with its reason.
        passed: what looks like an image, and needs no digest.
    """

    path: str
    kind: str
    text: str
    spots: tuple[Spot, ...]
    strays: tuple[Stray, ...]
    passed: tuple[Passed, ...] = ()


def find_images(path: str, text: str) -> ImageFile:
    """Find the image references in the text of a file; the path says what kind it is.

    Raises:
        NotAnImageFile: neither its name nor its content is of a kind that is known.
        UnreadableFile: it cannot be parsed.
    """
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


def _documents(path: str, text: str, kind: Kind | None) -> tuple[Node, ...]:
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
            # It is no YAML, as templates and JSON patches of others are: nothing to be known.
            continue
        for each in inner:
            yield from _inside(text, scalar, each, path)


def _inside(text: str, scalar: Scalar, document: Node, path: str) -> Iterator[Stray]:
    moved = Moved.read(text, scalar)
    find = kubernetes.find if kubernetes.fits(document) else helm.find
    own: list[Mark] = [*find(scalar.value, document)]
    for mark in [*own, *sweep(scalar.value, document, own)]:
        if isinstance(mark, Passed) or (isinstance(mark, Spot) and mark.reference.digest):
            continue
        words = (
            mark.text
            if isinstance(mark, Stray)
            else mark.words or scalar.value[mark.start : mark.end]
        )
        start = moved.to(mark.start) if moved is not None else scalar.start
        yield unknown(start, words, f"{path} {mark.role}".rstrip())


def find_template(path: str, text: str) -> ImageFile:
    """Report images in the lines of a template, which is no YAML until it is rendered."""
    strays = [
        unknown(match.start(2) + held[0], held[1], match[1])
        for match in _LINE.finditer(text)
        if (held := likeness(match[2], match[1])) is not None
    ]
    return _image_file(path, _TEMPLATE_KIND, text, found(text, strays))


def may_name_images(path: str, text: str) -> bool:
    """Whether a file is worth parsing: its name tells its kind, or it has a key that may."""
    return by_path(path.replace("\\", "/")) is not None or _TELLING.search(text) is not None


def files_in(folder: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """List the files in a folder that may name images, and the links, which are not followed.

    Raises:
        LimitExceeded: there are too many of them.
        Usage: a folder cannot be read.
    """

    def refuse(error: OSError) -> NoReturn:
        reason = (error.strerror or str(error)).lower()
        hint = "name files, or folders that can be read"
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


def _image_file(path: str, kind: str, text: str, held: Found) -> ImageFile:
    return ImageFile(path, kind, text, held.spots, held.strays, held.passed)


def known_kinds() -> str:
    """List the kinds of files that can be named, for people."""
    return ", ".join(kind.words for kind in KINDS)
