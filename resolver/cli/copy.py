"""`resolver copy`, and `resolver index`: copy images, and make indexes of them."""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING, Annotated, Optional

import typer

from resolver.cli import options

if TYPE_CHECKING:
    from resolver.cli.output import Output
    from resolver.core.results.copy import Copied, Synced

NoReferrers = Annotated[
    bool,
    typer.Option(
        "--no-referrers",
        help="Leave out signatures and other referrers.",
        show_default=False,
    ),
]
IfAbsent = Annotated[
    bool,
    typer.Option("--if-absent", help="Leave a tag that exists.", show_default=False),
]
Expect = Annotated[
    Optional[str],  # noqa: UP045 - Typer reads this at run time
    typer.Option(
        "--expect",
        metavar="DIGEST",
        help="Exit with status 1 unless the tag names DIGEST now.",
    ),
]
DryRun = Annotated[
    bool, typer.Option("--dry-run", help="Show the plan; send nothing.", show_default=False)
]
MaxUpload = Annotated[
    Optional[str],  # noqa: UP045 - Typer reads this at run time
    typer.Option(
        "--max-upload",
        metavar="SIZE",
        help="Exit with status 1 if more must be sent: `500MB`, `2GiB`.",
    ),
]


@options.cluster_command
def copy(
    common: options.Common,
    context: typer.Context,
    names: Annotated[
        Optional[list[str]],  # noqa: UP045 - Typer reads this at run time
        typer.Argument(
            metavar="[SRC DST...]",
            help="What to copy, and where to.",
            show_default=False,
            autocompletion=options.offer_references,
        ),
    ] = None,
    platform: options.Platforms = None,
    exact: options.Exact = False,
    sparse: Annotated[
        bool,
        typer.Option(
            "--sparse",
            help="Keep the original index when platforms are left out.",
            show_default=False,
        ),
    ] = False,
    no_referrers: NoReferrers = False,
    refresh_referrers: Annotated[
        bool,
        typer.Option(
            "--refresh-referrers",
            help="Look for new referrers of an unchanged tag.",
            show_default=False,
        ),
    ] = False,
    if_absent: IfAbsent = False,
    expect: Expect = None,
    keep: Annotated[
        bool, typer.Option("--keep", help="Also pull into the store.", show_default=False)
    ] = False,
    sync: Annotated[
        Optional[str],  # noqa: UP045 - Typer reads this at run time
        typer.Option("--sync", metavar="FILE", help="Copy what a YAML file lists."),
    ] = None,
    dry_run: DryRun = False,
    max_upload: MaxUpload = None,
    tier: options.Tier = None,
    tier_write: options.TierWrite = None,
) -> None:
    """Copy an image to registries or layouts.

    Sends only what each DST lacks, exact bytes, blobs first and the tag last. SRC is in a registry,
    or `oci:DIR`, an archive or `store:REF`; DST is in a registry, or `oci:DIR:TAG`. Copies every
    platform, attestation and referrer; with -p, the new index lists only what was sent.

    \b
      resolver copy alpine:3.20 registry.corp/base/alpine:3.20
      resolver copy app:1 ghcr.io/me/app:1 quay.io/me/app:1 -p linux/arm64
      resolver copy --sync mirror.yaml --dry-run
    """
    from resolver.cli.inputs import expand_for_all, size, split_platforms
    from resolver.cli.run import open_executor, open_session
    from resolver.core.results.copy import over_limit
    from resolver.errors import Usage

    most = size(max_upload, "--max-upload") if max_upload is not None else None
    source, *destinations = names or [""]
    if sync is None and not destinations:
        raise Usage(
            "a copy needs a source and a destination",
            "name both: `resolver copy alpine:3.20 registry.corp/alpine:3.20`",
        )
    if sync is not None and names:
        raise Usage("`--sync` takes its images from the file", "leave the names out")
    origin = context.get_parameter_source("cluster")
    if sync is None and origin is not None and origin.name == "COMMANDLINE":
        raise Usage("`--cluster` is for `copy --sync`", "leave it out")
    with open_session(options.tiered(common, tier, tier_write)) as (session, output):
        if sync is not None:
            with open_executor(common) as executor:
                synced = session.sync(sync, dry_run=dry_run, max_upload=most, executor=executor)
            output.show(synced, common.form)
            _fail(output, synced)
            return
        plan = session.plan_copy(
            source,
            destinations,
            expand_for_all(session, [source], split_platforms(platform or [])),
            exact=exact,
            sparse=sparse,
            referrers=not no_referrers,
            refresh_referrers=refresh_referrers,
            if_absent=if_absent,
            expect=expect or "",
        )
        refusal = over_limit((plan,), most)
        if dry_run:
            output.show(plan, common.form)
        if refusal is not None:
            raise refusal
        if not dry_run:
            done = session.copy(plan, keep=keep)
            output.show(done, common.form)
            _fail(output, done)


def _fail(output: Output, done: Copied | Synced) -> None:
    """Print which copies failed, and exit with the highest status."""
    status = output.failures(done.failures)
    if status:
        raise typer.Exit(status)


class IndexAction(Enum):
    """What `index` does."""

    CREATE = "create"
    EDIT = "edit"


@options.command
def index(
    common: options.Common,
    action: Annotated[
        IndexAction,
        typer.Argument(
            metavar="create|edit", help="Make an index, or change one.", show_default=False
        ),
    ],
    names: Annotated[
        list[str],
        typer.Argument(
            metavar="NAME [SRC...]",
            help="The index, and what to list in a new one.",
            show_default=False,
            autocompletion=options.offer_references,
        ),
    ],
    file: options.File = None,
    add: Annotated[
        Optional[list[str]],  # noqa: UP045 - Typer reads this at run time
        typer.Option("--add", metavar="SRC", help="Add an image, or the entries of an index."),
    ] = None,
    drop: Annotated[
        Optional[list[str]],  # noqa: UP045 - Typer reads this at run time
        typer.Option("--drop", metavar="PLATFORM", help="Drop a platform with its attestations."),
    ] = None,
    annotate: Annotated[
        Optional[list[str]],  # noqa: UP045 - Typer reads this at run time
        typer.Option("--annotate", metavar="KEY=VALUE", help="Set an annotation of the index."),
    ] = None,
    set_platform: Annotated[
        Optional[list[str]],  # noqa: UP045 - Typer reads this at run time
        typer.Option(
            "--set-platform", metavar="DIGEST=PLATFORM", help="Set the platform of an entry."
        ),
    ] = None,
    to: Annotated[
        Optional[str],  # noqa: UP045 - Typer reads this at run time
        typer.Option("--to", metavar="DST", help="Write the edited index here, not to NAME."),
    ] = None,
    expect: Expect = None,
    force: Annotated[
        bool,
        typer.Option(
            "--force",
            help="Allow platforms that image configs contradict.",
            show_default=False,
        ),
    ] = False,
    no_referrers: NoReferrers = False,
    dry_run: DryRun = False,
) -> None:
    """Make an index of images, or edit one.

    `create DST SRC...` lists images and the entries of other indexes in the order given; a SRC may
    be a digest in DST's repository, or have a pattern as its tag. `edit REF` keeps the order, and
    moves the tag of REF unless --to is given. Children from elsewhere are copied first; each config
    must match its platform; the tag is set last.

    \b
      resolver index create ghcr.io/me/app:1 sha256:0123… sha256:4567…
      resolver index create app:1 'app:1-build-*' --annotate version=1
      resolver index edit app:1 --drop linux/arm/v6 --add app:1-riscv64
    """
    from resolver.cli.inputs import split_platforms
    from resolver.cli.run import open_session
    from resolver.errors import Usage

    name, *sources = names
    if action is IndexAction.CREATE and (add or drop or to):
        raise Usage(
            "`--add`, `--drop` and `--to` belong to `index edit`", "name the images instead"
        )
    if action is IndexAction.EDIT and (sources or file):
        raise Usage("`index edit` takes one name", "add images with `--add`")
    with open_session(common) as (session, output):
        if action is IndexAction.CREATE:
            made = session.create_index(
                name,
                [*sources, *_lines(file)],
                annotations=_split(annotate, "--annotate"),
                platforms=_split(set_platform, "--set-platform"),
                expect=expect or "",
                force=force,
                referrers=not no_referrers,
                dry_run=dry_run,
            )
        else:
            made = session.edit_index(
                name,
                add=add or (),
                drop=split_platforms(drop or [], "--drop"),
                to=to or "",
                annotations=_split(annotate, "--annotate"),
                platforms=_split(set_platform, "--set-platform"),
                expect=expect or "",
                force=force,
                referrers=not no_referrers,
                dry_run=dry_run,
            )
        output.show(made, common.form)


def _lines(file: str | None) -> list[str]:
    """Read the references or digests of a file."""
    from resolver.cli.inputs import read_references

    return [text for _place, text in read_references(file)] if file is not None else []


def _split(values: list[str] | None, option: str) -> dict[str, str]:
    """Split `KEY=VALUE`."""
    from resolver.errors import Usage

    found = {}
    for text in values or ():
        key, mark, value = text.partition("=")
        if not mark or not key:
            raise Usage(f"`{option} {text}` has no `=`", f"write `{option} NAME=VALUE`")
        found[key] = value
    return found
