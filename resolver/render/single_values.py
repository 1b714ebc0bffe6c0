"""Words: the answer as the one thing a shell script wants, one a line; `-` for a failure."""

from __future__ import annotations

from resolver.core.results.resolve import Failure, Resolution
from resolver.errors import Usage
from resolver.render.text import line


def digest(answer: object) -> str:
    """Give the manifest's digest; for a list of platforms, one digest a line."""
    match answer:
        case Resolution():
            return f"{answer.manifest.digest}\n"
        case Failure():
            return "-\n"
        case _:
            return "".join(f"{word}\n" for word in _digests(answer))


def ref(answer: object) -> str:
    """Give the name that always means these bytes: `registry/repository@digest`."""
    match answer:
        case Resolution():
            return f"{line(answer.pinned)}\n"
        case Failure():
            return "-\n"
        case _:
            _refuse_contents(answer)
            return "".join(f"{line(name)}\n" for _word, name in _pairs(answer))


def _digests(answer: object) -> list[str]:
    from resolver.core.results.resolve import Inspection, Offers  # noqa: PLC0415 - a resolve needs none

    match answer:
        case Offers():
            return [str(offer.descriptor.digest) for offer in answer.offers]
        case Inspection():
            return [str(answer.descriptor.digest)]
        case _:
            return [word for word, _name in _pairs(answer)]


def _refuse_contents(answer: object) -> None:
    from resolver.core.results.resolve import Inspection, Offers  # noqa: PLC0415 - a resolve needs none

    if isinstance(answer, Offers | Inspection):
        raise Usage("`--format ref` is for `resolve`", "choose `digest` or `json` here")


def _pairs(answer: object) -> list[tuple[str, str]]:
    """Ask the module that knows this answer for its digests and names, an image a pair.

    Raises:
        Usage: it names no images.

    """
    from resolver.render.answers import renderer_of  # noqa: PLC0415 - a resolve needs none

    place = renderer_of(answer)
    pairs: list[tuple[str, str]] | None = place.pairs(answer)
    if pairs is None:
        raise Usage("this answer names no images", "choose another `--format`")
    return pairs
