"""`resolver attestations`: show signatures, SBOMs and provenance by platform."""

from __future__ import annotations

from typing import Annotated

import typer

from resolver.cli import options
from resolver.errors import ErrorKind, Usage
from resolver.render import DEFAULT_FORMAT


@options.command
def attestations(
    common: options.Common,
    reference: options.Reference,
    platform: Annotated[
        options.Text,
        options.option(
            "--platform -p",
            "Look at the image for this platform alone.",
            "PLATFORM",
            complete=options.offer_platforms,
        ),
    ] = None,
    show: Annotated[
        options.Text,
        options.option(
            "--show", "Print the document: sbom, provenance, signature or other.", "KIND"
        ),
    ] = None,
    key: options.SigningKey = None,
    identity: options.Identity = None,
    issuer: options.Issuer = None,
    trusted_root: options.TrustedRoot = None,
    no_trunc: options.NoTrunc = False,
) -> None:
    """Show signatures, SBOMs and provenance by platform.

    Looks beside the images in the index, at their referrers, and at the tags of cosign. Each is
    `present`, `verified`, of the `wrong subject` (about another manifest), of an `other subject`,
    `invalid`, `unreadable` or `absent`. Signatures are verified with --key, or with --identity
    and --issuer; then the status is 1 if nothing is verified. Without them, `present` is not
    verified. --show prints what is stored, for the index or with -p for a platform.

    \b
      resolver attestations ghcr.io/owner/app:1
      resolver attestations app:1 --key cosign.pub
      resolver attestations app:1 -p linux/arm64 --show sbom | jq .predicate
    """
    from resolver.cli.run import open_session

    trust = options.trust(key, identity, issuer, trusted_root)
    if show is not None and common.form != DEFAULT_FORMAT:
        raise Usage(
            f"`--show` prints a document as stored, so `--format {common.form}` cannot apply",
            "leave one of them out",
        )
    with open_session(common) as (session, output):
        if show is not None:
            shown = session.show_attestation(reference, show, platform, trust=trust)
            output.document(shown.body)
            return
        found = session.attestations(reference, platform, trust=trust)
        output.warnings(found.warnings)
        output.show(found, common.form, full=no_trunc)
    if not found.passed:
        raise typer.Exit(ErrorKind.NEGATIVE.status)
