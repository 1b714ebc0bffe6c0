"""What `resolver compare` asks, read from its options, and what it says on stderr."""

from __future__ import annotations

import re
from dataclasses import field, replace
from typing import TYPE_CHECKING, Self

import typer

from resolver.cli.amounts import size
from resolver.cli.inputs import read_rules, split_platforms
from resolver.core.dimensions import ASPECTS
from resolver.core.ignoring import Ignoring
from resolver.core.thresholds import Thresholds
from resolver.errors import Differs, Usage
from resolver.values import dataclass

if TYPE_CHECKING:
    from resolver.cli.output import Output
    from resolver.core.comparison import Comparison, ImageComparison
    from resolver.core.dimensions import Aspect
    from resolver.session import Session

#: At least one: a build is never smaller than the smaller one.
_RATIO = re.compile(r"[1-9][0-9]{0,5}(?:\.[0-9]{1,6})?")


@dataclass(frozen=True, slots=True)
class Question:
    """What is to be compared, and what counts.

    Attributes:
        platforms, expect: as typed, comma lists taken apart; empty where nothing was typed.
        ignore: rules of options and file.
    """

    platforms: tuple[str, ...]
    base: str | None
    expect: tuple[str, ...]
    expect_as: str | None
    ignore: tuple[str, ...]
    files: bool
    thresholds: Thresholds = field(default_factory=Thresholds)

    @classmethod
    def read(
        cls,
        platforms: list[str] | None,
        base: str | None,
        expect: list[str] | None,
        expect_as: str | None,
        ignore: list[str] | None,
        ignore_file: str | None,
        *,
        files: bool,
    ) -> Self:
        """Read everything that can be read before anybody is asked.

        Raises:
            Malformed: a list of platforms, or a rule, cannot be read.
            Usage: the file of rules cannot be read.
        """
        rules = Ignoring.read(ignore or []).rules
        if ignore_file is not None:
            rules += Ignoring.read(read_rules(ignore_file), f"--ignore-file {ignore_file}:").rules
        return cls(
            tuple(split_platforms(platforms or [])),
            base,
            tuple(split_platforms(expect or [])),
            expect_as,
            rules,
            files,
        )

    def with_thresholds(
        self, max_ratio: str | None, max_delta: str | None, fail_on: list[str] | None
    ) -> Self:
        """Add what counts.

        Raises:
            Usage: a number or a word cannot be read.
        """
        limits = Thresholds(
            fail_on=frozenset(_aspects(fail_on or [])),
            max_ratio=_ratio(max_ratio) if max_ratio is not None else None,
            max_delta=size(max_delta, "--max-size-delta") if max_delta is not None else None,
        )
        return replace(self, thresholds=limits)

    def ask(
        self, session: Session, reference: str, other: str | None
    ) -> Comparison | ImageComparison:
        """Ask a session.

        Raises:
            Usage: there is no base between two images.
            ResolverError: as `Session.compare` and `Session.compare_images`.
        """
        if other is None:
            return session.compare(
                reference,
                self.platforms,
                base=self.base,
                expect=self.expect,
                expect_as=self.expect_as,
                ignore=self.ignore,
                thresholds=self.thresholds,
                files=self.files,
            )
        if self.base is not None:
            raise Usage(
                "`--base` is for the platforms of one image",
                "leave it out: of two images the first is the base",
            )
        return session.compare_images(
            reference,
            other,
            self.platforms,
            expect=self.expect,
            expect_as=self.expect_as,
            ignore=self.ignore,
            thresholds=self.thresholds,
            files=self.files,
        )


def tell_reasons(output: Output, found: Comparison | ImageComparison) -> None:
    """Say why the answer is no, a line each, and end with its status; return if it is yes."""
    errors = [Differs(each.message, each.aspect, each.platform) for each in found.reasons]
    for error in errors:
        output.failed(error)
    if errors:
        raise typer.Exit(errors[0].kind.status)


def _aspects(values: list[str]) -> list[Aspect]:
    known: dict[str, Aspect] = {aspect: aspect for aspect in ASPECTS}
    found = []
    for word in (part.strip() for value in values for part in value.split(",")):
        if word not in known:
            raise Usage(
                f"`--fail-on {word}` is nothing that is compared",
                f"choose of {', '.join(ASPECTS)}",
            )
        found.append(known[word])
    return found


def _ratio(text: str) -> float:
    if not _RATIO.fullmatch(text):
        raise Usage(f"`--max-size-ratio {text}` is no ratio", "write a number from 1 up, as `2.0`")
    return float(text)
