"""`resolver resolve`: print the manifest of a reference for a platform, and why it was chosen."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from resolver.cli import options
from resolver.cli.inputs import (
    gather,
    has_pattern,
    refuse_locked_pattern,
    resolve_matching,
    split_platforms,
)
from resolver.cli.output import page, presentable
from resolver.cli.run import open_executor, open_session, select, show_progress
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
    places = names.places
    chosen = select(common, names)
    with open_session(common) as (session, output), open_executor(common) as executor:
        output.places = places
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
        single = len(chosen) == 1 and file is None and len(wanted) == 1 and "all" not in wanted
        if single and common.fleet is None and not has_pattern(wanted):
            found = resolver.resolve(chosen[0], wanted[0], **flags)
            output.warnings(found.warnings)
            output.show(found, common.form, explain=explain, full=no_trunc)
        else:
            if has_pattern(wanted):
                refuse_locked_pattern(lock)
                if common.fleet is not None:
                    raise Usage(
                        "patterns of platforms are resolved in this process",
                        "name the platforms, or leave out `--cluster` and `--results`",
                    )
                answers = resolve_matching(session, chosen, wanted, **flags)
            elif lock is None:
                answers = session.resolve_each(
                    chosen,
                    wanted,
                    exact=exact,
                    verify=verify,
                    strict=strict,
                    verify_tag=verify_tag,
                    verify_cpu=verify_cpu,
                    executor=executor,
                )
            else:
                answers = resolver.resolve_each(chosen, wanted, exact=exact)
            # Lines on the same terminal are progress enough.
            on_screen = page().width is not None and not renderer(common.form).collects
            with show_progress(output, common, "none" if on_screen else "auto"):
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
    from resolver.core.results.resolve import Batch
    from resolver.render.report import resolved_words
    from resolver.render.to_dict import SCHEMA, cleaned, to_dict

    row = renderer(form)
    is_document = row.draws in {"report", "answer"} and not row.fits_width and not explain
    if row.draws == "answer" and not is_document:
        raise Usage(
            f"`--format {form}` with `--explain` supports only one answer",
            "leave out `--explain`, or choose `markdown` or `json`",
        )
    collected: list[object] = []
    listed: list[Resolution | Failure] = []
    worst = total = failed = 0
    for answer in answers:
        status = _status(output, answer)
        worst, total, failed = max(worst, status), total + 1, failed + bool(status)
        output.keep(answer)
        if is_document:
            listed.append(answer)
        elif row.collects:
            collected.append(cleaned(to_dict(answer, explain=explain), presentable))
        elif row.draws == "report":
            output.answer(_line(answer, form, explain=explain, full=full))
        else:
            output.answer(render(answer, form, explain=explain, clean=presentable))
    if row.collects:
        output.answer(render_values({"schema": SCHEMA, "results": collected}, form))
    if is_document:
        output.draw(Batch(tuple(listed)), form, full=full)
    if total > 1:
        output.note(resolved_words(total, failed))
    if worst:
        raise typer.Exit(worst)


def _line(answer: Resolution | Failure, form: str, *, explain: bool, full: bool) -> str:
    from resolver.core.results.resolve import Failure
    from resolver.render.text import batch_line

    if not renderer(form).fits_width or (explain and not isinstance(answer, Failure)):
        text = render(answer, form, explain=explain, full=full, page=page(), clean=presentable)
        return f"{text}\n"
    return batch_line(answer, page()._replace(width=None) if full else page()) + "\n"


def _status(output: Output, answer: Resolution | Failure) -> int:
    from resolver.core.results.resolve import Failure

    if isinstance(answer, Failure):
        return output.failures((answer,))
    output.warnings(answer.warnings)
    return 0
