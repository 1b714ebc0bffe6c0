"""`resolver compare`: compare the platforms of an image, or two images."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Annotated, TypedDict

import typer

from resolver.cli import options
from resolver.cli.inputs import expand_for_all, read_rules, size, split_platforms
from resolver.cli.run import open_session, show_progress
from resolver.errors import Negative, Usage

if TYPE_CHECKING:
    from resolver.cli.output import Output
    from resolver.core.compare.compare import Comparison, ImageComparison, Thresholds
    from resolver.core.compare.drift import Aspect


@options.command
def compare(
    common: options.Common,
    reference: options.Reference,
    other: Annotated[
        options.Text,
        options.argument("[REF]", "Compare with this image.", options.offer_references),
    ] = None,
    platform: options.Platforms = None,
    base: Annotated[
        options.Text,
        options.option(
            "--base",
            "Set a baseline platform for comparison.",
            "PLATFORM",
            complete=options.offer_platforms,
        ),
    ] = None,
    expect: Annotated[
        options.Texts,
        options.option(
            "--expect",
            "Exit with status 1 unless these platforms are offered.",
            "PLATFORMS",
            complete=options.offer_platforms,
        ),
    ] = None,
    expect_as: Annotated[
        options.Text,
        options.option(
            "--expect-as",
            "Expect the platforms that another REF offers.",
            "REF",
            complete=options.offer_references,
        ),
    ] = None,
    ignore: Annotated[
        options.Texts,
        options.option(
            "--ignore",
            "Ignore differences: `env.PATH`, `labels.com.*`, `files.owner`, "
            "`files.xattrs.user.*`; repeatable.",
            "RULE",
        ),
    ] = None,
    ignore_file: Annotated[
        options.Text,
        options.option("--ignore-file", "Read --ignore rules from FILE, one per line.", "FILE"),
    ] = None,
    max_size_ratio: Annotated[
        options.Text,
        options.option("--max-size-ratio", "Exit with status 1 above this ratio, as `2.0`.", "N"),
    ] = None,
    max_size_delta: Annotated[
        options.Text,
        options.option("--max-size-delta", "Exit with status 1 above this, as `50MB`.", "SIZE"),
    ] = None,
    fail_on: Annotated[
        options.Texts,
        options.option(
            "--fail-on",
            "Exit with status 1 if these differ: size, layers, config, history, platforms, files, "
            "packages, needs, attestations; use commas.",
            "WHAT",
        ),
    ] = None,
    files: Annotated[
        bool, options.option("--files", "Also fetch layers and compare their files.")
    ] = False,
    needs: Annotated[
        bool, options.option("--needs", "Also compare what the programs need.")
    ] = False,
    attestations: Annotated[
        bool, options.option("--attestations", "Also compare attestations of two images.")
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
    from resolver.core.compare.compare import Thresholds
    from resolver.core.compare.drift import Ignoring

    rules = Ignoring.read(ignore or []).rules
    if ignore_file is not None:
        rules += Ignoring.read(read_rules(ignore_file), f"--ignore-file {ignore_file}:").rules
    platforms, expected = split_platforms(platform or []), split_platforms(expect or [])
    limits = Thresholds(
        fail_on=frozenset(_aspects(fail_on or [])),
        max_ratio=_ratio(max_size_ratio) if max_size_ratio is not None else None,
        max_delta=size(max_size_delta, "--max-size-delta") if max_size_delta is not None else None,
    )
    if other is not None and base is not None:
        raise Usage(
            "`--base` is for the platforms of one image",
            "leave it out: with two images, the first is the base",
        )
    if attestations and other is None:
        raise Usage(
            "`--attestations` compares two images",
            "see those of one image with `resolver attestations`",
        )
    with open_session(common) as (session, output):
        images = [reference] if other is None else [reference, other]
        platforms = expand_for_all(session, images, platforms)
        with show_progress(output, common, "auto" if files else "none"):
            terms = _Terms(
                expect=expected,
                expect_as=expect_as,
                ignore=rules,
                thresholds=limits,
                files=files,
                needs=needs,
            )
            found = (
                session.compare(reference, platforms, base=base, **terms)
                if other is None
                else session.compare_images(
                    reference, other, platforms, attestations=attestations, **terms
                )
            )
        output.warnings(found.warnings)
        output.show(found, common.form, full=no_trunc)
        fail_if_different(output, found)


class _Terms(TypedDict):
    """What comparisons of one image and of two share; see `Session.compare`."""

    expect: list[str]
    expect_as: str | None
    ignore: tuple[str, ...]
    thresholds: Thresholds
    files: bool
    needs: bool


#: At least 1: the ratio of the larger size to the smaller one.
_RATIO = re.compile(r"[1-9][0-9]{0,5}(?:\.[0-9]{1,6})?")


def fail_if_different(output: Output, found: Comparison | ImageComparison) -> None:
    """Print each reason for failure and exit; return if there is none."""
    errors = [
        Negative(reason.message, code="differs", aspect=reason.aspect, platform=reason.platform)
        for reason in found.reasons
    ]
    for error in errors:
        output.failed(error, label="difference")
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
