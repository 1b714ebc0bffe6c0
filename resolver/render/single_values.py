"""Single values for shell scripts: a digest or a reference per line; `-` for a failure."""

from __future__ import annotations

from resolver.core.results.resolve import Failure, Resolution
from resolver.errors import Usage
from resolver.render.text import line


def digest(answer: object) -> str:
    """Return the digest of the manifest; for several images, one per line."""
    match answer:
        case Resolution():
            return f"{answer.manifest.digest}\n"
        case Failure():
            return "-\n"
        case _:
            return "".join(f"{value}\n" for value in _digests(answer))


def ref(answer: object) -> str:
    """Return the pinned reference: `registry/repository@digest`."""
    match answer:
        case Resolution():
            return f"{line(answer.pinned)}\n"
        case Failure():
            return "-\n"
        case _:
            from resolver.core.results.resolve import Inspection, Offers  # noqa: PLC0415 - a resolve needs none

            if isinstance(answer, Offers | Inspection):
                raise Usage("`--format ref` is for `resolve`", "choose `digest` or `json` here")
            return "".join(f"{line(name)}\n" for _digest, name in _pairs(answer))


def _digests(answer: object) -> list[str]:
    from resolver.core.results.resolve import Inspection, Offers  # noqa: PLC0415 - a resolve needs none

    match answer:
        case Offers():
            return [str(offer.descriptor.digest) for offer in answer.offers]
        case Inspection():
            return [str(answer.descriptor.digest)]
        case _:
            return [value for value, _name in _pairs(answer)]


def _pairs(answer: object) -> list[tuple[str, str]]:
    """Return the digest and name of each image of an answer; `Usage` if it has none."""
    from resolver.render.answers import renderer_of  # noqa: PLC0415 - a resolve needs none

    pairs_of = getattr(renderer_of(answer), "pairs", None)
    pairs: list[tuple[str, str]] | None = pairs_of(answer) if pairs_of is not None else None
    if pairs is None:
        raise Usage("this answer contains no images", "choose another `--format`")
    return pairs
