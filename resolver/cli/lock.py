"""`resolver lock`: record digests in a lock file, and check them."""

from __future__ import annotations

from dataclasses import field
from enum import Enum
from typing import TYPE_CHECKING, Annotated, Self

import typer

from resolver.cli import options
from resolver.cli.inputs import References, gather, split_platforms
from resolver.cli.output import Output
from resolver.cli.run import open_executor, open_session, select, shard_of, show_progress
from resolver.errors import Negative, Usage
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


@options.batch_command
def lock(
    common: options.Common,
    references: options.ManyReferences = None,
    platform: options.NamedPlatforms = None,
    file: options.File = None,
    files: Annotated[
        options.Texts,
        options.option(
            "--from", "Lock the images in these files; each REF is a file then.", "FILE"
        ),
    ] = None,
    check: Annotated[
        bool, options.option("--check", "Report changes; exit with status 1 if there are any.")
    ] = False,
    update: Annotated[
        bool, options.option("--update", "Resolve these references again, or all.")
    ] = False,
    remove: Annotated[
        bool, options.option("--remove", "Remove these references from the lock file.")
    ] = False,
    lock_file: Annotated[
        str,
        options.option(
            "--lock-file -o",
            "Path of the lock file; by default resolver.lock.",
            "FILE",
            variable="RESOLVER_LOCK_FILE",
        ),
    ] = LOCK_FILE,
    no_trunc: options.NoTrunc = False,
) -> None:
    """Record the digests of images in a lock file.

    Adds the digest of the index and of each platform to resolver.lock, and keeps its other
    entries. `--check` sends one HEAD request per reference; with `-p`, only these platforms count.
    resolve, plan and pull use the lock file with `--locked`. Formats of `export`: kbld, imgpkg,
    kustomize, compose, bazel, helm, env.

    \b
      resolver lock nginx:1.27 redis:7
      resolver lock --from Dockerfile compose.yaml
      resolver lock --check -p linux/amd64
      resolver lock --update nginx
      resolver lock export --format kustomize
    """
    words = references or []
    task = Task.of(words, check=check, update=update, remove=remove)
    words = words[1:] if task is Task.EXPORT else words
    request = LockOptions.read(words, file, files)
    request.refuse_if_none(task)
    platforms = split_platforms(platform or [])
    if task is Task.EXPORT:
        export_lock(common, request, platforms, lock_file)
    else:
        run(task, common, request, platforms, lock_file, full=no_trunc)


class Task(Enum):
    """What `lock` does, by option; without one it adds references."""

    ADD = ""
    CHECK = "--check"
    UPDATE = "--update"
    REMOVE = "--remove"
    EXPORT = "export"

    @classmethod
    def of(cls, words: Sequence[str], *, check: bool, update: bool, remove: bool) -> Self:
        """Choose the task from the options and the word `export`."""
        exported = bool(words) and words[0] == cls.EXPORT.value
        given = {cls.CHECK: check, cls.UPDATE: update, cls.REMOVE: remove, cls.EXPORT: exported}
        chosen = [task for task, is_given in given.items() if is_given]
        if len(chosen) > 1:
            words = " and ".join(f"`{task.value}`" for task in chosen)
            raise Usage(f"{words} exclude each other", "run one, then the other")
        return chosen[0] if chosen else cls.ADD


@dataclass(frozen=True, slots=True)
class LockOptions:
    """References to lock, or names of entries in the lock file.

    Attributes:
        names: of entries in the lock file; one without a tag means all tags.
        services: maps canonical references to the compose services that run them.
        places: where in a file the malformed references are.
    """

    references: list[str]
    names: list[str]
    services: dict[str, list[str]]
    warnings: tuple[Warned, ...]
    places: dict[str, str] = field(default_factory=dict)

    @classmethod
    def read(cls, words: list[str], file: str | None, files: list[str] | None) -> Self:
        """Parse the arguments; with `--from` they are files, so that a shell can expand globs."""
        if not files:
            given = bool(words) or file is not None
            typed = gather(words, file, "lock") if given else References(())
            return cls(typed, typed, {}, (), typed.places)
        from resolver.verbs.lock import references_in

        found = references_in([*files, *words])
        # A file names images: no text in it is one of our prefixes, such as `store:`.
        references = [f"docker://{reference}" for reference in found.references.values()]
        names = list(found.references)
        places: dict[str, str] = {}
        if file is not None:
            listed = gather([], file, "lock")
            places = listed.places
            references, names = references + listed, names + listed
        if not references:
            listing = ", ".join(f"`{path}`" for path in (*files, *words))
            raise Usage(f"no image found in {listing}", "name other files with `--from`")
        return cls(references, names, found.services, found.warnings, places)

    def refuse_if_none(self, task: Task) -> None:
        """Refuse a task that needs a reference and has none."""
        if self.references:
            return
        if task is Task.ADD:
            raise Usage(
                "no reference to lock",
                "name one: `resolver lock ubuntu:24.04`; or resolve all of them again with "
                "`resolver lock --update`",
            )
        if task is Task.REMOVE:
            hint = "name one: `resolver lock --remove REF`"
            raise Usage("no reference to remove", hint)


def named(
    references: list[str] | None, file: str | None, verb: str, lock_file: str | None
) -> References:
    """Return the references to use; with a lock file and no arguments, all locked ones."""
    if lock_file is None or references or file is not None:
        return gather(references or [], file, verb)
    from resolver.verbs.lock_files import load

    return gather([image.reference for image in load(lock_file).images], None, verb)


def run(
    task: Task,
    common: Common,
    request: LockOptions,
    platforms: list[str],
    lock_file: str,
    *,
    full: bool,
) -> None:
    """Run a task on a lock file, and print the answer."""
    names = request.names
    fleet = common.fleet
    if fleet is not None and task is not Task.CHECK and (fleet.cluster or fleet.results):
        raise Usage("`--cluster` and `--results` are for `lock --check`", "leave them out")
    if fleet is not None and task not in {Task.CHECK, Task.ADD}:
        raise Usage(f"`--shard` is not for `lock {task.value}`", "leave it out")
    with open_session(common) as (session, output), open_executor(common) as executor:
        output.places = request.places
        output.warnings(request.warnings)
        if task is Task.CHECK:
            shard = shard_of(common)
            if shard is not None:
                select(common, named(names, None, "lock", lock_file))
            with show_progress(output, common):
                found = session.check_lock(
                    names, platforms, file=lock_file, executor=executor, shard=shard
                )
            show_check(output, common.form, found, full=full)
            return
        references = select(common, request.references) if task is Task.ADD else []
        if task is Task.ADD and not references:
            return
        with show_progress(output, common):
            match task:
                case Task.REMOVE:
                    done = session.unlock(names, file=lock_file)
                case Task.UPDATE:
                    done = session.lock((), platforms, update=names, file=lock_file)
                case _:
                    done = session.lock(references, platforms, file=lock_file)
        show_locked(output, common.form, done, full=full)


def show_locked(output: Output, form: str, done: Locked, *, full: bool) -> None:
    """Print what was locked; exit if a reference could not be resolved."""
    output.warnings(done.warnings)
    output.show(done, form, full=full)
    _exit_with(output, done.failures)


def show_check(output: Output, form: str, found: LockCheck, *, full: bool) -> None:
    """Print what has changed. The status of a failure takes precedence over a change."""
    output.warnings(found.warnings)
    if len(found.failures) == 1 and len(found.images) == 1:
        raise found.failures[0].error
    output.show(found, form, full=full)
    _exit_with(output, found.failures)
    if found.drifted:
        moved = sum(getattr(image, "drifted", False) for image in found.images)
        have = "has" if moved == 1 else "have"
        refusal = Negative(
            f"{moved} of {len(found.images)} references in `{found.path}` {have} moved "
            "since they were locked",
            "test what has changed, then record it with `resolver lock --update`",
            code="drifted",
            place=found.path,
            drifted=moved,
            checked=len(found.images),
        )
        output.failed(refusal, label="difference")
        raise typer.Exit(refusal.kind.status)


def _exit_with(output: Output, failures: Sequence[Failure]) -> None:
    status = output.failures(failures)
    if status:
        raise typer.Exit(status)


def export_lock(common: Common, request: LockOptions, platforms: list[str], lock_file: str) -> None:
    """Print a lock file in the format of another tool."""
    from resolver.render.answers.lock import EXPORTS, export
    from resolver.session import Session

    if common.form not in EXPORTS:
        export((), common.form)
    if len(platforms) > 1:
        raise Usage("`lock export` takes one platform", "run it once for each")
    with Session(flags=common.flags) as session:
        wanted = platforms[0] if platforms else None
        entries = session.lock_entries(
            request.names, wanted, services=request.services, file=lock_file
        )
    Output(quiet=common.quiet).answer(export(entries, common.form))
