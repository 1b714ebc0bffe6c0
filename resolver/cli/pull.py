"""`resolver pull` and `resolver plan`: fetch the missing content of images."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Annotated

import typer

from resolver.cli import options
from resolver.cli.inputs import (
    has_pattern,
    refuse_locked_pattern,
    resolve_matching,
    size,
    split_platforms,
)
from resolver.cli.run import open_session, show_progress
from resolver.settings import LOCK_FILE

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from resolver.cli.output import Output
    from resolver.core.results.plan import Plan
    from resolver.core.results.pull import Pulled
    from resolver.core.results.resolve import Failure, Resolution
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
        options.option(
            "--progress",
            "Set the form of progress: auto, tty, plain, json or none.",
            "FORM",
            variable="RESOLVER_PROGRESS",
            show_default=True,
        ),
    ] = "auto",
) -> None:
    """Pull images into the store.

    Fetches only missing content, verifies it, and sets the name last. After an interruption, the
    next pull resumes. `-p all` pulls every entry of the index; a platform includes the attestations
    that the index lists for it. Progress goes to stderr.

    \b
      resolver pull ubuntu:24.04 -p linux/arm64
      resolver pull -p all ghcr.io/owner/app:1
      IMAGE=$(resolver pull app:1 --format ref)
    """
    from resolver.cli.lock import named
    from resolver.core.results.plan import over_limit
    from resolver.verbs.pull import AHEAD

    most = limit(max_download)
    lock = (lock_file or LOCK_FILE) if locked else None
    names = named(references, file, "pull", lock)
    platforms = split_platforms(platform or [])
    wanted = {
        "exact": exact,
        "foreign": foreign,
        "attestations": not no_attestations,
        "referrers": referrers,
    }
    with open_session(common) as (session, output):
        output.places = names.places
        with show_progress(output, common, progress):
            if most is None and lock is None and len(set(names)) > AHEAD:
                # In groups, each planned while the one before it is transferred.
                chosen = _default_platforms(session, platforms)
                once = dict.fromkeys(names)
                done = session.pull(once, chosen or (None,), places=places or (), **wanted)
                for one in done.entries:
                    output.warnings(one.image.warnings)
            else:
                found = make_plan(session, output, names, platforms, places, lock, **wanted)
                refusal = over_limit(found.bytes_missing, most)
                if refusal is not None:
                    raise refusal
                done = session.pull(found, foreign=foreign)
        output.show(done, common.form)
        report_failures(output, done)


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
    """Show what a pull would fetch.

    Lists every piece of content as held, partial, missing or foreign, and counts the bytes and
    requests of a pull. Content that several images share counts once. Fetches no layer;
    `resolver pull` runs the same plan.

    \b
      resolver plan ubuntu:24.04 -p linux/arm64
      resolver plan -f images.txt --max-download 500MB
      resolver plan app:2 --from oci:./mirror
    """
    from resolver.cli.lock import named
    from resolver.core.results.plan import over_limit

    most = limit(max_download)
    lock = (lock_file or LOCK_FILE) if locked else None
    names = named(references, file, "plan", lock)
    platforms = split_platforms(platform or [])
    wanted = {
        "exact": exact,
        "foreign": foreign,
        "attestations": not no_attestations,
        "referrers": referrers,
    }
    with open_session(common) as (session, output):
        output.places = names.places
        with show_progress(output, common):
            found = make_plan(session, output, names, platforms, places, lock, **wanted)
        note_unpacked(session, output, found)
        output.show(found, common.form, full=no_trunc)
        status = output.failures(found.failures)
        refusal = over_limit(found.bytes_missing, most)
        if refusal is not None:
            output.failed(refusal)
            status = max(status, refusal.kind.status)
        if status:
            raise typer.Exit(status)


def make_plan(
    session: Session,
    output: Output,
    references: list[str],
    platforms: list[str],
    places: list[str] | None,
    lock_file: str | None,
    **wanted: bool,
) -> Plan:
    """Plan the pull, with a lock file from its digests, and print the warnings."""
    platforms = _default_platforms(session, platforms)
    named: Sequence[str | Resolution] = list(dict.fromkeys(references))
    failed: tuple[Failure, ...] = ()
    if has_pattern(platforms):
        refuse_locked_pattern(lock_file)
        answers = resolve_matching(session, references, platforms, exact=wanted["exact"])
        named, failed = _divided(answers)
        platforms = []
    if lock_file is not None:
        named = _locked(session, output, references, platforms, lock_file, exact=wanted["exact"])
    found = session.plan(named, platforms or (None,), places=places or (), **wanted)
    for image in found.entries:
        output.warnings(image.warnings)
    return replace(found, failures=(*found.failures, *failed))


def _divided(
    answers: Iterable[Resolution | Failure],
) -> tuple[list[Resolution], tuple[Failure, ...]]:
    """Tell resolutions from failures; raise the first failure if there is nothing else."""
    from resolver.core.results.resolve import Failure

    listed = list(answers)
    failed = tuple(answer for answer in listed if isinstance(answer, Failure))
    found = [answer for answer in listed if not isinstance(answer, Failure)]
    if failed and not found:
        raise failed[0].error
    return found, failed


def _default_platforms(session: Session, platforms: list[str]) -> list[str]:
    default = session.settings.platform
    return platforms or (split_platforms([default]) if default else [])


def _locked(
    session: Session,
    output: Output,
    references: list[str],
    platforms: list[str],
    lock_file: str,
    *,
    exact: bool,
) -> list[Resolution]:
    """Resolve the references from a lock file; raise `NotLocked` for a missing one."""
    from resolver.core.results.resolve import Failure

    found: dict[str, Resolution] = {}
    every = "all" in platforms
    names = dict.fromkeys(references)
    lock = session.by_lock(lock_file)
    for number, answer in enumerate(lock.resolve_each(names, platforms or (None,), exact=exact)):
        if isinstance(answer, Failure):
            raise answer.error
        output.warnings(answer.warnings)
        # With `all`, one resolution of an index stands for every entry of it.
        found[answer.reference if every else str(number)] = answer
    return list(found.values())


def report_failures(output: Output, done: Pulled) -> None:
    """Print which images could not be pulled, and exit with the highest status."""
    status = output.failures(done.failures)
    if status:
        raise typer.Exit(status)


def limit(max_download: str | None) -> int | None:
    """Parse `--max-download`, in bytes."""
    return size(max_download, "--max-download") if max_download is not None else None


def note_unpacked(session: Session, output: Output, plan: Plan) -> None:
    """Note which layers of a plan the local Docker engine has unpacked already."""
    from resolver.errors import megabytes

    layers = session.unpacked(plan)
    if layers:
        size = megabytes(sum(layer.size for layer in layers))
        output.note(
            f"Docker on this machine has {len(layers)} of these layers unpacked ({size}), "
            "but cannot export them compressed, so they are fetched as well"
        )
