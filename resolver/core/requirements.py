"""Requirements: what a pipeline wants of an image, as it is read from options and policy files."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from resolver.errors import Usage
from resolver.values import dataclass

if TYPE_CHECKING:
    from resolver.core.findings import Severity
    from resolver.core.platform import Platform

#: Statements about a build that can be required.
ATTESTATIONS = ("sbom", "provenance")

_AGE = re.compile(r"([0-9]{1,5})([hdwy])", re.ASCII)
#: Seconds.
_UNITS = {"h": 3_600, "d": 86_400, "w": 7 * 86_400, "y": 365 * 86_400}


@dataclass(frozen=True, slots=True)
class Requirements:
    """What is wanted of one image; whatever is empty is not looked at.

    Attributes:
        require: platforms that must be offered.
        forbid: platforms that must not be.
        only: the platforms that may be offered; nothing else.
        same_as: a reference: what it offers, all of it and nothing else, must be offered.
        compatible: a required platform may be met by what else runs there, as containerd chooses.
        attestations: statements, of `ATTESTATIONS`, about every build that counts.
        max_age: seconds since a build that counts was made; 0 for any.
        lint: what `resolver lint` finds fails from this weight on; None where it is not asked.
        ignore: ids of rules that nobody wants to hear of.

    The builds that count are those that meet `require`; without it, all of them.
    """

    require: tuple[Platform, ...] = ()
    forbid: tuple[Platform, ...] = ()
    only: tuple[Platform, ...] = ()
    same_as: str = ""
    compatible: bool = False
    attestations: tuple[str, ...] = ()
    max_age: int = 0
    lint: Severity | None = None
    ignore: tuple[str, ...] = ()

    @property
    def is_empty(self) -> bool:
        """Whether nothing is wanted, so that every image would pass."""
        platforms = self.require or self.forbid or self.only or self.same_as
        return not (platforms or self.attestations or self.max_age or self.lint)


def parse_age(text: str) -> int:
    """Read an age, `12h`, `90d`, `8w` or `1y` (365 days), as seconds.

    Raises:
        Usage: it is none.
    """
    matched = _AGE.fullmatch(text)
    if matched is None or not int(matched[1]):
        raise Usage(f"`{text[:40]}` is no age", "write `12h`, `90d`, `8w` or `1y`")
    return int(matched[1]) * _UNITS[matched[2]]


def parse_attestation(text: str) -> str:
    """Read the name of a statement that can be required.

    Raises:
        Usage: there is no such kind.
    """
    if text not in ATTESTATIONS:
        raise Usage(
            f"`{text[:40]}` is no kind of attestation",
            f"choose from {', '.join(f'`{kind}`' for kind in ATTESTATIONS)}",
        )
    return text
