"""`resolver inspect` and `resolver platforms`: show an index, its platforms, or an image."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Annotated

from resolver.cli import options
from resolver.cli.run import open_session
from resolver.errors import PlatformUnknown, Usage
from resolver.render import DEFAULT_FORMAT

if TYPE_CHECKING:
    from resolver.core.results.resolve import Inspection


@options.command
def inspect(
    common: options.Common,
    reference: options.Reference,
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
    """Show an index or an image.

    Shows the manifest, config, layers with their sizes, history and annotations.

    \b
      resolver inspect ubuntu:24.04
      resolver inspect ubuntu:24.04 -p linux/arm64
      resolver inspect --raw ubuntu:24.04 | sha256sum
      resolver inspect --config -p linux/arm64 ubuntu:24.04
    """
    check(platform, common.form, raw=raw, config=config)
    with open_session(common) as (session, output):
        found = session.inspect(
            reference, platform, config=not raw, choose=config, exact=exact, strict=strict
        )
        output.warnings(found.warnings)
        if raw or config:
            output.keep(found)
            output.raw(exact_bytes(found, config=config))
        else:
            output.show(found, common.form, full=no_trunc)


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
    reference: options.Reference,
    attestations: Annotated[
        bool, options.option("--attestations", "Also list attestations.")
    ] = False,
    index_only: Annotated[
        bool, options.option("--index-only", "Read only the index: one request, no sizes.")
    ] = False,
    no_trunc: options.NoTrunc = False,
) -> None:
    """List the platforms of an image.

    Shows the digest, layers and compressed size of each. Lists attestations only on request, and
    artifacts separately. Manifests are read once and kept in the store; on Docker Hub, each counts
    as a pull the first time.

    \b
      resolver platforms ubuntu:24.04
      resolver platforms --format json --index-only ghcr.io/owner/app:1
    """
    with open_session(common) as (session, output):
        found = session.platforms(reference, sizes=not index_only)
        output.warnings(found.warnings)
        shown = found if attestations else replace(found, attestations=())
        output.show(shown, common.form, full=no_trunc)
