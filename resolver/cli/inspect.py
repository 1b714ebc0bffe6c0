"""`resolver inspect`: the documents behind a reference."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Optional

import typer

from resolver.cli import options
from resolver.errors import PlatformUnknown, Usage

if TYPE_CHECKING:
    from resolver.core.results.resolve import Inspection


@options.command
def inspect(
    common: options.Common,
    reference: options.Reference,
    platform: Annotated[
        Optional[str],  # noqa: UP045 - Typer reads this at run time
        typer.Option(
            "--platform",
            "-p",
            metavar="PLATFORM",
            help="Show this platform's image; without it an index is shown as it is.",
            show_default=False,
        ),
    ] = None,
    raw: Annotated[
        bool,
        typer.Option("--raw", help="The exact bytes of the document.", show_default=False),
    ] = False,
    config: Annotated[
        bool,
        typer.Option("--config", help="The exact bytes of the image's config.", show_default=False),
    ] = False,
    exact: options.Exact = False,
    strict: options.Strict = False,
    no_trunc: options.NoTrunc = False,
) -> None:
    """Show an index, or one image.

    Manifest, config, layers with their sizes, history and annotations.

    \b
      resolver inspect ubuntu:24.04
      resolver inspect ubuntu:24.04 -p linux/arm64
      resolver inspect --raw ubuntu:24.04 | sha256sum
      resolver inspect --config -p linux/arm64 ubuntu:24.04
    """
    from resolver.cli.run import work

    check(platform, common.form, raw=raw, config=config)
    with work(common) as (session, output):
        found = session.inspect(
            reference, platform, config=not raw, choose=config, exact=exact, strict=strict
        )
        output.warnings(found.warnings)
        if raw or config:
            output.keep(found)
            output.raw(exact_bytes(found, config=config))
        else:
            output.tell(found, common.form, full=no_trunc)


def check(platform: str | None, form: str, *, raw: bool, config: bool) -> None:
    """Refuse options that do not go together, before anybody is asked.

    Raises:
        Usage: they do not.

    """
    if raw and config:
        raise Usage("`--raw` and `--config` each print one document", "choose one of them")
    if (raw or config) and form != "table":
        option = "--raw" if raw else "--config"
        raise Usage(
            f"`{option}` prints exact bytes, so `--format {form}` cannot apply",
            f"leave one of them out; the bytes of `{option}` are JSON already",
        )
    if platform is not None and ("," in platform and ",osver=" not in platform):
        raise Usage("`inspect` shows one platform at a time", "name one platform")
    if platform == "all":
        raise Usage(
            "`inspect` shows one platform at a time", "see them all with `resolver platforms`"
        )


def exact_bytes(found: Inspection, *, config: bool) -> bytes:
    """Give the bytes that `--raw` or `--config` promise.

    Raises:
        PlatformUnknown: there is no config to show.

    """
    if not config:
        return found.body
    if found.config_body is None:
        raise PlatformUnknown(
            f"`{found.reference}` has no image config", "see what it is: `resolver inspect --raw`"
        )
    return found.config_body


@options.command
def platforms(
    common: options.Common,
    reference: options.Reference,
    attestations: Annotated[
        bool,
        typer.Option("--attestations", help="List attestations too.", show_default=False),
    ] = False,
    index_only: Annotated[
        bool,
        typer.Option(
            "--index-only",
            help="One request: no sizes, no manifests read.",
            show_default=False,
        ),
    ] = False,
    no_trunc: options.NoTrunc = False,
) -> None:
    """List the platforms that REF is offered for.

    Digest, layers and compressed size of each. Attestations are no platforms, and left out unless
    asked for; artifacts are listed apart. Manifests are read once and kept in the store; on Docker
    Hub each counts as a pull the first time.

    \b
      resolver platforms ubuntu:24.04
      resolver platforms --format json --index-only ghcr.io/owner/app:1
    """
    from dataclasses import replace

    from resolver.cli.run import work

    with work(common) as (session, output):
        found = session.platforms(reference, sizes=not index_only)
        output.warnings(found.warnings)
        shown = found if attestations else replace(found, attestations=())
        output.tell(shown, common.form, full=no_trunc)
