"""Instructions: one step of a history, without what differs for every platform anyway."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import field
from typing import TYPE_CHECKING

from resolver.values import dataclass

if TYPE_CHECKING:
    from resolver.core.platform import Platform, PlatformTable

#: What builders put around a command. Source: moby builder/dockerfile/dispatchers.go (`#(nop)`);
#: BuildKit frontend/dockerfile/dockerfile2llb/convert.go (`# buildkit`, `|N ARG=value`).
_WRAPPING = re.compile(
    r"^(?:\|[0-9]{1,6} (?:[A-Za-z_][A-Za-z0-9_]{0,80}=[^ ]{0,400} ){0,100})?"
    r"(?:/bin/(?:ba)?sh -c )?(?:#\(nop\) +)?|[ ]*# buildkit\Z"
)
#: What may stand behind the name of an architecture: `arm/v7`, `arm64v8`, `arm32v7`.
_VARIANT = r"(?:(?:32)?[/_-]?v[1-9][a-z]?)?"
#: Digests and checksums.
_HASH = re.compile(r"(?<![0-9A-Fa-f])[0-9a-f]{32,128}(?![0-9A-Fa-f])")
_SPACE = re.compile(r"[ \t\r\n\\]+")
#: Characters of a step that are looked at: more is a script, and says what it is in these.
_LOOKED_AT = 8_000
#: Words that are compared.
_WORDS = 400
#: The likeness of what is the same; less is a share of it.
SAME = 1_000
#: Steps with less in common are different steps.
_ALIKE = 600


@dataclass(frozen=True, slots=True)
class Instruction:
    """One step, normalised; equal where builds differ only in what the platform decides.

    Attributes:
        text: without wrapping, names of architectures and checksums.
        words: how often each of its words is there.
    """

    text: str
    words: Counter[str] = field(compare=False, repr=False)

    @property
    def verb(self) -> str:
        """The word it begins with: `COPY`, `RUN`, `apt-get`."""
        return self.text.partition(" ")[0]


class Normaliser:
    """Reads the steps of one build, without the words that name its own platform's architecture.

    A word for another architecture is a difference that people want to see.

    Args:
        platform: of the build; None takes no words out.
        table: the words there are.
    """

    def __init__(self, platform: Platform | None, table: PlatformTable) -> None:
        self._words: re.Pattern[str] | None = None
        if platform is None or not platform.architecture:
            return
        chip = platform.normalized(table).architecture
        family = table.family(chip)
        named = dict(table.facts.paths.names).get(chip, ())
        words = {chip, *family.aliases, *dict(family.forced), *named}
        # Longest first: `x86_64-linux-gnu` before `x86_64`.
        listed = "|".join(re.escape(word) for word in sorted(words, key=lambda w: (-len(w), w)))
        self._words = re.compile(
            rf"(?<![A-Za-z0-9])(?:{listed}){_VARIANT}(?![A-Za-z0-9]|_64)",
            re.ASCII | re.IGNORECASE,
        )

    def read(self, written: str) -> Instruction:
        """Read a step as a config writes it."""
        text = _SPACE.sub(" ", written[:_LOOKED_AT]).strip()
        text = _WRAPPING.sub("", text)
        if self._words is not None:
            text = self._words.sub("{arch}", text)
        text = _HASH.sub("{hash}", text).strip()
        words = Counter(text.split(" ")[:_WORDS])
        # What lies beyond is not looked at closely, but is no reason to call two steps the same.
        return Instruction(text + written[_LOOKED_AT:], words)


def likeness(one: Instruction, other: Instruction) -> int:
    """Say how much two steps have in common: 1000 for the same, 0 for different ones.

    What is not the same must begin with the same word, and counts by the words it shares (the
    Sørensen-Dice coefficient), from 600 up.
    """
    if one == other:
        return SAME
    if one.verb != other.verb:
        return 0
    both = (one.words & other.words).total()
    share = 2 * (SAME - 1) * both // (one.words.total() + other.words.total())
    return share if share >= _ALIKE else 0
