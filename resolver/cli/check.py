"""`resolver check`: does an image have what the pipeline needs?"""

from typing import Annotated, Optional

import typer

from resolver.cli import options

_Texts = Optional[list[str]]  # noqa: UP045 - Typer reads this at run time


@options.command
def check(
    common: options.Common,
    references: options.ManyReferences = None,
    file: options.File = None,
    policy: Annotated[
        Optional[str],  # noqa: UP045 - as above
        typer.Option("--policy", metavar="FILE", help="Images and what they must have, in YAML."),
    ] = None,
    require: Annotated[
        _Texts, typer.Option("--require", metavar="PLATFORMS", help="These must be offered.")
    ] = None,
    forbid: Annotated[
        _Texts, typer.Option("--forbid", metavar="PLATFORMS", help="These must not be.")
    ] = None,
    only: Annotated[
        _Texts, typer.Option("--only", metavar="PLATFORMS", help="Nothing but these may be.")
    ] = None,
    same_as: Annotated[
        Optional[str],  # noqa: UP045 - as above
        typer.Option("--same-platforms-as", metavar="REF", help="All that REF has, no more."),
    ] = None,
    compatible: Annotated[
        bool,
        typer.Option(
            "--compatible", help="What else runs there meets --require.", show_default=False
        ),
    ] = False,
    attestation: Annotated[
        _Texts,
        typer.Option(
            "--require-attestation", metavar="KINDS", help="Of each build: sbom, provenance."
        ),
    ] = None,
    max_age: Annotated[
        Optional[str],  # noqa: UP045 - as above
        typer.Option("--max-age", metavar="AGE", help="No build older: 12h, 90d, 8w, 1y."),
    ] = None,
    lint: Annotated[
        bool, typer.Option("--lint", help="Also whatever `lint` finds.", show_default=False)
    ] = False,
    fail_on: Annotated[
        Optional[str],  # noqa: UP045 - as above
        typer.Option("--fail-on", metavar="WEIGHT", help="For --lint: error, warning, note."),
    ] = None,
    ignore: Annotated[
        _Texts, typer.Option("--ignore", metavar="RULE", help="Leave a rule out; repeatable.")
    ] = None,
    index_only: options.IndexOnly = False,
) -> None:
    """Fail unless REF has what the pipeline needs.

    Status 1 and a line for each thing missing, with the nearest there is.
    Matching is exact; `windows/amd64:10.0.20348` is any revision of it.
    Age and attestations are asked of the builds that meet --require.
    Manifests of the entries that decide are read, one request each: an SBOM
    listed as an image meets nothing. --index-only does not see that.
    A policy has `version: 1`, `defaults:` and `images:`, all with the names
    of these options, an image with `image:` too; options here take the
    place of its defaults.

    \b
      resolver check app:2 --require linux/amd64,linux/arm64 --max-age 90d
      resolver check --policy policy.yaml
    """
    from resolver.cli.checking import Asked, tell_checked

    asked = Asked(
        require=require or (),
        forbid=forbid or (),
        only=only or (),
        same_as=same_as,
        compatible=compatible,
        attestations=attestation or (),
        max_age=max_age,
        lint=lint,
        fail_on=fail_on,
        ignored=ignore or (),
    )
    tell_checked(common, asked, references or [], file, policy, index_only=index_only)
