"""`resolver resolve`: which manifest does a reference mean on a platform, and why?"""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from resolver.cli import options
from resolver.cli.inputs import gather
from resolver.core.results.resolve import Failure
from resolver.errors import ResolverError, Usage
from resolver.settings import LOCK_FILE
from resolver.values import dataclass

if TYPE_CHECKING:
    from collections.abc import Iterator

    from resolver.cli.output import Output
    from resolver.core.results.resolve import Resolution
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
        typer.Option("--explain", help="Every entry, and why it lost.", show_default=False),
    ] = False,
    verify: Annotated[
        bool,
        typer.Option(
            "--verify",
            envvar="RESOLVER_VERIFY",
            show_envvar=False,
            help="Read manifest and config too, and compare them with the index.",
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
            help="For name:tag@digest: fail if the tag has moved.",
            show_default=False,
        ),
    ] = False,
    locked: options.Locked = False,
    lock_file: options.LockFile = None,
    no_trunc: options.NoTrunc = False,
) -> None:
    """Print the manifest that REF means on a platform.

    One REF on one platform gives a few labelled lines; more give one line each, in order. A
    failure among several is a line too, and the status is the worst kind met.

    \b
      resolver resolve ubuntu:24.04 -p linux/arm64
      resolver resolve --format digest -p windows/amd64:ltsc2022 app:1.2
    """
    from resolver.cli.run import work

    flags = ResolveOptions(exact=exact, verify=verify, strict=strict, verify_tag=verify_tag)
    lock = (lock_file or LOCK_FILE) if locked else None
    if lock is None:
        names = gather(references or [], file)
        asked = ResolveQuery(
            names, platform or [], flags, (explain, no_trunc), listed=file is not None
        )
        with work(common) as (session, output):
            tell_question(session, session.settings.platform, output, common.form, asked)
        return
    from resolver.cli.lock import named

    names = named(references, file, "resolve", lock)
    asked = ResolveQuery(names, platform or [], flags, (explain, no_trunc), listed=file is not None)
    with work(common) as (locker, output):
        asker = by_lock(locker, lock, flags)
        tell_question(asker, locker.settings.platform, output, common.form, asked)


@dataclass(frozen=True, slots=True)
class ResolveOptions:
    """How to resolve; see `Session.resolve`."""

    exact: bool
    verify: bool
    strict: bool
    verify_tag: bool


@dataclass(frozen=True, slots=True)
class ResolveQuery:
    """What to resolve, and how to tell it.

    Attributes:
        references: in the order to tell them.
        platforms: as typed; none for the default.
        shown: every entry and why it lost, and digests whole.
        listed: the references are a list's, so each is a line, also if there is one only.
    """

    references: list[str]
    platforms: list[str]
    asked: ResolveOptions
    shown: tuple[bool, bool]
    listed: bool


def tell_question(
    session: Session | LockAsker,
    default: str | None,
    output: Output,
    form: str,
    what: ResolveQuery,
) -> None:
    """Answer in full where one thing is asked, else a line each; `default` is the setting's."""
    from resolver.cli.inputs import split_platforms

    platforms = split_platforms(what.platforms or ([default] if default else []))
    names, asked, shown = what.references, what.asked, what.shown
    if len(names) == 1 and not what.listed and len(platforms) <= 1 and "all" not in platforms:
        tell_one(session, output, form, names[0], next(iter(platforms), None), asked, shown)
    else:
        tell_all(session, output, form, names, platforms, asked, shown)


def tell_one(
    session: Session | LockAsker,
    output: Output,
    form: str,
    reference: str,
    platform: str | None,
    asked: ResolveOptions,
    shown: tuple[bool, bool],
) -> None:
    """Answer one question in full."""
    explain, full = shown
    found = session.resolve(reference, platform, **asdict(asked))
    output.warnings(found.warnings)
    output.tell(found, form, explain=explain, full=full)


def tell_all(
    session: Session | LockAsker,
    output: Output,
    form: str,
    references: list[str],
    platforms: list[str],
    asked: ResolveOptions,
    shown: tuple[bool, bool],
) -> None:
    """Answer many questions, a line each, in the order asked.

    Raises:
        Usage: this format is a page about one answer.

    """
    from resolver.cli.output import presentable
    from resolver.render import render, render_values, renderer
    from resolver.render.to_dict import SCHEMA, cleaned, to_dict

    draws = renderer(form).draws
    if draws == "answer":
        raise Usage(
            f"`--format {form}` is a page about one answer, and these are several",
            "resolve one REF on one platform, or choose `markdown` or `json`",
        )
    explain, full = shown
    wanted: list[str | None] = list(platforms) or [None]
    answers = session.resolve_each(references, wanted, **asdict(asked))
    whole = form in {"json", "yaml"}
    collected = []
    worst = 0
    for answer in answers:
        worst = max(worst, _status(output, answer))
        output.keep(answer)
        if whole:
            collected.append(cleaned(to_dict(answer, explain=explain), presentable))
        elif draws == "report":
            output.answer(_line(answer, form, explain=explain, full=full))
        else:
            output.answer(render(answer, form, explain=explain, clean=presentable))
    if whole:
        output.answer(render_values({"schema": SCHEMA, "results": collected}, form))
    if worst:
        raise typer.Exit(worst)


def _line(answer: Resolution | Failure, form: str, *, explain: bool, full: bool) -> str:
    from resolver.cli.output import page_width, presentable
    from resolver.render import render
    from resolver.render.report import failure_line, resolution_line
    from resolver.render.text import line

    if form == "markdown" or (explain and not isinstance(answer, Failure)):
        width = page_width()
        return (
            render(answer, form, explain=explain, full=full, width=width, clean=presentable) + "\n"
        )
    if isinstance(answer, Failure):
        return line(failure_line(answer)) + "\n"
    return line(resolution_line(answer)) + "\n"


def _status(output: Output, answer: Resolution | Failure) -> int:
    if isinstance(answer, Failure):
        if not isinstance(answer.error, ResolverError):
            raise answer.error
        output.failed(answer.error)
        return answer.error.kind.status
    output.warnings(answer.warnings)
    return 0


@dataclass(frozen=True, slots=True)
class LockAsker:
    """Answers `resolve` in the place of a session."""

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


def by_lock(session: Session, lock_file: str, asked: ResolveOptions) -> LockAsker:
    """Have a lock answer instead of registries.

    Raises:
        Usage: something is wanted that only a registry can say.
        Malformed: the lock cannot be read.

    """
    wanted = {"--verify": asked.verify, "--strict": asked.strict, "--verify-tag": asked.verify_tag}
    for name in (name for name, given in wanted.items() if given):
        raise Usage(
            f"`{name}` asks the registry, and `--locked` asks nobody",
            "leave one of them out; `resolver lock --check` says what has moved",
        )
    return LockAsker(session.by_lock(lock_file))
