"""`resolver gc`: room made in the store."""

from __future__ import annotations

import re
import time
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Optional

import typer

from resolver.cli import options
from resolver.cli.inputs import size, span
from resolver.core.results.store import Retention
from resolver.errors import InvalidConfiguration, Negative, Usage

if TYPE_CHECKING:
    from collections.abc import Mapping

    from resolver.core.results.store import Collected


@options.command
def gc(
    common: options.Common,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would go; touch nothing.")
    ] = False,
    keep_newer: Annotated[
        Optional[str],  # noqa: UP045 - Typer reads this at run time
        typer.Option(
            "--keep-newer",
            metavar="AGE",
            help="Leave alone what is younger; `12h`, `7d`.",
            show_default=False,
        ),
    ] = None,
    max_size: Annotated[
        Optional[str],  # noqa: UP045 - Typer reads this at run time
        typer.Option(
            "--max-size",
            metavar="SIZE",
            help="Drop names too, the longest unused first, down to this; else status 1.",
            show_default=False,
        ),
    ] = None,
    ci: Annotated[
        bool,
        typer.Option(
            "--ci", help="Drop what this job did not pull, for a small cache.", show_default=False
        ),
    ] = False,
    grace: Annotated[
        Optional[str],  # noqa: UP045 - Typer reads this at run time
        typer.Option(
            "--grace",
            metavar="AGE",
            help="Nothing unused goes before this age; by default `1h`.",
            show_default=False,
        ),
    ] = None,
    no_trunc: options.NoTrunc = False,
) -> None:
    """Delete what no pulled image needs.

    What a living pull, export or server uses stays, and what is younger than --grace; the answer
    says why. A store that ends above --max-size is status 1. If the lease of a living process
    cannot be read, only what dead processes left behind is deleted, and the status is 8. If
    anything else cannot be read, nothing is deleted at all.

    \b
      resolver gc --dry-run
      resolver gc --max-size 10GB
      resolver gc --ci --grace 0s
    """
    import os

    from resolver.cli.run import work
    from resolver.core.results.events import Warned
    from resolver.errors import ErrorKind

    rules = retention(keep_newer, max_size, grace, ci=ci, environment=os.environ)
    with work(common) as (session, output):
        found = session.collect(rules, dry_run=dry_run)
        output.tell(found, common.form, full=no_trunc)
        for each in found.unread:
            words = f"the lease `{each.path}` keeps all images and blobs: {each}"
            output.observe(Warned("lease-unreadable", words))
        if found.is_partial:
            raise typer.Exit(ErrorKind.STORE.status)
        if found.is_too_large:
            refusal = too_large(found)
            output.failed(refusal)
            raise typer.Exit(refusal.kind.status)


#: Variables that say when a job began: ours, then GitLab's (RFC 3339).
#: Source: docs.gitlab.com, "Predefined CI/CD variables reference".
_STARTED = ("RESOLVER_JOB_STARTED", "CI_JOB_STARTED_AT")
_SECONDS = re.compile(r"[0-9]{1,12}")
#: Field 22 of /proc/PID/stat, counted from the one behind the name; clock ticks since boot.
#: Source: proc_pid_stat(5).
_START_FIELD = 19
_BOOT = re.compile(r"^btime ([0-9]{1,12})\n", re.MULTILINE)


def retention(
    keep_newer: str | None,
    max_size: str | None,
    grace: str | None,
    *,
    ci: bool,
    environment: Mapping[str, str],
) -> Retention:
    """Read what stays.

    Raises:
        Usage: an amount is none, or nobody can say when this job began.
        InvalidConfiguration: a variable that should say so cannot be read.

    """
    usual = Retention()
    return Retention(
        grace=span(grace, "--grace") if grace is not None else usual.grace,
        keep_newer=span(keep_newer, "--keep-newer") if keep_newer is not None else None,
        max_size=size(max_size, "--max-size") if max_size is not None else None,
        used_since=job_start(environment) if ci else None,
    )


def too_large(found: Collected) -> Negative:
    """Say what keeps a store above the size that was wanted, the largest first."""
    from resolver.render.answers.store import why
    from resolver.render.report import megabytes

    stays = sorted(found.stays, key=lambda stay: -stay.size)
    reasons = [f"{megabytes(stay.size)} {why(stay)}" for stay in stays]
    limit = found.limit or 0
    hints = []
    if any(stay.reason == "grace" for stay in stays):
        hints.append("remove what is young too: add `--grace 0s`")
    if any(stay.process is not None for stay in stays):
        hints.append("end that process, or wait for it, then try again")
    total, allowed = megabytes(found.total), megabytes(limit)
    because = "; ".join(reasons) or "all of it is still needed"
    return Negative(
        f"the store takes {total}, and `--max-size` allows {allowed}: {because}",
        *hints,
        code="store-too-large",
        total=total,
        limit=allowed,
        reasons=tuple(reasons),
    )


def job_start(environment: Mapping[str, str]) -> float:
    """Say when the job of a pipeline began, in seconds since 1970.

    Where no variable says so it is the start of the machine or container that the job was given:
    on a machine that outlives jobs that keeps more than this job used, and never less.

    Raises:
        Usage: this is no pipeline, or nobody can say.
        InvalidConfiguration: a variable cannot be read.

    """
    for name in _STARTED:
        if environment.get(name):
            return _moment(name, environment[name])
    hint = f"set `{_STARTED[0]}` to `date +%s` at the start of the job"
    if environment.get("CI", "").lower() in {"", "0", "false"}:
        raise Usage("`--ci` is for pipelines, and `CI` is not set", hint)
    started = machine_start(Path("/proc"))
    if started is None:
        raise Usage("`--ci` cannot tell when this job began", hint)
    return started


def machine_start(proc: Path) -> float | None:
    """Say when the first process here began, in seconds since 1970; None where `/proc` is not."""
    import os

    try:
        boot = _BOOT.search((proc / "stat").read_text("ascii"))
        fields = (proc / "1" / "stat").read_text("ascii", "replace").rpartition(")")[2].split()
        ticks = int(fields[_START_FIELD])
        return float(boot[1]) + ticks / os.sysconf("SC_CLK_TCK") if boot else None
    except (OSError, ValueError, IndexError):
        return None


def _moment(name: str, text: str) -> float:
    if _SECONDS.fullmatch(text):
        return float(text)
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        reason = "it must be seconds since 1970, or like 2026-05-01T12:00:00Z"
        raise InvalidConfiguration(name, "", reason) from error
    if moment.tzinfo is None:
        raise InvalidConfiguration(name, "", "it must name its time zone, as in a final `Z`")
    return min(moment.timestamp(), time.time())
