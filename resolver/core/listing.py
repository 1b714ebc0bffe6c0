"""Listings: which of the images of a store somebody wants to see."""

from __future__ import annotations

import re
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

from resolver.core.reference import Reference
from resolver.errors import Usage
from resolver.values import dataclass

if TYPE_CHECKING:
    from collections.abc import Iterable

    from resolver.core.stored import StoredImage

#: What `--filter` knows, as `KEY=VALUE`.
KEYS = ("dangling", "platform", "reference")
#: A version and features, as `str` of a platform writes them.
_PARENTHESES = re.compile(r"\([^()]*\)", re.ASCII)
_TRUTHS = {"true": True, "1": True, "false": False, "0": False}


@dataclass(frozen=True, slots=True)
class Listing:
    """Images of a store, in the order of their references."""

    images: tuple[StoredImage, ...]


@dataclass(frozen=True, slots=True)
class Filters:
    """What an image must be to be listed.

    Attributes:
        patterns: of each kind one must fit; `*`, `?` and `[…]` as in a shell.
        platforms: one of them must be held.
        dangling: None: does not matter.

    """

    patterns: tuple[str, ...] = ()
    platforms: tuple[str, ...] = ()
    dangling: bool | None = None

    @classmethod
    def parse(cls, filters: Iterable[str], patterns: Iterable[str] = ()) -> Filters:
        """Read `--filter KEY=VALUE` as Docker writes them, and the patterns beside them.

        Raises:
            Usage: there is no such key, or its value cannot be used.

        """
        wanted: dict[str, list[str]] = {key: [] for key in KEYS}
        wanted["reference"] += patterns
        for text in filters:
            key, equals, value = text.partition("=")
            if not (equals and value and key in KEYS):
                raise Usage(
                    f"`--filter {text}` is no filter",
                    "write `dangling=true`, `platform=linux/arm64` or `reference=*/app:*`",
                )
            wanted[key].append(value)
        return cls(
            tuple(wanted["reference"]), tuple(wanted["platform"]), _truth(wanted["dangling"])
        )

    def take(self, images: Iterable[StoredImage]) -> Listing:
        """Keep the images that fit."""
        return Listing(tuple(image for image in images if self._fits(image)))

    def _fits(self, image: StoredImage) -> bool:
        if self.dangling is not None and image.dangling is not self.dangling:
            return False
        if self.platforms and not any(
            _at_or_below(wanted, held) for wanted in self.platforms for held in image.platforms
        ):
            return False
        return not self.patterns or any(named(image, pattern) for pattern in self.patterns)


def named(image: StoredImage, pattern: str) -> bool:
    """Whether a pattern names an image: with its tag or without, in full or in Docker's form."""
    if not image.reference:
        return False
    reference = Reference.parse(image.reference)
    short = reference.familiar
    names = (str(reference), reference.identity, short, short.removesuffix(f":{reference.tag}"))
    return any(fnmatchcase(name, pattern) for name in names)


def _at_or_below(wanted: str, held: str) -> bool:
    """Whether `linux` or `linux/arm64` stands for `linux/arm64/v8`, whatever its version."""
    plain = _PARENTHESES.sub("", held)
    below = (f"{wanted}/", f"{wanted}:")
    return wanted in {held, plain} or held.startswith(below) or plain.startswith(below)


def _truth(values: list[str]) -> bool | None:
    if not values:
        return None
    truth = _TRUTHS.get(values[-1].lower())
    if truth is None:
        raise Usage(f"`--filter dangling={values[-1]}` is neither true nor false")
    return truth
