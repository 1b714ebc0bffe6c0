"""Files that name images: which kind each is, and the references in it.

`pin` edits what is found, `lock --from` reads it.
"""

from __future__ import annotations

import shlex
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from resolver.core.pinning import dockerfile
from resolver.core.pinning.kinds import KINDS, by_content, by_path, may_be_known
from resolver.core.pinning.scalars import TEMPLATE
from resolver.core.pinning.spots import Found, Unparsable, found
from resolver.errors import Malformed, NotAnImageFile, ResolverError, UnreadableFile, Usage
from resolver.marked import read_documents
from resolver.values import dataclass

if TYPE_CHECKING:
    from resolver.core.pinning.spots import Spot, Stray

#: Entries of a folder that are looked at, and files that are named, when a folder is refused.
MAX_LISTED = 1000
MAX_NAMED = 8
_RENDERED = "it looks like a template: pin the values that it is rendered with"


@dataclass(frozen=True, slots=True)
class ImageFile:
    """A file that names images.

    Attributes:
        path: as given.
        kind: its name in `KINDS`.
        text: what is in it, byte order mark and line ends included.
        spots: the references a digest can be written into, in the order of the file.
        strays: the others, each with its reason.
    """

    path: str
    kind: str
    text: str
    spots: tuple[Spot, ...]
    strays: tuple[Stray, ...]


def find_images(path: str, text: str) -> ImageFile:
    """Find the image references in the text of a file; the path says what kind it is.

    Raises:
        NotAnImageFile: neither its name nor its content is of a kind that is known.
        UnreadableFile: it cannot be parsed.
    """
    kind = by_path(path.replace("\\", "/"))
    try:
        if kind is not None and kind.find is None:
            return _image_file(path, kind.name, text, dockerfile.find(text))
        documents = read_documents(text)
    except ResolverError as error:
        if not may_be_known(path) and isinstance(error, Malformed):
            raise NotAnImageFile(path, _known()) from error
        line = error.line if isinstance(error, Unparsable) else 1
        column = error.column if isinstance(error, Unparsable) else 1
        hints = (_RENDERED,) if TEMPLATE in text else ()
        raise UnreadableFile(path, str(error), *hints, line=line, column=column) from error
    kind = kind or by_content(documents)
    if kind is None or kind.find is None:
        raise NotAnImageFile(path, _known())
    marks = [mark for document in documents for mark in kind.find(text, document)]
    return _image_file(path, kind.name, text, found(text, marks))


def refuse_folder(path: str) -> None:
    """Refuse a folder, and name what is in it instead: which of its files are meant is not ours.

    Raises:
        Usage: it is one.
    """
    folder = Path(path)
    if not folder.is_dir():
        return
    found = sorted(
        shlex.quote(str(inside))
        for pattern in ("*", ".github/workflows/*")
        for inside in islice(folder.glob(pattern), MAX_LISTED)
        if by_path(inside.as_posix()) is not None and inside.is_file()
    )
    hint = f"name files: `resolver pin {' '.join(found[:MAX_NAMED])}`" if found else "name files"
    raise Usage(f"`{path}` is a folder", hint)


def _image_file(path: str, kind: str, text: str, held: Found) -> ImageFile:
    return ImageFile(path, kind, text, held.spots, held.strays)


def _known() -> str:
    return ", ".join(kind.words for kind in KINDS)
