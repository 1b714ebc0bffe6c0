"""`resolver inspect` and `resolver platforms`: show an index, its platforms, or an image."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Annotated

from resolver.cli import options
from resolver.cli.inputs import for_each
from resolver.cli.run import open_session
from resolver.errors import PlatformUnknown, Usage
from resolver.render import DEFAULT_FORMAT, renderer

if TYPE_CHECKING:
    from collections.abc import Callable

    from resolver.cli.output import Output
    from resolver.core.results.resolve import Inspection, Offers


@options.command
def inspect(
    common: options.Common,
    references: options.References,
    platform: Annotated[
        options.Text,
        options.option(
            "--platform -p", "Show the image for this platform instead of the index.", "PLATFORM"
        ),
    ] = None,
    raw: Annotated[
        bool, options.option("--raw", "Print the exact bytes of the manifest or index.")
    ] = False,
    config: Annotated[
        bool, options.option("--config", "Print the exact bytes of the image config.")
    ] = False,
    exact: options.Exact = False,
    strict: options.Strict = False,
    no_trunc: options.NoTrunc = False,
) -> None:
    """Show indexes or images.

    Shows the manifest, config, layers and history with their sizes, and annotations.

    \b
      resolver inspect ubuntu:24.04
      resolver inspect ubuntu:24.04 -p linux/arm64
      resolver inspect --raw ubuntu:24.04 | sha256sum
      resolver inspect --config -p linux/arm64 ubuntu:24.04
    """
    check(platform, common.form, raw=raw, config=config)
    if (raw or config) and len(references) > 1:
        option = "--raw" if raw else "--config"
        raise Usage(f"`{option}` prints one document", "name one REF")
    with open_session(common) as (session, output):

        def look(reference: str) -> Inspection:
            found = session.inspect(
                reference, platform, config=not raw, choose=config, exact=exact, strict=strict
            )
            output.warnings(found.warnings)
            return found

        if raw or config:
            found = look(references[0])
            output.keep(found)
            output.raw(exact_bytes(found, config=config))
        else:
            show_each(output, common.form, references, look, full=no_trunc)


def check(platform: str | None, form: str, *, raw: bool, config: bool) -> None:
    """Refuse options that exclude each other, before any request."""
    if raw and config:
        raise Usage("`--raw` and `--config` each print one document", "choose one of them")
    if (raw or config) and form != DEFAULT_FORMAT:
        option = "--raw" if raw else "--config"
        raise Usage(
            f"`{option}` prints exact bytes, so `--format {form}` cannot apply",
            f"leave one of them out; the bytes of `{option}` are JSON already",
        )
    if platform is not None and ("," in platform and ",osver=" not in platform):
        raise Usage("`inspect` shows one platform at a time", "name one platform")
    if platform == "all":
        raise Usage(
            "`inspect` shows one platform at a time", "list all platforms with `resolver platforms`"
        )


def exact_bytes(found: Inspection, *, config: bool) -> bytes:
    """Return the bytes for `--raw` or `--config`."""
    if not config:
        return found.body
    if found.config_body is None:
        raise PlatformUnknown(
            f"`{found.reference}` has no image config",
            "show its manifest: `resolver inspect --raw`",
        )
    return found.config_body


@options.command
def platforms(
    common: options.Common,
    references: options.References,
    attestations: Annotated[
        bool, options.option("--attestations", "Also list attestations.")
    ] = False,
    index_only: Annotated[
        bool, options.option("--index-only", "Read only the index: one request, no sizes.")
    ] = False,
    no_trunc: options.NoTrunc = False,
) -> None:
    """List the platforms of images.

    Shows the digest, layers and compressed size of each. Lists attestations only on request, and
    artifacts separately. Manifests are read once and kept in the store; on Docker Hub, each counts
    as a pull the first time.

    \b
      resolver platforms ubuntu:24.04
      resolver platforms --format json --index-only ghcr.io/owner/app:1
    """
    with open_session(common) as (session, output):

        def look(reference: str) -> Offers:
            found = session.platforms(reference, sizes=not index_only)
            output.warnings(found.warnings)
            return found if attestations else replace(found, attestations=())

        show_each(output, common.form, references, look, full=no_trunc)


def show_each(
    output: Output, form: str, references: list[str], look: Callable[[str], object], *, full: bool
) -> None:
    """Show one answer, or several below each other."""
    if len(references) == 1:
        output.show(look(references[0]), form, full=full)
        return
    if renderer(form).draws == "answer":
        raise Usage(f"`--format {form}` supports only one answer", "name one REF")
    for_each(output, form, references, look, full=full, gap="\n")
