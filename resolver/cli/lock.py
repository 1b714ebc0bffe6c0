"""`resolver lock`: what references mean, written down and held to."""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING, Annotated, Optional, Self

import typer

from resolver.cli import options
from resolver.errors import Negative, ResolverError, Usage
from resolver.settings import LOCK_FILE
from resolver.values import dataclass

if TYPE_CHECKING:
    from collections.abc import Sequence

    from resolver.cli.options import Common
    from resolver.cli.output import Output
    from resolver.core.lockfile.drift import LockCheck
    from resolver.core.lockfile.lock import Locked
    from resolver.core.results.events import Warned
    from resolver.core.results.resolve import Failure


@options.command
def lock(
    common: options.Common,
    references: options.ManyReferences = None,
    platform: options.Platforms = None,
    file: options.File = None,
    files: Annotated[
        Optional[list[str]],  # noqa: UP045 - Typer reads this at run time
        typer.Option(
            "--from",
            metavar="FILE",
            help="What Dockerfiles, compose files, ... name; REF are files then.",
            show_default=False,
        ),
    ] = None,
    check: Annotated[
        bool,
        typer.Option("--check", help="Say what moved; status 1 if it matters.", show_default=False),
    ] = False,
    update: Annotated[
        bool,
        typer.Option(
            "--update", help="Look these up again, by name; all without.", show_default=False
        ),
    ] = False,
    remove: Annotated[
        bool, typer.Option("--remove", help="Take these out.", show_default=False)
    ] = False,
    lock_file: Annotated[
        str,
        typer.Option(
            "--lock-file",
            "-o",
            metavar="FILE",
            envvar="RESOLVER_LOCK_FILE",
            show_envvar=False,
            help="The lock file; resolver.lock by default.",
            show_default=False,
        ),
    ] = LOCK_FILE,
    no_trunc: options.NoTrunc = False,
) -> None:
    """Write down what REF means, and hold it to that.

    The digest of the index and of each platform go into resolver.lock; what else is in it stays.
    `--check` asks one HEAD a reference; with `-p`, only these platforms count. `--locked` of
    resolve, plan and pull takes what is written. Forms of `export`: kbld, imgpkg, kustomize,
    compose, bazel, helm, env.

    \b
      resolver lock nginx:1.27 redis:7
      resolver lock --from Dockerfile compose.yaml
      resolver lock --check -p linux/amd64
      resolver lock --update nginx
      resolver lock export --format kustomize
    """
    from resolver.cli.inputs import split_platforms

    words = references or []
    task = Task.of(words, check=check, update=update, remove=remove)
    words = words[1:] if task is Task.EXPORT else words
    asked = LockOptions.read(words, file, files)
    asked.refuse_if_none(task)
    platforms = split_platforms(platform or [])
    if task is Task.EXPORT:
        tell_export(common, asked, platforms, lock_file)
    else:
        run(task, common, asked, platforms, lock_file, full=no_trunc)


class Task(Enum):
    """The things that `lock` does, by the option that asks for it; none adds references."""

    ADD = ""
    CHECK = "--check"
    UPDATE = "--update"
    REMOVE = "--remove"
    EXPORT = "export"

    @classmethod
    def of(cls, words: Sequence[str], *, check: bool, update: bool, remove: bool) -> Self:
        """Read the options, and the one word that is none and still says what to do.

        Raises:
            Usage: two of them.

        """
        exported = bool(words) and words[0] == cls.EXPORT.value
        given = {cls.CHECK: check, cls.UPDATE: update, cls.REMOVE: remove, cls.EXPORT: exported}
        chosen = [task for task, asked in given.items() if asked]
        if len(chosen) > 1:
            words = " and ".join(f"`{task.value}`" for task in chosen)
            raise Usage(f"{words} do not go together", "run one, then the other")
        return chosen[0] if chosen else cls.ADD


@dataclass(frozen=True, slots=True)
class LockOptions:
    """What is asked about: references, or names of those in the lock.

    Attributes:
        references: to be locked, as written.
        names: what of the lock is meant; one that was typed without a tag means all tags.
        services: canonical references to the compose services that run them.
        warnings: what a person should know of the files that were read.

    """

    references: list[str]
    names: list[str]
    services: dict[str, list[str]]
    warnings: tuple[Warned, ...]

    @classmethod
    def read(cls, words: list[str], file: str | None, files: list[str] | None) -> Self:
        """Read what was typed; with `--from`, words are files too, as a shell would have it.

        Raises:
            Malformed: a reference or a file cannot be read, or files name no image.

        """
        from resolver.cli.inputs import gather

        if not files:
            given = bool(words) or file is not None
            typed = gather(words, file, "lock") if given else []
            return cls(typed, typed, {}, ())
        from resolver.verbs.lock import references_in

        found = references_in([*files, *words])
        # What a file names is an image, whatever prefix of ours it may look like.
        references = [f"docker://{reference}" for reference in found.references.values()]
        names = list(found.references)
        if file is not None:
            listed = gather([], file, "lock")
            references, names = references + listed, names + listed
        if not references:
            listing = ", ".join(f"`{path}`" for path in (*files, *words))
            raise Usage(f"no image is named in {listing}", "name other files with `--from`")
        return cls(references, names, found.services, found.warnings)

    def refuse_if_none(self, task: Task) -> None:
        """Refuse a task that needs a name and has none.

        Raises:
            Usage: as said.

        """
        if self.references:
            return
        if task is Task.ADD:
            raise Usage(
                "there is no reference to lock",
                "name one: `resolver lock ubuntu:24.04`; or look all of them up again with "
                "`resolver lock --update`",
            )
        if task is Task.REMOVE:
            hint = "name one: `resolver lock --remove REF`"
            raise Usage("there is no reference to take out", hint)


def named(
    references: list[str] | None, file: str | None, verb: str, lock_file: str | None
) -> list[str]:
    """Read what is asked about; with a lock and no words, everything that is locked.

    Raises:
        Malformed: a reference, or the lock, cannot be read; or there is nothing.

    """
    from resolver.cli.inputs import gather

    if lock_file is None or references or file is not None:
        return gather(references or [], file, verb)
    from resolver.verbs.lock_files import load

    return gather([image.reference for image in load(lock_file).images], None, verb)


def run(
    task: Task,
    common: Common,
    asked: LockOptions,
    platforms: list[str],
    lock_file: str,
    *,
    full: bool,
) -> None:
    """Do what is asked of a lock file, and tell it.

    Raises:
        ResolverError: as the session says; `typer.Exit` where several answers end with a status.

    """
    from resolver.cli.run import work

    names = asked.names
    with work(common) as (session, output):
        output.warnings(asked.warnings)
        match task:
            case Task.CHECK:
                found = session.check_lock(names, platforms, file=lock_file)
                tell_check(output, common.form, found, full=full)
                return
            case Task.REMOVE:
                done = session.unlock(names, file=lock_file)
            case Task.UPDATE:
                done = session.lock((), platforms, update=names, file=lock_file)
            case _:
                done = session.lock(asked.references, platforms, file=lock_file)
        tell_locked(output, common.form, done, full=full)


def tell_locked(output: Output, form: str, done: Locked, *, full: bool) -> None:
    """Tell what was locked; if a reference could not be looked up, that is the end."""
    output.warnings(done.warnings)
    output.tell(done, form, full=full)
    _end_with(output, done.failures)


def tell_check(output: Output, form: str, found: LockCheck, *, full: bool) -> None:
    """Tell what has moved. What could not be found out outweighs what has moved."""
    output.warnings(found.warnings)
    if len(found.failures) == 1 and len(found.images) == 1:
        raise found.failures[0].error
    output.tell(found, form, full=full)
    _end_with(output, found.failures)
    if found.drifted:
        moved = sum(getattr(image, "drifted", False) for image in found.images)
        have = "has" if moved == 1 else "have"
        refusal = Negative(
            f"{moved} of {len(found.images)} references in `{found.path}` {have} moved "
            "since they were locked",
            "test what is there now, then record it with `resolver lock --update`",
            code="drifted",
            place=found.path,
            drifted=moved,
            checked=len(found.images),
        )
        output.failed(refusal)
        raise typer.Exit(refusal.kind.status)


def _end_with(output: Output, failures: Sequence[Failure]) -> None:
    worst = 0
    for failure in failures:
        if not isinstance(failure.error, ResolverError):
            raise failure.error
        output.failed(failure.error)
        worst = max(worst, failure.error.kind.status)
    if worst:
        raise typer.Exit(worst)


def tell_export(common: Common, asked: LockOptions, platforms: list[str], lock_file: str) -> None:
    """Write a lock in the form of another tool.

    Raises:
        Usage: there is no such form, or more platforms than one.
        NotLocked: a name is not in the lock, or not for the platform.
        Malformed: the lock cannot be read.

    """
    from resolver.cli.output import Output
    from resolver.render.answers.lock_export import EXPORTS, export
    from resolver.session import Session

    if common.form not in EXPORTS:
        export((), common.form)
    if len(platforms) > 1:
        raise Usage("one platform can be exported at a time", "run it once for each")
    with Session(flags=common.flags) as session:
        wanted = platforms[0] if platforms else None
        entries = session.lock_entries(asked.names, wanted, services=asked.services, file=lock_file)
    Output(quiet=common.quiet).answer(export(entries, common.form))
