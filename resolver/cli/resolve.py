"""`resolver resolve`: print the manifest of a reference for a platform, and why it was chosen."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from resolver.cli import options
from resolver.cli.inputs import gather, split_platforms
from resolver.cli.output import page_width, presentable
from resolver.cli.run import open_executor, open_session, select
from resolver.errors import Usage
from resolver.render import render, render_values, renderer
from resolver.settings import LOCK_FILE

if TYPE_CHECKING:
    from collections.abc import Iterator

    from resolver.cli.output import Output
    from resolver.core.results.resolve import Failure, Resolution
    from resolver.session import Session
    from resolver.verbs.lock import ByLock


@options.batch_command
def resolve(
    common: options.Common,
    references: options.ManyReferences = None,
    platform: options.Platforms = None,
    file: options.File = None,
    exact: options.Exact = False,
    explain: Annotated[
        bool, options.option("--explain", "List every entry and why it was not chosen.")
    ] = False,
    verify: Annotated[
        bool,
        options.option(
            "--verify",
            "Also compare the manifest and config with the index.",
            variable="RESOLVER_VERIFY",
        ),
    ] = False,
    strict: options.Strict = False,
    verify_tag: Annotated[
        bool,
        options.option(
            "--verify-tag",
            "Fail if the tag of name:tag@digest has moved.",
            variable="RESOLVER_VERIFY_TAG",
        ),
    ] = False,
    verify_cpu: Annotated[
        bool, options.option("--verify-cpu", "Warn if the programs need a newer processor.")
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
    lock = (lock_file or LOCK_FILE) if locked else None
    flags = {"exact": exact}
    if lock is None:
        names = gather(references or [], file)
        flags |= {"verify": verify, "strict": strict, "verify_tag": verify_tag}
        flags |= {"verify_cpu": verify_cpu}
    else:
        from resolver.cli.lock import named

        names = named(references, file, "resolve", lock)
    names = select(common, names)
    with open_session(common) as (session, output), open_executor(common) as executor:
        resolver: Session | ByLock = session
        if lock is not None:
            fleet = common.fleet
            _refuse_locked(
                {
                    "--verify": verify,
                    "--strict": strict,
                    "--verify-tag": verify_tag,
                    "--verify-cpu": verify_cpu,
                    "--cluster": executor is not None,
                    "--results": fleet is not None and fleet.results is not None,
                }
            )
            resolver = session.by_lock(lock)
        default = session.settings.platform
        platforms = split_platforms(platform or ([default] if default else []))
        wanted: list[str | None] = list(platforms) or [None]
        is_single = len(names) == 1 and file is None and common.fleet is None
        if is_single and len(wanted) == 1 and "all" not in wanted:
            found = resolver.resolve(names[0], wanted[0], **flags)
            output.warnings(found.warnings)
            output.show(found, common.form, explain=explain, full=no_trunc)
        else:
            if lock is None:
                answers = session.resolve_each(
                    names,
                    wanted,
                    exact=exact,
                    verify=verify,
                    strict=strict,
                    verify_tag=verify_tag,
                    verify_cpu=verify_cpu,
                    executor=executor,
                )
            else:
                answers = resolver.resolve_each(names, wanted, exact=exact)
            show_all(output, common.form, answers, explain=explain, full=no_trunc)


def _refuse_locked(given: dict[str, bool]) -> None:
    """Refuse options that need the registry with `--locked`."""
    for name in (name for name, is_given in given.items() if is_given):
        raise Usage(
            f"`{name}` needs the registry, and `--locked` does not use it",
            "leave out one of them; `resolver lock --check` reports what has moved",
        )


def show_all(
    output: Output, form: str, answers: Iterator[Resolution | Failure], *, explain: bool, full: bool
) -> None:
    """Print a line for each of several answers, in order; none is requested before."""
    from resolver.render.to_dict import SCHEMA, cleaned, to_dict

    row = renderer(form)
    if row.draws == "answer":
        raise Usage(
            f"`--format {form}` supports only one answer",
            "resolve one REF on one platform, or choose `markdown` or `json`",
        )
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
    from resolver.core.results.resolve import Failure
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
