"""Instructions: one step of a history, without what differs for every platform anyway."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, field

#: What builders put around a command. Source: moby builder/dockerfile/dispatchers.go (`#(nop)`);
#: BuildKit frontend/dockerfile/dockerfile2llb/convert.go (`# buildkit`, `|N ARG=value`).
_WRAPPING = re.compile(
    r"^(?:\|[0-9]{1,6} (?:[A-Za-z_][A-Za-z0-9_]{0,80}=[^ ]{0,400} ){0,100})?"
    r"(?:/bin/(?:ba)?sh -c )?(?:#\(nop\) +)?|[ ]*# buildkit\Z"
)
#: The names that architectures go by in file names and addresses, longest first. Source:
#: platforms.yaml, `aliases`; GNU triplets, Debian's and Rust's names of ports.
_ARCHITECTURE = re.compile(
    r"(?<![A-Za-z0-9])(?:x86[_-]64|amd64|x64|i[3-6]86|x86|aarch64|arm64(?:[/-]?v[89])?|"
    r"arm(?:hf|el|v[5-8][a-z]{0,2}|32v[5-7]|64v8)?(?:/v[5-8])?|ppc64(?:le|el)|powerpc64le|s390x|"
    r"riscv64(?:gc)?|mips64(?:el|le)|mips(?:el|le)|loong(?:arch)?64|gnueabihf|musleabihf)"
    r"(?![A-Za-z0-9])",
    re.IGNORECASE,
)
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

    @classmethod
    def read(cls, written: str) -> Instruction:
        """Read a step as a config writes it."""
        text = _SPACE.sub(" ", written[:_LOOKED_AT]).strip()
        text = _WRAPPING.sub("", text)
        text = _HASH.sub("{hash}", _ARCHITECTURE.sub("{arch}", text)).strip()
        words = Counter(text.split(" ")[:_WORDS])
        # What lies beyond is not looked at closely, but is no reason to call two steps the same.
        return cls(text + written[_LOOKED_AT:], words)

    @property
    def verb(self) -> str:
        """The word it begins with: `COPY`, `RUN`, `apt-get`."""
        return self.text.partition(" ")[0]


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
