"""`resolver gc`: free space in the store."""

from __future__ import annotations

import os
import re
import time
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from resolver.cli import options
from resolver.cli.inputs import size, span
from resolver.cli.run import open_session
from resolver.errors import ErrorKind, InvalidConfiguration, Negative, Usage

if TYPE_CHECKING:
    from collections.abc import Mapping

    from resolver.core.results.store import Collected, Retention


@options.command
def gc(
    common: options.Common,
    dry_run: Annotated[
        bool, options.option("--dry-run", "Show what would be deleted; delete nothing.")
    ] = False,
    keep_newer: Annotated[
        options.Text, options.option("--keep-newer", "Keep what is younger: `12h`, `7d`.", "AGE")
    ] = None,
    max_size: Annotated[
        options.Text,
        options.option(
            "--max-size", "Also remove names, least recently used first, down to this size.", "SIZE"
        ),
    ] = None,
    ci: Annotated[
        bool, options.option("--ci", "Delete what this job did not use, to keep a cache small.")
    ] = False,
    grace: Annotated[
        options.Text,
        options.option("--grace", "Keep unused content until this age; by default `1h`.", "AGE"),
    ] = None,
    no_trunc: options.NoTrunc = False,
) -> None:
    """Delete content that no pulled image needs.

    Keeps what a running pull, export or server uses and what is younger than --grace, and prints
    the reasons. The status is 1 if the store stays above --max-size. If the lease of a running
    process cannot be read, deletes only what ended processes left behind, and the status is 8. If
    anything else cannot be read, deletes nothing.

    \b
      resolver gc --dry-run
      resolver gc --max-size 10GB
      resolver gc --ci --grace 0s
    """
    from resolver.core.results.events import Warned

    rules = retention(keep_newer, max_size, grace, ci=ci, environment=os.environ)
    with open_session(common) as (session, output):
        found = session.collect(rules, dry_run=dry_run)
        output.show(found, common.form, full=no_trunc)
        for item in found.unread:
            words = f"the lease `{item.path}` keeps all images and blobs: {item}"
            output.observe(Warned("lease-unreadable", words))
        if found.is_partial:
            raise typer.Exit(ErrorKind.STORE.status)
        if found.is_too_large:
            refusal = limit_error(found)
            output.failed(refusal)
            raise typer.Exit(refusal.kind.status)


#: Variables with the start time of a job: ours, then GitLab's (RFC 3339).
#: Source: docs.gitlab.com, "Predefined CI/CD variables reference".
_STARTED = ("RESOLVER_JOB_STARTED", "CI_JOB_STARTED_AT")
_SECONDS = re.compile(r"[0-9]{1,12}")
#: Field 22 of /proc/PID/stat, counted from the field after the name; clock ticks since boot.
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
    """Parse the options that decide what to keep."""
    from resolver.core.results.store import Retention

    usual = Retention()
    return Retention(
        grace=span(grace, "--grace") if grace is not None else usual.grace,
        keep_newer=span(keep_newer, "--keep-newer") if keep_newer is not None else None,
        max_size=size(max_size, "--max-size") if max_size is not None else None,
        used_since=job_start(environment) if ci else None,
    )


def limit_error(found: Collected) -> Negative:
    """Describe what keeps the store above `--max-size`, the largest first."""
    from resolver.errors import megabytes
    from resolver.render.answers.store import why

    stays = sorted(found.stays, key=lambda stay: -stay.size)
    reasons = [f"{megabytes(stay.size)} {why(stay)}" for stay in stays]
    limit = found.limit or 0
    hints = []
    if any(stay.reason == "grace" for stay in stays):
        hints.append("delete recent content too: add `--grace 0s`")
    if any(stay.process is not None for stay in stays):
        hints.append("stop that process or wait for it, then try again")
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
    """Return when the current CI job began, in seconds since 1970.

    Without a variable, use the start of the machine or container of the job; on a machine that
    outlives jobs, this keeps more than the job used, never less.
    """
    for name in _STARTED:
        if environment.get(name):
            return _moment(name, environment[name])
    hint = f"set `{_STARTED[0]}` to `date +%s` at the start of the job"
    if environment.get("CI", "").lower() in {"", "0", "false"}:
        raise Usage("`--ci` works only in CI jobs, and `CI` is not set", hint)
    started = machine_start(Path("/proc"))
    if started is None:
        raise Usage("`--ci` cannot determine when this job began", hint)
    return started


def machine_start(proc: Path) -> float | None:
    """Return when process 1 began, in seconds since 1970; None without `/proc`."""
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
