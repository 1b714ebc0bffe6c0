"""`resolver compare`: compare the platforms of an image, or two images."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Optional, Self

import typer

from resolver.cli import options
from resolver.cli.inputs import read_rules, size, split_platforms
from resolver.errors import Negative, Usage
from resolver.values import dataclass

if TYPE_CHECKING:
    from resolver.cli.output import Output
    from resolver.core.compare.compare import Comparison, ImageComparison
    from resolver.core.compare.drift import Aspect
    from resolver.core.compare.thresholds import Thresholds
    from resolver.session import Session


_Texts = Optional[list[str]]  # noqa: UP045 - Typer reads this at run time
_Text = Optional[str]  # noqa: UP045 - Typer reads this at run time


@options.command
def compare(
    common: options.Common,
    reference: options.Reference,
    other: Annotated[
        _Text,
        typer.Argument(
            metavar="[REF]", show_default=False, autocompletion=options.offer_references
        ),
    ] = None,
    platform: options.Platforms = None,
    base: Annotated[
        _Text,
        typer.Option(
            "--base",
            metavar="PLATFORM",
            help="Set a baseline platform for comparison.",
            autocompletion=options.offer_platforms,
        ),
    ] = None,
    expect: Annotated[
        _Texts,
        typer.Option(
            "--expect",
            metavar="PLATFORMS",
            help="Exit with status 1 unless these platforms are offered.",
            autocompletion=options.offer_platforms,
            show_default=False,
        ),
    ] = None,
    expect_as: Annotated[
        _Text,
        typer.Option(
            "--expect-as",
            metavar="REF",
            help="Expect the platforms that another REF offers.",
            autocompletion=options.offer_references,
        ),
    ] = None,
    ignore: Annotated[
        _Texts,
        typer.Option(
            "--ignore",
            metavar="RULE",
            help="Ignore differences: `env.PATH`, `labels.com.*`, `files.owner`, "
            "`files.xattrs.user.*`; repeatable.",
            show_default=False,
        ),
    ] = None,
    ignore_file: Annotated[
        _Text,
        typer.Option(
            "--ignore-file", metavar="FILE", help="Read --ignore rules from FILE, one per line."
        ),
    ] = None,
    max_size_ratio: Annotated[
        _Text,
        typer.Option(
            "--max-size-ratio", metavar="N", help="Exit with status 1 above this ratio, as `2.0`."
        ),
    ] = None,
    max_size_delta: Annotated[
        _Text,
        typer.Option(
            "--max-size-delta",
            metavar="SIZE",
            help="Exit with status 1 above this difference, as `50MB`.",
        ),
    ] = None,
    fail_on: Annotated[
        _Texts,
        typer.Option(
            "--fail-on",
            metavar="WHAT",
            help="Exit with status 1 if these differ: size, layers, config, history, platforms, "
            "files, packages, needs; use commas.",
            show_default=False,
        ),
    ] = None,
    files: Annotated[
        bool,
        typer.Option(
            "--files", help="Also fetch layers and compare their files.", show_default=False
        ),
    ] = False,
    needs: Annotated[
        bool,
        typer.Option(
            "--needs",
            help="Also compare what the programs need.",
            show_default=False,
        ),
    ] = False,
    no_trunc: options.NoTrunc = False,
) -> None:
    """Compare the platforms of an image, or two images.

    Compares sizes, shared layers, settings and history, and files with --files. With one REF, the
    status is 1 only if --expect, --fail-on or a threshold fails. With two, it is 1 if anything
    differs, as with diff, or only if one of these options fails; only growth counts for sizes.

    \b
      resolver compare python:3.12 -p linux/amd64,linux/arm64
      resolver compare app:1.2 --expect linux/amd64,linux/arm64 --max-size-ratio 2
      resolver compare app:1.1 app:1.2 --ignore labels.org.opencontainers.*
      resolver compare python:3.12 mirror.example.com/python:3.12
    """
    from resolver.cli.run import open_session, show_progress

    request = CompareOptions.read(
        platform, base, expect, expect_as, ignore, ignore_file, files=files, needs=needs
    ).with_thresholds(max_size_ratio, max_size_delta, fail_on)
    with open_session(common) as (session, output):
        with show_progress(output, common, "auto" if files else "none"):
            found = request.run(session, reference, other)
        output.warnings(found.warnings)
        output.show(found, common.form, full=no_trunc)
        fail_if_different(output, found)


#: At least 1: the ratio of the larger size to the smaller one.
_RATIO = re.compile(r"[1-9][0-9]{0,5}(?:\.[0-9]{1,6})?")


@dataclass(frozen=True, slots=True)
class CompareOptions:
    """What to compare, and which differences fail.

    Attributes:
        platforms, expect: as typed, comma lists split; empty if not given.
        ignore: rules of `--ignore` and of the file.
    """

    platforms: tuple[str, ...]
    base: str | None
    expect: tuple[str, ...]
    expect_as: str | None
    ignore: tuple[str, ...]
    files: bool
    needs: bool
    thresholds: Thresholds | None = None

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
        needs: bool = False,
    ) -> Self:
        """Parse the options before any request.

        Raises:
            Malformed: a list of platforms or a rule is invalid.
            Usage: the file of rules cannot be read.
        """
        from resolver.core.compare.drift import Ignoring

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
            needs,
        )

    def with_thresholds(
        self, max_ratio: str | None, max_delta: str | None, fail_on: list[str] | None
    ) -> Self:
        """Add the thresholds.

        Raises:
            Usage: a value is invalid.
        """
        from resolver.core.compare.thresholds import Thresholds

        limits = Thresholds(
            fail_on=frozenset(_aspects(fail_on or [])),
            max_ratio=_ratio(max_ratio) if max_ratio is not None else None,
            max_delta=size(max_delta, "--max-size-delta") if max_delta is not None else None,
        )
        return replace(self, thresholds=limits)

    def run(
        self, session: Session, reference: str, other: str | None
    ) -> Comparison | ImageComparison:
        """Compare in a session.

        Raises:
            Usage: `--base` is given with two images.
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
                needs=self.needs,
            )
        if self.base is not None:
            raise Usage(
                "`--base` is for the platforms of one image",
                "leave it out: with two images, the first is the base",
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
            needs=self.needs,
        )


def fail_if_different(output: Output, found: Comparison | ImageComparison) -> None:
    """Print each reason for failure and exit; return if there is none."""
    errors = [
        Negative(reason.message, code="differs", aspect=reason.aspect, platform=reason.platform)
        for reason in found.reasons
    ]
    for error in errors:
        output.failed(error)
    if errors:
        raise typer.Exit(errors[0].kind.status)


def _aspects(values: list[str]) -> list[Aspect]:
    from resolver.core.compare.drift import ASPECTS

    known: dict[str, Aspect] = {aspect: aspect for aspect in ASPECTS}
    found = []
    for word in (part.strip() for value in values for part in value.split(",")):
        if word not in known:
            raise Usage(
                f"`--fail-on {word}` is not a part of a comparison",
                f"choose from {', '.join(ASPECTS)}",
            )
        found.append(known[word])
    return found


def _ratio(text: str) -> float:
    if not _RATIO.fullmatch(text):
        raise Usage(
            f"`--max-size-ratio {text}` is not a ratio", "write a number from 1 up, as `2.0`"
        )
    return float(text)
