"""References to be locked, out of the files that name images."""

from __future__ import annotations

from typing import TYPE_CHECKING

from resolver.core.events import Warned
from resolver.core.pinning.spots import Lines
from resolver.core.reference import Reference
from resolver.errors import InvalidReference
from resolver.flow.image_files import ImageFile, find_images
from resolver.flow.rewrite import read_text
from resolver.values import dataclass

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from resolver.core.pinning.spots import Spot

_SERVICE, _IMAGE = "services.", ".image"


@dataclass(frozen=True, slots=True)
class Named:
    """What some files name.

    Attributes:
        references: canonical to as a file writes it, in the order of the files.
        services: canonical references to the services of compose files that run them.
        warnings: names that are put together elsewhere, and so are not known here.

    """

    references: dict[str, str]
    services: dict[str, list[str]]
    warnings: tuple[Warned, ...]


def references_in(paths: Iterable[str]) -> Named:
    """Read files that name images; what their authors wrote `# resolver: ignore` at is left out.

    Raises:
        NotAnImageFile, UnreadableFile: a file cannot be read as what it is.

    """
    references: dict[str, str] = {}
    services: dict[str, list[str]] = {}
    warnings: list[Warned] = []
    for path in dict.fromkeys(paths):
        file = find_images(path, read_text(path))
        for spot in file.spots:
            if spot.is_ignored:
                continue
            references.setdefault(str(spot.reference), _written(file, spot))
            if spot.role.startswith(_SERVICE) and spot.role.endswith(_IMAGE):
                service = spot.role.removeprefix(_SERVICE).removesuffix(_IMAGE)
                services.setdefault(str(spot.reference), []).append(service)
        warnings.extend(_strays(file))
    return Named(references, services, tuple(warnings))


def _written(file: ImageFile, spot: Spot) -> str:
    """Give the reference as the file has it, if it has it in one piece."""
    text = file.text[spot.start : spot.end]
    try:
        whole = Reference.parse(text) == spot.reference
    except InvalidReference:
        whole = False
    return text if whole else spot.reference.familiar


def _strays(file: ImageFile) -> Iterator[Warned]:
    lines = Lines(file.text)
    for stray in file.strays:
        if not stray.is_ignored:
            line, _ = lines.position(stray.start)
            message = f"`{file.path}:{line}` names `{stray.text}`, which is not known: "
            yield Warned("reference-unknown", message + stray.reason)
