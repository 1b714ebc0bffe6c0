"""`resolver resolve`: print the manifest of a reference for a platform, and why it was chosen."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from resolver.cli import options
from resolver.cli.inputs import gather
from resolver.errors import Usage
from resolver.settings import LOCK_FILE
from resolver.values import dataclass

if TYPE_CHECKING:
    from collections.abc import Iterator

    from resolver.cli.output import Output
    from resolver.core.results.resolve import Failure, Resolution
    from resolver.session import Session
    from resolver.verbs.lock import ByLock


@options.command
def resolve(
    common: options.Common,
    references: options.ManyReferences = None,
    platform: options.Platforms = None,
    file: options.File = None,
    exact: options.Exact = False,
    explain: Annotated[
        bool,
        typer.Option(
            "--explain", help="List every entry and why it was not chosen.", show_default=False
        ),
    ] = False,
    verify: Annotated[
        bool,
        typer.Option(
            "--verify",
            envvar="RESOLVER_VERIFY",
            show_envvar=False,
            help="Also compare the manifest and config with the index.",
            show_default=False,
        ),
    ] = False,
    strict: options.Strict = False,
    verify_tag: Annotated[
        bool,
        typer.Option(
            "--verify-tag",
            envvar="RESOLVER_VERIFY_TAG",
            show_envvar=False,
            help="Fail if the tag of name:tag@digest has moved.",
            show_default=False,
        ),
    ] = False,
    verify_cpu: Annotated[
        bool,
        typer.Option(
            "--verify-cpu",
            help="Warn if the programs need a newer processor.",
            show_default=False,
        ),
    ] = False,
    locked: options.Locked = False,
    lock_file: options.LockFile = None,
    no_trunc: options.NoTrunc = False,
) -> None:
    """Resolve an image to a manifest digest.

    Prints labelled lines for one REF and one platform, else one line each, in order. A failure
    among several is a line too, and the exit status is the highest of all.

    \b
      resolver resolve ubuntu:24.04 -p linux/arm64
      resolver resolve --format digest -p windows/amd64:ltsc2022 app:1.2
    """
    from resolver.cli.run import open_session

    flags = ResolveOptions(
        exact=exact, verify=verify, strict=strict, verify_tag=verify_tag, verify_cpu=verify_cpu
    )
    lock = (lock_file or LOCK_FILE) if locked else None
    if lock is None:
        names = gather(references or [], file)
        request = ResolveQuery(
            names, platform or [], flags, (explain, no_trunc), listed=file is not None
        )
        with open_session(common) as (session, output):
            run(session, session.settings.platform, output, common.form, request)
        return
    from resolver.cli.lock import named

    names = named(references, file, "resolve", lock)
    request = ResolveQuery(
        names, platform or [], flags, (explain, no_trunc), listed=file is not None
    )
    with open_session(common) as (session, output):
        locked_session = by_lock(session, lock, flags)
        run(locked_session, session.settings.platform, output, common.form, request)


@dataclass(frozen=True, slots=True)
class ResolveOptions:
    """Options of `Session.resolve`."""

    exact: bool
    verify: bool
    strict: bool
    verify_tag: bool
    verify_cpu: bool = False


@dataclass(frozen=True, slots=True)
class ResolveQuery:
    """What to resolve, and how to print it.

    Attributes:
        references: in the order to print them.
        platforms: as typed; empty for the default.
        shown: the options `explain` and `full` of `render`.
        listed: the references come from a file, so that even a single one is printed as a line.
    """

    references: list[str]
    platforms: list[str]
    request: ResolveOptions
    shown: tuple[bool, bool]
    listed: bool


def run(
    session: Session | LockResolver,
    default: str | None,
    output: Output,
    form: str,
    what: ResolveQuery,
) -> None:
    """Resolve and print one answer in full, several as lines.

    `default` is the configured platform.
    """
    from resolver.cli.inputs import split_platforms

    platforms = split_platforms(what.platforms or ([default] if default else []))
    names, request, shown = what.references, what.request, what.shown
    if len(names) == 1 and not what.listed and len(platforms) <= 1 and "all" not in platforms:
        show_one(session, output, form, names[0], next(iter(platforms), None), request, shown)
    else:
        show_all(session, output, form, names, platforms, request, shown)


def show_one(
    session: Session | LockResolver,
    output: Output,
    form: str,
    reference: str,
    platform: str | None,
    request: ResolveOptions,
    shown: tuple[bool, bool],
) -> None:
    """Resolve one reference and print it in full."""
    explain, full = shown
    found = session.resolve(reference, platform, **asdict(request))
    output.warnings(found.warnings)
    output.show(found, form, explain=explain, full=full)


def show_all(
    session: Session | LockResolver,
    output: Output,
    form: str,
    references: list[str],
    platforms: list[str],
    request: ResolveOptions,
    shown: tuple[bool, bool],
) -> None:
    """Resolve several references and print a line for each, in order.

    Raises:
        Usage: the format is a page about one answer.
    """
    from resolver.cli.output import presentable
    from resolver.render import render, render_values, renderer
    from resolver.render.to_dict import SCHEMA, cleaned, to_dict

    row = renderer(form)
    if row.draws == "answer":
        raise Usage(
            f"`--format {form}` supports only one answer",
            "resolve one REF on one platform, or choose `markdown` or `json`",
        )
    explain, full = shown
    wanted: list[str | None] = list(platforms) or [None]
    answers = session.resolve_each(references, wanted, **asdict(request))
    collected = []
    worst = 0
    for answer in answers:
        worst = max(worst, _status(output, answer))
        output.keep(answer)
        if row.collects:
            collected.append(cleaned(to_dict(answer, explain=explain), presentable))
        elif row.draws == "report":
            output.answer(_line(answer, form, explain=explain, full=full))
        else:
            output.answer(render(answer, form, explain=explain, clean=presentable))
    if row.collects:
        output.answer(render_values({"schema": SCHEMA, "results": collected}, form))
    if worst:
        raise typer.Exit(worst)


def _line(answer: Resolution | Failure, form: str, *, explain: bool, full: bool) -> str:
    from resolver.cli.output import page_width, presentable
    from resolver.core.results.resolve import Failure
    from resolver.render import render, renderer
    from resolver.render.report import failure_line, resolution_line
    from resolver.render.text import line

    if not renderer(form).fits_width or (explain and not isinstance(answer, Failure)):
        width = page_width()
        return (
            render(answer, form, explain=explain, full=full, width=width, clean=presentable) + "\n"
        )
    if isinstance(answer, Failure):
        return line(failure_line(answer)) + "\n"
    return line(resolution_line(answer)) + "\n"


def _status(output: Output, answer: Resolution | Failure) -> int:
    from resolver.core.results.resolve import Failure

    if isinstance(answer, Failure):
        return output.failures((answer,))
    output.warnings(answer.warnings)
    return 0


@dataclass(frozen=True, slots=True)
class LockResolver:
    """Resolves from a lock file with the interface of a session."""

    lock: ByLock

    def resolve(
        self, reference: str, platform: str | None, *, exact: bool, **_: bool
    ) -> Resolution:
        """See `ByLock.resolve`."""
        return self.lock.resolve(reference, platform, exact=exact)

    def resolve_each(
        self, references: list[str], platforms: list[str | None], *, exact: bool, **_: bool
    ) -> Iterator[Resolution | Failure]:
        """See `ByLock.resolve_each`."""
        return self.lock.resolve_each(references, platforms, exact=exact)


def by_lock(session: Session, lock_file: str, request: ResolveOptions) -> LockResolver:
    """Return a resolver for a lock file.

    Raises:
        Usage: an option needs the registry.
        Malformed: the lock file is invalid.
    """
    wanted = {
        "--verify": request.verify,
        "--strict": request.strict,
        "--verify-tag": request.verify_tag,
        "--verify-cpu": request.verify_cpu,
    }
    for name in (name for name, given in wanted.items() if given):
        raise Usage(
            f"`{name}` needs the registry, and `--locked` does not use it",
            "leave out one of them; `resolver lock --check` reports what has moved",
        )
    return LockResolver(session.by_lock(lock_file))
