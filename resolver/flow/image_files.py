"""Files that name images: which kind each is, and the references in it.

`pin` edits what is found, `lock --from` reads it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from resolver.core.pinning import dockerfile
from resolver.core.pinning.kinds import KINDS, by_content, by_path
from resolver.core.pinning.spots import Found, found
from resolver.errors import Malformed, NotAnImageFile, ResolverError, UnreadableFile
from resolver.marked import read_documents

if TYPE_CHECKING:
    from resolver.core.pinning.spots import Spot, Stray


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
        if kind is None and isinstance(error, Malformed):
            raise NotAnImageFile(path, _known()) from error
        raise UnreadableFile(path, str(error)) from error
    kind = kind or by_content(documents)
    if kind is None or kind.find is None:
        raise NotAnImageFile(path, _known())
    marks = [mark for document in documents for mark in kind.find(text, document)]
    return _image_file(path, kind.name, text, found(text, marks))


def _image_file(path: str, kind: str, text: str, held: Found) -> ImageFile:
    return ImageFile(path, kind, text, held.spots, held.strays)


def _known() -> str:
    return ", ".join(kind.words for kind in KINDS)
