"""`resolver pull`: an image brought here, by what is missing of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Self

import typer

from resolver.cli import options
from resolver.cli.inputs import size, split_platforms
from resolver.core.results.resolve import Failure
from resolver.errors import ResolverError
from resolver.settings import LOCK_FILE
from resolver.values import dataclass

if TYPE_CHECKING:
    from collections.abc import Sequence

    from resolver.cli.output import Output
    from resolver.core.results.plan import Plan
    from resolver.core.results.pull import Pulled
    from resolver.core.results.resolve import Resolution
    from resolver.session import Session


@options.command
def pull(
    common: options.Common,
    references: options.ManyReferences = None,
    platform: options.Platforms = None,
    file: options.File = None,
    places: options.From = None,
    max_download: options.MaxDownload = None,
    foreign: options.Foreign = False,
    no_attestations: options.NoAttestations = False,
    referrers: options.Referrers = False,
    exact: options.Exact = False,
    locked: options.Locked = False,
    lock_file: options.LockFile = None,
    progress: Annotated[
        str,
        typer.Option(
            "--progress",
            metavar="FORM",
            envvar="RESOLVER_PROGRESS",
            show_envvar=False,
            help="auto, tty, plain, json or none; plain where CI is set.",
        ),
    ] = "auto",
) -> None:
    """Fetch what is missing of REF into the store.

    Nothing is visible before it is verified, and the name comes last. Whatever ends a pull early,
    the next one fetches the rest alone. `-p all` is every entry of the index; a platform comes
    with the attestations that the index lists about it. Progress goes to stderr.

    \b
      resolver pull ubuntu:24.04 -p linux/arm64
      resolver pull -p all ghcr.io/owner/app:1
      IMAGE=$(resolver pull app:1 --format ref)
    """
    from resolver.cli.lock import named
    from resolver.cli.run import showing, work
    from resolver.core.results.plan import over_limit

    most = limit(max_download)
    lock = (lock_file or LOCK_FILE) if locked else None
    names = named(references, file, "pull", lock)
    asked = PullOptions.of(
        names,
        platform,
        places,
        exact=exact,
        foreign=foreign,
        attestations=not no_attestations,
        referrers=referrers,
    )
    with work(common) as (session, output):
        with showing(output, common, progress):
            found = make_plan(session, output, asked, lock)
            refusal = over_limit(found.bytes_missing, most)
            if refusal is not None:
                raise refusal
            done = session.pull(found, foreign=foreign)
        output.tell(done, common.form)
        tell_failures(output, done)


@options.command
def plan(
    common: options.Common,
    references: options.ManyReferences = None,
    platform: options.Platforms = None,
    file: options.File = None,
    places: options.From = None,
    max_download: options.MaxDownload = None,
    foreign: options.Foreign = False,
    no_attestations: options.NoAttestations = False,
    referrers: options.Referrers = False,
    exact: options.Exact = False,
    locked: options.Locked = False,
    lock_file: options.LockFile = None,
    no_trunc: options.NoTrunc = False,
) -> None:
    """Say what pulling REF would cost.

    Every piece of the image, as held, partial, missing or foreign; bytes and requests to come. A
    piece that several images need counts once. No layer is fetched; `resolver pull` carries out
    this very plan.

    \b
      resolver plan ubuntu:24.04 -p linux/arm64
      resolver plan -f images.txt --max-download 500MB
      resolver plan app:2 --from oci:./mirror
    """
    from resolver.cli.lock import named
    from resolver.cli.run import work
    from resolver.core.results.plan import over_limit

    most = limit(max_download)
    lock = (lock_file or LOCK_FILE) if locked else None
    names = named(references, file, "plan", lock)
    asked = PullOptions.of(
        names,
        platform,
        places,
        exact=exact,
        foreign=foreign,
        attestations=not no_attestations,
        referrers=referrers,
    )
    with work(common) as (session, output):
        found = make_plan(session, output, asked, lock)
        tell_unpacked(session, output, found)
        output.tell(found, common.form, full=no_trunc)
        refusal = over_limit(found.bytes_missing, most)
        if refusal is not None:
            output.failed(refusal)
            raise typer.Exit(refusal.kind.status)


@dataclass(frozen=True, slots=True)
class PullOptions:
    """Images and platforms, and where content may come from besides their registries.

    Attributes:
        platforms: as typed, comma lists taken apart; empty where nothing was typed.

    """

    references: tuple[str, ...]
    platforms: tuple[str, ...]
    places: tuple[str, ...]
    exact: bool
    foreign: bool
    attestations: bool = True
    referrers: bool = False

    @classmethod
    def of(
        cls,
        references: list[str],
        platforms: list[str] | None,
        places: list[str] | None,
        *,
        exact: bool,
        foreign: bool,
        attestations: bool = True,
        referrers: bool = False,
    ) -> Self:
        """Read everything that can be read before anybody is asked.

        Raises:
            Malformed: a platform list cannot be read.

        """
        return cls(
            tuple(dict.fromkeys(references)),
            tuple(split_platforms(platforms or [])),
            tuple(places or ()),
            exact,
            foreign,
            attestations,
            referrers,
        )


def make_plan(
    session: Session, output: Output, asked: PullOptions, lock_file: str | None = None
) -> Plan:
    """Ask the session, or a lock, what is meant, and tell what a person should know."""
    typed = list(asked.platforms)
    if not typed and session.settings.platform:
        typed = split_platforms([session.settings.platform])
    references: Sequence[str | Resolution] = asked.references
    if lock_file is not None:
        references = _locked(session, output, asked, typed, lock_file)
    found = session.plan(
        references,
        typed or (None,),
        exact=asked.exact,
        places=asked.places,
        foreign=asked.foreign,
        attestations=asked.attestations,
        referrers=asked.referrers,
    )
    for image in found.entries:
        output.warnings(image.warnings)
    return found


def _locked(
    session: Session, output: Output, asked: PullOptions, typed: list[str], lock_file: str
) -> list[Resolution]:
    """Look up in a lock what is meant.

    Raises:
        NotLocked: one of them is not there, or not for a platform.

    """
    found: list[Resolution] = []
    answers = session.by_lock(lock_file)
    for answer in answers.resolve_each(asked.references, typed or (None,), exact=asked.exact):
        if isinstance(answer, Failure):
            raise answer.error
        output.warnings(answer.warnings)
        found.append(answer)
    # `all` is every entry of the index that was locked, whichever answer names it.
    return list({each.reference: each for each in found}.values()) if "all" in typed else found


def tell_failures(output: Output, done: Pulled) -> None:
    """Say which images could not be had; the worst of it is the status."""
    worst = 0
    for failure in done.failures:
        if not isinstance(failure.error, ResolverError):
            raise failure.error
        output.failed(failure.error)
        worst = max(worst, failure.error.kind.status)
    if worst:
        raise typer.Exit(worst)


def limit(max_download: str | None) -> int | None:
    """Read `--max-download`, in bytes.

    Raises:
        Usage: it is no size.

    """
    return size(max_download, "--max-download") if max_download is not None else None


def tell_unpacked(session: Session, output: Output, plan: Plan) -> None:
    """Say what of a plan a Docker engine here has already; in passing, for it changes nothing."""
    from resolver.render.report import megabytes

    layers = session.unpacked(plan)
    if layers:
        size = megabytes(sum(layer.size for layer in layers))
        output.note(
            f"Docker on this machine has {len(layers)} of these layers unpacked ({size}); "
            "it gives none of them back, so they are fetched for the store all the same"
        )
